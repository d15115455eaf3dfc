"""Stopped runs taken up again by the same command: with other data, other settings, more steps, after a failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.train.making import TEXT
from tutelage import pipeline
from tutelage.files import sha256_of
from tutelage.launch import launch
from tutelage.records import Prompt, Response, Vote
from tutelage.runs import Run
from tutelage.settings.pipeline import RunPipelineSettings
from tutelage.settings.preference import DPOSettings
from tutelage.settings.reward import RewardSettings
from tutelage.settings.train import PretrainSettings
from tutelage.store import ModelInfo, NewVote, Store

TINY: dict[str, Any] = {
    "hidden_size": 16, "layers": 1, "heads": 2, "context": 32, "vocab_size": 300, "max_length": 16, "precision": "fp32",
    "tensorboard": False, "save_every": 2, "eval_every": 2, "heldout_share": 0.1, "schedule": "constant", "warmup": 0.0,
}  # fmt: skip


def write(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


@pytest.fixture
def data(tmp_path: Path) -> str:
    return write(tmp_path / "text.jsonl", TEXT)


def pretrain(data: str, out: Path, **changes: Any) -> str:
    console = Console(record=True, width=200)
    launch(
        "pretrain", PretrainSettings.model_validate({**TINY, "data": data, "out": out, **changes}), console
    )
    return console.export_text()


def weights(out: Path) -> str:
    return sha256_of(out / "model" / "model.safetensors")


def lineage(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "lineage.json").read_text())
    return found


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after that step was made and before it was written down."""
    commit = Run.commit

    def interrupted(run: Run, now: int) -> dict[str, float]:
        if now == step:
            raise KeyboardInterrupt
        return commit(run, now)

    monkeypatch.setattr(Run, "commit", interrupted)


@pytest.mark.slow
def test_more_steps_end_in_the_weights_of_a_run_that_had_them_from_the_start(
    data: str, tmp_path: Path
) -> None:
    pretrain(data, tmp_path / "whole", max_steps=7)
    pretrain(data, tmp_path / "longer", max_steps=4)
    short = weights(tmp_path / "longer")
    assert "is done already" in pretrain(data, tmp_path / "longer", max_steps=4)
    said = pretrain(data, tmp_path / "longer", max_steps=7)
    assert "goes on with max_steps=7 (before: 4)" in said and "after step 4" in said
    assert weights(tmp_path / "longer") == weights(tmp_path / "whole") != short
    found = lineage(tmp_path / "longer")
    assert found["state"] == "done"
    assert [(entry["step"], entry["settings"]) for entry in found["changes"]] == [(4, {"max_steps": [4, 7]})]
    with pytest.raises(ValueError, match="7 steps are made already"):
        pretrain(data, tmp_path / "longer", max_steps=5)


def test_a_finished_run_stays_finished_where_it_cannot_go_on(data: str, tmp_path: Path) -> None:
    pretrain(data, tmp_path / "run", max_steps=4)
    before = sha256_of(tmp_path / "run")
    write(Path(data), [text.upper() for text in TEXT])
    with pytest.raises(ValueError, match=r"\(data\) has changed since the run"):
        pretrain(data, tmp_path / "run", max_steps=7)
    assert sha256_of(tmp_path / "run") == before
    assert "is done already" in pretrain(data, tmp_path / "run", max_steps=4)


def test_with_another_schedule_more_steps_are_refused(data: str, tmp_path: Path) -> None:
    pretrain(data, tmp_path / "run", max_steps=4, schedule="cosine")
    before = weights(tmp_path / "run")
    with pytest.raises(
        ValueError, match="schedule=cosine and warmup=0 the 4 steps made would have had other"
    ):
        pretrain(data, tmp_path / "run", max_steps=7, schedule="cosine")
    assert weights(tmp_path / "run") == before and lineage(tmp_path / "run")["state"] == "done"


