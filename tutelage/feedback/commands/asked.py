"""What judges that are asked in words have answered and cost, as `label` says it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import fmean

from tutelage.evals.rows import OVERALL, Row
from tutelage.judges.judge import Judge
from tutelage.judges.llm.judge import LLMJudge
from tutelage.runs import Bar, Run


def asked_in_words(judge: Judge) -> list[LLMJudge]:
    """The language models in a judge: itself, or those that it mixes."""
    return [one for one in (judge, *judge.judges) if isinstance(one, LLMJudge)]


class Answered:
    """Questions that have an answer, as they come in, beside a progress bar."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._count, self._started = bar, 0, time.monotonic()

    def __call__(self, count: int) -> None:
        self._count += count
        rate = self._count / max(time.monotonic() - self._started, 1e-9)
        self._bar.advance(0, f"{self._count:,} answers, {rate:,.1f}/s")


def asked_rows(judges: Sequence[LLMJudge]) -> list[Row]:
    """What the answers of judges that are asked in words were like, and what they have cost in this project."""
    return [row for judge in judges for row in _rows(judge)]


def _rows(judge: LLMJudge) -> list[Row]:
    tally, spent = judge.tally, judge.asker.spent()
    of = {
        "unparsed_rate": tally.answers,
        "repaired_rate": tally.answers,
        "flip_rate": tally.pairs,
        "first_position_rate": tally.decided,
    }
    rows = [
        Row(judge.name, name, OVERALL, value, n=of[name], unit="share")
        for name, value in tally.figures.items()
    ]
    rows += [
        Row(judge.name, "criterion_mean", criterion, fmean(given), n=len(given), unit="points")
        for criterion, given in tally.scores.items()
    ]
    counts = {
        "questions": (spent.asked, "questions"),
        "lost_questions": (spent.lost, "questions"),
        "prompt_tokens": (spent.prompt_tokens, "tokens"),
        "completion_tokens": (spent.completion_tokens, "tokens"),
        "judge_cost": (spent.cost, "money"),
    }
    return rows + [
        Row(judge.name, name, OVERALL, float(value), n=spent.asked, unit=unit)
        for name, (value, unit) in counts.items()
    ]


def say_asked(rows: Sequence[Row], run: Run) -> None:
    """The same in two sentences for each judge."""
    for name in dict.fromkeys(row.model for row in rows):
        mine = [row for row in rows if row.model == name]
        _say(name, {row.metric: row.value or 0.0 for row in mine if row.task == OVERALL}, run)
        if means := [f"{row.value:.2f} by {row.task}" for row in mine if row.metric == "criterion_mean"]:
            run.console.print(f"Mean scores: {', '.join(means)}.", markup=False, highlight=False)


def _say(name: str, said: Mapping[str, float], run: Run) -> None:
    shares = [f"{said[metric]:.0%} {words}" for metric, words in ASKED.items() if metric in said]
    run.console.print(
        f"{name}: {said['questions']:,.0f} questions so far, {said['prompt_tokens']:,.0f} tokens sent and "
        f"{said['completion_tokens']:,.0f} received, cost {said['judge_cost']:.4g}. In this run: "
        f"{', '.join(shares) or 'nothing new'}.",
        markup=False,
        highlight=False,
    )


ASKED = {
    "unparsed_rate": "of the answers without a verdict",
    "repaired_rate": "with one when asked again",
    "flip_rate": "of the pairs judged otherwise in the other order",
    "first_position_rate": "of the verdicts for what was shown first",
}
