"""The run folder: whose it is, what is in it, and what a crash leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tutelage.runs import Run, read_metrics
from tutelage.settings.base import load
from tutelage.settings.train import SFTSettings

SETTINGS = SFTSettings(data="rows.jsonl")


def open_run(folder: Path, settings: SFTSettings = SETTINGS, command: str = "sft") -> Run:
    return Run.open(folder, command, settings)


def test_settings_are_complete_and_repeat_the_run(tmp_path: Path) -> None:
    open_run(tmp_path / "run")
    assert load(SFTSettings, [str(tmp_path / "run" / "settings.yaml")]) == SETTINGS


def test_a_setting_that_an_older_run_does_not_know_counts_as_its_default(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    open_run(folder).release()
    text = (folder / "settings.yaml").read_text()
    assert "split_seed: 0\n" in text
    (folder / "settings.yaml").write_text(text.replace("split_seed: 0\n", ""))
    open_run(folder).release()
    with pytest.raises(ValueError, match=r"different run \(split_seed is 0 there and 1 here\)"):
        open_run(folder, SFTSettings(data="rows.jsonl", split_seed=1))


def test_a_folder_of_something_else_is_refused_untouched(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run")
    run.release()
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(ValueError, match="holds a run of 'sft', not of 'dpo'"):
        open_run(tmp_path / "run", command="dpo")
    with pytest.raises(ValueError, match=r"different run \(batch_size is 32 there and 7 here\)"):
        open_run(tmp_path / "run", SFTSettings(data="rows.jsonl", batch_size=7))
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        open_run(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(ValueError, match="is a file, but a run needs a folder"):
        open_run(tmp_path / "mine" / "thesis.txt")


def test_two_processes_cannot_write_one_folder(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from tests.test_runs import open_run;"
        f"run = open_run(Path({str(tmp_path / 'run')!r})); print('open', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "open\n"
        with pytest.raises(ValueError, match="another process is writing"):
            open_run(tmp_path / "run")
        other.kill()
        other.wait()
    open_run(tmp_path / "run")  # the lock dies with its process


def test_metrics_lines_rewind_and_torn_tail(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run")
    for step in (1, 2, 3):
        run.log({"loss": 1.0 / step})
        run.log({"extra": step})
        run.commit(step)
    run.close()
    with (tmp_path / "run" / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 4, "lo')
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [1, 2, 3]
    run.rewind(2)
    assert read_metrics(tmp_path / "run")[-1] == {"step": 2, "loss": 0.5, "extra": 2.0}
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1}\nrubbish\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 2: not valid JSON"):
        read_metrics(tmp_path / "run")


def test_lineage_hashes_inputs_and_remembers_the_end(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("{}\n")
    run = open_run(tmp_path / "run")
    run.input("data", data)
    run.input("model", "some/hub-name")
    run.finish()
    run.release()
    lineage = json.loads((tmp_path / "run" / "lineage.json").read_text())
    assert [("sha256" in entry) for entry in lineage["inputs"]] == [True, False]
    assert lineage["state"] == "done" and lineage["seed"] == 0 and lineage["code"]["version"]
    assert open_run(tmp_path / "run").done


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = open_run(tmp_path / "run")
    run.open_tensorboard(0)
    run.log({"loss": 0.25})
    run.commit(1)
    run.close()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 0.25)]
