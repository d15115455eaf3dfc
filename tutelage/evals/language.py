"""Language modelling on held-out text: loss, perplexity, bits per byte."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from tutelage import statistics
from tutelage.data.batch import TokenBatch, Tokens
from tutelage.evals.rows import OVERALL, Row, row
from tutelage.models.loading import context_of
from tutelage.models.passes import forward_pass
from tutelage.models.policy import PolicyModule
from tutelage.parallel import World
from tutelage.statistics import Interval


def losses(
    model: PolicyModule,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    world: World,
    *,
    max_tokens: int = 8192,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(nats, tokens, bytes) per document, float64 [n] each.

    The first token of a document has nothing to be predicted from, so neither it nor its bytes are counted; the bytes
    are those of the text that the counted tokens spell, so that tokenizers can be compared. Documents longer than the
    model's context are cut to it.
    """
    limit = context_of(model) or max_tokens
    encoded = [tokenizer(text, add_special_tokens=False)["input_ids"][:limit] for text in texts]
    nats, tokens, size = np.zeros(len(texts)), np.zeros(len(texts)), np.zeros(len(texts))
    kept = [i for i, ids in enumerate(encoded) if len(ids) > 1]
    if not kept:
        return nats, tokens, size
    sequences = [Tokens(np.array(encoded[i], np.int32), np.arange(len(encoded[i])) > 0) for i in kept]
    batch = TokenBatch.collate(sequences, kept).to(world.device)
    logprobs = forward_pass(model, lambda part: model(part).logprobs, batch, "tokens", max_tokens, world)
    for i, values in zip(kept, logprobs.cpu().split(list(batch.lengths)), strict=True):
        nats[i] = -values.double().sum().item()
        tokens[i] = len(encoded[i]) - 1
        whole, first = (str(tokenizer.decode(ids)) for ids in (encoded[i], encoded[i][:1]))
        size[i] = len(whole.encode()) - len(first.encode())
    return nats, tokens, size


def evaluate(
    model: str,
    nats: np.ndarray,
    tokens: np.ndarray,
    size: np.ndarray,
    *,
    seed: int = 0,
    resamples: int = statistics.RESAMPLES,
) -> list[Row]:
    """Rows eval_loss (nats/token), perplexity, bits_per_byte over n documents, bootstrapped by document."""
    loss = statistics.bootstrap_ratio(nats, tokens, seed=seed, resamples=resamples)
    bits = statistics.bootstrap_ratio(nats / math.log(2), size, seed=seed, resamples=resamples)
    perplexity = Interval(math.exp(loss.value), math.exp(loss.low), math.exp(loss.high), loss.n)
    return [
        row(model, "eval_loss", OVERALL, loss, "nats/token"),
        row(model, "perplexity", OVERALL, perplexity, ""),
        row(model, "bits_per_byte", OVERALL, bits, "bits/byte"),
    ]
