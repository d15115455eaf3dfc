"""`tutelage label`: build pairs of stored responses and let the simulated panel, or a judge, vote on them.

Every vote follows from (seed, content of the pair, annotator), so a run that was killed goes on to the same votes.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.table import Table

from tutelage.evals.rows import OVERALL, Row, row, to_json
from tutelage.feedback.commands.answering import TYPES, label_items
from tutelage.feedback.commands.asked import asked_in_words, asked_rows, say_asked
from tutelage.feedback.commands.helped import Helped, helped_rows, say_helped
from tutelage.feedback.commands.voters import Panel, Single, Voters, both_of
from tutelage.feedback.training.source import responses_digest
from tutelage.files import write_json_atomic
from tutelage.judges.build import WORLD, Calls, build_judge
from tutelage.judges.inputs import note_judge
from tutelage.judges.judge import Judge, first_of_each
from tutelage.judges.llm.judge import LLMJudge
from tutelage.records import Response
from tutelage.runs import Run
from tutelage.settings.feedback import LabelSettings as Settings
from tutelage.statistics import bootstrap_mean, correct
from tutelage.store import AnnotatorRow, Pair, Store

if TYPE_CHECKING:  # a rule labels without torch
    from tutelage.parallel import World

MEASURED = 128  # pairs whose scores give a mix its units
PAIRS_AT_ONCE = 200  # pairs per transaction: what a crash makes to do again
# Of the bootstrap: enough for two digits, and the table should not take longer than the votes.
RESAMPLES = 1000
MAJORITY = "majority"  # the name of the whole panel in tables


def main(settings: Settings, world: World | None, run: Run) -> Path:
    """Label what wants votes; returns the run folder, whose `results.json` holds the numbers of the closing table.

    `world` is that of several ranks, which share the work of reward models; None on one process, where what runs a model asks
    for it itself.  Raises ValueError when the project has nothing to compare, when the panel is smaller than `votes_per_item`, or
    when the judge does not apply to a prompt.
    """
    note_judge(run, "judge", settings.judge)
    judge = build_judge(settings.judge, world, calls=Calls(settings.store, settings.project))
    if world is None:
        _ask(settings, judge, run)
        return run.folder
    from tutelage.judges.shared import led

    if asked_in_words(judge):
        raise ValueError("a language model is asked by one process: leave ranks out.")
    with led(judge, world) as asked:
        if asked is not None:
            _ask(settings, asked, run)
    return run.folder


def _ask(settings: Settings, judge: Judge, run: Run) -> None:
    """Let the judge, or the panel that sees its scores, answer what wants answers."""
    if settings.people_below and not judge.pairwise and not _marks_steps(judge):
        raise ValueError(
            f"people_below={settings.people_below:g} is for a judge that says how sure it is, and {judge.name} only says which "
            "is better: leave it out, or take a language model that compares."
        )
    if isinstance(judge, LLMJudge) and judge.template.asks in TYPES:
        source = f"store:{settings.project}"
        run.input("responses", source, responses_digest(source, settings.store))
        label_items(settings, judge, run)
        return
    if settings.set_of("responses_per_ranking"):
        raise ValueError(
            f"responses_per_ranking is for a judge with template: k-way, and {judge.name} does not rank: leave it out."
        )
    voters: Voters = Panel(settings, judge) if settings.judge == WORLD else Single(settings, judge)
    with Store(settings.store) as store:
        source = f"store:{settings.project}"
        run.input("responses", source, responses_digest(source, settings.store))
        store.build_pairs(settings.project, settings.pairs_per_prompt, voters.votes_per_item)
        voters.sign_in(store)
        if not isinstance(settings.judge, str):
            _measure_units(judge, store, settings, run)
        _label(store, settings, voters, run)
        _close(store, settings, voters, run, asked_rows(asked_in_words(judge)))


def _marks_steps(judge: Judge) -> bool:
    """Whether it answers no pairs: what it does not read is said where it answers."""
    return isinstance(judge, LLMJudge) and judge.template.asks == "steps"


def _measure_units(judge: Judge, store: Store, settings: Settings, run: Run) -> None:
    """A mix adds up what its parts say, in units that the project's first responses give where nobody knows them: those that
    have votes already among them, so that a run that goes on finds the same."""

    def first() -> list[Response]:
        pairs = store.pairs(settings.project)
        measured = first_of_each(pairs, [pair.prompt.task for pair in pairs], MEASURED)
        return [one for pair in measured for one in both_of(pair)]

    if said := judge.calibrate(first):
        run.console.print(said)


def waiting_pairs(store: Store, project: str, which: Literal["wanted", "all"]) -> list[Pair]:
    """The pairs that are put to a judge: those that want votes, or all."""
    return store.pairs(project) if which == "all" else store.unlabelled_pairs(project)


def _label(store: Store, settings: Settings, voters: Voters, run: Run) -> None:
    """Let them vote until no pair of the project wants more."""
    if not store.counts(settings.project).pairs:
        raise ValueError(
            f"project '{settings.project}' in {store.place} has no two different responses to one prompt: "
            "sample at least two per prompt, at a temperature above 0."
        )
    waiting = waiting_pairs(store, settings.project, settings.pairs)
    if settings.max_pairs:
        drawn = spread(store.pairs(settings.project), settings.max_pairs, settings.seed)
        waiting = [pair for pair in waiting if pair.item_id in drawn]
    run.begin()
    with run.progress(len(waiting), "pairs") as bar:
        voters.watch(bar)
        for start in range(0, len(waiting), PAIRS_AT_ONCE):
            some = waiting[start : start + PAIRS_AT_ONCE]
            votes = voters.votes_on(some)
            voters.leave(store, some, votes)
            store.add_votes(settings.project, votes)
            bar.advance(len(some))


def spread(pairs: Sequence[Pair], count: int, seed: int) -> set[int]:
    """Items of at most `count` of the pairs: of every prompt one, then of every prompt a second one, and so on; which ones, the
    seed says and the content of the pairs, whoever has voted on them."""
    of_prompts: dict[str, int] = defaultdict(int)
    order: list[tuple[int, int, int]] = []
    for pair in sorted(pairs, key=lambda pair: hashlib.sha256(f"{seed}/{pair.digest}".encode()).digest()):
        order.append((of_prompts[pair.prompt.id], len(order), pair.item_id))
        of_prompts[pair.prompt.id] += 1
    return {item for *_, item in sorted(order)[:count]}


def _close(store: Store, settings: Settings, voters: Voters, run: Run, asked: Sequence[Row]) -> None:
    """Say how the annotators did: a table on the screen, the same numbers in results.json and metrics.jsonl."""
    project = settings.project
    rows = store.annotator_table(project)
    gold = _gold(store, project)
    agreement = _gold_agreement(store, project, gold)
    helped = helped_rows(_helped(store, project, gold), RESAMPLES)
    counts = store.counts(project)
    left = store.left(project).get(voters.name)
    waiting = (
        []
        if left is None
        else [Row(voters.name, "waiting_for_people", OVERALL, left.waiting, n=left.items, unit="items")]
    )
    found = [*agreement.values(), *_habits(rows), *helped, *asked, *waiting]
    write_json_atomic(run.folder / "results.json", to_json(found))
    _print(rows, agreement, run)
    say_helped(helped, run)
    say_asked(asked, run)
    run.console.print(f"{counts.votes} votes on {counts.labelled_pairs} pairs, {counts.ties} of them ties.")
    if left is not None and left.waiting:
        run.console.print(
            f"{left.waiting} pairs wait for a person: {voters.name} is not sure of them, or has no verdict.",
            markup=False,
        )
    overall = agreement[MAJORITY].value if agreement else None
    totals = {"votes": counts.votes, "ties": counts.ties, "labelled_pairs": counts.labelled_pairs}
    run.log(totals if overall is None else {**totals, "gold_agreement": overall})
    run.commit(counts.votes)


def _gold(store: Store, project: str) -> dict[int, float]:
    """Pair -> by how much the second response is better by gold; without pairs that the gold standard does not know."""
    pairs = [pair for pair in store.pairs(project) if pair.voters]
    scores = iter(build_judge(WORLD).score([one for pair in pairs for one in both_of(pair)]))
    both = {pair.item_id: (next(scores), next(scores)) for pair in pairs}
    return {item: b.value - a.value for item, (a, b) in both.items() if a is not None and b is not None}


def _helped(store: Store, project: str, gold: dict[int, float]) -> list[Helped]:
    """The votes with help."""
    prompts = {pair.item_id: pair.prompt.id for pair in store.pairs(project)}
    votes = [one for one in store.votes(project) if one.vote.help is not None]
    return [Helped(one.vote, prompts[one.item_id], gold.get(one.item_id)) for one in votes]


def _gold_agreement(store: Store, project: str, gold: dict[int, float]) -> dict[str, Row]:
    """Per annotator and for the majority: the share of votes for the response that is better by gold.

    Ties, in the votes or in gold, count one half; the intervals are bootstrapped over prompts.  Empty where the gold
    standard knows none of the prompts.
    """
    if not gold:
        return {}
    pairs = {pair.item_id: pair for pair in store.pairs(project)}
    cast: dict[str, list[tuple[int, int]]] = defaultdict(list)  # name -> (pair, preference)
    totals: dict[int, int] = defaultdict(int)
    for stored in store.votes(project):
        if stored.item_id in gold:
            cast[stored.vote.annotator].append((stored.item_id, stored.vote.preference))
            totals[stored.item_id] += stored.vote.preference
    rows = {}
    for name, votes in [*sorted(cast.items()), (MAJORITY, sorted(totals.items()))]:
        margins = [gold[item] for item, _ in votes]
        second = [0.5 if preference == 0 else float(preference > 0) for _, preference in votes]
        prompts = [pairs[item].prompt.id for item, _ in votes]
        found = bootstrap_mean(correct(margins, second), prompts, rate=True, resamples=RESAMPLES)
        rows[name] = row(name, "gold_agreement", OVERALL, found, "share")
    return rows


def _habits(rows: Sequence[AnnotatorRow]) -> list[Row]:
    """The annotators' habits as tidy rows."""
    found: list[Row] = []
    for line in rows:
        ties, decided = line.ties / max(line.votes, 1), line.votes - line.ties
        found += [
            Row(line.name, "tie_rate", OVERALL, ties, n=line.votes, unit="share"),
            Row(line.name, "first_shown_rate", OVERALL, line.chose_first, n=decided, unit="share"),
            Row(line.name, "peer_agreement", OVERALL, line.agreement, n=decided, unit="share"),
        ]
    return found


def _print(rows: Sequence[AnnotatorRow], agreement: dict[str, Row], run: Run) -> None:
    table = Table(title="Annotators")
    table.add_column("annotator", overflow="fold")
    for heading in ("votes", "ties", "right by gold", "as the others", "first shown"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in rows:
        gold = agreement[line.name].value if line.name in agreement else None
        numbers = (gold, line.agreement, line.chose_first)
        table.add_row(line.name, str(line.votes), str(line.ties), *map(_percent, numbers))
    if agreement:
        table.add_row(MAJORITY, "", "", _percent(agreement[MAJORITY].value), "", "")
    run.console.print(table)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
