"""What holds for every file: sixty examples each, hundreds in the slow tests."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tutelage.data.reading.cells import blank
from tutelage.data.reading.formats import Dropped, Records, read_comparisons, read_demonstrations
from tutelage.data.reading.layouts import Purpose
from tutelage.data.reading.messages import KNOWN as MESSAGE_KEYS
from tutelage.data.reading.messages import MEDIA, REASONING, ROLES
from tutelage.data.reading.rows import READERS
from tutelage.data.reading.spellings import KNOWN, SPELLINGS
from tutelage.records import Comparison, Conversation, Message, Prompt, ToolCall

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
Check = Callable[[Path, Any], None]
# Examples: in the fast tests; in the slow ones of most properties; of any row. They are the same ones every time, so that many
# more would find nothing on the next day either.
FEW, SOME, MANY = 60, 300, 600
PROPERTIES: dict[str, tuple[st.SearchStrategy[Any], int, Check]] = {}


def holds_for(strategy: st.SearchStrategy[Any], slow: int = SOME) -> Callable[[Check], Check]:
    """Register what is checked of each value, in a folder for its files."""

    def register(check: Check) -> Check:
        PROPERTIES[check.__name__] = (strategy, slow, check)
        return check

    return register


# ---- what files are made of --------------------------------------------------------------------------------------------

texts = st.text(max_size=12)
words = st.text("ab cé\n\u2028\x85猫", min_size=1, max_size=8).filter(str.strip)
halves = st.text(st.characters(), max_size=6) | st.sampled_from(["\ud83d", "a\ude00"])
numbers = st.integers(-3, 3) | st.integers() | st.just(10**400) | st.floats(width=32)
COLUMNS = sorted(
    {*KNOWN, *MEDIA, *(name for names, _ in SPELLINGS for name in names), "ranks", "responses", "message_id"}
)
KEYS = sorted({*MESSAGE_KEYS, *REASONING, "type", "text", "replies", "messages", "tools", "function", "name"} | {
    "arguments", "input", "output", "rank", "deleted", "full_text", "post"})  # fmt: skip
scalars = (
    st.none() | st.booleans() | numbers | halves | st.sampled_from([*ROLES, "length", "text", "tie", "0"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | halves, inner, max_size=4)
    ),
    max_leaves=12,
)
turns = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": words}), max_size=3
)  # fmt: skip
cells = values | values.map(json.dumps) | turns | turns.map(json.dumps)
finite = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1e6, 1e6) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)


def _lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _read(path: Path, purpose: Purpose) -> tuple[list[Any] | None, list[str]]:
    """(records and dropped rows, columns that were not used); None where the file is refused, in one sentence."""
    rows: Records[Any] = Records(path, purpose)
    try:
        found = list(rows.walk())
    except ValueError as error:
        assert str(path) in str(error) and str(error).isprintable(), error
        return None, []
    for row in found:
        repr(row).encode()  # whole characters
        assert not isinstance(row, Dropped) or (row.reason and "\n" not in row.reason)
        prompt = row if isinstance(row, Prompt) else getattr(row, "prompt", None)
        assert prompt is None or prompt.id
        assert row.place is not None and row.place.file == str(path)
    return found, sorted(rows.unused)


# ---- rows ---------------------------------------------------------------------------------------------------------------


def _corpus_rows() -> list[dict[str, Any]]:
    """Every row of the corpus, of any layout."""
    found = []
    for path in sorted(Path(__file__).with_name("corpus").glob("*/*.jsonl")):
        if path.parent.name not in ("json", "columns"):
            found += [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    return found


@holds_for(
    st.tuples(
        st.sampled_from(_corpus_rows()),
        st.dictionaries(texts.map("x_{}".format), finite.filter(lambda cell: not blank(cell)), max_size=3),
        st.sets(st.sampled_from(sorted(KNOWN))),
        st.randoms(use_true_random=False),
        st.sampled_from(PURPOSES),
    ),
    slow=MANY,
)
def order_nulls_and_other_columns(folder: Path, case: tuple[Any, ...]) -> None:
    """The order of columns means nothing, nulls are nothing, and columns that nobody knows are named."""
    row, extra, nulls, chance, purpose = case
    found, unused = _read(_lines(folder / "rows.jsonl", [row, row]), purpose)
    other = {**row, **extra, **{name: None for name in nulls if name not in row}}
    names = list(other)
    chance.shuffle(names)
    changed = {name: other[name] for name in names}
    again, left = _read(_lines(folder / "rows.jsonl", [changed, changed]), purpose)
    if found is None or any(isinstance(row, Dropped) and "is null" in row.reason for row in found):
        assert again is None or all(isinstance(row, Dropped) and "is null" in row.reason for row in again)
        return
    assert again == found
    kept = not all(isinstance(row, Dropped) for row in found)
    assert left == sorted([*unused, *(extra if kept else [])])


@holds_for(
    st.tuples(st.sampled_from(_corpus_rows()), st.dictionaries(st.sampled_from(COLUMNS), cells, min_size=1)),
    slow=MANY,
)
def any_value_in_any_column(folder: Path, case: tuple[Any, ...]) -> None:
    """Records, a dropped row, or one sentence."""
    row, changes = case
    path = _lines(folder / "rows.jsonl", [{**row, **changes}, row])
    for purpose in PURPOSES:
        _read(path, purpose)


@holds_for(
    st.lists(
        st.dictionaries(st.sampled_from(COLUMNS) | halves, cells, max_size=4) | cells, min_size=1, max_size=3
    ),
    slow=MANY,
)
def any_rows(folder: Path, rows: list[Any]) -> None:
    """As lines, as one array, as columns."""
    paths = [_lines(folder / "rows.jsonl", rows), folder / "rows.json"]
    paths[1].write_text(json.dumps(rows[0] if len(rows) == 1 else rows, indent=1), encoding="utf-8")
    for path in paths:
        for purpose in PURPOSES:
            _read(path, purpose)


SIGNS = '"[]{},;\t\n\r\0\ufeff'
pieces = st.sampled_from([*SIGNS, '{"prompt": "a"}', "prompt,text", "<|endoftext|>", "NaN", "\\ud83d"])
contents = st.lists(pieces | texts).map("".join).map(str.encode) | st.binary(max_size=20)


@holds_for(st.tuples(st.sampled_from(sorted(READERS)), contents, st.booleans()))
def any_bytes(folder: Path, case: tuple[str, bytes, bool]) -> None:
    """Whatever a file holds, of whatever kind."""
    ending, content, packed = case
    path = folder / f"rows{ending}{'.gz' if packed and ending != '.parquet' else ''}"
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    for purpose in PURPOSES:
        _read(path, purpose)


# ---- one thing said in several ways -------------------------------------------------------------------------------------

TEXT_LAYOUTS: dict[str, Purpose] = {
    "text": "pretraining text",
    "prompt completion": "demonstrations",
    "instruction input output": "demonstrations",
    "prompt chosen rejected": "comparisons",
    "system question response": "demonstrations",
}


@st.composite
def text_rows(draw: st.DrawFn) -> tuple[Purpose, list[dict[str, str]]]:
    names = draw(st.sampled_from(sorted(TEXT_LAYOUTS)))
    row = st.fixed_dictionaries(dict.fromkeys(names.split(), texts))
    return TEXT_LAYOUTS[names], draw(st.lists(row, min_size=1, max_size=4))


@holds_for(text_rows())
def every_kind_of_file(folder: Path, case: tuple[Purpose, list[dict[str, str]]]) -> None:
    """The same rows give the same records from each, in their order."""
    purpose, rows = case
    files = [_lines(folder / "a.jsonl", rows), *(folder / f"{name}.json" for name in "bcde")]
    files[1].write_text(json.dumps(rows), encoding="utf-8")
    files[2].write_text(json.dumps({"version": 1, "rows": rows}, indent=1), encoding="utf-8")
    files[3].write_text("\n".join(json.dumps(row, indent=2) for row in rows), encoding="utf-8")
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    files[4].write_text(json.dumps(columns if len(columns) > 1 else rows), encoding="utf-8")
    files += [_table(folder / f"f{ending}", rows) for ending in (".csv", ".tsv")]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "g.parquet")
    packed = folder / "h.jsonl.gz"
    packed.write_bytes(gzip.compress(files[0].read_bytes(), 1))
    first, _ = _read(files[0], purpose)
    assert first is not None
    for path in [*files[1:], folder / "g.parquet", packed]:
        found, _ = _read(path, purpose)
        assert found is not None and list(map(_said, found)) == list(map(_said, first)), path


def _table(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    return path


def _said(row: Any) -> Any:
    return row.reason if isinstance(row, Dropped) else row


@st.composite
def comparisons_as_said(draw: st.DrawFn) -> tuple[Comparison, dict[str, Any]]:
    """A comparison, and a row that says it: any form of the prompt with any form of each side."""
    said = draw(st.lists(words, min_size=1, max_size=5).filter(lambda said: len(said) % 2 == 1))
    system = draw(st.none() | words)
    asked = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]
    before = [{"role": "system", "content": system}] if system else []
    sides = {"chosen": draw(words), "rejected": draw(words)}
    row: dict[str, Any] = {}
    alone = draw(st.booleans()) and system is not None
    if alone:
        row["system"] = system
    forms = ["list", "absent"] + (["text"] if len(said) == 1 or not alone else [])
    form = draw(st.sampled_from(forms))
    if form == "list":
        row["prompt"] = asked if alone else before + asked
    if form == "text":
        row["prompt"] = said[0]
    needed = form == "absent" or (form == "text" and (len(said) > 1 or (system and not alone)))
    for name, text in sides.items():
        answer = {"role": "assistant", "content": text}
        context = [] if alone and draw(st.booleans()) else before
        if form == "list" and draw(st.booleans()):
            context = []
        whole = [*(before if needed and not alone else context), *asked, answer]
        ways = [whole] if needed else [whole, answer, [answer], text]
        row[name] = draw(st.sampled_from(ways))
    if form == "text" and not needed and all(isinstance(row[name], str) for name in sides) and not alone:
        row["chosen"] = [{"role": "assistant", "content": row["chosen"]}]  # text beside text would be plain
    content = tuple(Message(turn["role"], turn["content"]) for turn in before + asked)
    return Comparison(Prompt(content), sides["chosen"], sides["rejected"]), row


@holds_for(comparisons_as_said())
def any_prompt_with_any_sides(folder: Path, case: tuple[Comparison, dict[str, Any]]) -> None:
    """One comparison, however it is written down."""
    comparison, row = case
    assert list(read_comparisons(_lines(folder / "rows.jsonl", [row])).walk()) == [comparison]


arguments = st.dictionaries(texts, finite, max_size=2)
calls = st.lists(st.tuples(words, arguments), min_size=1, max_size=2)
said_turns = st.lists(
    st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), texts) | st.tuples(st.just("calls"), calls),
    min_size=1,
    max_size=5,
)  # fmt: skip
SHAREGPT = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


@holds_for(said_turns)
def two_spellings_of_turns(folder: Path, turns: list[tuple[str, Any]]) -> None:
    """OpenAI's and ShareGPT's."""
    one: list[dict[str, Any]] = []
    other: list[dict[str, Any]] = []
    for role, said in [*turns, ("assistant", "Yes.")]:
        if role == "calls":
            functions = [{"name": name, "arguments": found} for name, found in said]
            written = [{"function": {**f, "arguments": json.dumps(f["arguments"])}} for f in functions]
            one.append({"role": "assistant", "content": None, "tool_calls": written})
            other.append({"from": "function_call", "value": json.dumps(functions)})
        else:
            one.append({"role": role, "content": said})
            other.append({"from": SHAREGPT[role], "value": said})
    rows = _lines(folder / "rows.jsonl", [{"messages": one}, {"conversations": other}])
    first, second = read_demonstrations(rows).walk()
    assert isinstance(first, Conversation) and first == second and len(first.messages) == len(turns) + 1


# ---- there and back -----------------------------------------------------------------------------------------------------


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    reference = draw(st.none() | st.dictionaries(texts, finite, min_size=1, max_size=2))
    if draw(st.booleans()):
        return Prompt(draw(words), draw(texts), reference)
    talk = [
        Message(role, draw(texts)) for role in draw(st.lists(st.sampled_from(["system", "user"]), max_size=2))
    ]
    if draw(st.booleans()):
        call = ToolCall(draw(words), draw(arguments), draw(texts))
        talk += [
            Message("assistant", draw(texts), (call,)),
            Message("tool", draw(texts), (), "t", draw(texts)),
        ]
    else:
        talk += [Message("assistant", draw(texts)), Message("user", draw(words), name=draw(texts))]
    tools = draw(st.lists(st.fixed_dictionaries({"name": words, "parameters": arguments}), max_size=2))
    content = tuple(talk)
    return Prompt(content, draw(texts), reference, tuple({"type": "function", "function": t} for t in tools))


ends = st.sampled_from(["eos", "length"])
shares = st.floats(0, 1)


@holds_for(st.builds(Comparison, prompts(), texts, texts, shares, shares, ends, ends))
def an_export_read_back(folder: Path, comparison: Comparison) -> None:
    """What is written as a preference file is what was compared."""
    path = _lines(folder / "rows.jsonl", [comparison.to_json()])
    [found] = read_comparisons(path).walk()
    assert found == comparison and found.prompt.id == comparison.prompt.id
    assert (
        found.prompt.tools == comparison.prompt.tools
        and found.prompt.reference == comparison.prompt.reference
    )


weights = st.sampled_from(["1", "2", "3", "0.5", "0.25", "1.5", "0.1", "2.75", "0.33"])


@holds_for(st.lists(st.tuples(st.integers(1, 12), weights), min_size=1, max_size=3))
def the_counts_of_a_mix(folder: Path, parts: list[tuple[int, str]]) -> None:
    """A weight gives exactly so many rows, spread evenly, in the order of the file; copies are told apart."""
    names = []
    for part, (count, weight) in enumerate(parts):
        rows = [{"prompt": f"{part}.{number}", "completion": "a"} for number in range(count)]
        names.append(f"{_lines(folder / f'{part}.jsonl', rows)}*{weight}")
    places = [row.place for row in read_demonstrations(names) if row.place]
    assert len(set(places)) == len(places)
    for part, (count, weight) in enumerate(parts):
        own = [place.number for place in places if place.file == str(folder / f"{part}.jsonl")]
        share = Fraction(weight)
        assert len(own) == int(share * count) and own == sorted(own)
        assert all(abs(times - share) < 1 for times in Counter(own).values())


# ---- all of them ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(PROPERTIES))
@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_holds(name: str, slow: bool, tmp_path: Path) -> None:
    strategy, examples, check = PROPERTIES[name]

    @settings(
        max_examples=examples if slow else FEW,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(value: Any) -> None:
        check(tmp_path, value)

    run()
