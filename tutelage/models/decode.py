"""Cached decoding: prompts in, logits of the next token out, one token per row and step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from tutelage.models.cache import StaticKV
from tutelage.models.cpu import llama
from tutelage.models.cpu.rows import LlamaRows
from tutelage.models.forward import flat_inputs
from tutelage.models.graphs import Played, recorder
from tutelage.models.layout import Layout
from tutelage.models.policy import PolicyModule

IDLE_SHARE = 0.125
"""Of finished rows, from which on they are dropped: they take part in every step."""

PLAYED_SHARE = 0.5
"""The same where steps are played back, and would have to be recorded anew."""


class Decoding:
    """A batch of sequences being continued by one model.

    Made from prompts (token ids, each at least one) and the most tokens that will be appended to each. `logits`
    [rows, V] predict every row's next token; `step(tokens)` appends one token to every row and renews them; `select`
    drops or reorders rows, `repeat` copies each of them; where it `admits`, `replace` gives rows to other prompts, and `leave`
    says that rows are only there to be replaced. Use under `torch.inference_mode()` with a prepared model (see `loading`).
    Logits are what the model's own forward returns, in its dtype. Raises ValueError when a row could become too long for
    `Hosted.refuse_longer`, or longer than the longest of the first prompts.
    """

    def __init__(self, model: PolicyModule, prompts: Sequence[Sequence[int]], new_tokens: int) -> None:
        model.refuse_longer(max(map(len, prompts)) + new_tokens)
        self._rows: _OwnRows | _PaddedRows = _kind(model)(model.host)
        self.logits = self._rows.prefill(prompts, new_tokens)

    @property
    def rows(self) -> int:
        return len(self.logits)

    def step(self, tokens: Tensor) -> Tensor:
        """tokens [rows] (LongTensor) -> logits [rows, V] of what follows them."""
        self.logits = self._rows.step(tokens)
        return self.logits

    def select(self, rows: Tensor) -> None:
        """Keep these rows (LongTensor), in this order; one that stands there twice becomes two."""
        self._rows.select(rows)
        self.logits = self.logits[rows]

    def repeat(self, counts: Sequence[int]) -> None:
        """Each row as often as `counts` says, copies next to each other."""
        if any(count != 1 for count in counts):
            times = torch.tensor(counts, device=self.logits.device)
            self.select(torch.arange(len(counts), device=times.device).repeat_interleave(times))

    @property
    def patience(self) -> float:
        """Finished rows are dropped when they are at least this share of all."""
        return PLAYED_SHARE if isinstance(self._rows, _FlatRows) and self._rows.plays else IDLE_SHARE

    @property
    def admits(self) -> bool:
        """Whether rows can be given to other prompts while the others go on: where transformers keeps the cache, they cannot."""
        return not isinstance(self._rows, _PaddedRows)

    def leave(self, rows: Tensor) -> None:
        """These rows (LongTensor) are finished: they take part in every step until they are replaced or dropped, and what
        comes out for them means nothing."""
        if not isinstance(self._rows, _PaddedRows):
            self._rows.cache.leave(rows)

    def replace(self, rows: Tensor, prompts: Sequence[Sequence[int]], counts: Sequence[int]) -> None:
        """`rows` (LongTensor) begin anew with these prompts, `counts` of them for each, next to each other.

        What they held is forgotten.  A prompt is computed once.
        """
        assert not isinstance(self._rows, _PaddedRows), "asked only where it `admits`"
        logits = self._rows.replace(rows, prompts, counts).to(self.logits.dtype)
        self.logits[rows] = logits.repeat_interleave(torch.tensor(counts, device=logits.device), dim=0)


def cache_bytes(config: Any, rows: int, columns: int, itemsize: int) -> int:
    """Memory of the keys and values of `rows` sequences of `columns` tokens, numbers of `itemsize` bytes, of a text model."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * rows * columns * heads * width * itemsize)


def logits_bytes(config: Any, rows: int, itemsize: int) -> int:
    """Memory of the logits of `rows` next tokens while they are drawn: as they come, and three float32 copies."""
    return int(rows * config.vocab_size * (itemsize + 3 * 4))


