"""Responses drawn ahead of training: which weights write them, and that nothing else changes which."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from tests.ranks import on_ranks
from tests.rollout.remote.kit import serving
from tests.train.test_reinforce import command_settings
from tutelage.data.order import rows_for_step
from tutelage.data.reading.formats import read_prompts
from tutelage.launch import launch
from tutelage.models.loading import load_policy, load_tokenizer
from tutelage.resume import read_metrics
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.rollout.remote.later import Later
from tutelage.runs import Run
from tutelage.settings.base import build
from tutelage.settings.rl import ReinforceSettings

QUIET = Console(quiet=True)
STEPS = 5


def settings_of(folder: Path, **more: Any) -> ReinforceSettings:
    shared = {"missing_eos_score": None, "learning_rate": 1e-2, "samples": 2, "save_every": 1}
    given = {**shared, "keep_checkpoints": STEPS + 1, "max_steps": STEPS, "batch_size": 2, "epochs": STEPS}
    return command_settings(folder, **{**given, **more})


def served(settings: ReinforceSettings, **changes: Any) -> dict[str, int]:
    """Train with a server that begins with the policy's first weights; what that was asked for."""
    base = settings.model
    with serving(load_policy(base), load_tokenizer(base)) as server:
        launch("reinforce", settings.model_copy(update={"rollouts": server.url, **changes}), QUIET)
        return dict(server.counts)


def written(staleness: int, step: int) -> int:
    """The steps that the weights have learnt from which write the responses of a step."""
    return max(0, (step - 1) // staleness * staleness)


@pytest.mark.slow
@pytest.mark.parametrize("staleness", [1, 2])
def test_the_step_says_which_weights_write_its_responses(tmp_path: Path, staleness: int) -> None:
    """What a checkpoint keeps for the next step is what the generator here draws from the weights of the step that is due."""
    settings = settings_of(tmp_path)
    counts = served(settings, max_staleness=staleness)
    ages = [line["sampling/staleness"] for line in read_metrics(tmp_path / "run")]
    assert ages == [step - written(staleness, step) for step in range(STEPS)] and max(ages) == staleness
    assert counts["updates"] == len({written(staleness, step) for step in range(STEPS)})
    prompts = list(read_prompts(settings.prompts, {}))
    checkpoints = tmp_path / "run" / "checkpoints"
    for step in range(1, STEPS):
        kept = load_file(checkpoints / f"step-{step:08d}" / "ahead.safetensors")["responses"]
        found = json.loads(bytes(kept.tolist()))[str(step)]
        by = written(staleness, step)
        folder = checkpoints / f"step-{by:08d}" / "policy" if by else tmp_path / "base"
        generator = LocalGenerator(load_policy(folder), load_tokenizer(folder))
        rows = sorted(rows_for_step(len(prompts), 2, step, settings.seed))
        sampling = Sampling(6, samples=2, seed=settings.seed, step=step)
        own = generator.generate([prompts[row] for row in rows], sampling)
        assert [tuple(one["ids"]) for one in found] == [one.ids for one in own]
        for one, other in zip(found, own, strict=True):
            assert one["logprobs"] == pytest.approx(other.logprobs, abs=1e-5) and one["version"] == by


@pytest.mark.slow
def test_a_run_that_goes_on_learns_from_the_same_responses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after each of its steps and asked of a server that has its first weights again; evaluated meanwhile, too."""
    settings = settings_of(tmp_path, max_staleness=2, rollouts="http://unused")
    served(settings, eval_prompts=settings.prompts, eval_every=1)
    whole = read_metrics(tmp_path / "run")
    commit = Run.commit

    def stopping(run: Run, step: int) -> Any:
        found = commit(run, step)
        if step == stop:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Run, "commit", stopping)
    for stop in [2, 3, 4, 0]:  # after its metrics, before its checkpoint: the step is done again
        with pytest.raises(KeyboardInterrupt) if stop else pytest.MonkeyPatch.context():
            served(settings, out=tmp_path / "parts")
    parts = read_metrics(tmp_path / "parts")
    for line, other in zip([line for line in whole if line["step"]], parts, strict=True):
        for name in ("loss", "objective/scores", "completions/tokens", "sampling/staleness"):
            assert line[name] == pytest.approx(other[name], abs=2e-5), name
    own, other = (load_policy(tmp_path / name / "model").host.state_dict() for name in ("run", "parts"))
    for name, tensor in own.items():
        torch.testing.assert_close(tensor, other[name], atol=1e-4, rtol=0)


@pytest.mark.slow
def test_two_ranks_draw_ahead_as_one(tmp_path: Path) -> None:
    given = settings_of(tmp_path, max_staleness=1, rollouts="http://unused")
    for size in (1, 2):
        with serving(load_policy(given.model), load_tokenizer(given.model)) as found:
            own = given.model_copy(update={"rollouts": found.url, "out": tmp_path / f"run{size}"})
            on_ranks(size, tmp_path / f"ranks{size}", lambda _: launch("reinforce", own, QUIET))  # noqa: B023
    one, two = (read_metrics(tmp_path / f"run{size}") for size in (1, 2))
    for line, other in zip(one, two, strict=True):
        for key in ("loss", "objective/scores", "completions/tokens", "sampling/importance_capped"):
            assert line[key] == pytest.approx(other[key], abs=1e-5), key


def test_what_is_begun_is_done_in_order_and_keeps_its_fault() -> None:
    order, gate = list[int](), threading.Event()

    def fails() -> int:
        raise ValueError("no server.")

    first: Later[int] = Later(lambda: (gate.wait(), order.append(1), 1)[2])
    second: Later[int] = Later(fails, first)
    third: Later[int] = Later(lambda: (order.append(3), 3)[1], second)
    gate.set()
    assert third.result() == 3 and order == [1, 3] and first.result() == first.result() == 1
    second.wait()
    with pytest.raises(ValueError, match="no server"):
        second.result()


def test_what_is_drawn_before_cannot_be_filled_up_after() -> None:
    given = {
        "prompts": "p.jsonl",
        "samples": 4,
        "dynamic_sampling": 2,
        "max_staleness": 1,
        "rollouts": "http://a",
    }
    with pytest.raises(ValueError, match="max_staleness=1 draws all of them before"):
        build(ReinforceSettings, given)
    with pytest.raises(ValueError, match="max_staleness is for servers"):
        build(ReinforceSettings, {"prompts": "p.jsonl", "samples": 4, "max_staleness": 1})
