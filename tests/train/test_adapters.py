"""`reward` and `ppo` with adapters, as commands: what they train, what they leave behind, and that they resume exactly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers as hf
from rich.console import Console
from safetensors.torch import load_file
from torch._subclasses.fake_tensor import FakeTensor

from tests.train.making import make_model, make_tokenizer
from tutelage.launch import launch
from tutelage.models.loading import save
from tutelage.models.policy import Hosted
from tutelage.resume import read_metrics
from tutelage.settings.reward import RewardSettings
from tutelage.settings.rl import PPOSettings

QUIET = Console(quiet=True)
SHARED = {
    "lora_rank": 2,
    "schedule": "constant",  # so that a run can go on for more steps
    "warmup": 0.0,
    "learning_rate": 1e-2,
    "precision": "fp32",
    "tensorboard": False,
    "save_every": 1,
}


@pytest.fixture
def base(tmp_path: Path) -> str:
    tokenizer = make_tokenizer()
    save(make_model(tokenizer), tokenizer, tmp_path / "base" / "model")
    rows = [{"prompt": f"the cat {i}", "chosen": " sat on the mat.", "rejected": " ran."} for i in range(12)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "base")


def reward(base: str, out: Path, steps: int, **changes: object) -> Path:
    data = str(out.parent / "pairs.jsonl")
    given = {
        **SHARED,
        "model": base,
        "data": data,
        "out": out,
        "batch_size": 4,
        "max_steps": steps,
        **changes,
    }
    launch("reward", RewardSettings(**given), QUIET)  # type: ignore[arg-type]
    return out


def ppo(base: str, reward_model: Path, out: Path, steps: int, **changes: object) -> Path:
    given = {
        **SHARED,
        "model": base,
        "reward": str(reward_model),
        "prompts": str(out.parent / "pairs.jsonl"),
        "out": out,
        "batch_size": 4,
        "max_new_tokens": 6,
        "max_approx_kl": 10.0,
        "max_steps": steps,
        **changes,
    }
    launch("ppo", PPOSettings(**given), QUIET)  # type: ignore[arg-type]
    return out


def weights(folder: Path) -> dict[str, bytes]:
    """Everything trained: the exported model, the adapter by itself with its head."""
    files = [folder / "model" / "model.safetensors", *sorted((folder / "adapter").glob("*.safetensors"))]
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.slow
def test_a_reward_model_with_an_adapter_resumes_to_the_bit_and_loads_plainly(
    base: str, tmp_path: Path
) -> None:
    whole = reward(base, tmp_path / "whole", 4)
    again = reward(base, reward(base, tmp_path / "again", 2), 4)
    assert weights(whole) == weights(again)
    assert set(weights(whole)) == {"model.safetensors", "adapter_model.safetensors", "head.safetensors"}
    start = load_file(tmp_path / "base" / "model" / "model.safetensors")
    merged = hf.AutoModelForSequenceClassification.from_pretrained(whole / "model").state_dict()
    moved = {
        name for name, weight in start.items() if name in merged and not torch.equal(weight, merged[name])
    }
    assert moved and all("proj" in name for name in moved)  # the adapter, nothing else of the base
    assert torch.equal(
        merged["score.weight"], load_file(whole / "adapter" / "head.safetensors")["score.weight"]
    )
    assert read_metrics(whole)[-1]["accuracy"] > 0.9


@pytest.mark.slow
def test_a_base_that_changed_meanwhile_is_not_merged_into(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced(*args: object, **kwargs: object) -> None:
        save(make_model(make_tokenizer(), seed=1), make_tokenizer(), tmp_path / "base" / "model")

    with monkeypatch.context() as meanwhile, pytest.raises(ValueError, match=r"\(model\) has changed since"):
        meanwhile.setattr("tutelage.train.reward.normalise", replaced)
        reward(base, tmp_path / "run", 1)
    assert not (tmp_path / "run" / "model").exists() and list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.slow
def test_ppo_with_adapters_trains_policy_and_critic_and_resumes_to_the_bit(base: str, tmp_path: Path) -> None:
    """The critic starts from the reward model's own adapter: both are on the base that the policy is on."""
    scored = reward(base, tmp_path / "reward", 3)
    whole = ppo(base, scored, tmp_path / "whole", 4)
    again = ppo(base, scored, ppo(base, scored, tmp_path / "again", 2), 4)
    assert weights(whole) == weights(again)
    last = whole / "checkpoints" / "step-00000004"
    start = load_file(scored / "adapter" / "adapter_model.safetensors")
    critic = load_file(last / "critic" / "adapter_model.safetensors")
    assert critic.keys() == start.keys()
    assert any(not torch.equal(critic[name], start[name]) for name in start)
    head = load_file(last / "critic" / "head.safetensors")["score.weight"]
    assert not torch.equal(head, load_file(scored / "adapter" / "head.safetensors")["score.weight"])
    lines = read_metrics(whole)
    assert lines[0]["objective/kl"] == pytest.approx(0.0, abs=1e-5) and lines[-1]["objective/kl"] != 0.0


@pytest.mark.slow
@pytest.mark.parametrize("command", ["reward", "ppo"])
def test_layers_computed_again_change_nothing(
    base: str, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting reaches every model that is trained; the run is the same to rounding."""
    found, asked = [], []
    plainly = Hosted.checkpoint_gradients

    def noted(self: Hosted) -> None:
        if not isinstance(next(self.parameters()), FakeTensor):  # else the memory plan rehearses
            asked.append(type(self).__name__)
        plainly(self)

    monkeypatch.setattr(Hosted, "checkpoint_gradients", noted)
    scored = reward(base, tmp_path / "scored", 1, lora_rank=0)
    for choice in ("off", "on"):
        changes = {"gradient_checkpointing": choice, "learning_rate": 1e-3}
        run = (
            reward(base, tmp_path / choice, 2, **changes)
            if command == "reward"
            else ppo(base, scored, tmp_path / choice, 2, **changes)
        )
        found.append(load_file(run / "model" / "model.safetensors"))
    assert asked == (["ScalarModule"] if command == "reward" else ["PolicyModule", "ScalarModule"])
    off, on = found
    assert all(torch.allclose(off[name], on[name], atol=1e-4) for name in off)
