"""What verdicts say: win rates as AlpacaEval prints them, at equal lengths too, and who is first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tutelage import statistics
from tutelage.evals.rows import OVERALL, Row, row
from tutelage.feedback.statistics import Overturned, Resampling, bradley_terry, overturned
from tutelage.feedback.verdicts.difficulty import Difficulty
from tutelage.feedback.verdicts.reading import Verdict
from tutelage.statistics import Anchors, Floats, Interval

MOST = 100_000  # verdicts of which it is said how few hold the first place: each is a term of a model that is fitted anew


def rates(
    model: str,
    verdicts: Sequence[Verdict],
    hard: Floats | None,
    anchors: Anchors | None,
    seed: int,
    resamples: int,
) -> list[Row]:
    """The rows of one generator, of verdicts that set it second; `hard` [n] of all its instructions, where that is known.

    win_rate and its win_rate_error (the standard error over verdicts), win_rate_discrete (each verdict rounded to a win or a
    loss), win_rate_length_controlled where the answers are there, wins, ties, losses, failed_verdicts, length_chars.
    """
    used = np.array([one.outcome is not None for one in verdicts], bool)
    judged = [one for one in verdicts if one.outcome is not None]
    outcome = np.array([one.outcome for one in judged], float)
    keys, n = [one.key for one in judged], len(judged)
    seeded = {"seed": seed, "resamples": resamples}
    found = statistics.won(outcome, keys, **seeded)
    error = float(outcome.std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan
    rounded = statistics.won(np.sign(outcome - 0.5) / 2 + 0.5, keys, **seeded)
    rows = [
        row(model, "win_rate", OVERALL, found.interval, "share"),
        row(model, "win_rate_error", OVERALL, Interval(error, np.nan, np.nan, n), "share"),
        row(model, "win_rate_discrete", OVERALL, rounded.interval, "share"),
    ]
    known = [one.lengths for one in judged if one.lengths is not None]
    if known and len(known) == n:
        longer = np.array([ours - theirs for theirs, ours in known], float)
        even = statistics.length_controlled(
            outcome, longer, keys, difficulty=None if hard is None else hard[used], anchors=anchors, **seeded
        )
        rows.append(row(model, "win_rate_length_controlled", OVERALL, even, "share"))
        length = statistics.bootstrap_mean([ours for _, ours in known], keys, seed=seed, resamples=resamples)
        rows.append(row(model, "length_chars", OVERALL, length, "characters"))
    for name in ("wins", "ties", "losses"):
        rows.append(Row(model, name, OVERALL, float(getattr(found, name)), n=n, unit="pairs"))
    rows.append(
        Row(model, "failed_verdicts", OVERALL, float(len(verdicts) - n), n=len(verdicts), unit="pairs")
    )
    return rows


def hardness(
    models: dict[str, list[Verdict]], given: Difficulty | None
) -> tuple[dict[str, Floats | None], Anchors | None]:
    """How hard the instructions are for each generator [n], as a file says it, or as the other generators show it (None where
    there is no other, or where answers are missing); and what the file says of the gamed baselines."""
    if given is not None:
        return {name: given.of([one.number for one in own]) for name, own in models.items()}, given.anchors
    if len(models) < 2 or any(one.lengths is None for own in models.values() for one in own):
        return dict.fromkeys(models), None
    places = {
        key: i for i, key in enumerate(dict.fromkeys(one.key for own in models.values() for one in own))
    }
    outcomes = np.full((len(models), len(places)), np.nan)
    longer = np.zeros(outcomes.shape)
    for m, own in enumerate(models.values()):
        for one in own:
            at = (m, places[one.key])
            outcomes[at] = np.nan if one.outcome is None else one.outcome
            assert one.lengths is not None
            longer[at] = one.lengths[1] - one.lengths[0]
    found = statistics.difficulties(outcomes, longer)
    return {
        name: found[m, [places[one.key] for one in own]] for m, (name, own) in enumerate(models.items())
    }, None


def strengths(verdicts: Sequence[Verdict], seed: int, resamples: int) -> tuple[list[Row], Overturned | None]:
    """`strength` of every generator (Bradley-Terry, logits, their mean is 0), and how few verdicts hold the first place."""
    judged = [one for one in verdicts if one.outcome is not None]
    first, second = [one.first for one in judged], [one.second for one in judged]
    won = [1 - one.outcome for one in judged if one.outcome is not None]
    how = Resampling(seed, resamples, enough=1)
    found = bradley_terry(first, second, won, clusters=[one.key for one in judged], how=how)
    rows = [
        Row(str(name), "strength", OVERALL, told.value, told.low, told.high, told.n, "logit")
        for name, told in found.players.items()
    ]
    few = overturned(first, second, won) if len(judged) <= MOST else None
    if few is not None:
        rows.append(
            Row(str(few.first), "verdicts_hold_first", OVERALL, float(few.votes), n=few.n, unit="votes")
        )
    return rows, few
