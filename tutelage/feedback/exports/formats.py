"""The rows of every export format, made from the answers in the store.

Each function returns its rows and counts in `left_out` what has no place in the format, by reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tutelage.feedback.asking.payloads import PairAnswer, RankAnswer, RateAnswer
from tutelage.feedback.exports.current import (
    AnsweredItem,
    CurrentAnswer,
    RowDict,
    Source,
    aliases,
    answered_responses,
)
from tutelage.feedback.exports.outcomes import (
    BY_SKILL,
    TIE,
    compared,
    counted,
    marked_steps,
    mean_ratings,
    neutral_gone,
    rankings,
    rated_responses,
    refuse,
)
from tutelage.feedback.exports.provenance import provenance
from tutelage.records import Comparison, Finish, Message, Prompt
from tutelage.store.comparing import ItemContent, stream_written

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"  # Anthropic's transcripts (hh-rlhf)


def preference(source: Source) -> Iterator[RowDict]:
    """TRL's preference rows, with ours (p_chosen, task, reference, ...) beside them: readable as data=."""
    rows = compared(source)
    for (pair, comparison), more in (
        provenance(source, rows) if source.spec.provenance else ((row, {}) for row in rows)
    ):
        yield comparison.to_json() | {"item": pair.group, "split": pair.split} | more


def hh(source: Source) -> Iterator[RowDict]:
    """Anthropic's transcripts.  They know no ties, no system turns and nothing between better and worse."""
    for _, comparison in compared(source):
        reason = _not_for_hh(comparison)
        if reason:
            source.left_out[reason] += 1
            continue
        start = "".join(
            f"{HUMAN if turn.role == 'user' else ASSISTANT} {turn.content}"
            for turn in turns_of(comparison.prompt)
        )
        yield {
            "chosen": f"{start}{ASSISTANT} {comparison.chosen}",
            "rejected": f"{start}{ASSISTANT} {comparison.rejected}",
        }


def unpaired(source: Source) -> Iterator[RowDict]:
    """{prompt, completion, label}: single responses, good or not."""
    if source.spec.labels_from == "pairs":
        yield from _unpaired_from_pairs(source)
        return
    refuse(source, BY_SKILL, "needs labels_from=pairs here: choose that, or majority.")
    label = _acceptable if source.spec.labels_from == "acceptable" else _rated_well
    for item, slot in answered_responses(source, "pair", "rank", "rate"):
        yield from _unpaired_rows(source, item, slot, label)


def ranked(source: Source) -> Iterator[RowDict]:
    """{prompt, responses, ranks}: 1 = best, equal ranks are ties.  majority: in the order of the mean rank."""
    for content, ranks in rankings(source):
        yield _item_columns(content) | {
            "responses": [_completion(content.prompt, text) for text in content.texts],
            "responses_finish": list(content.finishes),
            "ranks": list(ranks),
        }


def stepwise(source: Source) -> Iterator[RowDict]:
    """{prompt, completions: steps, labels}: TRL's stepwise rows; after a first wrong step nothing need follow."""
    for one in marked_steps(source):
        labels = neutral_gone(source, one.labels)
        if labels:
            said = {"completions": one.steps, "labels": labels, "completion_finish": one.finish}
            yield _item_columns(one.item) | said


def sft(source: Source) -> Iterator[RowDict]:
    """{prompt, completion}: demonstrations and rewrites."""
    written = stream_written(source.connection, source.project_id)
    for row in source.wanted((one.item.item_id, one.item.split, one.redacted, one) for one in written):
        yield _prompt_columns(row.item.prompt) | {
            "completion": _completion(row.item.prompt, row.text),
            "split": row.item.split,
        }


def ratings(source: Source) -> Iterator[RowDict]:
    """{prompt, response, n, values: {criterion: value}}: means over n annotators; all: one row each.

    adjudicated: the values that settled a conflict; unsettled ones are left out.
    """
    alias = aliases(source)
    for item, slot, answers in rated_responses(source):
        response = {"response": item.content.texts[slot], "response_finish": item.content.finishes[slot]}
        who = {"annotator": alias[answers[0].annotator]} if source.aggregation == "all" else {}
        said = {"slot": slot} | who | {"n": len(answers), "values": mean_ratings(answers, slot)}
        yield _item_columns(item.content) | response | said


# comparisons ----------------------------------------------------------------------------------------------------------


