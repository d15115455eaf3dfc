"""The command line: settings from YAML files and key=value, then the command; each is imported when it is used.

Help and mistakes in settings answer without torch: only the settings are imported until a command really runs.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from tutelage import __version__
from tutelage.commands import COMMANDS, Command, settings_class, unknown
from tutelage.errors import Ended, complain, sentence_of
from tutelage.ranks.place import LAST_WORDS, Place, is_a_rank
from tutelage.settings.base import load
from tutelage.settings.describe import Row, parts

WIDE = 110  # columns of a terminal below which a setting's facts go under its sentence


def run_command(command: Command, args: Sequence[str]) -> int:
    """Load the settings and run the command. Returns the exit code: 0, 1 after a user's mistake, 130 after Ctrl-C.

    ValueError and OSError are mistakes or mishaps that a user can mend: one sentence, no traceback (with
    TUTELAGE_TRACEBACK=1 they show it); of several ranks, rank 0 says it.  Any other exception is a fault of the program and
    keeps its traceback.
    """
    try:
        settings = load(settings_class(command), args)
        import_module("tutelage.launch").launch(command.name, settings)
    except KeyboardInterrupt:
        complain("interrupted", "")
        return 130
    except Ended as error:
        return error.code
    except (ValueError, OSError) as error:
        if os.environ.get("TUTELAGE_TRACEBACK"):
            raise
        if Place.here().leads:
            complain("error", sentence_of(error))
        else:
            time.sleep(LAST_WORDS)
        return 1
    return 0


def print_help(command: Command) -> None:
    """What a command does and a table of its settings, on standard output."""
    console = Console(highlight=False)
    bare = settings_class(command).bare.upper()
    usage = f"tutelage {command.name} {bare and f'[{bare} ...] '}[FILE.yaml ...] [key=value ...]\n"
    console.print(Text.assemble(("Usage: ", "bold"), usage))
    console.print(Text(f"{command.help}\n"))
    wide = console.width >= WIDE
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("setting", style="cyan", no_wrap=True)
    for column, style in (("type", "green"), ("default", "yellow"), ("unit", "")) if wide else ():
        table.add_column(column, style=style, overflow="fold")
    table.add_column("what it is", ratio=1)
    for heading, part in parts(settings_class(command)):
        if heading:
            if table.row_count:
                table.add_row("")
            table.add_row(Text(heading, "bold"))
        for row in part:
            table.add_row(row.name, *_cells(row, wide))
    console.print(table)


def print_family(word: str, family: Mapping[str, str]) -> None:
    """A table of the commands whose names begin with `word`, what each does by its name, on standard output."""
    console = Console(highlight=False)
    console.print(
        Text.assemble(("Usage: ", "bold"), f"tutelage {word} COMMAND [FILE.yaml ...] [key=value ...]\n")
    )
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("command", style="cyan", no_wrap=True)
    table.add_column("what it does", ratio=1)
    for name, sentence in family.items():
        table.add_row(name, Text(sentence))
    console.print(table)
    console.print(Text(f"\n`tutelage {word} COMMAND --help` lists every setting of a command."))


def _cells(row: Row, wide: bool) -> list[Text]:
    """What is said of a setting, in columns of their own or one under the other."""
    default = row.default or "must be given"
    if wide:
        return [Text(part) for part in (row.type, default, row.unit, row.sentence)]
    facts = [Text(row.type, "green"), Text(default, "yellow"), *([Text(row.unit)] if row.unit else [])]
    return [Text("\n").join([Text(row.sentence), Text("; ").join(facts)])]


def build_app(commands: Sequence[Command] = COMMANDS) -> typer.Typer:
    """The typer application that offers `commands`, in this order and grouped."""
    app = typer.Typer(
        cls=TwoWords,
        name="tutelage",
        help="Teach a language model from feedback. Settings come from YAML files and key=value, which wins.",
        epilog="`tutelage COMMAND --help` lists every setting of a command.",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
        ] = False,
    ) -> None:
        pass

    for command in commands:
        app.command(
            command.name,
            help=command.help,
            rich_help_panel=command.group,
            add_help_option=False,
            context_settings={"ignore_unknown_options": True},
        )(_runner(command))
    return app


class TwoWords(TyperGroup):
    """A group whose commands may have names of two words, such as `feedback export`: listed and found like any other."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        two = " ".join(args[:2])
        if two in self.commands:
            args = [two, *args[2:]]
        elif args[0] not in self.commands:
            family = [name for name in self.commands if name.startswith(f"{args[0]} ")]
            words = len(args) > 1 and args[1].isidentifier()
            if family and not words:
                asked = bool({"--help", "-h"} & set(args))
                if asked or len(args) == 1:
                    print_family(args[0], {name: self.commands[name].help or "" for name in family})
                    ctx.exit(0 if asked else 2)
                ctx.fail(f"give one of: {', '.join(sorted(family))}.")
            ctx.fail(unknown(two if words else args[0], list(self.commands)))
        return super().resolve_command(ctx, args)


def main() -> None:
    """Entry point of the command `tutelage`."""
    build_app()()


def _runner(command: Command) -> Callable[[list[str] | None], None]:
    def run(
        args: Annotated[list[str] | None, typer.Argument(metavar="[FILE.yaml ...] [key=value ...]")] = None,
    ) -> None:
        given = args or []
        if "--help" in given or "-h" in given:
            print_help(command)
        else:
            code = run_command(command, given)
            if is_a_rank():  # threads of the ranks' network may abort an ordinary exit
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
            raise typer.Exit(code)

    return run


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tutelage {__version__}")
        raise typer.Exit()
