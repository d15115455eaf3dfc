"""Preflight's tables: made once for the same rows and settings, by one process, whatever happens on the way."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.data.kit import CHATML, WithDropped, ask, byte_level, tiny, write_jsonl
from tutelage.cache import PARTIAL
from tutelage.data import order
from tutelage.data.batch import Tokens
from tutelage.data.preflight import responses, texts, work
from tutelage.data.preflight.responses import comparisons_of
from tutelage.data.preflight.work import Prepared
from tutelage.data.reading import formats
from tutelage.data.reading import rows as reading_rows
from tutelage.data.reading.formats import Dropped
from tutelage.data.reading.rows import DOCUMENT_SEPARATOR
from tutelage.data.split import split_by_prompt
from tutelage.data.template import PairTokens
from tutelage.records import Comparison, Demonstration, Document, Prompt

PAIRS = [
    Comparison(ask(f"How many {i}?"), f"Three {i}", "Nine cats" * (i % 3), 0.5 + i / 100, i / 7)
    for i in range(40)
]
PAIRS += [Comparison(Prompt("plain", "maths", {"answer": [3]}), " a", " b", chosen_finish="length")]
ODD = [Dropped(None, "that is odd"), Dropped(None, "that is odd")]
ROWS: dict[Callable[..., Prepared[Any]], list[Any]] = {
    texts.prepare_documents: [Document(f"The cat sat {i}.") for i in range(9)],
    texts.prepare_demonstrations: [Demonstration(pair.prompt, pair.chosen) for pair in PAIRS],
    responses.prepare_comparisons: PAIRS,
    texts.prepare_prompts: [pair.prompt for pair in PAIRS],
}
GIVEN = {"max_length": 40, "too_long": "longer than 40", "max_dropped_share": 0.9}
NEUTRAL = {"tokenizer", "rows", "documents", "prompts", "source", "max_dropped_share", "console"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tables"


def tables(cache: Path) -> set[str]:
    return {folder.name for folder in cache.iterdir() if folder.is_dir()}


def call(prepare: Callable[..., Prepared[Any]], rows: Iterable[Any], **changes: Any) -> Prepared[Any]:
    known = inspect.signature(prepare).parameters
    given = {name: value for name, value in {**GIVEN, **changes}.items() if name in known}
    return prepare(
        changes.get("tokenizer", tiny()), rows, **{k: v for k, v in given.items() if k != "tokenizer"}
    )


def plain(prepared: Prepared[Any]) -> list[Any]:
    def of(example: Any) -> Any:
        if isinstance(example, PairTokens):
            return [of(example.chosen), of(example.rejected), example.p_chosen, example.margin]
        return [example.ids.tolist(), example.loss_mask.tolist()] if isinstance(example, Tokens) else example

    return [of(example) for example in prepared.examples]


@pytest.mark.parametrize("prepare", ROWS)
def test_the_same_rows_are_tokenised_once(
    prepare: Callable[..., Prepared[Any]], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    first = call(prepare, WithDropped(ROWS[prepare], ODD), source="a.jsonl")
    for where, name in (
        (texts, "_encode_mixed"),
        (texts, "_encode_language"),
        (texts, "encode_prompts"),
        (responses, "_encode_pairs"),
    ):
        monkeypatch.setattr(where, name, lambda *args: pytest.fail("tokenised again"))
    again = call(prepare, WithDropped(ROWS[prepare], ODD), source="b.jsonl")
    assert plain(again) == plain(first) and list(again.examples.table.rows) == list(first.examples.table.rows)
    assert (first.report.source, again.report.source) == ("a.jsonl", "b.jsonl")
    again.report.source = "a.jsonl"
    assert again.report == first.report and again.report.rows == len(ROWS[prepare]) + 2
    assert len(tables(cache)) == 1


@pytest.mark.parametrize("prepare", ROWS)
def test_whatever_matters_makes_another_table(
    prepare: Callable[..., Prepared[Any]], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """Every parameter but the neutral ones, which a new parameter joins only by being written there."""
    other: dict[type, Callable[[Any], Any]] = {
        int: lambda n: n - 1,
        bool: lambda b: not b,
        str: lambda s: s + ".",
        tuple: lambda names: (*names, ""),
    }
    call(prepare, ROWS[prepare])
    seen = 1
    for name, parameter in inspect.signature(prepare).parameters.items():
        if name not in NEUTRAL:
            value = GIVEN.get(name, parameter.default)
            call(prepare, ROWS[prepare], **{name: other[type(value)](value)})
            seen += 1
            assert len(tables(cache)) == seen, f"{name} makes no difference"
    template = byte_level(CHATML + "{# another #}")
    for tokenizer in (byte_level(CHATML), template, byte_level(CHATML, bos=True)):
        call(prepare, ROWS[prepare], tokenizer=tokenizer)
    call(prepare, ROWS[prepare][::-1])
    call(prepare, WithDropped(ROWS[prepare], ODD[:1]))
    monkeypatch.setattr(work, "code_digest", lambda: "changed")
    call(prepare, ROWS[prepare])
    assert len(tables(cache)) == seen + 6


def test_files_are_known_by_their_bytes_and_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": pair.prompt.content_json(), "completion": " x"} for pair in PAIRS[-1:]] * 3
    data = write_jsonl(tmp_path / "a.jsonl", rows)
    split = {}

    def both() -> list[list[Any]]:
        sides = split_by_prompt(formats.read_demonstrations(data), 0.3)
        return [plain(call(texts.prepare_demonstrations, side)) for side in sides]

    split["first"] = both()
    real = formats.read_rows
    monkeypatch.setattr(formats, "read_rows", lambda source: pytest.fail("read again"))
    assert both() == split["first"]
    monkeypatch.setattr(formats, "read_rows", real)
    write_jsonl(data, [{**rows[0], "completion": " y"}, *rows[1:]])
    assert both() != split["first"]


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, cache: Path) -> None:
    data = write_jsonl(tmp_path / "a.jsonl", [{"text": f"The cat {i}"} for i in range(5)])

    class Changing(formats.Records[Any]):
        def walk(self) -> Iterator[Any]:
            for i, row in enumerate(super().walk()):
                if i == 2:
                    with data.open("a") as file:
                        file.write('{"text": "more"}\n')
                yield row

    for rows in (
        Changing(data, "pretraining text"),
        split_by_prompt(Changing(data, "pretraining text"), 0.5)[0],
    ):
        with pytest.raises(ValueError, match=r"a\.jsonl was changed while it was read: start again"):
            call(texts.prepare_documents, rows)
    assert not tables(cache)


def test_comparisons_are_kept_where_that_is_asked_for() -> None:
    prepared = call(responses.prepare_comparisons, PAIRS, keep_records=True)
    kept = list(comparisons_of(prepared))
    assert kept == [PAIRS[row] for row in prepared.examples.table.rows] and kept[-1] == PAIRS[-1]
    assert kept[-1].prompt.reference == {"answer": [3]}


def test_a_failure_leaves_nothing(cache: Path) -> None:
    def rows() -> Iterator[Any]:
        yield from ROWS[texts.prepare_documents]
        raise ValueError("line 10 is malformed")

    class Broken:
        digest = "broken"

        def __iter__(self) -> Iterator[Any]:
            return rows()

    with pytest.raises(ValueError, match="line 10"):
        call(texts.prepare_documents, Broken())
    assert not tables(cache)


def peak_mib(work: Callable[[], object]) -> float:
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 2**20


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "txt"])
def test_memory_does_not_grow_with_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Neither reading and tokenising nor a pass over all rows holds more of four times as many."""
    monkeypatch.setattr(reading_rows, "BLOCK", 2**16)
    monkeypatch.setattr(work, "CHUNK", 200)

    def make_and_pass(rows: int) -> None:
        written = [f"row {i} of a file: " + "the cat sat on the mat. " * 12 for i in range(rows)]
        data = tmp_path / f"{rows}.{kind}"
        if kind == "jsonl":
            write_jsonl(data, [{"text": text} for text in written])
        elif kind == "txt":
            data.write_text(DOCUMENT_SEPARATOR.join(written))
        else:
            pyarrow.parquet.write_table(pyarrow.table({"text": written}), data, row_group_size=rows)
        del written
        read = split_by_prompt(formats.read_documents(data), 0.5)
        peaks.append(peak_mib(lambda: use([call(texts.prepare_documents, side).examples for side in read])))

    def use(sides: list[Any]) -> None:
        for examples in sides:
            assert all(
                len(examples[part]) <= at_once for part in order.in_parts(examples.table.lengths, 5000)
            )

    peaks: list[float] = []
    at_once = 5000
    call(texts.prepare_documents, ROWS[texts.prepare_documents])  # what is made once
    for rows in (1000, 4000):
        make_and_pass(rows)
    # As records and tokens in memory these rows would take some 2.5 KiB each, 7 MiB more.
    assert peaks[1] < peaks[0] + 0.7, peaks


