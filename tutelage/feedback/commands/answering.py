"""`label` with a language model that ranks several responses, or marks steps: it answers a project's items as people do.

Rankings become ranks, which trainers read two responses at a time; marks become those of a step item, cut as the project's
questions say.  A judge answers an item once: `client_key` is made of the item and its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from tutelage.evals.rows import OVERALL, Row, row, to_json
from tutelage.feedback.asking.answer_rows import write_answer
from tutelage.feedback.asking.payloads import Answer, RankAnswer, Schema, StepAnswer, StepMark
from tutelage.feedback.commands.asked import Answered, asked_rows, say_asked
from tutelage.feedback.items.contents import steps_shown
from tutelage.feedback.projects.projects import current_schema
from tutelage.files import write_json_atomic
from tutelage.judges.build import WORLD, build_judge
from tutelage.judges.llm.asking import Call
from tutelage.judges.llm.judge import LLMJudge
from tutelage.judges.llm.verdict import first_wrong
from tutelage.records import Prompt, Response
from tutelage.runs import Run
from tutelage.settings.feedback import JudgeCostSettings
from tutelage.settings.feedback import LabelSettings as Settings
from tutelage.settings.judges import scoring
from tutelage.statistics import bootstrap_mean, correct
from tutelage.store import Store, Unsure
from tutelage.store.comparing import ItemContent, read_items
from tutelage.store.counting import recount
from tutelage.store.current import IS_FIRST
from tutelage.store.schema import Annotation, Annotator, Item, now

AT_ONCE = 100  # items per transaction: what a crash makes to do again
RESAMPLES = 1000
TYPES = {"ranking": "rank", "steps": "step"}
"""What a template asks -> the type of the items that it answers."""


@dataclass(frozen=True)
class Said:
    """An answer, about these steps of a response (() where it is not about steps), and how sure it is (None: not known)."""

    answer: Answer
    steps: tuple[str, ...] = ()
    sure: float | None = None


def label_items(settings: Settings, judge: LLMJudge, run: Run) -> None:
    """Let it answer what wants answers.  Raises ValueError where the project has no such items, or for settings that mean nothing
    here."""
    type = TYPES[judge.template.asks]
    _refuse_unread(settings, judge, type)
    with Store(settings.store) as store:
        if type == "rank":
            store.build_rankings(settings.project, settings.responses_per_ranking)
        items = waiting_items(store, settings, type, judge.name)
        store.add_annotator(judge.name, "judge", {"judge": scoring(settings.judge)})
        judge.asker.tell_budget()
        run.begin()
        with run.progress(len(items), "items") as bar:
            judge.progress = Answered(bar)
            for start in range(0, len(items), AT_ONCE):
                _answer(store, settings, judge, items[start : start + AT_ONCE])
                bar.advance(len(items[start : start + AT_ONCE]))
        _close(store, settings.project, judge, run)


def _refuse_unread(settings: Settings, judge: LLMJudge, type: str) -> None:
    names = ["annotator", "pairs_per_prompt", "max_pairs", "votes_per_item"]
    names += ["responses_per_ranking", "people_below"] if type == "step" else []
    if unread := settings.set_of(*names):
        raise ValueError(
            f"{unread} means nothing for {judge.name}, which answers items of type {type}: leave it out."
        )


def waiting_items(
    store: Store, settings: Settings | JudgeCostSettings, type: str, name: str
) -> list[ItemContent]:
    """The items that are put to the judge, ordered by content: those that want answers, or all, without those it has answered."""
    with store.reading(settings.project) as (connection, key):
        there = [one for one in read_items(connection, key, type) if not one.redacted and any(one.texts)]
        wanted = select(Item.id).where(Item.project_id == key, Item.type == type, Item.owner_id.is_(None))
        if settings.pairs == "wanted":
            wanted = wanted.where(Item.n_done < Item.overlap, Item.closed.is_(False))
        answered = select(Annotation.item_id).join(Annotator).where(Annotator.name == name, IS_FIRST)
        ids = set(connection.scalars(wanted)) - set(connection.scalars(answered))
    if not there:
        raise ValueError(
            f"project '{settings.project}' in {store.place} has no items of type {type}: "
            + (
                "sample at least three different responses per prompt, or build some in the web app."
                if type == "rank"
                else "build some in the web app (Manage, items of type step)."
            )
        )
    return [one for one in there if one.item_id in ids]


def _answer(store: Store, settings: Settings, judge: LLMJudge, items: Sequence[ItemContent]) -> None:
    """Ask about some items, and keep what is said of them; those without a verdict have no answer."""
    said = (
        _ranked(judge, items)
        if judge.template.asks == "ranking"
        else _marked(store, settings.project, judge, items)
    )
    _leave(store, settings, judge.name, items, said)
    with store.writing(settings.project) as (connection, _):
        who = connection.scalar(select(Annotator.id).where(Annotator.name == judge.name))
        for item, one in zip(items, said, strict=True):
            if one is not None:
                write_answer(
                    connection,
                    one.answer,
                    one.steps,
                    0,
                    item_id=item.item_id,
                    annotator_id=who,
                    role="answer",
                    client_key=f"{settings.project}/{item.digest}/{judge.name}",
                    submitted_at=now(),
                )
        recount(connection, [item.item_id for item in items])


def _leave(
    store: Store, settings: Settings, name: str, items: Sequence[ItemContent], said: Sequence[Said | None]
) -> None:
    """Leave items to people before the answers to the others are kept, so that a process that is killed forgets none: those
    without an answer, and with `people_below` those whose mean share is low, the least sure first."""
    if settings.people_below:
        store.ask_people(settings.project, name, _unsure(store, settings, items, said))
    else:
        silent = [item.item_id for item, one in zip(items, said, strict=True) if one is None]
        store.note_left(settings.project, name, silent)


def _unsure(
    store: Store, settings: Settings, items: Sequence[ItemContent], said: Sequence[Said | None]
) -> list[Unsure]:
    """The items that people should look at, before what is said of them counts."""
    with store.reading(settings.project) as (connection, _):
        done = dict(
            connection.execute(
                select(Item.id, Item.n_done).where(Item.id.in_([item.item_id for item in items]))
            ).all()
        )
    sure = [0.5 if one is None or one.sure is None else one.sure for one in said]
    return [
        Unsure(item.item_id, done[item.item_id] + (one is not None) + 1, 1 - share)
        for item, one, share in zip(items, said, sure, strict=True)
        if one is None or share < settings.people_below
    ]


def responses_of(item: ItemContent) -> list[Response]:
    """What stands in an item's slots."""
    sides = zip(item.texts, item.finishes, strict=True)
    return [Response.written(item.prompt, text, finish) for text, finish in sides]


