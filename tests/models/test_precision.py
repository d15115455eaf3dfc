"""The choice of arithmetic."""

from __future__ import annotations

import pytest
import torch

from tutelage.models import precision
from tutelage.parallel import World


def able(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda device="cpu": (answer, "this processor"))


@pytest.mark.parametrize(
    "asked,has,dtype,said",
    [
        ("auto", True, torch.bfloat16, "this processor has it"),
        ("auto", False, torch.float32, "has no bf16"),
        ("fp32", True, torch.float32, "as asked"),
        ("bf16", False, torch.bfloat16, "will be slow"),
    ],
)
def test_auto_takes_what_the_processor_has(monkeypatch, asked, has, dtype, said) -> None:  # type: ignore[no-untyped-def]
    able(monkeypatch, has)
    choice = precision.choose(asked)
    assert choice.dtype == dtype and said in choice.said
    with World(torch.device("cpu"), choice.dtype).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_a_gpu_without_bf16_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    able(monkeypatch, False)
    with pytest.raises(ValueError, match="use precision=fp32"):
        precision.choose("bf16", "cuda")


@pytest.mark.parametrize("ability", ["avx512_bf16", "amx_bf16", "bf16"])
def test_the_processor_is_asked(monkeypatch: pytest.MonkeyPatch, ability: str) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, ability: True})
    assert precision.has_bf16("cpu")[0]
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, "avx2": True})
    assert not precision.has_bf16("cpu")[0]