def test_memory_and_saving_may_change_in_the_middle(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain(data, tmp_path / "whole", max_steps=6)
    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stop_at(4, stopped)
        pretrain(data, tmp_path / "run", max_steps=6)
    assert lineage(tmp_path / "run")["state"] == "running"
    pretrain(
        data, tmp_path / "run", max_steps=6, save_every=3, eval_every=5, keep_checkpoints=3, device="cpu"
    )
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
    [entry] = lineage(tmp_path / "run")["changes"]
    assert entry["step"] == 2 and set(entry["settings"]) == {
        "save_every", "eval_every", "keep_checkpoints", "device",
    }  # fmt: skip


def test_a_run_whose_data_was_replaced_is_refused_until_it_is_put_back(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain(data, tmp_path / "whole", max_steps=6)
    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stop_at(4, stopped)
        pretrain(data, tmp_path / "run", max_steps=6)
    inputs = lineage(tmp_path / "run")["inputs"]
    write(Path(data), [text.upper() for text in TEXT])
    with pytest.raises(ValueError, match=r"text.jsonl \(data\) has changed since the run in .*run began"):
        pretrain(data, tmp_path / "run", max_steps=6)
    assert lineage(tmp_path / "run")["inputs"] == inputs and not (tmp_path / "run" / "model").exists()
    Path(data).unlink()
    with pytest.raises(ValueError, match=r"text.jsonl \(data\) is gone since the run in .*run began"):
        pretrain(data, tmp_path / "run", max_steps=6)
    write(Path(data), TEXT)
    pretrain(data, tmp_path / "run", max_steps=6)
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


def raises(sentence: str) -> Callable[..., None]:
    def broken(*args: object, **kwargs: object) -> None:
        raise ValueError(sentence)

    return broken


def test_a_command_that_failed_before_its_first_step_is_corrected_in_place(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    for mistake in ({"model": str(tmp_path / "modle")}, {"data": str(tmp_path / "txet.jsonl")}):
        with pytest.raises(ValueError):
            pretrain(**{"data": data, "out": out, "max_steps": 1, **mistake})
        assert lineage(out)["state"] == "failed" and lineage(out)["error"]
    write(Path(data), [text.upper() for text in TEXT])
    with monkeypatch.context() as broken, pytest.raises(ValueError, match="a bad row"):
        broken.setattr("tutelage.train.pretrain.prepare_documents", raises("a bad row"))
        pretrain(data, out, max_steps=1)
    assert (out / "tokenizer").exists()  # made of other text
    write(Path(data), TEXT)
    pretrain(data, out, max_steps=1)
    pretrain(data, tmp_path / "clean", max_steps=1)
    assert weights(out) == weights(tmp_path / "clean")
    assert lineage(out)["state"] == "done" and "error" not in lineage(out)


@pytest.mark.slow
def test_a_pipeline_goes_on_with_more_steps_and_runs_again_what_follows(data: str, tmp_path: Path) -> None:
    rows = tmp_path / "sft.jsonl"
    rows.write_text("".join(json.dumps({"prompt": t, "completion": " yes."}) + "\n" for t in TEXT[:4]))
    small = {
        "max_length": 32,
        "precision": "fp32",
        "tensorboard": False,
        "heldout_share": 0.0,
        "max_steps": 1,
    }

    def run(**changes: Any) -> str:
        stages = [
            {"command": "pretrain", **TINY, "data": data, "max_steps": 4, **changes},
            {"command": "sft", "model": "@pretrain", "data": str(rows), **small},
        ]
        console = Console(record=True, width=300)
        pipeline.main(RunPipelineSettings.model_validate({"stages": stages, "out": tmp_path / "p"}), console)
        return console.export_text()

    run()
    free = run(micro_batch_tokens=64, save_every=1, eval_every=3, keep_checkpoints=2, device="cpu")
    assert free.count("unchanged, skipped") == 2
    more = run(max_steps=6)
    assert "goes on with max_steps=6" in more and "sft: its input" in more and "kept as" in more
    assert not (tmp_path / "p" / "pretrain.1").exists() and (tmp_path / "p" / "sft.1").exists()
    assert run(max_steps=6).count("unchanged, skipped") == 2
    assert "learning_rate has changed" in run(max_steps=6, learning_rate=0.5)
    assert (tmp_path / "p" / "pretrain.1").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["reward", "dpo"])
def test_votes_that_came_in_meanwhile_are_not_mixed_in(
    data: str, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store.sqlite"
    compared(store, 6)
    pretrain(data, tmp_path / "base", max_steps=1)
    common = {
        "data": "store:main", "store": str(store), "model": str(tmp_path / "base"), "out": tmp_path / "run",
        "batch_size": 2, "max_steps": 4, "save_every": 2, "max_length": 32, "precision": "fp32", "heldout_share": 0.0,
    }  # fmt: skip
    settings = {"reward": RewardSettings, "dpo": DPOSettings}[command].model_validate(common)
    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stop_at(3, stopped)
        launch(command, settings, Console(quiet=True))
    compared(store, 8)
    with pytest.raises(ValueError, match=r"store:main \(data\) has changed since the run in"):
        launch(command, settings, Console(quiet=True))
    launch(command, settings.model_copy(update={"out": tmp_path / "anew"}), Console(quiet=True))


def compared(path: Path, prompts: int) -> None:
    """A store in which so many prompts have two responses, and a vote for the first of them."""
    asked = [Prompt(f"the cat {number}") for number in range(prompts)]
    with Store(path) as store:
        store.add_prompts("main", asked)
        run = store.add_generation_run(ModelInfo("runs/sft", "ab12"), "local", {"seed": 0})
        responses = [
            Response(p, text, (1,), (2,), (-0.5,), "eos", k)
            for p in asked
            for k, text in enumerate((" sat.", " ran."))
        ]
        known = store.sampled("main", run)
        store.add_responses("main", run, [r for r in responses if (r.prompt.id, r.sample_index) not in known])
        store.build_pairs("main", 0, overlap=1)
        store.add_annotator("ann", "simulated", {})
        pairs = store.unlabelled_pairs("main")
        store.add_votes("main", [NewVote(p.item_id, Vote("ann", -1, 0), p.digest) for p in pairs])
