"""`tutelage judge cost`: what a judge that is asked in words has cost, and what the rest would; nothing is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from tutelage.feedback.commands.answering import TYPES, calls_about, waiting_items
from tutelage.feedback.commands.asked import asked_in_words
from tutelage.feedback.commands.label import waiting_pairs
from tutelage.feedback.commands.voters import both_of
from tutelage.judges.build import Calls, build_judge
from tutelage.judges.llm.asking import Call, Prices
from tutelage.judges.llm.judge import LLMJudge
from tutelage.settings.feedback import JudgeCostSettings as Settings
from tutelage.store import Spent, Store

LETTERS = 4.0  # bytes of a token of English text, until the endpoint has counted some


@dataclass(frozen=True)
class Estimate:
    """Of `questions` without an answer: tokens sent and received, and money, as they are likely; `most`: what they cannot
    exceed, each asked once more where its answer cannot be read."""

    questions: int
    sent: float
    received: float
    cost: float
    most: float


def main(settings: Settings, console: Console) -> None:
    """Print both.  Raises ValueError for a judge that is not asked in words."""
    judge = build_judge(settings.judge, calls=Calls(settings.store, settings.project))
    if not isinstance(judge, LLMJudge):
        if asked := asked_in_words(judge):
            names = ", ".join(one.name for one in asked)
            raise ValueError(
                f"{judge.name} is several judges, and one is counted at a time: give each that is asked in words alone ({names})."
            )
        raise ValueError(
            f"{judge.name} is not asked in words and costs nothing: give a judge whose name begins with llm:."
        )
    wanted, calls = _wanted(settings, judge)
    known = judge.asker.known(calls)
    spent = judge.asker.spent()
    new = [call for call in calls if call.key(judge.asker.model) not in known]
    repairs = judge.options.repair and judge.options.mode == "text"
    found = estimated(new, spent, judge.asker.prices, repairs)
    for line in _said(settings, judge, wanted, len(calls), found, spent):
        console.print(line, markup=False, highlight=False)


def _said(
    settings: Settings, judge: LLMJudge, wanted: str, calls: int, found: Estimate, spent: Spent
) -> list[str]:
    """Both in sentences; `wanted` is to be judged by so many `calls`, of which those in `found` have no answer."""
    say = [
        f"{judge.name} in project {settings.project}: {spent.answered:,} answers so far, {spent.prompt_tokens:,} tokens sent, "
        f"{spent.completion_tokens:,} received, cost {spent.cost:.4g}.",
        f"{wanted} to judge, {calls:,} questions, {calls - found.questions:,} of them answered already.",
    ]
    if found.questions:
        say.append(
            f"The other {found.questions:,}: about {found.sent:,.0f} tokens sent and {found.received:,.0f} received, cost about "
            f"{found.cost:.4g}, never more than {found.most:.4g}."
        )
    if (limit := judge.asker.prices.most) is not None:
        left = max(limit - spent.cost - spent.open_cost, 0.0)
        short = ": likely too little for the rest" if found.cost > left else ""
        say.append(f"Of max_cost={limit:g}, {left:.4g} is left{short}.")
    if spent.refused:
        say.append(f"{spent.refused:,} questions the endpoint has refused to answer.")
    if spent.lost:
        say.append(
            f"{spent.lost:,} questions were on their way when a process died; the endpoint may have charged them."
        )
    if not (judge.options.price_in or judge.options.price_out):
        say.append("Without price_in and price_out nothing costs anything: give them in the judge's options.")
    return say


def _wanted(settings: Settings, judge: LLMJudge) -> tuple[str, list[Call]]:
    """What `label` would put to the judge, in words, and all questions about it."""
    type = TYPES.get(judge.template.asks)
    with Store(settings.store) as store:
        if type is None:
            store.build_pairs(settings.project, settings.pairs_per_prompt, 1)
            waiting = waiting_pairs(store, settings.project, settings.pairs)
            pairs = [both_of(pair) for pair in waiting if judge.name not in pair.voters]
            return f"{len(pairs):,} pairs", judge.calls_for(pairs)
        if type == "rank":
            store.build_rankings(settings.project, settings.responses_per_ranking)
        items = waiting_items(store, settings, type, judge.name)
        return f"{len(items):,} items", calls_about(store, settings.project, judge, items)


def estimated(calls: Sequence[Call], spent: Spent, prices: Prices, repair: bool) -> Estimate:
    """What questions are likely to come to, by what this judge's have come to so far; four bytes a token until there are some."""
    sent = sum(len(message["content"].encode()) / LETTERS for call in calls for message in call.messages)
    received = len(calls) * (spent.completion_tokens / spent.answered if spent.answered else _expected(calls))
    twice = 2 if repair else 1
    most = sum(
        prices.of(call.longest, call.limit)
        + (twice - 1) * prices.of(call.longest + 5 * call.limit + 256, call.limit)
        for call in calls
    )
    return Estimate(len(calls), sent, received, prices.of(round(sent), round(received)), most)


def _expected(calls: Sequence[Call]) -> float:
    """Tokens of an answer of which nothing is known yet: half of what it may have."""
    return sum(call.limit for call in calls) / (2 * len(calls)) if calls else 0.0
