"""Two processes that share no object: one has the answer's functions, the other calls them.

Plain values are copied as JSON.  Everything else that the answer makes (its objects, generators, functions) stays where it is,
and the tests hold a `Remote` for it.  What the answer sends is only ever read as plain values, so whatever it does in its own
process, it cannot reach the tests: it can return values, and that is all.
"""

from __future__ import annotations

import builtins
import json
import operator
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import partial
from importlib import import_module
from typing import Any

from tutelage.judges.verify.apart.frames import read_frame, write_frame

Encoded = Any

SEQUENCES: dict[str, Callable[[Any], Any]] = {
    "list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "deque": deque,
}  # fmt: skip
MAPPINGS: dict[str, type] = {
    "dict": dict,
    "OrderedDict": OrderedDict,
    "Counter": Counter,
    "defaultdict": dict,
}
SEQUENCE_OF: dict[Any, str] = {
    list: "list",
    tuple: "tuple",
    set: "set",
    frozenset: "frozenset",
    deque: "deque",
}
MAPPING_OF: dict[Any, str] = {
    dict: "dict",
    OrderedDict: "OrderedDict",
    Counter: "Counter",
    defaultdict: "defaultdict",
}
CHANGEABLE = (list, dict, set, deque, OrderedDict, Counter, defaultdict)
LONG = 2**60  # whole numbers beyond go as hexadecimal: their decimal digits take long to read

# What the tests may ask of an object of the answer's, beside its attributes and calling it.
OPERATIONS: dict[str, Callable[..., Any]] = {
    "len": len, "iter": iter, "next": next, "str": str, "repr": repr, "hash": hash, "bool": bool, "int": int,
    "float": float, "abs": abs, "round": round, "index": operator.index, "reversed": reversed, "neg": operator.neg,
    "pos": operator.pos, "invert": operator.invert, "getitem": operator.getitem, "setitem": operator.setitem,
    "delitem": operator.delitem, "eq": operator.eq, "lt": operator.lt, "le": operator.le, "gt": operator.gt,
    "ge": operator.ge, "add": operator.add, "sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv,
    "floordiv": operator.floordiv, "mod": operator.mod, "pow": operator.pow, "matmul": operator.matmul,
    "and": operator.and_, "or": operator.or_, "xor": operator.xor,
    "enter": lambda thing: type(thing).__enter__(thing), "exit": lambda thing: type(thing).__exit__(thing, None, None, None),
}  # fmt: skip


class Gone(Exception):
    """The answer's process has ended, or says what cannot be read."""


