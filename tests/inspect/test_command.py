"""`tutelage data` from end to end: console, page and JSON, with a model and without."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.inspect.kit import asked, comparisons, conversations, demonstrations, write
from tests.train.making import make_tokenizer
from tutelage.cli import run_command
from tutelage.commands import find
from tutelage.data.preflight import report as preflight_report
from tutelage.data.preflight.texts import prepare_demonstrations
from tutelage.data.reading.formats import read_demonstrations
from tutelage.inspect import text
from tutelage.inspect.facts import to_json
from tutelage.inspect.figure import histograms
from tutelage.inspect.looking import look
from tutelage.inspect.page import render
from tutelage.settings.base import load
from tutelage.settings.inspect import DataCommandSettings

HOSTILE = '<script>alert("x")</script><img src=//evil.example/x onerror=alert(1)> \x1b[31m &amp; {{ 7 * 7 }}'


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = run_command(find("data"), args)
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer().save_pretrained(folder)
    return folder


# ---- the command line --------------------------------------------------------------------------------------------------


def test_a_file_without_a_name_before_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    write(tmp_path, demonstrations(30))
    code, out, err = run(capsys, "rows.jsonl", "out=looked")
    assert (code, err) == (0, "")
    assert "30 rows: Alpaca (instruction, input, output)" in out and "No likely mistake was found." in out
    assert out.rstrip().endswith("looked/data.html")
    assert json.loads((tmp_path / "looked" / "data.json").read_text())["rows"] == 30
    assert (tmp_path / "looked" / "data.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("args", "data"),
    [
        (["a.jsonl"], "a.jsonl"),
        (["data=a.jsonl"], "a.jsonl"),
        (["[a.jsonl, b.jsonl*3]"], ["a.jsonl", "b.jsonl*3"]),
        (["a.jsonl", "b.jsonl*3"], ["a.jsonl", "b.jsonl*3"]),
        (["hub:owner/name:train"], "hub:owner/name:train"),
        (["data/*.jsonl", "seen.csv", "max_length=9"], ["data/*.jsonl", "seen.csv"]),
    ],
)
def test_what_bare_arguments_mean(args: list[str], data: Any) -> None:
    assert load(DataCommandSettings, args).data == data


def test_bare_arguments_and_data_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "a.jsonl", "data=b.jsonl")
    assert code == 1 and err == (
        "error: setting 'data' is given twice on the command line: keep one of a.jsonl and data=b.jsonl\n"
    )


def test_other_commands_take_no_bare_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(find("sft"), ["a.jsonl"]) == 1
    assert "cannot read the argument 'a.jsonl'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "the file .* does not exist"),
        ("", "is empty"),
        ("[1, 2", "malformed JSON"),
    ],
)
def test_a_mistake_is_one_sentence(
    content: str | None, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_text(content)
    code, _, err = run(capsys, str(path), f"out={tmp_path}/out")
    assert code == 1 and re.search(sentence, err) and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_no_torch_without_a_model(tmp_path: Path) -> None:
    path = write(tmp_path, comparisons(5))
    code = (
        "import sys\nfrom tutelage.cli import run_command\nfrom tutelage.commands import find\n"
        f"assert run_command(find('data'), [{str(path)!r}, 'out={tmp_path}/out']) == 0\n"
        "assert not {'torch', 'transformers', 'datasets', 'matplotlib', 'sqlalchemy'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


# ---- what is said --------------------------------------------------------------------------------------------------------


def everything(folder: Path) -> list[Any]:
    """Rows in which much is wrong."""
    rows: list[Any] = comparisons(60)
    for i in range(4):
        rows[i]["rejected"] = rows[i]["chosen"]
        rows[10 + i]["p_chosen"] = f"{HOSTILE} {i}"
    rows += [
        rows[20],
        '{"prompt": ',
        {"prompt": HOSTILE, "chosen": HOSTILE, "rejected": " no", HOSTILE: HOSTILE},
    ]
    rows.append({"prompt": "x" * 9000, "chosen": " a-word-that-never-ends" * 30, "rejected": " no " * 200})
    return rows


@pytest.mark.parametrize("columns", [80, 60, 200])
def test_the_console_is_never_too_narrow(columns: int, tmp_path: Path) -> None:
    facts = look(
        write(tmp_path, everything(tmp_path)), against=str(write(tmp_path, comparisons(9), "h.jsonl"))
    )
    console = Console(width=columns, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    text.show(facts, console)
    said = console.export_text()
    assert max(map(len, said.splitlines())) <= columns
    assert "\x1b" not in said
    words = " ".join(said.split())
    assert "1 row cannot be read: every command would stop there." in words
    assert "with identical chosen and rejected line 1, 2, 3, 4" in words
    assert "Of 9 rows in" in words and "9 rows with the same prompt as 10 rows of the data" not in words


def test_no_data_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, [{"prompt": HOSTILE, "chosen": HOSTILE, "rejected": " no", HOSTILE: HOSTILE}])
    code, out, _ = run(capsys, str(path), f"out={tmp_path}/out")
    assert code == 0 and "\x1b" not in out and "alert" in out


def test_marks_are_those_of_the_preflight() -> None:
    assert (text.OPEN, text.CLOSE) == (preflight_report.OPEN, preflight_report.CLOSE)


class Tags(HTMLParser):
    """The tags of a page, and where they point."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "data", "action")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("with_model", [False, True])
