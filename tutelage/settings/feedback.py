"""The settings of `label` and of the commands that work on a store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator, model_validator

from tutelage.settings.assist import AssistantSpec
from tutelage.settings.base import Made, setting
from tutelage.settings.groups import (
    Aggregation,
    ColumnSettings,
    ExportFormat,
    LabelsFrom,
    LaunchSettings,
    Reward,
    RunSettings,
    StoreSettings,
    run_folder,
)
from tutelage.settings.judges import WORLD, by_rank, only_computes, same_reward


class LabelSettings(LaunchSettings):
    """Let simulated annotators, or a judge, vote on unlabelled pairs of a project; or a judge rank responses or mark steps."""

    out: Path = run_folder("runs/label")
    store: str = setting("runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.")
    project: str = setting("main", "Project in the store whose responses are compared.")
    judge: Reward = setting(
        "world",
        "Who votes: world (simulated annotators, who see the embedded world's gold standard through noise), another judge, or a "
        "list of judges.",
    )
    annotator: str = setting("", "Name under which the judge votes; empty: as its name and options say.")
    pairs_per_prompt: int = setting(
        3,
        "Random pairs of different responses per prompt and generation run; 0 = all pairs.",
        unit="pairs",
        ge=0,
    )
    responses_per_ranking: int = setting(
        4,
        "Responses per prompt and generation run that a judge with template: k-way ranks together, where there are so many.",
        unit="responses",
        ge=3,
        le=9,
    )
    pairs: Literal["wanted", "all"] = setting(
        "wanted",
        "Which items: those that want more votes; all: of a judge, also those that have enough, to compare it with people.",
    )
    max_pairs: int = setting(
        0,
        "At most so many pairs of the project get votes, spread over its prompts and drawn by seed; 0 = all.",
        unit="pairs",
        ge=0,
    )
    people_below: float = setting(
        0.0,
        "Pairs on which a judge is less sure than this, or has no verdict, wait for a person, the least sure first; 0: none do.",
        unit="share",
        ge=0,
        le=1,
    )
    votes_per_item: int = setting(
        3, "Different simulated annotators who vote on each pair; a judge votes once.", unit="votes", ge=1
    )

    tastes: list[str] = setting(
        [],
        "Instead of the panel one simulated annotator for each of these groups of the embedded world, who votes on letters by "
        "its taste: [group-01, new-01].",
        everyday=False,
    )
    length_bias: float = setting(
        0.0,
        "What the simulated annotators have in common beside their own habits: what ten words more are worth; below 0: fewer.",
        unit="logits",
        everyday=False,
    )
    position_bias: float = setting(
        0.0,
        "The same of what is shown first.",
        unit="logits",
        everyday=False,
    )

    @property
    def starts_ranks(self) -> bool:
        """Only where reward models compute: there is nothing to share where rules, endpoints or language models are asked."""
        return super().starts_ranks and only_computes(self.judge)

    def refuses(self, name: str, before: Mapping[str, Any], made: Made) -> str | None:
        """What changes no score of a judge, such as a timeout, may change."""
        if name == "judge" and same_reward(before[name], self.judge):
            return None
        return super().refuses(name, before, made)

    @field_validator("judge")
    @classmethod
    def _in_any_batch(cls, judge: Any) -> Any:
        if why := by_rank(judge):
            raise ValueError(why)
        return judge

    @model_validator(mode="after")
    def _panel_is_full(self) -> LabelSettings:
        if self.pairs == "all" and self.judge == WORLD:
            raise ValueError(
                "pairs=all is for one judge, and the simulated annotators vote votes_per_item times a pair: raise that instead"
            )
        if (self.length_bias or self.position_bias) and self.judge != WORLD:
            raise ValueError(
                "length_bias and position_bias are of the simulated annotators, and a judge votes here: leave them out"
            )
        if self.annotator and self.judge == WORLD:
            raise ValueError(
                "annotator is for one judge, and the simulated annotators have names of their own: leave it out"
            )
        if self.tastes and (self.judge != WORLD or self.length_bias or self.position_bias):
            raise ValueError(
                "tastes are of simulated annotators who have no other habits: leave judge, length_bias and position_bias out"
            )
        if self.people_below and self.judge == WORLD:
            raise ValueError(
                "people_below is for a judge that says how sure it is: give one, or leave people_below out"
            )
        return self


class AssistSettings(RunSettings):
    """Let an assistant say what it finds in the responses of a project's pairs, for people to see before they vote."""

    out: Path = run_folder("runs/assist")
    store: str = setting("runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.")
    project: str = setting("main", "Project in the store whose pairs are looked at.")
    assistant: AssistantSpec = setting(
        ...,
        "Who looks: world (the expert of the embedded world), a run folder, llm:NAME, or {assistant: NAME} with options.",
    )
    adversarial: float = setting(
        0.0,
        "Share of the pairs, by content, of which it argues for the worse response: whom it would lead astray.",
        unit="share",
        ge=0,
        le=1,
    )
    max_pairs: int = setting(
        0,
        "At most so many pairs of the project, spread over its prompts and drawn by seed; 0 = all.",
        unit="pairs",
        ge=0,
    )


class JudgeCostSettings(StoreSettings):
    """Say what the questions of a judge have cost in a project, and what labelling the rest would cost; nothing is asked."""

    project: str = setting("main", "Project in the store whose responses are compared.")
    judge: Reward = setting(..., "Judge with its options, as `label` takes it.")
    pairs_per_prompt: int = setting(
        3, "As in `label`: the pairs that it would make are made.", unit="pairs", ge=0
    )
    responses_per_ranking: int = setting(
        4, "As in `label`, for template: k-way.", unit="responses", ge=3, le=9
    )
    pairs: Literal["wanted", "all"] = setting("wanted", "As in `label`: which items.")


