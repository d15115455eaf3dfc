"""Preflight: rows kept, cut and dropped are all counted, and the counts are those of the examples."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from tests.data.kit import STRICT, WithDropped, ask, byte_level, chat, tiny
from tutelage.data.preflight import progress, work
from tutelage.data.preflight.report import Preflight
from tutelage.data.preflight.responses import prepare_comparisons
from tutelage.data.preflight.texts import prepare_demonstrations, prepare_documents, prepare_prompts
from tutelage.data.reading.formats import Dropped
from tutelage.data.template import (
    end_token_id,
    tokenize,
    tokenize_conversation,
    tokenize_document,
    tokenize_prompt,
)
from tutelage.records import Comparison, Conversation, Demonstration, Document, Message, Place, Prompt

LONG = " ".join(["sat"] * 70)


def test_demonstrations() -> None:
    rows: list[Demonstration | Conversation] = [
        Demonstration(ask("How many?"), "Three cats"),
        Demonstration(ask("How many?"), "  "),
        Demonstration(ask(LONG), "Three"),
        Demonstration(ask("How many?"), LONG),
        Conversation(chat("How many?", "Three", "Sure?", "Yes")),
        Conversation(chat(LONG, "Three")),
        Conversation(chat("How many?")),
    ]
    dropped = [Dropped(Place("a.jsonl", n), "that is odd") for n in (8, 11)]
    ready = prepare_demonstrations(
        tiny(), WithDropped(rows, dropped), max_length=64, source="a.jsonl", max_dropped_share=0.9
    )
    report = ready.report
    assert list(ready.examples.table.rows) == [0, 2, 4]
    assert (report.rows, report.kept, report.truncated) == (9, 3, 1)
    assert report.dropped == {
        "with an empty response": 1,
        "whose response alone is longer than max_length=64": 1,
        "longer than max_length=64": 1,
        "with no assistant turn": 1,
        "that is odd": 2,
    }
    assert report.dropped_places["with an empty response"] == {"row": [2]}
    assert report.dropped_rows()[-2:] == [
        {"file": "a.jsonl", "line": n, "reason": "that is odd"} for n in (8, 11)
    ]
    assert sum(report.dropped.values()) + report.kept == report.rows
    first = tokenize(tiny(), rows[0].prompt, rows[0].response)
    assert ready.examples[0].ids.tolist() == first.ids.tolist()
    cut = ready.examples[1]
    assert len(cut) == 64 and cut.ids[-1] == tiny().eos_token_id and cut.loss_mask[-1]
    whole = tokenize(tiny(), rows[2].prompt, rows[2].response)
    trained = int(whole.loss_mask.sum())
    assert (
        cut.ids[-trained:].tolist() == whole.ids[-trained:].tolist() and int(cut.loss_mask.sum()) == trained
    )
    assert ready.examples[2].ids.tolist() == tokenize_conversation(tiny(), rows[4])[0].ids.tolist()
    assert report.tokens == sum(len(tokens) for tokens in ready.examples)
    assert report.trained_tokens == sum(int(tokens.loss_mask.sum()) for tokens in ready.examples)
    assert report.lengths["max"] == 64 and report.lengths["min"] == min(map(len, ready.examples))


def test_without_truncation_long_rows_are_dropped() -> None:
    rows = [Demonstration(ask(LONG), "Three"), Demonstration(ask("How many?"), "Three")]
    ready = prepare_demonstrations(tiny(), rows, max_length=64, truncate_prompts=False, max_dropped_share=0.5)
    assert list(ready.examples.table.rows) == [1] and ready.report.dropped == {"longer than max_length=64": 1}


def test_comparisons_keep_one_prompt_for_both() -> None:
    rows = [
        Comparison(ask("How many?"), "Three", "Nine cats and a dog", p_chosen=0.75, margin=1.0),
        Comparison(ask("How many?"), "same", "same"),
        Comparison(ask("How many?"), "same", "same<|eos|>"),  # the same once tokenised
        Comparison(ask(LONG), "Three", "Nine cats and a dog"),
        Comparison(ask("How many?"), "Three", ""),
        Comparison(ask("How many?"), "Three", LONG),
    ]
    ready = prepare_comparisons(tiny(), rows, max_length=64, max_dropped_share=0.9)
    assert list(ready.examples.table.rows) == [0, 3, 4]
    assert ready.report.dropped == {
        "with identical chosen and rejected": 2,
        "whose response alone is longer than max_length=64": 1,
    }
    first, cut, _ = ready.examples
    assert (first.p_chosen, first.margin) == (0.75, 1.0)
    assert first.chosen.ids.tolist() == tokenize(tiny(), rows[0].prompt, "Three").ids.tolist()
    assert first.rejected.ids.tolist() == tokenize(tiny(), rows[0].prompt, "Nine cats and a dog").ids.tolist()
    prompts = [side.ids[~side.loss_mask].tolist() for side in (cut.chosen, cut.rejected)]
    assert prompts[0] == prompts[1] and len(cut.rejected) == 64 > len(cut.chosen)


@pytest.mark.parametrize("prompt", [ask("How many?"), Prompt("How many?")])
def test_an_empty_response_is_its_end(prompt: Prompt) -> None:
    """What the model wrote when it only ended: the ids that PPO would score, trained and scored at the end token."""
    rows = [
        Comparison(prompt, "", "Three"),
        Comparison(prompt, "Three", " \n"),
        Comparison(prompt, "", ""),
        Comparison(prompt, "", "<|eos|>"),
    ]
    ready = prepare_comparisons(tiny(), rows, max_length=64, max_dropped_share=0.5)
    assert list(ready.examples.table.rows) == [0, 1] and ready.report.dropped == {
        "with identical chosen and rejected": 2
    }
    empty, end = ready.examples[0].chosen, end_token_id(tiny(), prompt.is_chat)
    assert empty.ids.tolist() == [*tokenize_prompt(tiny(), prompt), end]
    assert empty.loss_mask.tolist() == [False] * (len(empty) - 1) + [True]


def test_an_empty_demonstration_is_a_gap_in_the_data() -> None:
    silent = chat("How many?", "Three", "Sure?", "")
    rows = [Demonstration(ask("a"), ""), Conversation(silent), Conversation(chat("a", "b"))]
    report = prepare_demonstrations(tiny(), rows, max_length=64, max_dropped_share=0.9).report
    assert report.dropped == {"with an empty response": 1, "with an empty assistant turn": 1}


def test_a_cut_demonstration_has_no_end() -> None:
    rows = [
        Demonstration(ask("How many?"), "Three cats sat on", "length"),
        Demonstration(Prompt("How many?"), " Three cats sat on ", "length"),
        Demonstration(ask("How many?"), "Three cats."),
        Demonstration(ask(LONG), "Three cats sat on", "length"),
    ]
    ready = prepare_demonstrations(tiny(), rows, max_length=64)
    assert ready.report.cut == 3 and "3 responses have no end" in on_screen(ready.report)
    end, decode = tiny().eos_token_id, tiny().decode
    for row, tokens in zip(rows, ready.examples, strict=True):
        said = tokens.ids[tokens.loss_mask].tolist()
        assert (said[-1] == end) == (row.finish == "eos")
        assert decode([i for i in said if i != end]) == row.response
    assert len(ready.examples[3]) == 64  # room for the end that it does not have
    dropped = prepare_demonstrations(tiny(), rows, max_length=64, cut_responses="drop", max_dropped_share=0.8)
    assert list(dropped.examples.table.rows) == [2] and dropped.report.cut == 0
    with pytest.raises(ValueError, match=r"3 of 4 .* set cut_responses=keep, correct these rows"):
        prepare_demonstrations(tiny(), rows, max_length=64, cut_responses="drop")


def test_a_cut_response_of_a_pair_has_no_end() -> None:
    """The ids are those that were sampled, so the reward model sees what it will score."""
    text = "Three cats sat on"
    rows = [
        Comparison(ask("How many?"), "Three", text, rejected_finish="length"),
        Comparison(ask("How many?"), text, text, rejected_finish="length"),  # its end is what is preferred
        Comparison(ask("How many?"), text, text, chosen_finish="length", rejected_finish="length"),
        Comparison(ask("How many?"), text, "", rejected_finish="length"),
    ]
    ready = prepare_comparisons(tiny(), rows, max_length=64, max_dropped_share=0.5)
    assert list(ready.examples.table.rows) == [0, 1] and ready.report.cut == 2
    assert ready.report.dropped == {
        "with identical chosen and rejected": 1,
        "with a response that was cut before its first word": 1,
    }
    whole = tokenize(tiny(), rows[0].prompt, text).ids.tolist()
    for pair in ready.examples:
        assert pair.rejected.ids.tolist() == whole[:-1] and pair.rejected.loss_mask[-1]
    assert ready.examples[1].chosen.ids.tolist() == whole
    dropped = prepare_comparisons(
        tiny(),
        [*rows[:2], Comparison(ask("a"), "b", "c")],
        max_length=64,
        cut_responses="drop",
        max_dropped_share=0.7,
    )
    assert list(dropped.examples.table.rows) == [2]


def test_a_cut_document_has_no_end() -> None:
    rows = [Document("The cat sat on", "length"), Document("The cat sat on")]
    ready = prepare_documents(tiny(), rows)
    cut, whole = (tokens.ids.tolist() for tokens in ready.examples)
    assert whole == [*cut, tiny().eos_token_id] and ready.report.cut == 1


def on_screen(report: Preflight) -> str:
    stream = io.StringIO()
    report.show(Console(file=stream, width=120))
    return stream.getvalue()


def test_documents_are_kept_whole() -> None:
    rows = [
        Document("The cat sat."),
        Document(" \n"),
        Document(LONG),
        Conversation(chat("How many?", "Three")),
    ]
    ready = prepare_documents(tiny(), rows, max_dropped_share=0.5)
    assert list(ready.examples.table.rows) == [0, 2, 3] and ready.report.dropped == {"with no text": 1}
    assert ready.examples[1].ids.tolist() == tokenize_document(tiny(), rows[2]).ids.tolist()
    every = sum(len(tokens) - 1 for tokens in ready.examples[:2]) + int(ready.examples[2].loss_mask.sum())
    assert ready.report.trained_tokens == every  # nothing comes before a document's first token


def test_prompts() -> None:
    prompts = [ask("How many?"), ask(LONG), Prompt("plain")]
    given = {"max_length": 32, "too_long": "longer than the 32 tokens that max_new_tokens=8 leaves"}
    ready = prepare_prompts(tiny(), prompts, **given, max_dropped_share=0.5)
    assert list(ready.examples) == [prompts[0], prompts[2]] and ready.report.dropped == {given["too_long"]: 1}
    with pytest.raises(
        ValueError, match="lower max_new_tokens, correct these rows or raise max_dropped_share"
    ):
        prepare_prompts(tiny(), prompts, **given)


def test_rows_the_template_refuses_are_counted() -> None:
    twice = Prompt((Message("user", "a"), Message("user", "b")))
    rows = [Demonstration(ask("How many?"), "Three"), Demonstration(twice, "c")]
    report = prepare_demonstrations(
        byte_level(STRICT, bos=True), rows, max_length=64, max_dropped_share=0.5
    ).report
    assert report.dropped == {"that the chat template refuses (roles must alternate)": 1}


def test_many_rows_are_the_same_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "CHUNK", 7)
    monkeypatch.setattr(progress, "PATIENCE", -1.0)  # so that the progress bar is drawn too
    rows = [
        Demonstration(ask(f"How many {i % 5}?") if i % 3 else Prompt(f"plain {i}"), f"answer {i}")
        for i in range(40)
    ]
    console = Console(file=io.StringIO())
    ready = prepare_demonstrations(tiny(), rows, max_length=64, console=console)
    alone = [tokenize(tiny(), row.prompt, row.response) for row in rows]
    assert [tokens.ids.tolist() for tokens in ready.examples] == [tokens.ids.tolist() for tokens in alone]


def test_too_much_dropped_stops() -> None:
    rows = [Comparison(ask("How many?"), "same", "same")] * 2 + [Comparison(ask("How many?"), LONG, "Nine")]
    rows += [Comparison(ask("How many?"), "Three", "Nine")]
    with pytest.raises(ValueError) as caught:
        prepare_comparisons(tiny(), rows, max_length=32, source="pairs.jsonl")
    assert str(caught.value) == (
        "3 of 4 comparisons from pairs.jsonl would be dropped, more than max_dropped_share=0.1: 2 with identical chosen "
        "and rejected (row 1, 2), 1 whose response alone is longer than max_length=32 (row 3); raise max_length, correct "
        "these rows or raise max_dropped_share"
    )
    assert prepare_comparisons(
        tiny(), rows, max_length=32, max_dropped_share=0.75
    ).examples.table.rows.tolist() == [3]


def test_nothing_left_stops_whatever_the_share() -> None:
    rows = [Comparison(ask("How many?"), "same", "same")]
    with pytest.raises(
        ValueError, match=r"1 of 1 comparisons would be dropped, so nothing is left.*identical"
    ):
        prepare_comparisons(tiny(), rows, max_length=32, max_dropped_share=1.0)


def test_report_on_screen_and_in_the_run_folder() -> None:
    rows = [Demonstration(ask("How many [b]cats[/b]?"), "Three"), Demonstration(ask("How many?"), "")]
    report = prepare_demonstrations(
        tiny(), rows, max_length=64, source="a.jsonl", max_dropped_share=0.5
    ).report
    text = on_screen(report)
    for part in (
        "demonstrations from a.jsonl",
        "2 read, 1 kept",
        "1 with an empty response (row 2)",
        "at most 64",
        "<|user|>How many [b]cats[/b]?<|assistant|>⟦Three<|eos|>⟧",
    ):
        assert part in text
    saved = json.loads(json.dumps(report.to_json()))
    assert saved["example"] == "<|user|>How many [b]cats[/b]?<|assistant|>⟦Three<|eos|>⟧"
    assert saved["dropped_share"] == 0.5 and saved["dropped"] == {"with an empty response": 1}
