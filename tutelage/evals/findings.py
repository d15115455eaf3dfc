"""What the numbers say, in plain language: names, formats, the headline and the warnings of a report.

A sentence is a list of pieces, text or a `Number`; a page prints both, and `results.json` holds every number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.evals.rows import OVERALL, Row
from tutelage.statistics import has_width

ACRONYMS = {
    "ai": "AI",
    **{
        name: name.upper()
        for name in ("sft", "ppo", "dpo", "rloo", "grpo", "dapo", "raft", "reinforce", "reinforce++")
    },
    "dr-grpo": "Dr. GRPO",
    "ppo-ptx": "PPO-ptx",
}
JUDGED = ("gold", "score")  # what an evaluation by the gold standard, or by another judge, calls its score
AMOUNTS = ("MiB", "FLOPs")
PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
PER_TOKEN = ("eval_loss", "perplexity")  # on one text, of tokens that another tokenizer cuts otherwise
MISSING_EOS_LIMIT = 0.05  # healthy: below (reference: metric table of PPO)
KL_LIMIT = 20.0  # nats per response: beyond it, models of this kind are often over-optimised
LENGTH_DRIFT_LIMIT = 0.25
CALIBRATION_LIMIT = 0.1

# Metric -> (name on the page, what it is). The order is the order of the table.
METRICS: dict[str, tuple[str, str]] = {
    "win_rate": ("Win rate against the baseline", "ties count as one half"),
    "win_rate_similar_length": ("Win rate, similar length", "only pairs of responses of similar length"),
    "gold": ("Gold score", "mean grade by the gold standard, from 0 to 1"),
    "score": ("Score", "mean score by the judge"),
    "kl": ("KL to the reference", "nats per response, on the model's own samples"),
    "kl_bound": ("Bound of the KL", "the most that choosing the best of n can be away from its model"),
    "tokens_per_answer": ("Tokens per answer", "with the candidates that were not chosen"),
    "seconds_per_answer": ("Seconds per answer", "drawing and choosing, on this machine"),
    "length": ("Response length", "mean, with the end token"),
    "missing_eos": ("Missing EOS", "responses cut off at the longest length allowed"),
    "answers": ("Answers", "responses that do none of the next three"),
    "asks": ("Asks", "more than half of the sentences are questions"),
    "goes_on": ("Goes on", "has no end, writes further turns, or continues the user's sentence"),
    "unreadable": ("Unreadable", "empty, or with characters that no text has"),
    "copy_rate": ("Copied from the prompt", "share of word 4-grams"),
    "words": ("Length in words", "mean, with punctuation marks"),
    "repetition": ("Repeated", "word 4-grams that the same response had before"),
    "bleu_1": ("BLEU-1", "against reference texts, words"),
    "bleu_2": ("BLEU-2", "up to 2 words"),
    "bleu_3": ("BLEU-3", "up to 3 words"),
    "bleu_4": ("BLEU-4", "up to 4 words: what BLEU means without a number"),
    "bleu_precision_1": ("BLEU precision, 1 word", "without a brevity penalty"),
    "bleu_precision_2": ("BLEU precision, 2 words", "without a brevity penalty"),
    "bleu_precision_3": ("BLEU precision, 3 words", "without a brevity penalty"),
    "bleu_precision_4": ("BLEU precision, 4 words", "without a brevity penalty"),
    "rouge_1": ("ROUGE-1", "F1 of words, against reference texts"),
    "rouge_2": ("ROUGE-2", "F1 of word pairs"),
    "rouge_l": ("ROUGE-L", "F1 of the longest common subsequence"),
    "rouge_lsum": ("ROUGE-Lsum", "the same, line by line"),
    "meteor": ("METEOR", "words, stems and synonyms; recall weighs nine times precision"),
    "meteor_nosyn": ("METEOR without synonyms", "no WordNet here: not comparable with METEOR"),
    "bertscore": ("BERTScore", "F1 of matched token vectors, not rescaled"),
    "bertscore_precision": ("BERTScore, precision", "how well the output's tokens are matched"),
    "bertscore_recall": ("BERTScore, recall", "how well the reference's tokens are matched"),
    "distinct_1": ("Distinct-1", "different words among equally many of each model"),
    "distinct_2": ("Distinct-2", "different word pairs among equally many of each model"),
    "unique_share": ("Unique responses", "different ones among several to one prompt"),
    "self_bleu": ("Self-BLEU", "likeness of several responses to one prompt; 100 % = all alike"),
    "valid_share": ("Valid responses", "those that reach valid_from, among several to one prompt"),
    "distinct_valid": ("Different valid responses", "among all of several to one prompt"),
    "entropy_valid": ("Entropy of valid responses", "nats, of those to one prompt"),
    "entropy": ("Entropy per token", "nats, on the model's own samples"),
    "entropy_response": ("Entropy per response", "nats, on the model's own samples"),
    "eval_loss": ("Loss on held-out text", "per token"),
    "perplexity": ("Perplexity", "on held-out text"),
    "perplexity_words": (
        "Perplexity per word",
        "on held-out text; words between white space, comparable across tokenizers",
    ),
    "bits_per_byte": ("Bits per byte", "on held-out text; comparable across tokenizers"),
    "sign_test_p": ("Sign test", "p that wins and losses are equally likely"),
    "cost/tokens_generated": ("Tokens generated", "in training, mean of the runs"),
    "cost/tokens_trained": ("Tokens trained on", "each pass counts, mean of the runs"),
    "cost": ("Cost", "by the prices of the study"),
    "votes": ("Votes", "that were used, mean of the runs"),
    "demonstrations": ("Demonstrations", "that were learnt from, mean of the runs"),
    "time": ("Time to train", "mean of the runs"),
    "cost/peak_memory": ("Peak memory", "of training, mean of the runs"),
}
REWARD_METRICS: dict[str, tuple[str, str]] = {
    "accuracy": ("Accuracy on held-out pairs", "ties count as one half"),
    "ceiling": ("Ceiling of the accuracy", "a judge who knows the gold scores, against the same noisy votes"),
    "accuracy_similar_length": ("Accuracy, similar length", "only pairs of responses of similar length"),
    "accuracy_policy": ("Accuracy on the policy's own responses", "pairs of policy_data"),
    "accuracy_train": ("Accuracy on training pairs", "a sample of them"),
    "agreement": ("People agree with each other", "two votes on the same held-out pair"),
    "agreement_limit": ("… so that a judge can at most", "agree with one vote, who has not seen it"),
    "accuracy_votes": ("The model with one of these votes", "on the same pairs"),
    "accuracy_longer_wins": ("“Longer wins” baseline", "accuracy of always preferring the longer response"),
    "over_longer_wins": ("… the model less that", "on the same pairs"),
    "accuracy_shorter_wins": (
        "“Shorter wins” baseline",
        "accuracy of always preferring the shorter response",
    ),
    "over_shorter_wins": ("… the model less that", "on the same pairs"),
    "accuracy_bag_of_words": ("Bag-of-words baseline", "which words occur, trained on the same pairs"),
    "over_bag_of_words": ("… the model less that", "on the same pairs"),
    "aurc": ("Area under risk and coverage", "mean error when only the surest pairs are kept; 0 is best"),
    "calibration_error": ("Calibration error", "mean gap between confidence and accuracy (ECE, 10 bins)"),
    "calibration_error_floor": ("… of a calibrated model", "what chance alone shows with as many pairs"),
    "temperature_fitted": ("Fitted temperature", "above 1: over-confident, below 1: under-confident"),
    "calibration_error_fitted": ("Calibration error when fitted", "after division by that temperature"),
    "margin": ("Mean margin", "score of the chosen minus score of the rejected response"),
    "score_length_correlation": ("Correlation of score and length", "tokens, over all responses"),
    "score_length_correlation_within": (
        "… within pairs",
        "longer than the other, scored higher than the other",
    ),
    "prompts_shared": ("Held-out prompts also trained on", ""),
}
PROCESS_METRICS: dict[str, tuple[str, str]] = {
    "step_f1": ("F1 of steps", "mean of the next two"),
    "step_f1_right": ("… of right steps", "neutral ones among them, unless they were learnt as wrong"),
    "step_f1_wrong": ("… of wrong steps", ""),
    "class_f1": ("F1 of three classes", "mean; a step is taken for the most probable one"),
    "class_f1/right": ("… right", ""),
    "class_f1/neutral": ("… neutral", ""),
    "class_f1/wrong": ("… wrong", ""),
    "step_accuracy": ("Accuracy of steps", "taken for what they are marked as"),
    "first_error_accuracy": ("First errors found", "the very step, of solutions with an error"),
    "sound_accuracy": ("Sound solutions recognised", "no step of them is taken for wrong"),
    "first_error_f1": ("F1 of first errors", "harmonic mean of these two, as ProcessBench has it"),
    "solution_auc": (
        "Right answers told from wrong ones",
        "how often one scores higher than the other; 50 % is chance",
    ),
    "step_calibration_error": (
        "Calibration error of steps",
        "mean gap between confidence and accuracy (ECE, 10 bins)",
    ),
}


@dataclass(frozen=True)
class Number:
    """A row as it is printed: `text`, and the interval as "[79, 87]" or nothing."""

    row: Row
    text: str
    interval: str


Sentence = list["str | Number"]


def display(model: str) -> str:
    """A model's name as people write it: acronyms in capitals, everything else as it was given."""
    return ACRONYMS.get(model.lower(), model)


