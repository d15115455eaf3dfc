"""Language modelling on held-out text: loss and perplexity on the tokens that training would see, and bits per byte and
perplexity per word, which models with different tokenizers share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from transformers import PreTrainedTokenizerBase

from tutelage import statistics
from tutelage.data.batch import TokenBatch, Tokens
from tutelage.data.encoding import Encoder
from tutelage.data.template import encode_documents
from tutelage.evals.rows import OVERALL, Row, row
from tutelage.models.loading import context_of, same_tokenizer
from tutelage.models.passes import forward_pass
from tutelage.models.policy import PolicyModule
from tutelage.parallel import World
from tutelage.records import Document
from tutelage.statistics import Interval


@dataclass(frozen=True)
class Losses:
    """What a model makes of n documents; float64 [n] each.

    nats over `tokens` predicted tokens, the end of the document among them as in training; text_nats over those tokens that
    spell text, and `size` the bytes of UTF-8 that they spell, so that tokenizers can be compared.  whole_nats: of the whole
    text, all tokens that spell it and not its end (`_whole`), and `words` its words between white space: the same for every
    model.
    """

    nats: np.ndarray
    tokens: np.ndarray
    text_nats: np.ndarray
    size: np.ndarray
    whole_nats: np.ndarray
    words: np.ndarray


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
    found = Losses(*(np.zeros(len(documents)) for _ in fields(Losses)))
    kept = [i for i, tokens in enumerate(encoded) if documents[i].text.strip() and len(tokens) > 1]
    cut = [Tokens(encoded[i].ids[:limit], encoded[i].loss_mask[:limit]) for i in kept]
    start = len(Encoder(tokenizer).start_ids)
    again = []
    for i, tokens, logprobs in zip(kept, cut, _logprobs(model, cut, world, max_tokens), strict=True):
        nats, whole = -logprobs, len(tokens) == len(encoded[i])
        first, stop = max(start, 1), len(tokens) - (whole and documents[i].finish == "eos")
        found.nats[i], found.tokens[i] = nats[1:].sum(), len(tokens) - 1
        found.text_nats[i] = nats[first:stop].sum()
        found.size[i] = _size(tokenizer, tokens.ids[start:stop]) - _size(tokenizer, tokens.ids[start:first])
        found.whole_nats[i], found.words[i] = found.text_nats[i], len(documents[i].text.split())
        if not whole or not start:
            again.append(i)
    spelled = [encoded[i].ids[start : len(encoded[i]) - (documents[i].finish == "eos")] for i in again]
    found.whole_nats[again] = _whole(model, tokenizer, spelled, world, limit, max_tokens)
    return found


def _whole(
    model: PolicyModule,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[np.ndarray],
    world: World,
    limit: int,
    max_tokens: int,
) -> list[float]:
    """Nats of every token of each text, as the lm-eval harness counts them: before the first stands the start token, where the
    tokenizer has none the end token; what is longer than the context is read in windows, each with one token of the last one
    before it."""
    encoder = Encoder(tokenizer)
    before = encoder.start_ids or [encoder.eos_id]
    windows, owners = [], []
    for number, ids in enumerate(texts):
        sequence = np.array([*before, *ids], np.int32)
        for at in range(0, len(sequence) - 1, limit - 1):
            part = sequence[at : at + limit]
            windows.append(Tokens(part, np.ones(len(part), bool)))
            owners.append(number)
    sums = [0.0] * len(texts)
    for owner, values in zip(owners, _logprobs(model, windows, world, max_tokens), strict=True):
        sums[owner] -= float(values[1:].sum())
    return sums


def _logprobs(
    model: PolicyModule, sequences: Sequence[Tokens], world: World, max_tokens: int
) -> Iterator[np.ndarray]:
    """For each sequence float64 [T]: log p of its tokens, of the first nothing that means something."""
    if not sequences:
        return iter(())
    batch = TokenBatch.collate(sequences).to(world.device)
    found = forward_pass(model, lambda part: model(part).logprobs, batch, "tokens", max_tokens, world)
    return (part.double().numpy() for part in found.cpu().split(list(batch.lengths)))


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
    """Rows eval_loss (nats/token), perplexity, perplexity_words, bits_per_byte over n documents, bootstrapped by document."""
    loss = statistics.bootstrap_ratio(found.nats, found.tokens, seed=seed, resamples=resamples)
    bits = statistics.bootstrap_ratio(
        found.text_nats / math.log(2), found.size, seed=seed, resamples=resamples
    )
    words = statistics.bootstrap_ratio(found.whole_nats, found.words, seed=seed, resamples=resamples)
    return [
        row(model, "eval_loss", OVERALL, loss, "nats/token"),
        row(model, "perplexity", OVERALL, _exponential(loss), ""),
        row(model, "perplexity_words", OVERALL, _exponential(words), ""),
        row(model, "bits_per_byte", OVERALL, bits, "bits/byte"),
    ]


def _exponential(found: Interval) -> Interval:
    """What is beyond all numbers is infinite."""
    with np.errstate(over="ignore"):
        value, low, high = np.exp([found.value, found.low, found.high]).tolist()
    return Interval(value, low, high, found.n)


def by_tokenizer(tokenizers: Mapping[str, PreTrainedTokenizerBase]) -> list[list[str]]:
    """The models in groups whose tokenizers are the same."""
    groups: list[list[str]] = []
    for name, tokenizer in tokenizers.items():
        own = next((group for group in groups if same_tokenizer(tokenizers[group[0]], tokenizer)), None)
        if own is None:
            groups.append([name])
        else:
            own.append(name)
    return groups
