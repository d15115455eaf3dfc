"""The work of every case, the same for both sides: shapes, rows, tokens and floating-point operations per step.

Standard library only, because TRL's side reads it in an environment of its own.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WARMUP = 2
"""Steps before the timed ones.  Ragged rows warm up for a whole epoch, so that another whole one is timed."""

PPO_EPOCHS = 4
KL_COEF = {"rloo": 0.05, "grpo": 0.04}
"""Both sides hold the policy to a reference: TRL's default for RLOO, the paper's number for GRPO."""

BASELINE_SHARE = 0.25
"""KTO reads so many of its responses once more, each after another prompt, for its baseline."""

SPECIAL = ("<pad>", "<eos>", "<unk>")


@dataclass(frozen=True)
class Shape:
    """A Llama with tied embeddings; `mlp` is the width of its feed-forward layers."""

    hidden: int
    layers: int
    heads: int
    mlp: int
    vocabulary: int

    @property
    def block(self) -> int:
        """Weights of the matrices in all layers: each is one multiply and one add per token."""
        return self.layers * (4 * self.hidden**2 + 3 * self.hidden * self.mlp)


SHAPES = {
    "XS": Shape(32, 2, 2, 64, 256),
    "S": Shape(128, 4, 4, 352, 512),
    "M": Shape(320, 8, 5, 864, 4096),
}


@dataclass(frozen=True)
class Case:
    """`rows` rows, pairs or prompts per step, `samples` responses to each prompt; `prompt` and `response` tokens each, the end of
    a trained response included."""

    name: str
    what: str
    rows: int
    prompt: int
    response: int
    ragged: bool = False
    samples: int = 1

    @property
    def length(self) -> int:
        return self.prompt + self.response

    @property
    def paired(self) -> bool:
        """Whether a row is two responses to a prompt."""
        return self.name.removesuffix("_ragged") in ("reward", "dpo", "orpo", "simpo", "kto_pairs")


CASES = {
    case.name: case
    for case in (
        Case("generation", "64 prompts of 32 tokens, 64 new tokens each", 64, 32, 64),
        Case("sft", "16 rows of 256 tokens", 16, 4, 252),
        Case("sft_ragged", "16 rows of log-normal lengths, 256 at most", 16, 4, 252, ragged=True),
        Case("reward", "8 pairs of 256 + 256 tokens", 8, 128, 128),
        Case("reward_ragged", "16 pairs of log-normal lengths, 256 + 256 at most", 16, 128, 128, ragged=True),
        Case("dpo", "8 pairs of 256 + 256 tokens, 128 of each trained", 8, 128, 128),
        Case("dpo_ragged", "16 pairs of log-normal lengths, 256 + 256 at most", 16, 128, 128, ragged=True),
        Case("orpo", "the pairs of dpo", 8, 128, 128),
        Case("simpo", "the pairs of dpo", 8, 128, 128),
        Case("kto", "16 responses to as many prompts, as many tokens as dpo", 16, 128, 128),
        Case("kto_pairs", "the pairs of dpo, each side for itself", 8, 128, 128),
        Case("ppo", f"64 prompts, 32 + 64 tokens, 4 models, {PPO_EPOCHS} epochs", 64, 32, 64),
        Case("rloo", "16 prompts x 4, 32 + 64 tokens, policy and reference", 16, 32, 64, samples=4),
        Case("grpo", "16 prompts x 4, 32 + 64 tokens, policy and reference", 16, 32, 64, samples=4),
    )
}


@dataclass(frozen=True)
class Work:
    """One case at one size, for so many timed steps.  `folder` holds its models and rows."""

    case: str
    size: str
    rounds: int
    precision: str
    threads: int
    folder: str

    @staticmethod
    def from_json(text: str) -> Work:
        return Work(**json.loads(text))

    @property
    def kind(self) -> Case:
        return CASES[self.case]

    @property
    def shape(self) -> Shape:
        return SHAPES[self.size]

    @property
    def warmup(self) -> int:
        return self.rounds if self.kind.ragged else WARMUP

    @property
    def steps(self) -> int:
        return self.warmup + self.rounds

    @property
    def data(self) -> Path:
        return Path(self.folder) / f"{self.case}-{self.size}.jsonl"

    @property
    def policy(self) -> Path:
        """The language model; its end and padding tokens are never sampled."""
        return Path(self.folder) / f"policy-{self.size}"

    @property
    def scalar(self) -> Path:
        """The reward model and critic."""
        return Path(self.folder) / f"scalar-{self.size}"

    def lengths(self) -> list[int]:
        """Tokens of every sequence, for all timed steps."""
        if self.kind.paired:
            return [prompt + side for prompt, *sides in self.pairs() for side in sides]
        count = self.kind.rows * self.kind.samples * self.rounds
        return ragged_lengths(count, self.kind.length) if self.kind.ragged else [self.kind.length] * count

    def pairs(self) -> list[tuple[int, int, int]]:
        """Tokens of the prompt, the chosen and the rejected response of every pair, for all timed steps."""
        kind, count = self.kind, self.kind.rows * self.rounds
        if not kind.ragged:
            return [(kind.prompt, kind.response, kind.response)] * count
        prompts = ragged_lengths(count, kind.prompt, seed=1)
        sides = (ragged_lengths(count, kind.response, seed=seed) for seed in (2, 3))
        return list(zip(prompts, *sides, strict=True))

    def tokens_per_step(self) -> float:
        """Tokens in a step, the mean where rows are ragged; new tokens only where nothing is trained."""
        if self.case == "generation":
            return self.kind.rows * self.kind.response
        return sum(self.lengths()) / self.rounds


def variety(completions: Sequence[str], **_: object) -> list[float]:
    """A reward that costs nothing, for both sides: the share of a response's words that are different."""
    return [len(set(words)) / max(1, len(words)) for words in map(str.split, completions)]


