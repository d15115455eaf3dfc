"""Where steps end in tokens, whatever the tokenizer makes of their separators."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.train.making import make_tokenizer
from tutelage.data.preflight.steps import prepare_step_marks
from tutelage.data.steps import Line, StepEnds, lines_of, text_of
from tutelage.records import Message, Prompt, StepMarks

TEXT = "1+1=2\n2+1=3\nAnswer: 3"


def merging() -> PreTrainedTokenizerFast:
    """Pieces in which a line break stands together with what is before it, with what is behind it, and with both."""
    pieces = [
        *"0123456789+=:\nabA ",
        "Answer",
        "2\n",
        "\nAnswer",
        "3\n",
        "\n2",
        "\n\n",
        "=3\nAnswer",
        "<eos>",
    ]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<eos>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", bos_token=None)


def of(tokenizer: PreTrainedTokenizerFast, pieces: list[str]) -> list[int]:
    return [tokenizer.get_vocab()[piece] for piece in pieces]


MERGED = [
    ["1", "+", "1", "=", "2", "\n", "2", "+", "1", "=", "3", "\n", "Answer", ":", " ", "3"],
    ["1", "+", "1", "=", "2\n", "2", "+", "1", "=", "3\n", "Answer", ":", " ", "3"],
    ["1", "+", "1", "=", "2", "\n2", "+", "1", "=", "3", "\nAnswer", ":", " ", "3"],
    ["1", "+", "1", "=", "2", "\n2", "+", "1", "=3\nAnswer", ":", " ", "3"],
]


@pytest.mark.parametrize("pieces", MERGED)
@pytest.mark.parametrize("finish", ["eos", "length"])
def test_a_mark_stands_on_the_token_that_holds_the_end(pieces: list[str], finish) -> None:
    tokenizer = merging()
    ids = of(tokenizer, [*pieces, *(["<eos>"] if finish == "eos" else [])])
    found = StepEnds(tokenizer, "\n")(ids, finish)
    assert len(found) == 3 and found[-1] == len(ids) - 1
    before = 0
    for end, line in zip(found[:-1], TEXT.splitlines(), strict=False):
        before += len(line) + 1  # characters up to the end of this separator
        assert len("".join(pieces[:end])) < before <= len("".join(pieces[: end + 1]))


@pytest.mark.parametrize("make", [make_tokenizer, merging])
def test_what_follows_moves_no_earlier_end(make) -> None:
    """The ends in the ids of a prefix are those in the whole, up to where the prefix stops."""
    tokenizer = make()
    ids = list(tokenizer(TEXT, add_special_tokens=False)["input_ids"])
    find = StepEnds(tokenizer, "\n")
    whole = find([*ids, tokenizer.eos_token_id], "eos")
    for stop in range(1, len(ids)):
        prefix = find(ids[:stop], "length")
        assert [end for end in prefix if end < stop - 1] == [end for end in whole if end < stop - 1]


def test_blank_lines_are_no_steps() -> None:
    tokenizer = merging()
    find = StepEnds(tokenizer, "\n")

    def ends(*pieces: str) -> list[int]:
        return find(of(tokenizer, [*pieces, "<eos>"]), "eos")

    assert ends("\n", "1", "\n\n", "2", "\n", " ", "\n") == [2, 4]
    assert ends("1", "\n") == [1]  # nothing behind it: the end token ends no step of its own
    assert ends() == [0] and ends("\n", "\n") == [2]  # not a word: one step
    assert find([], "length") == []
    assert StepEnds(tokenizer, "\n\n")(of(tokenizer, ["1", "\n", "2", "\n\n", "3", "<eos>"]), "eos") == [3, 5]


def test_a_step_of_several_lines_is_cut_where_use_would_cut_it() -> None:
    """Each line of a right one is right; of a wrong one only the last is known to be wrong by then."""
    row = StepMarks(Prompt("p"), ("a\n\nb", "c\nd ", "e\nf"), (1, -1, None))
    assert lines_of(row, "\n") == [
        Line("a", 1, 0), Line("b", 1, 0), Line("c", None, 1), Line("d", -1, 1), Line("e", None, 2), Line("f", None, 2)
    ]  # fmt: skip
    soft = StepMarks(Prompt("p"), ("a\nb", "c\nd"), (1.0, 0.5), soft=True)
    assert [line.label for line in lines_of(soft, "\n")] == [1.0, 1.0, None, 0.5]
    assert text_of(lines_of(row, "\n"), "\n", "eos") == "a\nb\nc\nd\ne\nf"
    assert text_of(lines_of(row, "\n\n"), "\n\n", "length") == "a\n\nb\n\nc\nd\n\ne\nf\n\n"


def test_the_last_step_of_a_response_that_goes_on_is_marked_at_its_separator() -> None:
    """As it will be when something follows it; one that ends is marked at the end token."""
    tokenizer = make_tokenizer()
    prompt = Prompt((Message("user", "1 + 1"),))
    rows = [
        StepMarks(prompt, ("1 + 1 = 2.", "2 = 3."), (1, -1), finish="length"),
        StepMarks(prompt, ("1 + 1 = 2.", "2 = 3."), (1, -1)),
    ]
    cut, ended = prepare_step_marks(tokenizer, rows, max_length=64, separator="\n").examples
    assert tokenizer.decode([int(cut.tokens.ids[cut.ends[-1]])]).endswith("\n")
    assert cut.ends[-1] == len(cut.tokens) - 1
    assert ended.tokens.ids[ended.ends[-1]] == tokenizer.eos_token_id
    assert cut.ends[0] == ended.ends[0] and cut.tokens.loss_mask.sum() == 2


def test_what_teaches_nothing_is_counted() -> None:
    prompt = Prompt("p ")
    rows = [
        StepMarks(prompt, ("a", "b"), (None, None)),
        StepMarks(prompt, ("a", "b"), (0, None)),
        StepMarks(prompt, ("a" * 90,), (1,)),
        StepMarks(prompt, ("a", "b"), (1, -1)),
    ]
    options = {"max_length": 64, "separator": "\n", "max_dropped_share": None}
    report = prepare_step_marks(make_tokenizer(), rows, neutral="drop", **options).report
    assert report.kept == 1 and report.dropped == {
        "with no step that is marked": 1,
        "whose marked steps are all neutral (neutral=drop)": 1,
        "whose response alone is longer than max_length=64": 1,
    }
    known = [StepMarks(prompt, ("a",), (None,), outcome=outcome) for outcome in (True, False, None)]
    found = prepare_step_marks(make_tokenizer(), known, about="outcome-tokens", **options)
    assert found.report.dropped == {"whose outcome is not known": 1}
    assert [item.labels.tolist() for item in found.examples] == [[1.0, 1.0], [0.0, 0.0]]
