"""Rewards as settings say them: which judges, how they are mixed, and the options of each kind of judge.

A reward is a judge's name, or a list of parts: a judge's name, or a mapping with `judge`, how it is mixed, and the options
of its kind.

    reward: runs/reward
    reward: [runs/reward, {judge: world, weight: 0.5}, {judge: "https://host/safety", gate: 0.5}]
    reward: runs/irl/reward.yaml     a file with a line `reward:` and such a list below it
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import field_validator, model_validator

from tutelage.settings.assist import HELP, AssistantSpec, AssistedOptions, CheckerOptions, read_assistant
from tutelage.settings.base import Settings, build, nearest, setting
from tutelage.settings.describe import mark, plain
from tutelage.settings.rules import RULES, is_rule, known_rule
from tutelage.settings.yaml12 import read_mapping

# Kinds of judges, by what their names begin with.
WORLD = "world"
CHECKER = "checker"
PYTHON = "python:"
HTTP, HTTPS = "http://", "https://"
LLM = "llm:"
MODEL = ""  # any other name
ENSEMBLE = "[]"  # a list of reward models
WRITTEN = ".yaml"  # what the name of a file ends with in which a reward is written down

UNCERTAINTY = 0.1


class MixOptions(Settings):
    """How a judge stands in a mix."""

    weight: float = setting(1.0, "What its score is multiplied with; 0 only watches it.")
    tasks: list[str] = setting([], "It applies to prompts of these tasks alone; empty: to all.")
    normalise: Literal["auto", "none", "zscore", "zscore-task", "rank"] = setting(
        "auto",
        "auto: a reward model in standard deviations of its scores on the reference's responses, all else as it is; none; "
        "zscore: by the mean and deviation of all training batches so far; zscore-task: by those of the prompt's task; rank: "
        "its rank in the batch, from -1 to 1.",
    )
    gate: float | None = setting(
        None,
        "Where its score is below this, weight times its score takes the place of the sum; elsewhere it adds nothing.",
    )
    name: str = setting("", "What it is called in metrics; empty: as its judge is.")

    @field_validator("name")
    @classmethod
    def _one_level(cls, name: str) -> str:
        if "/" in name:
            raise ValueError(
                f"{name} has a slash, which stands between a part and what it is made of: write it without"
            )
        return name

    @model_validator(mode="after")
    def _gates_are_raw(self) -> MixOptions:
        if self.gate is not None and self.normalise not in ("auto", "none"):
            raise ValueError(
                f"gate and normalise: {self.normalise} do not go together, for a gate compares the score as it is: leave one out"
            )
        return self


class NoOptions(Settings):
    """Of judges about which there is nothing more to say."""


Combine = Literal["product", "minimum", "mean", "last"]
Places = Literal["dense", "end"]


class ModelOptions(Settings):
    """A trained model; the first two options are for one that scores steps (`process`), the last for one that reads critiques."""

    combine: Combine | None = setting(
        None,
        "A process reward model's score of the whole, from the probabilities that steps are right: product (null), minimum, "
        "mean, or that of the last.",
    )
    places: Places | None = setting(
        None,
        "Where it stands in PPO and REINFORCE: dense (null), at the end of each step what that changes of it; end, all of it "
        "at the last token.",
    )
    assistant: AssistantSpec = setting(
        "", "Who writes the critiques that a reward model reads which `reward` trained with an assistant."
    )


class EnsembleOptions(Settings):
    """Several reward models that speak with one voice."""

    combine: Literal["mean", "worst", "uncertainty"] = setting(
        "mean",
        "How their scores, each in its own standard deviations, become one: mean; worst (the lowest); uncertainty (the mean "
        "less uncertainty_coef times the variance).",
    )
    uncertainty_coef: float | None = setting(
        None, f"Weight of the variance, for combine: uncertainty; null = {UNCERTAINTY}.", ge=0
    )

    @model_validator(mode="after")
    def _nothing_ignored(self) -> EnsembleOptions:
        if self.uncertainty_coef is not None and self.combine != "uncertainty":
            raise ValueError(
                f"uncertainty_coef means nothing with combine: {self.combine}: leave it out, or write combine: uncertainty"
            )
        return self


class RemoteOptions(Settings):
    """A judge that answers over HTTP."""

    batch_size: int = setting(
        32, "Responses per request.", unit="responses", changes_result=False, ge=1, le=10_000
    )
    concurrency: int = setting(4, "Requests at a time.", unit="requests", changes_result=False, ge=1, le=256)
    timeout: float = setting(
        60.0,
        "One request may take so long, from the connection to the last byte.",
        unit="s",
        changes_result=False,
        gt=0,
    )
    patience: float = setting(
        300.0,
        "A batch is sent again for so long before the run stops; 0 sends it once.",
        unit="s",
        changes_result=False,
        ge=0,
    )
    token_env: str = setting(
        "", "Environment variable with the token that is sent (Authorization: Bearer).", changes_result=False
    )


Mode = Literal["text", "logits"]
TEMPLATES = (
    "pair",
    "pair-with-reference",
    "rlaif-4criteria",
    "constitution",
    "rating",
    "self-reward",
    "points",
    "k-way",
    "steps",
)


class LLMOptions(AssistedOptions):
    """A language model that is asked in words."""

    url: str = setting(
        "",
        "Base URL of an OpenAI-compatible endpoint, as http://localhost:8000/v1; empty: the model runs here.",
    )
    template: str = setting(
        "pair", f"What it is asked: {', '.join(TEMPLATES)}, or the path of a template of your own."
    )
    mode: Mode = setting(
        "text",
        "text: it writes its reasons and its verdict; logits: the probabilities of its first token are the verdict.",
    )
    constitution: str = setting(
        "", "File with a principle in each line, for templates that judge by one; empty: our own eight."
    )
    orders: Literal["both", "random"] = setting(
        "both",
        "Which response stands first: each once, and the mean counts; random: one of them, by content.",
    )
    exemplars: str = setting(
        "", "File of comparisons that are shown before each question, as judged examples; empty: none."
    )
    exemplar_count: int = setting(2, "So many of them, the first ones.", unit="rows", ge=1, le=32)
    temperature: float | None = setting(0.0, "Sampling temperature; null: not sent.", ge=0, le=2)
    max_tokens: int = setting(512, "Longest answer, with mode: text.", unit="tokens", ge=1)
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = setting(
        "max_tokens", "How the endpoint calls that limit."
    )
    json_answer: bool = setting(
        False, "Ask the endpoint for JSON (response_format), where it can give nothing else."
    )
    seed: int | None = setting(None, "Seed that is sent; null: none.", ge=0)
    answers: int = setting(
        1,
        "A rating is the mean of so many answers, each sampled with a seed of its own; wants a temperature above 0.",
        unit="answers",
        ge=1,
        le=64,
    )
    repair: bool = setting(True, "Ask once more where an answer holds no verdict; then there is no vote.")
    unrated: Literal["none", "mean"] = setting(
        "none",
        "What a response whose rating cannot be read scores: none, so that training stops; mean: as the others asked with it.",
    )
    key_env: str = setting(
        "OPENAI_API_KEY",
        "Environment variable with the key that is sent; not set: no key is.",
        changes_result=False,
    )
    concurrency: int = setting(
        8, "Questions at a time.", unit="questions", changes_result=False, ge=1, le=1024
    )
    requests_per_minute: int = setting(
        0,
        "Send at most so many questions a minute; 0: no limit.",
        unit="questions",
        changes_result=False,
        ge=0,
    )
    tokens_per_minute: int = setting(
        0,
        "Send and ask for at most so many tokens a minute; 0: no limit.",
        unit="tokens",
        changes_result=False,
        ge=0,
    )
    timeout: float = setting(120.0, "One answer may take so long.", unit="s", changes_result=False, gt=0)
    patience: float = setting(
        600.0, "A question is sent again for so long before the run stops; 0 sends it once.", unit="s",
        changes_result=False, ge=0,
    )  # fmt: skip
    price_in: float = setting(
        0.0, "Price of a million tokens that are sent.", unit="money", changes_result=False, ge=0
    )
    price_out: float = setting(
        0.0, "Price of a million tokens that come back.", unit="money", changes_result=False, ge=0
    )
    max_cost: float | None = setting(
        None, "Stop before all that it was asked in this project has cost more; null: no limit.", unit="money",
        changes_result=False, ge=0,
    )  # fmt: skip
    calls: str = setting(
        "runs/store.sqlite",
        "Store that keeps every question and its answer, where the command has none of its own.",
        changes_result=False,
    )

    @model_validator(mode="after")
    def _nothing_ignored(self) -> LLMOptions:
        if self.max_cost is not None and not (self.price_in or self.price_out):
            raise ValueError(
                f"max_cost is {self.max_cost:g}, but without price_in and price_out nothing costs anything: give them"
            )
        if self.answers > 1 and self.temperature == 0:
            raise ValueError(
                f"answers is {self.answers}, but at temperature 0 they are all the same: set temperature, as 0.7, or leave it out"
            )
        if self.url:
            _check_address(self.url)
        if self.mode == "logits" and (unread := self.set_of(*_NOT_WEIGHED)):
            raise ValueError(f"{unread} means nothing with mode: logits: leave it out")
        if not self.url and (unread := self.set_of(*_OF_ENDPOINTS)):
            raise ValueError(f"{unread} means nothing without url, for the model runs here: leave it out")
        return self


_NOT_WEIGHED = ("max_tokens", "json_answer", "repair", "seed", "answers")
"""What is only for answers that are written."""
_OF_ENDPOINTS = ("json_answer", "max_tokens_name", "key_env", "timeout", "patience")


OPTIONS: Mapping[str, type[Settings]] = {
    WORLD: NoOptions,
    CHECKER: CheckerOptions,
    LLM: LLMOptions,
    PYTHON: NoOptions,
    HTTP: RemoteOptions,
    HTTPS: RemoteOptions,
    MODEL: ModelOptions,
    ENSEMBLE: EnsembleOptions,
    WRITTEN: NoOptions,
    **RULES,
}
"""Kind -> what may be said of its judges, beside how they are mixed.  `judges/build.py` says how they are made."""


@dataclass(frozen=True)
class RewardPart:
    """One judge of a reward; `judge` is its name, or the names of the reward models of an ensemble."""

    judge: str | list[str]
    mix: MixOptions
    options: Any

    @property
    def kind(self) -> str:
        return kind_of(self.judge)

    @property
    def models(self) -> list[str]:
        """The reward models in it; those of a reward in a file, too, which is read for that."""
        if self.kind == WRITTEN:
            return paths_in(written_reward(str(self.judge)))
        judges = self.judge if isinstance(self.judge, list) else [self.judge]
        return [judge for judge in judges if names_model(judge)]

    @property
    def helpers(self) -> list[str]:
        """The models that help it."""
        helped = getattr(self.options, "assistant", "")
        return read_assistant(helped).models if helped else []


def kind_of(judge: str | list[str]) -> str:
    """Which of OPTIONS is a judge's kind."""
    if isinstance(judge, list):
        return ENSEMBLE
    if judge in (WORLD, CHECKER):
        return judge
    if is_rule(judge):
        return known_rule(judge)
    kinds = (kind for kind in OPTIONS if kind.endswith((":", "//")))
    path = WRITTEN if judge.endswith(WRITTEN) else MODEL
    return next((kind for kind in kinds if judge.startswith(kind)), path)


