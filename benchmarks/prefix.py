"""`python -m benchmarks.prefix [key=value ...]`: what it saves that a prompt is computed once for all its responses.

A step's experience: 16 prompts of 256 tokens with 8 responses of 64 each.  Every part of the step is timed twice, in turns: as it
is, and with every response's prompt computed anew (generation: each prompt given 8 times, which draws the same responses).
Beside it stands what arithmetic says: of the operations of the matrix products (`work.forward`) those of 7 of 8 prompts go.
A token that is drawn costs more time than one that is read, so for generation it is the time that log-probabilities take
for as many operations.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.models import write_models
from benchmarks.settings import DEFAULT_SIZES, known
from benchmarks.work import SHAPES, SPECIAL, Shape, Work, forward
from tutelage.data import batch as batches
from tutelage.data.batch import TokenBatch
from tutelage.data.responses import response_batch
from tutelage.files import write_json_atomic
from tutelage.models.loading import load_policy, load_scalar, load_tokenizer
from tutelage.models.passes import forward_pass
from tutelage.models.policy import PolicyModule, ScalarModule
from tutelage.parallel import World, keep_freed_memory
from tutelage.records import Prompt
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.settings.base import Settings, load, setting
from tutelage.settings.rl import PPOSettings


class PrefixSettings(Settings):
    """What to time."""

    sizes: list[str] = setting(DEFAULT_SIZES, "Sizes of the model: XS, S (1 M), M (10 M parameters).")
    precisions: list[Literal["bf16", "fp32"]] = setting(
        ["bf16", "fp32"], "Arithmetic: precisions=[bf16,fp32]."
    )
    rounds: int = setting(5, "Timed turns of each.", unit="turns", ge=1)
    prompts: int = setting(16, "Prompts.", unit="prompts", ge=1)
    samples: int = setting(8, "Responses to each prompt.", unit="responses", ge=2)
    prompt: int = setting(256, "Tokens of a prompt.", unit="tokens", ge=1)
    response: int = setting(64, "Tokens of a response.", unit="tokens", ge=2)
    out: str = setting("", "Also write the results to this file, as JSON; empty only prints them.")


@dataclass(frozen=True)
class Saved:
    """Processor seconds of a part, median: `shared_s` as it is, `anew_s` with every prompt computed for every response; `saved`
    of that, and `expected`: of the operations."""

    part: str
    size: str
    precision: str
    shared_s: float
    anew_s: float
    saved: float
    expected: float


def expected(part: str, shape: Shape, settings: PrefixSettings) -> float:
    """The share of the operations that goes; a backward pass costs two forward passes, so that it changes nothing."""
    count, length = settings.prompts * settings.samples, settings.prompt + settings.response
    again = settings.prompts * (settings.samples - 1) * forward(shape, [settings.prompt], 0)
    return again / forward(shape, [length] * count, 0 if part == "critic" else count * settings.response)


def measure(settings: PrefixSettings, size: str, precision: str, folder: Path) -> list[Saved]:
    """All parts with one model, in this process."""
    work = Work("sft", size, 1, precision, 0, str(folder))
    if not work.policy.exists():
        write_models(work)
    world = World(torch.device("cpu"), torch.bfloat16 if precision == "bf16" else torch.float32)
    policy, scalar, tokenizer = (
        load_policy(work.policy),
        load_scalar(work.scalar),
        load_tokenizer(work.policy),
    )
    generator = LocalGenerator(policy, tokenizer, dtype=world.dtype)
    words = range(len(SPECIAL), SHAPES[size].vocabulary)
    prompts = [
        Prompt(" ".join(f"w{words[(31 * i + k * k) % len(words)]}" for k in range(settings.prompt)))
        for i in range(settings.prompts)
    ]

    def generate(shared: bool) -> list[tuple[int, ...]]:
        given = prompts if shared else [prompt for prompt in prompts for _ in range(settings.samples)]
        sampling = Sampling(settings.response, samples=settings.samples if shared else 1)
        return [response.ids for response in generator.generate(given, sampling)]

    rows = [i for i in range(settings.prompts) for _ in range(settings.samples)]
    batch = response_batch(
        generator.generate(prompts, Sampling(settings.response, samples=settings.samples)), rows
    )
    parts: dict[str, Callable[[bool], object]] = {
        "log-probabilities": lambda shared: _no_gradient(policy, batch, world),
        "generation": generate,
        "policy, both ways": lambda shared: _both_ways(policy, batch, world),
        "critic, both ways": lambda shared: _both_ways(scalar, batch, world),
    }
    found = []
    for name, part in parts.items():
        taken: dict[bool, list[float]] = {True: [], False: []}
        for turn in range(settings.rounds + 1):
            for shared in (True, False):
                seconds = _seconds(part, shared)
                if turn:  # the first of each is to warm up
                    taken[shared].append(seconds)
        mine, anew = median(taken[True]), median(taken[False])
        share = expected(name.partition(",")[0], SHAPES[size], settings)
        found.append(Saved(name, size, precision, mine, anew, 1 - mine / anew, share))
    read, drawn = found[0], found[1]
    found[1] = replace(drawn, expected=read.expected * read.anew_s / drawn.anew_s)
    return found


def _seconds(part: Callable[[bool], object], shared: bool) -> float:
    before = batches.SHARED_SHARE
    batches.SHARED_SHARE = before if shared else 2.0  # no batch shares as much
    try:
        start = time.process_time()
        part(shared)
        return time.process_time() - start
    finally:
        batches.SHARED_SHARE = before


def _limit() -> int:
    limit: int = PPOSettings.model_fields["micro_batch_tokens"].default
    return limit


def _fresh(batch: TokenBatch) -> TokenBatch:
    """The same batch, which has not yet seen what its sequences share."""
    return batch.with_fields()


def _no_gradient(policy: PolicyModule, batch: TokenBatch, world: World) -> None:
    forward_pass(policy, lambda part: policy(part).logprobs, _fresh(batch), "tokens", _limit(), world)


def _both_ways(model: PolicyModule | ScalarModule, batch: TokenBatch, world: World) -> None:
    model.train()
    for part in _fresh(batch).split(_limit()):
        with world.autocast():
            found = model(part).logprobs if isinstance(model, PolicyModule) else model(part, "tokens")
        found.sum().backward()
    model.zero_grad()


def table(results: Sequence[Saved]) -> Table:
    shown = Table(title="A prompt once for all its responses: processor time", title_justify="left")
    shown.add_column("part", no_wrap=True)
    for name in ("as it is, ms", "each anew, ms", "saved", "arithmetic"):
        shown.add_column(name, justify="right")
    for one in results:
        shown.add_row(
            f"{one.part}, {one.size} {one.precision}",
            f"{1e3 * one.shared_s:,.0f}",
            f"{1e3 * one.anew_s:,.0f}",
            f"{one.saved:.0%}",
            f"{one.expected:.0%}",
        )
    return shown


def main(args: Sequence[str]) -> int:
    try:
        settings = load(PrefixSettings, args)
        known("size", settings.sizes, SHAPES)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="prefix-") as folder:
        results = [
            one
            for size in settings.sizes
            for precision in settings.precisions
            for one in measure(settings, size, precision, Path(folder))
        ]
    Console(width=100).print(table(results))
    if settings.out:
        write_json_atomic(Path(settings.out), {"results": [asdict(one) for one in results]})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
