"""The architecture is one sentence: imports only go down the floors. This reads every import and checks it."""

from __future__ import annotations

import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tools import floors


@cache
def imports() -> tuple[floors.Import, ...]:
    """Every import of the package: the whole of it is parsed once."""
    return tuple(floors.read_imports())


def test_no_arrow_goes_up() -> None:
    found = floors.faults(list(imports()))
    assert not found, "\n".join(found)


def test_every_part_is_drawn() -> None:
    drawn = floors.picture(list(imports()))
    parts = {floors.part_of(item.source) for item in imports()}
    assert {"ops", "train", "cli"} <= parts
    for part in parts:
        assert re.search(rf"^  {part}\b", drawn, re.MULTILINE), part


def test_every_outside_import_is_declared() -> None:
    """A library that is only there because another one brings it may be gone tomorrow."""
    project = tomllib.loads((floors.ROOT / "pyproject.toml").read_text())["project"]
    # An extra that is for development alone is there for no user.
    extras = [
        line for name, lines in project["optional-dependencies"].items() if name != "dev" for line in lines
    ]
    needed = [*project["dependencies"], *extras]
    declared = {_normal(re.split(r"[<>=\[ ]", line)[0]) for line in needed}
    providers = packages_distributions()
    outside = {}
    for item in imports():
        top = item.target.split(".")[0]
        if top not in sys.stdlib_module_names and top != floors.PACKAGE:
            outside[top] = item.place
    providers["pydantic_core"] = ["pydantic"]  # which pins it exactly
    undeclared = {
        top: place
        for top, place in outside.items()
        if not declared & {_normal(name) for name in providers.get(top, [top])}
    }
    assert not undeclared, "not among the dependencies in pyproject.toml"


def _normal(name: str) -> str:
    """A distribution's name as PyPI compares them (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def write(root: Path, files: dict[str, str]) -> list[str]:
    for name, text in {"__init__.py": "", **files}.items():
        path = root / "tutelage" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return floors.faults(floors.read_imports(root))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"ops/kl.py": "import torch\nfrom tutelage.models import forward\n", "models/forward.py": ""}, "ops/kl.py:2"),
        ({"data/batch.py": "def f():\n    from tutelage import train\n", "train/__init__.py": ""}, "data/batch.py:2"),
        ({"data/batch.py": "from ..train.fit import fit\n", "train/fit.py": ""}, "data/batch.py:1"),
        ({"models/__init__.py": "from ..cli import main\n", "cli.py": ""}, "models/__init__.py:1"),
        ({"data/a.py": "import tutelage.store.b\n", "store/b.py": "from tutelage import data\n"}, "data -> store -> data"),
        ({"mystery.py": "import os\n"}, "'mystery' stands on no floor"),
        ({"ops/kl.py": "import numpy\n"}, "ops imports numpy"),
        ({"cli.py": "from tutelage.runs import Run\n", "runs.py": "import torch\n"}, "runs.py:1: tutelage.cli must start fast"),
        ({"cli.py": "from tutelage.store.a import x\n", "store/__init__.py": "import torch\n", "store/a.py": ""}, "cli must"),
    ],
)  # fmt: skip
def test_breaches_are_found(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    found = write(tmp_path, files)
    assert any(expected in fault for fault in found), found


def test_what_is_allowed_passes(tmp_path: Path) -> None:
    files = {
        "ops/kl.py": "import math\nimport torch\nfrom tutelage.ops import masked\nfrom . import masked\n",
        "ops/masked.py": "import torch\n",
        "models/forward.py": "from tutelage.data.batch import x\nfrom tutelage import __version__\nimport tutelage.ops.kl\n",
        "data/batch.py": "import torch\n",
        "cli.py": "def f():\n    import torch\n    from tutelage.models import forward\n",
    }
    assert write(tmp_path, files) == []


def test_rooms_of_a_house_go_in_no_circle(tmp_path: Path) -> None:
    files = {
        "feedback/items/a.py": "from tutelage.feedback.work.b import x\n",
        "feedback/work/b.py": "from tutelage.feedback.items import a\n",
    }
    assert any("items -> work -> items" in fault for fault in write(tmp_path, files))
