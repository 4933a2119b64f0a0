"""CUDA's driver: cubins loaded, their functions launched on a stream.

The driver is libcuda.so.1, which a GPU's machine has; torch has opened it and made the context
before. Structures and numbers are those of cuda.h, the same in CUDA 12 and 13.

A launch takes some three microseconds: a function packs its arguments with one `struct` into memory
whose addresses were made once.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

LIBRARY = "libcuda.so.1"
# What a kernel's arguments may be: ctypes' simple types. A pointer is given as an int.
POINTER, INT, FLOAT = ctypes.c_void_p, ctypes.c_int, ctypes.c_float
UNSIGNED, INT64, BYTE = ctypes.c_uint, ctypes.c_int64, ctypes.c_uint8

_INVALID_CONTEXT = 201  # the thread has none
_SHARED_BYTES = 48 << 10  # that any kernel may use; more must be asked for
# CUfunction_attribute, CUlaunchAttributeID
_THREADS, _SHARED, _LOCAL, _REGISTERS, _DYNAMIC_SHARED = 0, 1, 3, 4, 8
_PROGRAMMATIC_STREAM_SERIALIZATION = 6

Sizes = tuple[int, int, int]


class CUlaunchAttribute(ctypes.Structure):
    """cuda.h's structure of this name; its value is a union of 64 bytes."""

    _fields_ = (
        ("id", ctypes.c_int),
        ("pad", ctypes.c_char * 4),
        ("value", ctypes.c_int),
        ("value_pad", ctypes.c_char * 60),
    )


class CUlaunchConfig(ctypes.Structure):
    """cuda.h's structure of this name."""

    _fields_ = (
        ("gridDimX", ctypes.c_uint),
        ("gridDimY", ctypes.c_uint),
        ("gridDimZ", ctypes.c_uint),
        ("blockDimX", ctypes.c_uint),
        ("blockDimY", ctypes.c_uint),
        ("blockDimZ", ctypes.c_uint),
        ("sharedMemBytes", ctypes.c_uint),
        ("hStream", ctypes.c_void_p),
        ("attrs", ctypes.POINTER(CUlaunchAttribute)),
        ("numAttrs", ctypes.c_uint),
    )


_OUT, _NUMBER, _U = ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int), ctypes.c_uint
_SIGNATURES: Mapping[str, tuple[Any, ...]] = {
    "cuGetErrorString": (INT, ctypes.POINTER(ctypes.c_char_p)),
    "cuGetErrorName": (INT, ctypes.POINTER(ctypes.c_char_p)),
    "cuCtxGetCurrent": (_OUT,),
    "cuCtxSetCurrent": (POINTER,),
    "cuModuleLoadData": (_OUT, ctypes.c_char_p),
    "cuModuleGetFunction": (_OUT, POINTER, ctypes.c_char_p),
    "cuFuncGetAttribute": (_NUMBER, INT, POINTER),
    "cuFuncSetAttribute": (POINTER, INT, INT),
    "cuLaunchKernel": (POINTER, *(_U,) * 7, POINTER, POINTER, POINTER),
    "cuLaunchKernelEx": (ctypes.POINTER(CUlaunchConfig), POINTER, POINTER, POINTER),
}


class DriverError(RuntimeError):
    """A call of the driver failed; `speech/device_errors.py` reads the message as it does torch's.

    `status` is the CUresult.
    """

    def __init__(self, call: str, status: int, meaning: str) -> None:
        super().__init__(f"CUDA driver error: {meaning} ({call})")
        self.status = status


class Driver:
    """The opened library. Raises DriverError where it is not there or too old."""

    def __init__(self, library: str = LIBRARY) -> None:
        try:
            self.library = ctypes.CDLL(library)
            for name, arguments in _SIGNATURES.items():
                function = getattr(self.library, name)
                function.restype, function.argtypes = INT, arguments
        except (OSError, AttributeError) as error:
            raise DriverError("open", -1, str(error)) from None

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function; raises DriverError unless it succeeds."""
        if status := getattr(self.library, name)(*arguments):
            raise self.error(name, status)

    def error(self, call: str, status: int) -> DriverError:
        """The error of a call that gave this CUresult, in the driver's words."""
        words = []
        for function in (self.library.cuGetErrorString, self.library.cuGetErrorName):
            text = ctypes.c_char_p()
            function(status, ctypes.byref(text))
            words.append(text.value.decode() if text.value else f"error {status}")
        return DriverError(call, status, ", ".join(dict.fromkeys(words)))


class Module:
    """A loaded cubin. It stays loaded: graphs may hold its functions as long as the process."""

    def __init__(self, driver: Driver, handle: int, context: int) -> None:
        self._driver, self._handle, self._context = driver, handle, context

    @classmethod
    def load(cls, cubin: bytes, library: str = LIBRARY) -> Self:
        """Load a cubin into the thread's context, which torch has made.

        Raises DriverError: there is no context, or the cubin is for another GPU, among others.
        """
        driver = Driver(library)
        context, handle = ctypes.c_void_p(), ctypes.c_void_p()
        driver.call("cuCtxGetCurrent", ctypes.byref(context))
        if not context.value:
            raise driver.error("cuCtxGetCurrent", _INVALID_CONTEXT)
        driver.call("cuModuleLoadData", ctypes.byref(handle), cubin)
        return cls(driver, handle.value or 0, context.value)

    def function(self, name: str, signature: Sequence[Any]) -> Function:
        """A kernel by its name, which is C's (extern "C"), and its arguments' ctypes types.

        Raises DriverError where the cubin has no such kernel.
        """
        handle = ctypes.c_void_p()
        found = ctypes.byref(handle)
        self._driver.call("cuModuleGetFunction", found, self._handle, name.encode())
        return Function(self, self._driver, name, handle.value or 0, signature)

    def enter(self) -> None:
        """Give this thread the module's context."""
        self._driver.call("cuCtxSetCurrent", self._context)


