"""The token table: what is read is what was added, whatever the place; killed half-way it goes on, or leaves nothing harmful."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.data.batch import Tokens
from tutelage.data.table import Examples, Table, Writer

sequence = st.lists(st.tuples(st.integers(0, 299), st.booleans()), max_size=20).map(
    lambda pairs: Tokens(
        np.array([i for i, _ in pairs], dtype=np.int32), np.array([m for _, m in pairs], dtype=bool)
    )
)
pairs = st.lists(st.tuples(sequence, sequence), max_size=30)


def same(one: Tokens, other: Tokens) -> bool:
    return (
        one.ids.tolist() == other.ids.tolist()
        and one.loss_mask.tolist() == other.loss_mask.tolist()
        and (one.ids.dtype, one.loss_mask.dtype) == (np.int32, np.bool_)
    )


def write(writer: Writer, units: list[tuple[Tokens, ...]], start: int = 0, flush_every: int = 0) -> None:
    for i, unit in enumerate(units, start):
        writer.add(3 * i, unit, {"weight": i / 3}, {"text": f"row {i} é\ud800"} if i % 2 else None)
        if flush_every and i % flush_every == 0:
            writer.flush()


def check(table: Table, units: list[tuple[Tokens, ...]]) -> None:
    assert len(table) == len(units) and table.rows.tolist() == [3 * i for i in range(len(units))]
    assert table.numbers("weight").tolist() == [i / 3 for i in range(len(units))]
    for i, unit in enumerate(units):
        assert all(same(one, other) for one, other in zip(table.unit(i), unit, strict=True))
        if i % 2:
            assert table.record(i) == {"text": f"row {i} é\ud800"}
    flat = [tokens for unit in units for tokens in unit]
    assert table.lengths.tolist() == [len(tokens) for tokens in flat]
    assert table.trained.tolist() == [int(tokens.loss_mask.sum()) for tokens in flat]


@pytest.mark.slow
@given(pairs, st.integers(0, 5))
def test_what_is_read_is_what_was_added(
    tmp_path_factory: pytest.TempPathFactory, units: list, every: int
) -> None:
    folder = tmp_path_factory.mktemp("table")
    writer = Writer(folder / "new", 300, 2, ["weight"])
    write(writer, units, flush_every=every)
    assert writer.units == len(units)
    table = writer.finish(folder / "table", {"kept": len(units)})
    check(table, units)
    assert table.report == {"kept": len(units)} and not (folder / "new").exists()
    check(Table(folder / "table"), units)


@pytest.mark.slow
@given(pairs, st.integers(0, 30), st.integers(0, 30))
def test_goes_on_from_the_last_mark(
    tmp_path_factory: pytest.TempPathFactory, units: list, marked: int, more: int
) -> None:
    """A writer that ends without notice after `more` further units, flushed or not, leaves what was marked."""
    folder = tmp_path_factory.mktemp("table")
    marked = min(marked, len(units))
    first = Writer(folder / "new", 300, 2, ["weight"])
    assert first.state is None
    write(first, units[:marked])
    first.mark({"rows": marked})
    write(first, units[marked : marked + more], marked, flush_every=2)
    del first  # nothing closed, nothing finished
    again = Writer(folder / "new", 300, 2, ["weight"])
    assert again.state == {"rows": marked} and again.units == marked
    write(again, units[marked:], marked)
    check(again.finish(folder / "table", {}), units)


def test_large_vocabularies(tmp_path: Path) -> None:
    ids = np.array([0, 65_535, 65_536, 200_000], dtype=np.int32)
    for vocabulary, bytes_each in ((200_001, 4), (65_536, 2)):
        kept = ids[ids < vocabulary]
        writer = Writer(tmp_path / "new", vocabulary)
        writer.add(0, [Tokens(kept, np.ones(len(kept), bool))])
        table = writer.finish(tmp_path / str(vocabulary), {})
        assert table.unit(0)[0].ids.tolist() == kept.tolist()
        assert (tmp_path / str(vocabulary) / "ids").stat().st_size == bytes_each * len(kept)


def test_readable_after_it_was_removed(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "new", 300)
    tokens = Tokens(np.arange(9, dtype=np.int32), np.arange(9) > 3)
    writer.add(0, [tokens])
    table = writer.finish(tmp_path / "table", {})
    for file in (tmp_path / "table").iterdir():
        file.unlink()
    assert same(table.unit(0)[0], tokens)


def test_examples_are_a_sequence(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "new", 300)
    for i in range(5):
        writer.add(i, [Tokens(np.full(i, i, dtype=np.int32), np.zeros(i, bool))])
    examples = Examples(writer.finish(tmp_path / "table", {}), lambda table, i: len(table.unit(i)[0]))
    assert list(examples) == [0, 1, 2, 3, 4] and len(examples) == 5
    assert (examples[-1], examples[np.int64(2)], examples[1:4]) == (4, 2, [1, 2, 3])
    with pytest.raises(IndexError):
        examples[5]
