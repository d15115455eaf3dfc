"""Assistants: who looks at responses before a judge does, and says what was found.

{judge: checker, assistant: runs/policy}
{judge: checker, assistant: {assistant: runs/process, points: 2}, adversarial: 0.5}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, model_validator

from tutelage.settings.base import Settings, build, nearest, setting
from tutelage.settings.describe import plain

EXPERT = "world"
LLM = "llm:"
CRITIC = "critic"  # the template of a language model that helps
NOT_FOR_CRITICS = (
    "mode",
    "constitution",
    "orders",
    "exemplars",
    "exemplar_count",
    "unrated",
    "assistant",
)
"""Options of a language model that judges which mean nothing for one that helps."""


class PointingOptions(Settings):
    """An assistant that points at steps: the world's expert, a process reward model, a policy."""

    points: int = setting(
        1, "So many steps of a response it points at, the most doubtful ones.", unit="steps", ge=1
    )


class Assistant(NamedTuple):
    """An assistant as settings say it: the name of a model or of an expert, and its options."""

    name: str
    options: Any

    @property
    def is_llm(self) -> bool:
        """Whether it is a language model that is asked in words."""
        return self.name.startswith(LLM)

    @property
    def models(self) -> list[str]:
        """The model that runs here, an input of the run."""
        if self.is_llm:
            return [] if self.options.url else [self.name.removeprefix(LLM)]
        return [] if self.name == EXPERT else [self.name]


def _checked(given: Any) -> Any:
    if given:
        read_assistant(given)
    return given


AssistantSpec = Annotated[str | dict[str, Any], AfterValidator(_checked)]
"""An assistant by its name, or as {assistant: NAME, points: 2, ...}; "": none."""


class AssistedOptions(Settings):
    """How somebody who judges is helped."""

    assistant: AssistantSpec = setting(
        "",
        "Who looks first and says what is wrong: world (the expert of the embedded world), a run folder, llm:NAME, or "
        "{assistant: NAME} with options; empty: nobody.",
    )
    control: float = setting(
        0.1, "Share of the pairs, by content, of which the assistant says nothing.", unit="share", ge=0, le=1
    )
    adversarial: float = setting(
        0.0, "Share of the pairs of which it argues for the worse response.", unit="share", ge=0, le=1
    )

    @model_validator(mode="after")
    def _arms(self) -> AssistedOptions:
        if not self.assistant and (unread := self.set_of("control", "adversarial")):
            raise ValueError(f"{unread} means nothing without an assistant: name one, or leave it out")
        if self.assistant and self.control + self.adversarial > 1:
            raise ValueError(
                f"control={self.control:g} and adversarial={self.adversarial:g} are more than all pairs together: lower one"
            )
        return self


class CheckerOptions(AssistedOptions):
    """A simulated judge of solutions in steps who can verify only some of the steps."""

    checks: int = setting(2, "Steps of each response that it verifies.", unit="steps", ge=0)
    trust: float = setting(
        0.0, "How often it takes the assistant's word, and verifies nothing.", unit="share", ge=0, le=1
    )
    seed: int = setting(0, "Seed of which steps it verifies, and of its guesses.", ge=0)

    @model_validator(mode="after")
    def _trusts_somebody(self) -> CheckerOptions:
        if self.trust and not self.assistant:
            raise ValueError("trust means nothing without an assistant: name one, or leave it out")
        return self


HELP = ("assistant", "control", "adversarial")
"""What is said of a judge's help: nothing changes where there is no assistant."""


def read_assistant(given: str | Mapping[str, Any]) -> Assistant:
    """The assistant that a setting names.  Raises ValueError, one sentence, where it names none, or for an unknown option."""
    said = {"assistant": given} if isinstance(given, str) else given
    name = said.get("assistant")
    if not isinstance(name, str) or not name:
        raise ValueError(
            f"{plain(given)} names no assistant: write one, as in {{assistant: runs/policy, points: 2}}"
        )
    cls = _options_of(name)
    known = ["assistant", *(key for key in cls.model_fields if key not in (*NOT_FOR_CRITICS, *HELP))]
    for key in said:
        if key not in known:
            near = nearest(str(key), known)
            hint = f"did you mean {near!r}?" if near else f"known are {', '.join(known)}"
            raise ValueError(f"assistant {name}: unknown option {key!r}: {hint}")
    usual = {"template": CRITIC} if name.startswith(LLM) else {}
    own = usual | {key: value for key, value in said.items() if key != "assistant"}
    return Assistant(name, build(cls, own))


def _options_of(name: str) -> type[Settings]:
    if not name.startswith(LLM):
        return PointingOptions
    from tutelage.settings.judges import LLMOptions  # whose judges have assistants

    return LLMOptions
