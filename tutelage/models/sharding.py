"""Models cut over the ranks by FSDP2: each rank holds a part of every weight, and the whole only while it is computed with.

A module (`models.policy`) is cut as a whole, head included, and inside it every layer where transformers' modules run it.  Layers
that run by hand read their weights without calling a module, so there the whole model comes together at once.  What the optimizer
sees are the parts; a gradient is summed over the ranks on its way back (not averaged: `fit` divides by global counts).
"""

from __future__ import annotations

import copy
import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from tutelage.models.cpu.llama import plain_llama
from tutelage.models.policy import Hosted
from tutelage.parallel import World

M = TypeVar("M", bound=nn.Module)
H = TypeVar("H", bound=Hosted)

CALLED = ("outputs", "features")
"""What is called of a module beside its `forward`, and runs it."""


def shard(modules: Iterable[nn.Module | None], world: World) -> None:
    """Cut the models among these over the ranks, in place; the rest (small heads, controllers) stays whole on every rank.

    Do it when nothing but training will write to the weights any more, and before the optimizer is made.  What is cut already
    stays so; with one rank nothing happens.
    """
    if world.size == 1:
        return
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    for module in modules:
        if not isinstance(module, Hosted) or is_sharded(module):
            continue
        skeleton = _skeleton(module)
        for layer in _layers(module):
            fully_shard(layer, mesh=world.mesh, reshard_after_forward=True, mp_policy=_arithmetic(world))
        sharded: Any = fully_shard(
            module, mesh=world.mesh, reshard_after_forward=False
        )  # `outputs` gives its head away
        for part in sharded.modules():
            if isinstance(part, FSDPModule):
                part.set_gradient_divide_factor(1.0)
                part.set_force_sum_reduction_for_comms(True)  # gloo knows no other
        for name in CALLED:
            if hasattr(module, name):
                register_fsdp_forward_method(module, name)
        sharded.skeleton = (skeleton,)  # in a tuple, so that it is no part of the module
        sharded.is_one = not any(
            isinstance(part, FSDPModule) for part in module.modules() if part is not module
        )


@contextmanager
def in_turn(world: World | None) -> Iterator[None]:
    """Inside is one rank of this machine at a time, so that only one model is there as a whole at any moment."""
    if world is None or world.size == 1:
        yield
        return
    world.mesh  # noqa: B018  # the ranks make it together, so before one of them waits for another
    with (Path(tempfile.gettempdir()) / f"tutelage-{os.getuid()}.turn").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_sharded(module: nn.Module) -> bool:
    """Whether the module's weights lie in parts on several ranks."""
    return hasattr(module, "skeleton")


def hold(modules: Iterable[nn.Module], until_last: bool) -> None:
    """Say before a backward pass whether it is the last one of several through the same modules (`until_last` False), or whether
    weights may stay together and gradients be added up here until then.

    Only where a module is one unit, whose weights are together at some moment in any case; one that is cut by layers because it
    is too large for that puts each layer together in every pass.
    """
    for module in modules:
        if getattr(module, "is_one", False):
            unit: Any = module
            unit.set_requires_gradient_sync(not until_last)
            unit.set_reshard_after_backward(not until_last)


def whole_tensor(tensor: Tensor) -> Tensor:
    """The tensor itself, or what all ranks' parts of it make together; all ranks must call it."""
    return cast("Any", tensor).full_tensor() if in_parts(tensor) else tensor


def whole_weight(module: nn.Module, layer: nn.Linear) -> Tensor:
    """The weight of a layer of the module, on every rank; all of them must call it."""
    reshard(module)
    return whole_tensor(layer.weight.detach())


def in_parts(tensor: Tensor) -> bool:
    """Whether it is a part of a tensor that is cut over the ranks (a DTensor)."""
    return hasattr(tensor, "full_tensor")


def whole(module: M, world: World) -> M | None:
    """The module with all its weights on the CPU of rank 0, None on the others, where they lie in parts; else itself.

    All ranks must call it.
    """
    if not is_sharded(module):
        return module
    return _assembled(module, torch.device("cpu"), None, here=world.leads)


