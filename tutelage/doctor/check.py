"""One check: what was looked at, how it stands, what was measured, and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

State = Literal["ok", "warn", "fail"]
GIB = 2**30


@dataclass(frozen=True)
class Check:
    """name: of the group and the thing.  said: what was measured, one sentence without its end.  do: what to do; "" where all is
    well.  facts: the numbers, for programs."""

    name: str
    state: State
    said: str
    do: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def ok(name: str, said: str, **facts: Any) -> Check:
    return Check(name, "ok", said, facts=facts)


def warn(name: str, said: str, do: str, **facts: Any) -> Check:
    return Check(name, "warn", said, do, facts)


def fail(name: str, said: str, do: str, **facts: Any) -> Check:
    return Check(name, "fail", said, do, facts)