def names_model(judge: str) -> bool:
    """Whether this names a reward model, which is an input of the run."""
    return kind_of(judge) == MODEL


def only_computes(reward: Any) -> bool:
    """Whether a reward has reward models, which several processes can share, and no language model that is asked in words."""
    kinds = _kinds_in(reward)
    return not kinds.isdisjoint((MODEL, ENSEMBLE)) and LLM not in kinds


def _kinds_in(reward: Any) -> set[str]:
    """Those of all parts; of a file with a reward those of its parts."""
    found = set[str]()
    for part in read_parts(reward):
        found |= _kinds_in(written_reward(str(part.judge))) if part.kind == WRITTEN else {part.kind}
    return found


def read_parts(reward: Any) -> list[RewardPart]:
    """The parts of a reward with all their options.

    Raises ValueError, one sentence that names the part, for an unknown or unfit option, names that are not unique, and a
    mix that can reward nothing.
    """
    given = reward if isinstance(reward, list | tuple) else [reward]
    parts = [_read_part(part, f"part {number}") for number, part in enumerate(given, 1)]
    names = [part.mix.name for part in parts if part.mix.name]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(f"two parts of the reward are named {twice!r}: give one of them another name")
    if not any(part.mix.gate is None and part.mix.weight for part in parts):
        raise ValueError(
            "nothing is rewarded, for the reward has no part without a gate whose weight is not 0: add one"
        )
    return parts


