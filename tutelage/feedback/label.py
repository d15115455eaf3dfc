"""`tutelage label`: build pairs of stored responses and let the simulated panel vote on them.

The annotators work like people: each pair goes to `votes_per_item` of them, a side is shown first at random, and the
votes land in the store.  Who votes, what is shown first and every vote follow from (seed, content of the pair,
annotator), so a run that was killed goes on to the same votes.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from tutelage.evals.rows import OVERALL, Row, row, to_json
from tutelage.feedback.source import responses_digest
from tutelage.files import write_json_atomic
from tutelage.runs import Run
from tutelage.seeds import rng
from tutelage.settings.feedback import LabelSettings as Settings
from tutelage.statistics import bootstrap_mean, correct
from tutelage.store import AnnotatorRow, NewVote, Pair, Store
from tutelage.worlds.annotators import Annotator, panel, vote
from tutelage.worlds.gold import grade

PAIRS_AT_ONCE = 200  # pairs per transaction: what a crash makes to do again
RESAMPLES = (
    1000  # of the bootstrap: enough for two digits, and the table should not take longer than the votes
)
MAJORITY = "majority"  # the name of the whole panel in tables


def main(settings: Settings, world: None, run: Run) -> Path:
    """Label what wants votes; returns the run folder, whose `results.json` holds the numbers of the closing table.

    `world` is None: nothing here runs a model.  Raises ValueError when the project has nothing to compare, when the
    panel is smaller than `votes_per_item`, or when the gold standard cannot grade the prompts.
    """
    annotators = panel(settings.seed)
    if settings.votes_per_item > len(annotators):
        raise ValueError(
            f"votes_per_item={settings.votes_per_item}, but the panel has {len(annotators)} annotators: ask for fewer."
        )
    with Store(settings.store) as store:
        store.build_pairs(settings.project, settings.pairs_per_prompt, settings.votes_per_item)
        for annotator in annotators:
            store.add_annotator(annotator.name, "simulated", dataclasses.asdict(annotator))
        source = f"store:{settings.project}"
        run.input("responses", source, responses_digest(source, settings.store))
        _label(store, settings, annotators, run)
        _close(store, settings.project, run)
    return run.folder


def votes_on(pair: Pair, annotators: Sequence[Annotator], settings: Settings) -> list[NewVote]:
    """The votes that a pair still wants, by annotators who have not voted on it; the same on every call."""
    order = rng(settings.seed, "label", "who", pair.digest).permutation(len(annotators))
    free = [annotators[number] for number in order if annotators[number].name not in pair.voters]
    grades = gold_values(pair)
    votes = []
    for annotator in free[: settings.votes_per_item - len(pair.voters)]:
        generator = rng(settings.seed, "label", "vote", pair.digest, annotator.name)
        first_shown = int(generator.integers(2))
        cast = vote(annotator, pair.texts, grades, first_shown, generator)
        votes.append(NewVote(pair.item_id, cast, f"{settings.project}/{pair.digest}/{annotator.name}"))
    return votes


def gold_values(pair: Pair) -> tuple[float, float]:
    """The gold scores of both responses, each in [0, 1]."""
    return grade(pair.prompt, pair.texts[0]).value, grade(pair.prompt, pair.texts[1]).value


def _label(store: Store, settings: Settings, annotators: Sequence[Annotator], run: Run) -> None:
    """Let the panel vote until no pair of the project wants more."""
    if not store.counts(settings.project).pairs:
        raise ValueError(
            f"project '{settings.project}' in {store.place} has no two different responses to one prompt: "
            "sample at least two per prompt, at a temperature above 0."
        )
    waiting = store.unlabelled_pairs(settings.project)
    with run.progress(len(waiting), "pairs") as bar:
        for start in range(0, len(waiting), PAIRS_AT_ONCE):
            some = waiting[start : start + PAIRS_AT_ONCE]
            store.add_votes(
                settings.project, [new for pair in some for new in votes_on(pair, annotators, settings)]
            )
            bar.advance(len(some))


def _close(store: Store, project: str, run: Run) -> None:
    """Say how the annotators did: a table on the screen, the same numbers in results.json and metrics.jsonl."""
    rows = store.annotator_table(project)
    agreement = _gold_agreement(store, project)
    counts = store.counts(project)
    write_json_atomic(run.folder / "results.json", to_json([*agreement.values(), *_habits(rows)]))
    _print(rows, agreement, run)
    run.console.print(f"{counts.votes} votes on {counts.labelled_pairs} pairs, {counts.ties} of them ties.")
    overall = agreement[MAJORITY].value
    totals = {"votes": counts.votes, "ties": counts.ties, "labelled_pairs": counts.labelled_pairs}
    run.log(totals if overall is None else {**totals, "gold_agreement": overall})
    run.commit(counts.votes)


def _gold_agreement(store: Store, project: str) -> dict[str, Row]:
    """Per annotator and for the majority: the share of votes for the response that is better by gold.

    Ties, in the votes or in gold, count one half; the intervals are bootstrapped over prompts.
    """
    graded = (pair for pair in store.pairs(project) if pair.voters and pair.prompt.reference is not None)
    pairs = {pair.item_id: pair for pair in graded}  # turns of chats have no reference to be graded by
    gold = {
        item: values[1] - values[0]
        for item, values in ((item, gold_values(pair)) for item, pair in pairs.items())
    }
    cast: dict[str, list[tuple[int, int]]] = defaultdict(list)  # name -> (pair, preference)
    totals: dict[int, int] = defaultdict(int)
    for stored in store.votes(project):
        if stored.item_id in pairs:
            cast[stored.vote.annotator].append((stored.item_id, stored.vote.preference))
            totals[stored.item_id] += stored.vote.preference
    rows = {}
    for name, votes in [*sorted(cast.items()), (MAJORITY, sorted(totals.items()))]:
        margins = [gold[item] for item, _ in votes]
        second = [0.5 if preference == 0 else float(preference > 0) for _, preference in votes]
        prompts = [pairs[item].prompt.id for item, _ in votes]
        found = bootstrap_mean(correct(margins, second), prompts, resamples=RESAMPLES)
        rows[name] = row(name, "gold_agreement", OVERALL, found, "share")
    return rows


def _habits(rows: Sequence[AnnotatorRow]) -> list[Row]:
    """The annotators' habits as tidy rows."""
    found = []
    for line in rows:
        decided = line.votes - line.ties
        found.append(Row(line.name, "tie_rate", OVERALL, line.ties / line.votes, n=line.votes, unit="share"))
        found.append(Row(line.name, "first_shown_rate", OVERALL, line.chose_first, n=decided, unit="share"))
        found.append(Row(line.name, "peer_agreement", OVERALL, line.agreement, n=decided, unit="share"))
    return found


def _print(rows: Sequence[AnnotatorRow], agreement: dict[str, Row], run: Run) -> None:
    table = Table(title="Annotators")
    table.add_column("annotator")
    for heading in ("votes", "ties", "agrees with gold", "with the others", "chose the first shown"):
        table.add_column(heading, justify="right")
    for line in rows:
        numbers = (agreement[line.name].value, line.agreement, line.chose_first)
        table.add_row(line.name, str(line.votes), str(line.ties), *map(_percent, numbers))
    table.add_row(MAJORITY, "", "", _percent(agreement[MAJORITY].value), "", "")
    run.console.print(table)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
