"""The facts as one self-contained HTML page.  Everything that comes from the data is escaped."""

from __future__ import annotations

from datetime import UTC, datetime

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tutelage.inspect import words
from tutelage.inspect.facts import Facts
from tutelage.inspect.figure import histograms
from tutelage.inspect.mistakes.common import rows
from tutelage.inspect.words import Names

PLACES = 400  # of dropped rows that are listed for each reason
EXAMPLES = 12  # of everything else


def render(facts: Facts) -> str:
    """The page; its style is that of the report."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("tutelage.inspect"), PackageLoader("tutelage.evals")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: words.printable(value) if type(value) is str else value,
    )
    return environment.get_template("data.html").render(
        facts=facts,
        names=Names.of(facts),
        words=words,
        rows=rows,
        places=PLACES,
        examples=EXAMPLES,
        figures=[Markup(histograms(lengths)) if lengths.spreads else None for lengths in facts.lengths],
        written=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
    )
