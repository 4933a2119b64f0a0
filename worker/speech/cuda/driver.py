"""CUDA's driver: cubins loaded, their functions launched on a stream.

The driver is libcuda.so.1, which a GPU's machine has; torch has opened it and made the context
before. Structures and numbers are those of cuda.h, the same in CUDA 12 and 13.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any, Self

LIBRARY = "libcuda.so.1"
# What the members of a kernel's structure may be. A pointer is given as an int.
POINTER, INT, FLOAT = ctypes.c_void_p, ctypes.c_int, ctypes.c_float

_INVALID_CONTEXT = 201  # the thread has none
_PROGRAMMATIC_STREAM_SERIALIZATION = 6  # CUlaunchAttributeID

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


_OUT = ctypes.POINTER(ctypes.c_void_p)
_SIGNATURES: Mapping[str, tuple[Any, ...]] = {
    "cuGetErrorString": (INT, ctypes.POINTER(ctypes.c_char_p)),
    "cuGetErrorName": (INT, ctypes.POINTER(ctypes.c_char_p)),
    "cuCtxGetCurrent": (_OUT,),
    "cuCtxSetCurrent": (POINTER,),
    "cuModuleLoadData": (_OUT, ctypes.c_char_p),
    "cuModuleGetFunction": (_OUT, POINTER, ctypes.c_char_p),
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

    def function(self, name: str) -> Function:
        """A kernel by its name, which is C's (extern "C").

        Raises DriverError where the cubin has no such kernel.
        """
        handle = ctypes.c_void_p()
        found = ctypes.byref(handle)
        self._driver.call("cuModuleGetFunction", found, self._handle, name.encode())
        return Function(self, self._driver, name, handle.value or 0)

    def enter(self) -> None:
        """Give this thread the module's context."""
        self._driver.call("cuCtxSetCurrent", self._context)


class Function:
    """A kernel that can be launched, by any thread. Its one argument is a structure."""

    def __init__(self, module: Module, driver: Driver, name: str, handle: int) -> None:
        self.name = name
        self._module, self._driver, self._handle = module, driver, handle

    def launch(
        self,
        grid: Sizes,
        block: Sizes,
        structure: ctypes.Structure,
        *,
        stream: int,
        overlap: bool = False,
    ) -> None:
        """Launch the kernel on a stream (torch's `Stream.cuda_stream`).

        `grid` is in blocks, `block` in threads. The structure is copied, and must be the kernel's:
        nothing here knows it. With `overlap`, which is for GPUs from sm_90 on, the kernel may begin
        before the one before it in the stream has ended, and must wait for that itself
        (griddepcontrol.wait). Raises DriverError, whose kernel was not launched.
        """
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
