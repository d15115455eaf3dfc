"""kill -9 at random moments, then the same command again: the weights are those of a run left alone, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

STAGES = {
    "pipeline": ["pretrain", "sft", "reward", "process", "dpo", "ppo"],
    "practising": ["learned", "shared", "dapo", "raft"],
    "comparing": ["ensemble", "kto", "online-dpo"],
}


@pytest.mark.slow
@pytest.mark.parametrize("which", STAGES)
def test_every_training_stage_survives_kill_9(tmp_path: Path, which: str) -> None:
    seed = int.from_bytes(os.urandom(2), "big")
    command = [sys.executable, "-m", "tests.train.kill_and_resume", str(tmp_path / "runs"), str(seed), which]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)
    log = tmp_path / "runs" / "log.txt"
    assert done.returncode == 0, (seed, done.stderr[-2000:], log.read_text()[-2000:] if log.exists() else "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, _, _ in lines] == STAGES[which]
    assert all(result == "equal" for _, _, result in lines), (seed, lines)
    assert sum(int(hits) for _, hits, _ in lines) >= 2 * len(lines), (
        f"too few kills hit a running stage: {lines}"
    )
