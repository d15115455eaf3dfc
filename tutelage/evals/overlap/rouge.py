"""ROUGE-1, -2, -L and -Lsum as F1 (Lin 2004, ACL workshop), scored by Google's rouge-score; the mean over outputs.

Of several references the best one counts, for each of the four by itself.  Lsum takes each line for a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version

from tutelage.evals.overlap.sums import Sums, means

KINDS = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL", "rouge_lsum": "rougeLsum"}


def sums(outputs: Sequence[str], references: Sequence[Sequence[str]], *, stemmer: bool = False) -> Sums:
    """The four F1 of each output, 0 to 1."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(KINDS.values()), use_stemmer=stemmer)
    values = []
    for output, known in zip(outputs, references, strict=True):
        found = scorer.score_multi(list(known), output)
        values.append([found[kind].fmeasure for kind in KINDS.values()])
    about = f"rouge-score:{version('rouge-score')}|tok:ascii|stem:{'yes' if stemmer else 'no'}|f1"
    return means(list(KINDS), values, about, unit="overlap", rate=True)


def unread(texts: Sequence[str]) -> int:
    """How many of these texts say something, but no ASCII letter or digit: to ROUGE they are empty."""
    return sum(bool(text.strip()) and not re.search("[a-zA-Z0-9]", text) for text in texts)
