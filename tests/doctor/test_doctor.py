"""`tutelage doctor`: what is sound passes, and every kind of broken thing is named with what to do."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tests.databases import fresh_database, postgres_server
from tutelage.doctor import devices, disk, endpoints, extras, interconnect, memory, run, store, versions
from tutelage.doctor.asked import Asked, Server, asked
from tutelage.doctor.check import Check
from tutelage.doctor.command import checks, main
from tutelage.settings.base import load
from tutelage.settings.doctor import DoctorSettings
from tutelage.settings.train import SFTSettings
from tutelage.store import Store
from tutelage.store.database import VERSION_TABLE, Database
from tutelage.store.schema import REVISIONS
from tutelage.train.plan import Column

GIB = 2**30


def states(found: Iterator[Check]) -> dict[str, str]:
    return {check.name: check.state for check in found}


def only(found: Iterator[Check]) -> Check:
    (check,) = found
    return check


def wanting(**given: Any) -> Asked:
    return asked(load(DoctorSettings, [f"{name}={value}" for name, value in given.items()]))


# versions and extras --------------------------------------------------------------------------------------------------


def test_a_library_in_the_window_passes_and_says_what_is_tested() -> None:
    assert versions.library("pydantic", ">=2,<3").state == "ok"
    assert "(tested with 2.0.1)" in versions.library("pydantic", ">=2,<3", "2.0.1").said


def test_a_library_outside_of_it_fails_with_the_line_that_mends_it() -> None:
    found = versions.library("pydantic", "<2")
    assert found.state == "fail" and found.do == 'pip install "pydantic<2"'


def test_a_library_that_is_not_there_fails() -> None:
    assert versions.library("no-such-library-of-ours", ">=1").said == "not installed"


@pytest.mark.parametrize(
    ("version", "rule", "fits"),
    [
        ("2.13.0+cpu", ">=2.13,<3", True),
        ("2.9.1", ">=2.13,<3", False),
        ("3.0.0", ">=2.13,<3", False),
        ("0.23", ">=0.23", True),
        ("0.1.2", "==0.1.2", True),
        ("5", "<5.0.1", True),
        ("2026.3.1", ">=2025.10.22", True),
    ],
)
def test_versions_are_compared_number_by_number(version: str, rule: str, fits: bool) -> None:
    from packaging.specifiers import SpecifierSet

    assert versions._within(version, rule) is fits
    assert SpecifierSet(rule).contains(version.partition("+")[0]) is fits  # what pip says


def test_an_old_python_fails() -> None:
    found = versions._python((3, 9, 1), ">=3.11")
    assert found.state == "fail" and "wants >=3.11" in found.said


def test_pins_are_read(tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("# comment ==1\ntorch==2.13.0\nhuggingface_hub==2.4.0\n")
    assert versions.read_pins(tmp_path / "constraints.txt") == {"torch": "2.13.0", "huggingface-hub": "2.4.0"}
    assert versions.read_pins(tmp_path / "none") == {}


def test_an_extra_is_missed_only_where_something_needs_it() -> None:
    assert extras.optional("postgres", "no-such-library-of-ours", ">=1", needed=False).state == "ok"
    needed = extras.optional("postgres", "no-such-library-of-ours", ">=1", needed=True)
    assert needed.state == "fail" and needed.do == 'pip install "tutelage[postgres]"'


# devices and memory ---------------------------------------------------------------------------------------------------


def test_processors_that_multiply_bf16_are_known() -> None:
    assert devices.processor({"avx512f", "avx512_bf16"}).facts["bf16"]
    assert "no bf16" in devices.processor({"avx2"}).said


@pytest.mark.parametrize(
    ("given", "ranks", "state", "do"),
    [
        ("", "1", "ok", ""),
        ("8", "1", "ok", ""),
        ("8", "2", "warn", "set OMP_NUM_THREADS=4"),
        ("1", "1", "warn", "set OMP_NUM_THREADS=8, or unset it"),
        ("many", "1", "fail", "unset it, or set it to the cores"),
    ],
)
def test_threads_against_cores(given: str, ranks: str, state: str, do: str) -> None:
    found = devices.threads(8, {"OMP_NUM_THREADS": given, "LOCAL_WORLD_SIZE": ranks})
    assert (found.state, found.do) == (state, do)


def test_a_container_with_a_quota_has_fewer_cores(tmp_path: Path) -> None:
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("50000 100000\n")
    assert devices.cores(tmp_path) == 0.5


def test_gpus_are_read_as_the_driver_lists_them() -> None:
    said = "NVIDIA H200, 143771, 143000, 570.86.15, 9.0\nTesla V100-SXM2-32GB, 32768, 32000, 570.86.15, 7.0\n"
    new, old = (devices.gpu_check(0, gpu) for gpu in devices.read_gpus(said))
    assert new.state == "ok" and "bf16" in new.said and "139.6 of 140.4 GiB free" in new.said
    assert old.state == "warn" and "precision=fp32" in old.do


def test_a_gpu_that_another_process_holds_is_named() -> None:
    (gpu,) = devices.read_gpus("NVIDIA H100, 81559, 2000, 570.86.15, 9.0\n")
    assert "another process" in devices.gpu_check(0, gpu).do


def test_shared_memory_of_a_container_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.os, "statvfs", lambda _: SimpleNamespace(f_frsize=4096, f_bavail=2**14))
    found = only(memory.shared())
    assert found.state == "warn" and "--shm-size" in found.do


def test_little_memory_is_said(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemAvailable: 1048576 kB\n")
    assert memory.free(tmp_path).state == "warn"


# disk -----------------------------------------------------------------------------------------------------------------


def space(free: float, files: int = 10**6) -> disk.StatVFS:
    """A disk with so many GiB free."""
    return lambda _: SimpleNamespace(
        f_frsize=4096, f_bavail=int(free * GIB / 4096), f_files=2 * files, f_favail=files
    )


@pytest.mark.parametrize(
    ("free", "needs", "state"),
    [(100, 10, "ok"), (100, 200, "fail"), (100, 95, "warn"), (0, 0, "fail"), (1, 0, "warn")],
)
def test_room_against_what_is_needed(
    tmp_path: Path,
    free: float,
    needs: float,
    state: str,
) -> None:
    found = disk.room("out", tmp_path, Path("/"), needs * GIB, space(free))
    assert found.state == state
    if needs > free:
        assert f"free {needs - free:.1f} GiB" in found.do


def test_a_disk_on_which_no_more_files_can_be_made_fails(tmp_path: Path) -> None:
    assert disk.room("out", tmp_path, Path("/"), 0, space(100, files=3)).state == "fail"


def test_a_folder_that_is_not_there_yet_is_looked_for_above(tmp_path: Path) -> None:
    assert disk.nearest(tmp_path / "a" / "b") == tmp_path


def test_a_folder_is_written_to_and_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "PIECE", 2**20)
    found = states(disk.folder("out", tmp_path / "run", 0, space(100)))
    assert {"out room", "out files", "out speed"} == set(found)
    assert found["out files"] == "ok"
    assert not list(tmp_path.iterdir())


def test_a_network_file_system_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "filesystem", lambda _: "nfs4")
    assert "network file system" in disk._works("out", tmp_path).said


def test_a_file_system_without_locks_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk.fcntl, "flock", lambda *_: None)  # what nolock does
    assert "a lock does not keep another process out" in disk._works("out", tmp_path).said


def test_a_disk_that_is_full_in_the_middle_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk.os, "fsync", full)
    monkeypatch.setattr(disk, "PIECE", 2**20)
    found = list(disk.folder("out", tmp_path, 0, space(100)))
    assert found[-1].state == "fail" and "No space left on device" in found[-1].said


# store ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def feedback(tmp_path: Path) -> Path:
    """A store of this version."""
    path = tmp_path / "store.sqlite"
    Store(path).close()
    return path


def test_a_store_of_this_version_is_sound(feedback: Path) -> None:
    assert states(store.checks(wanting(store=feedback))) == {"store": "ok", "store transaction": "ok"}


def test_a_store_of_an_older_version_is_named_and_left_alone(feedback: Path) -> None:
    with closing(sqlite3.connect(feedback)) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = ?", (REVISIONS[-3],))
        connection.commit()
    found = next(store.checks(wanting(store=feedback)))
    assert found.state == "warn" and "2 migrations behind" in found.said and "backup" in found.do
    with closing(sqlite3.connect(feedback)) as connection:
        assert connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone() == (REVISIONS[-3],)


def test_a_store_of_a_newer_version_fails(feedback: Path) -> None:
    with closing(sqlite3.connect(feedback)) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
        connection.commit()
    assert next(store.checks(wanting(store=feedback))).do == "update Tutelage"


def test_the_database_of_another_program_fails(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.sqlite")) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
        connection.commit()
    found = only(store.checks(wanting(store=tmp_path / "other.sqlite")))
    assert found.state == "fail" and "table 'songs'" in found.said


def test_a_store_that_another_process_holds_fails(feedback: Path) -> None:
    with closing(sqlite3.connect(feedback, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        *_, last = store.checks(wanting(store=feedback, timeout=0.05))
    assert last.state == "fail" and "locked by another process" in last.said


def test_a_store_that_is_not_there_is_no_mistake(tmp_path: Path) -> None:
    assert only(store.checks(wanting(store=tmp_path / "none.sqlite"))).state == "warn"
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_database_fails(tmp_path: Path) -> None:
    (tmp_path / "text.sqlite").write_text("hello " * 1000)
    assert "is not an SQLite database" in only(store.checks(wanting(store=tmp_path / "text.sqlite"))).said


def test_a_server_that_does_not_answer_fails() -> None:
    with closed_port() as port:
        found = only(
            store.checks(wanting(store=f"postgresql://nobody:secret@127.0.0.1:{port}/none", timeout=2))
        )
    assert found.state == "fail" and "no server answers" in found.said and "secret" not in found.said


def test_a_servers_connections_are_counted() -> None:
    few = store.connections(most=100, kept=3, used=7, workers=4, each=48)
    assert (
        few.state == "warn"
        and "90 of 100 connections are left" in few.said
        and "max_connections=202" in few.do
    )
    assert store.connections(most=300, kept=3, used=7, workers=4, each=48).state == "ok"


@pytest.mark.slow
def test_a_server_of_this_version_is_sound_and_left_alone() -> None:
    with postgres_server() as server, fresh_database(server) as url:
        empty = states(store.checks(wanting(store=url)))
        Database(url).close()
        found = list(store.checks(wanting(store=url, workers=2)))
        few = states(store.checks(wanting(store=url, workers=50)))
    assert empty["store"] == "warn"
    assert [check.state for check in found if check.name != "store connections"] == ["ok"] * 3
    assert found[1].said.startswith("PostgreSQL ") and found[2].facts["wanted"] == 96
    assert few["store connections"] == "warn"


def test_an_old_server_is_told() -> None:
    assert store.server_version(130012).state == "warn"
    assert store.server_version(160004).said == "PostgreSQL 16.4"


# endpoints ------------------------------------------------------------------------------------------------------------


@contextmanager
def closed_port() -> Iterator[int]:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


@contextmanager
def serving(answers: dict[str, Any], late: float = 0.0, key: str = "") -> Iterator[str]:
    """A server: path -> what it answers, or the number of an error.  late: its clock."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said = answers.get(self.path, 404)
            if key and self.headers.get("Authorization") != f"Bearer {key}":
                said = 401
            body = b"no" if isinstance(said, int) else json.dumps(said).encode()
            self.send_response_only(said if isinstance(said, int) else 200)
            self.send_header("Date", formatdate(time.time() - late, usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


MODELS = {"data": [{"id": "llama"}]}
TOKEN = {"choices": [{"text": " four", "logprobs": {"token_logprobs": [-0.1]}}]}
BARE = {"choices": [{"text": " four", "logprobs": None}]}
CHAT = {
    "choices": [
        {"message": {"content": "four"}, "logprobs": {"content": [{"token": "four", "logprob": -0.1}]}}
    ]
}


def look(url: str, **given: Any) -> list[Check]:
    server = Server(**{"url": url, "kind": "completions", "logprobs": True, **given})
    return list(endpoints.server_checks(server, 5.0))


def test_a_server_that_is_sound() -> None:
    with serving({"/v1/models": MODELS, "/v1/completions": TOKEN}) as url:
        found = look(f"{url}/v1")
    assert [check.state for check in found] == ["ok", "ok", "ok"]  # models, clock, token
    assert "one token of llama" in found[-1].said and "with log-probabilities" in found[-1].said


def test_a_server_without_log_probabilities_fails_where_they_are_needed() -> None:
    with serving({"/v1/models": MODELS, "/v1/completions": BARE, "/v1/chat/completions": CHAT}) as url:
        assert look(f"{url}/v1")[-1].state == "fail"
        assert look(f"{url}/v1", kind="chat")[-1].state == "ok"
        assert look(f"{url}/v1", logprobs=False)[-1].state == "ok"


def test_a_server_whose_model_is_another_fails() -> None:
    with serving({"/v1/models": MODELS, "/v1/completions": TOKEN}) as url:
        found = look(f"{url}/v1", model="qwen")
    assert "qwen is not among its models (llama)" in found[0].said and found[0].state == "fail"


def test_a_missing_key_is_named_and_a_wrong_one_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCTOR_KEY", raising=False)
    with serving({"/v1/models": MODELS, "/v1/completions": TOKEN}, key="right") as url:
        refused = look(f"{url}/v1", key_env="DOCTOR_KEY")
        assert refused[-1].said.startswith("status 401") and "does DOCTOR_KEY hold its key?" in refused[-1].do
        monkeypatch.setenv("DOCTOR_KEY", "right")
        found = look(f"{url}/v1", key_env="DOCTOR_KEY")
    assert [check.state for check in found] == ["ok"] * 4 and not any(
        "right" in check.said for check in found
    )


def test_a_key_that_is_not_set_for_a_server_elsewhere() -> None:
    server = Server("https://api.example.com/v1", "chat", key_env="NO_SUCH_KEY_OF_OURS")
    found = only(endpoints._key("api", server, ""))
    assert found.state == "warn" and found.do == "export NO_SUCH_KEY_OF_OURS=..."


def test_a_closed_port_fails() -> None:
    with closed_port() as port:
        found = look(f"http://127.0.0.1:{port}/v1")
    assert found[-1].state == "fail" and "no connection" in found[-1].said


def test_an_address_that_is_no_base_fails() -> None:
    with serving({}) as url:
        assert "http://localhost:8000/v1" in look(f"{url}/v2")[0].do


def test_clocks_that_differ_are_told() -> None:
    with serving({"/v1/models": MODELS, "/v1/completions": TOKEN}, late=90) as url:
        found = {check.name.rpartition(" ")[2]: check for check in look(f"{url}/v1")}
    assert found["clock"].state == "warn" and "ahead of" in found["clock"].said
    assert 85 < found["clock"].facts["skew"] < 95


def test_a_judge_over_http_scores_one_response() -> None:
    with serving({"/score": {"scores": [0.5]}, "/wrong": {"scores": [0.5, 1.0]}}) as url:
        assert look(f"{url}/score", kind="scores")[0].state == "ok"
        assert "no list of one score" in look(f"{url}/wrong", kind="scores")[0].said


# interconnect ---------------------------------------------------------------------------------------------------------


def test_a_port_that_is_open_and_one_that_is_not() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert interconnect.reachable(f"127.0.0.1:{listener.getsockname()[1]}", 2).state == "ok"
    with closed_port() as port:
        found = interconnect.reachable(f"127.0.0.1:{port}", 2)
    assert found.state == "fail" and "refused" in found.said.lower()
    assert interconnect.reachable("node1", 2).do == "write it as node1:29500"


def test_a_slow_interconnect_is_told() -> None:
    said = {"backend": "nccl", "latency": 2e-5, "all_reduce": 5e9, "all_gather": 60e9}
    reduce, gather = interconnect.told(8, said)
    assert (reduce.state, gather.state) == ("warn", "ok")
    assert "5.00 GB/s between 8 ranks (nccl), 20 us for a small one" in reduce.said


@pytest.mark.slow
def test_ranks_of_this_machine_are_measured() -> None:
    found = list(interconnect.measured(2, 300))
    assert [check.name for check in found] == ["all-reduce", "all-gather"]
    assert all(check.facts["bytes_per_second"] > 0 and check.facts["backend"] == "gloo" for check in found)


# a run ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A model of 12 numbers, and rows."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    header = json.dumps(
        {"a": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}, "__metadata__": {}}
    ).encode()
    (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(48))
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "response": "b"}\n')
    return {"model": model, "rows": rows}


