"""YAML as people expect it: 1e-5 is a number, `no` is a word, a key written twice is an error that names its line.

PyYAML follows YAML 1.1, which reads 1e-5 as text, `no` as false, 010 as 8, 12:30 as 750 and 2026-01-01 as a date. The reader
here uses the core schema of YAML 1.2 (null, true/false, decimal integers, floats, text). Source: https://yaml.org/spec/1.2.2/
Of YAML 1.1 it keeps the merge key, `<<: *name`, which people write to say a thing once: https://yaml.org/type/merge.html
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_INT = re.compile(r"[-+]?[0-9][0-9_]*$")
_FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)


class Parsed(NamedTuple):
    """The content of one settings file, and the line on which each key stands."""

    values: dict[str, Any]
    lines: dict[str, int]


class _Reader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012  # PyYAML's way: a class starts with the resolvers of YAML 1.1 unless it has its own


class _Writer(yaml.SafeDumper):
    """Quotes whatever YAML 1.1 or 1.2 would read as something other than text, so that every reader agrees."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _write_text(writer: yaml.SafeDumper, text: str) -> yaml.Node:
    """PyYAML's plain styles lose U+0085 and its kin; double quotes escape them."""
    style = None if text.isprintable() else '"'
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _decimal(reader: yaml.SafeLoader, node: Any) -> int:
    return int(str(reader.construct_scalar(node)).replace("_", ""))


_Reader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_Reader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Reader.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
_Reader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Reader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"<<$"), ["<"])
_Reader.add_constructor("tag:yaml.org,2002:int", _decimal)
_Writer.add_representer(str, _write_text)
_Writer.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def read_mapping(path: str | Path) -> Parsed:
    """Read a YAML file of `key: value`; an empty file gives no keys. Raises ValueError naming the file and the line."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(
            f"there is no settings file {path}: check the path, or leave it out to use the defaults"
        ) from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder: give a settings file inside it") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text: settings files are YAML") from None
    node = _compose(text, str(path))
    if node is None:
        return Parsed({}, {})
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"{path}, line {_line(node)}: expected lines of `key: value`")
    values = _construct(node, str(path))
    return Parsed(values, {str(key.value): _line(key) for key, _ in node.value})


def parse_yaml(text: str, name: str) -> Any:
    """The value that `text` is in YAML, e.g. 1e-5, true, [1, 2], {a: 1}. `name` says what it is, for the error."""
    node = _compose(text, name)
    return None if node is None else _construct(node, name)


def dump_yaml(values: Any) -> str:
    """YAML text, keys in the order given."""
    return yaml.dump(values, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=110)


def _compose(text: str, name: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=_Reader)
    except yaml.YAMLError as error:
        raise ValueError(_explain(error, name)) from None


def _construct(node: yaml.Node, name: str) -> Any:
    _refuse_duplicates(node, name)
    try:
        return _Reader("").construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(_explain(error, name)) from None


def _refuse_duplicates(node: yaml.Node, name: str) -> None:
    """PyYAML keeps the last of two equal keys and says nothing."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_duplicates(item, name)
    if isinstance(node, yaml.MappingNode):
        seen: dict[Any, int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise ValueError(
                    f"{name}, line {_line(key)}: {key.value!r} is already given on line {seen[key.value]}; keep one"
                )
            if isinstance(key, yaml.ScalarNode):
                seen[key.value] = _line(key)
            _refuse_duplicates(value, name)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _explain(error: yaml.YAMLError, name: str) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"{name}, line {mark.line + 1}" if mark is not None else name
    return f"{place}: not valid YAML: {getattr(error, 'problem', None) or str(error).splitlines()[0]}"
