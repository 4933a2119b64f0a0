"""Tensors that pretend to be on a GPU, and what becomes of each operation on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.dry_gpu.streams import Gpu, Memory, SynchronisedError

__all__ = ["Functions", "OnDevice", "Operations", "SynchronisedError"]
aten = torch.ops.aten
# Their results' shapes or types depend on values, so that the host waits for these.
WAITS = {
    aten._local_scalar_dense, aten.item, aten.is_nonzero, aten.equal, aten.allclose, aten.nonzero,
    aten.masked_select, aten.unique_dim, aten._unique2, aten.unique_consecutive, aten.argwhere,
    aten.bincount, aten.repeat_interleave.Tensor,
}  # fmt: skip
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
PLAIN = torch.device("cpu")
META = torch.device("meta")  # what C++ is told; tensors there need no driver


class OnDevice(Tensor):
    """A tensor on "cuda:0". `values` are its values, on the CPU; views share their memory."""

    values: Tensor
    memory: Memory
    # By the addresses that were asked for, and the beginnings of what these lie in.
    known: ClassVar[WeakValueDictionary[int, Memory]] = WeakValueDictionary()
    # What torch has as attributes are properties here, by which the tensor pretends.
    device = property(lambda _self: torch.device("cuda", 0))  # type: ignore[assignment]
    is_cuda = property(lambda _self: True)  # type: ignore[assignment]
    is_meta = property(lambda _self: False)  # type: ignore[assignment]
    is_cpu = property(lambda _self: False)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values: Tensor, memory: Memory | None = None) -> OnDevice:
        made = Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=META,
        )
        made.values = values
        made.memory = memory or Memory()
        return made

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, _types: Any, _args: Any = (), _kwargs: Any = None
    ) -> Any:
        raise RuntimeError(f"{func} on a tensor of a dry run outside of it")

    def data_ptr(self) -> int:
        """The address of the values."""
        address = self.values.data_ptr()
        for known in (address, _address(self.values)):
            self.known[known] = self.memory
        return address

    def __repr__(self, **_more: Any) -> str:  # type: ignore[override]
        return f"OnDevice({list(self.shape)}, {self.dtype})"


class Functions(TorchFunctionMode):
    """What Python asks of torch: "cuda" is renamed, lists become indices, memory is pinned."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_function__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.device:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        on_device = bool(args) and isinstance(args[0], OnDevice)
        if func == Tensor.data.__set__ and on_device:  # what Module.to does
            args[0].values, args[0].memory = args[1].values, args[1].memory
        if name in {"tensor", "as_tensor", "from_numpy", "asarray"} and _is_cuda(
            kwargs.get("device")
        ):
            del kwargs["device"]
            made = args[0] if isinstance(args[0], Tensor) else func(*args, **kwargs)
            return made.to(META)
        if name in {"__getitem__", "__setitem__"} and on_device:
            args = (args[0], _indices(args[1]), *args[2:])
        if name == "tolist" and on_device:
            return args[0].cpu().tolist()
        if name in {"numpy", "__array__"} and on_device:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if name == "cuda":
            return args[0].to(META, non_blocking=kwargs.get("non_blocking", False))
        if name == "pin_memory":
            return self._gpu.pin(args[0].clone())
        if name == "record_stream":  # for the allocator, which there is none of
            return None
        if name == "is_pinned":
            return not on_device and self._gpu.is_pinned(args[0])
        pinned = kwargs.pop("pin_memory", False)
        args, kwargs = _mapped(_renamed, (args, kwargs))
        made = func(*args, **kwargs)
        return self._gpu.pin(made) if pinned else made


def _is_cuda(device: object) -> bool:
    return (isinstance(device, torch.device) and device.type == "cuda") or (
        isinstance(device, str) and device.partition(":")[0] == "cuda"
    )


def _renamed(argument: Any) -> Any:
    return META if _is_cuda(argument) else argument


def _indices(index: Any) -> Any:
    """Lists as the tensors that torch makes of them, on the host."""
    if isinstance(index, tuple):
        return tuple(map(_indices, index))
    return torch.tensor(index).to(META) if isinstance(index, list) else index


