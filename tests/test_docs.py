"""The documentation cannot fall behind: every command has a page, every setting stands in it, every example parses."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tools import docs
from tutelage.commands import COMMANDS, Command, find, settings_class
from tutelage.settings.base import load

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def examples(text: str) -> list[str]:
    """The `tutelage ...` command lines in a page's code blocks; a line that ends in a backslash goes on."""
    found = []
    for block in re.findall(r"^```(?:sh|bash|shell|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"^\s*(\$ )?(\.venv/bin/)?((\w+=\S+) )*", "", line)  # prompt, environment variables
            if line.startswith("tutelage "):
                found.append(line)
    return found


def check(line: str) -> None:
    """Load the settings of an example as the command would, without running it."""
    name, *args = shlex.split(line, comments=True)[1:]
    if name.startswith("--") or "--help" in args:
        return
    load(
        settings_class(find(name)),
        [str(ROOT / arg) if arg.endswith(".yaml") and "=" not in arg else arg for arg in args],
    )


EXAMPLES = [(page, line) for page in PAGES for line in examples(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(
    "page, line", EXAMPLES, ids=lambda value: value if isinstance(value, str) else value.name
)
def test_every_example_parses(page: Path, line: str) -> None:
    try:
        check(line)
    except ValueError as error:
        pytest.fail(f"{page.relative_to(ROOT)}: `{line}`: {error}")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_setting_stands_in_the_page_of_its_command(command: Command) -> None:
    text = (ROOT / "docs" / "commands" / f"{command.name}.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert sorted(documented) == sorted(settings_class(command).model_fields)


def test_pages_are_up_to_date() -> None:
    stale = [
        path.name for path, text in docs.pages().items() if not path.exists() or path.read_text() != text
    ]
    assert not stale, f"run `make docs`: {', '.join(stale)}"


def test_no_page_of_a_command_that_is_gone() -> None:
    names = {command.name for command in COMMANDS} | {"README"}
    assert {path.stem for path in (ROOT / "docs" / "commands").glob("*.md")} == names


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_setting_has_a_sentence(command: Command) -> None:
    for name, field in settings_class(command).model_fields.items():
        assert field.description, f"{command.name}: {name} has no sentence"
        assert field.description.endswith("."), f"{command.name}: the sentence of {name} does not end"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_prose_outside_the_markers_stays() -> None:
    command = COMMANDS[0]
    text = f"# Mine\n\nprose\n\n{docs.BEGIN}\nold table\n{docs.END}\n\nmore prose\n"
    new = docs.page(command, text)
    assert new.startswith("# Mine\n\nprose\n") and new.endswith("\n\nmore prose\n") and "old table" not in new
    assert docs.page(command, new) == new
    with pytest.raises(ValueError, match="must hold the lines"):
        docs.page(command, "# Mine\n")


def test_examples_are_found_and_checked() -> None:
    block = "```sh\n$ tutelage world out=a \\\n seed=1  # why\nOMP_NUM_THREADS=1 tutelage runs\nls\n```\n```\ntutelage no\n```\n"
    first, second = examples(block)
    assert shlex.split(first, comments=True) == ["tutelage", "world", "out=a", "seed=1"]
    assert second == "tutelage runs"
    check(first)
    with pytest.raises(ValueError, match="did you mean 'seed'"):
        check("tutelage world sed=1")
    with pytest.raises(ValueError, match="no command 'wrld'"):
        check("tutelage wrld out=a")
    with pytest.raises(ValueError, match="no settings file"):
        check("tutelage world examples/there-is-none.yaml")
