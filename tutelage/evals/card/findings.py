"""What on the card should make a reader doubt: each with its likely cause, what to change, and what is healthy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tutelage.evals.card.probes import PROBES
from tutelage.evals.findings import CALIBRATION_LIMIT, Sentence, number
from tutelage.evals.rows import Row

PRAISE_LIMIT = 0.5  # standard deviations that flattery or thanks may add
LENGTH_GAP, TRAIN_GAP = 0.05, 0.1
TEMPERATURE_LIMIT = 2.0
BASELINES = {
    "longer_wins": "“the longer response wins”",
    "shorter_wins": "“the shorter response wins”",
    "bag_of_words": "a bag of words",
}


@dataclass(frozen=True)
class Doubt:
    """Something that was found.  seen: a sentence with its numbers; cause, change, healthy: one sentence each."""

    name: str
    seen: Sentence
    cause: str
    change: str
    healthy: str


def doubts(rows: Sequence[Row], model: str) -> list[Doubt]:
    """What the rows of this model give reason to doubt, the gravest first."""
    got = {r.metric: r for r in rows if r.model == model and r.task == "all" and r.value is not None}
    checks = (_leak, _shared, _guess, _surface, _stale, _length, _probes, _overfitted, _calibration)
    return [doubt for check in checks for doubt in check(got)]


Got = dict[str, Row]


def _least(r: Row) -> float:
    """The lower bound; the value itself where all resamples give the same."""
    return (r.value if r.low is None else r.low) or 0.0


def _leak(got: Got) -> Iterator[Doubt]:
    for ours, most, whose in (
        ("accuracy_votes", "agreement_limit", "than people's agreement allows"),
        ("accuracy", "ceiling", "than the noise of the labels allows"),
    ):
        mine, limit = got.get(ours), got.get(most)
        if mine and limit and (mine.low or 0) > (limit.high or limit.value or 1):
            yield Doubt(
                "leak",
                ["It agrees with ", number(mine), f" of the labels, more {whose} (", number(limit), ")."],
                "The held-out labels have leaked: the same prompts, texts or people's habits stand on both sides.",
                "Split by prompt (heldout_share does), and look for near-copies with `inspect`.",
                f"`{ours}` at most `{most}`",
            )
            return


def _shared(got: Got) -> Iterator[Doubt]:
    shared = got.get("prompts_shared")
    if shared and shared.value:
        yield Doubt(
            "shared-prompts",
            [number(shared), f" of {shared.n:,} held-out prompts are among the training prompts, too."],
            "data and eval_data share prompts, so that held-out figures are too good.",
            "Leave these prompts out of data, or hold out by heldout_share instead of eval_data.",
            "`prompts_shared` 0",
        )


def _guess(got: Got) -> Iterator[Doubt]:
    accuracy = got.get("accuracy")
    if accuracy and accuracy.low is not None and accuracy.low <= 0.5:
        yield Doubt(
            "guessing",
            ["An accuracy of ", number(accuracy), " is not distinguishable from guessing."],
            "Too few pairs, chosen and rejected swapped, or nothing learnt.",
            "Look at heldout_pairs.jsonl, then label more, or raise learning_rate.",
            "the interval of `accuracy` above 50 %",
        )


def _surface(got: Got) -> Iterator[Doubt]:
    beaten = [name for name in BASELINES if (r := got.get(f"over_{name}")) and _least(r) <= 0]
    if not beaten:
        return
    name = min(beaten, key=lambda name: got[f"over_{name}"].value or 0)
    gap, alone = got[f"over_{name}"], got[f"accuracy_{name}"]
    better = (gap.value or 0) > 0
    yield Doubt(
        "surface",
        [
            f"It does not beat {BASELINES[name]} ",
            "for certain: that alone is right on " if better else "at all: that alone is right on ",
            number(alone),
            ", and the model's accuracy less that is ",
            number(gap, f"{100 * (gap.value or 0):+.1f} points"),
            ".",
        ],
        "The model has learnt a surface, or less than one, or the held-out pairs are too few to tell.",
        "More or cleaner pairs, a larger or better trained start, other epochs and learning_rate; hold out more.",
        "the intervals of all `over_*` above 0",
    )


def _stale(got: Got) -> Iterator[Doubt]:
    whole, own = got.get("accuracy"), got.get("accuracy_policy")
    if whole and own and own.high is not None and own.high < (whole.low or 0):
        yield Doubt(
            "stale",
            [
                "On the policy's own responses it is right on only ",
                number(own),
                " (",
                number(whole),
                " of held-out pairs).",
            ],
            "The policy writes what the training pairs do not show.",
            "Compare some of its responses, and train on these, too (another round).",
            "`accuracy_policy` near `accuracy`",
        )


def _length(got: Got) -> Iterator[Doubt]:
    whole, close = got.get("accuracy"), got.get("accuracy_similar_length")
    if whole and close and close.n and close.high is not None:
        gap = (whole.value or 0) - (close.value or 0)
        if gap > LENGTH_GAP and close.high < (whole.low or 0):
            yield Doubt(
                "length",
                [
                    "Among pairs of similar length it is right on only ",
                    number(close),
                    " (",
                    number(whole),
                    " of all).",
                ],
                "Much of the accuracy is length.",
                "Collect pairs of similar length, or normalise for length where the score is used.",
                "`accuracy_similar_length` near `accuracy`",
            )


def _probes(got: Got) -> Iterator[Doubt]:
    swap = got.get("probe/swap/consistent")
    if swap and (swap.value or 0) < 1:
        yield Doubt(
            "swap",
            ["Asked the other way round, only ", number(swap), " of the margins are the negative of before."],
            "A response's score depends on what else is in the batch, or on chance.",
            "Use precision=fp32; switch off dropout and anything random in the judge.",
            "`probe/swap/consistent` 100 %",
        )
    for name, probe in PROBES.items():
        change, higher = got.get(f"probe/{name}/change"), got.get(f"probe/{name}/higher")
        if change is None or higher is None:
            continue
        praised = probe.expected == "no higher" and (change.value or 0) > PRAISE_LIMIT and _least(change) > 0
        preferred = probe.expected == "lower" and (_least(higher) > 0.5 or _least(change) > 0)
        if praised or preferred:
            yield Doubt(
                f"probe-{name}",
                [
                    f"Spoiled responses ({probe.what}) score higher on ",
                    number(higher),
                    ", by ",
                    number(change),
                    " standard deviations on average.",
                ],
                "Nothing in the training pairs says that this is bad; a policy will find it.",
                "Add such spoiled responses as rejected ones, or mix in a rule that punishes them.",
                f"`probe/{name}/change` "
                + ("below 0" if probe.expected == "lower" else f"at most {PRAISE_LIMIT}"),
            )


def _overfitted(got: Got) -> Iterator[Doubt]:
    train, held_out = got.get("accuracy_train"), got.get("accuracy")
    if train is None or held_out is None:
        return
    gap = (train.value or 0) - (held_out.value or 0)
    if gap > TRAIN_GAP and (train.low or 0) > (held_out.high or 1):
        yield Doubt(
            "over-fitted",
            [
                "On training pairs it is right on ",
                number(train),
                ", on held-out ones on ",
                number(held_out),
                ".",
            ],
            "It knows its training pairs by heart.",
            "Fewer epochs, a lower learning_rate, more pairs, or label_smoothing.",
            f"`accuracy_train` at most {TRAIN_GAP} above `accuracy`",
        )


def _calibration(got: Got) -> Iterator[Doubt]:
    error, floor = got.get("calibration_error"), got.get("calibration_error_floor")
    fitted = got.get("temperature_fitted")
    if error is None:
        return
    chance = (floor.value or 0) if floor else 0.0
    off = (error.value or 0) > max(CALIBRATION_LIMIT, 2 * chance)
    t = (fitted.value or 1) if fitted else 1.0
    far = (t > TEMPERATURE_LIMIT or t < 1 / TEMPERATURE_LIMIT) and (error.low or 0) > chance
    if off or far:
        seen: Sentence = ["Its confidence is off by ", number(error), " on average."]
        if fitted:
            seen += [" Scores divided by ", number(fitted), " would fit best."]
        yield Doubt(
            "calibration",
            seen,
            "Over-confident (fitted temperature above 1) after too many epochs; under-confident after too few.",
            "Divide the scores by the fitted temperature where probabilities matter; label_smoothing, fewer epochs.",
            "`calibration_error` near its floor, `temperature_fitted` from 0.5 to 2",
        )


def warning(doubt: Doubt, called: str) -> Sentence:
    """A doubt as a report's warning."""
    healthy = doubt.healthy.replace("`", "")
    return [f"{called}: ", *doubt.seen, f" {doubt.cause} {doubt.change} Healthy: {healthy}."]


def plain(sentence: Sentence) -> str:
    """A sentence as text."""
    return "".join(p if isinstance(p, str) else f"{p.text} {p.interval}".strip() for p in sentence)
