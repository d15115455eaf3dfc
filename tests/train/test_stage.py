"""Around the loop: which rows are held out, and when unusable ones stop the work, by the settings of each command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.train.making import CPU, make_model, make_tokenizer
from tutelage.data.preflight.texts import prepare_demonstrations
from tutelage.data.reading.formats import read_comparisons, read_demonstrations
from tutelage.data.split import split_by_prompt
from tutelage.feedback.training import source
from tutelage.models.loading import save
from tutelage.records import Comparison, Prompt
from tutelage.runs import Run
from tutelage.settings.preference import DPOSettings
from tutelage.settings.reward import RewardSettings
from tutelage.settings.train import SFTSettings
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
        monkeypatch.setattr(module, f"{kind}_from", lambda *args, found=found: source.StoreRows(train=found))
    assert source.is_store_source("store:main")
    tokenizer = make_tokenizer()
    for seed in (0, 1):
        wanted = held_out(demonstrations, run, split_seed=seed)
        chosen = {"data": "store:main", "heldout_share": 0.3, "split_seed": seed}
        _, held, *_ = sft._rows(SFTSettings.model_validate(chosen), stored)
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


# ---- rows keep their places, and one share goes over all of them ------------------------------------------------------


def pairs_file(path: Path, bad: Sequence[int]) -> str:
    """Sixty pairs, of which those at these lines are no pairs; a blank line after the tenth."""
    lines = [
        json.dumps(
            {"prompt": prompt, "chosen": " sat.", "rejected": " sat." if n in bad else " ran.", "id": n}
        )
        for n, prompt in enumerate(PROMPTS, 1)
    ]
    path.write_text("\n".join([*lines[:10], "", *lines[10:]]))
    return str(path)


def preflight_of(settings: RewardSettings, folder: Path) -> dict[str, Any]:
    tokenizer = make_tokenizer()
    run = Run.open(folder, "reward", settings)
    prepare_pairs(settings, tokenizer, make_model(tokenizer), run)
    found: dict[str, Any] = json.loads((folder / "preflight.json").read_text())
    return found


def test_dropped_rows_of_both_sides_are_named_by_their_lines(tmp_path: Path) -> None:
    """One bad row among few held-out ones does not stop the work: one share goes over all rows."""
    probe = RewardSettings(data=pairs_file(tmp_path / "p.jsonl", ()), heldout_share=0.1)
    tokenizer = make_tokenizer()
    sides = prepare_pairs(
        probe, tokenizer, make_model(tokenizer), Run.open(tmp_path / "probe", "reward", probe)
    )
    held = [place.number for pair in sides.comparisons if (place := pair.place)]
    train = [place.number for i in range(len(sides.train)) if (place := sides.train.table.place(i))]
    assert len(held) + len(train) == 60 and 11 not in [*held, *train] and 0 < len(held) < 12

    bad = [held[0], train[0], train[7]]  # lines of the file, of which the eleventh is blank
    data = pairs_file(tmp_path / "p.jsonl", [n - (n > 11) for n in bad])
    found = preflight_of(RewardSettings(data=data, heldout_share=0.1), tmp_path / "some")
    assert sorted(row["line"] for row in found["dropped_rows"]) == sorted(bad)
    assert {row["file"] for row in found["dropped_rows"]} == {data}
    assert (found["rows"] + found["held_out"]["rows"], found["held_out"]["kept"]) == (60, len(held) - 1)
    assert found["unused"] == {"id": 60}
    with pytest.raises(
        ValueError, match=r"3 of 60 comparisons from .* max_dropped_share=0.04: 2 with .*\(line"
    ):
        preflight_of(
            RewardSettings(data=data, heldout_share=0.1, max_dropped_share=0.04), tmp_path / "strict"
        )
    assert json.loads((tmp_path / "strict" / "preflight.json").read_text())["dropped_rows"]


def test_a_held_out_row_that_is_most_of_the_text_is_said(tmp_path: Path) -> None:
    data = pairs_file(tmp_path / "p.jsonl", ())
    rows = [json.loads(line) for line in Path(data).read_text().splitlines() if line]
    held = held_out_prompts(data)
    console = Console(width=100, record=True)
    few = [row for row in rows if row["prompt"] not in held[1:]][:4] + [
        row for row in rows if row["prompt"] == held[0]
    ]
    huge = [row | {"chosen": " sat." * (40 if row["prompt"] == held[0] else 1)} for row in few]
    settings = RewardSettings(data=write(tmp_path / "h.jsonl", huge), heldout_share=0.1, max_length=4096)
    tokenizer = make_tokenizer()
    prepare_pairs(
        settings, tokenizer, make_model(tokenizer), Run.open(tmp_path / "run", "reward", settings, console)
    )
    assert "beware" in (text := console.export_text()) and "another split_seed" in text


def held_out_prompts(data: str) -> list[Any]:
    _, held = split_by_prompt(read_comparisons(data), 0.1)
    return [row.prompt.content for row in held]


def test_mixes_and_other_names_reach_the_trainer(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", [{"q": f"a {n}", "good": " x", "bad": " y"} for n in range(8)])
    second = write(tmp_path / "b.jsonl", [{"q": f"b {n}", "good": " x", "bad": " y"} for n in range(8)])
    columns = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    given = {"data": [first, f"{second}*3"], "columns": columns, "heldout_share": 0.2}
    found = preflight_of(RewardSettings.model_validate(given), tmp_path / "mixed")
    held = found["held_out"]["rows"]
    assert found["unused"] == {} and found["rows"] + held in range(32 - 2 * held, 33)
    lineage = json.loads((tmp_path / "mixed" / "lineage.json").read_text())
    assert next(entry for entry in lineage["inputs"] if entry["name"] == "data")["path"] == [
        first,
        f"{second}*3",
    ]
    with pytest.raises(ValueError, match=r"'promt' is no column that we know: did you mean 'prompt'"):
        preflight_of(RewardSettings.model_validate({**given, "columns": {"promt": "q"}}), tmp_path / "typo")
    with pytest.raises(ValueError, match=r"found the columns q, good, bad; .*columns=\{prompt: NAME, chosen"):
        preflight_of(RewardSettings.model_validate({**given, "columns": {}}), tmp_path / "none")


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (["q", "a", "q", "late"], "conversations end with turns that nobody answers"),
        (["q", "a"], ""),
    ],
)
def test_an_answer_in_the_wrong_role_is_counted(tmp_path: Path, rows: list[str], line: str) -> None:
    turns = [{"role": "assistant" if text == "a" else "user", "content": text} for text in rows]
    data = write(tmp_path / "c.jsonl", [{"messages": turns}] * 3)  # type: ignore[list-item]
    console = Console(width=120, record=True)
    settings = SFTSettings(data=data, heldout_share=0)
    found = stage.show_preflight(
        prepare_demonstrations(make_tokenizer(), read_demonstrations(data), max_length=64),
        Run.open(tmp_path / "run", "sft", settings, console),
        0.1,
    )
    assert found.report.unanswered == (3 if line else 0) and line in console.export_text()
