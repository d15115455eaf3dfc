"""The settings of `run`, `study` and `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import field_validator, model_validator

from tutelage.settings.base import Settings, setting
from tutelage.settings.groups import RanksSettings
from tutelage.settings.served import LOCAL, checked


class ScaledSettings(RanksSettings):
    """Where the stages of a pipeline run, and who draws for them."""

    rollouts: str | list[str] = setting(
        LOCAL,
        "Who draws responses in stages whose policy learns, where they do not say: local (their own process), or the URL of a "
        "server, which gets the policy's weights, or several.",
        everyday=False,
    )

    _addresses = field_validator("rollouts")(checked)


class RunPipelineSettings(ScaledSettings):
    """Run the stages of a pipeline file; a stage whose inputs and settings are unchanged is skipped."""

    stages: list[dict[str, Any]] = setting(
        ...,
        "The stages in order: each has `command` and that command's settings, or `repeat` and `stages` of its own.",
    )
    out: Path = setting(Path("runs/pipeline"), "Folder of the pipeline: each stage's run folder is below it.")
    seed: int = setting(0, "Seed of every stage that does not set its own.", ge=0)
    split_seed: int = setting(0, "Which prompts are held out, in every stage that does not say.", ge=0)
    plan: bool = setting(
        False, "Only list the stages and what would become of each; nothing runs.", changes_result=False
    )


class StudySettings(Settings):
    """Run a grid of settings: every stage once for each combination of the axes that it depends on; one report at the end."""

    axes: dict[str, Any] = setting(
        {}, "Axes: name -> list of values, or label -> value; a value is a scalar or a mapping of variables."
    )
    stages: list[dict[str, Any]] = setting(
        [],
        "The stages in order, as in `run`; $AXIS and $AXIS.VARIABLE stand for values, `where` says in which cells a stage is.",
    )
    constants: dict[str, Any] = setting(
        {}, "Name -> value: what $NAME stands for in stages and axes, in one place: {model: runs/sft}."
    )
    out: Path = setting(Path("runs/study"), "Folder of the study.")
    results: str = setting("eval", "Stage whose results.json makes the tables.")
    repeats: str = setting(
        "seed", "Axis whose values are repetitions of the same thing: means and intervals are over it."
    )
    compare: dict[str, list[Any]] = setting(
        {}, "Axis -> labels whose differences are tested, paired by everything else: {method: [ppo, dpo]}."
    )
    contrasts: list[dict[str, dict[str, Any]]] = setting(
        [],
        "Cells whose difference is tested: [{first: {size: small, method: ppo}, second: {size: large, method: sft}}].",
    )
    tuning: list[str] = setting(
        [],
        "Axes whose labels are settings to choose among: the report says what trying k of them is worth.",
    )
    against: dict[str, list[str]] = setting(
        {},
        "Axis -> metrics: figures of every measure against each, a line through the axis: {labels: [votes, cost]}.",
    )
    prices: dict[str, Any] = setting(
        {},
        "Metric -> price of one, which makes the metric `cost`: {votes: 0.5, demonstrations: 4}; may be $AXIS.VARIABLE.",
    )
    measures: list[str] = setting(
        [], "Metrics whose differences are tested; empty: gold, or else score, or accuracy."
    )
    claims: dict[str, Any] = setting(
        {},
        "Instead of axes and stages: name -> a claim (claim, source, test, change) with a study of its own and the effects that "
        "decide; its results make a page of verdicts.",
    )
    base: dict[str, Any] = setting(
        {},
        "A study that is done before the claims and shared by them (axes, stages): they name its folder as $base.",
        everyday=False,
    )
    about: str = setting("", "What stands above the claims on their page.", everyday=False)
    only: list[str] = setting(
        [], "Of the claims, run these alone; empty: all.", everyday=False, changes_result=False
    )
    page: str = setting(
        "",
        "Where the page of verdicts is written; empty: OUT/claims.md.",
        everyday=False,
        changes_result=False,
    )
    title: str = setting("Study", "Title of the report.")
    seed: int = setting(0, "Seed of every stage that does not set its own.", ge=0)
    split_seed: int = setting(0, "Which prompts are held out, in every stage that does not say.", ge=0)
    parallel: int = setting(
        1,
        "How many stages run at once, each in a process of its own with its share of the cores.",
        changes_result=False,
        ge=1,
    )
    plan: bool = setting(
        False,
        "Only list the stages and what would become of each; nothing runs.",
        changes_result=False,
    )

    @model_validator(mode="after")
    def _stages_or_claims(self) -> Self:
        if bool(self.claims) == bool(self.stages):
            both = "both" if self.claims else "neither"
            raise ValueError(
                f"a study has `stages`, or `claims` with a study each, and here are {both}: give one"
            )
        if not self.claims and (self.base or self.about or self.only or self.page):
            raise ValueError(
                "base, about, only and page are of a study of claims, and here are none: leave them out"
            )
        if self.claims and (self.axes or self.compare or self.contrasts or self.measures or self.tuning):
            raise ValueError(
                "axes, compare, contrasts, measures and tuning belong to one study, and every claim has its own: write them there"
            )
        return self


class DemoSettings(ScaledSettings):
    """The whole loop in the embedded world, from an untrained model to one that people prefer."""

    out: Path = setting(Path("runs/demo"), "Folder of the demo: each stage's run folder is below it.")
    seed: int = setting(0, "Seed of everything random.", ge=0)


class DemoRefineSettings(RanksSettings):
    """Steps marked, explained, rewritten and learnt in the embedded world, beside choosing by answers at equal minutes."""

    out: Path = setting(Path("runs/demo-refine"), "Folder of the demo: each stage's run folder is below it.")
    seed: int = setting(0, "Seed of everything random.", ge=0)
