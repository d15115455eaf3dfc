"""The pages of the commands: their settings tables are written from the settings, so they cannot fall behind.

`python -m tools.docs` rewrites the tables in docs/commands/ (and starts the page of a new command); with `--check` it
changes nothing and fails when a table is out of date. What stands outside the markers is prose and stays as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tutelage.commands import COMMANDS, Command, settings_class
from tutelage.settings.describe import Row, parts

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "commands"
BEGIN = "<!-- settings: written by `make docs` -->"
END = "<!-- end of settings -->"
INDEX_BEGIN = "<!-- commands: written by `make docs` -->"
INDEX_END = "<!-- end of commands -->"


def table(command: Command) -> str:
    """The settings of a command as Markdown tables: the everyday ones, and more."""
    tables = []
    for heading, part in parts(settings_class(command)):
        lines = ["| setting | type | default | unit | what it is |", "|---|---|---|---|---|"]
        text = "\n".join(lines + [_line(row) for row in part])
        tables.append(f"{heading.capitalize()}:\n\n{text}" if heading else text)
    return "\n\n".join(tables)


def index() -> str:
    """All commands as a Markdown table, in the order of the work."""
    lines = ["| command | what it does | |", "|---|---|---|"]
    lines += [f"| [`{c.name}`]({c.page}.md) | {_cell(c.help)} | {_cell(c.group)} |" for c in COMMANDS]
    return "\n".join(lines)


def page(command: Command, text: str | None) -> str:
    """The page of a command with its table brought up to date; a new page when `text` is None."""
    if text is None:
        text = f"# tutelage {command.name}\n\n{command.help}\n\n## Settings\n\n{BEGIN}\n{END}\n"
    return _replace(text, BEGIN, table(command), END, f"docs/commands/{command.page}.md")


def pages(folder: Path = FOLDER) -> dict[Path, str]:
    """Every page as it should be, by its path."""
    wanted = {
        folder / f"{command.page}.md": page(command, _read(folder / f"{command.page}.md"))
        for command in COMMANDS
    }
    overview = folder / "README.md"
    text = _read(overview) or f"# Commands\n\n{INDEX_BEGIN}\n{INDEX_END}\n"
    return {overview: _replace(text, INDEX_BEGIN, index(), INDEX_END, "docs/commands/README.md"), **wanted}


def _line(row: Row) -> str:
    default = f"`{_cell(row.default)}`" if row.default else "must be given"
    return f"| `{row.name}` | {_cell(row.type)} | {default} | {_cell(row.unit)} | {_cell(row.sentence)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _replace(text: str, begin: str, body: str, end: str, name: str) -> str:
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{name} must hold the lines {begin!r} and {end!r} once each, in this order")
    return f"{text[: text.index(begin)]}{begin}\n\n{body}\n\n{text[text.index(end) :]}"


def main(arguments: list[str]) -> int:
    """Write the pages, or check them. Returns the exit code."""
    stale = {path: text for path, text in pages().items() if _read(path) != text}
    if "--check" in arguments:
        for path in stale:
            print(f"error: {path.name} is out of date with the settings: run `make docs`", file=sys.stderr)
        return 1 if stale else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
