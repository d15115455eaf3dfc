"""What a command holds in memory: its models, the fullest batch of an update, and the responses that are written at once.

From the settings and the models' configs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tutelage.data.order import TOGETHER
from tutelage.models.loading import Source, context_at
from tutelage.models.lora import read_adapter
from tutelage.models.rehearsal import Role, Shape
from tutelage.models.tiny import tiny_config
from tutelage.rollout.drawing import GROUP
from tutelage.runs import result_folder
from tutelage.settings.distill import DistillSettings
from tutelage.settings.groups import PlanSettings
from tutelage.settings.judges import paths_in
from tutelage.settings.onpolicy import CriticSettings, RLSettings
from tutelage.settings.preference import DPOSettings, KTOSettings
from tutelage.settings.reward import ProcessSettings, RewardSettings
from tutelage.settings.rl import ReinforceSettings
from tutelage.settings.rollout import AnsweringSettings
from tutelage.settings.train import LoraSettings, PretrainSettings, SFTSettings

PROMPT = 512
"""Tokens of a prompt, where no setting bounds them."""


def roles(settings: PlanSettings, arithmetic: torch.dtype, checkpointing: bool = False) -> list[Role]:
    """The models that a command holds, as `models/setup.py` makes them; those that it trains first, in the order in which
    they run."""
    lora = settings.lora_rank if isinstance(settings, LoraSettings) else 0
    dtype = arithmetic if lora else torch.float32
    own: dict[str, Any] = {
        "trained": True,
        "dtype": dtype,
        "lora_rank": lora,
        "checkpointing": checkpointing,
    }
    if isinstance(settings, PretrainSettings):
        return [Role("policy", _start(settings), **own)]
    if isinstance(settings, AnsweringSettings):
        policy = Role("policy", result_folder(settings.way.path), dtype=arithmetic)
        return [policy, *_scoring(settings, arithmetic)]
    start = result_folder(settings.model)  # type: ignore[attr-defined]
    if isinstance(settings, RewardSettings):
        names = (
            ["reward model"]
            if settings.members == 1
            else [f"member {i + 1}" for i in range(settings.members)]
        )
        return [Role(name, start, "scores", **own) for name in names]
    if isinstance(settings, ProcessSettings):
        return [Role("process reward model", start, "scores", **own)]
    found = [Role("policy", start, **own)]
    if isinstance(settings, RLSettings):
        found += _around(settings, start, arithmetic, own)
    if isinstance(settings, DistillSettings) and settings.teacher:
        found.append(Role("teacher", result_folder(settings.teacher), dtype=arithmetic))
    return found


def _scoring(settings: AnsweringSettings, arithmetic: torch.dtype) -> list[Role]:
    """The reward models that say which responses are best."""
    models = [result_folder(path) for path in paths_in(settings.scored_by)] if settings.scored_by else []
    return [
        Role(
            "reward model" if len(models) == 1 else f"reward model {number}", path, "scores", dtype=arithmetic
        )
        for number, path in enumerate(models, 1)
    ]


def _around(settings: RLSettings, start: str, arithmetic: torch.dtype, own: dict[str, Any]) -> list[Role]:
    """What stands around a policy that learns by practising; with adapters frozen weights are shared."""
    models = [result_folder(path) for path in paths_in(settings.reward)]
    found: list[Role] = []
    if isinstance(settings, CriticSettings) and _has_critic(settings):
        found.append(_critic(settings, start, models, own))
    if not settings.lora_rank:
        found.append(Role("reference", start))
    for role, spec in (
        ("reward model", settings.reward),
        ("cost", settings.cost),
        ("monitor", settings.monitor),
    ):
        paths = [] if spec is None else [result_folder(path) for path in paths_in(spec)]
        for number, path in enumerate(paths, 1):
            adapter = read_adapter(Path(path).parent / "adapter") if settings.lora_rank else None
            name = role if len(paths) == 1 else f"{role} {number}"
            base = "policy" if adapter and adapter.is_on(start) else ""
            found.append(Role(name, path, "scores", dtype=arithmetic, beside=base))
    copied = not settings.lora_rank and arithmetic != torch.float32
    return [*found, Role("generator", start, dtype=arithmetic)] if copied else found


def _has_critic(settings: CriticSettings) -> bool:
    """Whether it has a network for one; a head on the policy takes next to nothing."""
    wanted = not isinstance(settings, ReinforceSettings) or settings.advantage == "learned"
    return wanted and settings.critic != "shared"


def _critic(settings: CriticSettings, start: str, models: Sequence[str], own: dict[str, Any]) -> Role:
    """As `critic.make_critic` chooses it, taking for granted that a reward model reads the policy's tokens."""
    from_policy = settings.critic == "policy" or (settings.critic == "auto" and not models)
    if from_policy:
        return Role("critic", start, "values", beside="policy" if settings.lora_rank else "", **own)
    path = models[0] if settings.critic == "auto" else result_folder(settings.critic)
    beside = "reward model" if settings.lora_rank and len(models) == 1 else ""
    return Role("critic", path, "values", beside=beside, **own)


