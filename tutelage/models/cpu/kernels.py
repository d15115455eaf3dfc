"""The calls of `kernels.c` on tensors: a decoder layer with its gradient, and a step of cached decoding, with products of
float32 or of bfloat16; and of such a step in bfloat16 what is no product.

The structures here are those of the C file, field by field; every tensor is contiguous.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tutelage.models.cache import StaticKV
from tutelage.models.cpu.compiler import kernels_here
from tutelage.models.cpu.layer import Call
from tutelage.models.layout import Layout

BLOCK = 64  # as in the C file
LANES = 16  # a multiple of the C file's

S = TypeVar("S", bound=ctypes.Structure)


class _Shape(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("width", "heads", "shared_heads", "size", "inner")),
        *((name, ctypes.c_float) for name in ("eps", "scaling")),
        *((name, ctypes.c_int64) for name in ("threads", "narrow")),
    ]


class _Row(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("total", "sequences", "chains")),
        *((name, ctypes.c_void_p) for name in ("start", "place", "shared", "chain", "angles")),
    ]


def _pointers(names: str) -> list[tuple[str, Any]]:
    return [(name, ctypes.c_void_p) for name in names.split()]


class _Weights(ctypes.Structure):
    _fields_ = _pointers("norm1 norm2 into out up down into_back out_back up_back down_back")


class _Kept(ctypes.Structure):
    _fields_ = _pointers("qkv mixed total both x2 scales")


class _Work(ctypes.Structure):
    _fields_ = _pointers("inner d_both n1 n2 d_x2 d_mixed d_qkv norms")


class _Gradients(ctypes.Structure):
    _fields_ = _pointers("x norm1 norm2 into out up down")


class _Cache(ctypes.Structure):
    _fields_ = _pointers("keys values")


def usable(*tensors: Tensor, dtype: torch.dtype = torch.float32) -> bool:
    """Whether the kernels are there and compute what these tensors hold, which is to be of this dtype."""
    return all(t.dtype == dtype for t in tensors) and kernels_here().library is not None


def multiplies(dtype: torch.dtype) -> bool:
    """Whether the kernels are there and their products of this dtype as fast as any: of bfloat16 where the processor adds
    products of pairs, but has no matrix units, which they leave to torch."""
    library = kernels_here().library
    if library is None or dtype == torch.bfloat16:
        return library is not None and bool(library.tutelage_pairs())
    return dtype == torch.float32


class Layer(torch.autograd.Function):
    """`layer.Layer` with products of float32 or bfloat16 (`call.dtype`): float32 [N, D] -> [N, D], or [M, D] at `call.read`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Call, *weights: Tensor) -> Tensor:
        norm1, norm2 = (w.float().contiguous() for w in weights[:2])
        matrices = _matrices(weights, call.dtype)
        shape, n, m = _shape(call, matrices[3]), len(x), len(x) if call.read is None else len(call.read)
        into, out, both, _ = (len(matrix) for matrix in matrices)
        passed = [x.new_empty(s, dtype=call.dtype) for s in ((n, into), (n, matrices[1].shape[1]), (m, both))]
        kept = [*passed[:2], x.new_empty(call.heads, n), passed[2], x.new_empty(m, out), x.new_empty(n + m)]
        y = torch.empty_like(kept[4])
        ready = [packed(matrix, shape, transposed=True) for matrix in matrices]
        _run(
            "tutelage_layer",
            shape,
            _row(call),
            _filled(_Weights, norm1, norm2, *ready),
            _filled(_Kept, *kept),
            x,
            _read(call),
            m,
            y,
        )
        if call.store is not None:
            parts = kept[0].unflatten(1, (-1, shape.size)).transpose(0, 1)[None, call.heads :]
            call.store(parts[:, : call.shared_heads], parts[:, call.shared_heads :])
        ctx.call = call
        ctx.save_for_backward(x, norm1, norm2, *matrices, *kept)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        call: Call = ctx.call
        x, norm1, norm2, *rest = ctx.saved_tensors
        matrices, kept = rest[:4], rest[4:]
        shape, n, m = _shape(call, matrices[3]), len(x), len(grad)
        qkv, mixed, _, both, x2, _ = kept
        gradients = [torch.empty_like(t, dtype=x.dtype) for t in (x, norm1, norm2, *matrices)]
        work = (
            both.new_empty(m, shape.inner),
            torch.empty_like(both),
            torch.empty_like(x, dtype=call.dtype),
            torch.empty_like(x2, dtype=call.dtype),
            torch.empty_like(x2),
            torch.empty_like(mixed) if call.read is None else torch.zeros_like(mixed),
            torch.empty_like(qkv, dtype=x.dtype),
            x.new_zeros(-(-n // BLOCK) - (-m // BLOCK), shape.width),
        )
        back = [packed(matrix, shape, transposed=False) for matrix in matrices]
        _run(
            "tutelage_layer_backward",
            shape,
            _row(call),
            _filled(_Weights, norm1, norm2, *[None] * 4, *back),
            _filled(_Kept, *kept),
            _filled(_Work, *work),
            x,
            _read(call),
            m,
            grad.contiguous(),
            _filled(_Gradients, *gradients),
        )
        dx, d_norm1, d_norm2, d_into, d_out, d_up, d_down = gradients
        sizes = [count * shape.size for count in (call.heads, call.shared_heads, call.shared_heads)]
        return dx, None, d_norm1, d_norm2, *d_into.split(sizes), d_out, *d_up.chunk(2), d_down


def _matrices(weights: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Into attention and out, up to the wide part and down, from `layer.weights_of`."""
    q, k, v, o, gate, up, down = (w.to(dtype).contiguous() for w in weights[2:])
    return torch.cat([q, k, v]), o, torch.cat([gate, up]), down


def packed(matrix: Tensor, shape: ctypes.Structure, transposed: bool) -> Tensor:
    """The numbers of a matrix [out, in] in the order in which x matrix (transposed: x matrix^T) reads them: float32, or words
    of two bfloat16, one above the other there."""
    narrow = matrix.dtype == torch.bfloat16
    if narrow and transposed:  # what is above each other there stands side by side here
        odd = matrix.shape[1] % 2
        matrix = (F.pad(matrix, (0, 1)) if odd else matrix).view(torch.float32)
    columns, depth = matrix.shape if transposed else matrix.shape[::-1]
    words = -(-depth // 2) if narrow and not transposed else depth
    found = matrix.new_empty(words * (-(-columns // LANES) * LANES), dtype=torch.float32)
    if narrow and not transposed:
        _run("tutelage_pack_down", shape, matrix, columns, depth, columns, found)
    else:
        steps = matrix.stride()[::-1] if transposed else matrix.stride()
        _run("tutelage_pack", shape, matrix, *steps, depth, columns, found)
    return found


class Rows:
    """The layers and the head of a model as `tutelage_step` takes them; the weights must not change meanwhile.

    call: of any layer, for what all of them have in common.  weights: of every layer.  head: [V, D], or None.
    """

    def __init__(
        self, call: Call, weights: Sequence[Sequence[Tensor]], norm: Tensor, head: Tensor | None
    ) -> None:
        self._shape = _shape(call, weights[0][-1])
        self._kept: list[Tensor] = []
        self._weights = (_Weights * len(weights))()
        for number, layer in enumerate(weights):
            matrices = _matrices(layer, call.dtype)
            tensors = [w.float() for w in layer[:2]]
            tensors += [packed(matrix, self._shape, transposed=True) for matrix in matrices]
            self._kept += tensors
            self._weights[number] = _filled(_Weights, *tensors)
        self._norm, self._head, self._words = norm.float(), None, len(norm)
        if head is not None:
            head = head.to(call.dtype).contiguous()
            self._head, self._words = packed(head, self._shape, transposed=True), len(head)

    def step(self, x: Tensor, turn: Tensor, cache: StaticKV) -> Tensor:
        """x [R, D], turn complex [R, d / 2] -> logits [R, V], without a head states [R, D]; writes to the cache's next column."""
        layers = len(self._weights)
        rooms = [cache.room(number) for number in range(layers)]
        caches = (_Cache * layers)(*(_filled(_Cache, *room) for room in rooms))
        found = x.new_empty(len(x), self._words)
        _run(
            "tutelage_step",
            self._shape,
            layers,
            self._weights,
            caches,
            rooms[0][0].shape[2],
            cache.lengths,
            cache.longest,
            turn,
            self._norm,
            self._head,
            self._words,
            len(x),
            x,
            found,
        )
        return found


class Narrow:
    """What of a step in bfloat16 is no product: norms, the gate, attention.  call: of any layer; down: its last matrix."""

    def __init__(self, call: Call, down: Tensor) -> None:
        self._shape = _shape(call, down)

    def normed(self, x: Tensor, weight: Tensor) -> Tensor:
        """float32 [R, D] and its weight [D] -> [R, D]."""
        out = x.new_empty(x.shape, dtype=torch.bfloat16)
        _run("tutelage_norm", self._shape, len(x), x, weight, out)
        return out

    def gated(self, both: Tensor) -> Tensor:
        """[R, 2 I], gate and up -> [R, I]."""
        inner = both.new_empty(len(both), self._shape.inner)
        _run("tutelage_gated", self._shape, len(both), both, inner)
        return inner

    def attend(self, qkv: Tensor, turn: Tensor, cache: StaticKV, layer: int) -> Tensor:
        """qkv [R, (H + 2 Hkv) * d], as `layer.products` makes them, turn complex [R, d / 2] -> [R, H * d]; writes to every row's
        next column of the cache."""
        room = cache.room(layer)
        mixed = qkv.new_empty(len(qkv), self._shape.heads * self._shape.size)
        _run(
            "tutelage_newest",
            self._shape,
            _filled(_Cache, *room),
            room[0].shape[2],
            cache.lengths,
            cache.longest,
            turn,
            len(qkv),
            qkv,
            mixed,
        )
        return mixed


def _shape(call: Call, down: Tensor) -> ctypes.Structure:
    width, inner = down.shape
    size = call.turn.shape[-1] * 2
    scaling = call.scores.scaling
    threads, narrow = torch.get_num_threads(), call.dtype == torch.bfloat16
    return _Shape(width, call.heads, call.shared_heads, size, inner, call.eps, scaling, threads, narrow)


def _read(call: Call) -> Tensor | None:
    """`call.read`, and an address also where it is empty: none at all stands for every row."""
    return call.read.new_zeros(1) if call.read is not None and len(call.read) == 0 else call.read


def _row(call: Call) -> ctypes.Structure:
    layout = call.scores.layout
    table = _table(layout)
    sizes = layout.total, len(layout.lengths), len(table[3]) - 1
    return _Row(*sizes, *(_address(t) for t in (*table, call.turn)))


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _table(layout: Layout) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where the sequences of a layout lie, as the C file's Row wants it."""
    start = torch.tensor([0, *layout.lengths]).cumsum(0)
    first = [number for number, shared in enumerate(layout.shared) if not shared]
    shared, chain = torch.tensor(layout.shared), torch.tensor([*first, len(layout.lengths)])
    return start, layout.place_on_cpu, shared, chain


def _filled(kind: type[S], *tensors: Tensor | None) -> S:
    return kind(*map(_address, tensors))


def _address(tensor: Tensor | None) -> int | None:
    """None for a tensor without numbers, too: those are not read."""
    if tensor is None or isinstance(tensor, FakeTensor):
        return None
    assert tensor.is_contiguous()
    return tensor.data_ptr()


def _run(name: str, *arguments: Any) -> None:
    """The C function `name`; nothing where the tensors have no numbers, because memory is being planned."""
    if any(isinstance(argument, FakeTensor) for argument in arguments):
        return
    library = kernels_here().library
    assert library is not None, "`usable` was asked before"
    getattr(library, name)(*map(_passed, arguments))


def _passed(argument: Any) -> Any:
    match argument:
        case int():
            return ctypes.c_int64(argument)
        case ctypes.Structure():
            return ctypes.byref(argument)
        case ctypes.Array():
            return argument
        case _:
            return ctypes.c_void_p(_address(argument))