def _ranked(judge: LLMJudge, items: Sequence[ItemContent]) -> list[Said | None]:
    found = judge.rank([responses_of(item) for item in items])
    return [None if one is None else Said(RankAnswer(ranks=one.ranks), sure=one.sure) for one in found]


def _marked(store: Store, project: str, judge: LLMJudge, items: Sequence[ItemContent]) -> list[Said | None]:
    schema = _schema(store, project)
    solutions = _solutions(schema, items)
    found = judge.mark(solutions)
    return [
        None if marks is None else _steps_answer(marks, steps, schema.first_error)
        for marks, (_, steps) in zip(found, solutions, strict=True)
    ]


def calls_about(store: Store, project: str, judge: LLMJudge, items: Sequence[ItemContent]) -> list[Call]:
    """All that would be asked about items, before anything is repaired."""
    if judge.template.asks == "ranking":
        return judge.calls_for([responses_of(item) for item in items])
    return judge.calls_to_mark(_solutions(_schema(store, project), items))


def _schema(store: Store, project: str) -> Schema:
    with store.reading(project) as (connection, key):
        return current_schema(connection, key)[1]


def _solutions(schema: Schema, items: Sequence[ItemContent]) -> list[tuple[Prompt, tuple[str, ...]]]:
    """The responses of step items, cut as the project's questions say."""
    return [(item.prompt, steps_shown("step", schema, item.texts[0])) for item in items]


def _steps_answer(marks: Sequence[int | None], steps: tuple[str, ...], first_error: bool) -> Said:
    """Up to the first wrong step where nothing is said behind it, or where the project's questions end there."""
    wrong = first_wrong(marks)
    if first_error and wrong is not None:
        marks = marks[: wrong + 1]
    given = [
        StepMark.model_validate({"step": number, "label": label})
        for number, label in enumerate(marks)
        if label is not None
    ]
    return Said(StepAnswer(marks=tuple(given), finish="solution" if wrong is None else "found-error"), steps)


def _close(store: Store, project: str, judge: LLMJudge, run: Run) -> None:
    """Say what it has answered: results.json, and a sentence."""
    type = TYPES[judge.template.asks]
    with store.reading(project) as (connection, key):
        count = _count(connection, key, type, judge.name)
    asked = asked_rows([judge])
    rows = _gold(store, project, judge.name) if type == "rank" else []
    rows.append(Row(judge.name, "answered_items", type, float(count), n=count, unit="items"))
    write_json_atomic(run.folder / "results.json", to_json([*rows, *asked]))
    say_asked(asked, run)
    right = [
        f", {one.value:.0%} of every two as gold has them" for one in rows if one.metric == "gold_agreement"
    ]
    run.console.print(f"{count} items of type {type} answered by {judge.name}{''.join(right)}.", markup=False)
    run.log({"answered_items": count})
    run.commit(count)


def _count(connection: Connection, key: int, type: str, name: str) -> int:
    query = select(Annotation.id).join(Item, Item.id == Annotation.item_id)
    query = query.join(Annotator, Annotator.id == Annotation.annotator_id)
    mine = (Item.project_id == key, Item.type == type, Annotator.name == name, IS_FIRST)
    return len(connection.scalars(query.where(*mine)).all())


def _gold(store: Store, project: str, name: str) -> list[Row]:
    """How often it has two ranked responses in the order of the gold standard; ties, in either, count one half."""
    with store.reading(project) as (connection, key):
        ranked = {item.item_id for item in read_items(connection, key, "rank")}
    pairs = [pair for pair in store.voted_pairs(project) if pair.item_id in ranked and not pair.redacted]
    said = [(pair, vote) for pair in pairs for vote in pair.votes if vote.annotator == name]
    texts = [Response.written(pair.prompt, text) for pair, _ in said for text in pair.texts]
    scores = build_judge(WORLD).score(texts)
    margins: list[float] = []
    second: list[float] = []
    prompts: list[str] = []
    for (pair, vote), first, other in zip(said, scores[::2], scores[1::2], strict=True):
        if first is not None and other is not None:
            margins.append(other.value - first.value)
            second.append(0.5 if vote.preference == 0 else float(vote.preference > 0))
            prompts.append(pair.prompt.id)
    if not second:
        return []
    found = bootstrap_mean(correct(margins, second), prompts, rate=True, resamples=RESAMPLES)
    return [row(name, "gold_agreement", OVERALL, found, "share")]