@dataclass(frozen=True)
class Needs:
    """What a compiled kernel needs: registers and local bytes of a thread, of a block the rest.

    Local bytes are registers that were spilled, and arrays of a thread. `threads` is the most that
    a block may have.
    """

    registers: int
    local_bytes: int
    shared_bytes: int  # static; a launch may add to them
    threads: int


class Function:
    """A kernel that can be launched, by any thread."""

    def __init__(
        self, module: Module, driver: Driver, name: str, handle: int, signature: Sequence[Any]
    ) -> None:
        """`signature` has the ctypes type of each argument."""
        self.name = name
        self._module, self._driver, self._handle = module, driver, handle
        self._packing = struct.Struct("@" + "".join(kind._type_ for kind in signature))
        self._offsets = _offsets(signature)
        # Taken from here by a launch and put back: two threads never fill the same.
        self._free: list[_Arguments] = []
        self._launch_plainly = driver.library.cuLaunchKernel
        self._launch_configured = driver.library.cuLaunchKernelEx
        self._dynamic_shared = _SHARED_BYTES - self._attribute(_SHARED)

    def launch(
        self,
        grid: Sizes,
        block: Sizes,
        *arguments: int | float,
        stream: int,
        shared: int = 0,
        overlap: bool = False,
    ) -> None:
        """Launch the kernel on a stream (torch's `Stream.cuda_stream`).

        `grid` is in blocks, `block` in threads, `shared` the bytes of a block's dynamic shared
        memory. With `overlap`, which is for GPUs from sm_90 on, it may begin before the kernel
        before it in the stream has ended, and must wait for that itself (griddepcontrol.wait).
        Raises DriverError, whose kernel was not launched; struct.error for arguments that are not
        what the signature says.
        """
        try:
            room = self._free.pop()
        except IndexError:
            room = _Arguments(self._packing.size, self._offsets)
        self._packing.pack_into(room.values, 0, *arguments)
        if shared > self._dynamic_shared:
            self._allow(shared)
        status = self._launch(room, grid, block, shared, stream, overlap)
        if status == _INVALID_CONTEXT:
            self._module.enter()
            status = self._launch(room, grid, block, shared, stream, overlap)
        self._free.append(room)
        if status:
            raise self._driver.error(f"launch of {self.name}", status)

    def launch_with(
        self,
        grid: Sizes,
        block: Sizes,
        structure: ctypes.Structure,
        *,
        stream: int,
        overlap: bool = False,
    ) -> None:
        """Launch a kernel whose one argument is a structure; see `launch`."""
        values = ctypes.c_void_p(ctypes.addressof(structure))
        addresses = ctypes.cast(ctypes.pointer(values), ctypes.c_void_p)
        attribute = CUlaunchAttribute(id=_PROGRAMMATIC_STREAM_SERIALIZATION, value=1)
        config = CUlaunchConfig(
            *grid, *block, 0, stream, ctypes.pointer(attribute), 1 if overlap else 0
        )
        launch = self._driver.library.cuLaunchKernelEx
        status = int(launch(config, self._handle, addresses, None))
        if status == _INVALID_CONTEXT:
            self._module.enter()
            status = int(launch(config, self._handle, addresses, None))
        if status:
            raise self._driver.error(f"launch of {self.name}", status)

    def needs(self) -> Needs:
        """What the kernel needs, as it was compiled."""
        return Needs(*(self._attribute(of) for of in (_REGISTERS, _LOCAL, _SHARED, _THREADS)))

    def _launch(
        self,
        room: _Arguments,
        grid: Sizes,
        block: Sizes,
        shared: int,
        stream: int,
        overlap: bool,
    ) -> int:
        """The CUresult of a launch."""
        if overlap:
            config = CUlaunchConfig(*grid, *block, shared, stream, room.overlap, 1)
            return int(self._launch_configured(config, self._handle, room.addresses, None))
        return int(
            self._launch_plainly(self._handle, *grid, *block, shared, stream, room.addresses, None)
        )

    def _allow(self, shared: int) -> None:
        """Ask for more dynamic shared memory than any kernel may use."""
        self._driver.call("cuFuncSetAttribute", self._handle, _DYNAMIC_SHARED, shared)
        self._dynamic_shared = shared

    def _attribute(self, attribute: int) -> int:
        value = ctypes.c_int()
        self._driver.call("cuFuncGetAttribute", ctypes.byref(value), attribute, self._handle)
        return value.value


class _Arguments:
    """The memory of one launch's arguments, and their addresses, as the driver reads them."""

    def __init__(self, size: int, offsets: Sequence[int]) -> None:
        self.values = ctypes.create_string_buffer(max(size, 1))
        first = ctypes.addressof(self.values)
        pointers = (ctypes.c_void_p * len(offsets))(*(first + offset for offset in offsets))
        self._pointers = pointers
        self.addresses = ctypes.cast(pointers, ctypes.c_void_p)
        self.overlap = (CUlaunchAttribute * 1)(
            CUlaunchAttribute(id=_PROGRAMMATIC_STREAM_SERIALIZATION, value=1)
        )


def _offsets(signature: Sequence[Any]) -> tuple[int, ...]:
    """Where each argument lies among those that are packed one after the other, aligned."""
    codes = [kind._type_ for kind in signature]
    ends = [struct.calcsize("@" + "".join(codes[: n + 1])) for n in range(len(codes))]
    return tuple(end - struct.calcsize(code) for end, code in zip(ends, codes, strict=True))
