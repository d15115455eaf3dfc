"""What other objectives say of pairs that are labelled by one: the margin that MODPO learns them with.

Zhou et al. 2023, arXiv 2310.03708, eq. 10: pairs are labelled by criterion k alone, the others have rewards.  The policy that is
optimal for w_k r_k + sum_i w_i r_i is the one that minimises

    - log sigmoid((beta h - sum_i w_i [r_i(chosen) - r_i(rejected)]) / w_k)

so one policy for any weights costs as much as DPO, and no reward model of criterion k is needed.  The rewards are asked once,
before the first step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from tutelage.files import file_atomic
from tutelage.judges.build import build_judge
from tutelage.judges.inputs import note_judge
from tutelage.judges.judge import Judge, checked, rewarding
from tutelage.parallel import World
from tutelage.records import Comparison, Response, Score
from tutelage.runs import Run
from tutelage.settings.preference import DPOSettings as Settings
from tutelage.train.reference import RowValues

SAMPLE = 256
"""Pairs on whose responses a judge without stored numbers measures the spread of its scores."""
BATCH = 256
"""Pairs that are scored at once."""


def others(settings: Settings, tokenizer: PreTrainedTokenizerBase, world: World, run: Run) -> Judge | None:
    """Who speaks for the other objectives; None where there are none."""
    if settings.other_rewards is None:
        return None
    note_judge(run, "other_rewards", settings.other_rewards)
    return rewarding(build_judge(settings.other_rewards, world, tokenizer, settings.micro_batch_tokens))


def differences(
    judge: Judge, pairs: Sequence[Comparison], rows: Sequence[int] | np.ndarray, run: Run, file: str
) -> RowValues:
    """float32 [n, 1]: what the judge says of the chosen response less what it says of the rejected one, of the given rows
    (ascending); 0 where it applies to neither.  Kept in the run folder, where a run that was stopped finds them.

    Raises ValueError where it has a score for one of two responses."""
    path = run.folder / file
    rows = np.asarray(rows, dtype=np.int64)
    if (known := _known(path, len(rows))) is None:
        known = np.array(list(_asked(judge, pairs, rows, run)), dtype=np.float32)
        if run.leads:
            with file_atomic(path) as partial, partial.open("wb") as stream:
                np.save(stream, known)
    return RowValues(rows, torch.from_numpy(known).view(-1, 1))


def _known(path: Path, rows: int) -> np.ndarray | None:
    """What the run knew before; None where it made fewer steps then."""
    if not path.exists():
        return None
    found = np.load(path)
    return found if len(found) == rows else None


def _asked(judge: Judge, pairs: Sequence[Comparison], rows: np.ndarray, run: Run) -> Iterator[float]:
    def written(some: Sequence[int]) -> list[Response]:
        return [side for row in some for side in _sides(pairs[row])]

    if said := judge.calibrate(lambda: written(rows[:SAMPLE].tolist())):
        run.console.print(said, markup=False, highlight=False)
    with run.progress(len(rows), "pairs") as bar:
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH].tolist()
            scores = checked(judge, written(some), "other_rewards")
            for row, chosen, rejected in zip(some, scores[::2], scores[1::2], strict=True):
                yield _difference(chosen, rejected, pairs[row])
            bar.advance(len(some))


def _difference(chosen: Score | None, rejected: Score | None, pair: Comparison) -> float:
    if (chosen is None) != (rejected is None):
        where = f"{pair.place}: " if pair.place else ""
        raise ValueError(
            f"{where}other_rewards has a score for one response of the pair and none for the other: take judges that apply to "
            "prompts as a whole."
        )
    return chosen.value - rejected.value if chosen is not None and rejected is not None else 0.0


def _sides(pair: Comparison) -> tuple[Response, Response]:
    return (
        Response.written(pair.prompt, pair.chosen, pair.chosen_finish),
        Response.written(pair.prompt, pair.rejected, pair.rejected_finish),
    )