def figure(value: float | None, unit: str) -> str:
    """A value with as many digits as mean something in its unit, without the unit's name."""
    if value is None:
        return "–"
    if unit == "share":
        percent = 100 * value
        return _fixed(percent, 1 if 0 < abs(percent) < 9.95 else 0)
    if unit == "p" and value < 0.001:
        return "< 0.001"
    size = abs(value)
    known = {
        "p": 3,
        "score": 2,
        "overlap": 4,
        "pairs": 0,
        "prompts": 0,
        "responses": 0,
        "steps": 0,
        "s": 1 if size >= 1 else 3,
    }
    by_size = 0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 1 else 3
    return _fixed(value, known.get(unit, by_size))


def _fixed(value: float, digits: int) -> str:
    """With so many decimals; nothing that rounds to zero has a sign."""
    return f"{round(value, digits) + 0.0:,.{digits}f}"


def amount(value: float, unit: str) -> str:
    """A large number in three digits: 1.23 M, 45.6 GFLOPs; memory in MiB or GiB."""
    if unit == "MiB":
        return f"{value / 1024:.2f} GiB" if value >= 1024 else f"{value:.0f} MiB"
    power = min(max(int(math.log10(max(value, 1.0)) // 3), 0), len(PREFIXES) - 1)
    prefix, scaled = PREFIXES[power], value / 1000**power
    text = f"{scaled:.3g}" if power else f"{scaled:.0f}"
    return f"{text} {prefix}{'FLOPs' if unit == 'FLOPs' else ''}".strip()


def number(row: Row, text: str | None = None) -> Number:
    """A row, ready to print; `text` replaces the value as it would be written."""
    if text is None and row.n == 1 and row.unit == "tokens" and row.value is not None:
        text = f"{row.value:.0f} tokens"
    if text is None and row.unit in AMOUNTS and row.value is not None:
        text = amount(row.value, row.unit)
    unit = {"share": " %", "nats": " nats", "tokens": " tokens", "s": " s"}.get(row.unit, "")
    shown = (
        text if text is not None else figure(row.value, row.unit) + (unit if row.value is not None else "")
    )
    if row.low is None or row.high is None or not has_width(row.low, row.high):
        return Number(row, shown, "")
    low, high = (
        amount(bound, row.unit) if row.unit in AMOUNTS else figure(bound, row.unit)
        for bound in (row.low, row.high)
    )
    return Number(row, shown, f"[{low}, {high}]")


def one(rows: Sequence[Row], model: str, metric: str, task: str = OVERALL) -> Row | None:
    """The row of this model, metric and task when it has a value."""
    return next(
        (r for r in rows if (r.model, r.metric, r.task) == (model, metric, task) and r.value is not None),
        None,
    )


def verdict(win_rate: Row) -> int:
    """1: the interval is above one half; -1: below; 0: it includes one half."""
    assert win_rate.low is not None and win_rate.high is not None, "a win rate has an interval"
    return int(win_rate.low > 0.5) - int(win_rate.high < 0.5)


def headline(rows: Sequence[Row], baseline: str) -> list[Sentence]:
    """One sentence per model that was compared with the baseline, best first."""
    found = [r for r in rows if r.metric == "win_rate" and r.task == OVERALL and r.value is not None]
    sentences: list[Sentence] = []
    for r in sorted(found, key=lambda r: -(r.value or 0)):
        name, other, n = display(r.model), display(baseline or "the baseline"), f"{r.n:,} held-out prompts."
        if verdict(r) > 0:
            sentences.append([f"{name} is preferred to {other} on ", number(r), f" of {n}"])
        elif verdict(r) < 0:
            sentences.append(
                [f"{name} is worse than {other}: it is preferred on only ", number(r), f" of {n}"]
            )
        else:
            sentences.append(
                [f"{name} and {other} cannot be told apart: {name} is preferred on ", number(r), f" of {n}"]
            )
    return sentences


def reward_sentence(rows: Sequence[Row], model: str, among: bool = False) -> Sentence:
    """How well the reward model foretells the labels of held-out pairs, and how well one can; `among` several it is named."""
    r, most = one(rows, model, "accuracy"), one(rows, model, "ceiling")
    if r is None:
        return []
    found: Sentence = [
        f"The reward model {model} agrees with " if among else "The reward model agrees with ",
        number(r),
        f" of the labels of {r.n:,} held-out pairs",
    ]
    return [*found, "; their noise allows ", number(most), "."] if most else [*found, "."]


def process_sentence(rows: Sequence[Row], model: str, among: bool = False) -> Sentence:
    """How often the process reward model finds the first error, and what it takes for one; `among` several it is named."""
    hit, sound = one(rows, model, "first_error_accuracy"), one(rows, model, "sound_accuracy")
    if hit is None or sound is None or hit.value is None or sound.value is None:
        return []
    return [
        f"The process reward model {model} finds " if among else "The process reward model finds ",
        number(hit),
        f" of the first errors of {hit.n:,} held-out solutions, and leaves ",
        number(sound),
        f" of {sound.n:,} sound ones without a complaint.",
    ]


def warnings(rows: Sequence[Row], models: Sequence[str], baseline: str) -> list[Sentence]:
    """What a reader should not overlook."""
    found: list[Sentence] = []
    for model in models:
        name, win = display(model), one(rows, model, "win_rate")
        if win is not None and verdict(win) == 0:
            found.append(
                [
                    f"{name}: the win rate of ",
                    number(win),
                    " is not distinguishable from 50 %; use more prompts.",
                ]
            )
        eos = one(rows, model, "missing_eos")
        if eos is not None and (eos.value or 0) > MISSING_EOS_LIMIT:
            found.append(
                [f"{name}: ", number(eos), " of the responses do not end by themselves (more than 5 %)."]
            )
        kl = one(rows, model, "kl")
        if kl is not None and (kl.value or 0) > KL_LIMIT:
            found.append(
                [
                    f"{name}: it is ",
                    number(kl),
                    " away from the reference; read its samples for over-optimisation.",
                ]
            )
        drift = one(rows, model, "length_change")
        if drift is not None and abs(drift.value or 0) > LENGTH_DRIFT_LIMIT:
            more = "longer" if (drift.value or 0) > 0 else "shorter"
            text = figure(abs(drift.value or 0), "share") + " %"
            also = one(rows, model, "win_rate_similar_length")
            rest: Sentence = (
                [" among pairs of similar length the win rate is ", number(also), "."] if also else []
            )
            link = ";" if also else "."
            other = display(baseline)
            found.append(
                [
                    f"{name}: responses are ",
                    number(drift, text),
                    f" {more} than those of {other}{link}",
                    *rest,
                ]
            )
    return found


def without_kl(models: Sequence[str]) -> list[Sentence]:
    """That these models have no KL, and why."""
    return [
        [
            f"{display(model)}: no KL, because the reference cannot read its tokens (another tokenizer, or fewer embeddings)."
        ]
        for model in models
    ]


def other_tokenizers(groups: Sequence[Sequence[str]]) -> str:
    """That what is counted by token says nothing across these groups of models, each with a tokenizer of its own; "" for one."""
    if len(groups) < 2:
        return ""
    first, *others = (", ".join(map(display, group)) for group in groups)
    return (
        f"{first} and {' and '.join(others)} have different tokenizers: what is counted by token (loss, perplexity, entropy, "
        "length) cannot be compared between them; perplexity per word and bits per byte can."
    )