class _Rows(Protocol):
    """How a kind of model keeps its rows."""

    def prefill(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Tensor: ...
    def step(self, tokens: Tensor) -> Tensor: ...
    def select(self, rows: Tensor) -> None: ...


class _OwnRows(_Rows, Protocol):
    """The same where the cache is ours, so that rows can be replaced."""

    cache: StaticKV

    def replace(self, rows: Tensor, prompts: Sequence[Sequence[int]], counts: Sequence[int]) -> Tensor: ...


def _kind(model: PolicyModule) -> Callable[[Any], _OwnRows | _PaddedRows]:
    host = model.host
    if type(host) is LlamaForCausalLM and llama.unhooked(host) and llama.plain_llama(host.model):
        return LlamaRows
    return _PaddedRows if model.pads else _FlatRows


class _FlatRows:
    """Prompts run flat, without padding, into a `StaticKV`; on a GPU steps are played back (`graphs`)."""

    def __init__(self, model: Any) -> None:
        self.model = model
        record = recorder(model.device)
        self._played = None if record is None else Played(self._next, record)

    def prefill(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Tensor:
        self.cache = StaticKV(max(map(len, prompts)) + new_tokens)
        return self.replace(None, prompts)

    def replace(
        self, rows: Tensor | None, prompts: Sequence[Sequence[int]], counts: Sequence[int] = ()
    ) -> Tensor:
        layout = Layout([len(p) for p in prompts], self.model.device)
        ids = torch.tensor([token for prompt in prompts for token in prompt], device=self.model.device)
        self.cache.prefill(layout, rows, counts)
        out = self.model(
            **flat_inputs(ids, layout), past_key_values=self.cache, use_cache=True, logits_to_keep=layout.last
        )
        self.cache.advance()
        logits: Tensor = out.logits[0]
        return logits

    def step(self, tokens: Tensor) -> Tensor:
        if self._played is None:
            logits = self._next(tokens)
        else:
            self.cache.make_room()
            logits = self._played(tokens, self.cache.storage)
        self.cache.advance()
        return logits

    @property
    def plays(self) -> bool:
        """Whether other rows mean that a step is recorded anew."""
        return self._played is not None

    def _next(self, tokens: Tensor) -> Tensor:
        out = self.model(
            input_ids=tokens[:, None],
            position_ids=self.cache.positions()[:, None],
            attention_mask=self.cache.mask(self.model.dtype),
            tutelage_newest=self.cache.positions(),
            past_key_values=self.cache,
            use_cache=True,
        )
        logits: Tensor = out.logits[:, 0]
        return logits

    def select(self, rows: Tensor) -> None:
        self.cache.select(rows)


class _PaddedRows:
    """Prompts padded on the left and transformers' own cache, for architectures that cannot run flat."""

    def __init__(self, model: Any) -> None:
        self.model = model
        known = signature(model.forward).parameters
        self.positions, self.keeps = "position_ids" in known, "logits_to_keep" in known

    def prefill(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Tensor:
        width = max(len(p) for p in prompts)
        ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=self.model.device)
        starts = torch.tensor([width - len(p) for p in prompts], device=ids.device)
        self.cache: Any = None
        self.mask = (torch.arange(width, device=ids.device) >= starts[:, None]).long()
        return self._run(ids)

    def step(self, tokens: Tensor) -> Tensor:
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        return self._run(tokens[:, None])

    def _run(self, ids: Tensor) -> Tensor:
        inputs: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": self.mask,
            "past_key_values": self.cache,
        }
        if self.positions:
            inputs["position_ids"] = (self.mask.cumsum(1) - 1).clamp_min(0)[:, -ids.shape[1] :]
        if self.keeps:
            inputs["logits_to_keep"] = 1
        out = self.model(**inputs, use_cache=True)
        self.cache = getattr(out, "past_key_values", None)
        if self.cache is None:
            raise ValueError(
                f"{type(self.model).__name__} keeps no key/value cache, so it cannot generate here."
            )
        return out.logits[:, -1]

    def select(self, rows: Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.mask = self.mask[rows]
