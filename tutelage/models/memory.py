"""Bytes that a model will take, before any of them is taken: its passes are rehearsed with numbers that do not exist.

The very code that trains runs once, on tensors that have shapes and dtypes but no storage (torch's fake tensors), and a
ledger keeps what would be alive.  So whatever the code keeps for the backward pass, casts or computes again is counted as
it is, for every architecture, and nothing about it is written down a second time.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from tutelage.models.attention import forget_masks
from tutelage.models.lora import add_lora
from tutelage.models.policy import Hosted
from tutelage.ops.shapes import computing_as

H = TypeVar("H", bound=Hosted)


@dataclass(frozen=True)
class Taken:
    """Bytes alive at some moment of a forward and backward pass, beyond the weights: `gradients` of parameters, `logits`
    (whatever is as wide as the vocabulary), and `activations`, which is everything else."""

    activations: float = 0
    logits: float = 0
    gradients: float = 0

    @property
    def total(self) -> float:
        return self.activations + self.logits + self.gradients

    def __add__(self, other: Taken) -> Taken:
        return Taken(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __mul__(self, factor: float) -> Taken:
        return Taken(*(getattr(self, f.name) * factor for f in fields(self)))


@dataclass(frozen=True)
class Pass:
    """What a forward and backward pass takes.

    kept: between the two.  most: when most is alive.  loose: when most is alive apart from gradients; what a pass takes
    whose gradients are added to those of an earlier one.
    """

    kept: Taken
    most: Taken
    loose: Taken

    def __add__(self, other: Pass) -> Pass:
        return Pass(self.kept + other.kept, self.most + other.most, self.loose + other.loose)

    def __mul__(self, factor: float) -> Pass:
        return Pass(self.kept * factor, self.most * factor, self.loose * factor)


class Ledger(TorchDispatchMode):
    """Inside, floating-point tensors are imagined and counted; whole numbers and masks are real, because code asks what is
    in them (where sequences begin, say)."""

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()
        self._fake = fake
        self._known: dict[int, str] = {}
        self.wide = 0
        self.alive: Counter[str] = Counter()
        self.start()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        if any(isinstance(x, FakeTensor) for x in tensors):
            args, kwargs = tree_map_only(Tensor, self._imagine, (args, kwargs))
        elif tensors or not _makes_numbers(func, args, kwargs):
            kwargs = kwargs | {"device": torch.device("cpu")} if "device" in kwargs else kwargs
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        out = func(*args, **kwargs)
        for tensor in tree_flatten(out)[0]:
            if isinstance(tensor, FakeTensor):
                self._count(tensor)
        return out

    def start(self) -> None:
        """What is alive from now on is compared with now."""
        self._before = Counter(self.alive)
        self.most = self.loose = Taken()

    def now(self) -> Taken:
        """What is alive beyond what was alive at the start."""
        return Taken(*(self.alive[f.name] - self._before[f.name] for f in fields(Taken)))

    def call_gradient(self, parameter: Tensor) -> None:
        """The parameter's gradient is one from now on."""
        storage = parameter.grad.untyped_storage()  # type: ignore[union-attr]
        old = self._known[storage._cdata]
        if old != "gradients":
            self._known[storage._cdata] = "gradients"
            self.alive[old] -= storage.nbytes()
            self.alive["gradients"] += storage.nbytes()

    def _imagine(self, tensor: Tensor) -> Tensor:
        if isinstance(tensor, FakeTensor):
            return tensor
        shape, stride = tensor.shape, tensor.stride()
        with unset_fake_temporarily():
            meta = torch.empty_strided(shape, stride, dtype=tensor.dtype, device="meta")
        return FakeTensor(self._fake, meta, tensor.device)

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self._known:
            return
        label = "logits" if tensor.shape[-1:] == (self.wide,) else "activations"
        self._known[storage._cdata] = label
        weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())
        self.alive[label] += storage.nbytes()
        now = self.now()
        self.most = max(self.most, now, key=lambda taken: taken.total)
        self.loose = max(self.loose, now, key=lambda taken: taken.total - taken.gradients)

    def _forget(self, address: int, size: int) -> None:
        self.alive[self._known.pop(address)] -= size


def _makes_numbers(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a function that is given no tensor makes one of floating-point numbers."""
    aten, made = torch.ops.aten, func.overloadpacket
    if kwargs.get("dtype") is None and made in (aten.arange, aten.full, aten.scalar_tensor):
        return any(isinstance(x, float) for x in args)
    if kwargs.get("dtype") is None and made in (aten.randint, aten.randperm):
        return False
    dtype = kwargs.get("dtype") or torch.get_default_dtype()
    return bool(dtype.is_floating_point or dtype.is_complex)


@contextmanager
def imagining(device_type: str = "cpu") -> Iterator[Ledger]:
    """Inside, tensors have no storage, and code that asks where it runs is told `device_type`."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with computing_as(device_type), fake, Ledger(fake) as ledger:
            yield ledger
    finally:
        forget_masks()  # else those that were imagined would be used for real


def adapted(module: H, rank: int) -> H:
    """`add_lora` for an imagined model: modules that are moved or cast to another dtype, as adapters and a scalar head are,
    must lie nowhere (torch's meta device) meanwhile: imagined tensors do not endure it."""
    head: nn.Module = getattr(module.host, "score", None) or nn.Module()
    for name, parameter in head._parameters.items():
        if parameter is not None:
            with unset_fake_temporarily():
                nowhere = torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")
                head._parameters[name] = nn.Parameter(nowhere)
    with torch.device("meta"):
        result = add_lora(module, rank, 1.0)
    for part in result.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and parameter.device.type == "meta":
                here = torch.empty(parameter.shape, dtype=parameter.dtype)
                part._parameters[name] = nn.Parameter(here, parameter.requires_grad)
    return result


def parameter_bytes(models: Sequence[nn.Module], trained: bool = False) -> int:
    """Bytes of the parameters, those that several models share once; `trained`: of those that are trained only."""
    found = {id(p): p for model in models for p in model.parameters() if p.requires_grad or not trained}
    return sum(p.nbytes for p in found.values())


def rehearse(
    ledger: Ledger, loss: Callable[[], Tensor], model: nn.Module, dtype: torch.dtype, vocabulary: int
) -> Pass:
    """A forward pass of `loss`, which runs `model`, in the arithmetic `dtype`, and a backward pass where it trains anything."""
    ledger.wide = vocabulary
    trained = [p for p in model.parameters() if p.requires_grad]
    hooks = [p.register_post_accumulate_grad_hook(ledger.call_gradient) for p in trained]
    ledger.start()
    with torch.set_grad_enabled(bool(trained)):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            value = loss()
        kept = ledger.now()
        if trained:
            value.backward()
    for hook in hooks:
        hook.remove()
    model.zero_grad(set_to_none=True)
    return Pass(kept, ledger.most, ledger.loose)
