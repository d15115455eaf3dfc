"""What stands behind the stand-in: a small model that draws what was asked for, takes new weights, and can be wrong on
purpose."""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerBase

from tutelage.models.ends import end_ids
from tutelage.models.loading import context_of
from tutelage.models.policy import PolicyModule
from tutelage.rollout.decode import Drawn, Job, decode
from tutelage.rollout.draw import row_uniforms
from tutelage.rollout.generator import Sampling
from tutelage.seeds import rng

UNNAMED = "default"
"""The label of weights that nobody has named."""


@dataclass
class Faults:
    """What goes wrong, on purpose.

    error, hang, drop, mislabel, abort: so many of the next requests for a response get status 500, get no answer, break off
    in the middle of the answer, name other weights, are broken off.  stale: new weights are named but not taken; "head": all
    but the output head, "part": only the first half of them.  top_p: log-probabilities are those of the likeliest tokens that
    have so much probability together.  rescale: the temperature is multiplied by this.
    """

    error: int = 0
    hang: int = 0
    drop: int = 0
    mislabel: int = 0
    abort: int = 0
    stale: str = ""
    top_p: float = 1.0
    rescale: float = 1.0

    def take(self, name: str) -> bool:
        """Whether a counted fault is due now; it is one fewer then."""
        left = getattr(self, name)
        if left > 0:
            setattr(self, name, left - 1)
        return bool(left > 0)


@dataclass(frozen=True)
class Wanted:
    """One response: its id (SEED:STEP:PROMPT:SAMPLE, or anything else), prompt ids, the most tokens, temperature and seed."""

    id: str
    ids: tuple[int, ...]
    limit: int
    temperature: float
    seed: int = 0