def test_the_room_that_checkpoints_take(tmp_path: Path) -> None:
    """Policy and critic of 12 and 10 numbers; a frozen reward model is in none."""
    columns = [
        Column("policy", 48, 48, 96, 1, 1),
        Column("critic", 40, 40, 80, 1, 1),
        Column("reward model", 24, 0, 0, 0, 0),
    ]
    settings = SFTSettings(data="x", keep_checkpoints=3, load_best=True)
    assert (
        run.checkpoints(settings, columns) == 5 * 12 * (12 + 10) + 48
    )  # three, the best, one that is written; the export


def test_what_a_run_names_must_be_there(files: dict[str, Path], tmp_path: Path) -> None:
    assert run.model("model", str(files["model"])).state == "ok"
    assert run.source_check("data", f"{files['rows']}*0.5").state == "ok"
    assert run.source_check("data", str(tmp_path / "*.jsonl")).state == "ok"
    assert run.source_check("data", str(tmp_path / "none.jsonl")).state == "fail"
    assert run.model("model", str(tmp_path / "none")).state == "fail"
    (files["model"] / "model.safetensors").unlink()
    assert "no weights" in run.model("model", str(files["model"])).said


def test_the_servers_of_a_run_are_found() -> None:
    judge = (
        "[{judge: llm:gpt, url: 'http://a:8000/v1', mode: logits}, {judge: 'http://b/score'}, runs/reward]"
    )
    wanted = asked(DoctorSettings(command="ppo", settings=["prompts=x", f"reward={judge}"]))
    assert [(server.url, server.kind, server.logprobs) for server in wanted.servers] == [
        ("http://a:8000/v1", "chat", True),
        ("http://b/score", "scores", False),
    ]
    assert "endpoints" in wanted.groups