def written_reward(path: str) -> list[Any]:
    """The parts of the reward in a file.  Raises ValueError, naming the file, where there is none that can be used."""
    found = read_mapping(path).values
    if list(found) != ["reward"]:
        raise ValueError(
            f"{path} holds {', '.join(found) or 'nothing'}, and a reward in a file is `reward:` with a list of judges, and "
            "nothing else: write it so"
        )
    given = found["reward"] if isinstance(found["reward"], list) else [found["reward"]]
    try:
        parts = read_parts(given)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if any(part.kind == WRITTEN for part in parts):
        raise ValueError(f"{path} names another file, and a reward in a file says all itself: copy its parts")
    if by_rank(given):
        raise ValueError(f"{path}: normalise: rank depends on the batch: take zscore or none in a file")
    return given


def paths_in(reward: str | Sequence[Any]) -> list[str]:
    """The reward models that a reward names, in its order."""
    return list(dict.fromkeys(model for part in read_parts(reward) for model in part.models))


def inputs_in(reward: str | Sequence[Any]) -> list[str]:
    """What a reward is made of here, in its order: reward models, language models without an address, assistants, and files with
    a reward and what that is made of."""
    return list(dict.fromkeys(name for part in read_parts(reward) for name in _inputs_of(part)))


def _inputs_of(part: RewardPart) -> list[str]:
    name = str(part.judge)
    if part.kind == LLM and not part.options.url:
        own = [name[len(LLM) :]]
    else:
        own = [name, *inputs_in(written_reward(name))] if part.kind == WRITTEN else part.models
    return [*own, *part.helpers]


