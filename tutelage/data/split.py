"""Train / held-out split by prompt: all rows of one prompt stand on the same side, in every file and every stage."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain, repeat
from typing import Generic, TypeVar

import numpy as np
from rich.console import Console

from tutelage.data.preflight.progress import watched
from tutelage.data.reading.formats import Dropped, Record, Walkable, digest_of, unused_of, walk
from tutelage.records import Conversation, Document, Message, Prompt

R = TypeVar("R", bound=Record)


def split_by_prompt(
    rows: Iterable[R], heldout_share: float, seed: int = 0, console: Console | None = None
) -> tuple[Iterable[R], Iterable[R]]:
    """(train, held out), each in the order of `rows`, which are walked once to find the sides and once for each.

    The side depends only on (seed, opening), where the opening is the prompt's text without regard to white space and
    case, and for a conversation its turns up to the first of the user's: dialogues that start alike stay together, and
    rows added later move nobody.  The share is met on average.  With a share above 0 and two openings or more, neither
    side is empty.  Dropped rows stand on the training side, and of a row that is given several times (`Place.copy`) only the
    first counts on the other.  Raises ValueError if the share is not in [0, 1).
    """
    if not 0.0 <= heldout_share < 1.0:
        raise ValueError(f"heldout_share is {heldout_share}, but it must be at least 0 and below 1")
    if heldout_share == 0.0:
        return rows, []
    places = _Places(rows, heldout_share, seed, console)
    return Side(places, held_out=False), Side(places, held_out=True)


HALVES = -1  # the seed by which prompts fall into halves: none that a held-out share can have


def half_of(rows: Iterable[R], second: bool, console: Console | None = None) -> Iterable[R]:
    """The rows of one half of the prompts, in the order of `rows`, by the same hash as `split_by_prompt` but independent of it:
    two models that are trained on a half each know no prompt of the other's, in whatever files these stand."""
    return Side(_Places(rows, 0.5, HALVES, console), held_out=second, copies=True)


class _Places(Generic[R]):
    """Where each row stands, worked out when it is first asked for."""

    def __init__(self, rows: Iterable[R], share: float, seed: int, console: Console | None) -> None:
        self.rows, self.share, self.seed, self._console = rows, share, seed, console

    @cached_property
    def held_out(self) -> np.ndarray:
        """bool [rows]"""
        seen = watched(walk(self.rows), "reading", self._console)
        places = np.fromiter((self._place(row) for row in seen), dtype=np.float64)
        return held_out(places, self.share)

    def _place(self, row: R | Dropped) -> float:
        return math.nan if isinstance(row, Dropped) else place_of(row, self.seed)


class Side(Walkable[R]):
    """The rows on one side of a split, in order; read anew at every walk."""

    def __init__(self, places: _Places[R], held_out: bool, copies: bool = False) -> None:
        """copies: whether a row that is given several times counts as often when it is held out."""
        self._places, self._held_out, self._copies = places, held_out, copies

    def __len__(self) -> int:
        return int((self._places.held_out == self._held_out).sum())

    def walk(self) -> Iterator[R | Dropped]:
        # Rows added meanwhile stand nowhere; `Records` complains of the change when its walk ends.
        rows = walk(self._places.rows)
        for row, held_out in zip(rows, chain(self._places.held_out, repeat(None)), strict=False):
            once = held_out and not self._copies
            if held_out == self._held_out and not (once and row.place and row.place.copy):
                yield row

    @property
    def unused(self) -> dict[str, int]:
        """The columns that were not used, in all rows (see `Records`)."""
        return {} if self._held_out else unused_of(self._places.rows)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of all that decides which rows these are."""
        split = [digest_of(self._places.rows), self._places.share, self._places.seed, self._held_out]
        return hashlib.sha256(json.dumps(split).encode()).hexdigest()


def held_out(places: np.ndarray, share: float) -> np.ndarray:
    """bool [rows]: which rows are held out, by the place of each (`place_of`; NaN for a row that was dropped)."""
    known = places[~np.isnan(places)]
    limit = share
    if len(known) and known.min() < known.max():  # few rows: hold out at least one opening, and not all
        limit = min(max(limit, _just_above(known.min())), known.max())
    return np.asarray(places < limit)


def opening(row: Record) -> str:
    """What decides on which side of a split a row stands."""
    content: str | tuple[Message, ...]
    if isinstance(row, Document):
        content = row.text
    elif isinstance(row, Conversation):
        content = row.messages
    else:
        content = row.content if isinstance(row, Prompt) else row.prompt.content
    if isinstance(content, str):
        return _plain(content)
    turns = []
    for message in content:
        turns.append([message.role, _plain(message.content)])
        if message.role == "user":
            break
    return json.dumps(turns, ensure_ascii=False)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def place_of(row: Record, seed: int) -> float:
    """A number in [0, 1) for the opening of a row under this seed."""
    digest = hashlib.sha256(f"split:{seed}:{opening(row)}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _just_above(place: float) -> float:
    return place + 2.0**-48
