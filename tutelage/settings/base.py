"""The machinery of settings: declare them, load them from YAML and `key=value`, describe them, write them down.

A command's settings are one frozen class:

    class SFTSettings(Settings):
        learning_rate: float = setting(1e-5, "Step size of AdamW.", gt=0)
        max_tokens: int = setting(1024, "Longest sequence that is kept whole.", unit="tokens", ge=8)

`load` reads them, `to_yaml` writes them, and `describe.rows` says what they are (for `--help` and the documentation).
Every mistake is a ValueError of one sentence that says what is wrong, where, and what to do.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.config import JsonDict
from pydantic_core import PydanticUndefined, to_json

from tutelage.settings.describe import mark, plain, type_name
from tutelage.settings.yaml12 import Parsed, dump_yaml, parse_yaml, read_mapping


class Settings(BaseModel):
    """Base of every command's settings: frozen, complete, and closed to keys that it does not know."""

    bare: ClassVar[str] = ""
    """The setting that arguments without a name give ("": there is none)."""

    from_checkpoints: ClassVar[bool] = True
    """Whether a run that is done needs a checkpoint to go on (`wants_more`)."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, protected_namespaces=()
    )

    def refuses(self, name: str, before: Mapping[str, Any], made: Made) -> str | None:
        """Whether a run that was begun with the values `before` is no run of these settings because of setting `name`.

        None: the setting may change.  Text: it may not, and why ("" when that needs no words).
        """
        return "" if mark(type(self).model_fields[name], "changes_result") else None

    def set_of(self, *names: str) -> str:
        """The first of these settings that is not as it is by default; "" where all are."""
        fields = type(self).model_fields
        usual = {name: fields[name].get_default(call_default_factory=True) for name in names}
        return next((name for name in names if getattr(self, name) != usual[name]), "")

    @classmethod
    def completed(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """What was given, and what that sets beside itself where nothing else is said (a preset)."""
        return values

    def wants_more(self, before: Mapping[str, Any], made: Made) -> bool:
        """Whether a run that ended with the values `before` has something left to do with these settings."""
        return False


S = TypeVar("S", bound=Settings)


class Made(NamedTuple):
    """How far a run is: its steps that a resume starts from, and the rows that it trains on (0: not known)."""

    steps: int = 0
    rows: int = 0


def setting(
    default: Any,
    help: str,
    unit: str = "",
    *,
    everyday: bool = True,
    changes_result: bool = True,
    **constraints: Any,
) -> Any:
    """Declare one setting: its default (`...` when it must be given), one sentence, its unit, and pydantic constraints
    (`gt`, `ge`, `lt`, `le`, `min_length`, ...).

    everyday: most people set it at some time; the others come last in `--help`.  changes_result: False for what only
    memory, speed or safety depend on: it may change when a run goes on, and makes nothing stale.
    """
    marks: JsonDict = {"unit": unit, "everyday": everyday, "changes_result": changes_result}
    return Field(default, description=help, json_schema_extra=marks, **constraints)


def load(cls: type[S], args: Sequence[str] = ()) -> S:
    """Settings from defaults, then YAML files in the order given, then `key=value` (values are YAML; `a.b=1` reaches inside).

    Where the class has a setting for bare arguments, one that is neither a settings file nor `key=value` is its value, and
    several are a list.  Raises ValueError, in one sentence, for a missing or malformed file (with its line), an argument
    that is none of these, a key given twice, an unknown key (with the nearest known one) and a value that does not fit.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    paths, assignments, bare = _sort(args)
    if bare:
        assignments = {_bare(cls, assignments, bare): bare[0], **assignments}
    for path in paths:
        parsed: Parsed = read_mapping(path)
        values.update(parsed.values)
        sources.update({key: f"{path}, line {line}" for key, line in parsed.lines.items()})
    for key, text in assignments.items():
        first, *rest = key.split(".")
        sources[first] = "command line"
        if rest:
            _assign(values, cls, key, parse_yaml(text, f"the value of {key}"))
        else:
            values[key] = list(bare) if key == cls.bare and len(bare) > 1 else _read_value(cls, key, text)
    return build(cls, values, sources)


