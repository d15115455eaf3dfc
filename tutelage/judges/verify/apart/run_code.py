"""Python code and its tests, in two processes that share nothing: what the code does cannot touch the tests.

The tests' process writes "r" when it has read the tests, then for each test in turn "1" (passed) or "0".
"""

from __future__ import annotations

import builtins
import json
import os
import random
import socket
import sys
from functools import lru_cache
from importlib import import_module
from typing import Any, TextIO

from tutelage.judges.verify.apart import guard
from tutelage.judges.verify.apart.frames import read_frame
from tutelage.judges.verify.apart.serve import fork, only
from tutelage.judges.verify.apart.values import Link

# What most code needs is imported before the first fork.
for _name in ("bisect", "cmath", "collections", "copy", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools",
              "heapq", "itertools", "math", "operator", "re", "statistics", "string", "typing"):  # fmt: skip
    import_module(_name)

DEEP = 10_000  # calls of functions within functions that code may make


def start(job: dict[str, Any], results: int) -> list[int]:
    """One process for the code, then one for the tests, which alone reads them: they are no part of the memory of the first."""
    ours, theirs = socket.socketpair()
    needed = [_nothing().fileno(), *guard.prepare()]

    def run_answer() -> None:
        only(ours.fileno(), *needed)
        _answer(job["code"], Link(ours.fileno(), asks=False), job)

    def run_tests() -> None:
        only(0, theirs.fileno(), results, *needed)
        tests = json.loads(read_frame(0) or b"null")
        os.close(0)
        os.write(results, b"r")
        guard.hide()
        _confine(job)
        _test(tests, job["entry_point"], Link(theirs.fileno(), asks=True), results)

    children = [fork(run_answer), fork(run_tests)]
    ours.close()
    theirs.close()
    return children


@lru_cache(1)
def _nothing() -> TextIO:
    """An open file with nothing in it, for whoever reads or prints."""
    return open(os.devnull, "r+")


def _confine(job: dict[str, Any]) -> None:
    os.setsid()
    sys.stdin = sys.stdout = sys.stderr = _nothing()
    sys.setrecursionlimit(DEEP)
    random.seed(0)
    guard.limit(job["seconds"], job["memory_mib"])
    guard.confine()


def _answer(code: str, link: Link, job: dict[str, Any]) -> None:
    """Run the code, tell its names, and do what the tests ask."""
    _confine(job)
    module = type(sys)("answer")
    sys.modules["answer"] = module  # dataclasses and others look up the module of a class
    exec(compile(code, "answer", "exec"), module.__dict__)
    names = {name: value for name, value in module.__dict__.items() if not name.startswith("__")}
    link.offer(names)
    link.answer()


def _test(units: list[list[Any]], entry_point: str, link: Link, results: int) -> None:
    """Run the tests' own code: a unit is (whether it is a test, source)."""
    offered = link.offered()
    kept = {name: value for name, value in offered.items() if name == entry_point or not _taken(name, value)}
    space: dict[str, Any] = {"__name__": "tests", **kept}
    if entry_point:
        space["candidate"] = kept.get(entry_point)
    sound = True
    for is_test, source in units:
        try:
            exec(compile(source, "tests", "exec"), space)
            passed = sound
        except BaseException:
            passed = False
            sound = sound and is_test  # what the other tests need is not there
        if is_test:
            os.write(results, b"1" if passed else b"0")


def _taken(name: str, value: Any) -> bool:
    """Whether a name means something to the tests: the code may not replace `abs`, or `math`, by its own."""
    module = isinstance(value, type(sys))
    return hasattr(builtins, name) or (name in sys.stdlib_module_names and not module)
