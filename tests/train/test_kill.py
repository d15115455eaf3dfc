"""kill -9 at random moments, then the same command again: the weights are those of a run left alone, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

STAGES = [
    "pretrain", "sft", "reward", "process", "dpo", "ppo", "learned", "shared", "dapo", "raft", "ensemble", "kto", "online-dpo",
    "distill",
]  # fmt: skip


@pytest.mark.slow
def test_every_training_stage_survives_kill_9(tmp_path: Path) -> None:
    """One kill each: the loop and its checkpoints are the same for all, but what is kept in them is a stage's own.

    That a run may be killed again and again, at any byte, is for test_fit.py, test_resume.py and test_reference.py.
    """
    seed = int.from_bytes(os.urandom(2), "big")
    command = [sys.executable, "-m", "tests.train.kill_and_resume", str(tmp_path / "runs"), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    log = tmp_path / "runs" / "log.txt"
    assert done.returncode == 0, (seed, done.stderr[-2000:], log.read_text()[-2000:] if log.exists() else "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, _, _ in lines] == STAGES
    assert all(result == "equal" for _, _, result in lines), (seed, lines)
    hits = sum(int(hit) for _, hit, _ in lines)
    assert hits >= len(lines) - 3, f"too few kills hit a running stage: {lines}"
