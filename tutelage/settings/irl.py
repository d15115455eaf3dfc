"""The settings of `irl` and `contrast`: demonstrations beside what a model itself writes to the same prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from tutelage.settings.base import Made, setting
from tutelage.settings.describe import plain
from tutelage.settings.groups import Source, run_folder
from tutelage.settings.judges import ENSEMBLE, WRITTEN, MixOptions, RewardPart, read_parts, same_reward
from tutelage.settings.rollout import AnsweringSettings

NOT_OF_FEATURES = ("weight", "gate", "normalise")
"""How a judge stands in a mix, of which a feature has nothing: it is taken as it is, and its weight is learnt."""


class BesideSettings(AnsweringSettings):
    """What both commands have: demonstrations, and a model that answers their prompts."""

    model: str = setting(
        "runs/sft", "Run folder, checkpoint or hub model whose responses stand beside the demonstrations."
    )
    data: Source = setting(
        ..., "Demonstrations: prompts with responses; a file, a glob, hub:OWNER/NAME, or [a.jsonl, b.jsonl]."
    )

    @property
    def asked(self) -> Source:
        """The rows whose prompts are answered."""
        return self.data

    @property
    def reads(self) -> Mapping[str, Source]:
        """The settings that name rows, with what they name."""
        return {"data": self.data}


SOLVING = ("kl_coef", "l2", "heldout_share", "split_seed")
"""What of `irl` says how weights are found from features, and not whose."""


class IRLSettings(BesideSettings):
    """Learn what demonstrations are good for: weights of features, a reward that is a judge like any other (maximum entropy)."""

    from_checkpoints: ClassVar[bool] = False  # but from the responses that are there

    out: Path = run_folder("runs/irl")
    features: list[str | dict[str, Any]] = setting(
        ...,
        "What the reward is a weighted sum of: formulas, verifiers, functions or models, as parts of a reward.",
    )
    samples: int = setting(16, "Responses of the model per prompt.", unit="responses", ge=1)
    candidates: Source = setting(
        "",
        "Instead of samples: all responses that prompts can have, a row each; the model says how likely each is.",
    )
    kl_coef: float = setting(
        0.05,
        "With this kl_coef a policy that is trained on the reward writes as the demonstrations do.",
        unit="score per nat",
        gt=0,
    )
    l2: float = setting(
        1e-4,
        "Pull of the weights to 0: l2 / 2 times their squares, each in nats per standard deviation.",
        everyday=False,
        ge=0,
    )
    heldout_share: float = setting(
        0.1,
        "Share of the prompts that the reward is measured on, and not learnt from.",
        unit="share",
        ge=0,
        lt=1,
    )
    split_seed: int = setting(
        0,
        "Which prompts are held out; another number gives another split. Not touched by seed.",
        everyday=False,
        ge=0,
    )

    @field_validator("features")
    @classmethod
    def _features(cls, given: list[Any]) -> list[Any]:
        if not given:
            raise ValueError("it is empty: name at least one, such as formula:flesch")
        for one in given:
            unfit = next((name for name in NOT_OF_FEATURES if isinstance(one, dict) and name in one), None)
            if unfit:
                raise ValueError(
                    f"{plain(one.get('judge'))} has {unfit}, and a feature is a judge's score as it is, whose weight is learnt: "
                    "leave it out"
                )
        parts = read_parts(given)
        for part in parts:
            if part.kind in (ENSEMBLE, WRITTEN):
                raise ValueError(f"{part.judge} is made of several judges: name each as a feature of its own")
        twice, times = Counter(map(feature_name, parts)).most_common(1)[0]
        if times > 1:
            raise ValueError(f"{times} features are called {twice}: give each a name, as in name: {twice}-2")
        return given

    @model_validator(mode="after")
    def _drawn_or_listed(self) -> Self:
        if self.temperature == 0:
            raise ValueError(
                "temperature=0 leaves the model one response to each prompt, and a reward is learnt beside all that it may "
                "write: set temperature=1"
            )
        if self.candidates and self.set_of("samples"):
            raise ValueError(
                "samples is for responses that are drawn, and candidates lists all: leave it out"
            )
        return self

    @property
    def reads(self) -> Mapping[str, Source]:
        """The settings that name rows, with what they name."""
        listed: dict[str, Source] = {"candidates": self.candidates} if self.candidates else {}
        return {**super().reads, **listed}

    @property
    def names(self) -> list[str]:
        """What the features are called."""
        return [feature_name(part) for part in read_parts(self.features)]

    @property
    def scored_by(self) -> Any:
        """The features as parts of a mix, each as it is."""
        return self.weighed([1.0] * len(self.features))

    def weighed(self, weights: list[float]) -> list[dict[str, Any]]:
        """The reward with these weights, as settings say it."""
        return [
            {
                **({"judge": one} if isinstance(one, str) else one),
                "name": name,
                "normalise": "none",
                "weight": weight,
            }
            for one, name, weight in zip(self.features, self.names, weights, strict=True)
        ]

    def refuses(self, name: str, before: Mapping[str, Any], made: Made) -> str | None:
        """The weights may be found in another way: from the features that are there."""
        if name == "features" and same_reward(before[name], self.features):
            return None
        return None if name in SOLVING else super().refuses(name, before, made)

    def wants_more(self, before: Mapping[str, Any], made: Made) -> bool:
        """Whether the weights are to be found in another way now."""
        now = self.model_dump(mode="json")
        return any(before.get(name) != now[name] for name in SOLVING)


def feature_name(part: RewardPart) -> str:
    """As it was named, else the last piece of what its judge is called: length of formula:length."""
    mix: MixOptions = part.mix
    return mix.name or str(part.judge).rstrip("/").replace(":", "/").rpartition("/")[2]


class ContrastSettings(BesideSettings):
    """Set a model's own responses against demonstrations: pairs for `reward` and `dpo` (adversarial reward learning, SPIN)."""

    out: Path = run_folder("runs/contrast")
    samples: int = setting(1, "Own responses per prompt to choose from.", unit="responses", ge=1)
    match: Literal["none", "length"] = setting(
        "none",
        "Which of them a demonstration is set against: the next (none), or the one nearest in length.",
    )

    project: str = setting("", "Project in the store that receives the pairs, too; empty: a file alone.")
    store: str = setting("runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.")

    @model_validator(mode="after")
    def _something_to_choose(self) -> Self:
        if self.match == "length" and self.samples == 1:
            raise ValueError(
                "match=length chooses, and with samples=1 there is one response: set samples=4, say"
            )
        if self.temperature == 0 and self.samples > 1:
            raise ValueError(
                "temperature=0 draws the same response every time: set temperature=1, or samples=1"
            )
        return self