def test_a_run_folder_of_another_command_fails(files: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    settings = load(SFTSettings, [f"data={files['rows']}", f"out={folder}"])
    assert only(run.standing("sft", settings)).state == "fail"


def test_a_pipeline_needs_what_none_of_its_stages_makes(files: dict[str, Path], tmp_path: Path) -> None:
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(
        f"""
stages:
  - {{command: world, documents: 10}}
  - {{command: pretrain, data: "@world/pretrain.jsonl", layers: 1, hidden_size: 16, heads: 2}}
  - {{command: sft, model: "@pretrain", data: "{tmp_path}/none.jsonl"}}
  - {{command: ppo, model: "@sft", prompts: "{files["rows"]}", reward: "http://127.0.0.1:1/score"}}
  - {{command: reinforce, model: "@sft", prompts: "{files["rows"]}", reward: "{files["model"]}"}}
"""
    )
    wanted = asked(DoctorSettings(command="run", settings=[str(pipeline), f"out={tmp_path}/runs"]))
    assert [server.url for server in wanted.servers] == ["http://127.0.0.1:1/score"]
    found = states(run.checks(wanted))
    assert found.pop("pretrain: checkpoints room") != "fail"  # as the disk is
    assert found == {
        "settings": "ok",
        "pretrain: memory plan": "ok",
        "sft: data": "fail",
        "ppo: prompts": "ok",
        "reinforce: reward": "ok",
        "memory plan": "ok",
    }


# the command ----------------------------------------------------------------------------------------------------------


def test_the_command_writes_what_it_found_and_ends_with_what_failed(tmp_path: Path) -> None:
    with closed_port() as port:
        settings = DoctorSettings(
            checks=["endpoints", "memory"],
            endpoints=[f"http://127.0.0.1:{port}/v1"],
            key_env="",
            results=str(tmp_path / "found.json"),
        )
        out = StringIO()
        with pytest.raises(ValueError, match=r"^1 of \d checks failed: http://127.0.0.1:\d+/v1\.$"):
            main(settings, Console(file=out, width=80))
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["failed"] == [f"http://127.0.0.1:{port}/v1"]
    assert {"name", "state", "said", "do", "facts"} == set(found["checks"][0])
    assert out.getvalue().startswith("fail  http://127.0.0.1") and " -> start the server" in out.getvalue()


def test_a_check_that_breaks_is_one_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Asked) -> Iterator[Check]:
        raise RuntimeError("of its own")

    monkeypatch.setattr(memory, "checks", broken)
    found = only(checks(wanting(checks="memory")))
    assert found.state == "fail" and "of its own" in found.said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["settings=[ppo.yaml]"], "add command=ppo, say"),
        (["checks=[run]"], "add command=ppo, say"),
        (["checks=[disks]"], "must be"),
    ],
)
def test_what_does_not_go_together(given: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load(DoctorSettings, given)


def test_the_usual_groups_need_nothing_heavy() -> None:
    assert "interconnect" not in wanting().groups and "run" not in wanting().groups
    assert "interconnect" in wanting(hosts="node1:29500").groups


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    """What `tutelage doctor` loads before its first line."""
    import subprocess
    import sys

    code = (
        "import sys, tutelage.doctor.command, tutelage.doctor.versions, tutelage.doctor.devices, tutelage.doctor.disk, "
        "tutelage.doctor.memory, tutelage.doctor.extras, tutelage.launch\n"
        "print([name for name in ('torch', 'transformers', 'httpx2', 'openai', 'numpy') if name in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.strip() == "[]"
