"""Ranks as users start them, and what they say when one of them cannot go on."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from torch import distributed

from tests.processes import Started
from tests.ranks import on_ranks
from tests.train.making import make_model, make_tokenizer
from tutelage.cli import run_command
from tutelage.commands import find
from tutelage.launch import launch
from tutelage.models.loading import save
from tutelage.parallel import World
from tutelage.ranks import meeting, watch
from tutelage.ranks.place import LAST_WORDS, Place
from tutelage.ranks.watch import STUCK, Sign, Signs
from tutelage.resume import checkpoint_steps, read_lineage, read_metrics
from tutelage.settings.base import build
from tutelage.settings.train import SFTSettings
from tutelage.train import sft


def signs(moves: list[int], waits: list[bool], number: int = 0) -> dict[int, Sign]:
    return {
        rank: Sign(number, moved, waiting, (f"outer{rank}.py:1 f", f"inner{rank}.py:2 g"))
        for rank, (moved, waiting) in enumerate(zip(moves, waits, strict=True))
    }


def test_the_one_who_waits_for_nobody_holds_the_others_up() -> None:
    told = Signs(3)
    assert told.read(signs([4, 4, 4], [True, False, True], 0), 0.0) == []
    assert told.read(signs([5, 4, 4], [True, False, True], 1), STUCK) == [], "one has moved"
    (said,) = told.read(signs([5, 4, 4], [True, False, True], 2), 2 * STUCK + 1)
    assert "rank 1 holds the others up" in said and "inner1.py:2 g < outer1.py:1 f" in said
    assert told.read(signs([5, 4, 4], [True, False, True], 3), 3 * STUCK) == [], "said once"
    assert told.read(signs([6, 5, 5], [True, True, True], 4), 4 * STUCK) == [], "it goes on"
    (said,) = told.read(signs([6, 5, 6], [True, True, True], 5), 4 * STUCK) or told.read(
        signs([6, 5, 6], [True, True, True], 6), 5 * STUCK + 1
    )
    assert "rank 1 waits for the others, too" in said, "all wait: the one that is furthest behind"


def test_the_one_without_a_sign_of_life_is_named() -> None:
    told = Signs(2)
    first = signs([4, 4], [True, False], 0)
    assert told.read(first, 0.0) == []
    (said,) = told.read({0: Sign(9, 4, True, ("a.py:1 f",)), 1: first[1]}, STUCK + 1)
    assert "rank 1 has given no sign of life for 41 s" in said


# ---- forked ranks -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tokenizer = make_tokenizer()
    save(make_model(tokenizer), tokenizer, folder / "model")
    rows = [{"prompt": f"{i} +", "response": " the dog" * (1 + i % 5)} for i in range(24)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def words(base: Path, out: Path, **more: Any) -> dict[str, Any]:
    shared = {"model": f"{base}/model", "data": f"{base}/rows.jsonl", "out": str(out), "tensorboard": False}
    return {**shared, "precision": "fp32", "max_steps": 4, "save_every": 1, **more}


def line(given: dict[str, Any]) -> list[str]:
    """The settings as they stand on a command line."""
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in given.items()]


def said_by_rank_0(base: Path, folder: Path, **more: Any) -> tuple[str, str]:
    """Run `sft` on two ranks; what rank 0 told and what it ended with."""

    def work(world: World) -> tuple[str, str]:
        console, ended = Console(file=io.StringIO(), width=1000), ""
        given = {
            name: value[world.rank] if isinstance(value, list) else value for name, value in more.items()
        }
        try:
            launch("sft", build(SFTSettings, words(base, folder / "run", **given)), console)
        except ValueError as error:
            ended = str(error)
        if world.leads:
            (folder / "told.json").write_text(json.dumps([console.file.getvalue(), ended]))  # type: ignore[attr-defined]
        elif ended:
            os._exit(1)  # as the command line does
        return "", ended

    folder.mkdir()
    try:
        on_ranks(2, folder / "ranks", work)
    except AssertionError:
        assert (folder / "told.json").exists()
    told: tuple[str, str] = tuple(json.loads((folder / "told.json").read_text()))
    return told


def test_a_rank_that_fails_says_why_through_the_first(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rank = Place.here
    collate = sft.rows_for_step

    def failing(count: int, size: int, step: int, seed: int) -> Any:
        if rank().rank == 1 and step == 2:
            raise ValueError("row 7 is gone.")
        return collate(count, size, step, seed)

    monkeypatch.setattr(sft, "rows_for_step", failing)
    _, ended = said_by_rank_0(base, tmp_path / "x")
    assert ended == "rank 1: row 7 is gone."
    assert (read_lineage(tmp_path / "x" / "run") or {})["error"] == "rank 1: row 7 is gone."


@pytest.mark.slow
def test_a_rank_that_is_stuck_is_named_with_its_stack(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "STUCK", 1.0)
    monkeypatch.setattr(watch, "BEAT", 0.1)
    collate = sft.rows_for_step

    def stuck_here(count: int, size: int, step: int, seed: int) -> Any:
        if Place.here().rank == 1 and step == 2:
            time.sleep(4)
        return collate(count, size, step, seed)

    monkeypatch.setattr(sft, "rows_for_step", stuck_here)
    told, ended = said_by_rank_0(base, tmp_path / "x")
    assert re.search(r"No rank has moved for \d+ s: rank 1 holds the others up; it is in .*stuck_here", told)
    assert not ended, "it goes on when the rank does"


def test_ranks_with_other_settings_do_not_begin(tmp_path: Path, base: Path) -> None:
    _, ended = said_by_rank_0(base, tmp_path / "x", learning_rate=[1e-3, 1e-4])
    assert ended == "rank 1 has learning_rate=0.0001 and rank 0 has 0.001: give all ranks the same settings."
    assert not (tmp_path / "x" / "run").exists()


def test_a_run_folder_of_another_command_is_said_by_all(tmp_path: Path, base: Path) -> None:
    (tmp_path / "x" / "run").mkdir(parents=True)
    (tmp_path / "x" / "run" / "mine.txt").write_text("work")
    (tmp_path / "x" / "told.json").unlink(missing_ok=True)
    found = on_ranks(2, tmp_path / "ranks", lambda _: refused(words(base, tmp_path / "x" / "run")))
    assert all("is not empty and holds no run" in one for one in found)


def refused(given: dict[str, Any]) -> str:
    with pytest.raises(ValueError) as raised:
        launch("sft", build(SFTSettings, given), Console(quiet=True))
    return str(raised.value)


def test_a_rank_that_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "MISSING_AFTER", 0.3)
    monkeypatch.setattr(meeting, "SAID_AFTER", 0.1)
    store, said = distributed.HashStore(), list[str]()
    store.set_timeout(timedelta(seconds=1))
    store.set("here/2", "elsewhere")
    with pytest.raises(ValueError, match="ranks 1, 3 of 4 did not come within 0 s"):
        meeting._wait_for_all(store, Place(0, 4), said.append)
    assert said == ["Waiting for ranks 1, 3 of 4."]


def test_a_rank_lets_the_first_speak_before_it_ends(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slept = list[float]()
    monkeypatch.setattr(time, "sleep", slept.append)
    for rank in "10":
        monkeypatch.setenv("RANK", rank)
        assert run_command(find("sft"), line(words(base, tmp_path / "x", epochs="many"))) == 1
        assert slept == [LAST_WORDS] and capsys.readouterr().err.count("error:") == (rank == "0")


# ---- processes ----------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_rank_that_is_killed_ends_all_and_the_run_goes_on(tmp_path: Path, base: Path, killed: int) -> None:
    def arguments(out: str) -> list[str]:
        return ["sft", *line(words(base, tmp_path / out, max_steps=40))]

    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    ranks = [
        Started(arguments("both"), tmp_path / f"said{rank}.txt", meet | {"RANK": str(rank)})
        for rank in range(2)
    ]
    while not checkpoint_steps(tmp_path / "both" / "checkpoints"):
        assert all(one.running for one in ranks), [one.said for one in ranks]
        time.sleep(0.01)
    ranks[killed].kill()
    assert ranks[1 - killed].wait(60) == 1
    assert run_command(find("sft"), arguments("both")[1:]) == 0
    assert run_command(find("sft"), arguments("alone")[1:]) == 0
    pairs = zip(read_metrics(tmp_path / "both"), read_metrics(tmp_path / "alone"), strict=True)
    losses = [(one["loss"], other["loss"]) for one, other in pairs if one["step"]]
    assert len(losses) == 40 and all(one == pytest.approx(other, abs=1e-6) for one, other in losses)


@pytest.mark.slow
def test_ranks_that_the_command_has_started_fail_with_one_sentence(
    tmp_path: Path, base: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """That they do not fail is tested by `benchmarks.ranks`."""
    wrong = {"ranks": 2, "data": f"{tmp_path}/nothing.jsonl"}
    assert run_command(find("sft"), line({**words(base, tmp_path / "x"), **wrong})) == 1
    said = capfd.readouterr()
    assert said.err.count("error:") == 1 and "nothing.jsonl does not exist" in said.err
    assert "Traceback" not in said.err
