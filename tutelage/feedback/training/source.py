"""`data=store:PROJECT`, or a list of them: rows for trainers from the store, where file names could stand."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Generic, Literal, TypeGuard, TypeVar

from tutelage.feedback.training import refined as refinements
from tutelage.feedback.training.consensus import BySkill, Skill, fit_skill
from tutelage.feedback.training.habits import Habits, told
from tutelage.feedback.training.kept import Keeper
from tutelage.feedback.training.refined import REDACTED as REDACTED
from tutelage.feedback.training.refined import Lesson
from tutelage.records import Comparison, Demonstration, Labelled, Place, Rating, StepMarks
from tutelage.settings.groups import Aggregation as Aggregation
from tutelage.settings.groups import RefinedPairs, RefinedRows
from tutelage.store import Store, Ties, VotedPair
from tutelage.store.aggregate import NoRow, comparison_of
from tutelage.store.comparing import stream_voted_pairs, stream_written
from tutelage.store.current import any_settled
from tutelage.store.generations import response_digests
from tutelage.store.origins import pseudonyms
from tutelage.store.rows import is_held_out

R = TypeVar("R", bound=Comparison | Demonstration | StepMarks | Labelled | Rating)
Settled = Literal["majority", "all", "adjudicated"] | BySkill
PREFIX = "store:"
KINDS = ("human", "simulated", "judge", "rule")
Pairs = Callable[[], Iterable[VotedPair]]  # all pairs, always the same, as often as they are wanted


def is_store_source(data: object) -> TypeGuard[str | list[str]]:
    """Whether a `data=` value names a project in the store, or several of them in a list, instead of files.

    Raises ValueError for a list of both.
    """
    if isinstance(data, list) and any(map(is_store_source, data)):
        file = next((part for part in data if not is_store_source(part)), None)
        if file is not None:
            raise ValueError(
                f"data mixes the store with {file}: export the project with `feedback export`, and list files only."
            )
        return True
    return isinstance(data, str) and data.startswith(PREFIX)


def projects_of(source: str | list[str]) -> list[str]:
    """The parts of a source in the store, each `store:PROJECT`.  Raises ValueError for one that stands there twice."""
    parts = [source] if isinstance(source, str) else source
    twice = next((part for part in parts if parts.count(part) > 1), None)
    if twice:
        raise ValueError(f"data has {twice} twice: a project counts once, so leave the other out.")
    return parts


@dataclass(frozen=True)
class StoreRows(Generic[R]):
    """What a project holds for trainers: rows to train on, rows of held-out splits, and what gives no row, by reason; the
    annotators' habits, where they were taken out.  Many rows lie in a file (`kept`), and are read when they are asked for."""

    train: Sequence[R] = field(default_factory=list)
    held_out: Sequence[R] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    habits: tuple[Habits, ...] = ()

    @property
    def rows(self) -> list[R]:
        """All rows, in memory."""
        return [*self.train, *self.held_out]

    @property
    def digest(self) -> str:
        """A hash (sha256, hex) of them."""
        return _sha256(map(_content, itertools.chain(self.train, self.held_out)))


def chosen_aggregation(aggregation: Aggregation, any_settled: bool) -> Settled:
    """What `auto` is: `adjudicated` once somebody has settled a conflict in the project, else `majority`."""
    if aggregation == "auto":
        return "adjudicated" if any_settled else "majority"
    return aggregation


def skill_of(pairs: Pairs, aggregation: Settled) -> Skill | None:
    """What all votes together say of those who gave them, where a row depends on that; None where each pair speaks for itself."""
    if aggregation == "majority" or aggregation == "all" or aggregation == "adjudicated":
        return None
    return fit_skill(pairs(), aggregation)


def aggregated(
    pairs: Iterable[VotedPair], aggregation: Settled, ties: Ties, skill: Skill | None
) -> Iterator[tuple[VotedPair, Comparison | NoRow]]:
    """Each pair with its row, or why it has none; see `Store.comparisons`.  `skill`: of the same pairs in the same order."""
    for number, pair in enumerate(pairs):
        if aggregation == "majority" or aggregation == "all" or aggregation == "adjudicated":
            yield pair, comparison_of(pair, aggregation, ties)
        else:
            assert skill is not None, "what goes by skill has one"
            yield pair, skill.row(number, pair, ties)