def same_reward(before: Any, now: Any) -> bool:
    """Whether a run may go on with the reward `now`: it differs at most in what changes no score, such as a timeout.

    A list of one part is another reward than its judge alone: it has other metrics.
    """
    return isinstance(before, str) == isinstance(now, str) and scoring(before) == scoring(now)


def scoring(reward: Any) -> list[dict[str, Any]]:
    """What of a reward changes its scores: each part with its judge and options, defaults included; plain JSON."""
    return [
        {"judge": part.judge, **_marked(part.mix), **_marked(part.options)} for part in read_parts(reward)
    ]


def by_rank(reward: Any) -> str:
    """Why a reward cannot score where there are no batches to be ranked in; "" where it can."""
    if not reward or all(part.mix.normalise != "rank" for part in read_parts(reward)):
        return ""
    return "normalise: rank compares the responses of one batch, and here batches are as memory has it: take zscore or none"


def checked_reward(reward: Any) -> Any:
    """The reward as it was given.  Raises ValueError where `read_parts` does: before anything is loaded."""
    read_parts(reward)
    return reward


def _read_part(part: Any, where: str) -> RewardPart:
    """One part, from a judge's name or a mapping.  `where` says which, for the error."""
    given = {"judge": part} if isinstance(part, str) else part
    if not isinstance(given, Mapping):
        raise ValueError(f"{where} is {plain(part)}, but a part of a reward is a judge's name or a mapping")
    judge = given.get("judge")
    if isinstance(judge, str) and judge.startswith(("{", "[")):
        raise ValueError(
            f"{where} is a text, {judge}: parts with options stand in a list, as [{{judge: world, weight: 0.5}}]"
        )
    if not judge or not isinstance(judge, str | list | tuple):
        raise ValueError(f"{where} has no judge: write one, as in {{judge: runs/reward, weight: 0.5}}")
    try:
        return _with_options(judge if isinstance(judge, str) else list(judge), given)
    except ValueError as error:
        raise ValueError(f"{where} ({plain(judge)}): {error}") from None


def _with_options(judge: str | list[str], given: Mapping[str, Any]) -> RewardPart:
    kind = kind_of(judge)
    if isinstance(judge, list):
        _check_members(judge)
    elif kind in (HTTP, HTTPS):
        _check_address(judge)
    elif kind == MODEL and re.fullmatch(r"[\w.]+:\w+", judge):
        raise ValueError(f"no model has such a name: a function is python:{judge}")
    own = OPTIONS[kind]
    mixing = MixOptions.model_fields
    for key in given:
        known = ["judge", *mixing, *own.model_fields]
        if key not in known:
            near = nearest(str(key), known)
            hint = f"did you mean {near!r}?" if near else f"known are {', '.join(known)}"
            raise ValueError(f"unknown option {key!r}: {hint}")
    return RewardPart(
        judge,
        build(MixOptions, {key: value for key, value in given.items() if key in mixing}),
        build(own, {key: value for key, value in given.items() if key in own.model_fields}),
    )


def _check_members(judges: Sequence[Any]) -> None:
    for number, judge in enumerate(judges):
        if not isinstance(judge, str) or not judge or not names_model(judge):
            raise ValueError(
                f"{plain(judge)} is no reward model, and an ensemble is of reward models: make it a part of its own"
            )
        if judge in judges[:number]:
            raise ValueError(f"{judge} stands twice in one ensemble: keep one")


def _check_address(judge: str) -> None:
    try:
        address = urlsplit(judge)
        usable = bool(address.hostname) and address.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{judge} is no address: write it like http://localhost:8100/score")
    if address.username or address.password:
        raise ValueError(
            f"{address.hostname} is called with a password in its address, which is written down with the settings: put it "
            "into an environment variable, and the variable's name into token_env"
        )


LATER = {"answers": 1}
"""What there was not when judges were first written down: by default it is not spoken of, so that they are still the same."""


def _marked(options: Settings) -> dict[str, Any]:
    fields = type(options).model_fields
    marked = {name: getattr(options, name) for name, field in fields.items() if mark(field, "changes_result")}
    marked = {name: value for name, value in marked.items() if name not in LATER or value != LATER[name]}
    if not getattr(options, "assistant", ""):
        return {name: value for name, value in marked.items() if name not in HELP}
    return marked