class Link:
    """One end of the line between the two processes.  `ask` waits for the reply, and answers questions meanwhile."""

    def __init__(self, descriptor: int, asks: bool) -> None:
        self._descriptor, self._asks = descriptor, asks
        self._kept: list[Any] = []  # what the other side may name by its number
        self._numbers: dict[int, int] = {}  # id -> number
        self._calls: dict[int, Any] = {}  # a function of the other side, by number

    def ask(self, what: str, *given: Any) -> Any:
        """What comes of a question.  Raises what it raised there, as the nearest built-in exception; Gone: no reply."""
        self._send([what, self.encode(list(given))])
        while True:
            kind, *rest = self._receive()
            if kind == "value":
                self._take_changes(given, rest[1])
                return self.decode(rest[0])
            if kind == "raise":
                raise _exception(rest[0], rest[1])
            if kind != "call" or not isinstance(rest[0], int) or not 0 <= rest[0] < len(self._kept):
                raise Gone
            self._reply(partial(self._called_back, *rest), [])

    def answer(self) -> None:
        """Answer questions until the other side has none."""
        while True:
            what, given = self._receive()
            arguments = self.decode(given)
            self._reply(partial(DO[what], *arguments), given[1], arguments)

    def offer(self, names: dict[str, Any]) -> None:
        """Tell the tests what there is; what cannot be told is left out."""
        told = {}
        for name, value in names.items():
            try:
                told[name] = self.encode(value)
            except Exception:
                continue
        self._send(["names", told])

    def offered(self) -> dict[str, Any]:
        """What the answer has, by name."""
        kind, names = self._receive()
        if kind != "names" or not isinstance(names, dict):
            raise Gone
        return {name: self.decode(value) for name, value in names.items()}

    def _reply(self, work: Callable[[], Any], before: list[Encoded], arguments: Any = ()) -> None:
        try:
            value = self.encode(work())
            # Lists and dictionaries that the call has changed: the caller's own are changed alike.
            pairs = enumerate(zip(before, arguments, strict=False))
            changes = {
                n: now for n, (was, one) in pairs if _may_change(one) and (now := self.encode(one)) != was
            }
            message: list[Any] = ["value", value, changes]
        except BaseException as error:  # whatever happens there is told
            message = ["raise", [kind.__name__ for kind in type(error).__mro__], _text(error)]
        self._send(message)

    def call_back(self, number: int, arguments: tuple[Any, ...]) -> Any:
        """Call a function that the tests have given to the answer."""
        self._send(["call", number, self.encode(list(arguments))])
        kind, *rest = self._receive()
        if kind == "raise":
            raise _exception(rest[0], rest[1])
        if kind != "value":
            raise Gone
        return self.decode(rest[0])

    def _called_back(self, number: int, arguments: Encoded) -> Any:
        return self._kept[number](*self.decode(arguments))

    def _take_changes(self, given: tuple[Any, ...], changes: Any) -> None:
        if not isinstance(changes, dict):
            raise Gone
        for place, now in changes.items():
            target, value = given[int(place)], self.decode(now)
            if isinstance(target, list | tuple) and isinstance(value, list | tuple):
                _change(target, value)

    def encode(self, value: Any) -> Encoded:
        kind = type(value)
        if value is None or kind is bool or kind is str or kind is float:
            return value
        if kind is int:
            return value if -LONG < value < LONG else ["int", hex(value)]
        if kind in SEQUENCE_OF:
            return [SEQUENCE_OF[kind], [self.encode(one) for one in value]]
        if kind in MAPPING_OF:
            return [MAPPING_OF[kind], [[self.encode(key), self.encode(one)] for key, one in value.items()]]
        if kind is bytes or kind is bytearray:
            return [kind.__name__, value.hex()]
        if kind is complex:
            return ["complex", [value.real, value.imag]]
        if kind is range:
            return ["range", [self.encode(one) for one in (value.start, value.stop, value.step)]]
        if kind is Fraction:
            return ["Fraction", [self.encode(value.numerator), self.encode(value.denominator)]]
        if kind is Decimal:
            return ["Decimal", str(value)]
        return self._encode_object(value, kind)

    def _encode_object(self, value: Any, kind: type) -> Encoded:
        if kind is Remote:
            return ["yours", object.__getattribute__(value, "_number")]
        if kind is type(sys):
            return ["module", str(value.__name__)]
        if kind is Callback:
            return ["back", value.number]
        if self._asks and not callable(value):
            raise TypeError(f"a {kind.__name__} of the tests cannot be given to the answer")
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self._kept)
            self._kept.append(value)
        return ["back" if self._asks else "mine", number]

    def decode(self, value: Encoded) -> Any:
        if not isinstance(value, list):
            return value
        kind, inner = value
        if kind in SEQUENCES:
            return SEQUENCES[kind]([self.decode(one) for one in inner])
        if kind in MAPPINGS:
            return MAPPINGS[kind]({self.decode(key): self.decode(one) for key, one in inner})
        if kind in ("bytes", "bytearray"):
            return getattr(builtins, kind).fromhex(inner)
        if kind == "range":
            return range(*(self.decode(one) for one in inner))
        if kind == "Fraction":
            return Fraction(*(self.decode(one) for one in inner))
        if kind == "int":
            return int(inner, 16)
        if kind == "complex":
            return complex(*inner)
        if kind == "Decimal":
            return Decimal(inner)
        return self._decode_object(kind, inner)

    def _decode_object(self, kind: str, inner: Any) -> Any:
        if kind == "mine" and self._asks:
            return Remote(self, int(inner))
        if kind == "module" and self._asks:
            return import_module(inner) if inner.partition(".")[0] in sys.stdlib_module_names else None
        if kind == "back":
            return self._kept[inner] if self._asks else self._calls.setdefault(inner, Callback(self, inner))
        if kind == "yours":
            return self._kept[inner]
        raise Gone

    def _send(self, message: Any) -> None:
        write_frame(self._descriptor, json.dumps(message).encode("utf-8", "surrogatepass"))

    def _receive(self) -> Any:
        try:
            message = read_frame(self._descriptor)
            found = json.loads(message or b"")
        except (OSError, ValueError, RecursionError):
            raise Gone from None
        if not isinstance(found, list) or len(found) < 2:
            raise Gone
        return found