def ragged_lengths(count: int, most: int, seed: int = 1) -> list[int]:
    """Skewed lengths as chat data has them: log-normal, about 0.4 of `most` on average, 16 at least."""
    draw = random.Random(seed)
    middle = math.log(0.4 * most) - 0.18
    return [int(min(most, max(16, draw.lognormvariate(middle, 0.6)))) for _ in range(count)]


def write_rows(work: Work) -> None:
    """The rows of a case as JSONL; one word is one token, and text that is trained has room for its end token."""
    with work.data.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in _rows(work))


def _rows(work: Work) -> Iterator[dict[str, Any]]:
    draw, kind = random.Random(0), work.kind

    def words(count: int) -> str:
        first = len(SPECIAL)
        return " ".join(f"w{draw.randrange(first, work.shape.vocabulary)}" for _ in range(count))

    # An epoch is the timed steps where a whole one is timed; elsewhere no row comes twice.
    repeats = 1 if kind.ragged else math.ceil(work.steps / work.rounds)
    if kind.paired:
        for prompt, chosen, rejected in work.pairs() * repeats:
            row = {"prompt": words(prompt), "chosen": " " + words(chosen - 1)}
            yield row | {"rejected": " " + words(rejected - 1)}
        return
    for number, length in enumerate(work.lengths()[:: kind.samples] * repeats):
        if work.case in ("generation", "ppo", "rloo", "grpo"):
            yield {"prompt": words(kind.prompt)}
            continue
        row = {"prompt": words(kind.prompt), "completion": " " + words(length - kind.prompt - 1)}
        yield row | ({"label": number % 2 == 0} if work.case == "kto" else {})


# ---- floating-point operations ---------------------------------------------------------------------------------------


def flops_per_step(work: Work) -> float:
    """Operations of the matrix products that a step cannot do without.

    A backward pass costs two forward passes.  Causal attention is counted once, logits only where a token is predicted
    or sampled, and nothing twice: DPO's reference is computed before the first step, a pair's prompt is read once for
    both responses, and so is one that several responses answer; what sampling has computed (its log-probabilities) is not counted
    again, so PPO, RLOO and GRPO begin an update with what a forward pass over their responses must keep for the way back.
    """
    kind, shape = work.kind, work.shape
    if work.case == "generation":
        return _generate(shape, kind)
    if work.case.startswith("sft"):
        lengths = work.lengths()
        return 3 * forward(shape, lengths, sum(lengths) - len(lengths)) / work.rounds
    sequences = [kind.length] * kind.rows
    if work.case == "ppo":
        policy, scalar = forward(shape, sequences, kind.rows * kind.response), forward(shape, sequences, 0)
        return _generate(shape, kind) + policy + 2 * scalar + PPO_EPOCHS * 3 * (policy + scalar)
    if work.case in KL_COEF:
        prompts = forward(shape, [kind.prompt] * kind.rows, 0)
        again = (kind.samples - 1) * prompts
        both = forward(shape, sequences * kind.samples, kind.rows * kind.samples * kind.response) - again
        return _generate(shape, kind) + 4 * both
    if work.case == "kto":
        return (3 + BASELINE_SHARE) * forward(shape, sequences, kind.rows * kind.response)
    prompts = forward(shape, [prompt for prompt, *_ in work.pairs()], 0)
    predicted = 0 if "reward" in work.case else sum(c + r for _, c, r in work.pairs())
    passes = 3 + (BASELINE_SHARE if work.case == "kto_pairs" else 0)
    return passes * (forward(shape, work.lengths(), predicted) - prompts) / work.rounds


def forward(shape: Shape, lengths: Sequence[int], predicted: int) -> float:
    """One pass over sequences of these lengths, with logits at `predicted` positions."""
    attention = 4 * shape.hidden * shape.layers * sum(length * (length + 1) / 2 for length in lengths)
    return 2 * shape.block * sum(lengths) + attention + 2 * shape.hidden * shape.vocabulary * predicted


def _generate(shape: Shape, kind: Case) -> float:
    """Every token but the last goes through the model once, a prompt once for all its responses; every sampled one had its
    logits computed."""
    count = kind.rows * kind.samples
    again = (kind.samples - 1) * forward(shape, [kind.prompt] * kind.rows, 0)
    return forward(shape, [kind.length - 1] * count, count * kind.response) - again
