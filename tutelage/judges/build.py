"""A judge from what a setting says.

Each kind of judge is one entry in OPTIONS of `settings/judges.py` (what its name begins with, and what may be said of it) and
one in MAKERS here (how it is made).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple

from tutelage.judges.functions import RewardFunction, is_reward_function
from tutelage.judges.judge import Judge
from tutelage.settings.judges import (
    CHECKER,
    ENSEMBLE,
    HTTP,
    HTTPS,
    LLM,
    MODEL,
    PYTHON,
    UNCERTAINTY,
    WRITTEN,
    EnsembleOptions,
    LLMOptions,
    MixOptions,
    ModelOptions,
    RewardPart,
    names_model,
    read_parts,
    written_reward,
)
from tutelage.settings.judges import WORLD as WORLD
from tutelage.settings.rules import FORMULA, RULES

if TYPE_CHECKING:  # the models are imported where a judge is one: `label` by a rule starts without torch
    from transformers import PreTrainedTokenizerBase

    from tutelage.judges.calibration import Calibration, TaskCalibration
    from tutelage.judges.process import ProcessJudge
    from tutelage.judges.reward_model import RewardModelJudge
    from tutelage.models.policy import ScalarModule
    from tutelage.parallel import World

GOLD = "tutelage.worlds.gold:GoldStandard"
CHECKS = "tutelage.worlds.checker"
DEFAULTS = ModelOptions()


class Calls(NamedTuple):
    """Where questions to language models are written down: a store's address, and the project they belong to (None: none)."""

    store: str
    project: str | None = None


class Reader(NamedTuple):
    """Where reward models compute, whose tokens they are given, how they are loaded, and where questions to language models
    are written down (`build_judge`)."""

    world: World | None
    tokenizer: PreTrainedTokenizerBase | None
    max_tokens: int
    load: Callable[[str], ScalarModule] | None
    calls: Calls | None


def build_judge(
    spec: Any,
    world: World | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_tokens: int = 8192,
    load: Callable[[str], ScalarModule] | None = None,
    calls: Calls | None = None,
) -> Judge:
    """The judge that `spec` names: a string, or a mix of several: a mapping {judge: ..., weight: ...}, or a list of both.

    world: the embedded world's gold standard.  checker: a simulated judge who can verify only some steps (`worlds/checker.py`).
    python:MODULE:NAME: what `NAME` of a module on the Python path is, or
    makes when called: a judge, or a reward function in TRL's signature.  formula:NAME and verify:NAME: a rule (docs/rewards.md).
    http://... and https://...: an endpoint (`judges/remote.py`).  llm:NAME: a language model that is asked in words
    (`judges/llm`), whose questions and answers stand in `calls`.  NAME.yaml: the mix in that file.  Anything else: a reward
    model's run folder, folder or hub name, which computes in `world` (default: this machine), and scores the token ids of a
    policy with this `tokenizer` as they are; `load` gives its module where it is to share weights with others.
    docs/rewards-mixing.md has the options of mixes, ensembles and endpoints.

    Raises ValueError when there is no such judge, or it has no such option.
    """
    parts = read_parts(spec)  # all are understood before the first is loaded
    reader = Reader(world, tokenizer, max_tokens, load, calls)
    if len(parts) == 1 and parts[0].kind in (LLM, CHECKER) and parts[0].mix == MixOptions():
        return MAKERS[parts[0].kind](parts[0], reader)  # which says more of a pair than two scores
    if not isinstance(spec, str):
        return _mix(parts, reader)
    return _calibrated(spec, reader) if names_model(spec) else MAKERS[parts[0].kind](parts[0], reader)


def _mix(parts: list[RewardPart], reader: Reader) -> Judge:
    from tutelage.judges.combine import Mix, Part, named

    judges = [MAKERS[part.kind](part, reader) for part in parts]
    names = named(judges, [part.mix.name for part in parts])
    return Mix(
        [
            Part(judge, name, part.mix.weight, _scale(part, judge), part.mix.gate, frozenset(part.mix.tasks))
            for part, judge, name in zip(parts, judges, names, strict=True)
        ]
    )


