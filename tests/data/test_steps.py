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
def test_a_mark_stands_on_the_token_that_holds_the_last_word(pieces: list[str], finish) -> None:
    """Also that of the last step; cut it is behind its separator."""
    tokenizer = merging()
    ids = of(tokenizer, [*pieces, *(["<eos>"] if finish == "eos" else [])])
    find = StepEnds(tokenizer, "\n")
    scored, cuts = find(ids, finish), find.cuts(ids, finish)
    assert len(scored) == len(cuts) == 3 and cuts[-1] == len(ids) - 1
    before = 0
    for line, word, cut in zip(TEXT.splitlines(), scored, cuts, strict=True):
        before += len(line)  # characters up to the end of this line
        assert len("".join(pieces[:word])) < before <= len("".join(pieces[: word + 1]))
        before += 1  # and of its separator, but for the last
        assert cut == cuts[-1] or len("".join(pieces[:cut])) < before <= len("".join(pieces[: cut + 1]))


@pytest.mark.parametrize("make", [make_tokenizer, merging])
def test_what_follows_moves_no_earlier_end(make) -> None:
    """The ends in the ids of a prefix are those in the whole, but for the step that it stops in."""
    tokenizer = make()
    ids = list(tokenizer(TEXT, add_special_tokens=False)["input_ids"])
    find = StepEnds(tokenizer, "\n")
    whole = find([*ids, tokenizer.eos_token_id], "eos")
    for stop in range(1, len(ids)):
        *ended, _ = find(ids[:stop], "length")
        *cut, _ = find.cuts(ids[:stop], "length")
        assert ended == whole[: len(ended)] and cut == find.cuts(ids, "length")[: len(cut)]


def test_blank_lines_are_no_steps() -> None:
    tokenizer = merging()
    find = StepEnds(tokenizer, "\n")

    def ends(*pieces: str) -> list[int]:
        return find(of(tokenizer, [*pieces, "<eos>"]), "eos")

    spread = ["\n", "1", " ", "\n\n", "2", "\n", " ", "\n"]
    assert ends(*spread) == [1, 4] and find.cuts(of(tokenizer, spread), "length") == [3, 5]
    assert ends("1", "\n") == [0]  # nothing behind it: the end token ends no step of its own
    assert ends() == [0] and ends("\n", "\n") == [2]  # not a word: one step
    assert find([], "length") == find.cuts([], "length") == []
    two = StepEnds(tokenizer, "\n\n")
    ids = of(tokenizer, ["1", "\n", "2", "\n\n", "3", "<eos>"])
    assert two(ids, "eos") == [2, 4] and two.cuts(ids, "eos") == [3, 5]


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


def test_the_last_step_is_marked_where_it_will_be_when_something_follows() -> None:
    """Whether the response ends with it or goes on."""
    tokenizer = make_tokenizer()
    prompt = Prompt((Message("user", "1 + 1"),))
    rows = [
        StepMarks(prompt, ("1 + 1 = 2.", "2 = 3."), (1, -1), finish="length"),
        StepMarks(prompt, ("1 + 1 = 2.", "2 = 3."), (1, -1)),
    ]
    cut, ended = prepare_step_marks(tokenizer, rows, max_length=64, separator="\n").examples
    assert tokenizer.decode([int(cut.tokens.ids[cut.ends[-1]])]).endswith(".")
    assert cut.ends == ended.ends and cut.tokens.loss_mask.sum() == 2
    assert ended.tokens.ids[ended.ends[-1] + 1] == tokenizer.eos_token_id


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