class Operations(TorchDispatchMode):
    """Each operation, after where its operands are has been looked at, on their values."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        # Values outlive the block that they are made in: none is bound to inference mode.
        with torch.inference_mode(mode=False), torch.no_grad():
            return self._operation(func, args, dict(kwargs or {}))

    def _operation(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func.overloadpacket is aten.to:  # of which each overload takes a device elsewhere
            with self:
                return func.decompose(*args, **kwargs)
        tensors = _tensors((args, kwargs))
        there = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
        target = kwargs.get("device")
        if not there and (target is None or target.type != "meta"):
            return func(*args, **kwargs)
        if func is aten._to_copy.default:
            return self._moved(func, args[0], kwargs)
        if func is aten.copy_.default and len(there) == 1 and args[1].dim():
            return self._copied(*args, **kwargs)
        self._look(func, args, tensors)
        if target is not None:
            kwargs["device"] = PLAIN
        if _waits(func):
            self._gpu.waited(str(func))
        return self._run(func, args, kwargs)

    def _moved(self, func: Any, source: Tensor, kwargs: dict[str, Any]) -> Tensor:
        """aten._to_copy: to the device, from it, or to another type."""
        device = kwargs.pop("device", None)
        down = device is not None and device.type == "cpu"
        waits = not kwargs.pop("non_blocking", False)
        if isinstance(source, OnDevice):
            if not down:
                made: Tensor = self._run(func, (source,), kwargs)
                return made
            self._gpu.ordered([source.memory], [])
            self._gpu.waited("values come to the host")  # its memory there is not pinned
            return func(source.values, **kwargs)
        made = OnDevice(func(source, **kwargs))
        self._gpu.ordered([], [made.memory])
        if waits or not self._gpu.is_pinned(source):
            self._gpu.waited("values come from memory that is not pinned, or blocking")
        return made

    def _copied(self, target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        """aten.copy_ between host and device."""
        values = [t.values if isinstance(t, OnDevice) else t for t in (target, source)]
        host = source if isinstance(target, OnDevice) else target
        waits = not non_blocking or not self._gpu.is_pinned(host)
        memories = [t.memory if isinstance(t, OnDevice) else None for t in (target, source)]
        reads, writes = ([m] if m else [] for m in reversed(memories))
        self._gpu.ordered(reads, writes)
        if waits:
            self._gpu.waited("a copy is blocking, or its memory on the host is not pinned")
        if isinstance(target, OnDevice):
            self._gpu.before_change(values[0])
        values[0].copy_(values[1])
        self._gpu.note(lambda: values[0].copy_(values[1]), [], reads, writes)
        return target

    def _look(self, func: Any, args: tuple[Any, ...], tensors: list[Tensor]) -> None:
        """Raises where an operand is on the wrong device; indices may be, and are waited for."""
        if func.overloadpacket in INDEXED:
            given = [index for index in args[1] if index is not None]
            one = len(args) > 2 and args[2].numel() == 1  # a mask is only filled then
            if any(index.dtype in {torch.bool, torch.uint8} for index in given) and not one:
                self._gpu.waited("indices that are a mask")
            if not all(isinstance(index, OnDevice) for index in given):
                self._gpu.waited("indices that are on the host")
            tensors = _tensors((args[0], args[2:]))
        scalars = torch.Tag.pointwise in func.tags or func.overloadpacket in {
            *(aten.fill_, aten.copy_, aten.where, aten.index_put_, aten.masked_fill_),
            *(aten.masked_fill, aten.lift_fresh),
        }
        for tensor in tensors:
            if not isinstance(tensor, OnDevice) and not (scalars and tensor.dim() == 0):
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two "
                    f"devices, cuda:0 and cpu! ({func}, {list(tensor.shape)} on the host)"
                )

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The operation on the values, noted for streams and graphs."""
        mine = {id(t.values): t for t in _tensors((args, kwargs)) if isinstance(t, OnDevice)}
        storages = {_address(t.values): t.memory for t in mine.values() if t.values.numel()}
        values = _mapped(lambda t: t.values if isinstance(t, OnDevice) else t, (args, kwargs))
        changed = _changed(func, *values)
        for tensor in changed:
            self._gpu.before_change(tensor)
        made = func(*values[0], **values[1])
        fresh: list[tuple[int, Tensor]] = []
        memories: list[Memory] = [mine[id(t)].memory for t in changed if id(t) in mine]

        def wrapped(tensor: Tensor, place: int) -> Tensor:
            if id(tensor) in mine:
                known = mine[id(tensor)]
                if known.shape != tensor.shape or known.stride() != tensor.stride():
                    raise NotImplementedError(f"{func} changes a tensor's shape in its place")
                return known
            memory = storages.get(_address(tensor))
            new = OnDevice(tensor, memory)
            if memory is None:
                fresh.append((place, tensor))
                memories.append(new.memory)
            return new

        out = _each(made, wrapped)
        is_view = not fresh and not changed
        if not is_view or _waits(func):
            reads = [t.memory for t in mine.values() if t.memory not in memories]
            self._gpu.ordered(reads, memories)
            again = values
            self._gpu.note(lambda: func(*again[0], **again[1]), fresh, reads, memories)
        return out


def _waits(func: Any) -> bool:
    return func in WAITS or func.overloadpacket in WAITS


def _address(values: Tensor) -> int:
    return values.untyped_storage().data_ptr()


def _tensors(tree: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _mapped(lambda leaf: found.append(leaf) if isinstance(leaf, Tensor) else None, tree)
    return found


def _mapped(work: Callable[[Any], Any], tree: Any) -> Any:
    """`work` on all leaves of tuples, lists and dictionaries."""
    if type(tree) in {tuple, list}:
        return type(tree)([_mapped(work, part) for part in tree])
    if type(tree) is dict:
        return {name: _mapped(work, part) for name, part in tree.items()}
    return work(tree)


def _changed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The operands that the operation's schema says it writes."""
    given = zip(func._schema.arguments, args, strict=False)
    named = [(a, kwargs[a.name]) for a in func._schema.arguments if a.name in kwargs]
    written = [value for a, value in [*given, *named] if a.alias_info and a.alias_info.is_write]
    return _tensors(written)


def _each(made: Any, work: Callable[[Tensor, int], Tensor]) -> Any:
    """`work` on each tensor among the results."""
    if isinstance(made, Tensor):
        return work(made, 0)
    if isinstance(made, tuple | list):
        return type(made)(
            work(part, place) if isinstance(part, Tensor) else part
            for place, part in enumerate(made)
        )
    return made
