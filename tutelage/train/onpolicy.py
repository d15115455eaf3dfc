"""What every on-policy command starts from: the policy, its reference, a judge, and prompts that both can read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from tutelage.data.reading.formats import First, read_prompts
from tutelage.data.reading.sources import shown
from tutelage.data.table import Examples
from tutelage.judges.build import build_judge
from tutelage.judges.inputs import note_judge
from tutelage.judges.judge import Judge, rewarding
from tutelage.models.loading import context_at, load_tokenizer
from tutelage.models.policy import PolicyModule, ScalarModule
from tutelage.models.setup import Setup
from tutelage.parallel import World
from tutelage.records import Place, Prompt
from tutelage.rollout.ahead import Ahead
from tutelage.rollout.experience import Rollouts
from tutelage.rollout.generator import Generator
from tutelage.rollout.local import LocalGenerator
from tutelage.rollout.prompts import answerable
from tutelage.rollout.remote.build import synced
from tutelage.rollout.remote.generator import RemoteGenerator
from tutelage.rollout.weights import WeightsInPrompts
from tutelage.runs import Run, result_folder
from tutelage.settings.judges import paths_in, read_parts
from tutelage.settings.onpolicy import RLSettings
from tutelage.train.algorithm import Algorithm
from tutelage.train.fit import fit
from tutelage.train.mix import mixed
from tutelage.train.monitor import BEST as BEST_BY_MONITOR
from tutelage.train.monitor import Monitor, make_monitor, monitor_models
from tutelage.train.stage import export, setup_for, show_preflight, show_sides, steps_for
from tutelage.train.tasks import TaskGradients

BEST = "max:eval_objective/rlhf_reward"
"""What tells the best policy: the highest score alone would choose the one that exploits the judge most."""

EVALUATED = (
    "objective/scores",
    "objective/kl",
    "objective/rlhf_reward",
    "completions/mean_length",
    "completions/clipped_ratio",
)


@dataclass(frozen=True)
class OnPolicy:
    """reward_models: those that the reward asks, by their folders.  evaluate: None where there are no `eval_prompts`.  monitor:
    None where nobody watches."""

    setup: Setup
    policy: PolicyModule
    tokenizer: PreTrainedTokenizerBase
    reward_models: dict[str, ScalarModule]
    judge: Judge
    rollouts: Rollouts
    steps: int
    evaluate: Callable[[], dict[str, float]] | None
    place: Callable[[int], Place | None]  # of a prompt, in its file
    task_of: Callable[[int], str]  # of a prompt
    monitor: Monitor | None = None

    def learn(self, algorithm: Algorithm, settings: RLSettings, world: World, run: Run) -> Path:
        """Train with the algorithm, and the text that the settings mix in; returns the exported policy's folder."""
        updates = settings.inner_epochs * settings.minibatches
        if settings.task_gradients_every:
            algorithm = TaskGradients(algorithm, self.task_of, settings, world, run.log)
        both, place = mixed(algorithm, self.policy, self.tokenizer, settings, run, self.place, updates)
        both.trained |= self.monitor.kept if self.monitor else {}
        fit(
            both,
            settings,
            world,
            run,
            steps=self.steps,
            tokenizer=self.tokenizer,
            evaluate=self.evaluate,
            best=BEST_BY_MONITOR if self.monitor else BEST,
            place=place,
            stop=self.monitor.stops if self.monitor and settings.monitor_stop else None,
        )
        return export(run, self.policy, self.tokenizer, settings, world)


def on_policy(settings: RLSettings, world: World, run: Run) -> OnPolicy:
    """Load what the settings name.  Raises ValueError for unusable inputs."""
    policy_path = result_folder(settings.model)
    models = [result_folder(path) for path in paths_in(settings.reward)]
    costs = [] if settings.cost is None else [result_folder(path) for path in paths_in(settings.cost)]
    run.input("model", policy_path)
    watching = monitor_models(settings)
    for name, said in (("reward", settings.reward), ("cost", settings.cost), ("monitor", settings.monitor)):
        note_judge(run, name, said)
    run.input("prompts", settings.prompts)
    tokenizer = load_tokenizer(policy_path)
    prompts, held_out = _prompts(settings, tokenizer, (policy_path, *models, *costs, *watching), run)
    _check_tasks(settings, prompts)
    weights = _weights(settings, run)
    setup = setup_for(settings, world)
    policy, ref = setup.policy(policy_path, tokenizer), setup.reference(policy_path, tokenizer)
    loaded: dict[str, ScalarModule] = {}

    def load(path: str) -> ScalarModule:
        folder = result_folder(path)
        loaded[folder] = setup.reward_model(folder, policy, policy_path)
        if setup.lora_rank and not loaded[folder].adapted:
            run.console.print(
                "The reward model is no adapter on the policy's base: its weights take memory of their own."
            )
        return loaded[folder]

    def judge_of(spec: Any) -> Judge:
        return rewarding(build_judge(spec, world, tokenizer, settings.micro_batch_tokens, load))

    judge = judge_of(settings.reward)
    cost = None if settings.cost is None else judge_of(settings.cost)
    generator = _generator(settings, policy, tokenizer, world, run)
    steps = steps_for(settings, len(prompts), run)
    ahead = None
    if settings.max_staleness:
        assert isinstance(generator, RemoteGenerator), "the settings see to that"
        ahead = Ahead(generator, settings.max_staleness, steps, world)
    rollouts = Rollouts(
        policy, ref, judge, generator, prompts, settings, world, run.console, cost, weights, ahead
    )
    monitor = make_monitor(settings, setup, policy, tokenizer, world, len(held_out))
    evaluate = partial(evaluated, rollouts, held_out, settings.kl_coef, monitor) if held_out else None
    place = prompts.table.place
    return OnPolicy(
        setup,
        policy,
        tokenizer,
        loaded,
        judge,
        rollouts,
        steps,
        evaluate,
        place,
        lambda row: prompts[row].task,
        monitor,
    )


