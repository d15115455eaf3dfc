"""LaTeX and plain formulas -> trees of lists, read without running anything.

["num", "2.5"]  ["sym", "x"]  ["const", "pi"]  ["add", a, b]  ["mul", a, b]  ["div", a, b]  ["pow", a, b]  ["neg", a]
["fn", "sin", a]  ["fact", a]  ["list", "(", ")", [a, b]]  (brackets "" "" : only commas between)  ["eq", a, b]
"""

from __future__ import annotations

import re
from typing import Any

Tree = list[Any]

LONGEST = 400  # characters of an answer that is read as a formula
DEEPEST = 40  # brackets within brackets
FUNCTIONS = ("arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln",
             "exp", "sqrt", "abs")  # fmt: skip
GREEK = (
    "alpha",
    "beta",
    "gamma",
    "delta",
    "theta",
    "lambda",
    "mu",
    "phi",
    "omega",
    "sigma",
    "rho",
    "epsilon",
)
CONSTANTS = {"pi": "pi", "infty": "oo", "infinity": "oo", "e": "e", "i": "i"}
SPACES = re.compile(r"\\(?:left|right|,|;|!|:| |quad|qquad|displaystyle|big|Big|limits)(?![A-Za-z])|[\s~$]")
WORDS = re.compile(r"\\(?:text|textrm|textbf|textit|mathrm|mbox|operatorname)\s*\{([^{}]*)\}")
UNIT = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\circ|°|\\?%|\\\$")
MIXED = re.compile(  # 3\frac{1}{2} and 3 1/2 are three and a half
    r"(?<![\w.^}])([0-9]+)(?: *(?=\\frac)| +)(\\frac *(?:(?:\{ *[0-9]+ *\} *){2}|[0-9]{2})|[0-9]+ */ *[0-9]+)"
)
APART = re.compile(
    r"(\\[A-Za-z]+)[\s~]+(?=[A-Za-z])"
)  # without the space, the command would have another name
NAMED = re.compile(r"^(?:[A-Za-z](?:_\w)?|[a-z]\([a-z]\))=(?!=)")
TOKEN = re.compile(
    r"(?P<num>[0-9]+(?:,[0-9]{3})+(?:\.[0-9]+)?(?![0-9])|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
    r"|\\(?P<cmd>[A-Za-z]+|[{}|])"
    rf"|(?P<name>{'|'.join(FUNCTIONS)}|pi|infinity)"
    r"|(?P<letter>[A-Za-z])|(?P<op>\*\*|[-+*/^!()\[\]{}|,=_])"
)
SAME = {"**": "^", "\\cdot": "*", "\\times": "*", "\\div": "/", "\\{": "{set", "\\}": "}set", "\\lbrace": "{set",
        "\\rbrace": "}set", "\\|": "|", "\\vert": "|", "\\lvert": "|", "\\rvert": "|"}  # fmt: skip


class Unread(ValueError):
    """This is no formula that can be read."""


def normalise(text: str) -> str:
    """LaTeX without what changes nothing: spaces, sizes of brackets, units, the name before an =, a full stop at the end."""
    text = text.strip().rstrip(".").replace("−", "-").replace("{,}", ",")
    text = (
        text.replace("\\dfrac", "\\frac")
        .replace("\\tfrac", "\\frac")
        .replace("π", "\\pi")
        .replace("∞", "\\infty")
    )
    text = UNIT.sub("", WORDS.sub(_word, text))
    text = MIXED.sub(r"(\1+\2)", text)
    text = SPACES.sub("", APART.sub("\\1\0", text)).replace("\0", " ")
    return NAMED.sub("", text)


def _word(found: re.Match[str]) -> str:
    """Words within a formula: a unit says nothing, "or" stands between two answers; alone they are the answer."""
    if found[1].strip() in ("or", "and"):
        return ","
    alone = found.start() == 0 and found.end() == len(found.string)
    return found[1] if alone or len(found[1].strip()) == 1 else ""


def read_formula(text: str) -> Tree:
    """The tree of a normalised formula.  Raises Unread."""
    if not text or len(text) > LONGEST:
        raise Unread
    return _Reader(_tokens(text)).whole()


def _tokens(text: str) -> list[tuple[str, str]]:
    found, place = [], 0
    while place < len(text):
        if text[place] == " ":
            place += 1
            continue
        match = TOKEN.match(text, place)
        if match is None:
            raise Unread
        kind = match.lastgroup or ""
        value = match[kind]
        value = SAME.get(f"\\{value}" if kind == "cmd" else value, value)
        if value in SAME.values():
            kind = "op"
        found.append((kind, value))
        place = match.end()
    return found