def build(cls: type[S], values: Mapping[str, Any], sources: Mapping[str, str] | None = None) -> S:
    """Settings from plain JSON-like `values`; `sources` says, per key, where a value was written, for the error's sake.

    Types are checked strictly: "5", 5.0 and true are not whole numbers, a whole number is a number. Raises ValueError.
    """
    sources = sources or {}
    known = cls.model_fields
    for key in values:
        if key not in known:
            raise ValueError(f"unknown setting {key!r}{_where(sources, key)}: {_hint(str(key), known)}")
    defaults = {
        key: field.get_default(call_default_factory=True)
        for key, field in known.items()
        if not field.is_required()
    }
    try:
        # Strict JSON mode is the one that takes a list for a tuple and text for a path, but not true for 1.
        return cls.model_validate_json(
            to_json({**defaults, **cls.completed(values)}, inf_nan_mode="constants"), strict=True
        )
    except ValidationError as error:
        raise ValueError(_sentence(cls, error, sources)) from None


def to_yaml(settings: Settings) -> str:
    """Every setting with the value in force, as YAML that `load` reads back to an equal object."""
    return dump_yaml(settings.model_dump(mode="json"))


def _sort(args: Iterable[str]) -> tuple[list[str], dict[str, str], list[str]]:
    """Split arguments into YAML paths, `key=value` pairs, and the others."""
    paths: list[str] = []
    bare: list[str] = []
    assignments: dict[str, str] = {}
    for arg in args:
        key, equals, text = arg.partition("=")
        if equals and re.fullmatch(r"\w+(\.[\w-]+)*", key):
            if key in assignments:
                raise ValueError(
                    f"setting {key!r} is given twice on the command line: keep one of {key}={assignments[key]} and {arg}"
                )
            assignments[key] = text
        elif arg.startswith("-"):
            option = re.sub("-", "_", key.lstrip("-")) or "key"
            raise ValueError(
                f"unknown option {arg!r}: settings are written without dashes, as {option}={text or 'VALUE'}"
            )
        elif arg.endswith((".yaml", ".yml")):
            paths.append(arg)
        else:
            bare.append(arg)
    return paths, assignments, bare


def _bare(cls: type[Settings], assignments: Mapping[str, str], bare: Sequence[str]) -> str:
    """The setting that bare arguments give.  Raises ValueError where there is none, or it is given by name as well."""
    if not cls.bare:
        raise ValueError(
            f"cannot read the argument {bare[0]!r}: give a settings file that ends in .yaml, or key=value without spaces"
        )
    if cls.bare in assignments:
        raise ValueError(
            f"setting {cls.bare!r} is given twice on the command line: keep one of {bare[0]} and "
            f"{cls.bare}={assignments[cls.bare]}"
        )
    return cls.bare


def _assign(values: dict[str, Any], cls: type[Settings], key: str, value: Any) -> None:
    """Set `a.b.c` inside nested mappings, on copies, starting from the default where no file has given `a`."""
    first, *middle, last = key.split(".")
    if first not in values and first in cls.model_fields:
        default = cls.model_fields[first].get_default(call_default_factory=True)
        values[first] = default.model_dump(mode="json") if isinstance(default, Settings) else default
    place = values
    for part in (first, *middle):
        inner = place.get(part)
        if inner is not None and not isinstance(inner, Mapping) and inner is not PydanticUndefined:
            raise ValueError(
                f"cannot set {key!r}: {part!r} is {plain(inner)} and has nothing inside; set {part}=... instead"
            )
        place[part] = dict(inner) if isinstance(inner, Mapping) else {}
        place = place[part]
    place[last] = value


