"""Language modelling on held-out text: loss, perplexity, bits per byte, on the tokens that training would see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from tutelage import statistics
from tutelage.data.batch import TokenBatch, Tokens
from tutelage.data.encoding import Encoder
from tutelage.data.template import encode_documents
from tutelage.evals.rows import OVERALL, Row, row
from tutelage.models.loading import context_of
from tutelage.models.passes import forward_pass
from tutelage.models.policy import PolicyModule
from tutelage.parallel import World
from tutelage.records import Document
from tutelage.statistics import Interval


@dataclass(frozen=True)
class Losses:
    """What a model makes of n documents; float64 [n] each.

    nats over `tokens` predicted tokens, the end of the document among them as in training; text_nats over those tokens that
    spell text, and `size` the bytes of UTF-8 that they spell, so that tokenizers can be compared.
    """

    nats: np.ndarray
    tokens: np.ndarray
    text_nats: np.ndarray
    size: np.ndarray


def losses(
    model: PolicyModule,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Document],
    world: World,
    *,
    max_tokens: int = 8192,
) -> Losses:
    """The losses of each document, tokenised as `pretrain` does it: start token (where the tokenizer has one), text, end.

    A first token that nothing comes before cannot be predicted: neither it nor its bytes are counted.  A document longer
    than the model's context is cut to it, and then has no end.  Nothing is counted of a document without text.
    """
    limit = context_of(model) or max_tokens
    encoded = encode_documents(tokenizer, documents)
    found = Losses(*(np.zeros(len(documents)) for _ in range(4)))
    kept = [i for i, tokens in enumerate(encoded) if documents[i].text.strip() and len(tokens) > 1]
    if not kept:
        return found
    cut = [Tokens(encoded[i].ids[:limit], encoded[i].loss_mask[:limit]) for i in kept]
    batch = TokenBatch.collate(cut, kept).to(world.device)
    logprobs = forward_pass(model, lambda part: model(part).logprobs, batch, "tokens", max_tokens, world)
    start = len(Encoder(tokenizer).start_ids)
    for i, tokens, values in zip(kept, cut, logprobs.cpu().split(list(batch.lengths)), strict=True):
        nats, ended = -values.double().numpy(), len(tokens) == len(encoded[i])
        first, stop = max(start, 1), len(tokens) - ended
        found.nats[i], found.tokens[i] = nats[1:].sum(), len(tokens) - 1
        found.text_nats[i] = nats[first:stop].sum()
        found.size[i] = _size(tokenizer, tokens.ids[start:stop]) - _size(tokenizer, tokens.ids[start:first])
    return found


def _size(tokenizer: PreTrainedTokenizerBase, ids: np.ndarray) -> int:
    """Bytes of the text that the ids spell."""
    return len(str(tokenizer.decode(ids.tolist())).encode())


def evaluate(
    model: str,
    found: Losses,
    *,
    seed: int = 0,
    resamples: int = statistics.RESAMPLES,
) -> list[Row]:
    """Rows eval_loss (nats/token), perplexity, bits_per_byte over n documents, bootstrapped by document."""
    loss = statistics.bootstrap_ratio(found.nats, found.tokens, seed=seed, resamples=resamples)
    bits = statistics.bootstrap_ratio(
        found.text_nats / math.log(2), found.size, seed=seed, resamples=resamples
    )
    perplexity = Interval(math.exp(loss.value), math.exp(loss.low), math.exp(loss.high), loss.n)
    return [
        row(model, "eval_loss", OVERALL, loss, "nats/token"),
        row(model, "perplexity", OVERALL, perplexity, ""),
        row(model, "bits_per_byte", OVERALL, bits, "bits/byte"),
    ]