WORK = """
import sys, time
from tests.data.kit import tiny
from tutelage.data.preflight import texts, work
from tutelage.data.reading.formats import read_documents
work.CHUNK, work.MARK_EVERY = 5, 0.0
print("begins", flush=True)
take = work.Work._take
def slowly(self, chunk, *rest):
    print("chunk", chunk[0].text, flush=True)
    time.sleep(float(sys.argv[2]))
    take(self, chunk, *rest)
work.Work._take = slowly
ready = texts.prepare_documents(tiny(), read_documents(sys.argv[1]), max_dropped_share=0.5)
print("done", len(ready.examples), ready.report.tokens, ready.report.lengths, ready.report.dropped, flush=True)
"""


def here(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What such a process prints, run in this one, which has imported everything."""
    capsys.readouterr()
    with monkeypatch.context() as changed:
        for name in ("CHUNK", "MARK_EVERY"):
            changed.setattr(work, name, getattr(work, name))
        changed.setattr(work.Work, "_take", work.Work._take)
        changed.setattr(sys, "argv", ["-c", str(data), "0"])
        exec(WORK, {})
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith(("chunk", "done"))]


def start(data: Path, pause: float) -> subprocess.Popen[str]:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", WORK, str(data), str(pause)]
    return subprocess.Popen(command, cwd=root, env=dict(os.environ), stdout=subprocess.PIPE, text=True)


def output(process: subprocess.Popen[str]) -> list[str]:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return [line for line in out.splitlines() if line.startswith(("chunk", "done"))]


@pytest.mark.slow
def test_killed_half_way_it_goes_on_and_others_wait(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [" " if i % 7 == 3 else f"text {i} " + "cat " * (i % 11) for i in range(60)]
    data = write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TUTELAGE_CACHE", str(tmp_path / "other"))
        whole = here(data, monkeypatch, capsys)
    assert len(whole) == 13 and whole[-1].startswith("done 51")
    first = start(data, 0.2)
    assert first.stdout is not None
    for _ in range(1 + 4):  # the fourth chunk has begun, so three are marked
        first.stdout.readline()
    waiting = start(data, 0.0)  # gets the lock when the first one is killed
    assert waiting.stdout is not None
    waiting.stdout.readline()
    time.sleep(0.3)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    rest = output(waiting)
    assert rest[-1] == whole[-1] and 0 < len(rest) < 11 and rest == whole[-len(rest) :]
    assert here(data, monkeypatch, capsys) == whole[-1:]  # nothing is tokenised any more
    [folder] = tables(cache)
    assert not folder.endswith(PARTIAL)
    reports = [
        json.loads(next(place.glob("*/table.json")).read_text())
        for place in (cache, tmp_path / "other/tables")
    ]
    for report in reports:
        report["report"]["seconds"] = 0
    assert reports[0] == reports[1]
    for file in (cache / folder).iterdir():
        if file.name != "table.json":
            assert file.read_bytes() == (tmp_path / "other" / "tables" / folder / file.name).read_bytes()
