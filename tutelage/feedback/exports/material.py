"""What each format is made of, and what a project has of that: the sentence where no row fits."""

from __future__ import annotations

from typing import NamedTuple, get_args

from sqlalchemy import case, func, select

from tutelage.feedback.asking.payloads import ItemType
from tutelage.feedback.exports.spec import ExportSpec
from tutelage.feedback.people.access import Member
from tutelage.feedback.refining.rows import roots_of
from tutelage.settings.groups import ExportFormat
from tutelage.store.database import Database
from tutelage.store.schema import Item

_COMPARED: tuple[ItemType, ...] = ("pair", "rank", "rewrite")
TYPES: dict[ExportFormat, tuple[ItemType, ...]] = {
    **dict.fromkeys(("preference", "hh", "openai", "orca", "summarize-from-feedback", "nemo"), _COMPARED),
    **dict.fromkeys(("stepwise", "prm800k", "math-shepherd", "processbench", "refinements"), ("step",)),
    **dict.fromkeys(("ratings", "ultrafeedback", "helpsteer"), ("rate",)),
    "ranked": ("rank",),
    "sft": ("rewrite",),
    "raw": get_args(ItemType),
}
"""The types of items whose answers become rows; those of `unpaired` hang on `labels_from`."""
UNPAIRED: dict[str, tuple[ItemType, ...]] = {
    "acceptable": ("pair", "rank", "rate"),
    "rating": ("rate",),
    "pairs": _COMPARED,
}


class Had(NamedTuple):
    """How many items of a type a project has, and how many of them somebody has answered."""

    items: int
    answered: int


def types_of(spec: ExportSpec) -> tuple[ItemType, ...]:
    """The types of items that an export is made of."""
    return UNPAIRED[spec.labels_from] if spec.format == "unpaired" else TYPES[spec.format]


def had(database: Database, who: Member) -> dict[str, Had]:
    """The items of a project by type, the commonest first.  Needs export."""
    who.require("export")
    answered = func.sum(case((Item.n_done > 0, 1), else_=0))
    query = select(Item.type, func.count(), answered).where(Item.project_id == who.project_id)
    with database.read() as connection:
        rows = connection.execute(query.group_by(Item.type).order_by(func.count().desc(), Item.type)).all()
    return {type: Had(items, int(done)) for type, items, done in rows}


def why_none(database: Database, who: Member, spec: ExportSpec) -> str:
    """Why an export has no rows, in one sentence: which items it needs, what the project has, what to do."""
    if spec.format == "refinements":
        return _no_refinements(database, who)
    wanted, there = types_of(spec), had(database, who)
    needs = f"format={spec.format} is made of answers to items of type {_listed(wanted, 'or')}"
    if spec.format == "unpaired":
        needs = needs.replace("unpaired", f"unpaired labels_from={spec.labels_from}")
    has = [f"{n:,} of type {type} ({done:,} answered)" for type, (n, done) in there.items()] or ["none"]
    mine = [there[type] for type in wanted if type in there]
    advice = "build such items, or choose a format for those that there are"
    if any(one.answered for one in mine):
        advice = (
            "what was answered is left out (above: why); change questions or settings, or take another format"
        )
    elif mine:
        advice = "wait for answers, or choose another format"
    return f"{needs}, and project '{who.project}' has {_listed(has, 'and')}: {advice}."


def _no_refinements(database: Database, who: Member) -> str:
    with database.read() as connection:
        count = len(roots_of(connection, who.project_id))
    if not count:
        return (
            f"project '{who.project}' has no refinements: import some with `feedback import kind=refinements`, or choose another "
            "format."
        )
    return (
        f"none of the {count:,} refinement{'s' * (count != 1)} in project '{who.project}' teaches that yet, or all are left out "
        "(above: why): go on with them, or choose another part."
    )


def _listed(names: list[str] | tuple[str, ...], word: str) -> str:
    return f" {word} ".join(filter(None, (", ".join(names[:-1]), names[-1])))
