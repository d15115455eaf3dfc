"""What the numbers of a process reward model are about, kept in its config so that it travels with the weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from tutelage.data.steps import CLASSES, About
from tutelage.models.loading import Source, config_of
from tutelage.models.policy import Hosted

WORD = "last word"


@dataclass(frozen=True)
class StepHead:
    """`separator` ends a step.  `about`: what is scored.  `classes`: 1, the logit of being right; 3, the logits of wrong, neutral
    and right.  `scored_at`: where in a step (`StepEnds`)."""

    separator: str = "\n"
    about: About = "steps"
    classes: int = 1
    scored_at: str = WORD

    @classmethod
    def of(cls, config: Any) -> Self | None:
        """What a model's config says; None for a model of another kind.  Raises ValueError for one that was trained to score a
        step elsewhere."""
        found = getattr(config, "tutelage_process", None)
        if found and found.get("about", "steps") == "steps" and found.get("scored_at") != WORD:
            raise ValueError(
                f"{config.name_or_path or 'This process model'} was trained by an earlier version, to score a step at its "
                "separator and not at its last word: train it again."
            )
        return cls(**found) if found else None

    @classmethod
    def at(cls, path: Source) -> Self | None:
        """`of` the model at `path`, without its weights."""
        return cls.of(config_of(path))

    def keep(self, module: Hosted) -> None:
        """Write it into the model's config, which plain transformers then reads as a token classifier as well."""
        config = module.config
        config.tutelage_process = asdict(self)
        config.token_classification_bias = False  # the head has none
        if self.classes > 1:
            config.id2label = dict(enumerate(CLASSES))
            config.label2id = {name: number for number, name in enumerate(CLASSES)}
