"""Why a record is of no use for training, whatever the tokenizer: what trainers drop, and what is said of a file beforehand."""

from __future__ import annotations

from typing import Any

from tutelage.records import Comparison, Conversation, Demonstration, Document, Prompt, StepMarks

UNPROMPTED = "with an empty prompt"  # where the tokenizer has no token to start from, either
IDENTICAL, EMPTY = "with identical chosen and rejected", "with an empty response"
CUT, WORDLESS = (
    "with a response that was cut (cut_responses=drop)",
    "with a response that was cut before its first word",
)


def why_not_prompt(prompt: Prompt) -> str | None:
    last = prompt.content if isinstance(prompt.content, str) else prompt.content[-1].content
    return None if last.strip() else UNPROMPTED


def why_not_document(row: Document | Conversation) -> str | None:
    if isinstance(row, Conversation):
        return why_not_conversation(row)
    return None if row.text.strip() else "with no text"


def why_not_conversation(row: Conversation) -> str | None:
    """An assistant's turn that neither speaks nor calls would teach silence; one that is context only teaches nothing."""
    trained = (message for message in row.messages if message.role == "assistant" and message.trained)
    return None if all(message.said for message in trained) else "with an empty assistant turn"


def why_not_demonstration(row: Demonstration | Conversation, cut_responses: str) -> str | None:
    """An empty demonstration is a gap in the data, not somebody's example of saying nothing: it would teach silence."""
    if isinstance(row, Conversation):
        return why_not_conversation(row)
    if not row.response.strip():
        return EMPTY
    return CUT if row.finish == "length" and cut_responses == "drop" else None


def why_not_comparison(row: Comparison, cut_responses: str) -> str | None:
    if (row.chosen, row.chosen_finish) == (row.rejected, row.rejected_finish):
        return IDENTICAL
    return CUT if cut_responses_in(row) and cut_responses == "drop" else None


def why_not_step_marks(row: StepMarks, about: str, neutral: str) -> str | None:
    """Where nothing was said there is nothing to learn."""
    if about != "steps":
        if not "".join(row.steps).strip():
            return EMPTY
        return "whose outcome is not known" if row.outcome is None else None
    said = [label for label in row.labels if label is not None]
    if not said:
        return "with no step that is marked"
    nothing = neutral == "drop" and not row.soft and not any(said)
    return "whose marked steps are all neutral (neutral=drop)" if nothing else None


def why_not_solution(row: StepMarks | Demonstration | Conversation) -> str | None:
    """A solution is one response of words."""
    if isinstance(row, Conversation):
        return "that is a conversation: write prompt and completion"
    text = row.response if isinstance(row, Demonstration) else "".join(row.steps)
    return None if text.strip() else EMPTY


def cut_responses_in(row: Any) -> int:
    """How many responses of a row were cut before their end."""
    ends = [getattr(row, name, "eos") for name in ("finish", "chosen_finish", "rejected_finish")]
    return ends.count("length")


def is_glued(row: Any) -> bool:
    """Whether plain text goes on without white space where the response begins."""
    if not isinstance(row, Demonstration | Comparison) or not isinstance(row.prompt.content, str):
        return False
    response = row.response if isinstance(row, Demonstration) else row.chosen
    before, after = row.prompt.content[-1:], response[:1]
    return bool(before and after) and not (before.isspace() or after.isspace())