def _start(settings: PretrainSettings) -> Source:
    if settings.model:
        return result_folder(settings.model)
    return tiny_config(
        settings.vocab_size,
        hidden=settings.hidden_size,
        layers=settings.layers,
        heads=settings.heads,
        context=settings.context,
    )


def shape(settings: PlanSettings, source: Source) -> Shape:
    """The fullest batch of an update."""
    if isinstance(settings, RLSettings):
        length = settings.max_prompt_length + settings.max_new_tokens
        units = settings.batch_size * settings.samples
        units = -(-units // settings.minibatches)
        return Shape(units, 1, _within(length, source), settings.max_new_tokens)
    if isinstance(settings, AnsweringSettings):
        return Shape(1, 1, 2, 1)
    if isinstance(settings, DistillSettings):
        return _taught(settings, source)
    assert isinstance(
        settings,
        PretrainSettings | SFTSettings | RewardSettings | ProcessSettings | DPOSettings | KTOSettings,
    )
    length = _within(settings.max_length, source)
    rated = isinstance(settings, RewardSettings) and settings.learn_from == "ratings"
    if isinstance(settings, KTOSettings):  # responses to one prompt are kept together
        return Shape(-(-settings.batch_size // TOGETHER), TOGETHER, length, length)
    sequences = 2 if isinstance(settings, RewardSettings | DPOSettings) and not rated else 1
    return Shape(settings.batch_size, sequences, length, length)


def _taught(settings: DistillSettings, source: Source) -> Shape:
    """What a student learns from: its own responses, or rows that are there before."""
    if not settings.on_policy:
        length = _within(settings.max_length, source)
        return Shape(settings.batch_size, 1, length, length)
    units = (settings.batch_size - settings.data_rows) * settings.samples + settings.data_rows
    length = settings.max_prompt_length + settings.max_new_tokens
    return Shape(units, 1, _within(length, source), settings.max_new_tokens)


def _within(length: int, source: Source) -> int:
    return min(length, context_at(source) or length)


@dataclass(frozen=True)
class Writing:
    """Responses that are wanted at once: `rows` of at most `prompt` and `new` tokens each."""

    rows: int
    prompt: int
    new: int

    @property
    def columns(self) -> int:
        """Keys and values of a row."""
        return self.prompt + self.new


def writing(settings: PlanSettings) -> Writing | None:
    """What a command has its model write; None where it writes nothing."""
    if isinstance(settings, AnsweringSettings):
        return Writing(settings.draws * GROUP, PROMPT, settings.max_new_tokens)
    if isinstance(settings, DistillSettings) and (settings.prompts or settings.keep == "agreed"):
        rows = (settings.batch_size if settings.on_policy else GROUP) * settings.samples
        return Writing(rows, settings.max_prompt_length, settings.max_new_tokens)
    if isinstance(settings, RLSettings):
        rows = settings.batch_size * settings.samples
        return Writing(rows, settings.max_prompt_length, settings.max_new_tokens)
    return None