def _scale(part: RewardPart, judge: Judge) -> Calibration | TaskCalibration | str | None:
    """What normalises the scores of a part: those of a reward model have no unit, unless they only open a gate."""
    from tutelage.judges.calibration import Calibration, RunningCalibration, TaskCalibration
    from tutelage.judges.combine import RANK
    from tutelage.judges.reward_model import RewardModelJudge

    if part.mix.normalise == "zscore":
        return RunningCalibration()
    if part.mix.normalise == "zscore-task":
        return TaskCalibration()
    if part.mix.normalise == "rank":
        return RANK
    if part.mix.normalise == "auto" and part.mix.gate is None and isinstance(judge, RewardModelJudge):
        return Calibration(judge.normalisation)
    return None


def _world(part: RewardPart, reader: Reader) -> Judge:
    return _from_python(GOLD)


def _checker(part: RewardPart, reader: Reader) -> Judge:
    judge: Judge = import_module(CHECKS).checker(part.options)
    return judge


def _python(part: RewardPart, reader: Reader) -> Judge:
    return _from_python(str(part.judge).removeprefix(PYTHON))


def _from_python(place: str) -> Judge:
    module, _, name = place.partition(":")
    try:
        found: Any = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"judge {PYTHON}{place} cannot be imported ({error}): write python:MODULE:NAME, with MODULE on PYTHONPATH."
        ) from error
    if is_reward_function(found):
        return RewardFunction(found, f"{PYTHON}{place}")
    if isinstance(found, type) or (callable(found) and not hasattr(found, "score")):
        found = _made(found, place)
        if is_reward_function(found) and not hasattr(found, "score"):
            return RewardFunction(found, f"{PYTHON}{place}")
    if not (hasattr(found, "score") and hasattr(found, "compare")):
        raise ValueError(
            f"{PYTHON}{place} is no judge: derive it from tutelage.judges.judge.Judge, or write a function that takes "
            "completions and **columns and returns a list of numbers."
        )
    judge: Judge = found
    return judge


def _made(maker: Callable[..., Any], place: str) -> Any:
    try:
        signature(maker).bind()
    except TypeError as error:
        raise ValueError(
            f"{PYTHON}{place} cannot be made ({error}): a judge is made without arguments, and a reward function takes "
            "completions, prompts or **columns."
        ) from None
    return maker()


def _by_ranks(make: Callable[[RewardPart, Reader], Judge]) -> Callable[[RewardPart, Reader], Judge]:
    """The judge that `make` gives, shared by the ranks where there are several; each asks for itself.  Reward models share the
    ranks' work inside, micro-batch by micro-batch."""

    def made(part: RewardPart, reader: Reader) -> Judge:
        world = reader.world
        if world is None or world.size == 1:
            return make(part, reader)
        from tutelage.judges.shared import Shared

        return Shared(make(part, reader._replace(world=world.alone())), world)

    return made


def _rule(part: RewardPart, reader: Reader) -> Judge:
    name = str(part.judge)
    if name.startswith(FORMULA):
        from tutelage.judges.formula import formula

        return formula(name, part.options)
    from tutelage.judges.verify.build import verifier

    return verifier(name, part.options)


def _remote(part: RewardPart, reader: Reader) -> Judge:
    from tutelage.judges.remote import RemoteJudge

    return RemoteJudge(str(part.judge), **part.options.model_dump())


def _llm(part: RewardPart, reader: Reader) -> Judge:
    from tutelage.judges.llm.build import llm_judge

    options: LLMOptions = part.options
    calls = reader.calls or Calls(options.calls)
    return llm_judge(
        str(part.judge).removeprefix(LLM),
        options,
        calls.store,
        calls.project,
        reader.world,
        reader.max_tokens,
    )


def _reward_model(
    path: str, reader: Reader, options: ModelOptions = DEFAULTS
) -> RewardModelJudge | ProcessJudge:

    from tutelage.judges.process import ProcessJudge
    from tutelage.models.loading import load_scalar, load_tokenizer
    from tutelage.models.step_head import StepHead
    from tutelage.parallel import World
    from tutelage.runs import result_folder

    world = reader.world or World.here()
    folder = result_folder(path)
    head = StepHead.at(folder)
    if head is None and options.set_of("combine", "places"):
        raise ValueError(
            f"{path} scores whole responses: combine and places are for a process reward model, so leave them out."
        )
    if reader.load is None:
        heads = head.classes if head else None
        model = load_scalar(folder, dtype=world.dtype, device=world.device, heads=heads, fresh_head=False)
    else:
        model = reader.load(path)
    common = (model, load_tokenizer(folder), reader.tokenizer, world, reader.max_tokens)
    if head is None:
        return _of_responses(common, options, reader, path)
    if options.assistant:
        raise ValueError(f"{path} scores steps and reads no critique: leave its assistant out.")
    chosen = (options.combine or "product", options.places or "dense")
    return ProcessJudge(*common, head, *chosen, name=path)


