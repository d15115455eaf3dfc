"""Language modelling on held-out text: loss, perplexity, bits per byte."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tutelage.data.batch import TokenBatch, Tokens
from tutelage.evals import statistics
from tutelage.evals.rows import OVERALL, Row, row
from tutelage.evals.statistics import Interval
from tutelage.models.forward import response_logprobs


@torch.no_grad()
def losses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_tokens: int = 8192,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(nats, tokens, bytes) per document, float64 [n] each.

    The first token of a document has nothing to be predicted from, so neither it nor its bytes are counted; the bytes
    are those of the text that the counted tokens spell, so that tokenizers can be compared. Documents longer than the
    model's context are cut to it.
    """
    limit = getattr(model.config, "max_position_embeddings", None) or max_tokens
    encoded = [tokenizer(text, add_special_tokens=False)["input_ids"][:limit] for text in texts]
    kept = [i for i, ids in enumerate(encoded) if len(ids) > 1]
    nats, tokens, size = np.zeros(len(texts)), np.zeros(len(texts)), np.zeros(len(texts))
    if not kept:
        return nats, tokens, size
    sequences = [Tokens(np.array(encoded[i], np.int32), np.arange(len(encoded[i])) > 0) for i in kept]
    device = next(model.parameters()).device
    for part in TokenBatch.collate(sequences, kept).split(max_tokens):
        logprobs = response_logprobs(model, part.to(device)).logprobs.double().cpu().split(list(part.lengths))
        for number, values in zip(part.rows, logprobs, strict=True):
            nats[number] = -values.sum().item()
            tokens[number] = len(encoded[number]) - 1
            whole, first = (
                len(tokenizer.decode(ids).encode()) for ids in (encoded[number], encoded[number][:1])
            )
            size[number] = whole - first
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
    perplexity = Interval(*(math.exp(x) for x in (loss.value, loss.low, loss.high)), loss.n)
    return [
        row(model, "eval_loss", OVERALL, loss, "nats/token"),
        row(model, "perplexity", OVERALL, perplexity, ""),
        row(model, "bits_per_byte", OVERALL, bits, "bits/byte"),
    ]
