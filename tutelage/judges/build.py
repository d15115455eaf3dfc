"""A judge from what a setting says."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tutelage.judges.judge import Judge

if TYPE_CHECKING:  # the models are imported where a judge is one: `label` by a rule starts without torch
    from transformers import PreTrainedTokenizerBase

    from tutelage.parallel import World

WORLD = "world"
PYTHON = "python:"
GOLD = "tutelage.worlds.gold:GoldStandard"


def build_judge(
    spec: str,
    world: World | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_tokens: int = 8192,
) -> Judge:
    """The judge that `spec` names.

    world: the embedded world's gold standard.  python:MODULE:NAME: what `NAME` of a module on the Python path is, or
    makes when called.  Anything else: a reward model's run folder, folder or hub name, which computes in `world`
    (default: this machine), and scores the token ids of a policy with this `tokenizer` as they are.

    Raises ValueError when there is no such judge.
    """
    if reads_model(spec):
        return _reward_model(spec, world, tokenizer, max_tokens)
    return _from_python(GOLD if spec == WORLD else spec.removeprefix(PYTHON))


def reads_model(spec: str) -> bool:
    """Whether the judge that `spec` names is a reward model, which is an input of the run."""
    return spec != WORLD and not spec.startswith(PYTHON)


def _from_python(place: str) -> Judge:
    module, _, name = place.partition(":")
    try:
        found: Any = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"judge {PYTHON}{place} cannot be imported ({error}): write python:MODULE:NAME, with MODULE on PYTHONPATH."
        ) from error
    judge = found() if callable(found) else found
    if not (hasattr(judge, "score") and hasattr(judge, "compare")):
        raise ValueError(f"{PYTHON}{place} is no judge: derive it from tutelage.judges.judge.Judge.")
    made: Judge = judge
    return made


def _reward_model(
    path: str, world: World | None, tokenizer: PreTrainedTokenizerBase | None, max_tokens: int
) -> Judge:
    import torch

    from tutelage.judges.calibration import Calibrated, Calibration
    from tutelage.judges.reward_model import RewardModelJudge
    from tutelage.models.loading import load_scalar, load_tokenizer, score_normalisation
    from tutelage.parallel import World

    world = world or World(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    model, own = load_scalar(path, dtype=world.dtype, device=world.device), load_tokenizer(path)
    judge = RewardModelJudge(model, own, tokenizer, world, max_tokens, name=path)
    known = score_normalisation(model)
    return Calibrated(judge, Calibration(known)) if known else judge
