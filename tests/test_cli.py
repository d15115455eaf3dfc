"""The command line as a user meets it: help, mistakes and exit codes; and that it answers without torch."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from tutelage import __version__, cli
from tutelage.commands import COMMANDS, find, settings_class
from tutelage.settings.describe import rows

HEAVY = ["torch", "transformers", "matplotlib", "sqlalchemy", "numpy"]


def run(*args: str) -> Any:
    return CliRunner().invoke(cli.build_app(), list(args))


def loaded_by(*args: str) -> tuple[int, str, list[str]]:
    """Exit code, standard error and heavy modules loaded when the command line is called in a fresh process."""
    code = (
        "import sys, json\n"
        "from tutelage.cli import main\n"
        f"sys.argv = ['tutelage', *{list(args)!r}]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    code = stop.code or 0\n"
        f"print(json.dumps([code, [name for name in {HEAVY!r} if name in sys.modules]]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    code_, modules = json.loads(done.stdout.splitlines()[-1])
    return code_, done.stderr, modules


def test_commands_are_listed_in_the_order_of_the_work() -> None:
    shown = run("--help").stdout
    rows = [re.search(rf"^\W*{command.name} ", shown, re.MULTILINE) for command in COMMANDS]
    places = [row.start() for row in rows if row]
    assert len(places) == len(COMMANDS)
    assert places == sorted(places)
    for command in COMMANDS:
        assert command.help in shown and command.group in shown


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
@pytest.mark.parametrize("columns", [80, 160])
def test_help_lists_every_setting(command: Any, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = run(*command.name.split(), "--help").stdout
    assert max(map(len, shown.splitlines())) <= columns
    words = " ".join(shown.split())
    for name, field in settings_class(command).model_fields.items():
        assert name in words
        if columns == 80:  # beside other columns, a sentence that wraps is interleaved with them
            assert " ".join(field.description.split()) in words


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_and_page_put_everyday_settings_first(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    lines = run(*command.name.split(), "--help").stdout.splitlines()
    firsts = [line.split()[0] for line in lines if line[:1].strip()]
    places = [firsts.index(name) for name in settings_class(command).model_fields]
    assert len(set(places)) == len(places)
    described = rows(settings_class(command))
    names = [name for name in firsts if name in {row.name for row in described} | {"everyday", "more"}]
    rare = [row.name for row in described if not row.everyday]
    everyday = [row.name for row in described if row.everyday]
    assert names == (["everyday", *everyday, "more", *rare] if rare else everyday)
    assert len(everyday) <= 20, "what is set every day fits on one screen"


def test_version() -> None:
    assert run("--version").stdout.strip() == f"tutelage {__version__}"


@pytest.mark.parametrize(
    "args", [("--help",), ("--version",), ("ppo", "--help"), ("run", "--help"), ("demo", "-h")], ids=" ".join
)
def test_help_loads_nothing_heavy(args: tuple[str, ...]) -> None:
    assert loaded_by(*args) == (0, "", [])


def test_mistakes_in_settings_load_nothing_heavy(tmp_path: Path) -> None:
    code, stderr, modules = loaded_by("ppo", "kl_coeff=0.1")
    assert (code, modules) == (1, [])
    assert stderr == "error: unknown setting 'kl_coeff' (command line): did you mean 'kl_coef'?\n"
    code, stderr, modules = loaded_by("sft", str(tmp_path / "none.yaml"))
    assert (code, modules) == (1, []) and str(tmp_path / "none.yaml") in stderr and stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("pppo", "ppo"),
        ("dop data=x.jsonl", "dpo"),
        ("dop my.yaml", "dpo"),
        ("evla", "eval"),
        ("feedback exprot", "feedback export"),
        ("feedbak export out=x", "feedback export"),
        ("feedback-export", "feedback export"),
        ("backup", "feedback backup"),
        ("feedbak", "feedback"),
    ],
)
def test_unknown_command_names_the_nearest(typed: str, meant: str) -> None:
    result = run(*typed.split())
    assert result.exit_code == 2
    assert f"did you mean '{meant}'?" in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("word", ["feedback", "judge"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_a_family_lists_its_commands(word: str, flag: str) -> None:
    result = run(word, flag)
    assert (result.exit_code, result.stderr) == (0, "")
    listed = [line for line in result.stdout.splitlines() if line.startswith(f"{word} ")]
    family = [command for command in COMMANDS if command.name.startswith(f"{word} ")]
    assert len(listed) == len(family) > 2
    for line, command in zip(listed, family, strict=True):
        assert line.startswith(command.name) and line.rstrip().endswith(command.help)


def test_a_family_alone_is_listed_but_no_command() -> None:
    result = run("judge")
    assert result.exit_code == 2 and "judge calibration" in result.stdout
    result = run("judge", "out=x")
    said = " ".join(result.stderr.replace("│", " ").split())
    assert result.exit_code == 2 and "give one of: judge calibration, judge cost, judge serve." in said


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Instead of launching, note what would be, and raise `error` if the test sets one."""
    seen: dict[str, Any] = {"error": None}

    def launch(name: str, settings: Any) -> None:
        seen.update(name=name, settings=settings)
        if seen["error"] is not None:
            raise seen["error"]

    fake = ModuleType("tutelage.launch")
    fake.launch = launch  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tutelage.launch", fake)
    yield seen


def test_settings_reach_the_command(launched: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("seed: 5\nout: elsewhere\n")
    result = run("world", str(file), "seed=7")
    assert result.exit_code == 0, result.output
    assert launched["name"] == "world"
    assert launched["settings"] == settings_class(find("world"))(seed=7, out="elsewhere")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("row 3 of a.jsonl has no prompt: add one"), 1, "error: row 3 of a.jsonl has no prompt: add one\n"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), 1, "error: runs/x: No space left on device\n"),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), 1, "error: runs: Permission denied\n"),
        (OSError("the hub has no such model"), 1, "error: the hub has no such model\n"),
        (ValueError("[bold]not markup[/bold]"), 1, "error: [bold]not markup[/bold]\n"),
        (ValueError("long " * 60), 1, "error: " + "long " * 60 + "\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
    ids=["value", "disk full", "permission", "no errno", "markup", "long", "interrupt"],
)  # fmt: skip
def test_a_users_mistake_is_one_sentence(
    launched: dict[str, Any], error: BaseException, code: int, message: str
) -> None:
    launched["error"] = error
    result = run("world")
    assert (result.exit_code, result.stderr) == (code, message)


def test_a_fault_of_the_program_keeps_its_traceback(
    launched: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    launched["error"] = KeyError("ours")
    assert isinstance(run("world").exception, KeyError)
    launched["error"] = ValueError("theirs")
    monkeypatch.setenv("TUTELAGE_TRACEBACK", "1")
    assert isinstance(run("world").exception, ValueError)


def test_every_command_has_a_function_that_does_it() -> None:
    from importlib.util import find_spec

    for command in COMMANDS:
        module, _, name = command.does.partition(":")
        spec = find_spec(module)
        assert spec is not None and spec.origin is not None, command.does
        assert f"\ndef {name or 'main'}(" in Path(spec.origin).read_text(encoding="utf-8"), command.does
