"""An assistant from what a setting says."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tutelage.judges.assist.assistant import Assistant
from tutelage.settings.assist import EXPERT, read_assistant

if TYPE_CHECKING:
    from tutelage.parallel import World

WORLDS = "tutelage.worlds.checker"


def build_assistant(
    given: Any,
    world: World | None = None,
    max_tokens: int = 8192,
    store: str | None = None,
    project: str | None = None,
) -> Assistant:
    """The assistant that `given` names: world; llm:NAME, whose questions stand in a project of a `store`; or a model's run
    folder, folder or hub name: a process reward model, or a policy.

    Raises ValueError for a model that says nothing of steps.
    """
    spec = read_assistant(given)
    if spec.is_llm:
        from tutelage.judges.llm.build import critic

        return critic(spec.name, spec.options, store, project, world, max_tokens)
    if spec.name == EXPERT:
        expert: Assistant = import_module(WORLDS).Expert(spec.options.points)
        return expert
    return _model(spec.name, spec.options.points, world, max_tokens)


def _model(path: str, points: int, given: World | None, max_tokens: int) -> Assistant:

    from tutelage.judges.assist.pointing import PolicyAssistant, ProcessAssistant
    from tutelage.judges.process import ProcessJudge
    from tutelage.models.loading import load_policy, load_scalar, load_tokenizer
    from tutelage.models.step_head import StepHead
    from tutelage.models.stored import heads_at
    from tutelage.parallel import World
    from tutelage.runs import result_folder

    world = given or World.here()
    folder = result_folder(path)
    head, tokenizer = StepHead.at(folder), load_tokenizer(folder)
    if head is None and heads_at(folder) is None:
        policy = load_policy(folder, dtype=world.dtype, device=world.device)
        return PolicyAssistant(policy, tokenizer, world, max_tokens, path, points)
    if head is None or head.about != "steps":
        raise ValueError(
            f"the assistant {path} scores whole responses and points at no step: give a policy, or a model that `process` "
            "trained with marks=steps."
        )
    model = load_scalar(folder, dtype=world.dtype, device=world.device, heads=head.classes, fresh_head=False)
    judge = ProcessJudge(model, tokenizer, None, world, max_tokens, head, name=path)
    return ProcessAssistant(judge, points)
