"""The command `data`: what is this file, and what would each command make of it?  No torch without `model`.

data.html   one page without external resources
data.json   every fact on it
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from tutelage.files import write_json_atomic, write_text_atomic
from tutelage.inspect.facts import to_json
from tutelage.inspect.looking import look
from tutelage.inspect.page import render
from tutelage.inspect.text import show
from tutelage.settings.inspect import DataCommandSettings as Settings


def main(settings: Settings, console: Console) -> Path:
    """Look at the data, say what was found, and write it into the folder `out`.  Raises ValueError as `look` does."""
    facts = look(
        settings.data,
        columns=settings.columns,
        model=settings.model,
        against=settings.against,
        max_length=settings.max_length,
        cut_responses=settings.cut_responses,
        max_dropped_share=settings.max_dropped_share,
        heldout_share=settings.heldout_share,
        split_seed=settings.split_seed,
        console=console,
    )
    show(facts, console)
    settings.out.mkdir(parents=True, exist_ok=True)
    write_json_atomic(settings.out / "data.json", to_json(facts))
    page = write_text_atomic(settings.out / "data.html", render(facts))
    console.print(f"\nAll of it, with ten rows: {page}", markup=False, highlight=False, soft_wrap=True)
    return settings.out
