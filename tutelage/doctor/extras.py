"""Optional libraries: whether they are there, in a version that is known to work, and whether something here needs them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata, util

from tutelage.doctor.asked import Asked
from tutelage.doctor.check import Check, fail, ok
from tutelage.doctor.versions import library, requirements

EXTRAS = ("postgres", "ray", "wandb", "mlflow", "bnb")


def checks(asked: Asked) -> Iterator[Check]:
    for extra in EXTRAS:
        for name, rule in requirements(extra):
            yield optional(extra, name, rule, needed=extra == "postgres" and asked.on_server)


def optional(extra: str, name: str, rule: str, needed: bool) -> Check:
    """One library of an extra."""
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        if needed:
            return fail(
                name,
                "not installed, and the store is a PostgreSQL server's",
                f'pip install "tutelage[{extra}]"',
            )
        return ok(name, f'not installed, and nothing here needs it (pip install "tutelage[{extra}]")')
    found = library(name, rule)
    if found.state == "ok" and util.find_spec(name.replace("-", "_")) is None:
        return fail(
            name, "installed, but cannot be found by Python", f'pip install --force-reinstall "{name}{rule}"'
        )
    return found
