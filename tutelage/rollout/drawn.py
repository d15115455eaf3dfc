"""What has been drawn in a step before anything is computed of it, and prompts that are drawn because others taught nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tutelage.records import Response, Score
from tutelage.seeds import rng


@dataclass(frozen=True)
class Drawn:
    """The responses to some prompts, as many to each, prompt by prompt.

    rows: of each prompt, where it stands in its file.  worth: of each response, its score less the price of what it costs; None
    where it is not to be trained on.  costs: empty where nobody says what a response costs.
    """

    rows: Sequence[int]
    responses: list[Response]
    judged: list[Score]
    worth: list[float | None]
    costs: list[Score]

    @property
    def samples(self) -> int:
        """Responses per prompt."""
        return len(self.responses) // max(len(self.rows), 1)

    def differing(self) -> list[int]:
        """The numbers of the prompts whose responses are not all worth the same."""
        parts = [self.worth[number * self.samples :][: self.samples] for number in range(len(self.rows))]
        return [number for number, part in enumerate(parts) if len({*part} - {None}) > 1]

    def take(self, prompts: Sequence[int]) -> Drawn:
        """Those prompts with their responses."""
        of = [number * self.samples + sample for number in prompts for sample in range(self.samples)]
        return Drawn(
            [self.rows[number] for number in prompts],
            [self.responses[each] for each in of],
            [self.judged[each] for each in of],
            [self.worth[each] for each in of],
            [self.costs[each] for each in of] if self.costs else [],
        )

    def __add__(self, other: Drawn) -> Drawn:
        return Drawn(
            [*self.rows, *other.rows],
            self.responses + other.responses,
            self.judged + other.judged,
            self.worth + other.worth,
            self.costs + other.costs,
        )


def filled_up(
    first: Drawn, further: Sequence[int], draws: int, draw: Callable[[Sequence[int]], Drawn]
) -> tuple[Drawn, Mapping[str, float]]:
    """The prompts whose responses differ, and in place of the others as many of `further` (rows), in at most `draws` further
    draws; and what that took, as metrics (dynamic sampling: Yu et al. 2025, arXiv 2503.14476, section 3.2).

    Fewer prompts than at first where the draws or the rows do not suffice; all of the first where no responses differ at all.
    """
    everything, kept, made = first, first.take(first.differing()), 0
    while made < draws and (missing := further[: len(first.rows) - len(kept.rows)]):
        more, further, made = draw(missing), further[len(missing) :], made + 1
        everything, kept = everything + more, kept + more.take(more.differing())
    drawn = len(everything.rows)
    dropped = drawn - len(everything.differing())
    metrics = {
        "dynamic_sampling/draws": float(made),
        "dynamic_sampling/dropped": float(dropped),
        "dynamic_sampling/scores": sum(score.value for score in everything.judged) / len(everything.judged),
        "frac_reward_zero_std": dropped / drawn,
        "completions/tokens": float(sum(len(response.ids) for response in everything.responses)),
    }
    return (kept if kept.rows else first), metrics


def further_rows(n: int, rows: Sequence[int], most: int, seed: int, step: int) -> list[int]:
    """At most so many of `n` rows, each once and none of those that a step has already; they depend on (seed, step) alone."""
    drawn = rng(seed, "further prompts", step).choice(n, size=min(n, most + len(rows)), replace=False)
    known = set(rows)
    return [row for row in drawn.tolist() if row not in known][:most]
