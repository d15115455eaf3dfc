"""What a pass takes, counted without taking it; what is free."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tutelage.models.attention import Scores
from tutelage.models.free import free_bytes
from tutelage.models.layout import Layout
from tutelage.models.memory import imagining, parameter_bytes, rehearse

CPU = torch.device("cpu")
MIB = 2**20


def test_a_pass_is_counted_as_by_hand() -> None:
    with imagining() as ledger:
        model = nn.Linear(64, 32, bias=False)
        x = torch.empty(1000, 64)
        found = rehearse(ledger, lambda: torch.relu(model(x)).sum(), model, torch.float32, vocabulary=7)
    assert parameter_bytes([model]) == 64 * 32 * 4
    assert found.kept.total == 1000 * 32 * 4 + 4  # what relu keeps, and the sum
    assert found.most.total >= found.kept.total + 1000 * 32 * 4  # its gradient beside it
    assert found.loose.gradients <= found.most.gradients <= 64 * 32 * 4


def test_what_is_as_wide_as_the_vocabulary_is_called_logits() -> None:
    with imagining() as ledger:
        model = nn.Linear(8, 50, bias=False)
        x = torch.empty(100, 8)
        found = rehearse(ledger, lambda: model(x).exp().sum(), model, torch.float32, vocabulary=50)
    assert found.kept.logits == 100 * 50 * 4


def test_nothing_is_taken_and_whole_numbers_are_real() -> None:
    with imagining():
        huge = torch.empty(10**7, 10**6)
        places = torch.tensor([True, False, True]).nonzero().squeeze(1)
        assert places.tolist() == [0, 2]
        assert huge[places].shape == (2, 10**6)


def group(root: Path, kind: str, **files: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text("MemTotal: 900000 kB\nMemAvailable: 500000 kB\n")
    folder = root / "sys/fs/cgroup" / kind
    (folder / "job/step").mkdir(parents=True)
    for name, text in files.items():
        (folder / "job" / name.replace("__", ".")).write_text(text)
    return folder


def test_free_is_what_the_system_has_available(tmp_path: Path) -> None:
    group(tmp_path, "")
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    assert free_bytes(CPU, tmp_path) == 500000 * 1024


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_a_group_around_the_process_counts(tmp_path: Path, version: int) -> None:
    if version == 2:
        files = {"memory__max": f"{100 * MIB}\n", "memory__current": f"{70 * MIB}\n"}
        group(tmp_path, "", **files, memory__stat=f"anon 1\ninactive_file {5 * MIB}\n")
        (tmp_path / "proc/self/cgroup").write_text("0::/job/step\n")
    else:
        files = {
            "memory__limit_in_bytes": f"{100 * MIB}\n",
            "memory__usage_in_bytes": f"{70 * MIB}\n",
        }
        group(tmp_path, "memory", **files, memory__stat=f"total_inactive_file {5 * MIB}\n")
        (tmp_path / "proc/self/cgroup").write_text("5:cpu:/\n4:memory:/job/step\n0::/\n")
    assert free_bytes(CPU, tmp_path) == 35 * MIB


def test_a_group_without_limit_takes_nothing_away(tmp_path: Path) -> None:
    group(tmp_path, "", memory__max="max\n", memory__current="1\n", memory__stat="inactive_file 0\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/job/step\n")
    assert free_bytes(CPU, tmp_path) == 500000 * 1024


def test_masks_that_were_imagined_are_not_used_for_real() -> None:
    """The plan of a command and its training run in one process."""
    query = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    scores = Scores(Layout((5,)), 0.5, None, None)
    with imagining():
        imagined = torch.empty(2, 5, 4)
        scores.softmax(imagined, imagined, 0)
    found, _ = scores.softmax(query, query, 0)
    wanted = (query @ query.mT * 0.5).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf).softmax(-1)
    assert torch.allclose(found, wanted)
