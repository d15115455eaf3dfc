"""The command `eval outputs`: every format of outputs, what does not fit together, and what is written."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tutelage.evals import rows
from tutelage.evals.outputs import reading
from tutelage.launch import launch
from tutelage.settings.base import load
from tutelage.settings.evals import OutputsSettings

ASKED = ["Where is the cat?", "Who ran?", "Why?"]
SAID = ["The cat is on the mat.", "The dog ran away from the house.", "That is why it is so."]
KNOWN = ["The cat sat on the mat.", "The dog ran from the house.", "That is why."]


def file(path: Path, found: list[Any]) -> Path:
    """JSON Lines, or for .json one list."""
    whole = json.dumps(found) if path.suffix == ".json" else "\n".join(map(json.dumps, found))
    path.write_text(whole, encoding="utf-8")
    return path


def plain(path: Path, said: list[str] = SAID, known: list[Any] | None = KNOWN, **more: Any) -> Path:
    lines = [{"prompt": p, "response": s, **more} for p, s in zip(ASKED, said, strict=True)]
    if known:
        lines = [line | {"reference": k} for line, k in zip(lines, known, strict=True)]
    return file(path, lines)


def outputs(folder: Path, files: list[str], **more: Any) -> tuple[Path, str]:
    said = io.StringIO()
    settings = OutputsSettings(files=files, out=folder / "out", resamples=100, **more)
    launch("eval outputs", settings, Console(file=said, width=120))
    return folder / "out", said.getvalue()


def lm_eval(doc: int, written: list[str], filter: str = "none", new: bool = True) -> dict[str, Any]:
    """A line of samples_TASK.jsonl: before lm-eval 0.4.4 the arguments were lists."""
    asked, settings = f"Q: {ASKED[doc]}\nA:", {"until": ["\n"]}
    given: Any = {"gen_args_0": {"arg_0": asked, "arg_1": settings}} if new else [[asked, settings]]
    return {
        "doc_id": doc,
        "doc": {"question": ASKED[doc]},
        "target": KNOWN[doc],
        "arguments": given,
        "resps": [written],
        "filtered_resps": ["[invalid]"],
        "filter": filter,
        "exact_match": 0.0,
    }


# ---- formats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["response", "output", "completion", "generated_text"])
def test_outputs_under_every_name(tmp_path: Path, name: str) -> None:
    path = file(
        tmp_path / "a.jsonl", [{"prompt": "Why?", name: "So.", "finish_reason": "length", "task": "t"}]
    )
    (one,) = reading.read("a", str(path), {})["a"]
    assert (one.text, one.key, one.task, one.ended, one.references) == ("So.", "Why?", "t", False, ())


def test_alpaca_eval(tmp_path: Path) -> None:
    lines = [{"instruction": "Why?", "output": "", "generator": "gpt", "dataset": "koala"}]
    (one,) = reading.read("a", str(file(tmp_path / "model_outputs.json", lines)), {})["a"]
    assert (one.text, one.key, one.ended) == ("", "Why?", None)


@pytest.mark.parametrize("new", [True, False])
def test_lm_eval_counts_a_document_once(tmp_path: Path, new: bool) -> None:
    """A line for each filter of the task; what the model wrote, not what a filter left of it."""
    lines = [
        lm_eval(doc, [SAID[doc]], kind, new)
        for kind in ("strict-match", "flexible-extract")
        for doc in (0, 1)
    ]
    found = reading.read("a", str(file(tmp_path / "samples_gsm8k.jsonl", lines)), {})["a"]
    assert [one.text for one in found] == SAID[:2]
    assert found[0].asked == f"Q: {ASKED[0]}\nA:" and found[0].references == (KNOWN[0],)


def test_lm_eval_repeats_and_choices(tmp_path: Path) -> None:
    path = file(tmp_path / "s.jsonl", [lm_eval(0, ["one", "two"])])
    assert [one.text for one in reading.read("a", str(path), {})["a"]] == ["one", "two"]
    scored = lm_eval(0, ["x"]) | {"resps": [[[-2.0, False]], [[-0.1, True]]]}
    with pytest.raises(
        ValueError, match=r"s.jsonl line 1: resps is .* only tasks of the type generate_until"
    ):
        reading.read("a", str(file(tmp_path / "s.jsonl", [scored])), {})


def test_samples_of_eval_are_several_models(tmp_path: Path) -> None:
    line = {"id": "1", "task": "t", "prompt": [{"role": "user", "content": "Why?"}]}
    line |= {"responses": {"sft": {"text": "a", "finish": "eos"}, "ppo": {"text": "b", "finish": "length"}}}
    found = reading.read("e", str(file(tmp_path / "samples.jsonl", [line])), {})
    assert [(name, one.text, one.key, one.ended) for name, (one,) in found.items()] == [
        ("e/sft", "a", "Why?", True),
        ("e/ppo", "b", "Why?", False),
    ]


def test_an_output_may_be_a_conversation_and_have_another_name(tmp_path: Path) -> None:
    line = {"q": "Why?", "said": [{"role": "assistant", "content": "So."}], "gold": ["Thus.", "So."]}
    path = file(tmp_path / "a.jsonl", [line])
    (one,) = reading.read("a", str(path), {"prompt": "q", "output": "said", "reference": "gold"})["a"]
    assert (one.text, one.key, one.references) == ("So.", "Why?", ("Thus.", "So."))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"prompt": "Why?", "said": "x"}, r"holds no output: it has the columns prompt, said"),
        ({"prompt": "Why?", "output": None}, r"holds no output: output is null"),
        ({"prompt": "Why?", "output": 3}, r"output is 3, not a text"),
    ],
)
def test_rows_without_an_output_are_named(tmp_path: Path, line: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=rf"a.jsonl line 1.* {why}|a.jsonl line 1: {why}"):
        reading.read("a", str(file(tmp_path / "a.jsonl", [line])), {})


# ---- what does not fit together --------------------------------------------------------------------------------------


def test_different_prompts_are_refused(tmp_path: Path) -> None:
    one = plain(tmp_path / "a.jsonl")
    two = file(tmp_path / "b.jsonl", [{"prompt": p, "response": "x"} for p in (*ASKED[:2], "When?")])
    with pytest.raises(
        ValueError, match=r"b does not answer the prompts of a: 1 of its 3 are missing and 1 are others"
    ):
        outputs(tmp_path, [str(one), str(two)])


def test_uneven_prompts_are_refused(tmp_path: Path) -> None:
    lines = [{"prompt": p, "output": "x"} for p in ("Why?", "Why?", "Who?")]
    with pytest.raises(
        ValueError, match=r"a has 2 outputs for the prompt of .* \('Why\?'\) and 1 for another"
    ):
        outputs(tmp_path, [str(file(tmp_path / "a.jsonl", lines))])


def test_counts_without_prompts_must_agree(tmp_path: Path) -> None:
    one = file(tmp_path / "a.jsonl", [{"output": text} for text in SAID])
    two = file(tmp_path / "b.jsonl", [{"output": "x"}])
    with pytest.raises(ValueError, match=r"a has 3 outputs and b has 1, and without prompts"):
        outputs(tmp_path, [str(one), str(two)])
    given = file(tmp_path / "r.jsonl", [{"reference": "x"}])
    with pytest.raises(ValueError, match=r"r.jsonl has 1 references without a prompt and a has 3 outputs"):
        outputs(tmp_path / "2", [str(one)], references=str(given))


def test_prompts_in_some_rows_only_are_refused(tmp_path: Path) -> None:
    path = file(tmp_path / "a.jsonl", [{"prompt": "Why?", "output": "x"}, {"output": "y"}])
    with pytest.raises(ValueError, match=r"line 2 has no prompt, but other rows of a have one"):
        outputs(tmp_path, [str(path)])


def test_references_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    one, two = plain(tmp_path / "a.jsonl"), plain(tmp_path / "b.jsonl", known=["x", *KNOWN[1:]])
    with pytest.raises(ValueError, match=r"b.jsonl line 1 has another reference than .*a.jsonl line 1"):
        outputs(tmp_path, [str(one), str(two)])


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    path = plain(tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match="files: two are named 'a'"):
        outputs(tmp_path, [str(path), f"a={path}"])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"overlap": ["bertscore"]}, "bertscore, which needs an encoder"),
        ({"rouge_stemmer": True, "overlap": ["bleu"]}, "rouge_stemmer is for rouge, which is not asked for"),
        ({"wordnet": "x"}, "wordnet is for meteor"),
        ({"overlap": ["bleu", "bleu"]}, "has a metric twice"),
        ({"files": []}, "give files of outputs"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        OutputsSettings(**({"files": ["a.jsonl"]} | given))


def test_metrics_on_the_command_line_need_no_brackets() -> None:
    assert load(OutputsSettings, ["files=a.jsonl", "overlap=bleu,rouge"]).overlap == ["bleu", "rouge"]
    with pytest.raises(ValueError, match="overlap"):
        load(OutputsSettings, ["files=a.jsonl", "overlap=blue"])


# ---- the whole command -------------------------------------------------------------------------------------------------


def test_from_files_to_rows(tmp_path: Path) -> None:
    one, two = (
        plain(tmp_path / "a.jsonl", finish="eos"),
        plain(tmp_path / "b.jsonl", KNOWN, None, finish="length"),
    )
    out, said = outputs(tmp_path, [str(one), f"copy={two}"])
    found = rows.read(out / "results.json")
    by = {(row.model, row.metric): row for row in found}
    assert by["copy", "bleu_4"].value == by["copy", "rouge_lsum"].value == 1
    assert (
        by["a", "bleu_4"].value < 1
        and by["a", "bleu_4"].low <= by["a", "bleu_4"].value <= by["a", "bleu_4"].high
    )
    change = by["copy", "bleu_1_difference"]
    assert change.value == pytest.approx(1 - by["a", "bleu_1"].value) and change.n == 3
    assert by["copy", "missing_eos_difference"].value == 1 and ("a", "bleu_1_difference") not in by
    assert by["a", "bleu_4"].signature.endswith("|nrefs:1|n:3|bs:100|rs:0")
    assert {"words", "repetition", "copy_rate", "distinct_1", "distinct_2"} <= {row.metric for row in found}
    with (out / "results.csv").open(newline="") as table:
        assert [float(line["value"]) for line in csv.DictReader(table)] == [row.value for row in found]
    lines = [json.loads(line) for line in (out / "outputs.jsonl").read_text().splitlines()]
    assert lines[0] == {
        "prompt": ASKED[0], "task": "", "references": [KNOWN[0]], "outputs": {"a": [SAID[0]], "copy": [KNOWN[0]]},
    }  # fmt: skip
    assert "BLEU-4" in said and "bleu_precision_4: sacrebleu:" in said


def test_missing_references_are_counted(tmp_path: Path) -> None:
    out, said = outputs(tmp_path, [str(plain(tmp_path / "a.jsonl", known=[KNOWN[0], None, KNOWN[2]]))])
    assert "1 of 3 prompts have no reference text: these (bleu, rouge) are over the other 2." in said
    by = {row.metric: row for row in rows.read(out / "results.json")}
    assert by["bleu_1"].n == 2 and by["words"].n == 3
    _, said = outputs(tmp_path / "none", [str(plain(tmp_path / "b.jsonl", known=None))])
    assert "3 of 3 prompts have no reference text: no bleu, rouge." in said


def test_references_of_a_file_are_matched_by_prompt(tmp_path: Path) -> None:
    """In another order, several to a prompt, as demonstrations have them."""
    lines = [{"prompt": p, "completion": k} for p, k in zip(ASKED[::-1], KNOWN[::-1], strict=True)]
    given = file(tmp_path / "demonstrations.jsonl", [*lines, {"prompt": ASKED[0], "completion": SAID[0]}])
    out, _ = outputs(tmp_path, [str(plain(tmp_path / "a.jsonl", known=None))], references=str(given))
    lines = [json.loads(line)["references"] for line in (out / "outputs.jsonl").read_text().splitlines()]
    assert lines == [[KNOWN[0], SAID[0]], [KNOWN[1]], [KNOWN[2]]]


def test_several_outputs_to_a_prompt_are_resampled_together(tmp_path: Path) -> None:
    one = plain(tmp_path / "a.jsonl").read_text()
    (tmp_path / "b.jsonl").write_text(one + "\n" + one)
    narrow = {
        r.metric: r for r in rows.read(outputs(tmp_path, [str(tmp_path / "a.jsonl")])[0] / "results.json")
    }
    twice = {
        r.metric: r
        for r in rows.read(outputs(tmp_path / "2", [str(tmp_path / "b.jsonl")])[0] / "results.json")
    }
    assert twice["rouge_1"].n == 6
    for name in ("low", "value", "high"):
        assert getattr(twice["rouge_1"], name) == pytest.approx(getattr(narrow["rouge_1"], name))


def test_tasks_have_their_own_rows(tmp_path: Path) -> None:
    lines = [
        {"prompt": p, "response": s, "reference": k, "task": t}
        for p, s, k, t in zip(ASKED, SAID, KNOWN, ("x", "x", "y"), strict=True)
    ]
    out, _ = outputs(tmp_path, [str(file(tmp_path / "a.jsonl", lines))])
    found = {(row.task, row.metric): row.n for row in rows.read(out / "results.json")}
    assert (found["all", "bleu_1"], found["x", "bleu_1"], found["y", "bleu_1"]) == (3, 2, 1)
    assert ("y", "distinct_1") in found


def test_rows_are_matched_by_place_where_there_are_no_prompts(tmp_path: Path) -> None:
    one = file(tmp_path / "a.jsonl", [{"output": text} for text in SAID])
    given = file(tmp_path / "r.jsonl", [{"reference": text} for text in KNOWN])
    out, _ = outputs(tmp_path, [str(one)], references=str(given))
    by = {row.metric for row in rows.read(out / "results.json")}
    assert "bleu_4" in by and "copy_rate" not in by


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    path = plain(tmp_path / "a.jsonl")
    lines = path.read_text().splitlines()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.jsonl").write_text("\n".join(lines[::-1]))
    first, _ = outputs(tmp_path, [str(path)])
    second, _ = outputs(tmp_path / "b", [str(tmp_path / "b" / "a.jsonl")])
    one, other = ({r.metric: r for r in rows.read(out / "results.json")} for out in (first, second))
    for name, row in one.items():
        assert row.value == pytest.approx(other[name].value) and row.low == (
            None if row.low is None else pytest.approx(other[name].low)
        )
