"""Ranks that Ray starts: the run of one process, also when machines come and are lost."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.train.making import make_model, make_tokenizer
from tutelage.cli import run_command
from tutelage.commands import find
from tutelage.models.loading import save
from tutelage.resume import read_lineage, read_metrics

pytest.importorskip("ray", reason="Ray is not installed: pip install 'tutelage[ray]'")
from ray.cluster_utils import Cluster

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
# A judge that takes its time for as long as a file is there, so that machines can come and go while the run goes on.
PACED = """
import os, time

def score(completions):
    if os.path.exists({slow!r}):
        time.sleep(1)
    return [len(text) % 7 / 7 for text in completions]
"""


def workers(folder: Path) -> list[int]:
    """The processes in which Ray's ranks are that work in this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name = (process / "cmdline").read_bytes()
            if name.startswith(b"ray::RayTrainWorker") and (process / "cwd").resolve() == folder.resolve():
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("base")
    tokenizer = make_tokenizer()
    save(make_model(tokenizer), tokenizer, folder / "model")
    lines = [{"prompt": f"the cat {i}" + " sat" * (i % 5)} for i in range(24)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "paced.py").write_text(PACED.format(slow=str(folder / "slow")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
        patch.syspath_prepend(str(folder))
        yield folder


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Of one machine, to which others can be added."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "15")  # until a lost machine is given up
    soon = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 1000,
        "health_check_failure_threshold": 3,
    }
    found = Cluster(initialize_head=True, head_node_args={**NODE, "_system_config": soon})
    monkeypatch.setenv("RAY_ADDRESS", found.address)
    yield found
    found.shutdown()


def words(base: Path, out: Path, *more: str) -> list[str]:
    return [
        f"model={base}/model",
        "reward=python:paced:score",
        f"prompts={base}/prompts.jsonl",
        f"out={out}",
        "tensorboard=false",
        "precision=fp32",
        "adam_epsilon=1e-4",
        "max_new_tokens=6",
        "max_approx_kl=10",
        "missing_eos_score=null",
        "batch_size=6",
        "save_every=1",
        *more,
    ]


def on_ray(base: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tutelage", "ppo", *words(base, out, "launch=ray", "ranks=2", *more)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=out.parent
    )


def compare(one: Path, other: Path) -> None:
    lines, expected = read_metrics(one), read_metrics(other)
    assert [line["step"] for line in lines] == [line["step"] for line in expected]
    for line, known in zip(lines, expected, strict=True):
        for key in ("loss", "objective/scores", "completions/tokens", "num_tokens", "objective/kl"):
            assert line.get(key) == pytest.approx(known.get(key), abs=1e-6, rel=1e-6), (key, line["step"])


@pytest.mark.slow
def test_a_machine_that_comes_and_is_lost_changes_nothing(
    tmp_path: Path, base: Path, cluster: Cluster
) -> None:
    assert run_command(find("ppo"), words(base, tmp_path / "alone", "max_steps=60")) == 0
    (base / "slow").touch()
    process = on_ray(base, tmp_path / "ray", "max_steps=60", "min_ranks=1", "restarts=1")

    def steps() -> int:
        return len(read_metrics(tmp_path / "ray"))

    def wait(ranks: int, more: int) -> None:
        """Until so many ranks have made so many more steps."""
        start = None
        while start is None or steps() < start + more:
            if process.poll() is not None:
                pytest.fail(f"ended after {steps()} steps: {process.communicate()[0]}")
            if start is None and len(workers(tmp_path)) == ranks:
                start = steps()
            time.sleep(0.1)

    wait(ranks=1, more=2)
    lent = cluster.add_node(**NODE)
    wait(ranks=2, more=2)
    cluster.remove_node(lent, allow_graceful=False)
    wait(ranks=1, more=2)
    (base / "slow").unlink()
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert said.count("Resuming") >= 2
    compare(tmp_path / "ray", tmp_path / "alone")
    assert (read_lineage(tmp_path / "ray") or {})["state"] == "done"


@pytest.mark.slow
def test_what_a_user_can_mend_is_said_once_and_not_tried_again(
    tmp_path: Path, base: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a Ray of the run's own, although another one runs on this machine."""
    monkeypatch.delenv("RAY_ADDRESS")
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


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "nonsense"])
def test_a_cluster_that_does_not_answer_is_said_at_once(
    tmp_path: Path,
    base: Path,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = address.format(port=free.getsockname()[1])  # where nobody listens
        monkeypatch.setenv("RAY_ADDRESS", address)
        arguments = words(base, tmp_path / "ray", "launch=ray", "ranks=2")
        assert run_command(find("ppo"), arguments) == 1
    said = capsys.readouterr().err
    assert said.count("error:") == 1 and f"RAY_ADDRESS={address}" in said and "Traceback" not in said
