"""Tables of votes for people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from tutelage.store.aggregate import in_slots
from tutelage.store.rows import AnnotatorRow, StoredVote


def annotator_rows(votes: Sequence[StoredVote], kinds: Mapping[str, str]) -> list[AnnotatorRow]:
    """One row per annotator with votes, sorted by name; `kinds` maps names to kinds."""
    total: dict[int, int] = defaultdict(int)  # per item: votes for slot 1 minus votes for slot 0
    by_annotator: dict[str, list[StoredVote]] = defaultdict(list)
    for stored in votes:
        total[stored.item_id] += _sign(stored.vote.preference)
        by_annotator[stored.vote.annotator].append(stored)
    rows = []
    for name, own in sorted(by_annotator.items()):
        decided = [stored for stored in own if stored.vote.preference]
        first = [in_slots(stored.vote.preference, stored.vote.first_shown) < 0 for stored in decided]
        others = [(_sign(s.vote.preference), total[s.item_id] - _sign(s.vote.preference)) for s in decided]
        agreed = [mine * rest > 0 for mine, rest in others if rest]
        rows.append(
            AnnotatorRow(name, kinds[name], len(own), len(own) - len(decided), _share(first), _share(agreed))
        )
    return rows


def _sign(preference: int) -> int:
    return (preference > 0) - (preference < 0)


def _share(yes: Sequence[bool]) -> float | None:
    return sum(yes) / len(yes) if yes else None