def _of_responses(common: Any, options: ModelOptions, reader: Reader, path: str) -> RewardModelJudge:
    """A reward model of whole responses, with its assistant where it reads critiques."""
    from tutelage.judges.assist.build import build_assistant
    from tutelage.judges.assist.critique import CritiqueJudge, reads_critiques
    from tutelage.judges.reward_model import RewardModelJudge

    model, tokenizer, policy_tokenizer, world, max_tokens = common
    reads = reads_critiques(model.config)
    if reads != bool(options.assistant):
        raise ValueError(
            f"{path} reads a critique behind each response: name who writes it, as in {{judge: {path}, assistant: runs/sft}}."
            if reads
            else f"{path} reads no critiques: leave its assistant out, or train one with reward assistant=NAME."
        )
    if not reads:
        return RewardModelJudge(model, tokenizer, policy_tokenizer, world, max_tokens, name=path)
    judge = CritiqueJudge(model, tokenizer, None, world, max_tokens, name=path)
    judge.assistant = build_assistant(options.assistant, world, max_tokens)
    return judge


def _calibrated(path: str, reader: Reader) -> Judge:
    """The reward model of a run in its own standard deviations; the ensemble in it, where there is one."""
    from tutelage.runs import members_of

    models = members_of(path)
    return _alone(path, reader) if len(models) == 1 else _joined(models, EnsembleOptions(), reader)


def _alone(path: str, reader: Reader) -> Judge:
    """A reward model in its own standard deviations; probabilities have a unit already."""
    from tutelage.judges.calibration import Calibrated, Calibration
    from tutelage.judges.reward_model import RewardModelJudge

    judge = _reward_model(path, reader)
    if not isinstance(judge, RewardModelJudge):
        return judge
    return Calibrated(judge, Calibration(judge.normalisation))


def _ensemble(part: RewardPart, reader: Reader) -> Judge:
    from tutelage.runs import members_of

    models = [model for path in part.models for model in members_of(path)]
    if len(models) == 1:
        raise ValueError(
            f"an ensemble has at least two reward models, and {models[0]} is one: name another, or write it without brackets."
        )
    return _joined(models, part.options, reader)


def _joined(models: Sequence[str], options: EnsembleOptions, reader: Reader) -> Judge:
    from tutelage.judges.combine import named
    from tutelage.judges.ensemble import STD, Ensemble

    members = [_alone(path, reader) for path in models]
    names = named(members, [""] * len(members), taken=[STD])
    coef = UNCERTAINTY if options.uncertainty_coef is None else options.uncertainty_coef
    return Ensemble(dict(zip(names, members, strict=True)), options.combine, coef)


def _written(part: RewardPart, reader: Reader) -> Judge:
    """The mix in a file, under the file's name."""
    judge = _mix(read_parts(written_reward(str(part.judge))), reader)
    judge.name = str(part.judge)
    return judge


def _model(part: RewardPart, reader: Reader) -> Judge:
    """The reward model in a part of a mix, whose scale is the mix's affair."""
    from tutelage.runs import members_of

    path = str(part.judge)
    return (
        _reward_model(path, reader, part.options) if len(members_of(path)) == 1 else _calibrated(path, reader)
    )


MAKERS: Mapping[str, Callable[[RewardPart, Reader], Judge]] = {
    WORLD: _world,
    CHECKER: _checker,
    PYTHON: _by_ranks(_python),
    HTTP: _by_ranks(_remote),
    HTTPS: _by_ranks(_remote),
    LLM: _by_ranks(_llm),
    MODEL: _model,
    ENSEMBLE: _ensemble,
    WRITTEN: _written,
    **dict.fromkeys(RULES, _by_ranks(_rule)),
}
