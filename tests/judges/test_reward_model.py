"""The reward model as a judge: it scores what was sampled, whichever vocabulary it has itself."""

from __future__ import annotations

import pytest
import torch
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast

from tests.train.making import CPU, TEXT, make_tokenizer
from tutelage.data.batch import TokenBatch, Tokens
from tutelage.data.template import encode_prompts
from tutelage.judges.reward_model import RewardModelJudge
from tutelage.models.loading import load_scalar, save
from tutelage.models.tiny import tiny_model, train_tokenizer
from tutelage.records import Finish, Message, Prompt, Response

PROMPT = Prompt((Message("user", "the cat sat"),))


def response(text: str, finish: Finish) -> Response:
    """As the policy's generator writes it: an end token only where it ended."""
    policy = make_tokenizer()
    ids = policy(text)["input_ids"] + ([policy.eos_token_id] if finish == "eos" else [])
    [prompt] = encode_prompts(policy, [PROMPT])
    return Response(PROMPT, text, tuple(prompt), tuple(ids), (-1.0,) * len(ids), finish)  # type: ignore[arg-type]


def reading_otherwise() -> PreTrainedTokenizerFast:
    """The policy's vocabulary, and another way of cutting text into it."""
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace(" ", "")
    return tokenizer


TOKENIZERS = {
    "the policy's": make_tokenizer,
    "its own": lambda: train_tokenizer([*TEXT, "zebra quagga " * 20], vocab_size=310),
    "its own, of the same pieces": reading_otherwise,
}


@pytest.mark.parametrize("which", TOKENIZERS)
def test_a_cut_response_is_scored_at_its_last_word_and_a_finished_one_at_its_end(
    tmp_path, which: str
) -> None:
    """Also where the text is tokenised anew, for a reward model that does not read the policy's tokens."""
    tokenizer = TOKENIZERS[which]()
    model = tiny_model(tokenizer, hidden=32, layers=1, heads=2, context=96, seed=0)
    scalar = load_scalar(save(model, tokenizer, tmp_path / "reward"))
    with torch.no_grad():
        scalar.head.weight.copy_(torch.linspace(-1, 1, 32)[None])
    judge = RewardModelJudge(scalar, tokenizer, make_tokenizer(), CPU, 512)
    texts: list[tuple[str, Finish]] = [("on the mat.", "eos"), ("on the mat.", "length"), ("", "eos")]
    found = [score.value for score in judge.score([response(*given) for given in texts])]
    [prompt] = encode_prompts(tokenizer, [PROMPT])
    sequences = []
    for text, finish in texts:
        ids = [*prompt, *tokenizer(text)["input_ids"], *([tokenizer.eos_token_id] * (finish == "eos"))]  # type: ignore[misc]
        sequences.append(Tokens(torch.tensor(ids).numpy(), torch.ones(len(ids)).bool().numpy()))
    expected = scalar(TokenBatch.collate(sequences), at="ends").tolist()
    assert found == pytest.approx(expected, abs=1e-5) and len(set(found)) == 3
