"""A language model in this process as a judge: its probabilities are plain transformers', and its words are generated."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.train.making import TEXT
from tutelage.judges.build import Calls, build_judge
from tutelage.judges.inputs import note_judge
from tutelage.judges.llm.asking import Call
from tutelage.judges.llm.judge import LLMJudge
from tutelage.judges.llm.local import apart
from tutelage.models.loading import save
from tutelage.models.tiny import tiny_model, train_tokenizer
from tutelage.records import Prompt, Response
from tutelage.runs import Run
from tutelage.settings.feedback import LabelSettings
from tutelage.store import Store

PROMPT = Prompt("the cat sat")
PAIRS = [
    (Response.written(PROMPT, "on the mat."), Response.written(PROMPT, "a dog ran.")),
    (Response.written(Prompt("1 + 2"), "3"), Response.written(Prompt("1 + 2"), "4 is a longer one.")),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = train_tokenizer([*TEXT, "0 1 2 3 4 5 6 7 8 9 10 " * 20], vocab_size=320)
    made = tiny_model(tokenizer, hidden=32, layers=2, heads=2, context=2048, seed=3)
    return save(made, tokenizer, tmp_path_factory.mktemp("local") / "model")


def judge(model: Path, folder: Path, **options: object) -> LLMJudge:
    made = build_judge([{"judge": f"llm:{model}", **options}], calls=Calls(str(folder / "calls.sqlite")))
    assert isinstance(made, LLMJudge)
    return made


def test_it_is_an_input_of_the_run_that_asks_it(model: Path, tmp_path: Path) -> None:
    """As a reward model is; one behind an address is not here."""
    run = Run.open(tmp_path / "run", "label", LabelSettings(out=tmp_path / "run"), Console(quiet=True))
    try:
        note_judge(
            run, "judge", [{"judge": f"llm:{model}"}, {"judge": "llm:far", "url": "http://localhost:1/v1"}]
        )
        note_judge(run, "reward", "world")
        run.begin()
    finally:
        run.close()
    inputs = json.loads((tmp_path / "run" / "lineage.json").read_text())["inputs"]
    assert [(one["name"], one["path"]) for one in inputs] == [("judge", str(model))] and inputs[0]["sha256"]


@torch.no_grad()
def begins(model: Path, call: Call, words: list[str]) -> list[float]:
    """The probability of each word as the beginning of the answer, by plain transformers."""
    plain, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    messages = [dict(message) for message in call.messages]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    start, found = tokenizer(text, add_special_tokens=False)["input_ids"], []
    for word in words:
        ids = tokenizer(word, add_special_tokens=False)["input_ids"]
        logprobs = plain(torch.tensor([start + ids])).logits[0].double().log_softmax(-1)
        found.append(
            math.exp(sum(logprobs[len(start) - 1 + at, token].item() for at, token in enumerate(ids)))
        )
    return found


def test_its_first_words_are_weighed_as_plain_transformers_does(model: Path, tmp_path: Path) -> None:
    made = judge(model, tmp_path, mode="logits")
    votes = made.compare(PAIRS)
    for vote, pair in zip(votes, PAIRS, strict=True):
        shown = []
        for call in made.calls_for([pair]):
            first, second = begins(model, call, ["1", "2"])
            shown.append(first / (first + second))
        assert vote is not None
        assert vote.for_first == pytest.approx(0.5 + (shown[0] - shown[1]) / 2, abs=1e-5)
    with Store(tmp_path / "calls.sqlite") as store:
        [spent] = store.spent(None).values()
    assert (spent.answered, spent.cost) == (4, 0.0)
    back = judge(model, tmp_path, mode="logits").compare([(second, first) for first, second in PAIRS])
    assert [v and v.for_first for v in back] == [1 - v.for_first for v in votes if v]


def test_ratings_are_expected_values_over_whole_numbers(model: Path, tmp_path: Path) -> None:
    """ "10" begins with "1", and is not 1."""
    made = judge(model, tmp_path, mode="logits", template="rating")
    [score] = made.score([PAIRS[0][0]])
    call = made.calls_for(PAIRS[:1])[0]
    numbers = list(map(str, range(1, 11)))
    weights = dict(zip(numbers, begins(model, call, numbers), strict=True))
    weights["1"] -= weights["10"]
    expected = sum(int(number) * weight for number, weight in weights.items()) / sum(weights.values())
    assert score is not None and score.value == pytest.approx((expected - 1) / 9, abs=1e-4)
    assert apart({"1": math.log(0.5), "10": math.log(0.2)}) == pytest.approx(
        {"1": math.log(0.3), "10": math.log(0.2)}
    )


def test_in_text_it_writes_and_one_that_says_nothing_gives_no_vote(model: Path, tmp_path: Path) -> None:
    made = judge(model, tmp_path, max_tokens=8)
    assert made.compare(PAIRS) == [None, None]
    assert (made.tally.answers, made.tally.unparsed) == (4, 4)
    with Store(tmp_path / "calls.sqlite") as store:
        [spent] = store.spent(None).values()
    assert spent.answered == 8 and 8 <= spent.completion_tokens <= 64  # each was asked once more
    again = judge(model, tmp_path, max_tokens=8)
    assert again.compare(PAIRS) == [None, None] and again.asker.spent() == spent


def test_a_question_longer_than_its_context_is_one_sentence(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXT, vocab_size=300)
    small = save(
        tiny_model(tokenizer, hidden=32, layers=1, heads=2, context=64, seed=0), tokenizer, tmp_path / "m"
    )
    with pytest.raises(ValueError, match="longer than its context of 64 tokens"):
        judge(small, tmp_path, mode="logits").compare(PAIRS)
