"""What is rehearsed once is known afterwards, for as long as nothing that it depends on is another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.making import make_model, make_tokenizer
from tutelage.models import rehearsed
from tutelage.models.loading import save
from tutelage.models.rehearsal import Part, Role, Shape, measure
from tutelage.models.tiny import tiny_model

SHAPE = Shape(units=4, sequences=2, length=20, trained=10)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tokenizer = make_tokenizer()
    return save(make_model(tokenizer), tokenizer, tmp_path / "model")


@pytest.fixture
def rehearsals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Role]:
    """Every role that is rehearsed, with a cache of its own."""
    found: list[Role] = []

    def counted(role: Role, *how: Any) -> Part:
        found.append(role)
        return measure(role, *how)

    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(rehearsed, "measure", counted)
    return found


def find(role: Role, shape: Shape = SHAPE, tokens: int = 64, arithmetic: torch.dtype = torch.float32) -> Part:
    return rehearsed.measured(role, shape, tokens, arithmetic, "cpu")


def test_a_second_time_it_is_known_and_the_same(model: Path, rehearsals: list[Role]) -> None:
    role = Role("policy", str(model), trained=True)
    fresh = measure(role, SHAPE, 64, torch.float32, "cpu")
    assert find(role) == fresh and find(role) == fresh and len(rehearsals) == 1
    assert fresh.passes.most.total > 0


def test_weights_and_place_do_not_matter(tmp_path: Path, model: Path, rehearsals: list[Role]) -> None:
    tokenizer = make_tokenizer()
    other = save(make_model(tokenizer, seed=1), tokenizer, tmp_path / "other")
    first = find(Role("policy", str(model), trained=True))
    second = find(Role("chosen", str(other), trained=True))
    assert len(rehearsals) == 1
    assert second.role.name == "chosen" and replace(second, role=first.role) == first


OTHERS: dict[str, Callable[[Role], Part]] = {
    "a reward model": lambda role: find(replace(role, task="scores")),
    "frozen": lambda role: find(replace(role, trained=False)),
    "an adapter": lambda role: find(replace(role, lora_rank=2)),
    "another's weights": lambda role: find(replace(role, beside="policy", trained=False)),
    "computed again": lambda role: find(replace(role, checkpointing=True)),
    "weights in bf16": lambda role: find(replace(role, dtype=torch.bfloat16)),
    "longer": lambda role: find(role, replace(SHAPE, length=21)),
    "smaller micro-batches": lambda role: find(role, tokens=32),
    "other arithmetic": lambda role: find(role, arithmetic=torch.bfloat16),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_does_matter_is_rehearsed_again(what: str, model: Path, rehearsals: list[Role]) -> None:
    role = Role("policy", str(model), trained=True)
    find(role)
    OTHERS[what](role)
    assert len(rehearsals) == 2


def test_so_is_another_architecture_or_other_code(
    tmp_path: Path, model: Path, rehearsals: list[Role], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = make_tokenizer()
    wide = tiny_model(tokenizer, hidden=48, layers=2, heads=2, context=128)
    first = find(Role("policy", str(model), trained=True))
    second = find(Role("policy", str(save(wide, tokenizer, tmp_path / "wide")), trained=True))
    assert len(rehearsals) == 2 and second.weights > first.weights
    monkeypatch.setattr(rehearsed, "_code", lambda: "changed")
    find(Role("policy", str(model), trained=True))
    assert len(rehearsals) == 3


def test_without_a_cache_it_is_rehearsed_every_time(
    tmp_path: Path, model: Path, rehearsals: list[Role], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "file" / "cache"))
    role = Role("policy", str(model), trained=True)
    assert find(role) == find(role) and len(rehearsals) == 2


def test_no_such_model_is_said(tmp_path: Path, rehearsals: list[Role]) -> None:
    with pytest.raises(ValueError, match="nothing-here"):
        find(Role("policy", str(tmp_path / "nothing-here")))
