"""The settings of `refine`: a model's solutions, marked step by step and gone on from until they are sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from tutelage.settings.base import Settings, setting
from tutelage.settings.groups import Reward, run_folder
from tutelage.settings.judges import LLM, MODEL, WORLD, kind_of, read_parts
from tutelage.settings.rollout import DrawingSettings

PEOPLE = "people"
EQUATIONS = "equations"
Splitter = Literal["paragraphs", "lines", "sentences", "numbered"]


class Minutes(Settings):
    """What somebody's work takes, where nobody measured it."""

    look: float = setting(0.5, "To look at an answer and say whether it is right.", unit="minutes", ge=0)
    mark: float = setting(1.0, "To mark the steps of a solution.", unit="minutes", ge=0)
    rewrite: float = setting(1.0, "To explain and rewrite a wrong step.", unit="minutes", ge=0)
    solution: float = setting(6.0, "To write a whole solution.", unit="minutes", ge=0)


def checked_marks(given: Any, also: str = "") -> Any:
    """Who marks at once, as it was given.  Raises ValueError for somebody who marks no steps; `also`: who else may."""
    if given in (EQUATIONS, WORLD):
        return given
    [part] = read_parts(given)
    if part.kind not in (LLM, MODEL):
        raise ValueError(
            f"{part.judge} marks no steps: give {also}equations, world, a process model's run folder, or "
            "{judge: llm:NAME, template: steps}"
        )
    if part.kind == LLM and part.options.template == "pair":
        raise ValueError(
            "a language model that marks steps has a template that asks for them: add template: steps"
        )
    return given


class MarkedSettings(Settings):
    """What a process model's probabilities mean where it marks steps, and who says which answers are right."""

    threshold: float = setting(
        0.5,
        "A step is wrong where a process model gives it a lower probability to be right.",
        unit="probability",
        everyday=False,
        gt=0,
        lt=1,
    )
    reward: Reward = setting(
        "verify:choice",
        "Who says whether an answer is right: a verifier, another judge, or a list of judges.",
    )
    right_above: float = setting(
        0.5, "An answer is right if it scores more than this.", unit="score", everyday=False
    )

    @model_validator(mode="after")
    def _threshold_of_a_model(self) -> Self:
        marks = getattr(self, "marks", "")
        if self.set_of("threshold") and not (isinstance(marks, str) and is_process_model(marks)):
            raise ValueError("threshold is for marks by a process model: leave it out")
        return self


def is_process_model(marks: str) -> bool:
    """Whether whoever marks is a model's run folder."""
    return marks not in (PEOPLE, EQUATIONS, WORLD, "") and kind_of(marks) == MODEL


class RefineSettings(MarkedSettings, DrawingSettings):
    """Refine solutions step by step: marks, a rewritten step, the rest anew, until they are sound and right twice."""

    from_checkpoints: ClassVar[bool] = False  # but from the store

    out: Path = run_folder("runs/refine")
    prompts: str | list[str] = setting(
        "", "Problems: a file, a glob, or hub:OWNER/NAME; empty: those that were begun in the project."
    )
    store: str = setting("runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.")
    project: str = setting("refine", "Project in the store that holds the problems and their rounds.")
    marks: str | dict[str, Any] = setting(
        PEOPLE,
        "Who marks steps: people (in the web app), equations (false sums), a process model's run folder, world (its expert), "
        "or a language model, {judge: llm:NAME, ...}.",
    )
    votes: int = setting(
        1, "Answers wanted about each solution, from people or the world's crowd.", unit="answers", ge=1, le=9
    )
    crowd_error: float = setting(
        0.0,
        "With marks=world, a crowd that errs in each step with this probability takes the expert's place.",
        unit="probability",
        everyday=False,
        ge=0,
        lt=1,
    )
    samples: int = setting(1, "First solutions per problem, each refined by itself.", unit="responses", ge=1)
    rounds: int = setting(4, "Corrections of a solution at most; then it is handed up.", unit="rounds", ge=1)
    checks: int = setting(
        2,
        "Times in a row that the model must be right without help; 0 = it is not asked.",
        unit="responses",
        ge=0,
    )
    stuck: int = setting(
        2,
        "Hand a problem up when its first wrong step has not moved on for more rounds than this.",
        unit="rounds",
        everyday=False,
        ge=1,
    )
    fallback: Literal["explained", "regenerated", "never"] = setting(
        "explained",
        "Where nobody has rewritten the wrong step: the model does, from the explanation where there is one; it just writes it "
        "again; or the problem is handed up.",
    )
    use_rewrites: bool = setting(
        True,
        "Put in steps that were rewritten; false: the model writes them again, as fallback says.",
        everyday=False,
    )
    refiner: str = setting(
        "",
        "Run folder of a model that writes wrong steps again from their explanations; empty: the model itself.",
    )
    splitter: Splitter = setting(
        "lines", "How solutions are cut into steps, in a project that has no questions yet.", everyday=False
    )
    wait: float = setting(
        0.0,
        "Wait so long for people, asking the store again and again; 0: say what waits, and stop.",
        unit="minutes",
        changes_result=False,
        ge=0,
    )
    max_minutes: float = setting(
        0.0,
        "Begin no further problem once the work on them has taken so long; 0 = no limit.",
        unit="minutes",
        ge=0,
    )
    minutes: Minutes = setting(
        Minutes(), "What work takes where nobody measured it: {look: 0.5, mark: 1, rewrite: 1, solution: 6}."
    )

    @property
    def scored_by(self) -> Any:
        """Who says which answers are right."""
        return self.reward

    @property
    def by_people(self) -> bool:
        """Whether people mark."""
        return self.marks == PEOPLE

    @property
    def reads(self) -> dict[str, Any]:
        """The settings that name rows, with what they name."""
        return {"prompts": self.prompts} if self.prompts else {}

    @field_validator("marks")
    @classmethod
    def _one_marker(cls, given: Any) -> Any:
        return given if given == PEOPLE else checked_marks(given, "people, ")

    @model_validator(mode="after")
    def _can_choose(self) -> Self:
        """Nothing is chosen among samples here, but several at temperature 0 are the same one."""
        if self.temperature == 0 and (self.samples > 1 or self.checks > 1):
            raise ValueError(
                "temperature=0 draws the same response every time, so that asking again says nothing: set temperature=1, or "
                "samples=1 and checks=1"
            )
        return self

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        if self.crowd_error and self.marks != WORLD:
            raise ValueError("crowd_error is for marks=world, the simulated crowd: leave it out")
        if self.votes > 1 and not self.by_people and not self.crowd_error:
            raise ValueError(
                "votes is for people, or a crowd (crowd_error): another marker says the same every time"
            )
        if self.max_minutes and (not self.prompts or self.by_people):
            raise ValueError(
                "max_minutes says when no further problem of a file is begun, so it needs prompts=FILE and a marker that answers "
                "at once: leave it out"
            )
        if self.wait and not self.by_people:
            raise ValueError("wait is for marks=people: nobody else is waited for")
        if self.refiner and self.fallback != "explained":
            raise ValueError(
                f"refiner writes from explanations, and fallback={self.fallback} uses none: leave one out"
            )
        return self