def sorted_out(rows: Iterable[tuple[str, R | str]]) -> StoreRows[R]:
    """(split, a row or why there is none) as rows to train on and rows held out."""
    train, held_out, left_out = Keeper[R](), Keeper[R](), Counter[str]()
    for split, row in rows:
        if isinstance(row, str):
            left_out[row] += 1
        else:
            (held_out if is_held_out(split) else train).add(row)
    return StoreRows(train.rows(), held_out.rows(), dict(left_out))


def wanted_of(there: Collection[str], annotators: Sequence[str], kinds: Mapping[str, str]) -> set[str]:
    """Those of the names `there` that are meant by names or kinds.  Raises ValueError for a name that is not there."""
    for name in annotators:
        if name not in there and name not in KINDS:
            near = difflib.get_close_matches(name, there, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"give names, or {', '.join(KINDS)}."
            raise ValueError(f"annotators={name}: nobody of that name has voted here: {hint}")
    return {name for name in there if name in annotators or kinds[name] in annotators}


def voted_by(pairs: Iterable[VotedPair], wanted: Collection[str]) -> Iterator[VotedPair]:
    """The pairs with the votes of some annotators only, those without any left out."""
    for pair in pairs:
        votes = tuple(vote for vote in pair.votes if vote.annotator in wanted)
        if votes:
            yield replace(pair, votes=votes)


def comparisons_from(
    source: str | list[str],
    store: str | Path,
    aggregation: Aggregation = "auto",
    ties: Ties = "keep",
    annotators: Sequence[str] = (),
    groups: Mapping[str, Sequence[str]] | Literal["each"] | None = None,
    refined: RefinedPairs = "none",
) -> StoreRows[Comparison]:
    """The comparisons of `store:PROJECT`: everything that was compared in it (`Store.voted_pairs`), aggregated, and what its
    refinements give (`refined`).

    Those of several projects stand one behind the other, each with its project as its place.  `annotators`: those whose word
    counts, by names or kinds; none given are all.  `groups`: name -> annotators; the votes of each are aggregated by themselves,
    and each gives rows of its own; each: everybody is a group.  Raises ValueError when the store does not exist, the project is
    not in it, or nothing in it can be trained on (yet).
    """
    if isinstance(source, list):
        parts = projects_of(source)
        return joined(
            parts,
            [comparisons_from(part, store, aggregation, ties, annotators, groups, refined) for part in parts],
        )
    if groups:
        named = each_voter(source, store) if groups == "each" else groups
        return _by_group(source, store, aggregation, ties, named, refined)
    with opened_at(source, store) as (opened, project):
        kinds = opened.annotator_kinds()
        with opened.reading(project) as (connection, key):
            pairs: Pairs = partial(stream_voted_pairs, connection, key)
            lessons = refinements.pairs(connection, key, refined)
            if annotators:
                pairs, lessons = _said_by(source, pairs, lessons, annotators, kinds)
            how = chosen_aggregation(aggregation, any_settled(connection, key))
            skill, gone = skill_of(lambda: _readable(pairs(), Counter()), how), Counter[str]()
            rows = aggregated(_readable(pairs(), gone), how, ties, skill)
            taught = ((one.split, one.row) for one in lessons)
            found: StoreRows[Comparison] = sorted_out(
                itertools.chain(((pair.split, row) for pair, row in rows), taught)
            )
    found = replace(found, left_out=dict(gone + Counter(found.left_out)))
    nobody = f"project '{project}' in {store} has no labelled pairs yet: run `label` first"
    require_rows(found, source, nobody)
    if skill is None or not (how == "habit-bt" or how == "habit-bt-length"):
        return found
    return replace(found, habits=told(skill.habits, how, pseudonyms(kinds), project))


def _readable(pairs: Iterable[VotedPair], gone: Counter[str]) -> Iterator[VotedPair]:
    """The pairs whose texts are there; `gone` counts the others."""
    for pair in pairs:
        if pair.redacted:
            gone[REDACTED] += 1
        else:
            yield pair


def _said_by(
    source: str,
    pairs: Pairs,
    lessons: list[Lesson[Comparison]],
    annotators: Sequence[str],
    kinds: Mapping[str, str],
) -> tuple[Pairs, list[Lesson[Comparison]]]:
    """The pairs with the votes of some annotators only, and what refinements teach by their word."""
    there = {vote.annotator for pair in pairs() for vote in pair.votes} | {
        one.by for one in lessons if one.by
    }
    if not there:
        return pairs, []
    wanted = wanted_of(there, annotators, kinds)
    taught = [one for one in lessons if one.by in wanted]
    if not wanted:
        raise ValueError(f"data={source}: none of annotators={','.join(annotators)} has voted in it yet.")
    return lambda: voted_by(pairs(), wanted), taught


def _by_group(
    source: str,
    store: str | Path,
    aggregation: Aggregation,
    ties: Ties,
    groups: Mapping[str, Sequence[str]],
    refined: RefinedPairs,
) -> StoreRows[Comparison]:
    """What each group of annotators prefers, one behind the other."""
    empty = next((name for name, names in groups.items() if not names), None)
    if empty is not None:
        raise ValueError(
            f"groups={{{empty}: []}}: who is in it? With data={source} list its annotators, or their kinds."
        )
    train, held_out, left_out = Keeper[Comparison](), Keeper[Comparison](), Counter[str]()
    habits = list[Habits]()
    for name, names in groups.items():
        found = comparisons_from(source, store, aggregation, ties, names, refined=refined)
        habits += [replace(one, group=name) for one in found.habits]
        for keeper, rows in ((train, found.train), (held_out, found.held_out)):
            for row in rows:
                keeper.add(replace(row, group=name))
        left_out.update(found.left_out)
    return StoreRows(train.rows(), held_out.rows(), dict(left_out), tuple(habits))


def each_voter(source: str | list[str], store: str | Path) -> dict[str, list[str]]:
    """Everybody who has voted in the projects, by name, each alone in a group.  Raises ValueError as `comparisons_from` does."""
    voters: set[str] = set()
    for part in projects_of(source):
        with (
            opened_at(part, store) as (opened, project),
            opened.reading(project) as (connection, key),
        ):
            pairs = stream_voted_pairs(connection, key)
            voters |= {vote.annotator for pair in pairs for vote in pair.votes}
    return {name: [name] for name in sorted(voters)}


def demonstrations_from(
    source: str | list[str], store: str | Path, refined: RefinedRows = "none", preferred: bool = False
) -> StoreRows[Demonstration]:
    """The demonstrations and rewrites that people wrote in `store:PROJECT`, or in several, what refinements give (`refined`),
    and the better responses of what was compared (`preferred`).

    Raises ValueError when the store does not exist, the project is not in it, or nothing in it can be trained on (yet).
    """
    if isinstance(source, list):
        parts = projects_of(source)
        lessons = [_lessons(part, store, refined) for part in parts]
        # What a refiner is told names the problem, but is another prompt: the problem is what is held out.
        kept = {one.problem for some in lessons for one in some if is_held_out(one.split)}
        found = [
            _written(part, some, store, kept, preferred) for part, some in zip(parts, lessons, strict=True)
        ]
        return joined(parts, found)
    return _written(source, _lessons(source, store, refined), store, preferred=preferred)


def _lessons(source: str, store: str | Path, refined: RefinedRows) -> list[Lesson[Demonstration]]:
    with (
        opened_at(source, store) as (opened, project),
        opened.reading(project) as (connection, key),
    ):
        return list(refinements.demonstrations(connection, key, refined))


def _written(
    source: str,
    lessons: Sequence[Lesson[Demonstration]],
    store: str | Path,
    kept: Collection[str] = (),
    preferred: bool = False,
) -> StoreRows[Demonstration]:
    """What people wrote in a project, what they preferred there, and what its refinements teach; of problems that are `kept` for
    evaluation, held out."""
    with (
        opened_at(source, store) as (opened, project),
        opened.reading(project) as (connection, key),
    ):

        def own() -> Iterator[tuple[str, Demonstration | str]]:
            for row in stream_written(connection, key):
                yield row.item.split, REDACTED if row.redacted else row.demonstration
            for pair in stream_voted_pairs(connection, key) if preferred else ():
                yield pair.split, _better(pair)

        taught = ((one.split, one.row) for one in lessons)
        found: StoreRows[Demonstration] = sorted_out(itertools.chain(own(), taught))
        nobody = f"nobody has rewritten or written a response in project '{project}' of {store} yet"
        require_rows(found, source, f"{nobody}: build items of type rewrite and let people answer them")
        if not kept:
            return found
        taught = ((one.split, one.row) for one in refinements.held_out(lessons, kept))
        return sorted_out(itertools.chain(own(), taught))


def _better(pair: VotedPair) -> Demonstration | str:
    """The response that more people preferred, or what was settled, as a demonstration; why there is none."""
    if pair.redacted:
        return REDACTED
    row = comparison_of(pair, "majority" if pair.settled is None else "adjudicated", "drop")
    return row if isinstance(row, str) else Demonstration(row.prompt, row.chosen, row.chosen_finish)


def joined(parts: Sequence[str], found: Sequence[StoreRows[R]]) -> StoreRows[R]:
    """The rows of several projects, each with its place; a prompt that one of them holds out is held out of all."""

    prompts = {row.prompt.id for one in found for row in one.held_out}
    train, held_out, leaks = Keeper[R](), Keeper[R](), Keeper[R]()
    for part, one in zip(parts, found, strict=True):
        for number, row in enumerate(one.train, 1):
            (leaks if row.prompt.id in prompts else train).add(replace(row, place=Place(part, number, "row")))
        for number, row in enumerate(one.held_out, 1):
            held_out.add(replace(row, place=Place(part, number, "row")))
    for row in leaks:
        held_out.add(row)
    left_out: Counter[str] = Counter()
    for one in found:
        left_out.update(one.left_out)
    habits = tuple(habits for one in found for habits in one.habits)
    return StoreRows(train.rows(), held_out.rows(), dict(left_out), habits)


def require_rows(found: StoreRows[R], source: str, nothing: str) -> None:
    if found.train:
        return
    if found.held_out:
        raise ValueError(
            f"data={source}: all {len(found.held_out)} rows are of held-out splits, which are not trained on: label "
            "prompts of the split 'train', too."
        )
    if found.left_out:
        why = ", ".join(f"{number} {reason}" for reason, number in sorted(found.left_out.items()))
        raise ValueError(
            f"data={source}: nothing that can be trained on ({why}): settle disputes, or label more."
        )
    raise ValueError(f"data={source}: {nothing}.")


def comparisons_digest(
    source: str | list[str],
    store: str | Path,
    aggregation: Aggregation = "auto",
    ties: Ties = "keep",
    annotators: Sequence[str] = (),
    groups: Mapping[str, Sequence[str]] | Literal["each"] | None = None,
    refined: RefinedPairs = "none",
) -> str | None:
    """The `digest` of what `comparisons_from` returns; None where it would raise."""
    with suppress(ValueError):
        return comparisons_from(source, store, aggregation, ties, annotators, groups, refined).digest
    return None


def demonstrations_digest(
    source: str | list[str], store: str | Path, refined: RefinedRows = "none", preferred: bool = False
) -> str | None:
    """The `digest` of what `demonstrations_from` returns; None where it would raise."""
    with suppress(ValueError):
        return demonstrations_from(source, store, refined, preferred).digest
    return None


def responses_digest(source: str, store: str | Path) -> str | None:
    """A hash (sha256, hex) of the prompts and responses that `store:PROJECT` holds; None without store or project."""
    with (
        suppress(ValueError),
        opened_at(source, store) as (opened, project),
        opened.reading(project) as (connection, key),
    ):
        return _sha256(response_digests(connection, key))
    return None


@contextmanager
def opened_at(source: str, store: str | Path) -> Iterator[tuple[Store, str]]:
    """The store and the project that a source names, without making a store where there is none."""
    assert is_store_source(source)
    project = source.removeprefix(PREFIX)
    if not project:
        raise ValueError(f"data={source} names no project: write store:PROJECT.")
    if "://" not in str(store) and not Path(store).expanduser().exists():
        raise ValueError(
            f"data={source}: there is no store at {store}: set store= to the file that `label` wrote."
        )
    with Store(store, migrate=False) as opened:
        yield opened, project


def _content(row: Comparison | Demonstration | StepMarks | Labelled | Rating) -> list[object]:
    if isinstance(row, Labelled):
        return [row.prompt.id, row.response, row.good, row.finish]
    if isinstance(row, Rating):
        return [row.prompt.id, row.response, dict(row.values), row.annotator, row.finish]
    if isinstance(row, StepMarks):
        return [
            row.prompt.id,
            row.steps,
            row.labels,
            row.finish,
            *([] if row.outcome is None else [row.outcome]),
        ]
    if isinstance(row, Demonstration):
        return [row.prompt.id, row.response, row.finish]
    sides = (row.chosen, row.chosen_finish, row.rejected, row.rejected_finish)
    return [row.prompt.id, *sides, row.p_chosen, row.margin, row.weight, row.group]


def _sha256(rows: Iterable[object]) -> str:
    """Of a list of them as JSON, without making the list."""
    hash = hashlib.sha256(b"[")
    for number, row in enumerate(rows):
        hash.update(f"{', ' if number else ''}{json.dumps(row, ensure_ascii=False)}".encode())
    hash.update(b"]")
    return hash.hexdigest()
