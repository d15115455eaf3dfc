"""The settings of `eval` and its relatives, `report` and `runs`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from tutelage.settings.base import Made, Settings, setting
from tutelage.settings.groups import (
    ColumnSettings,
    DeviceSettings,
    FewShotForm,
    GeneratingSettings,
    MaybeReward,
    OverlapName,
    OverlapSettings,
    Reward,
    RowSettings,
    RunSettings,
    Source,
    few_shot_form,
    run_folder,
)
from tutelage.settings.judges import by_rank, same_reward
from tutelage.settings.served import AskingSettings, check_address
from tutelage.settings.ways import check_demonstrations

FEWEST = 4  # responses to one prompt that say something of how they differ


class PassSettings(Settings):
    """How much a model reads at once."""

    max_tokens: int = setting(
        8192,
        "Most tokens in one forward pass; changes memory and speed, never a number.",
        unit="tokens",
        everyday=False,
        changes_result=False,
        ge=1,
    )


class EvalSettings(
    RunSettings,
    RowSettings,
    DeviceSettings,
    GeneratingSettings,
    OverlapSettings,
    PassSettings,
    AskingSettings,
):
    """Measure checkpoints on held-out prompts: gold score, win rate, KL, length, diversity."""

    out: Path = run_folder("runs/eval")
    models: list[str] = setting(
        ...,
        "Checkpoints to evaluate: run folders or hub names, each optionally as name=path; few-shot-4:path is shown examples, "
        "untrained:path has fresh weights.",
    )
    demonstrations: Source = setting(
        "", "Prompts with responses, of which few-shot-N: models are shown N examples, drawn by seed."
    )
    few_shot_form: FewShotForm = few_shot_form()
    rollouts: dict[str, str | list[str]] = setting(
        {},
        "Models whose responses servers draw, by their names: {ppo: http://localhost:8000}; a list of URLs for several.",
        everyday=False,
    )
    baseline: str = setting("", "Name of the model that the others are compared with; empty = the first.")
    reference: str = setting(
        "", "Name or path of the model that the KL is measured to; empty = the baseline."
    )
    prompts: Source = setting(..., "Held-out prompts: a file with the columns prompt, task and reference.")
    judge: Reward = setting(
        "world",
        "Who scores the responses: world (the embedded world's gold standard), another judge, or a list of judges.",
    )
    best_of: int | list[int] = setting(
        1,
        "Also measure the best of so many responses, by reward: a number, or several of them.",
        unit="responses",
    )
    reward: MaybeReward = setting(
        "", "Who says which is best, with best_of: a reward model, another judge, or a list of judges."
    )
    best_of_models: list[str] = setting(
        [], "Names of the models that best_of draws from; empty = the baseline.", everyday=False
    )
    missing_eos_score: float | None = setting(
        -1.0,
        "With best_of, the score of a response without an end, in units of the reward: a reward model's are standard "
        "deviations; null: it is scored like any other.",
        everyday=False,
    )
    max_prompts: int = setting(
        300, "At most so many prompts, drawn by seed in equal shares per task; 0 = all.", unit="prompts", ge=0
    )
    max_new_tokens: int = setting(128, "Longest response.", unit="tokens", ge=1)
    temperature: float = setting(1.0, "Sampling temperature; 0 takes the likeliest token.", ge=0)
    diversity_samples: int = setting(
        8,
        "Responses to one prompt that are compared with each other, for unique_share and self_bleu: 4 or more; 0 = off.",
        unit="responses",
        ge=0,
    )
    diversity_prompts: int = setting(
        16, "On so many of the prompts, in equal shares per task.", unit="prompts", everyday=False, ge=1
    )
    valid_from: float | None = setting(
        None,
        "A response is valid from this score of the judge on: the share and variety of valid ones among diversity_samples is "
        "measured; null: not.",
        everyday=False,
    )
    documents: Source = setting(
        "", "Held-out text for loss, perplexity by token and word, bits per byte; empty skips them."
    )
    max_documents: int = setting(
        200, "At most so many held-out documents; 0 = all.", unit="documents", everyday=False, ge=0
    )
    similar_length: float = setting(
        0.1,
        "Two responses are of similar length when they differ by at most this share of the longer.",
        unit="share",
        everyday=False,
        ge=0,
        le=1,
    )
    resamples: int = setting(10000, "Bootstrap resamples behind each interval.", everyday=False, ge=100)

    @field_validator("diversity_samples")
    @classmethod
    def _enough(cls, samples: int) -> int:
        if 0 < samples < FEWEST:
            raise ValueError(
                f"{samples} responses say little of how they vary: give {FEWEST} or more, or 0 to measure none"
            )
        return samples

    @property
    def servers(self) -> list[str]:
        return [url for name in self.rollouts for url in self.servers_of(name)]

    def servers_of(self, name: str) -> list[str]:
        """The URLs of the servers that draw for the model of this name; [] where this process does."""
        given = self.rollouts.get(name, [])
        return [given] if isinstance(given, str) else given

    @field_validator("rollouts")
    @classmethod
    def _addresses(cls, given: dict[str, str | list[str]]) -> dict[str, str | list[str]]:
        for name, urls in given.items():
            if not urls:
                raise ValueError(
                    f"{name} has no server: give a URL such as http://localhost:8000, or leave it out"
                )
            for url in [urls] if isinstance(urls, str) else urls:
                check_address(url)
        return given

    @property
    def sizes(self) -> list[int]:
        """Of how many responses the best is measured as well."""
        given = self.best_of if isinstance(self.best_of, list) else [self.best_of]
        return [n for n in given if n != 1]

    @property
    def scored_by(self) -> Any:
        """The reward that chooses; "": none is asked."""
        return self.reward

    def refuses(self, name: str, before: Mapping[str, Any], made: Made) -> str | None:
        """What changes no score of a judge, such as a timeout, may change; a model may be served somewhere else."""
        if name == "rollouts" and self.rollouts and (before.get(name) or {}).keys() == self.rollouts.keys():
            return None
        if name in ("judge", "reward") and before[name] and same_reward(before[name], getattr(self, name)):
            return None
        return super().refuses(name, before, made)

    @field_validator("best_of")
    @classmethod
    def _sizes_make_sense(cls, given: int | list[int]) -> int | list[int]:
        sizes = given if isinstance(given, list) else [given]
        if wrong := [n for n in sizes if n < 1]:
            raise ValueError(
                f"the best of {wrong[0]} responses is none: give 2 or more, or 1 to measure none"
            )
        if len(set(sizes)) < len(sizes):
            raise ValueError(f"{sizes} has a number twice: keep one")
        return given

    @model_validator(mode="after")
    def _best_by_a_reward(self) -> Self:
        if self.sizes and not self.reward:
            raise ValueError(
                f"best_of={self.best_of} needs somebody who says which is best: add reward=runs/reward, say"
            )
        if (self.reward or self.best_of_models) and not self.sizes:
            given = "reward" if self.reward else "best_of_models"
            raise ValueError(
                f"{given} is for the best of several, and best_of=1 draws one: set best_of=4, say"
            )
        if self.sizes and self.temperature == 0:
            raise ValueError(
                "temperature=0 draws the same response every time, so there is nothing to choose from: set temperature=1"
            )
        return self

    @model_validator(mode="after")
    def _several_to_be_valid(self) -> Self:
        if self.valid_from is not None and not self.diversity_samples:
            raise ValueError(
                f"valid_from={self.valid_from:g} tells which of several responses to a prompt are valid, of which "
                "diversity_samples=0 draws none: set diversity_samples=32, say, or leave valid_from out"
            )
        return self

    @model_validator(mode="after")
    def _examples_for_somebody(self) -> Self:
        check_demonstrations([given.rpartition("=")[2] for given in self.models], self.demonstrations)
        return self

    @field_validator("judge", "reward")
    @classmethod
    def _in_any_batch(cls, judge: Any) -> Any:
        if why := by_rank(judge):
            raise ValueError(why)
        return judge


class OveroptSettings(RunSettings, RowSettings, DeviceSettings, GeneratingSettings, PassSettings):
    """Draw a proxy reward and the gold standard against the distance from the reference."""

    out: Path = run_folder("runs/overopt")
    reference: str = setting(
        ..., "Model that the KL is measured to, and that best-of-n draws from: a run folder or hub name."
    )
    proxy: Reward = setting(
        ..., "Reward that is optimised, as training was given it: a reward model, another judge, or a mix."
    )
    gold: Reward = setting("world", "Judge that knows better: world, or any other (see proxy).")
    prompts: Source = setting(..., "Held-out prompts: a file with the columns prompt, task and reference.")
    best_of: int = setting(
        64,
        "Responses of the reference to each prompt, for best-of-n with every n up to this; 0 = none.",
        ge=0,
    )
    policies: list[str] = setting(
        [],
        "Policies to measure: run folders (all checkpoints that they keep; name=folder names the curve), or folders of models.",
    )
    samples: int = setting(4, "Responses of each policy to each prompt.", unit="responses", ge=1)
    max_prompts: int = setting(
        100, "At most so many prompts, drawn by seed in equal shares per task; 0 = all.", unit="prompts", ge=0
    )
    max_new_tokens: int = setting(128, "Longest response.", unit="tokens", ge=1)
    temperature: float = setting(1.0, "Sampling temperature, as in training.", gt=0)
    resamples: int = setting(
        1000, "Bootstrap resamples of the prompts behind each interval.", everyday=False, ge=100
    )

    @model_validator(mode="after")
    def _something_to_draw(self) -> OveroptSettings:
        if 0 < self.best_of < FEWEST:
            raise ValueError(
                f"best_of={self.best_of} makes no curve: give {FEWEST} or more, or 0 for policies alone"
            )
        if not self.best_of and not self.policies:
            raise ValueError("best_of=0 and no policies leave nothing to measure: give one of them")
        return self


class OutputsSettings(RunSettings, OverlapSettings, ColumnSettings):
    """Measure outputs that lie in files, whoever wrote them, against reference texts."""

    out: Path = run_folder("runs/outputs")
    files: list[str] = setting(
        ..., "Files of outputs, each optionally as name=path; the others are compared with the first."
    )
    references: Source = setting(
        "", "File of reference texts, matched by prompt; empty = those in the rows of the outputs."
    )
    overlap: list[OverlapName] = setting(
        ["bleu", "rouge"],
        "Metrics against reference texts: any of bleu, rouge, meteor and bertscore; [] = none.",
    )
    resamples: int = setting(10000, "Bootstrap resamples behind each interval.", everyday=False, ge=100)
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto",
        "Where BERTScore's encoder runs; auto takes a GPU when there is one.",
        everyday=False,
        changes_result=False,
    )

    @field_validator("files")
    @classmethod
    def _some_files(cls, files: list[str]) -> list[str]:
        if not files:
            raise ValueError("give files of outputs, for example files=[a.jsonl, name=b.jsonl]")
        return files


class VerdictsSettings(RunSettings):
    """Win rates and a leaderboard from verdicts of a judge that lie in files."""

    out: Path = run_folder("runs/verdicts")
    files: list[str] = setting(
        ..., "Files of verdicts: AlpacaEval's annotations.json, or FastChat's judgements of pairs."
    )
    baseline: str = setting(
        "", "Generator that the others are compared with; empty = the one that is in every comparison."
    )
    judge: str = setting("", "Whose verdicts count, where the files hold those of several.")
    difficulty: str = setting(
        "",
        "AlpacaEval's df_gamed.csv or instruction_difficulty.csv, for its own length-controlled win rate; empty = told from "
        "the other generators.",
    )
    resamples: int = setting(1000, "Bootstrap resamples behind each interval.", everyday=False, ge=100)

    @field_validator("files")
    @classmethod
    def _some_verdicts(cls, files: list[str]) -> list[str]:
        if not files:
            raise ValueError("give files of verdicts, for example files=[a/annotations.json]")
        return files


class PairsSettings(RunSettings, ColumnSettings, DeviceSettings, PassSettings):
    """Measure a reward model, or another judge, on right and wrong responses in files, as RewardBench does."""

    out: Path = run_folder("runs/pairs")
    data: Source = setting(..., "Rows with prompt, chosen and rejected (texts, or lists of them) and subset.")
    judge: Reward = setting(
        ..., "Who scores the responses: a reward model, another judge, or a list of judges."
    )
    name: str = setting("", "What the judge is called in the results; empty = its own name.")
    resamples: int = setting(1000, "Bootstrap resamples behind each interval.", everyday=False, ge=100)


class StepsSettings(RunSettings, ColumnSettings, DeviceSettings, PassSettings):
    """Measure a process reward model on solutions whose first wrong step is known, as ProcessBench does."""

    out: Path = run_folder("runs/steps")
    model: str = setting(..., "Process reward model: a run folder, checkpoint or hub model.")
    data: Source = setting(
        ..., "Solutions with marked steps: ProcessBench's rows, or others that process reads."
    )
    name: str = setting("", "What the model is called in the results; empty = its last folder.")
    resamples: int = setting(1000, "Bootstrap resamples behind each interval.", everyday=False, ge=100)


class TaskSettings(RunSettings, ColumnSettings):
    """Write held-out prompts as a task of Inspect (inspect-ai)."""

    out: Path = run_folder("runs/task")
    prompts: Source = setting(..., "Held-out prompts with a reference: the text or answer to score against.")
    scorer: Literal["includes", "match", "model_graded_qa"] = setting(
        "includes",
        "Inspect's scorer: the target stands in the response, or at its end (match), or a model grades.",
    )
    max_prompts: int = setting(
        300, "At most so many prompts, drawn by seed in equal shares per task; 0 = all.", unit="prompts", ge=0
    )
    max_new_tokens: int = setting(128, "Longest response.", unit="tokens", ge=1)
    temperature: float = setting(0.0, "Sampling temperature; 0 takes the likeliest token.", ge=0)


class MethodsSettings(RunSettings):
    """Put methods side by side, each by several runs that differ in their seed."""

    out: Path = run_folder("runs/methods")
    evaluations: list[str] = setting(
        ..., "Run folders of `eval`; models named METHOD/1, METHOD/2, ... are runs of one method."
    )

    @field_validator("evaluations")
    @classmethod
    def _some(cls, places: list[str]) -> list[str]:
        if not places:
            raise ValueError("give the run folder of an evaluation, for example [runs/eval]")
        return places


class ReportSettings(RunSettings):
    """Write one self-contained HTML page about a set of runs."""

    out: Path = setting(
        Path("runs/report"), "Folder that receives report.html and results.json.", changes_result=False
    )
    runs: list[str] = setting(["runs"], "Run folders to report on, or folders that hold run folders.")
    title: str = setting("Training report", "Title at the top of the page.")
    samples: int = setting(
        6,
        "Held-out prompts shown with each model's response, drawn by seed in equal shares per task.",
        unit="prompts",
        ge=0,
    )


class RunsSettings(Settings):
    """List the runs below a folder."""

    root: Path = setting(Path("runs"), "Folder in which run folders are looked for.")
