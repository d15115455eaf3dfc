"""The page of verdicts: a row for every claim, and behind it how each was tested.  No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.evals.table import duration
from tutelage.settings.claims import ClaimSettings
from tutelage.study.verdicts import Effect

NOT_RUN, UNTESTED = "not run yet", "could not be tested"

HOW = """\
Written by `tutelage study`: every row is a study of its own, whose settings, runs and report lie in the study's folder. A bound
was set for each number before the run. An effect *holds here* where its whole 95 % interval is on the right side of its bound,
*does not hold here* where it is wholly on the other side, and is *not distinguishable* in between; a claim holds where all of its
effects do, and does not where one does not. Intervals are over repetitions, and over prompts where they are known (a number that
is the same in every repetition has none, and is taken as it is); they are not corrected for how many rows there are, so that one
row in twenty is to be expected to mislead. What holds here holds for these models and this world; *what would change it* says how
to look further."""


@dataclass(frozen=True)
class Told:
    """A claim and what came of it.  seconds: that its runs took, without what all claims share."""

    name: str
    said: ClaimSettings
    seconds: float
    effects: tuple[Effect, ...]
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """As claims.json has it."""
        effects = [
            {"what": one.what, **{key: value for key, value in vars(one.row).items() if key != "model"}}
            | {"bound": one.bound, "verdict": one.verdict}
            for one in self.effects
        ]
        said = {key: getattr(self.said, key) for key in ("claim", "source", "test", "change")}
        return {
            "name": self.name,
            **said,
            "verdict": self.verdict,
            "seconds": self.seconds,
            "effects": effects,
        }


def markdown(told: Sequence[Told], title: str, about: str = "", seconds: float = 0.0) -> str:
    """The whole page; `about` stands above the claims.  seconds: that all runs took, those that claims share counted once."""
    took = f" All runs took {duration(seconds)}, one after the other." if seconds else ""
    head = [f"# {title}", *([about] if about else []), HOW, _counts(told) + took, _table(told)]
    return "\n\n".join([*head, *(part for one in told for part in _section(one))]) + "\n"


def _counts(told: Sequence[Told]) -> str:
    verdicts = [one.verdict if one.effects else one.verdict.partition(":")[0] for one in told]
    counted = ", ".join(f"{each} {verdicts.count(each)}" for each in dict.fromkeys(verdicts))
    return f"Of {len(told)} claims: {counted}."


def _table(told: Sequence[Told]) -> str:
    lines = ["| claim | source | effect | verdict |", "|---|---|---|---|"]
    for one in told:
        effects = "<br>".join(f"{effect.what}: {_number(effect)}" for effect in one.effects)
        verdict = one.verdict if one.effects else one.verdict.partition(":")[0]
        cells = [f"[{one.said.claim}](#{one.name})", one.said.source, effects or "–", f"**{verdict}**"]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _section(one: Told) -> Iterator[str]:
    yield f"## {one.name}"
    yield f"> {one.said.claim}\n>\n> {one.said.source}"
    lines = [f"- **Tested**: {one.said.test}"]
    for effect in one.effects:
        runs = f"{effect.row.n} repetition{'s' if effect.row.n != 1 else ''}"
        lines.append(
            f"- {effect.what}: {_number(effect)} over {runs}; set beforehand: {effect.bound}: {effect.verdict}."
        )
    took = f" Its runs took {duration(one.seconds)}." if one.seconds else ""
    lines.append(f"- **Verdict**: {one.verdict.rstrip('.')}.{took}")
    lines.append(f"- **What would change it**: {one.said.change}")
    yield "\n".join(lines)


def _number(effect: Effect) -> str:
    found = effect.shown
    return f"{found.text} {found.interval}".strip()
