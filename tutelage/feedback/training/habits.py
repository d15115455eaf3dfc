"""Habits of annotators, fitted to the votes of a project for its labels, and what is told of them: pseudonyms, never names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from rich.console import Console
from rich.table import Table

from tutelage.evals.page.habits import Line, lines_of, where_of, with_error
from tutelage.store import VotedPair

if TYPE_CHECKING:
    from tutelage.feedback.statistics import HabitPairs

WithoutHabits = Literal["habit-bt", "habit-bt-length"]
WITHOUT_HABITS: tuple[WithoutHabits, ...] = get_args(WithoutHabits)
SHOWN = 20  # annotators on the screen, those with most votes


class Given(NamedTuple):
    """A vote for a side of a pair: the pair's number, by how many characters its first response is the longer one."""

    unit: str
    annotator: str
    preference: int
    first_shown: int
    longer: int


def given_of(number: int, pair: VotedPair) -> list[Given]:
    """The votes for a side of a pair."""
    longer = len(pair.texts[0]) - len(pair.texts[1])
    unit = str(number)
    return [
        Given(unit, vote.annotator, vote.preference, vote.first_shown, longer)
        for vote in pair.votes
        if vote.preference
    ]


@dataclass(frozen=True, eq=False)
class Habits:
    """`found`: what was fitted to the votes of a project (of one `group` of its annotators, where there are groups);
    `names`: what to call its annotators, in its order."""

    found: HabitPairs
    how: WithoutHabits
    names: Sequence[str]
    project: str = ""
    group: str = ""

    def to_json(self) -> dict[str, Any]:
        """For habits.json: logits, their standard errors, and the unit of length."""
        found = self.found
        columns = zip(
            self.names,
            found.votes.tolist(),
            *(
                part.round(4).tolist()
                for part in (
                    found.sharpness,
                    found.position,
                    found.position_error,
                    found.length,
                    found.length_error,
                )
            ),
            strict=True,
        )
        keys = ("annotator", "votes", "sharpness", "position", "position_error", "length", "length_error")
        return {
            "project": self.project,
            "group": self.group,
            "aggregation": self.how,
            "length_unit_characters": round(found.length_unit, 2),
            "shared_length": round(found.shared_length, 4),
            "shared_length_error": round(found.shared_length_error, 4),
            "shared_length_in_labels": self.how == "habit-bt",
            "said": self.said,
            "annotators": [dict(zip(keys, row, strict=True)) for row in columns],
        }

    @property
    def lines(self) -> list[Line]:
        """The annotators, those with most votes first."""
        return lines_of(self.to_json())

    @property
    def title(self) -> str:
        return f"Habits of annotators in {where_of(self.to_json())}"

    @property
    def said(self) -> str:
        """What all like in length, and what became of it."""
        found = self.found
        value = with_error(found.shared_length, found.shared_length_error)
        whole = (
            f"All together like length by {value} logits per {found.length_unit:.0f} characters. Votes cannot tell whether that "
            "is habit or quality: "
        )
        if self.how == "habit-bt":
            return whole + "it is left in the labels; aggregation=habit-bt-length takes it out, too."
        return whole + "it is taken out of the labels, as if length were no part of quality."


HEADINGS = ("annotator", "votes", "first place", "length")
UNITS = (
    "First place: logits for what is shown first. Length: logits per standard deviation of length, beyond the others. "
    "± is the standard error."
)


def fit_habits(given: Sequence[Given], how: WithoutHabits) -> HabitPairs | None:
    """`statistics.habit_pairs` on the votes for a side; None where there are none."""
    from tutelage.feedback.statistics import habit_pairs  # numpy's linear algebra: when used

    if not given:
        return None
    return habit_pairs(
        [one.unit for one in given],
        [one.annotator for one in given],
        [one.preference < 0 for one in given],
        [one.first_shown == 0 for one in given],
        [one.longer for one in given],
        length="own" if how == "habit-bt" else "all",
    )


def told(
    found: HabitPairs | None, how: WithoutHabits, aliases: Mapping[str, str], project: str
) -> tuple[Habits, ...]:
    """The same with its annotators' pseudonyms; nothing where nothing was fitted."""
    if found is None:
        return ()
    return (Habits(found, how, [aliases[name] for name in found.annotators.tolist()], project),)


def show(habits: Sequence[Habits], console: Console) -> None:
    """A table and a sentence for each."""
    for one in habits:
        table = Table(title=one.title)
        for number, heading in enumerate(HEADINGS):
            table.add_column(heading, justify="right" if number else "left", no_wrap=True)
        for line in one.lines[:SHOWN]:
            table.add_row(*line)
        console.print(table)
        if len(one.lines) > SHOWN:
            console.print(f"And {len(one.lines) - SHOWN} more: habits.json has all.")
        console.print(UNITS, one.said, markup=False, highlight=False)


def markdown(habits: Sequence[Habits]) -> str:
    """The same as a part of a card; nothing where there is nothing."""
    parts = []
    for one in habits:
        rows = [HEADINGS, ("---", "---:", "---:", "---:"), *one.lines]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        parts.append(f"\n## {one.title}\n\n{table}\n\n{UNITS} {one.said}\n")
    return "".join(parts)
