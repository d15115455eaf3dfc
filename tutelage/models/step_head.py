"""What the numbers of a process reward model are about, kept in its config so that it travels with the weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from tutelage.data.steps import CLASSES, About
from tutelage.models.loading import Source, config_of
from tutelage.models.policy import Hosted


@dataclass(frozen=True)
class StepHead:
    """`separator` ends a step.  `about`: what is scored.  `classes`: 1, the logit of being right; 3, the logits of wrong, neutral
    and right."""

    separator: str = "\n"
    about: About = "steps"
    classes: int = 1

    @classmethod
    def of(cls, config: Any) -> Self | None:
        """What a model's config says; None for a model of another kind."""
        found = getattr(config, "tutelage_process", None)
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
