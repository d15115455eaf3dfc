"""The reward models that a run trains side by side: the members of an ensemble, or the only one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tutelage.models.loading import HeadsOf, name_heads, one_score, set_pooling, set_score_normalisation
from tutelage.models.policy import ScalarModule
from tutelage.parallel import World
from tutelage.runs import MEMBERS, Run
from tutelage.seeds import rng
from tutelage.settings.reward import RewardSettings as Settings
from tutelage.train.heads import forget_steps
from tutelage.train.stage import export, setup_for
from tutelage.train.ties import Ties


@dataclass(frozen=True)
class Member:
    """One reward model of an ensemble, or the only one: what is trained, and the seed of its head and of its order.

    name: "" of the only one.  ties: the model of ties beside it, where there is one.
    """

    name: str
    model: ScalarModule
    seed: int
    ties: Ties | None = None


def named(what: str, member: Member) -> str:
    """What a member's part is called among all that is trained."""
    return f"{what}_{member.name}" if member.name else what


def make_members(
    settings: Settings,
    start: str,
    tokenizer: PreTrainedTokenizerBase,
    world: World,
    heads: Mapping[str, float],
    of: HeadsOf = "groups",
) -> list[Member]:
    """The reward models to train; the first is the one that `members=1` gives.  heads: their names and weights; {}: one."""
    setup, found = setup_for(settings, world), []
    for number in range(settings.members):
        seed = settings.seed if number == 0 else int(rng(settings.seed, "member", number).integers(2**31))
        name = f"member-{number + 1}" if settings.members > 1 else ""
        model = replace(setup, seed=seed).scalar(start, tokenizer, max(1, len(heads)))
        set_pooling(model, settings.pooling)
        forget_steps(model)
        name_heads(model, list(heads), list(heads.values()), of)
        ties = Ties(settings.loss) if settings.loss in ("davidson", "rao-kupper") else None
        found.append(Member(name, model, seed, ties if ties is None else ties.to(world.device)))
    return found


def note_spread(model: ScalarModule, scores: Tensor, run: Run) -> None:
    """Store mean and standard deviation of what the heads say together; scores: [..., k]."""
    together = one_score(model, scores)
    spread = float(together.std(correction=0))
    if spread == 0:
        run.console.print(
            "Warning: the reward model gives every response the same score; it has learnt nothing."
        )
    set_score_normalisation(model, float(together.mean()), spread or 1.0)


def export_members(
    run: Run, members: Sequence[Member], tokenizer: PreTrainedTokenizerBase, settings: Settings, world: World
) -> Path:
    """The first where a single one would be, the others in folders of their own."""
    for number, member in enumerate(members[1:], 2):
        names = f"{MEMBERS}/{number}/model", f"{MEMBERS}/{number}/adapter"
        export(run, member.model, tokenizer, settings, world, names)
    return export(run, members[0].model, tokenizer, settings, world)
