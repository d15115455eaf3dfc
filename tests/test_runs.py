"""The run folder: whose it is, what is in it, and what a crash leaves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tutelage.commands import COMMANDS, settings_class
from tutelage.evals.folders import find
from tutelage.files import sha256_of
from tutelage.launch import launch
from tutelage.resume import read_metrics
from tutelage.runs import Run
from tutelage.settings.base import Made, load
from tutelage.settings.describe import rows
from tutelage.settings.evals import ReportSettings
from tutelage.settings.groups import RunSettings
from tutelage.settings.irl import IRLSettings
from tutelage.settings.rollout import MarkSettings, SelectSettings
from tutelage.settings.train import SFTSettings

SETTINGS = SFTSettings(data="rows.jsonl")


def open_run(folder: Path, settings: SFTSettings = SETTINGS, command: str = "sft") -> Run:
    return Run.open(folder, command, settings)


def worked(folder: Path, settings: SFTSettings = SETTINGS, steps: int = 1) -> None:
    """A run that has made some steps, and their checkpoint."""
    run = open_run(folder, settings)
    for step in range(1, steps + 1):
        run.commit(step)
    made = folder / "checkpoints" / f"step-{steps:08d}"
    made.mkdir(parents=True)
    (made / "state.json").write_text("{}")
    run.close()
    run.release()


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lineage_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "lineage.json").read_text())
    return found


def test_settings_are_complete_and_repeat_the_run(tmp_path: Path) -> None:
    open_run(tmp_path / "run")
    assert load(SFTSettings, [str(tmp_path / "run" / "settings.yaml")]) == SETTINGS


def test_a_setting_that_an_older_run_does_not_know_counts_as_its_default(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    worked(folder)
    text = (folder / "settings.yaml").read_text()
    assert "split_seed: 0\n" in text
    (folder / "settings.yaml").write_text(text.replace("split_seed: 0\n", ""))
    open_run(folder).release()
    with pytest.raises(ValueError, match=r"different run \(split_seed is 0 there and 1 here\)"):
        open_run(folder, SFTSettings(data="rows.jsonl", split_seed=1))


def test_a_folder_of_something_else_is_refused_untouched(tmp_path: Path) -> None:
    worked(tmp_path / "run")
    before = content(tmp_path / "run")
    with pytest.raises(ValueError, match="holds a run of 'sft', not of 'dpo'"):
        open_run(tmp_path / "run", command="dpo")
    with pytest.raises(ValueError, match=r"different run \(batch_size is 32 there and 7 here\)"):
        open_run(tmp_path / "run", SFTSettings(data="rows.jsonl", batch_size=7))
    assert content(tmp_path / "run") == before
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


# what may change on a resume -------------------------------------------------------------------------------------


def every_run_setting() -> list[tuple[type[RunSettings], str]]:
    classes = [settings_class(command) for command in COMMANDS]
    return [(cls, row.name) for cls in classes if issubclass(cls, RunSettings) for row in rows(cls)]


FREE = {
    "out", "device", "max_dropped_share", "micro_batch_tokens", "eval_every", "save_every", "keep_checkpoints",
    "calls", "tensorboard", "max_tokens", "memory_mib", "plan", "plan_gib", "gradient_checkpointing", "kernels",
    "wait", "task_gradients_every", "rollouts_key_env", "rollouts_at_once", "rollouts_timeout", "rollouts_patience",
    "weights_folder",
}  # fmt: skip


ANEW = {
    SelectSettings: {"keep", "threshold", "top_share", "select", "deduplicate", "keep_cut", "otherwise"},
    MarkSettings: {"labels"},
    IRLSettings: {"kl_coef", "l2", "heldout_share", "split_seed"},
}
"""Settings by which `select` chooses, `mark` labels and `irl` weighs anew what was drawn."""


@pytest.mark.parametrize(
    ("cls", "name"), every_run_setting(), ids=lambda value: getattr(value, "__name__", value)
)
def test_each_setting_says_the_same_in_every_command(cls: type[RunSettings], name: str) -> None:
    """Also where a command gives one a default of its own: it may change on resume exactly if it is one of FREE."""
    settings = (
        cls.model_construct(load_best=False) if "load_best" in cls.model_fields else cls.model_construct()
    )
    before = settings.model_dump(mode="json")
    if name not in (
        "epochs",
        "max_steps",
        "reward",
        "rewards",
        "cost",
        "judge",
        "features",
    ):  # these look at what has changed
        free = FREE | ANEW.get(cls, set())
        assert (settings.refuses(name, before, Made(10, 100)) is None) == (name in free)


def test_what_changes_no_result_may_change_and_is_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    worked(folder, steps=3)
    changed = SETTINGS.model_copy(update={"micro_batch_tokens": 512, "save_every": 7, "device": "cpu"})
    console = Console(record=True, width=200)
    Run.open(folder, "sft", changed, console).release()
    assert "goes on with micro_batch_tokens=512 (before: 4096)" in console.export_text()
    assert load(SFTSettings, [str(folder / "settings.yaml")]) == changed
    [entry] = lineage_of(folder)["changes"]
    assert entry["step"] == 3 and entry["at"]
    assert entry["settings"] == {
        "micro_batch_tokens": [4096, 512],
        "save_every": [100, 7],
        "device": ["auto", "cpu"],
    }
    Run.open(folder, "sft", changed).release()  # nothing has changed since
    assert len(lineage_of(folder)["changes"]) == 1
    Run.open(folder, "sft", SETTINGS).release()
    assert lineage_of(folder)["changes"][1]["settings"]["save_every"] == [7, 100]


def test_a_run_killed_between_its_two_files_records_a_change_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    worked(folder)
    changed = SETTINGS.model_copy(update={"save_every": 7})
    with monkeypatch.context() as broken:
        broken.setattr("tutelage.runs.write_text_atomic", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Run.open(folder, "sft", changed)
    Run.open(folder, "sft", changed).release()
    assert len(lineage_of(folder)["changes"]) == 1
    assert load(SFTSettings, [str(folder / "settings.yaml")]) == changed


def test_a_finished_run_stays_as_it_is_when_only_such_settings_change(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    worked(folder)
    run = open_run(folder)
    run.finish()
    run.release()
    before = content(folder)
    assert Run.open(folder, "sft", SETTINGS.model_copy(update={"save_every": 7})).done
    assert content(folder) == before


def test_which_checkpoint_is_best_depends_on_when_it_is_looked_for(tmp_path: Path) -> None:
    best = SFTSettings(data="rows.jsonl", load_best=True)
    worked(tmp_path / "run", best)
    Run.open(tmp_path / "run", "sft", best.model_copy(update={"save_every": 7})).release()
    with pytest.raises(ValueError, match=r"eval_every is 50 there and 7 here; load_best=true chooses"):
        Run.open(tmp_path / "run", "sft", best.model_copy(update={"eval_every": 7}))


def test_a_folder_that_was_moved_goes_on(tmp_path: Path) -> None:
    here = SETTINGS.model_copy(update={"out": tmp_path / "a"})
    worked(tmp_path / "a", here)
    (tmp_path / "a").rename(tmp_path / "b")
    there = Run.open(tmp_path / "b", "sft", here.model_copy(update={"out": tmp_path / "b"}))
    there.release()
    assert there.folder == tmp_path / "b" and not (tmp_path / "a").exists()


# more steps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize(
    ("given", "changed", "steps", "sentence"),
    [
        ({"schedule": "constant", "warmup": 0.0, "max_steps": 4}, {"max_steps": 9}, 4, None),
        ({"schedule": "constant", "warmup": 0.1, "max_steps": 10}, {"max_steps": 14}, 10, None),  # warm-up of 1 step
        ({"schedule": "constant", "warmup": 0.1, "max_steps": 20}, {"max_steps": 40}, 20, "other learning rates"),
        ({"schedule": "linear", "warmup": 0.0, "max_steps": 4}, {"max_steps": 9}, 4, "schedule=linear and warmup=0"),
        ({"schedule": "cosine", "warmup": 0.0, "max_steps": 4}, {"max_steps": 9}, 4, "schedule=cosine"),
        ({"schedule": "cosine", "warmup": 0.0, "min_rate": 1.0, "max_steps": 4}, {"max_steps": 9}, 4, None),
        ({"schedule": "constant", "warmup": 0.0, "max_steps": 9}, {"max_steps": 3}, 9, "9 steps are made already"),
        ({"schedule": "constant", "warmup": 0.0}, {"epochs": 3.0}, 4, None),
        ({"schedule": "constant", "warmup": 0.0}, {"max_steps": 5}, 4, None),
        ({"schedule": "linear", "warmup": 0.0}, {"epochs": 2.0}, 4, "other learning rates"),
        ({"schedule": "linear", "warmup": 0.0, "max_steps": 4}, {"epochs": 2.0}, 4, None),  # max_steps wins as before
        ({"schedule": "linear", "warmup": 0.0}, {"max_steps": 4}, 4, None),  # the number that epochs say
    ],
)  # fmt: skip
def test_more_steps_are_the_same_run_where_those_made_are_the_same(
    tmp_path: Path,
    given: dict[str, Any],
    changed: dict[str, Any],
    steps: int,
    sentence: str | None,
    done: bool,
) -> None:
    """128 rows in batches of 32 are 4 steps an epoch.  The truth: the rates of the steps made, one by one."""
    settings = SFTSettings(data="rows.jsonl", **given)
    wanted = settings.model_copy(update=changed)
    folder = tmp_path / "run"
    worked(folder, settings, steps)
    run = open_run(folder, settings)
    run.note(rows=128)
    if done:
        run.finish()
    run.release()
    before = content(folder)
    if sentence:
        with pytest.raises(ValueError, match=sentence):
            open_run(folder, wanted)
        assert content(folder) == before
        return
    there, here = settings.total_steps(128), wanted.total_steps(128)
    assert [settings.rate(s, there) for s in range(steps)] == [wanted.rate(s, here) for s in range(steps)]
    run = open_run(folder, wanted)
    assert run.done == (done and here == there)
    run.release()


def test_a_run_in_its_warm_up_goes_on_only_with_the_same_warm_up(tmp_path: Path) -> None:
    settings = SFTSettings(data="rows.jsonl", schedule="linear", warmup=0.1, max_steps=100)
    worked(tmp_path / "run", settings, steps=5)
    open_run(
        tmp_path / "run", settings.model_copy(update={"max_steps": 104})
    ).release()  # 10 steps of warm-up, too
    with pytest.raises(ValueError, match="other learning rates"):
        open_run(tmp_path / "run", settings.model_copy(update={"max_steps": 110}))


def test_a_finished_run_whose_checkpoints_were_removed_is_not_done_again(tmp_path: Path) -> None:
    settings = SFTSettings(data="rows.jsonl", schedule="constant", warmup=0.0, max_steps=4)
    worked(tmp_path / "run", settings, steps=4)
    run = open_run(tmp_path / "run", settings)
    run.finish()
    run.release()
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert open_run(tmp_path / "run", settings).done
    with pytest.raises(ValueError, match="no checkpoint left to go on from"):
        open_run(tmp_path / "run", settings.model_copy(update={"max_steps": 8}))


# inputs that change under a run ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "folder", "pattern", "home", "store"])
def test_a_run_does_not_go_on_with_other_data(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "rows.jsonl"
    file.write_text("one\n")
    source = {
        "file": str(file),
        "folder": str(tmp_path / "data"),
        "pattern": str(tmp_path / "data" / "*.jsonl"),
        "home": "~/data/rows.jsonl",
        "store": "store:main",
    }[kind]
    run = open_run(tmp_path / "run")
    run.input("data", source, "1" * 64 if kind == "store" else None)
    run.input("model", "some/hub-name")
    run.commit(1)
    run.close()
    run.release()
    before = lineage_of(tmp_path / "run")["inputs"]
    assert len(before[0]["sha256"]) == 64
    file.write_text("two\n")
    run = open_run(tmp_path / "run")
    with pytest.raises(ValueError) as refused:
        run.input("data", source, "2" * 64 if kind == "store" else None)
    assert str(refused.value).startswith(
        f"{source} (data) has changed since the run in {tmp_path / 'run'} began: "
    )
    assert "another out=" in str(refused.value)
    if kind != "store":
        shutil.rmtree(tmp_path / "data")
        with pytest.raises(ValueError, match=r"\(data\) is gone since the run"):
            run.input("data", source)
        file.parent.mkdir()
        file.write_text("one\n")
    run.input("data", source, "1" * 64 if kind == "store" else None)  # put back: the run goes on
    run.release()


def test_starting_anew_in_an_empty_run_keeps_every_hash(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    hashes = []
    for text in ("one", "two", "three"):
        data.write_text(text)
        run = open_run(tmp_path / "run")
        run.input("data", data)
        run.fail(ValueError(f"{text} is bad"))
        run.release()
        hashes.append(sha256_of(data))
    lineage = lineage_of(tmp_path / "run")
    earlier = [(entry["inputs"][0]["sha256"], entry["error"]) for entry in lineage["earlier"]]
    assert earlier == [(hashes[0], "one is bad"), (hashes[1], "two is bad")]
    assert lineage["inputs"][0]["sha256"] == hashes[2]


# folders in which nothing was done -------------------------------------------------------------------------------


def test_a_folder_in_which_nothing_was_done_blocks_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = open_run(folder, SFTSettings(data="rows.jsonl", model="wrong"))
    run.commit(0)  # measured before the first step
    run.open_tensorboard(0)
    run.fail(ValueError("there is no model 'wrong'"))
    run.close()
    run.release()
    (folder / "tokenizer").mkdir()  # made of data that may have been wrong
    (folder / "preflight.json").write_text("{}")
    (folder / "samples.jsonl").touch()
    (folder / "checkpoints" / ".step-00000001.partial").mkdir(parents=True)
    assert (lineage_of(folder)["state"], lineage_of(folder)["error"]) == (
        "failed",
        "there is no model 'wrong'",
    )
    open_run(folder).release()
    assert set(content(folder)) == {"settings.yaml", "lineage.json", ".lock"}
    assert lineage_of(folder)["state"] == "running" and "error" not in lineage_of(folder)
    open_run(folder, command="dpo").release()
    assert lineage_of(folder)["command"] == "dpo"


@pytest.mark.parametrize(
    "work",
    ["metrics.jsonl", "checkpoints/step-00000002/state.json", "model/config.json", ".model.old/config.json",
     "samples.jsonl", "results.json", "notes.txt", "nonfinite-step-7.pt"],
)  # fmt: skip
def test_work_is_never_taken_over(tmp_path: Path, work: str) -> None:
    folder = tmp_path / "run"
    open_run(folder).release()
    (folder / work).parent.mkdir(parents=True, exist_ok=True)
    (folder / work).write_text('{"step": 1, "loss": 2.0}\n')
    before = content(folder)
    with pytest.raises(ValueError, match="different run"):
        open_run(folder, SFTSettings(data="rows.jsonl", batch_size=7))
    with pytest.raises(ValueError, match="holds a run of 'sft'"):
        open_run(folder, command="dpo")
    assert content(folder) == before


def test_work_that_the_folder_does_not_show_counts_too(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run")
    run.begin()
    run.release()
    with pytest.raises(ValueError, match="different run"):
        open_run(tmp_path / "run", SFTSettings(data="rows.jsonl", batch_size=7))


def test_a_failed_command_is_corrected_and_run_again(tmp_path: Path) -> None:
    out = tmp_path / "report"
    with pytest.raises(ValueError, match="not a folder"):
        launch("report", ReportSettings(runs=[str(tmp_path / "rnus")], out=out), Console(quiet=True))
    [failed] = find([tmp_path])
    assert failed.state == "failed" and "rnus is not a folder" in failed.reason
    worked(tmp_path / "runs" / "sft")
    launch("report", ReportSettings(runs=[str(tmp_path / "runs")], out=out), Console(quiet=True))
    assert [run.state for run in find([out])] == ["done"]


def test_a_run_that_failed_with_work_in_it_goes_on(tmp_path: Path) -> None:
    worked(tmp_path / "run")
    run = open_run(tmp_path / "run")
    run.fail(OSError("No space left on device"))
    run.release()
    before = {name: data for name, data in content(tmp_path / "run").items() if name != "lineage.json"}
    open_run(tmp_path / "run").release()
    assert before.items() <= content(tmp_path / "run").items()
    assert lineage_of(tmp_path / "run")["state"] == "running"