def _read_value(cls: type[Settings], key: str, text: str) -> Any:
    """The value that `key=text` means on the command line: YAML, except that text needs no quotes.

    So model=123 and out=1e5 are text, and models=runs/sft,runs/ppo is a list (some shells take brackets for patterns).
    What may be a text or a list is a list in brackets; what may be a text or a mapping is a mapping in braces.
    """
    field = cls.model_fields.get(key)
    annotation = field.annotation if field else str
    kinds = _kinds(annotation)
    quoted, nothing = text.startswith(("'", '"')), text == "null" and NoneType in kinds
    opened = {"[": list, "{": dict}.get(text[:1])
    bracketed = opened is not None and any(get_origin(kind) is opened for kind in kinds)
    if kinds & {str, Path} and not quoted and not nothing and not bracketed:
        return text
    if (
        get_origin(annotation) in (list, tuple)
        and any(kind in (str, Path) or get_origin(kind) is Literal for kind in get_args(annotation))
        and text[:1] not in ("[", "'", '"')
    ):
        return [part.strip() for part in text.split(",")] if text else []
    return parse_yaml(text, f"the value of {key}")


def _kinds(annotation: Any) -> set[Any]:
    """What a value may be: the members of a union, or the one type."""
    return set(get_args(annotation)) if get_origin(annotation) in (Union, UnionType) else {annotation}


def _choices(annotation: Any) -> list[str]:
    """The names among which a value is chosen."""
    literals = [kind for kind in _kinds(annotation) if get_origin(kind) is Literal]
    return [str(name) for literal in literals for name in get_args(literal)]


def _where(sources: Mapping[str, str], key: str) -> str:
    return f" ({sources[key]})" if key in sources else ""


def _hint(key: str, known: Iterable[str]) -> str:
    near = nearest(key, known)
    return f"did you mean {near!r}?" if near else f"known settings are {', '.join(sorted(known))}"


def nearest(key: str, known: Iterable[str]) -> str | None:
    """The known name that `key` most likely meant: by initials (lr), by likeness (kl_coeff), or as a part (rate)."""
    names = list(known)
    plain = key.lower().replace("-", "_")
    for name in names:
        if len(plain) > 1 and plain == "".join(part[0] for part in name.split("_") if part):
            return name
    close = difflib.get_close_matches(plain, names, n=1, cutoff=0.6)
    parts = [name for name in names if plain and (plain in name.split("_") or name in plain.split("_"))]
    return next(iter(close + parts), None)


def _sentence(cls: type[Settings], error: ValidationError, sources: Mapping[str, str]) -> str:
    """The first of pydantic's complaints, in one sentence of ours."""
    problem = error.errors(include_url=False)[0]
    reason = problem.get("ctx", {}).get("error")
    message = str(reason) if isinstance(reason, Exception) else problem["msg"]
    if not problem["loc"]:
        return message
    key = str(problem["loc"][0])
    field = cls.model_fields[key]
    where = _where(sources, key)
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing" and path == key:
        return f"setting {key!r} must be given ({(field.description or type_name(field)).rstrip('.')}): add {key}=..."
    if isinstance(reason, Exception):
        return f"setting {key!r}{where}: {message}"
    value = plain(problem["input"])
    if path == key or len(_kinds(field.annotation)) > 1:  # which of its kinds was meant is not known
        near = nearest(str(value), _choices(field.annotation)) if isinstance(problem["input"], str) else None
        hint = f"; did you mean {near}?" if near else ""
        return f"setting {key!r} is {value}{where}, but it must be: {type_name(field)}{hint}"
    if problem["type"] == "extra_forbidden":
        inside = (
            field.annotation.model_fields
            if isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
            else ()
        )
        return f"unknown setting {path!r}{where}: {_hint(str(problem['loc'][-1]), inside)}"
    return f"setting {key!r} does not fit{where}: {path} is {value}, but {_lower(message)}; the whole must be: {type_name(field)}"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
