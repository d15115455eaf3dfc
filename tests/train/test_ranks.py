"""Commands on two ranks, as `torchrun` starts them: the run of one process, written once."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.processes import Started
from tests.train.making import make_model, make_tokenizer
from tutelage.cli import run_command
from tutelage.commands import find
from tutelage.models.loading import load_scalar, save
from tutelage.resume import read_lineage, read_metrics
from tutelage.worlds.write import write_world

SHARED = ["max_steps=4", "micro_batch_tokens=700", "precision=fp32", "adam_epsilon=1e-4", "tensorboard=false"]


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def on_two_ranks(arguments: list[str], folder: Path) -> list[str]:
    """Run a command on two ranks; what each of them printed."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    started = [
        Started(arguments, folder / f"said-{rank}.txt", shared | {"RANK": str(rank)}) for rank in range(2)
    ]
    codes = [process.wait(240) for process in started]
    assert codes == [0, 0], [process.said for process in started]
    return [process.said for process in started]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pretrain", "sft", "dpo", "ppo"])
def test_a_command_on_two_ranks_is_the_run_of_one(tmp_path: Path, name: str) -> None:
    world, base = tmp_path / "world", tmp_path / "base"
    write_world(world, 0, document_count=60, demonstration_count=40, prompt_count=16, heldout_count=4)
    tokenizer = make_tokenizer()
    policy = make_model(tokenizer)
    save(policy, tokenizer, base)
    save(load_scalar(base), tokenizer, tmp_path / "reward")
    pairs = tmp_path / "pairs.jsonl"
    rows = [f'{{"prompt": "the cat {i}", "chosen": " sat {i}.", "rejected": " ran on."}}' for i in range(20)]
    pairs.write_text("\n".join(rows))
    arguments = {
        "pretrain": [
            f"data={world}/pretrain.jsonl",
            "hidden_size=32",
            "layers=1",
            "heads=2",
            "vocab_size=300",
        ],
        "sft": [f"model={base}", f"data={world}/demonstrations.jsonl", "batch_size=5", "max_dropped_share=1"],
        "dpo": [f"model={base}", f"data={pairs}", "batch_size=5"],
        "ppo": [
            f"model={base}",
            f"reward={tmp_path}/reward",
            f"prompts={pairs}",
            "batch_size=7",
            "max_new_tokens=6",
            "max_approx_kl=10",
        ],
    }[name]
    assert run_command(find(name), [*arguments, *SHARED, f"out={tmp_path}/alone"]) == 0
    both = on_two_ranks([name, *arguments, *SHARED, f"out={tmp_path}/both"], tmp_path)
    one, two = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("alone", "both"))
    for key, weight in one.items():
        assert torch.allclose(weight, two[key], atol=1e-5), key
    lines, expected = (read_metrics(tmp_path / run) for run in ("both", "alone"))
    assert [line["step"] for line in lines] == [line["step"] for line in expected]
    for line, other in zip(lines, expected, strict=True):
        for key in {"loss", "num_tokens", "eval_loss", "objective/scores"} & other.keys():
            assert line[key] == pytest.approx(other[key], rel=1e-3, abs=1e-5), key
    assert (read_lineage(tmp_path / "both") or {})["state"] == "done"
    assert both[0] and not both[1].strip(), "only the first rank speaks"


def test_a_command_that_does_not_train_says_so_on_several_ranks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tutelage.launch import launch
    from tutelage.settings.worlds import WorldSettings

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="'world' is the work of one process, and WORLD_SIZE is 2"):
        launch("world", WorldSettings(out=tmp_path / "world"))
