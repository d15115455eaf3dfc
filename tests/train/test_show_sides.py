"""What is said of the rows before training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.making import make_tokenizer
from tutelage.data.preflight.responses import prepare_comparisons
from tutelage.records import Comparison, Prompt
from tutelage.runs import Run
from tutelage.settings.base import build
from tutelage.settings.preference import DPOSettings
from tutelage.train.stage import UNMEASURED, show_sides


@pytest.mark.parametrize("held_out", [0, 1])
def test_that_nothing_is_held_out_is_said(
    held_out: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Comparison(Prompt("one"), f" cat {n}", " dog") for n in range(3)]
    settings = build(DPOSettings, {"out": tmp_path / "run", "tensorboard": False})
    run = Run.open(settings.out, "dpo", settings)
    sides = [
        prepare_comparisons(make_tokenizer(), part, max_length=64, max_dropped_share=None)
        for part in (rows, rows[:held_out])
    ]
    show_sides(sides[0], sides[1], run, 0.1)
    run.release()
    said = " ".join(capsys.readouterr().out.split())
    assert (UNMEASURED in said) is (held_out == 0)