def _not_for_hh(row: Comparison) -> str:
    turns = turns_of(row.prompt)
    if row.p_chosen == 0.5:
        return "tie: transcripts have none"
    if row.prompt.tools or any(turn.tool_calls for turn in turns):
        return "prompt has tools, which transcripts cannot say"
    if "length" in (row.chosen_finish, row.rejected_finish):
        return "response was cut, which transcripts cannot say"
    if [turn.role for turn in turns] != ["user", "assistant"] * (len(turns) // 2) + ["user"]:
        return "conversation is not human, assistant, human, ..."
    texts = [*(turn.content for turn in turns), row.chosen, row.rejected]
    if any(mark in f"\n\n{text.lstrip()}" for text in texts for mark in (HUMAN, ASSISTANT)):
        return "text contains the transcript's own marks"
    if any(text != text.strip() for text in texts):
        return "text begins or ends with white space, which transcripts lose"
    if row.chosen == row.rejected:
        return "both responses are the same"
    return ""


# single responses -----------------------------------------------------------------------------------------------------


def _unpaired_from_pairs(source: Source) -> Iterator[RowDict]:
    """Both halves of every strict pair; a response that is in several pairs gives several rows."""
    for pair, row in compared(source):
        if row.p_chosen == 0.5:
            source.left_out[TIE] += 1
            continue
        for text, finish, label in (
            (row.chosen, row.chosen_finish, True),
            (row.rejected, row.rejected_finish, False),
        ):
            columns = _prompt_columns(row.prompt) | {"item": pair.group, "split": pair.split}
            yield columns | _labelled(row.prompt, text, finish, label)


def _unpaired_rows(
    source: Source, item: AnsweredItem, slot: int, label: Callable[[CurrentAnswer, int], bool | None]
) -> Iterator[RowDict]:
    """The rows of one response."""
    votes = counted(source, item, lambda one: label(one, slot))
    if votes is None:
        return
    balance = sum(weight if said else -weight for said, weight in votes)
    if source.aggregation == "all":
        labels = [said for said, _ in votes]
    else:
        labels = [balance > 0] if balance else []
    if not labels:
        source.left_out[TIE if votes else "no label"] += 1
    content = item.content
    for one in labels:
        row = _labelled(content.prompt, content.texts[slot], content.finishes[slot], one)
        yield _item_columns(content) | row


def _labelled(prompt: Prompt, text: str, finish: Finish, label: bool) -> RowDict:
    return {"completion": _completion(prompt, text), "completion_finish": finish, "label": label}


def _acceptable(given: CurrentAnswer, slot: int) -> bool | None:
    answer = given.answer
    if isinstance(answer, PairAnswer | RankAnswer | RateAnswer) and answer.acceptable:
        return answer.acceptable[slot]
    return None


def _rated_well(given: CurrentAnswer, slot: int) -> bool | None:
    """Above the middle of the scale by the criterion `overall` (or the first one there is); the middle says nothing."""
    if not isinstance(given.answer, RateAnswer):
        return None
    names = [criterion["name"] for criterion in given.questions["criteria"]]
    values = given.answer.ratings.get("overall" if "overall" in names else names[0])
    middle = (1 + given.questions["scale"]) / 2
    value = None if values is None else values[slot]
    return None if value is None or value == middle else value > middle


# columns --------------------------------------------------------------------------------------------------------------


def turns_of(prompt: Prompt) -> tuple[Message, ...]:
    """A prompt as turns; a plain one is one user's turn."""
    return (Message("user", prompt.content),) if isinstance(prompt.content, str) else prompt.content


def _item_columns(item: ItemContent) -> RowDict:
    return _prompt_columns(item.prompt) | {"item": item.digest, "split": item.split}


def _prompt_columns(prompt: Prompt) -> RowDict:
    return {"prompt": prompt.content_json(), "task": prompt.task, "reference": prompt.reference}


def _completion(prompt: Prompt, text: str) -> Any:
    """A response in the form that goes with its prompt: text, or one assistant message."""
    return [Message("assistant", text).to_json()] if prompt.is_chat else text


WRITERS: dict[str, Callable[[Source], Iterator[RowDict]]] = {
    "preference": preference,
    "hh": hh,
    "unpaired": unpaired,
    "ranked": ranked,
    "stepwise": stepwise,
    "sft": sft,
    "ratings": ratings,
}
