"""A process reward model as a judge: its score of the whole, and what of it stands where."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForTokenClassification

from tests.train.making import CPU, TEXT, make_tokenizer
from tutelage.data.template import encode
from tutelage.judges.build import build_judge
from tutelage.judges.judge import scores_of
from tutelage.judges.process import ProcessJudge, so_far
from tutelage.models.loading import load_scalar, save
from tutelage.models.step_head import StepHead
from tutelage.models.tiny import tiny_model, train_tokenizer
from tutelage.records import Finish, Prompt, Response

PROMPT = Prompt("the cat sat ")
STEPS = ("on the mat.", "a dog ran.", "1 + 2 = 3.")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    tokenizer = make_tokenizer()
    model = tiny_model(tokenizer, hidden=32, layers=1, heads=2, context=96, seed=0)
    scalar = load_scalar(save(model, tokenizer, tmp_path_factory.mktemp("base") / "model"))
    StepHead().keep(scalar)
    with torch.no_grad():
        scalar.head.weight.copy_(torch.linspace(-0.2, 0.3, 32)[None])
    return save(scalar, tokenizer, tmp_path_factory.mktemp("process") / "model")


def response(text: str, finish: Finish = "eos") -> Response:
    [found] = encode(make_tokenizer(), [(PROMPT, text, finish)])
    ids = tuple(found.response)  # type: ignore[union-attr]
    return Response(PROMPT, text, tuple(found.prompt), ids, (-1.0,) * len(ids), finish)  # type: ignore[union-attr]


def judge(folder, **options) -> ProcessJudge:
    made = build_judge([{"judge": str(folder), **options}], CPU, make_tokenizer(), 512)
    return made._parts[0].judge  # type: ignore[attr-defined]


def test_the_reward_at_tokens_by_hand() -> None:
    """Steps that are right with .9, .5 and .8: the running product is .9, .45, .36; and so on."""
    right = np.array([0.9, 0.5, 0.8])
    expected = {
        "product": [0.9, -0.45, -0.09],
        "minimum": [0.9, -0.4, 0.0],
        "mean": [0.9, -0.2, 0.1 / 3],
        "last": [0.9, -0.4, 0.3],
    }
    for combine, gained in expected.items():
        assert np.diff(so_far(right, combine), prepend=0.0) == pytest.approx(gained)  # type: ignore[arg-type]


@pytest.mark.parametrize("combine", ["product", "minimum", "mean", "last"])
def test_what_stands_at_the_steps_is_the_whole(folder, combine: str) -> None:
    """As many places as steps, at the tokens with their last words; summed they are the score."""
    said = response("\n".join(STEPS))
    [score] = scores_of(judge(folder, combine=combine), [said])
    [whole] = scores_of(judge(folder, combine=combine, places="end"), [said])
    assert score.value == whole.value == score.parts[combine] and whole.at == ()
    assert math.fsum(value for _, value in score.at) == pytest.approx(score.value, rel=1e-12)
    tokens = [token for token, _ in score.at]
    spelled = [make_tokenizer().decode([said.ids[token]]) for token in tokens]
    assert len(tokens) == 3 and all("." in piece for piece in spelled) and tokens[-1] == len(said.ids) - 2


def test_the_score_of_a_step_is_unchanged_by_what_follows(folder) -> None:
    """And by the other responses that are scored with it."""
    asked = judge(folder, combine="last")
    texts = ["\n".join(STEPS[:count]) + "\n" for count in (1, 2, 3)]
    alone = [scores_of(asked, [response(text, "length")])[0].value for text in texts]
    [together] = scores_of(asked, [response(texts[-1] + "red.")])
    running = np.cumsum([value for _, value in together.at])
    assert running[:3].tolist() == pytest.approx(alone, abs=1e-6) and len(running) == 4
    both = scores_of(asked, [response(text, "length") for text in texts])
    assert [score.value for score in both] == pytest.approx(alone, abs=1e-6)


def test_one_with_another_tokenizer_says_it_of_the_policy_s_tokens(folder, tmp_path) -> None:
    """Read as text; the places are where the policy's own tokens end the steps."""
    tokenizer = train_tokenizer([*TEXT, "zebra quagga " * 20], vocab_size=310)
    model = load_scalar(
        save(
            tiny_model(tokenizer, hidden=32, layers=1, heads=2, context=96, seed=0), tokenizer, tmp_path / "m"
        )
    )
    other = ProcessJudge(model, tokenizer, make_tokenizer(), CPU, 512, StepHead())
    said = response("\n".join(STEPS))
    [score], [own] = scores_of(other, [said]), scores_of(judge(folder), [said])
    assert [token for token, _ in score.at] == [token for token, _ in own.at]
    assert math.fsum(value for _, value in score.at) == pytest.approx(score.value, rel=1e-12)


def test_one_of_an_earlier_version_is_refused(folder) -> None:
    """It would be read where it was never trained."""
    config = AutoConfig.from_pretrained(folder)
    assert StepHead.of(config) == StepHead()
    del config.tutelage_process["scored_at"]
    with pytest.raises(ValueError, match="earlier version, to score a step at its separator"):
        StepHead.of(config)
    config.tutelage_process["about"] = "outcome"  # is scored where it was
    assert StepHead.of(config) == StepHead(about="outcome")


def plain_values(folder, ids: list[int]) -> list[float]:
    """What plain transformers says at every token."""
    plain = AutoModelForTokenClassification.from_pretrained(folder).eval()
    return plain(torch.tensor([ids])).logits[0, :, -1].sigmoid().tolist()


def test_a_verifier_of_outcomes_reads_the_last_token(folder) -> None:
    model = load_scalar(folder, fresh_head=False)
    said = response("\n".join(STEPS))
    tokenizer = make_tokenizer()
    with torch.no_grad():
        values = plain_values(folder, [*said.prompt_ids, *said.ids])
    for about, places in (("outcome", 1), ("outcome-tokens", len(said.ids))):
        made = ProcessJudge(model, tokenizer, tokenizer, CPU, 512, StepHead(about=about))  # type: ignore[arg-type]
        [score] = scores_of(made, [said])
        assert score.value == pytest.approx(values[-1], abs=1e-6) and len(score.at) == places
        assert math.fsum(value for _, value in score.at) == pytest.approx(score.value, rel=1e-9)


def test_its_options_are_for_it_alone(folder, tmp_path) -> None:
    tokenizer = make_tokenizer()
    model = load_scalar(
        save(
            tiny_model(tokenizer, hidden=32, layers=1, heads=2, context=96, seed=0), tokenizer, tmp_path / "m"
        )
    )
    save(model, tokenizer, tmp_path / "reward")
    with pytest.raises(
        ValueError, match="scores whole responses: combine and places are for a process reward"
    ):
        build_judge([{"judge": str(tmp_path / "reward"), "combine": "minimum"}], CPU)
    with pytest.raises(ValueError, match="combine"):
        build_judge([{"judge": str(folder), "combine": "sum"}], CPU)