def replica(module: H, dtype: torch.dtype, world: World) -> H:
    """A copy with all its weights, frozen, on every rank, for what a model in parts is too slow for (a token at a time).

    All ranks must call it.
    """
    found = _assembled(module, world.device, dtype, here=True)
    assert found is not None
    return found.requires_grad_(False)


def _assembled(module: M, device: torch.device, dtype: torch.dtype | None, here: bool) -> M | None:
    """The module put together from its parts, where `here`; one weight at a time."""
    (skeleton,) = cast("tuple[Any]", module.skeleton)
    twin: Any = _copied(skeleton) if here else None
    for name, value in parts(module):
        full = whole_tensor(value.detach())
        if here:
            _put(twin, name, full.to(device, dtype or full.dtype))
    if here:
        for part in twin.modules():
            for name, buffer in part._buffers.items():
                part._buffers[name] = None if buffer is None else buffer.to(device)
        twin.host.tie_weights()
    return cast("M | None", twin)


@contextmanager
def opened(module: M, world: World) -> Iterator[M | None]:
    """Inside, rank 0 may write to the whole module (None on the others); afterwards every rank has its part of what was written.

    All ranks must call it.
    """
    plain = whole(module, world)
    yield plain
    if not is_sharded(module):
        return
    from torch.distributed.tensor import distribute_tensor

    written = {} if plain is None else dict(plain.named_parameters())
    for name, parameter in parts(module):
        full = written[name].detach() if world.leads else torch.empty(parameter.shape, dtype=parameter.dtype)
        part = distribute_tensor(full.to(world.device), parameter.device_mesh, parameter.placements)
        with torch.no_grad():
            parameter.copy_(part)


def parts(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Parameters by name, tied ones once, in the same order on every rank; where the module is cut, this rank's parts."""
    reshard(module)
    return module.named_parameters()


def reshard(module: nn.Module) -> None:
    """Where the module is cut, its parameters are this rank's parts from now on.

    A forward without a backward leaves the whole weights standing in their place, to which nobody may write and which an
    optimizer must not be given.
    """
    if is_sharded(module):
        from torch.distributed.fsdp import FSDPModule

        for part in module.modules():
            if isinstance(part, FSDPModule):
                part.reshard()


def _arithmetic(world: World) -> Any:
    """Layers are put together in the arithmetic of the run: half the traffic, and no copies of weights that autocast would make
    and keep to the end of the forward pass, which are as large as the model.  Gradients are added up in float32."""
    from torch.distributed.fsdp import MixedPrecisionPolicy

    if world.dtype == torch.float32:
        return MixedPrecisionPolicy()
    return MixedPrecisionPolicy(world.dtype, torch.float32, cast_forward_inputs=False)


def _layers(module: Hosted) -> list[nn.Module]:
    """What is cut by itself: the decoder's layers, where calling them is how they run."""
    backbone: Any = module.host.base_model
    layers = getattr(backbone, "layers", None)
    if layers is None or plain_llama(backbone):
        return []
    return list(layers)


def _skeleton(module: H) -> H:
    """The module without its weights, which lie nowhere; its config is the module's own, so that what becomes known of the
    scores is known here, too."""
    nowhere: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in module.parameters()
    }
    return _copied(module, nowhere)


def _copied(module: H, instead: dict[int, Any] | None = None) -> H:
    """A copy, with other parameters where `instead` (by id) has them."""
    memo = dict(instead or {})
    memo[id(module.config)] = module.config
    return copy.deepcopy(module, memo)


def _put(module: nn.Module, name: str, value: Tensor) -> None:
    """Give the module the parameter of this name."""
    owner, _, last = name.rpartition(".")
    there = module.get_submodule(owner)
    old = there._parameters[last]
    assert old is not None
    there._parameters[last] = nn.Parameter(value, old.requires_grad)
