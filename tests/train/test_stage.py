"""Around the loop: which rows are held out, and when unusable ones stop the work, by the settings of each command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.train.making import CPU, make_model, make_tokenizer
from tutelage.data.reading.formats import read_demonstrations
from tutelage.data.split import split_by_prompt
from tutelage.feedback import source
from tutelage.models.loading import save
from tutelage.records import Comparison, Prompt
from tutelage.runs import Run
from tutelage.settings.train import DPOSettings, RewardSettings, SFTSettings
from tutelage.train import sft, stage
from tutelage.train.stage import prepare_pairs, read_rows

PROMPTS = [f"the cat {number}" for number in range(60)]


def write(path: Path, rows: Sequence[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def demonstrations(tmp_path: Path) -> str:
    return write(tmp_path / "d.jsonl", [{"prompt": p, "completion": " sat."} for p in PROMPTS])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.open(tmp_path / "run", "sft", SFTSettings(data="-"))


def held_out(data: str, run: Run, **changes: object) -> set[object]:
    settings = SFTSettings.model_validate({"data": data, "heldout_share": 0.3, **changes})
    train, held = read_rows(read_demonstrations, settings, run)
    assert {row.prompt for row in train}.isdisjoint(row.prompt for row in held)  # type: ignore[union-attr]
    return {row.prompt.content for row in held}  # type: ignore[union-attr]


def test_split_seed_chooses_the_prompts_that_are_held_out_and_seed_does_not(
    demonstrations: str, run: Run, tmp_path: Path
) -> None:
    usual = held_out(demonstrations, run)
    rows = read_demonstrations(demonstrations)
    assert usual == {row.prompt.content for row in split_by_prompt(rows, 0.3)[1]}  # type: ignore[union-attr]
    assert usual == held_out(demonstrations, run, seed=7)
    others = [held_out(demonstrations, run, split_seed=seed) for seed in (1, 2)]
    assert usual != others[0] != others[1] != usual
    file = write(tmp_path / "e.jsonl", [{"prompt": "a dog", "completion": " ran."}])
    assert held_out(demonstrations, run, split_seed=1, eval_data=file) == {"a dog"}


def test_rows_from_the_store_are_split_alike(
    demonstrations: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, compared = (
        Run.open(tmp_path / name, "sft", SFTSettings(data="-")) for name in ("stored", "compared")
    )
    rows = list(read_demonstrations(demonstrations))
    pairs = [Comparison(Prompt(text), " sat.", " ran.") for text in PROMPTS]
    for module, kind, found in ((sft, "demonstrations", rows), (stage, "comparisons", pairs)):
        monkeypatch.setattr(module, f"{kind}_from", lambda *args, found=found: found)
    assert source.is_store_source("store:main")
    tokenizer = make_tokenizer()
    for seed in (0, 1):
        wanted = held_out(demonstrations, run, split_seed=seed)
        chosen = {"data": "store:main", "heldout_share": 0.3, "split_seed": seed}
        _, held = sft._rows(SFTSettings.model_validate(chosen), stored)
        assert {row.prompt.content for row in held} == wanted  # type: ignore[union-attr]
        for settings in (RewardSettings.model_validate(chosen), DPOSettings.model_validate(chosen)):
            found_pairs = prepare_pairs(settings, tokenizer, make_model(tokenizer), compared)
            assert {row.prompt.content for row in found_pairs.comparisons} == wanted


@pytest.mark.parametrize(("how", "kept", "cut"), [("keep", 6, 3), ("drop", 3, 0)])
def test_sft_does_with_cut_responses_as_it_is_told(tmp_path: Path, how: str, kept: int, cut: int) -> None:
    tokenizer = make_tokenizer()
    base = save(make_model(tokenizer), tokenizer, tmp_path / "base")
    ends = ("eos", "length")
    rows = [
        {"prompt": p, "completion": " sat", "completion_finish": ends[i % 2]} for i, p in enumerate(PROMPTS)
    ]
    given = {
        "data": write(tmp_path / "d.jsonl", rows[:6]),
        "model": str(base),
        "max_steps": 1,
        "heldout_share": 0,
    }
    settings = SFTSettings.model_validate(
        {**given, "cut_responses": how, "max_dropped_share": 0.5, "max_length": 64, "tensorboard": False}
    )
    run = Run.open(tmp_path / "run", "sft", settings)
    sft.main(settings, CPU, run)
    run.close()
    report = json.loads((tmp_path / "run" / "preflight.json").read_text())
    assert (report["kept"], report["cut"]) == (kept, cut)
