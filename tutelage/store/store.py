"""The store: one method per question asked.

    with Store("runs/store.sqlite") as store:
        store.add_prompts("main", prompts)
        ...
        rows = store.comparisons("main")

Every method is one transaction: what it wrote is on disk when it returns.  Adding is idempotent, so a command that
was stopped anywhere is simply run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from tutelage.records import Comparison, Demonstration, Help, Prompt, Response
from tutelage.store.aggregate import Aggregation, Ties, comparison_of
from tutelage.store.calls import (
    Answer,
    Question,
    Spent,
    insert_answers,
    insert_questions,
    keep_budget,
    read_answers,
    read_spent,
)
from tutelage.store.comparing import Written, read_voted_pairs, read_written
from tutelage.store.current import any_settled
from tutelage.store.database import Database
from tutelage.store.generations import insert_generation_run, insert_prompts, insert_responses
from tutelage.store.helping import helped_items, insert_help_of_items
from tutelage.store.leaving import Left, ask_for_people, insert_left, read_left
from tutelage.store.pairing import insert_pairs, insert_rankings, pair_query, read_pairs
from tutelage.store.rows import (
    AnnotatorRow,
    Counts,
    ModelInfo,
    NewVote,
    Pair,
    StoredVote,
    Unsure,
    VotedPair,
    is_held_out,
)
from tutelage.store.schema import Annotation, Annotator, Item, Project, PromptRow, ResponseRow
from tutelage.store.sentences import BUSY_SECONDS
from tutelage.store.sql import insert_one, lock_project, project_id
from tutelage.store.tables import annotator_rows
from tutelage.store.voting import insert_votes, read_votes


class Store:
    """A feedback database.  `address`: path of an SQLite file (made if missing), or a database URL.

    `busy_seconds` is how long a statement waits for another process; `migrate=False` is for who only reads (see
    `Database`).  Raises ValueError with one sentence when the
    address is no database of ours, a damaged or a locked one, or one of a newer version.
    """

    def __init__(
        self, address: str | Path, busy_seconds: float = BUSY_SECONDS, *, migrate: bool = True
    ) -> None:
        self._database = Database(address, busy_seconds, migrate=migrate)
        self.place = self._database.place

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    # prompts and responses -------------------------------------------------------------------------------------

    def add_prompts(self, project: str, prompts: Iterable[Prompt], split: str = "train") -> int:
        """Add prompts to a project (made if missing); returns how many are new.

        Raises ValueError when a prompt is already there in another split: it would leak into evaluation.
        """
        with self._database.write() as connection:
            project_key = lock_project(connection, project, self.place, create=True)
            return insert_prompts(connection, project_key, prompts, split)

    def add_generation_run(self, model: ModelInfo, engine: str, params: Mapping[str, Any]) -> int:
        """The id of the generation run with this model, engine and parameters (JSON, with the seed); made if new."""
        with self._database.write() as connection:
            return insert_generation_run(connection, model, engine, params)

    def add_responses(self, project: str, run_id: int, responses: Sequence[Response]) -> int:
        """Add what a generation run wrote; returns how many are new.

        Raises ValueError for a prompt that the project does not have, and for a response whose run, prompt and
        sample index are there with another text (the model behind the name has changed).
        """
        with self._database.write() as connection:
            project_key = lock_project(connection, project, self.place)
            return insert_responses(connection, project_key, run_id, responses)

    def sampled(self, project: str, run_id: int) -> set[tuple[str, int]]:
        """What a generation run has already written in a project: (`Prompt.id`, sample index)."""
        with self._database.read() as connection:
            query = (
                select(PromptRow.digest, ResponseRow.sample_index)
                .join(ResponseRow, ResponseRow.prompt_id == PromptRow.id)
                .where(PromptRow.project_id == project_id(connection, project, self.place))
                .where(ResponseRow.generation_run_id == run_id)
            )
            return {(row.digest, row.sample_index) for row in connection.execute(query)}

    # pairs -----------------------------------------------------------------------------------------------------

    def build_pairs(self, project: str, per_prompt: int, overlap: int) -> int:
        """Make pairs of responses to the same prompt by the same generation run; returns how many are new.

        `per_prompt` pairs at random (by content hash: the same on every machine, and fewer are a part of more), 0
        for all of them; never of identical texts.  All pairs of the project want at
        least `overlap` annotators.
        """
        assert per_prompt >= 0 and overlap >= 1
        with self._database.write() as connection:
            return insert_pairs(
                connection, lock_project(connection, project, self.place), per_prompt, overlap
            )

    def build_rankings(self, project: str, size: int) -> int:
        """Make an item of at most `size` different responses (three at least) to the same prompt by the same generation run, by
        content hash as pairs are; returns how many are new."""
        with self._database.write() as connection:
            return insert_rankings(connection, lock_project(connection, project, self.place), size)

    def pairs(self, project: str) -> list[Pair]:
        """All pairs of a project, ordered by content."""
        with self._database.read() as connection:
            return read_pairs(connection, pair_query(project_id(connection, project, self.place)))

    def unlabelled_pairs(
        self, project: str, annotator: str | None = None, limit: int | None = None
    ) -> list[Pair]:
        """Pairs that want more votes (fewer annotators than `overlap`), ordered by content.

        With `annotator`, only those that this annotator has not voted on.
        """
        conditions: list[ColumnElement[bool]] = [
            Item.n_done < Item.overlap,
            Item.closed.is_(False),
            Item.owner_id.is_(None),
        ]
        if annotator is not None:
            own = select(Annotation.id).join(Annotator, Annotator.id == Annotation.annotator_id)
            conditions.append(~own.where(Annotation.item_id == Item.id, Annotator.name == annotator).exists())
        with self._database.read() as connection:
            query = pair_query(project_id(connection, project, self.place)).where(*conditions)
            return read_pairs(connection, query.limit(limit))

    # votes -----------------------------------------------------------------------------------------------------

    def add_annotator(self, name: str, kind: str, profile: Mapping[str, Any] | None = None) -> int:
        """The id of an annotator; made if new.  `kind`: human, simulated, judge or rule; `profile` is JSON.

        Raises ValueError when the name already belongs to an annotator of another kind or profile.
        """
        wanted = dict(profile or {})
        with self._database.write() as connection:
            columns = select(Annotator.id, Annotator.kind, Annotator.profile)
            row = connection.execute(columns.where(Annotator.name == name)).one_or_none()
            if row is None:
                return insert_one(connection, Annotator, name=name, kind=kind, profile=wanted)
        if (row.kind, row.profile) != (kind, wanted):
            raise ValueError(
                f"{self.place} already has an annotator '{name}' who is another one ({row.kind}, {row.profile}): "
                "use the same settings (such as seed) as before, or another store."
            )
        return row.id

    def annotator_kinds(self) -> dict[str, str]:
        """The kind (human, simulated, judge or rule) of every annotator by name, in the order of their making."""
        with self._database.read() as connection:
            rows = connection.execute(select(Annotator.name, Annotator.kind).order_by(Annotator.id))
            return {row.name: row.kind for row in rows}

    def add_votes(self, project: str, votes: Sequence[NewVote]) -> int:
        """Store votes, all or none; returns how many are new.  A `client_key` that is there already adds nothing.

        Raises ValueError for a pair that is not in the project, an unknown annotator, a key used for a different
        vote, a second first vote of an annotator on a pair, and a revision of anything but their own latest vote.
        """
        with self._database.write() as connection:
            return insert_votes(connection, lock_project(connection, project, self.place), votes)

    def add_help(self, project: str, said: Sequence[tuple[int, Help]]) -> int:
        """Keep what an assistant says of pairs (item, help), for people to see; returns how much is new.

        Raises ValueError for an item that is no pair of the project.
        """
        with self._database.write() as connection:
            key = lock_project(connection, project, self.place)
            return insert_help_of_items(connection, key, said)

    def helped_by(self, project: str, assistant: str) -> set[int]:
        """The pairs (items) of which an assistant has said something."""
        with self._database.read() as connection:
            return helped_items(connection, project_id(connection, project, self.place), assistant)

    def ask_people(self, project: str, judge: str, items: Sequence[Unsure]) -> None:
        """Let items that a judge leaves to people wait for more annotators, in an order of their own; never for fewer than they
        do, and not where a person has answered since it left them."""
        with self._database.write() as connection:
            ask_for_people(connection, lock_project(connection, project, self.place), judge, items)

    def left(self, project: str) -> dict[str, Left]:
        """Judge -> how many items it left to people, and what became of them."""
        with self._database.read() as connection:
            return read_left(connection, project_id(connection, project, self.place))

    def note_left(self, project: str, judge: str, items: Sequence[int]) -> None:
        """Write down that a judge has no verdict on items; they wait as they did."""
        with self._database.write() as connection:
            lock_project(connection, project, self.place)
            insert_left(connection, judge, items)

    def votes(self, project: str, revisions: bool = False) -> list[StoredVote]:
        """The current votes of a project in the order of their ids; with `revisions` also the superseded ones."""
        with self._database.read() as connection:
            return read_votes(connection, project_id(connection, project, self.place), revisions)

    # language models that judge ------------------------------------------------------------------------------------

    def judge_answers(self, keys: Sequence[str]) -> dict[str, Answer]:
        """Key -> what was answered to a question to a judge, of those that are there."""
        with self._database.read() as connection:
            return read_answers(connection, keys)

    def add_questions(self, project: str | None, questions: Sequence[Question]) -> None:
        """Write down that questions are sent to a judge; again where they are there without an answer."""
        with self._database.write() as connection:
            key = None if project is None else project_id(connection, project, self.place)
            insert_questions(connection, key, questions)

    def add_judge_answers(self, answers: Sequence[Answer]) -> None:
        """Write down what came back; the first answer to a question counts."""
        with self._database.write() as connection:
            insert_answers(connection, answers)

    def spent(self, project: str | None) -> dict[str, Spent]:
        """Judge -> what its questions have come to in a project (None: outside of any)."""
        with self._database.read() as connection:
            return read_spent(
                connection, None if project is None else project_id(connection, project, self.place)
            )

    def set_budget(self, project: str, judge: str, max_cost: float | None) -> None:
        """Write down what a judge may cost in a project from now on (None: no limit)."""
        with self._database.write() as connection:
            keep_budget(connection, lock_project(connection, project, self.place), judge, max_cost)

    # for trainers and reports ----------------------------------------------------------------------------------

    def voted_pairs(self, project: str) -> list[VotedPair]:
        """All that people and programs have compared, ordered by content: the same votes give the same list in any store.

        Pairs; ranked responses, two at a time; rewrites beside their originals, where the questions say so.  Of all
        splits, and with what is redacted: `VotedPair` says so.
        """
        with self._database.read() as connection:
            return read_voted_pairs(connection, project_id(connection, project, self.place))

    def comparisons(
        self, project: str, aggregation: Aggregation = "auto", ties: Ties = "keep", held_out: bool = False
    ) -> list[Comparison]:
        """One row per voted pair to train on (or of those held out), ordered by content; nothing that is redacted.

        `auto`: `adjudicated` once somebody has settled something, else `majority`.  `majority`: the sign of the summed
        preferences decides, p_chosen is 1.  `all`: p_chosen is the share of votes, a tied vote counting half.
        `adjudicated`: as an adjudicator settled it, undisputed pairs by majority, disputed ones left out.  An exact tie
        is a row with p_chosen 0.5, or nothing (`ties='drop'`).  A share of votes that a file has said, alone on its
        pair, stays as it is.
        """
        if aggregation == "auto":
            aggregation = "adjudicated" if self.any_settled(project) else "majority"
        pairs = (pair for pair in self.voted_pairs(project) if not pair.redacted)
        wanted = (pair for pair in pairs if is_held_out(pair.split) == held_out)
        rows = (comparison_of(pair, aggregation, ties) for pair in wanted)
        return [row for row in rows if isinstance(row, Comparison)]

    @contextmanager
    def reading(self, project: str) -> Iterator[tuple[Connection, int]]:
        """One state of the store, to be read by whoever knows its tables, and the project's number in it."""
        with self._database.read() as connection:
            yield connection, project_id(connection, project, self.place)

    @contextmanager
    def writing(self, project: str) -> Iterator[tuple[Connection, int]]:
        """One transaction of whoever knows the tables, with the project locked, and its number."""
        with self._database.write() as connection:
            yield connection, lock_project(connection, project, self.place)

    def any_settled(self, project: str) -> bool:
        """Whether somebody has settled a conflict in the project."""
        with self._database.read() as connection:
            return any_settled(connection, project_id(connection, project, self.place))

    def written(self, project: str) -> list[Written]:
        """What people have rewritten or written, ordered by content, of all splits, also what is redacted."""
        with self._database.read() as connection:
            return read_written(connection, project_id(connection, project, self.place))

    def demonstrations(self, project: str) -> list[Demonstration]:
        """What people have rewritten or written to train on, ordered by content."""
        rows = self.written(project)
        return [row.demonstration for row in rows if not row.redacted and not is_held_out(row.item.split)]

    def projects(self) -> list[str]:
        """The names of all projects, sorted."""
        with self._database.read() as connection:
            return sorted(connection.scalars(select(Project.name).where(Project.deleted_at.is_(None))))

    def counts(self, project: str) -> Counts:
        """How much a project holds."""
        with self._database.read() as connection:
            key = project_id(connection, project, self.place)
            current = read_votes(connection, key, revisions=False)
            responses = select(func.count(ResponseRow.id)).join(
                PromptRow, PromptRow.id == ResponseRow.prompt_id
            )
            return Counts(
                prompts=connection.scalar(select(func.count(PromptRow.id)).where(PromptRow.project_id == key))
                or 0,
                responses=connection.scalar(responses.where(PromptRow.project_id == key)) or 0,
                pairs=connection.scalar(
                    select(func.count(Item.id)).where(Item.project_id == key, Item.type == "pair")
                )
                or 0,
                labelled_pairs=len({stored.item_id for stored in current}),
                votes=len(current),
                ties=sum(stored.vote.preference == 0 for stored in current),
                annotators=len({stored.vote.annotator for stored in current}),
            )

    def annotator_table(self, project: str) -> list[AnnotatorRow]:
        """One row per annotator with votes in the project, sorted by name."""
        with self._database.read() as connection:
            current = read_votes(connection, project_id(connection, project, self.place), revisions=False)
        return annotator_rows(current, self.annotator_kinds())
