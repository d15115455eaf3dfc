"""Ranks that Ray starts: the run of one process, also when workers are killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.train.making import make_model, make_tokenizer
from tutelage.cli import run_command
from tutelage.commands import find
from tutelage.models.loading import load_scalar, save
from tutelage.resume import read_lineage, read_metrics

pytest.importorskip("ray", reason="Ray is not installed: pip install 'tutelage[ray]'")


def workers() -> list[int]:
    """The processes in which Ray's ranks are."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::RayTrainWorker"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tokenizer = make_tokenizer()
    save(make_model(tokenizer), tokenizer, folder / "model")
    save(load_scalar(folder / "model"), tokenizer, folder / "reward")
    lines = [{"prompt": f"the cat {i}" + " sat" * (i % 5)} for i in range(24)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def words(base: Path, out: Path, *more: str) -> list[str]:
    return [
        f"model={base}/model",
        f"reward={base}/reward",
        f"prompts={base}/prompts.jsonl",
        f"out={out}",
        "tensorboard=false",
        "precision=fp32",
        "adam_epsilon=1e-4",
        "max_new_tokens=6",
        "max_approx_kl=10",
        "batch_size=6",
        "save_every=1",
        *more,
    ]


def on_ray(base: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tutelage", "ppo", *words(base, out, "launch=ray", "ranks=2", *more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def compare(one: Path, other: Path) -> None:
    lines, expected = read_metrics(one), read_metrics(other)
    assert [line["step"] for line in lines] == [line["step"] for line in expected]
    for line, known in zip(lines, expected, strict=True):
        for key in ("loss", "objective/scores", "completions/tokens", "num_tokens", "objective/kl"):
            assert line.get(key) == pytest.approx(known.get(key), abs=1e-6, rel=1e-6), (key, line["step"])


@pytest.mark.slow
def test_ray_makes_the_run_of_one_process_also_when_a_worker_is_killed(tmp_path: Path, base: Path) -> None:
    steps = "max_steps=8"
    assert run_command(find("ppo"), words(base, tmp_path / "alone", steps)) == 0
    process = on_ray(base, tmp_path / "ray", steps, "restarts=5")
    killed = False
    while process.poll() is None and not killed:
        if len(read_metrics(tmp_path / "ray")) > 2 and (found := workers()):
            time.sleep(random.random() / 2)
            os.kill(random.choice(found), signal.SIGKILL)
            killed = True
        time.sleep(0.05)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert killed and said.count("Resuming") >= 1
    compare(tmp_path / "ray", tmp_path / "alone")
    assert (read_lineage(tmp_path / "ray") or {})["state"] == "done"


@pytest.mark.slow
def test_what_a_user_can_mend_is_said_once_and_not_tried_again(tmp_path: Path, base: Path) -> None:
    (base / "empty.jsonl").write_text("")
    arguments = [
        word.replace("prompts.jsonl", "empty.jsonl")
        for word in words(base, tmp_path / "ray", "launch=ray", "ranks=2")
    ]
    found = subprocess.run(
        [sys.executable, "-m", "tutelage", "ppo", *arguments], capture_output=True, text=True, timeout=240
    )
    assert found.returncode == 1
    assert found.stderr.count("error:") == 1 and "Traceback" not in found.stderr, found.stderr
