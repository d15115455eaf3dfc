"""What overlap alone does not show and often comes from: how long outputs are, how much they copy and repeat, how they end.

METEOR weighs recall nine to one, and long outputs that copy the prompt score high by it; so these stand beside every overlap.
"""

from __future__ import annotations

from collections.abc import Sequence

from tutelage import statistics
from tutelage.evals.overlap.sums import Sums, means, ratio
from tutelage.evals.text import COPY_NGRAM, words


def sums(outputs: Sequence[str], prompts: Sequence[str], ended: Sequence[bool | None]) -> list[Sums]:
    """words, repetition; copy_rate where every prompt is known, and missing_eos where of every output it is known how it
    ended."""
    texts = [words(output) for output in outputs]
    found = [
        means(["words"], [[len(text)] for text in texts], unit="words"),
        ratio("repetition", *zip(*map(repeated, texts), strict=True)),
    ]
    if all(prompt.strip() for prompt in prompts):
        pairs = zip(texts, map(words, prompts), strict=True)
        copies = [statistics.copied(text, prompt, COPY_NGRAM) for text, prompt in pairs]
        found.append(ratio("copy_rate", *zip(*copies, strict=True)))
    if all(end is not None for end in ended):
        found.append(means(["missing_eos"], [[not end] for end in ended], rate=True))
    return found


def repeated(text: Sequence[str]) -> tuple[int, int]:
    """(word 4-grams of a text that it had before, word 4-grams): seq-rep-4 of Welleck et al. 2019 (arXiv 1908.04319)."""
    grams = statistics.ngrams(text, COPY_NGRAM)
    return len(grams) - len(set(grams)), len(grams)
