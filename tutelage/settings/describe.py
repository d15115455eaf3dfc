"""Settings in words: what `--help`, the documentation and the messages about mistakes say of them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

# Settings that many commands have, in the order in which people think of them: from what, to where, how much, how long.
FIRST = (
    "stages", "model", "models", "reward", "data", "prompts", "eval_data", "eval_prompts", "file", "kind", "project",
    "store", "out", "batch_size", "samples", "learning_rate", "epochs", "max_steps", "max_length", "max_new_tokens",
)  # fmt: skip


class Row(NamedTuple):
    """One setting as a reader sees it. `default` is written as one would write it in YAML; "" when there is none."""

    name: str
    type: str
    default: str
    unit: str
    sentence: str
    everyday: bool = True


def rows(cls: type[BaseModel]) -> list[Row]:
    """Every setting of `cls`: the everyday ones, then the others.

    The everyday ones begin with FIRST; beyond that its own come first, then those of the groups that it inherits,
    nearest first.
    """
    declared = (name for group in cls.__mro__ for name in inspect.get_annotations(group))
    found = [
        Row(
            name,
            type_name(field),
            _default(field),
            str(mark(field, "unit")),
            field.description or "",
            bool(mark(field, "everyday")),
        )
        for name in dict.fromkeys(declared)
        if (field := cls.model_fields.get(name))
    ]
    order = {name: place for place, name in enumerate(FIRST)}
    return sorted(found, key=lambda row: (not row.everyday, order.get(row.name, len(order))))


def parts(cls: type[BaseModel]) -> list[tuple[str, list[Row]]]:
    """`rows` as people read them: ("everyday", rows), ("more", rows); one part without a heading where there is no other."""
    found = rows(cls)
    everyday, more = [row for row in found if row.everyday], [row for row in found if not row.everyday]
    return [("everyday", everyday), ("more", more)] if everyday and more else [("", found)]


def type_name(field: FieldInfo) -> str:
    """A setting's type and range in words, e.g. `number > 0`, `auto | bf16 | fp32`, `path or null`."""
    limits = []
    for item in field.metadata:
        for symbol, name in ((">", "gt"), (">=", "ge"), ("<", "lt"), ("<=", "le")):
            if getattr(item, name, None) is not None:
                limits.append(f"{symbol} {getattr(item, name):g}")
    words, limited = _type_words(field.annotation), " and ".join(limits)
    body, null = (words.removesuffix(" or null"), " or null") if words.endswith(" or null") else (words, "")
    return f"{body} {limited}".strip() + null


def _type_words(annotation: Any) -> str:
    plain_words = {
        int: "integer",
        float: "number",
        bool: "true | false",
        str: "text",
        Path: "path",
        dict: "map",
        NoneType: "null",
        Any: "anything",
    }
    if annotation in plain_words:
        return plain_words[annotation]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_words(args[0])
    if origin is Literal:
        return " | ".join(str(choice) for choice in args)
    if origin in (Union, UnionType):
        return " or ".join(_type_words(arg) for arg in args)
    if origin in (tuple, list):
        parts = [arg for arg in args if arg is not Ellipsis]
        if origin is tuple and len(args) == len(parts):
            return f"[{', '.join(_type_words(part) for part in parts)}]"
        words = _type_words(parts[0])
        return f"list of ({words})" if " or " in words else f"list of {words}"
    if origin is dict:
        return f"map of {_type_words(args[0])} to {_type_words(args[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"map with {', '.join(annotation.model_fields)}"
    return getattr(annotation, "__name__", str(annotation))


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return "" if value is PydanticUndefined else plain(value)


def mark(field: FieldInfo, name: str) -> Any:
    """What `setting` was told beside type and default."""
    assert isinstance(field.json_schema_extra, dict), "settings are declared with `setting`"
    return field.json_schema_extra[name]


def plain(value: Any) -> str:
    """A value on one line, as it would stand in YAML; floats as people write them (0.0001, 1e-06)."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json"))
    if isinstance(value, list | tuple):
        return f"[{', '.join(plain(item) for item in value)}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {plain(item)}" for key, item in value.items()) + "}"
    return str(value) if str(value) else '""'