def test_the_page_is_whole_and_no_data_get_out_of_their_place(
    with_model: bool, tmp_path: Path, tokenizer: Path
) -> None:
    rows = [row for row in everything(tmp_path) if not isinstance(row, str)]
    against = write(tmp_path, [{"prompt": HOSTILE, "chosen": " a", "rejected": " b"}], "h.jsonl")
    facts = look(write(tmp_path, rows), against=str(against), model=str(tokenizer) if with_model else "")
    page = render(facts)
    seen = Tags(page)
    assert not seen.tags & {"script", "img", "link", "iframe", "object", "base"}
    assert not seen.links and not seen.handlers
    assert not re.search(r"url\(|@import|https?://", page)
    assert '<script>alert("x")</script>' in seen.text and "\x1b" not in page and "{{ 7 * 7 }}" in seen.text
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page


def test_the_page_says_what_the_facts_say(tmp_path: Path) -> None:
    facts = look(write(tmp_path, everything(tmp_path)))
    said = Tags(render(facts)).text
    for mistake in facts.mistakes:
        assert mistake.sentence in said and mistake.advice in said
    for use in facts.uses:
        assert all(drop.reason.replace("\x1b", "\ufffd") in said for drop in use.dropped)
    assert "line 62" in said and "Ten rows" in said
    assert max(place for row in facts.shown if row.place for place in [row.place.number]) >= 60


def test_the_json_holds_the_facts_with_places(tmp_path: Path) -> None:
    path = write(tmp_path, everything(tmp_path))
    found = json.loads(json.dumps(to_json(look(path))))
    assert found["damaged"][0]["place"] == {"file": str(path), "line": 62}
    assert found["repeats"][0]["pairs"][0]["one"] == {"file": str(path), "line": 21}
    assert {use["what"] for use in found["uses"]} >= {"comparisons", "demonstrations", "prompts"}


def test_the_figure_counts_every_length(tmp_path: Path) -> None:
    rows = [{"instruction": asked(i), "output": "y" * (i * i + 1)} for i in range(50)]
    [lengths] = look(write(tmp_path, rows)).lengths
    drawn = histograms(lengths)
    counts = [int(found) for found in re.findall(r"characters: (\d+)</title>", drawn)]
    assert sum(counts) == 100
    heights = [float(found) for found in re.findall(r'<rect [^>]*height="([\d.]+)"', drawn)]
    assert max(heights) == 64 and min(heights) == 0
    assert "max_length" not in drawn