class Callback:
    """In the answer's process: a function of the tests."""

    def __init__(self, link: Link, number: int) -> None:
        self._link, self.number = link, number

    def __call__(self, *arguments: Any) -> Any:
        return self._link.call_back(self.number, arguments)


class Remote:
    """In the tests' process: an object of the answer's.

    It is never equal to a plain value, and arithmetic with one gives no plain value, whatever the object says itself: else
    an answer could return an object that equals everything.
    """

    __slots__ = ("_link", "_number")

    def __init__(self, link: Link, number: int) -> None:
        object.__setattr__(self, "_link", link)
        object.__setattr__(self, "_number", number)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return _ask(self, "call", list(arguments), named)

    def __getattr__(self, name: str) -> Any:
        return _ask(self, "get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        _ask(self, "set", name, value)

    def __round__(self, digits: int | None = None) -> Any:
        return _ask(self, "do", "round") if digits is None else _ask(self, "do", "round", digits)

    def __exit__(self, *error: Any) -> None:
        _ask(self, "do", "exit")

    def __eq__(self, other: object) -> Any:
        return _ask(self, "do", "eq", other) if type(other) is Remote else NotImplemented


def _ask(remote: Remote, what: str, *given: Any) -> Any:
    link: Link = object.__getattribute__(remote, "_link")
    if what == "do":
        return link.ask(what, given[0], remote, *given[1:])
    return link.ask(what, *([given[0], given[1], remote] if what == "call" else [remote, *given]))


def _plain_operation(name: str) -> Callable[..., Any]:
    return lambda self, *given: _ask(self, "do", name, *given)


def _comparison(name: str) -> Callable[..., Any]:
    return lambda self, other: _ask(self, "do", name, other) if type(other) is Remote else NotImplemented


def _arithmetic(name: str, swapped: bool) -> Callable[..., Any]:
    def operation(self: Remote, other: Any) -> Any:
        link: Link = object.__getattribute__(self, "_link")
        found = link.ask("do", name, *((other, self) if swapped else (self, other)))
        if type(other) is not Remote and type(found) is not Remote:
            raise TypeError(f"{name} of an object of the answer and a plain value gave a plain value")
        return found

    return operation


for _name in ("len", "iter", "next", "str", "repr", "hash", "bool", "int", "float", "abs", "index", "reversed", "neg",
              "pos", "invert", "getitem", "setitem", "delitem", "enter"):  # fmt: skip
    setattr(Remote, f"__{_name}__", _plain_operation(_name))
for _name in ("lt", "le", "gt", "ge"):
    setattr(Remote, f"__{_name}__", _comparison(_name))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    setattr(Remote, f"__{_name}__", _arithmetic(_name, False))
    setattr(Remote, f"__r{_name}__", _arithmetic(_name, True))


def _call(arguments: list[Any], named: dict[str, Any], function: Any) -> Any:
    return function(*arguments, **named)


DO: dict[str, Callable[..., Any]] = {
    "call": _call,
    "get": lambda thing, name: getattr(thing, name),
    "set": lambda thing, name, value: setattr(thing, name, value),
    "do": lambda name, *given: OPERATIONS[name](*given),
}


def _may_change(value: Any) -> bool:
    return type(value) in CHANGEABLE


def _change(target: Any, value: Any) -> None:
    """Bring what a list holds, at any depth, to another value: in place, as far as its parts keep their places."""
    for place, (old, new) in enumerate(zip(target, value, strict=False)):
        if type(old) not in CHANGEABLE or type(old) is not type(new):
            if isinstance(target, list):
                target[place] = new
        elif isinstance(old, list):
            _change(old, new)
            del old[len(new) :]
            old.extend(new[len(old) :])
        elif isinstance(old, deque):
            old.clear()
            old.extend(new)
        elif old != new:
            old.clear()
            old.update(new)


def _text(error: BaseException) -> str:
    try:
        return str(error)[:1000]
    except BaseException:
        return ""


def _exception(names: Any, text: Any) -> Exception:
    """An exception of another process: the nearest of the built-in ones, of which its own class may be one."""
    for name in names if isinstance(names, list) else []:
        kind = getattr(builtins, name, None) if isinstance(name, str) else None
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                return kind(text)
            except TypeError:  # UnicodeDecodeError and its like want more than words
                continue
    return RuntimeError(text)
