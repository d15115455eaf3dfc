"""What the settings of several commands have in common.

No torch anywhere in the settings: `--help` and mistakes in them must answer at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, field_validator, model_validator

from tutelage.settings.base import Settings, setting
from tutelage.settings.judges import checked_reward
from tutelage.settings.presets import Preset


def run_folder(default: str) -> Any:
    """The setting `out` of a command that writes a run folder."""
    sentence = "Run folder; the same command with the same settings resumes it."
    return setting(Path(default), sentence, changes_result=False)


class RunSettings(Settings):
    """What every command that writes a run folder has."""

    out: Path = run_folder("runs/run")
    seed: int = setting(0, "Seed of everything random.", ge=0)


class DeviceSettings(Settings):
    """Where and in which arithmetic models run."""

    device: Literal["auto", "cpu", "cuda", "mps"] = setting(
        "auto",
        "Where to compute; auto takes a GPU when there is one (mps, Apple's, has not been tried and must be asked for).",
        everyday=False,
        changes_result=False,
    )
    precision: Literal["auto", "bf16", "fp32"] = setting(
        "auto",
        "Arithmetic of the models; auto takes bf16 where the processor has it (weights stay fp32).",
        everyday=False,
    )
    kernels: Literal["auto", "off"] = setting(
        "auto",
        "Fast arithmetic on a CPU, compiled for it once; auto needs a C compiler and does without where there is none.",
        everyday=False,
        changes_result=False,
    )


GPUName = Literal["none", "A100-80", "H100", "H200", "B200"]
"""The GPUs that a plan knows the data sheets of."""


class PlanSettings(Settings):
    """What memory and time it would take, instead of doing it."""

    plan: bool = setting(
        False,
        "Only say what memory the command would take, and leave nothing behind.",
        everyday=False,
        changes_result=False,
    )
    plan_gib: float = setting(
        0.0,
        "Say it for a GPU with so much memory; 0 = this machine, or what plan_gpu has.",
        unit="GiB",
        everyday=False,
        changes_result=False,
        ge=0,
    )
    plan_gpu: GPUName = setting(
        "none",
        "Say it for such GPUs, with what a step takes of time and of the network; none = this machine.",
        everyday=False,
        changes_result=False,
    )
    plan_ranks: int = setting(
        0,
        "On so many of them, with everything sharded; 0 = as many as the run has.",
        unit="GPUs",
        everyday=False,
        changes_result=False,
        ge=0,
    )
    plan_gpus_per_node: int = setting(
        8,
        "GPUs of a node, which NVLink joins.",
        unit="GPUs",
        everyday=False,
        changes_result=False,
        ge=1,
    )
    plan_network: float = setting(
        0.0,
        "Network of a node, all its ports together; 0 = as NVIDIA builds nodes of plan_gpu.",
        unit="Gbit/s",
        everyday=False,
        changes_result=False,
        ge=0,
    )
    plan_reached: float = setting(
        0.0,
        "Share of the peak arithmetic that is reached while computing; 0 = as published for plan_gpu.",
        unit="share",
        everyday=False,
        changes_result=False,
        ge=0,
        le=1,
    )

    @model_validator(mode="before")
    @classmethod
    def _asked(cls, values: Any) -> Any:
        """Who says what a plan is to be for asks for one."""
        asked = isinstance(values, Mapping) and (
            values.get("plan_gpu", "none") != "none" or values.get("plan_ranks")
        )
        return {**values, "plan": True} if asked else values

    @model_validator(mode="after")
    def _known_gpu(self) -> Self:
        if self.plan_ranks > 1 and self.plan_gpu == "none":
            raise ValueError(
                f"plan_ranks={self.plan_ranks} does not say of which GPUs: add plan_gpu=H100, say"
            )
        whole = self.plan_ranks % self.plan_gpus_per_node == 0
        if self.plan_ranks > self.plan_gpus_per_node and not whole:
            raise ValueError(
                f"plan_ranks={self.plan_ranks} is no whole number of nodes of plan_gpus_per_node="
                f"{self.plan_gpus_per_node}: change one of them"
            )
        return self


class RanksSettings(Settings):
    """On how many processes the work is done, and who starts them."""

    ranks: int = setting(
        1,
        "Processes that share the work and cut the models among them: one per GPU, or per core.",
        unit="ranks",
        everyday=False,
        changes_result=False,
        ge=1,
    )
    launch: Literal["auto", "here", "torchrun", "ray"] = setting(
        "auto",
        "Who starts the ranks: here (this process is the one), torchrun (torch's launcher, on this machine), ray (Ray Train, "
        "here or on the cluster of RAY_ADDRESS); auto: torchrun where ranks is more than 1.",
        everyday=False,
        changes_result=False,
    )
    min_ranks: int = setting(
        0,
        "With launch=ray go on with so few ranks where some are lost, until there are more again; 0 = as many as ranks.",
        unit="ranks",
        everyday=False,
        changes_result=False,
        ge=0,
    )
    restarts: int = setting(
        3,
        "With launch=ray how often lost ranks are started again from the last checkpoint.",
        everyday=False,
        changes_result=False,
        ge=0,
    )

    @property
    def starts_ranks(self) -> bool:
        """Whether other processes do the work."""
        return self.launch in ("torchrun", "ray") or self.ranks > 1

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.min_ranks > self.ranks:
            raise ValueError(
                f"min_ranks={self.min_ranks} is more than ranks={self.ranks}, the most that there may be"
            )
        if self.min_ranks and self.launch != "ray":
            raise ValueError("min_ranks is for launch=ray: add that, or leave min_ranks out")
        if self.launch == "here" and self.ranks > 1:
            raise ValueError(
                f"launch=here is one process, and ranks={self.ranks}: take launch=torchrun, or leave ranks out"
            )
        return self


class LaunchSettings(RunSettings, RanksSettings):
    """A command that runs on several processes."""


class GeneratingSettings(Settings):
    """How responses are generated."""

    memory_mib: int = setting(
        0,
        "Memory for keys, values and logits while generating; 0 = half of what is free.",
        unit="MiB",
        everyday=False,
        changes_result=False,
        ge=0,
    )


Source = str | list[str]
"""Rows: a file, a glob, hub:OWNER/NAME, or a list of these, each with `*WEIGHT` behind it where it does not count once."""

FewShotForm = Literal["auto", "template", "text"]


def few_shot_form() -> Any:
    """The setting `few_shot_form` of a command in which models may be shown examples."""
    return setting(
        "auto",
        "Examples as turns of the model's chat template, or as plain text; auto takes the template where there is one.",
        everyday=False,
    )


Reward = Annotated[str | list[str | dict[str, Any]], AfterValidator(checked_reward)]
"""Who scores: a judge, or a list of judges that are mixed, each by its name or as {judge: NAME, weight: 0.5, ...}."""

MaybeReward = Annotated[
    str | list[str | dict[str, Any]],
    AfterValidator(lambda reward: reward and checked_reward(reward)),
]
"""A reward, or "": none."""


class ColumnSettings(Settings):
    """How the columns of rows are called."""

    columns: dict[str, str] = setting(
        {},
        "Columns under other names, ours first: {prompt: question, chosen: good}; a.b is b within a.",
        everyday=False,
    )


class RowSettings(ColumnSettings):
    """How rows are read, and what happens when some cannot be used."""

    max_dropped_share: float = setting(
        0.1,
        "Stop before the work starts when more than this share of the rows would be dropped.",
        unit="share",
        everyday=False,
        changes_result=False,
        ge=0,
        le=1,
    )


class DataSettings(RowSettings):
    """Where rows come from and what happens to long ones."""

    data: Source = setting(..., "Rows to train on: a file, a glob, hub:OWNER/NAME, or [a.jsonl, b.jsonl*3].")
    max_length: int = setting(1024, "Longest sequence, prompt and response together.", unit="tokens", ge=2)
    eval_data: Source = setting(
        "", "Rows for evaluation, same formats as data; empty holds out heldout_share."
    )
    heldout_share: float = setting(
        0.05,
        "Share of the prompts held out for evaluation when there is no eval_data.",
        unit="share",
        everyday=False,
        ge=0,
        lt=1,
    )
    split_seed: int = setting(
        0,
        "Which prompts are held out; another number gives another split. Not touched by seed.",
        everyday=False,
        ge=0,
    )


OverlapName = Literal["bleu", "rouge", "meteor", "bertscore"]
"""Metrics that compare an output with reference texts."""


class OverlapSettings(Settings):
    """What outputs are compared with reference texts by."""

    overlap: list[OverlapName] = setting(
        [], "Metrics against reference texts: any of bleu, rouge, meteor and bertscore; empty = none."
    )
    rouge_stemmer: bool = setting(
        False, "ROUGE of word stems, which gives higher numbers than most papers have.", everyday=False
    )

    wordnet: str = setting(
        "",
        "WordNet for METEOR: a folder of NLTK data, or of WordNet's files; empty = what is installed.",
        everyday=False,
    )
    bertscore_model: str = setting(
        "", "Encoder for BERTScore: a folder or hub name, such as roberta-large.", everyday=False
    )
    bertscore_layer: int = setting(
        0,
        "Layer of the encoder that BERTScore compares; 0 = the one that is usual for its kind.",
        everyday=False,
        ge=0,
    )

    @model_validator(mode="after")
    def _for_a_metric(self) -> Self:
        needs = {"rouge_stemmer": "rouge", "wordnet": "meteor", "bertscore_model": "bertscore"}
        needs["bertscore_layer"] = "bertscore"
        for name, metric in needs.items():
            if getattr(self, name) and metric not in self.overlap:
                raise ValueError(
                    f"{name} is for {metric}, which is not asked for: add it to overlap, or leave {name} out"
                )
        if "bertscore" in self.overlap and not self.bertscore_model:
            raise ValueError(
                "overlap has bertscore, which needs an encoder: add bertscore_model=roberta-large, say"
            )
        return self

    @field_validator("overlap")
    @classmethod
    def _each_once(cls, names: list[OverlapName]) -> list[OverlapName]:
        if len(set(names)) < len(names):
            raise ValueError(f"{names} has a metric twice: keep one")
        return names


class CutSettings(Settings):
    """What becomes of responses that were cut before their end."""

    cut_responses: Literal["keep", "drop"] = setting(
        "keep",
        "Responses that were cut at the longest length when they were written: keep trains them as they are, without an "
        "end; drop leaves their rows out.",
    )


class StepSettings(Settings):
    """How responses are cut into steps."""

    separator: str = setting(
        r"\n", r"What ends a step; \n is a line break, \t a tab.", everyday=False, min_length=1
    )

    @property
    def step_end(self) -> str:
        """The separator, spelled out."""
        return self.separator.replace(r"\n", "\n").replace(r"\t", "\t")


class PresetSettings(Settings):
    """Settings that a method's name fills in: its class has `preset` and, in `presets`, what each name says."""

    presets: ClassVar[Mapping[str, Preset]] = {}

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, values: Any) -> Any:
        return cls.completed(values) if isinstance(values, Mapping) else values

    @classmethod
    def completed(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the preset says, where nothing else is said."""
        said = cls.presets.get(str(values.get("preset")), {})
        return {**{name: value for name, (value, _) in said.items()}, **values}

    @property
    def told(self) -> list[str]:
        """For people: what the preset has set, and where that comes from."""
        chosen = getattr(self, "preset", "")
        return [
            f"preset={chosen}: {name}={value}{'' if (now := getattr(self, name)) == value else f' (here {now})'}: {source}"
            for name, (value, source) in self.presets.get(chosen, {}).items()
        ]


class StoreSettings(Settings):
    """Which store, for commands that work on it directly."""

    store: str = setting("runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.")


RefinedPairs = Literal["steps", "solutions", "none"]
"""What the refinements in a project give those who learn from pairs."""

RefinedRows = Literal["solutions", "corrections", "none"]
"""What they give those who learn from demonstrations."""


def refined_pairs(default: RefinedPairs) -> Any:
    """The setting `refined` of a command that learns from pairs."""
    sentence = (
        "What refinements in the store give: steps (a corrected step against the original one, behind the same steps); solutions "
        "(the last solution against the first); none."
    )
    return setting(default, sentence, everyday=False)


LabelsFrom = Literal["acceptable", "rating", "pairs"]
"""Where single responses are good or not: in what was said to be acceptable, in ratings, or as the sides of pairs."""

ExportFormat = Literal[
    "preference",
    "hh",
    "openai",
    "orca",
    "summarize-from-feedback",
    "unpaired",
    "ranked",
    "nemo",
    "ultrafeedback",
    "stepwise",
    "prm800k",
    "math-shepherd",
    "processbench",
    "refinements",
    "sft",
    "ratings",
    "helpsteer",
    "raw",
]
"""The rows that an export may be made of."""

Aggregation = Literal[
    "auto", "majority", "all", "dawid-skene", "crowd-bt", "habit-bt", "habit-bt-length", "adjudicated"
]
"""How several answers become one: the same names wherever that is asked."""


def whose(what: str) -> Any:
    """The setting `annotators` of a command that reads what people said from the store."""
    sentence = (
        f"Whose {what} count: names, or all that are human, simulated, judge or rule; empty: everybody's."
    )
    return setting([], sentence, everyday=False)


class FeedbackSettings(Settings):
    """How votes in the store become comparisons."""

    store: str = setting("runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.")
    aggregation: Aggregation = setting(
        "auto",
        "How votes become one comparison: auto (adjudicated once somebody has settled a conflict, else majority); "
        "majority; all (vote share as a soft label); dawid-skene (votes weighed by how right their annotators are, as a "
        "soft label); crowd-bt (the share of careful annotators, as a soft label); habit-bt (the same, with what each "
        "likes in the first place shown, and in length more than others do, taken out); habit-bt-length (with all that is "
        "liked in length taken out); adjudicated (as settled, disputed pairs left out).",
    )
    ties: Literal["keep", "drop"] = setting(
        "keep", "An exact tie becomes a row with probability 0.5, or no row.", everyday=False
    )
    annotators: list[str] = whose("votes")
