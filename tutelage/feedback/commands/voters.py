"""Who votes on pairs in `label`: the panel of simulated annotators, or one judge.

The simulated annotators work like people: each pair goes to `votes_per_item` of them, and a side is shown first at random.  Who
votes, what is shown first and every vote follow from (seed, content of the pair, annotator).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.feedback.commands.asked import Answered, asked_in_words
from tutelage.judges.judge import Judge, scores_of
from tutelage.judges.llm.judge import LLMJudge
from tutelage.records import Response
from tutelage.runs import Bar
from tutelage.seeds import rng
from tutelage.settings.feedback import LabelSettings
from tutelage.settings.judges import scoring
from tutelage.store import NewVote, Pair, Store, Unsure
from tutelage.worlds import letters
from tutelage.worlds.annotators import panel, vote


class Panel:
    """The simulated annotators: they see a judge's scores through noise and habits of their own."""

    def __init__(self, settings: LabelSettings, judge: Judge) -> None:
        self._settings, self._judge = settings, judge
        self._groups = {name: letters.group_at(settings.seed, name) for name in settings.tastes}
        self._annotators = tuple(map(letters.reader, self._groups.values())) or panel(
            settings.seed, settings.length_bias, settings.position_bias
        )
        self.name = "the panel"
        self.votes_per_item = settings.votes_per_item
        if self.votes_per_item > len(self._annotators):
            raise ValueError(
                f"votes_per_item={self.votes_per_item}, but the panel has {len(self._annotators)} annotators: ask for fewer."
            )

    def sign_in(self, store: Store) -> None:
        """Make them known to the store."""
        for annotator in self._annotators:
            store.add_annotator(annotator.name, "simulated", dataclasses.asdict(annotator))

    def watch(self, bar: Bar) -> None:
        """They are asked in no time."""

    def leave(self, store: Store, pairs: Sequence[Pair], votes: Sequence[NewVote]) -> None:
        """They are people."""

    def votes_on(self, pairs: Sequence[Pair]) -> list[NewVote]:
        """The votes that these pairs still want, by those who have not voted on them; the same on every call."""
        graded = zip(pairs, values_of(self._judge, pairs), strict=True)
        return [new for pair, values in graded for new in self._on(pair, values)]

    def _on(self, pair: Pair, values: tuple[float, float]) -> list[NewVote]:
        settings, people = self._settings, self._annotators
        order = rng(settings.seed, "label", "who", pair.digest).permutation(len(people))
        free = [people[number] for number in order if people[number].name not in pair.voters]
        votes = []
        for annotator in free[: settings.votes_per_item - len(pair.voters)]:
            generator = rng(settings.seed, "label", "vote", pair.digest, annotator.name)
            first_shown = int(generator.integers(2))
            own = self._worth(annotator.name, pair) if self._groups else values
            cast = vote(annotator, pair.texts, own, first_shown, generator)
            votes.append(NewVote(pair.item_id, cast, f"{settings.project}/{pair.digest}/{annotator.name}"))
        return votes

    def _worth(self, name: str, pair: Pair) -> tuple[float, float]:
        """What both responses are worth to a group, in logits.  Raises ValueError for a prompt that asks for no letter."""
        if pair.prompt.task != letters.TASK or not pair.prompt.reference:
            raise ValueError(
                f"tastes are for letters, and prompt {pair.prompt.id} asks for none (its task is {pair.prompt.task!r}): sample "
                "the prompts in letters.jsonl, which world groups=24 writes, or leave tastes out."
            )
        first, second = (letters.grade(dict(pair.prompt.reference), text) for text in pair.texts)
        taste = self._groups[name].taste
        return letters.utility(first, taste), letters.utility(second, taste)


class Single:
    """One judge, which votes once on every pair."""

    votes_per_item = 1

    def __init__(self, settings: LabelSettings, judge: Judge) -> None:
        self._settings, self._judge = settings, judge
        given = settings.judge
        alone = isinstance(given, str)
        named = alone or isinstance(judge, LLMJudge)  # its name tells its options apart
        self.name = judge.name if named else f"{judge.name}-{_digest(given)}"
        self._profile = {"judge": given if alone else scoring(given)}
        self._shares: dict[int, float | None] = {}  # of its votes: item -> share of the better response

    def sign_in(self, store: Store) -> None:
        store.add_annotator(self.name, "judge", self._profile)
        for one in asked_in_words(self._judge):
            one.asker.tell_budget()
        cast = (one for one in store.votes(self._settings.project) if one.vote.annotator == self.name)
        self._shares = {one.item_id: one.vote.share for one in cast}

    def leave(self, store: Store, pairs: Sequence[Pair], votes: Sequence[NewVote]) -> None:
        """Leave to people what it is not sure of, or has no verdict on, in the order of `people_below` where that is set."""
        self._shares |= {new.item_id: new.vote.share for new in votes}
        project, below = self._settings.project, self._settings.people_below
        if below:
            store.ask_people(project, self.name, unsure(pairs, self._shares, self.name, below))
        elif asked_in_words(self._judge):
            silent = [pair.item_id for pair in pairs if pair.item_id not in self._shares]
            store.note_left(project, self.name, silent)

    def watch(self, bar: Bar) -> None:
        """Say beside the bar what judges that are asked in words have answered so far."""
        said = Answered(bar)
        for one in asked_in_words(self._judge):
            one.progress = said

    def votes_on(self, pairs: Sequence[Pair]) -> list[NewVote]:
        project, name = self._settings.project, self.name
        wanted = [pair for pair in pairs if name not in pair.voters]
        cast = self._judge.compare([both_of(pair) for pair in wanted])
        return [
            NewVote(pair.item_id, dataclasses.replace(one, annotator=name), f"{project}/{pair.digest}/{name}")
            for pair, one in zip(wanted, cast, strict=True)
            if one is not None
        ]


Voters = Panel | Single


def _digest(judge: Any) -> str:
    """Tells two mixes apart, which are two annotators."""
    return hashlib.sha256(json.dumps(scoring(judge), sort_keys=True).encode()).hexdigest()[:8]


def both_of(pair: Pair) -> tuple[Response, Response]:
    sides = zip(pair.texts, pair.finishes, strict=True)
    first, second = (Response.written(pair.prompt, text, finish) for text, finish in sides)
    return first, second


def values_of(judge: Judge, pairs: Sequence[Pair]) -> list[tuple[float, float]]:
    """The judge's scores of both responses of each pair.  Raises ValueError when it does not apply to one."""
    scores = scores_of(judge, [response for pair in pairs for response in both_of(pair)])
    values = [score.value for score in scores]
    return list(zip(values[::2], values[1::2], strict=True))


def unsure(
    pairs: Sequence[Pair], shares: Mapping[int, float | None], name: str, below: float
) -> list[Unsure]:
    """The pairs that people should look at: those without a verdict, and those whose share is low, the least sure first.

    shares: of the votes that `name` has cast, by item; None: a vote that says no share.
    """
    found = []
    for pair in pairs:
        share = shares.get(pair.item_id, 0.5)
        share = 1.0 if share is None else share
        if share < below or pair.item_id not in shares:
            voters = {*pair.voters, *([name] if pair.item_id in shares else [])}
            found.append(Unsure(pair.item_id, len(voters) + 1, 1 - share))
    return found