class JudgeCalibrationSettings(RunSettings):
    """Set a judge beside people who voted on the same pairs, and say how many of its votes one of theirs is worth."""

    out: Path = run_folder("runs/judge-calibration")
    store: str = setting("runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.")
    project: str = setting("main", "Project in the store.")
    judge: str = setting(
        "", "Name of the judge, as it stands in the store; empty: each that has votes there."
    )
    people: Literal["human", "simulated"] = setting("human", "Whose votes it is set beside.")
    similar_length: float = setting(
        0.1,
        "Two responses are of similar length when they differ by at most this share.",
        unit="share",
        ge=0,
        le=1,
    )
    resamples: int = setting(1000, "Bootstrap resamples of the prompts.", everyday=False, ge=100)


class FeedbackImportSettings(StoreSettings, ColumnSettings):
    """Take a file into a project, row by row: good rows are stored, bad ones listed, nothing is stored twice."""

    project: str = setting("main", "Project that receives the rows; made if missing.")
    file: Path = setting(..., "File to read, of any kind that trainers read: JSON, CSV, TSV, Parquet.")
    kind: Literal[
        "auto", "prompts", "responses", "preference", "scores", "suggestions", "refinements", "raw"
    ] = setting(
        "responses",
        "What the rows hold; raw is what an export with format=raw wrote; auto goes by the columns.",
    )
    encoding: str = setting(
        "auto",
        "How text is written: auto (UTF-8, or UTF-16 with a mark), or a name such as windows-1252, utf-16 or gb18030.",
        everyday=False,
    )


class FeedbackExportSettings(StoreSettings):
    """Write the answers of a project as JSONL, Parquet or CSV, with a manifest beside it."""

    project: str = setting("main", "Project whose answers are written.")
    out: Path = setting(Path("runs/export.jsonl"), "File to write; its manifest is OUT.manifest.json.")
    format: ExportFormat = setting("preference", "Which rows to write.")
    file_format: Literal["auto", "jsonl", "parquet", "csv"] = setting(
        "auto", "Kind of file; auto goes by the ending of out: .parquet, .csv, or else JSONL."
    )
    aggregation: Aggregation = setting(
        "auto",
        "How several answers become one row; auto is adjudicated once something was settled, else majority; all keeps vote "
        "shares, or one row per answer.",
    )
    ties: Literal["keep", "drop"] = setting(
        "drop", "An exact tie becomes a row with probability 0.5, or no row."
    )
    labels_from: LabelsFrom = setting("acceptable", "unpaired: where good and bad come from.", everyday=False)
    neutral: Literal["true", "false", "drop"] = setting(
        "drop",
        "stepwise, math-shepherd, processbench: what a neutral step becomes; drop leaves its row out.",
        everyday=False,
    )
    names: bool = setting(
        False, "raw and ratings: write annotators' real names instead of numbers.", everyday=False
    )
    gold: bool = setting(True, "Also write gold items.", everyday=False)
    split: str = setting(
        "auto",
        "Prompts of which split: a name, all, or auto: for raw all, else those that are trained on (train..., live).",
    )
    part: Literal["all", "records", "solutions", "steps", "marks", "pairs", "corrections"] = setting(
        "all",
        "refinements: the records, and beside them a file for each thing that they teach; or one of these.",
        everyday=False,
    )
    provenance: bool = setting(
        False,
        "preference: also write who compared, what wrote the responses, and how far people agreed.",
        everyday=False,
    )

    @field_validator("neutral", mode="before")
    @classmethod
    def _said_as_yaml(cls, value: object) -> object:
        """true and false are words here, and no booleans, as the command line reads them."""
        return str(value).lower() if isinstance(value, bool) else value


class FeedbackStatusSettings(StoreSettings):
    """Show how much of the work in a store is done, by project."""

    project: str = setting("", "Show only this project, and its annotators; empty shows all.")


class FeedbackBackupSettings(StoreSettings):
    """Copy a store (SQLite) as it is at one moment, verify the copy, and write its hash beside it."""

    out: Path = setting(..., "File to write; it must not be there yet. Its hash goes to OUT.sha256.")


class FeedbackRestoreBackupSettings(StoreSettings):
    """Put a backup in a store's place; what was there is kept beside it under another name."""

    backup: Path = setting(..., "File that `feedback backup` wrote; verified first, and left where it is.")


class FeedbackDeleteSettings(StoreSettings):
    """Hide a project from everybody, in the web app, from commands and from trainers; everything in it is kept."""

    project: str = setting(..., "Project to hide.")


class FeedbackUndeleteSettings(StoreSettings):
    """Bring a deleted project back as it was."""

    project: str = setting(..., "Project to bring back.")


class FeedbackPurgeSettings(StoreSettings):
    """Delete a deleted project for good: prompts, responses, answers, history. Nothing brings it back but a backup."""

    project: str = setting(..., "Deleted project to purge.")
    confirm: str = setting(..., "The project's name once more.")


class FeedbackAdminSettings(StoreSettings):
    """Print a link that works once: NAME becomes an administrator with a new password, or somebody new becomes one."""

    name: str = setting(
        "",
        "User who becomes an administrator and sets a new password; empty: whoever opens the link joins as one.",
    )
    url: str = setting("http://localhost:8000", "Address of the server, for the link.")


class FeedbackDoctorSettings(StoreSettings):
    """Check that everything in a store fits together; changes nothing unless told to."""

    repair: bool = setting(False, "Recount the answers of items whose count is wrong.")
