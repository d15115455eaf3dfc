"""How varied a model's responses are: over all prompts together, and among several responses to one prompt.

distinct_1, distinct_2     different word n-grams among equally many of each model, drawn from all its responses (rarefaction:
                           Hurlbert 1971; why the amount of text must be equal: Liu et al. 2022, ACL, "Rethinking and Refining
                           the Distinct Metric")
unique_share, self_bleu    of several responses to one prompt (Zhu et al. 2018, arXiv 1802.01886, section 3)
entropy                    of the model's own samples, per token and per response
valid_share, distinct_valid, entropy_valid
                           of several responses to one prompt, where it is known which are right: what is wrong is not diverse
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from tutelage import statistics
from tutelage.evals.counting import Bools
from tutelage.evals.rows import Row, row
from tutelage.evals.scored import by_task
from tutelage.evals.text import words
from tutelage.records import Response, Score
from tutelage.statistics import Floats, Interval, ngrams

LONGEST = 4  # words of the longest n-gram that self-BLEU compares


def distinct_rows(answers: Mapping[str, Sequence[Response]]) -> list[Row]:
    """Rows distinct_1 and distinct_2 of every model, overall and per task; `n` is how many n-grams were drawn.

    Longer texts repeat more. So every model counts with as many n-grams as the model with the fewest has, by the
    expectation over all ways to draw them. All models answered the same prompts, in the same order.
    """
    rows = []
    texts = {model: [words(r.text) for r in responses] for model, responses in answers.items()}
    for task, members in by_task(next(iter(answers.values()))).items():
        for n in (1, 2):
            grams = {
                model: [g for i in members for g in ngrams(found[i], n)] for model, found in texts.items()
            }
            size = min(map(len, grams.values()))
            for model, found in grams.items():
                value = Interval(statistics.distinct(found, size), math.nan, math.nan, size)
                rows.append(row(model, f"distinct_{n}", task, value, "share"))
    return rows


def entropy_rows(
    model: str, samples: Sequence[Response], *, seed: int = 0, resamples: int = statistics.RESAMPLES
) -> list[Row]:
    """Rows entropy (nats per token) and entropy_response (nats per response), overall and per task.

    The mean of -log p of what was drawn, p being what it was drawn with: an unbiased estimate. Not for greedy responses.
    """
    nats = np.array([-sum(r.logprobs) for r in samples], float)
    tokens = np.array([len(r.ids) for r in samples], float)
    keys = np.array([r.prompt.id for r in samples])
    rows = []
    for task, members in by_task(samples).items():
        i = np.array(members, dtype=int)
        each = statistics.bootstrap_ratio(nats[i], tokens[i], keys[i], seed=seed, resamples=resamples)
        rows.append(row(model, "entropy", task, each, "nats per token"))
        whole = statistics.bootstrap_mean(nats[i], keys[i], seed=seed, resamples=resamples)
        rows.append(row(model, "entropy_response", task, whole, "nats"))
    return rows


def sibling_rows(
    model: str, responses: Sequence[Response], *, seed: int = 0, resamples: int = statistics.RESAMPLES
) -> list[Row]:
    """Rows unique_share and self_bleu, overall and per task, from several responses to each prompt; `n` is the number of
    responses."""
    rows = []
    bleu = np.zeros(len(responses))
    for members in _siblings(responses):
        bleu[members] = self_bleu([words(responses[i].text) for i in members])
    first = _first(responses, np.ones(len(responses), bool))
    for task, members in by_task(responses).items():
        keys = [responses[i].prompt.id for i in members]
        for name, values in (("unique_share", first), ("self_bleu", bleu)):
            found = statistics.bootstrap_mean(
                values[members], keys, rate=True, seed=seed, resamples=resamples
            )
            rows.append(row(model, name, task, found, "share"))
    return rows


def valid_rows(
    model: str,
    responses: Sequence[Response],
    scores: Sequence[Score],
    least: float,
    *,
    drawn: bool = True,
    seed: int = 0,
    resamples: int = statistics.RESAMPLES,
) -> list[Row]:
    """What a model has of valid responses, those whose score is `least` or more, from several responses to each prompt.

    valid_share        the valid ones among all
    distinct_valid     the different valid ones among all: neither a wrong response nor one that was there before counts
    entropy_valid      nats, where the responses are `drawn` from the model's own distribution; mean over the prompts with a
                       valid one: H(response | valid) = E[-log p(response) | valid] + log P(valid)
    valid/PART         the mean of a part of the score among the valid ones (not of what that is made of)

    Overall and per task.
    """
    valid = np.array([score.value >= least for score in scores])
    first = _first(responses, valid)
    mean = partial(statistics.bootstrap_mean, seed=seed, resamples=resamples)
    rows = []
    for task, members in by_task(responses).items():
        keys = [responses[i].prompt.id for i in members]
        for name, values in (("valid_share", valid.astype(float)), ("distinct_valid", first)):
            rows.append(row(model, name, task, mean(values[members], keys, rate=True), "share"))
        right = [i for i in members if valid[i]]
        if drawn and right:
            found = mean(_entropies(responses, valid, members))
            rows.append(row(model, "entropy_valid", task, found, "nats"))
        for part in sorted({part for i in right for part in scores[i].parts if "/" not in part}):
            having = [i for i in right if part in scores[i].parts]
            found = mean([scores[i].parts[part] for i in having], [responses[i].prompt.id for i in having])
            rows.append(row(model, f"valid/{part}", task, found, "score"))
    return rows


def _entropies(responses: Sequence[Response], valid: Bools, members: Sequence[int]) -> list[float]:
    """Nats, of each prompt that has a valid response."""
    found = []
    for numbers in _siblings([responses[i] for i in members]):
        own = [members[i] for i in numbers]
        right = [-sum(responses[i].logprobs) for i in own if valid[i]]
        if right:
            found.append(float(np.mean(right)) + math.log(len(right) / len(own)))
    return found


def _siblings(responses: Sequence[Response]) -> list[list[int]]:
    """The numbers of the responses to each prompt."""
    groups: dict[str, list[int]] = {}
    for number, response in enumerate(responses):
        groups.setdefault(response.prompt.id, []).append(number)
    return list(groups.values())


def _first(responses: Sequence[Response], counted: Bools) -> Floats:
    """float64 [n]: 1 for a response that counts and whose text no earlier one to its prompt has."""
    found, seen = np.zeros(len(responses)), set()
    for number, response in enumerate(responses):
        key = (response.prompt.id, response.text)
        if counted[number] and key not in seen:
            found[number] = 1.0
            seen.add(key)
    return found


def self_bleu(texts: Sequence[Sequence[str]]) -> list[float]:
    """BLEU-4 of each text (as words) against all the others: 1 when there is an equal one, 0 when no n-gram is shared."""
    return [bleu(text, [*texts[:i], *texts[i + 1 :]]) for i, text in enumerate(texts)]


def bleu(text: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU of one text with up to four words to an n-gram, none smoothed (Papineni et al. 2002, ACL).

    A text of fewer than four words is compared by the n-grams that it has. 0 without references; of an empty text 1 when a
    reference is empty, too, else 0.
    """
    if not text:
        return float(any(not reference for reference in references))
    logs = []
    for n in range(1, min(LONGEST, len(text)) + 1):
        mine = Counter(ngrams(text, n))
        most: Counter[tuple] = Counter()
        for reference in references:
            most |= Counter(ngrams(reference, n))
        shared = (mine & most).total()
        if not shared:
            return 0.0
        logs.append(math.log(shared / mine.total()))
    nearest = min((len(r) for r in references), key=lambda size: (abs(size - len(text)), size))
    return math.exp(min(0.0, 1 - nearest / len(text)) + sum(logs) / len(logs))
