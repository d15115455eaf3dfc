"""`python -m benchmarks.verifiers [key=value ...]`: what verifying answers takes, beside what generating them takes.

Each verifier gets as many answers as asked for, all different, half of them right: `verify:numeric` the last number of a text,
`verify:maths` formulas of which a quarter need algebra, `verify:code` functions with three asserts, each in processes of its own.
Models of 1 M and 10 M parameters generate answers of 64 tokens; a part of them is timed, and reckoned up.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.models import write_models
from benchmarks.settings import DEFAULT_SIZES, known
from benchmarks.work import SHAPES, SPECIAL, Work
from tutelage.files import write_json_atomic
from tutelage.judges.judge import Judge
from tutelage.judges.verify.build import verifier
from tutelage.models.loading import load_policy, load_tokenizer
from tutelage.models.precision import choose
from tutelage.parallel import keep_freed_memory
from tutelage.records import Prompt, Response
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.settings.base import Settings, load, setting
from tutelage.settings.rules import CodeOptions, MathsOptions, NumericOptions

TOKENS = 64


class VerifierBenchSettings(Settings):
    """What to time."""

    answers: int = setting(10_000, "Answers to each verifier.", unit="answers", ge=4)
    generated: int = setting(1_024, "Answers that are generated, of each size.", unit="answers", ge=1)
    sizes: list[str] = setting(DEFAULT_SIZES, "Sizes of the model: XS, S (1 M), M (10 M parameters).")
    out: str = setting("", "Also write the results to this file, as JSON; empty only prints them.")


@dataclass(frozen=True)
class Rate:
    """`per_s` answers a second, of `count` that were timed; `right`: the share that was found right, None for a generator."""

    what: str
    count: int
    per_s: float
    right: float | None


def number(i: int) -> tuple[str, dict[str, Any]]:
    said = 3 * i + i % 2
    return f"There are {i} boxes with 3 apples each, which makes 3 x {i} = {said}.\n#### {said}", {
        "answer": str(3 * i)
    }


def formula(i: int) -> tuple[str, dict[str, Any]]:
    wrong = i % 2
    if i % 8 < 2:  # algebra: neither the text nor a number decides
        return rf"So the answer is $\boxed{{(x+{i})^2 - x^2 + {wrong}}}$.", {"answer": f"{2 * i}x + {i * i}"}
    return rf"So the answer is $\boxed{{\frac{{{i}}}{{{2 * i + wrong}}}}}$.", {"answer": r"\frac{1}{2}"}


def function(i: int) -> tuple[str, dict[str, Any]]:
    code = f"def f(numbers):\n    found = {i % 2}\n    for n in numbers:\n        found += n * {i}\n    return found"
    tests = [f"assert f([1, 2]) == {3 * i}", "assert f([]) == 0", f"assert f([{i}]) == {i * i}"]
    return f"Here it is:\n```python\n{code}\n```\n", {"tests": tests}


KINDS: dict[str, tuple[Settings, Callable[[int], tuple[str, dict[str, Any]]]]] = {
    "verify:numeric": (NumericOptions(), number),
    "verify:maths": (MathsOptions(), formula),
    "verify:code": (CodeOptions(), function),
}


def answers(kind: str, count: int) -> list[Response]:
    """Different answers, every second one right."""
    made = (KINDS[kind][1](i) for i in range(2, count + 2))
    return [
        Response(
            Prompt("?", reference=reference), text, prompt_ids=(1,), ids=(1,), logprobs=(0.0,), finish="eos"
        )
        for text, reference in made
    ]


def verify(kind: str, count: int) -> Rate:
    judge: Judge = verifier(kind, KINDS[kind][0])
    judge.score(answers(kind, 4))  # helpers start
    given = answers(kind, count)
    start = time.perf_counter()
    scores = judge.score(given)
    seconds = time.perf_counter() - start
    right = sum(score is not None and score.value == 1 for score in scores) / count
    return Rate(kind, count, count / seconds, right)


def generate(size: str, count: int, folder: Path) -> Rate:
    work = Work("generation", size, 1, "fp32", 0, str(folder))
    if not work.policy.exists():
        write_models(work)
    dtype = choose("auto").dtype
    generator = LocalGenerator(load_policy(work.policy), load_tokenizer(work.policy), dtype=dtype)
    prompts = [
        Prompt(" ".join(f"w{len(SPECIAL) + (i * k + k * k) % 200}" for k in range(32))) for i in range(count)
    ]
    generator.generate(prompts[:64], Sampling(TOKENS))
    start = time.perf_counter()
    generator.generate(prompts, Sampling(TOKENS))
    precision = "bf16" if dtype == torch.bfloat16 else "fp32"
    return Rate(f"generation, {size} {precision}", count, count / (time.perf_counter() - start), None)


def table(rates: Sequence[Rate]) -> Table:
    shown = Table(title="Answers verified, and generated", title_justify="left")
    shown.add_column("what")
    for name in ("answers timed", "answers/s", "10,000 take, s", "found right"):
        shown.add_column(name, justify="right")
    for rate in rates:
        right = "" if rate.right is None else f"{rate.right:.0%}"
        shown.add_row(rate.what, f"{rate.count:,}", f"{rate.per_s:,.0f}", f"{1e4 / rate.per_s:,.1f}", right)
    return shown


def main(args: Sequence[str]) -> int:
    try:
        settings = load(VerifierBenchSettings, args)
        known("size", settings.sizes, SHAPES)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    keep_freed_memory()
    rates = [verify(kind, settings.answers) for kind in KINDS]
    with tempfile.TemporaryDirectory(prefix="verifiers-") as folder:
        rates += [generate(size, settings.generated, Path(folder)) for size in settings.sizes]
    Console(width=100).print(table(rates))
    if settings.out:
        write_json_atomic(Path(settings.out), {"results": [asdict(rate) for rate in rates]})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