def _generator(
    settings: RLSettings, policy: PolicyModule, tokenizer: PreTrainedTokenizerBase, world: World, run: Run
) -> Generator:
    """Who draws the policy's responses: this process, or servers that get its weights."""
    if not settings.servers:
        return LocalGenerator(
            policy, tokenizer, dtype=world.dtype, world=world, memory_mib=settings.memory_mib
        )
    return synced(settings, policy, tokenizer, settings.temperature, world, run.folder, run.log)


def _weights(settings: RLSettings, run: Run) -> WeightsInPrompts | None:
    """What counts how much, in front of prompts, of which the run folder says what there is; None where nothing stands there."""
    if not settings.weighed:
        return None
    found = WeightsInPrompts(settings.weighed, settings.weights_in_prompt, settings.seed)
    run.note(weights_in_prompt=[dict(each.weights) for each in found.all])
    run.console.print(
        f"Every prompt begins with one of {len(found.all)} lines of weights, as {found.all[-1].line.strip()}.",
        markup=False,
    )
    return found


def _check_tasks(settings: RLSettings, prompts: Sequence[Prompt]) -> None:
    """Raises ValueError where a part of a reward, cost or monitor, or a weight of the KL, is for a task that no prompt is of."""
    said = [spec for spec in (settings.reward, settings.cost, settings.monitor) if spec is not None]
    asked = {task for spec in said for part in read_parts(spec) for task in part.mix.tasks}
    if not asked and not settings.task_kl:
        return
    known = {prompt.task for prompt in prompts}
    for name, wanted, never in (("tasks", asked, "asked"), ("task_kl", settings.task_kl.keys(), "used")):
        if missing := sorted(wanted - known):
            raise ValueError(
                f"{name}: no prompt of {shown(settings.prompts)} is of the task {missing[0]!r}, so that what is for "
                f"it would never be {never}: those there are {', '.join(map(repr, sorted(known)))}."
            )


def evaluated(
    rollouts: Rollouts, prompts: Sequence[Prompt], kl_coef: float, monitor: Monitor | None = None
) -> dict[str, float]:
    """Score, KL, length and missing ends of the current policy on held-out prompts (always the same draws), and what a monitor
    says of the responses."""
    experience = rollouts.answer(prompts)
    found = experience.metrics(kl_coef)
    seen = monitor.see(experience) if monitor else {}
    told = [*EVALUATED, *(name for name in found if name.startswith("task/"))]
    return {f"eval_{name}": found[name] for name in told} | seen


def _longest_line(settings: RLSettings, tokenizer: PreTrainedTokenizerBase) -> int:
    """The most tokens that stand in front of a prompt."""
    if not settings.weighed:
        return 0
    weighings = WeightsInPrompts(settings.weighed, settings.weights_in_prompt, settings.seed).all
    return max(len(tokenizer.encode(each.line, add_special_tokens=False)) for each in weighings)


def _prompts(
    settings: RLSettings, tokenizer: PreTrainedTokenizerBase, readers: Sequence[str], run: Run
) -> tuple[Examples[Prompt], Sequence[Prompt]]:
    """The prompts to practise on and those to evaluate on, that leave all `readers` room for a response."""
    contexts = [context for path in readers if (context := context_at(path))]
    longest = _longest_line(settings, tokenizer)
    fitting = partial(
        answerable,
        tokenizer=tokenizer,
        context=min(contexts) - longest if contexts else None,
        max_new_tokens=settings.max_new_tokens,
        max_prompt_length=settings.max_prompt_length,
        max_dropped_share=None,
        console=run.console,
    )
    prompts = read_prompts(settings.prompts, settings.columns)
    kept = fitting(prompts, source=shown(settings.prompts))
    if not settings.eval_prompts:
        show_preflight(kept, run, settings.max_dropped_share)
        return kept.examples, []
    run.input("eval_prompts", settings.eval_prompts)
    found = read_prompts(settings.eval_prompts, settings.columns)
    held_out = fitting(First(found, settings.max_eval_prompts), source=shown(settings.eval_prompts))
    show_sides(kept, held_out, run, settings.max_dropped_share)
    return kept.examples, held_out.examples