@dataclass
class Engine:
    """A model, the label of its weights, and what goes wrong.  One thread at a time uses the model."""

    model: PolicyModule
    tokenizer: PreTrainedTokenizerBase
    faults: Faults = field(default_factory=Faults)
    label: str = UNNAMED

    def __post_init__(self) -> None:
        self.model.requires_grad_(False).eval()
        self.ends = end_ids(self.model.host, self.tokenizer)
        self.context = context_of(self.model)
        self._lock = threading.Lock()
        host = self.model.host
        self._shapes = {name: tuple(one.shape) for name, one in host.named_parameters()}
        self._names = set(host.state_dict())
        self._incoming: dict[str, torch.Tensor] | None = None

    def draw(self, wanted: Sequence[Wanted]) -> tuple[list[Drawn], str]:
        """What is drawn, those of one temperature together, and the label of the weights."""
        found: dict[int, Drawn] = {}
        with self._lock:
            for temperature in sorted({one.temperature for one in wanted}):
                some = [number for number, one in enumerate(wanted) if one.temperature == temperature]
                found |= self._together(some, wanted, temperature * self.faults.rescale)
            return [found[number] for number in range(len(wanted))], self.label

    def _together(
        self, some: Sequence[int], wanted: Sequence[Wanted], temperature: float
    ) -> dict[int, Drawn]:
        order = sorted(some, key=lambda number: (-len(wanted[number].ids), number))
        jobs = deque(Job(number, 0, 1, wanted[number].ids, wanted[number].limit) for number in order)
        drawn = decode(
            self.model,
            jobs,
            len(jobs),
            lambda key: _uniforms(wanted[key[0]]),
            temperature,
            self.ends,
            lambda tokens, responses: None,
        )
        return {number: self._renormalised(wanted[number], drawn[number, 0], temperature) for number in some}

    @torch.no_grad()
    def _renormalised(self, wanted: Wanted, drawn: Drawn, temperature: float) -> Drawn:
        """The fault `top_p`: as a server that cuts its softmax and says how likely tokens are among what is left."""
        if self.faults.top_p >= 1.0:
            return drawn
        logits = self.model.host(input_ids=torch.tensor([[*wanted.ids, *drawn.ids]])).logits[0]
        every = (logits[len(wanted.ids) - 1 : -1].float() / (temperature or 1.0)).softmax(-1)
        ranked = every.sort(-1, descending=True)
        cut = ranked.values.cumsum(-1) - ranked.values >= self.faults.top_p
        left = every.scatter(-1, ranked.indices, ranked.values.masked_fill(cut, 0.0)).sum(-1)
        return Drawn(
            drawn.ids, [a - b for a, b in zip(drawn.logprobs, left.log().tolist(), strict=True)], drawn.ended
        )

    def start(self) -> None:
        """New weights are coming.  Raises RuntimeError where some are already."""
        if self._incoming is not None:
            raise RuntimeError("start_weight_update called while a weight update is already active.")
        self._incoming = {}

    def read(self, path: str) -> None:
        """Read a folder of safetensors.  Raises ValueError where names or shapes are not the model's."""
        if self._incoming is None:
            raise RuntimeError("start_weight_update must be called before update_weights.")
        incoming: dict[str, torch.Tensor] = {}
        for part in sorted(Path(path).glob("*.safetensors")):
            incoming |= load_file(part)
        try:
            self._fit(incoming)
        except ValueError:
            self._incoming = None
            raise
        self._incoming = incoming

    def _fit(self, incoming: dict[str, torch.Tensor]) -> None:
        own = self._shapes
        if not incoming:
            raise ValueError("there are no safetensors in the folder")
        for name, tensor in incoming.items():
            if name in own and own[name] != tuple(tensor.shape):
                raise ValueError(
                    f"{name} has the shape {list(tensor.shape)} there and {list(own[name])} here"
                )
        if missing := sorted(own.keys() - incoming.keys()):
            raise ValueError(f"there is no {missing[0]} among the new weights")
        if unknown := sorted(incoming.keys() - self._names):
            raise ValueError(f"there is no {unknown[0]} in the model here")

    @torch.no_grad()
    def finish(self, label: str | None) -> None:
        """Take the new weights, and their name."""
        if self._incoming is None:
            raise RuntimeError("finish_weight_update called without a matching start_weight_update.")
        with self._lock:
            self._take(self._incoming)
            self._incoming, self.label = None, label or self.label

    def _take(self, incoming: dict[str, torch.Tensor]) -> None:
        host, stale = self.model.host, self.faults.stale
        if stale == "head" and host.config.tie_word_embeddings:
            host.lm_head.weight = torch.nn.Parameter(host.lm_head.weight.clone(), requires_grad=False)
            host.config.tie_word_embeddings = False
        own = dict(host.named_parameters())
        names = [name for name in own if name in incoming]
        if stale == "part":
            names = names[: len(names) // 2]
        if stale == "head":
            names = [name for name in names if not name.startswith("lm_head")]
        for name in [] if stale == "all" else names:
            own[name].copy_(incoming[name])

    def tokens(self, text: str, special: bool) -> list[int]:
        """A text as ids."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=special)["input_ids"]
        return ids

    def text(self, ids: Sequence[int]) -> str:
        """Ids as text, special tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))


def _uniforms(wanted: Wanted) -> Any:
    """As the local generator draws for this id; from the seed where the id is of another form."""
    seed, _, rest = wanted.id.partition(":")
    step, _, rest = rest.partition(":")
    name, _, number = rest.rpartition(":")
    if not (seed.isdecimal() and step.removeprefix("-").isdecimal() and name and number.isdecimal()):
        return rng(wanted.seed, "stand-in").random(wanted.limit).clip(max=1 - 2.0**-24).astype("float32")
    return row_uniforms(Sampling(wanted.limit, seed=int(seed), step=int(step)), name, int(number))


def fresh(model: PolicyModule, tokenizer: PreTrainedTokenizerBase) -> Engine:
    """An engine with a copy of a model, which nobody else changes."""
    return Engine(copy.deepcopy(model), tokenizer)
