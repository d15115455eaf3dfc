"""The facts on the console, in 80 columns: the first of everything; the page has the rest."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tutelage.inspect import words
from tutelage.inspect.columns import one_line
from tutelage.inspect.facts import Facts, Leak, Mistake, Pair, Shown
from tutelage.inspect.mistakes.common import rows
from tutelage.inspect.words import Names

OPEN, CLOSE = "⟦", "⟧"  # around what is trained, as in the preflight
COLUMNS, EXAMPLES, PLACES, REASONS, ROWS, WORDS = 12, 2, 8, 6, 2, 320  # how much of each is shown


def show(facts: Facts, console: Console) -> None:
    """Print the facts."""
    for part in _parts(facts, Names.of(facts)):
        console.print(part)


def _parts(facts: Facts, names: Names) -> Iterator[RenderableType]:
    yield Text(words.printable(facts.source), "bold")
    yield Text(words.headline(facts))
    for file in facts.files[:COLUMNS]:
        facts_of = [file.kind, words.size(file.bytes), rows(file.rows)]
        name = f"{words.printable(file.name)}: " if len(facts.files) > 1 else ""
        yield _indented(Text(name + ", ".join(part for part in facts_of if part)))
    yield Text(words.found(facts), "bold red" if facts.damaged_rows else "")
    for seen in facts.damaged[:REASONS]:
        yield _indented(_said(names.place(seen.place), seen.text))
    yield from _section("Columns", _columns(facts))
    yield from _section("How each command would read it", _uses(facts))
    yield from _section("Rows that would be dropped", _dropped(facts, names))
    yield from _section("Likely mistakes", _mistakes(facts, names, "mistake"))
    yield from _section("Worth knowing", _mistakes(facts, names, "note"))
    yield from _section("Repeated, and on both sides", _repeats(facts, names))
    yield from _section("Lengths", _lengths(facts))
    yield from _section(_rows_title(facts), _shown(facts, names))


def _section(title: str, parts: Iterator[RenderableType]) -> Iterator[RenderableType]:
    found = list(parts)
    if found:
        yield Text("")
        yield Text(title, "bold cyan")
        yield _indented(Group(*found))


def _indented(part: RenderableType, by: int = 2) -> Padding:
    return Padding(part, (0, 0, 0, by))


def _table() -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(overflow="fold", max_width=30)
    return table


def _columns(facts: Facts) -> Iterator[RenderableType]:
    if not facts.columns:
        return
    table = _table()
    table.add_column(overflow="fold", max_width=20)
    table.add_column()
    table.add_column()
    for column in facts.columns[:COLUMNS]:
        count = f"{column.rows:,}" + (f" ({column.blank:,} blank)" if column.blank else "")
        use = Text(column.use, "" if column.use == "used" else "yellow")
        if column.use == "in part":
            use = Text(f"not used in {column.unused:,}", "yellow")
        types = ", ".join(column.types) or "inside a column"
        table.add_row(Text(words.printable(column.name)), Text(types), Text(count), use)
    yield table
    if len(facts.columns) > COLUMNS:
        yield Text(f"and {len(facts.columns) - COLUMNS} more columns", "dim")


def _uses(facts: Facts) -> Iterator[RenderableType]:
    table = _table()
    table.add_column(overflow="fold")
    for commands, starts, said in words.verdicts(facts):
        style = "green" if starts else "yellow"
        table.add_row(Text(commands), Text.assemble(("" if starts else "no: ", style), words.printable(said)))
    yield table


def _dropped(facts: Facts, names: Names) -> Iterator[RenderableType]:
    found = words.drops(facts)
    for drop, by in found[:REASONS]:
        left = " (left out: no fault)" if drop.meant else ""
        yield Text(f"{rows(drop.rows)} {words.printable(drop.reason)}{left}")
        yield _indented(_said(names.places(drop.places, PLACES, drop.rows), f"by {by}"))
    if len(found) > REASONS:
        more = len(found) - REASONS
        yield Text(f"and for {more} more reason{'s' * (more > 1)}", "dim")


def _mistakes(facts: Facts, names: Names, level: str) -> Iterator[RenderableType]:
    for mistake in facts.mistakes:
        if mistake.level == level:
            yield from _mistake(mistake, names)


def _mistake(mistake: Mistake, names: Names) -> Iterator[RenderableType]:
    yield Text(mistake.sentence, "yellow" if mistake.level == "mistake" else "")
    yield _indented(Text(mistake.advice, "dim"))
    for seen in mistake.examples[:EXAMPLES]:
        yield _indented(_said(names.place(seen.place), seen.text))


def _said(where: str, text: str) -> Text:
    return Text.assemble((f"{where}: ", "cyan"), words.printable(text))


def _repeats(facts: Facts, names: Names) -> Iterator[RenderableType]:
    for repeats in facts.repeats:
        yield Text(f"{rows(repeats.rows)} {repeats.name}")
        yield from _pairs(repeats.pairs, names)
    if facts.split:
        split = facts.split
        yield Text(
            f"heldout_share={split.share:g} with split_seed={split.seed} holds out {split.held_out:,} of "
            f"{rows(split.rows)}" + ("" if split.leaks else "; nothing stands on both sides")
        )
        yield from _leaks(split.leaks, names, "held out with {name} as {train} trained on")
    if facts.overlap:
        overlap = facts.overlap
        yield Text(
            f"Of {rows(overlap.held_out)} in {words.printable(overlap.against)} "
            + ("these stand in the data:" if overlap.leaks else "none stands in the data")
        )
        yield from _leaks(overlap.leaks, names, "with {name} as {train} of the data")


def _leaks(leaks: tuple[Leak, ...], names: Names, says: str) -> Iterator[RenderableType]:
    for leak in leaks:
        said = says.format(name=leak.name, train=rows(leak.train))
        yield _indented(Text(f"{rows(leak.held_out)} {said}", "yellow"))
        for part in _pairs(leak.pairs, names):
            yield _indented(part)


def _pairs(pairs: tuple[Pair, ...], names: Names) -> Iterator[RenderableType]:
    for pair in pairs[:EXAMPLES]:
        shared = f': "{pair.words}"' if pair.words else ""
        yield _indented(Text(f"{names.place(pair.one)} and {names.place(pair.other)}{shared}", "dim"))


def _lengths(facts: Facts) -> Iterator[RenderableType]:
    for lengths in facts.lengths:
        if not lengths.spreads:
            continue
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        table.add_column(f"in {lengths.unit}")
        for name in lengths.spreads[0].numbers:
            table.add_column(name, justify="right")
        for spread in lengths.spreads:
            table.add_row(spread.name, *(value for _, value in words.numbers(spread)))
        yield table
        if said := words.over(lengths):
            yield Text(said)
    for note in facts.notes:
        yield Text(note)


def _rows_title(facts: Facts) -> str:
    how = "as the model sees them" if facts.model else "by turns"
    return f"Rows {how}, what is trained {OPEN}marked{CLOSE}"


def _shown(facts: Facts, names: Names) -> Iterator[RenderableType]:
    for row in facts.shown[:ROWS]:
        yield Text(names.place(row.place), "cyan")
        yield _indented(_row(row))


def _row(row: Shown) -> Text:
    """A row in a few lines: of every piece its start."""
    room = max(80, WORDS // max(len(row.runs), 1))
    text = Text()
    for run in row.runs:
        if run.who:
            text.append(f"{run.who}: " if not text else f"\n{run.who}: ", "dim")
        said = words.printable(one_line(run.text, room) if run.who else run.text[:room])
        said += "…" if not run.who and len(run.text) > room else ""
        text.append(f"{OPEN}{said}{CLOSE}" if run.trained else said, "bold green" if run.trained else "dim")
    return text