class _Reader:
    """Recursive descent; what stands side by side is multiplied."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens, self._place, self._depth = tokens, 0, 0

    def whole(self) -> Tree:
        found = self._items("")
        tree = found[0] if len(found) == 1 else ["list", "", "", found]
        if self._place < len(self._tokens):
            raise Unread
        return tree

    def _peek(self, ahead: int = 0) -> str:
        place = self._place + ahead
        return self._tokens[place][1] if place < len(self._tokens) else ""

    def _kind(self) -> str:
        return self._tokens[self._place][0] if self._place < len(self._tokens) else ""

    def _next(self) -> tuple[str, str]:
        if self._place >= len(self._tokens):
            raise Unread
        self._place += 1
        return self._tokens[self._place - 1]

    def _expect(self, *values: str) -> str:
        value = self._next()[1]
        if value not in values:
            raise Unread
        return value

    def _items(self, end: str) -> list[Tree]:
        """Formulas with commas between, up to `end`, which is left."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise Unread
        found = [self._equation()]
        while self._peek() == "," and self._kind() == "op":
            self._next()
            found.append(self._equation())
        self._depth -= 1
        return found

    def _equation(self) -> Tree:
        left = self._sum()
        if self._peek() != "=":
            return left
        self._next()
        return ["eq", left, self._sum()]

    def _sum(self) -> Tree:
        found = self._product()
        while self._kind() == "op" and self._peek() in ("+", "-"):
            found = ["add" if self._next()[1] == "+" else "sub", found, self._product()]
        return found

    def _product(self) -> Tree:
        found = self._signed()
        while True:
            value = self._peek()
            if self._kind() == "op" and value in ("*", "/"):
                found = ["mul" if self._next()[1] == "*" else "div", found, self._signed()]
            elif self._starts():
                found = ["mul", found, self._power()]
            else:
                return found

    def _starts(self) -> bool:
        return self._kind() in ("num", "cmd", "name", "letter") or self._peek() in ("(", "{")

    def _signed(self) -> Tree:
        negative = False
        while self._kind() == "op" and self._peek() in ("+", "-"):
            negative ^= self._next()[1] == "-"
        found = self._power()
        return ["neg", found] if negative else found

    def _power(self) -> Tree:
        found = self._atom()
        while self._peek() == "!":
            self._next()
            found = ["fact", found]
        if self._peek() == "^":
            self._next()
            found = ["pow", found, self._exponent()]
        return found

    def _exponent(self) -> Tree:
        if self._peek() in ("+", "-"):
            sign = self._next()[1]
            inner = self._exponent()
            return ["neg", inner] if sign == "-" else inner
        return self._power()

    def _atom(self) -> Tree:
        kind, value = self._next()
        if kind == "num":
            return ["num", value.replace(",", "")]
        if kind == "letter":
            return self._symbol(value)
        if kind == "name":
            return ["const", CONSTANTS[value]] if value in CONSTANTS else self._function(value)
        if kind == "cmd":
            return self._command(value)
        if value == "|":
            inner = self._sum()
            self._expect("|")
            return ["fn", "abs", inner]
        if value in ("(", "[", "{", "{set"):
            return self._bracket(value)
        raise Unread

    def _symbol(self, name: str) -> Tree:
        if self._peek() == "_":
            self._next()
            index = self._bracket("{") if self._peek() == "{" and self._next() else self._atom()
            return ["sym", f"{name}_{index[-1]}"]
        return ["const", name] if name in CONSTANTS else ["sym", name]

    def _bracket(self, opening: str) -> Tree:
        found = self._items("")
        closings = {"(": (")", "]"), "[": ("]", ")"), "{": ("}",), "{set": ("}set",)}[opening]
        closing = self._expect(*closings)
        if len(found) == 1 and opening in ("(", "{") and closing in (")", "}"):
            return found[0]
        return ["list", opening, closing, found]

    def _command(self, name: str) -> Tree:
        if name == "frac":
            return ["div", self._argument(), self._argument()]
        if name == "sqrt" and self._peek() == "[":
            self._next()
            index = self._sum()
            self._expect("]")
            return ["pow", self._argument(), ["div", ["num", "1"], index]]
        if name in FUNCTIONS:
            return self._function(name)
        if name in CONSTANTS:
            return ["const", CONSTANTS[name]]
        if name in GREEK:
            return self._symbol(name)
        raise Unread

    def _argument(self) -> Tree:
        """{...}, or the next digit or sign alone, as in \\frac12."""
        if self._kind() == "num" and len(self._peek()) > 1:
            kind, digits = self._tokens[self._place]
            self._tokens[self._place] = (kind, digits[1:])
            return ["num", digits[0]]
        return self._atom()

    def _function(self, name: str) -> Tree:
        power = base = None
        while self._peek() in ("^", "_"):
            if self._next()[1] == "^":
                power = self._exponent_of_function()
            else:
                base = self._argument()
        argument = (
            self._argument() if self._peek() in ("(", "{") or name == "sqrt" else self._product_of_function()
        )
        found = (
            ["fn", name, argument] if base is None else ["div", ["fn", "ln", argument], ["fn", "ln", base]]
        )
        return found if power is None else ["pow", found, power]

    def _exponent_of_function(self) -> Tree:
        """sin^2 x is a power; sin^{-1} x is an inverse to some and a power to others: not read."""
        power = self._argument()
        if power[0] != "num":
            raise Unread
        return power

    def _product_of_function(self) -> Tree:
        """What a function without brackets takes: sin 2x is sin(2x)."""
        found = self._power()
        while self._kind() in ("num", "letter") or (
            self._kind() == "cmd" and self._peek() in (*CONSTANTS, *GREEK)
        ):
            found = ["mul", found, self._power()]
        return found
