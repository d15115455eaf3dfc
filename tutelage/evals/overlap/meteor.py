"""METEOR (Banerjee and Lavie 2005, ACL workshop; alpha 0.9, beta 3, gamma 0.5) by NLTK; the mean over outputs.

Words match as they are, by their Porter stem, or by a common WordNet synset.  Without WordNet the third way is missing: the
metric is called meteor_nosyn then, for its numbers are lower.  Of several references the best one counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tutelage.evals.overlap import wordnet
from tutelage.evals.overlap.sums import Sums, means

ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5


class NoSynonyms:
    """In WordNet's place, where there is none: no word has a synonym."""

    def synsets(self, word: str) -> list[Any]:
        """None."""
        return []


class Meteor:
    """METEOR with what WordNet there is; `folder`: see `wordnet.reader`."""

    def __init__(self, folder: str = "") -> None:
        found = wordnet.reader(folder)
        self.name = "meteor" if found else "meteor_nosyn"
        self._wordnet = found or NoSynonyms()
        self._version = f"wordnet:{found.get_version() if found else 'none'}"

    def __call__(self, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> Sums:
        """METEOR of each output, 0 to 1."""
        import nltk
        from nltk.translate.meteor_score import single_meteor_score

        values = []
        for output, known in zip(outputs, references, strict=True):
            words = tokens(output)
            values.append(
                max(
                    single_meteor_score(
                        tokens(text), words, wordnet=self._wordnet, alpha=ALPHA, beta=BETA, gamma=GAMMA
                    )
                    for text in known
                )
            )
        about = f"nltk:{nltk.__version__}|tok:treebank|{self._version}|alpha:0.9|beta:3|gamma:0.5"
        return means([self.name], values, about, unit="overlap", rate=True)


def tokens(text: str) -> list[str]:
    """Words by NLTK's tokenizer, each line for itself: as `word_tokenize`, but for full stops inside a line, which needs a
    model of sentence ends that NLTK would download."""
    from nltk.tokenize import NLTKWordTokenizer

    tokenizer = NLTKWordTokenizer()
    return [word for line in text.splitlines() for word in tokenizer.tokenize(line)]
