"""Solutions with marked steps, and what a process reward model says of each step."""

from __future__ import annotations

import numpy as np
import torch

from tutelage.data.steps import NEUTRAL, About, Line, Neutral, lines_of, targets
from tutelage.evals.process_model import UNMARKED, Classes, Solution
from tutelage.judges.process import Floats, p_right, so_far
from tutelage.records import StepMarks


def solution_of(row: StepMarks, logits: Floats, about: About, separator: str, neutral: Neutral) -> Solution:
    """What a model says of the steps of a response beside their marks.

    logits: [T] or [T, 3], of the lines that its steps are cut into by `separator`; a step of several lines is what the least
    right of these is.  Of an outcome: the response as one step.
    """
    right: Floats = p_right(torch.from_numpy(logits)).numpy()
    if about != "steps":
        said, wrong = right[-1:], None if row.outcome else 0
        whole = np.array([float(bool(row.outcome))])
        return Solution(said, whole, wrong, float(said[0]), row.outcome, row.prompt.id)
    lines = lines_of(row, separator)
    least = [
        min((n for n, line in enumerate(lines) if line.step == i), key=lambda n: right[n])
        for i in range(len(row.steps))
    ]
    wanted = targets([Line("", label, i) for i, label in enumerate(row.labels)], row.soft, neutral, False)
    labels = [np.nan if label is None else 1.0 if label == NEUTRAL else label for label in wanted]
    classes = None
    if logits.ndim == 2:
        kinds = [
            UNMARKED if label is None else 1 if label == NEUTRAL else 2 * (label >= 0.5) for label in wanted
        ]
        classes = Classes(logits[least].argmax(1), np.array(kinds))
    return Solution(
        right[least],
        np.array(labels),
        row.first_error,
        float(so_far(right, "product")[-1]),
        row.outcome,
        row.prompt.id,
        classes,
    )
