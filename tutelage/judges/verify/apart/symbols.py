"""Equality by algebra, with sympy, in a child that ends when its time is up.  It writes "1" or "0" for each pair, in turn."""

from __future__ import annotations

import os
import random
import signal
from typing import Any

import sympy

from tutelage.judges.verify.apart import guard
from tutelage.judges.verify.apart.equal import Tree, same
from tutelage.judges.verify.apart.serve import fork, only

MEMORY_MIB = 2048
BITS = 20_000  # of a power of whole numbers: a larger one is no answer that anybody writes
POINTS, DIGITS, CLOSE = 4, 40, 1e-25  # where two formulas are compared, with how many digits, and how closely

NAMES: dict[Any, str] = {"ln": "log", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "abs": "Abs"}
CONSTANTS = {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "oo": sympy.oo}


def start(job: dict[str, Any], results: int) -> list[int]:
    """One process, which compares the pairs of formulas in job["pairs"], each within job["each"] seconds."""

    def compare() -> None:
        only(results)
        guard.limit(job["seconds"], MEMORY_MIB)
        for a, b in job["pairs"]:
            signal.setitimer(signal.ITIMER_REAL, job["each"])  # ends this process, whatever it computes
            os.write(results, b"1" if _same(a, b) else b"0")

    return [fork(compare)]


def warm_up() -> None:
    """Let sympy load what it loads when first used: every child has it then."""
    for a, b in (("x", "x"), ("1", "x")):
        for name in ("sin", "cos", "tan", "ln", "sqrt"):
            one = ["add", ["fn", name, ["sym", a]], ["num", "2"]]
            _same(
                ["pow", one, ["num", "2"]], ["mul", one, ["add", ["fn", name, ["sym", b]], ["const", "pi"]]]
            )


def _same(a: Tree, b: Tree) -> bool:
    try:
        return same(a, b, equal)
    except (ValueError, TypeError, ArithmeticError, AttributeError, RecursionError, NotImplementedError):
        return False  # too large, or not defined


def equal(a: Tree, b: Tree) -> bool:
    """Whether the difference is 0: it is at a few points, with many digits, and then by simplifying it, or nearly everywhere.

    Raises ValueError where a power or a factorial is too large.
    """
    difference = made(a) - made(b)
    if difference == 0:
        return True
    if difference.has(sympy.oo, sympy.zoo, sympy.nan):
        return False
    draw = random.Random(0)
    symbols = sorted(difference.free_symbols, key=str)
    for _ in range(POINTS if symbols else 1):
        # Signs differ from point to point: sqrt(x^2) is not x.
        point = {one: sympy.Rational(draw.randint(-3000, 3000), 1009) for one in symbols}
        found = difference.subs(point).evalf(DIGITS)
        if not found.is_number or abs(complex(found)) > CLOSE:
            return False
    return True


def made(tree: Tree) -> Any:
    """The sympy expression of a formula."""
    kind, *parts = tree
    if kind == "num":
        return sympy.Rational(parts[0])
    if kind == "sym":
        return sympy.Symbol(parts[0])
    if kind == "const":
        return CONSTANTS[parts[0]]
    if kind == "fn":
        name, argument = parts[0], made(parts[1])
        return sympy.log(argument, 10) if name == "log" else getattr(sympy, NAMES.get(name) or name)(argument)
    a = made(parts[0])
    if kind == "neg":
        return -a
    if kind == "fact":
        if a.is_Integer and a > 1000:
            raise ValueError("a factorial that is too large")
        return sympy.factorial(a)
    b = made(parts[1])
    if kind == "pow":
        return _power(a, b)
    return (
        {"add": sympy.Add(a, b), "sub": sympy.Add(a, -b), "mul": sympy.Mul(a, b)}[kind]
        if kind != "div"
        else a / b
    )


def _power(base: Any, exponent: Any) -> Any:
    if base.is_Rational and exponent.is_Rational:
        bits = max(abs(int(base.p)).bit_length(), int(base.q).bit_length())
        if bits * abs(exponent) > BITS:
            raise ValueError("a power that is too large")
    return sympy.Pow(base, exponent)
