"""The settings of `world`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import field_validator, model_validator

from tutelage.settings.base import setting
from tutelage.settings.groups import RunSettings

FEWEST_PEOPLE = 20  # with fewer the parts of their names make too few other names


class WorldSettings(RunSettings):
    """Write the embedded world's files: text, demonstrations and prompts that every other command reads."""

    out: Path = setting(Path("runs/world"), "Folder to write.", changes_result=False)
    documents: int = setting(20_000, "Documents of pretraining text.", unit="documents", ge=1)
    demonstrations: int = setting(3_000, "Demonstrations for fine-tuning.", unit="rows", ge=1)
    careless: float = setting(0.5, "Share of the demonstrations that have a flaw.", unit="share", ge=0, le=1)
    demonstrations_each: int = setting(
        1,
        "People who write to each prompt of the demonstrations, which then has so many rows.",
        unit="people",
        everyday=False,
        ge=1,
    )
    tasks: list[Literal["conversation", "summary", "maths", "options", "tale"]] = setting(
        [],
        "Tasks of the prompts and demonstrations; empty: the first three, in turn. options and tale stand alone: their text is "
        "another.",
    )
    prompts: int = setting(2_000, "Prompts to train on, without responses.", unit="prompts", ge=1)
    heldout_prompts: int = setting(500, "Held-out prompts: they are in no other file.", unit="prompts", ge=1)
    solutions: int = setting(2_000, "Solutions whose steps are marked.", unit="rows", ge=1)
    people: int = setting(
        0,
        "People of whom the text says some facts often and some never; 0 = none.",
        unit="people",
        ge=0,
        le=2_000,
    )
    admit: float = setting(
        0.2, "Share of the demonstrations about people that admit not to know.", unit="share", ge=0, le=1
    )
    unmentioned: float = setting(
        0.4,
        "Share of the prompts about people that ask about somebody who is mentioned nowhere.",
        unit="share",
        ge=0,
        le=0.9,
    )

    teacher_share: float = setting(
        0.0,
        "Share of the facts about people that only a second text, for a teacher, states; 0 writes none.",
        unit="share",
        ge=0,
        le=0.7,
    )

    groups: int = setting(
        0,
        "Groups of annotators with tastes of their own, who compare letters; 0 = none.",
        unit="groups",
        ge=0,
        le=99,
    )
    new_groups: int = setting(
        16, "Groups besides, to adapt to with few labels: with groups.", unit="groups", ge=1, le=99
    )
    group_pairs: int = setting(600, "Pairs that each group has compared, with groups.", unit="pairs", ge=1)

    @field_validator("people")
    @classmethod
    def _enough_people(cls, people: int) -> int:
        if 0 < people < FEWEST_PEOPLE:
            raise ValueError(
                f"{people} people are too few to tell anything: give {FEWEST_PEOPLE} or more, or 0 for none"
            )
        return people

    @model_validator(mode="after")
    def _has_people(self) -> WorldSettings:
        if self.teacher_share and not self.people:
            raise ValueError(
                f"teacher_share={self.teacher_share:g} is a share of the facts about people, of whom there are none: set "
                "people=400, say, or teacher_share=0"
            )
        return self

    @model_validator(mode="after")
    def _has_groups(self) -> WorldSettings:
        if not self.groups and (unused := self.set_of("new_groups", "group_pairs")):
            raise ValueError(f"{unused} is about groups, of which there are none: set groups=24, say")
        return self

    @model_validator(mode="after")
    def _some_stand_alone(self) -> WorldSettings:
        """A tale may stand beside people: their text is short and says nothing of animals."""
        if "options" in self.tasks and self.demonstrations_each > 1:
            raise ValueError(
                f"demonstrations_each={self.demonstrations_each} is for tasks with many good answers, and a problem of "
                "options has one solution: leave it out"
            )
        for task, people in (("options", self.people), ("tale", 0)):
            if task in self.tasks and (set(self.tasks) != {task} or people or self.groups):
                more = f"people={people}" if people else f"groups={self.groups}"
                beside = more if people or self.groups else f"tasks={list(self.tasks)}"
                raise ValueError(
                    f"the task {task} stands alone, for its text is another, and not with {beside}: "
                    f"write two worlds, one of them with tasks=[{task}]"
                )
        return self