# ---- with a model --------------------------------------------------------------------------------------------------------


def test_rows_are_what_training_makes_of_them(tmp_path: Path, tokenizer: Path) -> None:
    path = write(tmp_path, conversations(30))
    facts = look(path, model=str(tokenizer))
    examples = prepare_demonstrations(make_tokenizer(), read_demonstrations(path), max_length=1024).examples
    for shown in (facts.shown[0], facts.shown[-1]):
        assert shown.place is not None
        tokens = examples[shown.place.number - 1]
        own = preflight_report.runs_of_text(make_tokenizer(), tokens)
        assert [(run.text, run.trained) for run in shown.runs] == own
    assert [row.place.number for row in facts.shown if row.place] == [1, 4, 7, 11, 14, 17, 20, 24, 27, 30]
    _, tokens_lengths = facts.lengths
    assert tokens_lengths.unit == "tokens" and tokens_lengths.limit == 1024 and tokens_lengths.over == 0
    assert [spread.name for spread in tokens_lengths.spreads] == ["prompt", "response", "sequence"]


def test_what_is_longer_than_max_length_is_counted_before_it_is_cut(tmp_path: Path, tokenizer: Path) -> None:
    rows: list[dict[str, Any]] = [{"instruction": "the cat " * n, "output": "ok"} for n in range(1, 11)]
    rows.append({"instruction": "a", "output": "the cat " * 200})
    path = write(tmp_path, rows)
    whole = look(path, model=str(tokenizer)).lengths[1].spreads[-1].numbers
    facts = look(path, model=str(tokenizer), max_length=15, max_dropped_share=0.5)
    lengths = facts.lengths[1]
    assert lengths.spreads[-1].numbers == whole and lengths.limit == 15
    sft = next(use for use in facts.uses if "sft" in use.commands)
    assert (sft.records, sft.faults) == (10, 1) and lengths.over == lengths.shortened + 1 > 1
    assert "longer than max_length=15" in sft.dropped[0].reason
    assert [place.number for place in sft.dropped[0].places] == [11]
    assert "max_length 15" in histograms(lengths)


def test_comparisons_are_shown_as_two_sequences(tmp_path: Path, tokenizer: Path) -> None:
    facts = look(write(tmp_path, comparisons(3)), model=str(tokenizer))
    runs = facts.shown[0].runs
    assert [run.who for run in runs if run.who] == ["chosen", "rejected"]
    assert [run.trained for run in runs] == [False, True, False, True]
    assert "Tokens and rows are those of reward, dpo." in facts.notes
    assert {spread.name: sum(spread.counts) for spread in facts.lengths[1].spreads} == {
        "prompt": 3,  # both sides have one
        "response": 6,
        "sequence": 6,
    }
    numbers = {spread.name: spread.numbers for spread in facts.lengths[1].spreads}
    assert numbers["prompt"]["max"] + numbers["response"]["min"] <= numbers["sequence"]["max"]
    assert numbers["prompt"]["min"] < numbers["sequence"]["min"]


@pytest.mark.parametrize("rows", [[{"prompt": "What?"}], [{"text": "A text."}]])
def test_prompts_and_texts_are_tokenised_as_their_commands_do(
    rows: list[dict[str, Any]], tmp_path: Path, tokenizer: Path
) -> None:
    facts = look(write(tmp_path, rows), model=str(tokenizer))
    assert facts.lengths[1].spreads[0].numbers["max"] > 0 and len(facts.shown) == 1
    assert facts.shown[0].runs[0].trained is ("text" in rows[0])


def test_no_tokenizer_there_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, comparisons(3))
    code, _, err = run(capsys, str(path), f"model={tmp_path}", f"out={tmp_path}/out")
    assert code == 1 and str(tmp_path) in err and err.count("\n") == 1
