"""Points with several objectives, of which more is better in each: which are on the front, and how much they cover."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.statistics.intervals import Floats


def non_dominated(points: ArrayLike) -> NDArray[np.bool_]:
    """[..., n, d] -> [..., n]: whether no other point has as much of everything and more of something.  Equal points do not
    dominate each other."""
    given = np.asarray(points, float)
    ours, theirs = given[..., :, None, :], given[..., None, :, :]
    dominated = (theirs >= ours).all(-1) & (theirs > ours).any(-1)
    return ~np.asarray(dominated.any(-1))


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """The volume of what some point of [n, d] has at least as much of as, above `reference` [d] (Zitzler and Thiele 1999).

    Exact, by slices along the last objective, each of which is the same question with one objective less: time n^(d-1) at worst,
    so for small sets.  Points that are not above the reference in every objective add nothing.
    """
    corner = np.asarray(reference, float)
    above = np.asarray(points, float).reshape(-1, corner.size) - corner
    above = above[(above > 0).all(axis=1)]
    return _volume(above[non_dominated(above)]) if len(above) else 0.0


def _volume(above: Floats) -> float:
    """Of points [n, d] above 0."""
    if above.shape[1] == 1:
        return float(above.max())
    order = above[np.argsort(-above[:, -1], kind="stable")]
    heights = order[:, -1] - np.append(order[1:, -1], 0.0)
    if above.shape[1] == 2:
        return float(heights @ np.maximum.accumulate(order[:, 0]))
    volume = 0.0
    for number, height in enumerate(heights.tolist(), 1):
        if height > 0:
            slab = order[:number, :-1]
            volume += height * _volume(slab[non_dominated(slab)])
    return volume
