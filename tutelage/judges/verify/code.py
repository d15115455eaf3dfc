"""Python code that passes its tests: run in processes of its own, away from the tests and from training (`apart/`)."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from tutelage.judges.verify.helpers import Helpers
from tutelage.judges.verify.verifier import UNREADABLE, Verifier, verdict
from tutelage.records import Score
from tutelage.settings.rules import CodeOptions

# A block of Python; one that was cut off ends with the text.
BLOCK = re.compile(r"```(?:python3?|py)[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL | re.IGNORECASE)
LONGEST = 200_000  # characters of code: nobody's answer is longer


class Tests(NamedTuple):
    """Tests as pieces of source that run in turn: (whether it is a test, source).  `entry_point`: what they call, or ""."""

    units: tuple[tuple[bool, str], ...]
    entry_point: str


def code(name: str, options: CodeOptions) -> Verifier[Tests]:
    """The tests of `reference.tests` pass: all of them, or the share that does."""
    helpers = Helpers("code", options.workers)

    def check(pairs: Sequence[tuple[str, Tests]]) -> list[Score]:
        asked = [(code_in(text), tests) for text, tests in pairs]
        different = list(dict.fromkeys(one for one in asked if one[0]))
        jobs = [(_job(source, tests, options), tests.units) for source, tests in different]
        passed = dict(zip(different, helpers.run(jobs), strict=True))
        return [_scored(passed[one], one[1]) if one[0] else UNREADABLE for one in asked]

    def _scored(result: bytes, tests: Tests) -> Score:
        share = result.count(b"1") / sum(is_test for is_test, _ in tests.units)
        return verdict(share if options.score == "share" else share == 1, passed=share)

    return Verifier(name, read_tests, check)


def _job(source: str, tests: Tests, options: CodeOptions) -> dict[str, Any]:
    return {
        "code": source,
        "entry_point": tests.entry_point,
        "seconds": options.seconds,
        "memory_mib": options.memory_mib,
    }


def code_in(text: str) -> str:
    """The code of a response: its last ```python block, or the whole where there is none; "" where that is no Python."""
    blocks = BLOCK.findall(text)
    source: str = blocks[-1] if blocks else text
    return source if 0 < len(source) <= LONGEST and _compiles(source) else ""


@lru_cache(4096)
def _compiles(source: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an escape that Python does not know is the answer's affair
            return bool(ast.parse(source).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def read_tests(reference: Mapping[str, Any]) -> Tests | None:
    """The tests of a reference: a list of pieces of source (each a test), or a script; None where it has none.

    Raises ValueError for tests that are no Python: no answer could pass them.
    """
    given, entry_point = reference.get("tests"), reference.get("entry_point") or ""
    pieces = [given] if isinstance(given, str) else given
    if not isinstance(pieces, list | tuple) or not any(
        isinstance(one, str) and one.strip() for one in pieces
    ):
        return None
    if not all(isinstance(one, str) for one in pieces) or not isinstance(entry_point, str):
        raise ValueError(
            "reference.tests must be a script or a list of asserts, and reference.entry_point a name."
        )
    return _tests(json.dumps(pieces), isinstance(given, str), entry_point)


@lru_cache(4096)
def _tests(pieces: str, script: bool, entry_point: str) -> Tests:
    found: list[tuple[bool, str]] = []
    for piece in filter(str.strip, json.loads(pieces)):
        try:
            tree = ast.parse(piece)
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"reference.tests is no Python ({error}): {piece[:60]!r}.") from None
        found += _units(tree, entry_point) if script else [(True, piece)]
    if not any(is_test for is_test, _ in found):  # a script that raises where something is wrong
        found = [(True, piece) for piece in json.loads(pieces)]
    return Tests(tuple(found), entry_point)


def _units(tree: ast.Module, entry_point: str) -> list[tuple[bool, str]]:
    """A script's statements: its asserts are tests, so are its functions test_... and `check(candidate)`, which is called."""
    found = []
    calls_check = any(
        isinstance(node, ast.Call) and getattr(node.func, "id", "") == "check" for node in ast.walk(tree)
    )
    for node in tree.body:
        found.append((isinstance(node, ast.Assert), ast.unparse(node)))
        if isinstance(node, ast.FunctionDef):
            if node.name.startswith("test_") and not node.args.args:
                found.append((True, f"{node.name}()"))
            elif node.name == "check" and entry_point and not calls_check:
                found.append((True, "check(candidate)"))
    return found
