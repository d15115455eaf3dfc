"""The usual names of layouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.data.reading.cells import parsed
from tutelage.data.reading.rows import is_conversation
from tutelage.data.reading.spellings import ANSWERS, SPELLINGS, TURNS
from tutelage.data.reading.steps import published
from tutelage.data.reading.transcripts import is_transcript
from tutelage.data.reading.trees import is_tree
from tutelage.inspect.facts import Layout
from tutelage.records import Place

PUBLISHED = (
    "OpenAI preference (input, preferred_output, non_preferred_output)",
    "PKU-SafeRLHF (prompt, response_0, response_1, better_response_id)",
    "HelpSteer2 preference (prompt, response_1, response_2, preference_strength)",
    "HelpSteer3 preference (context, response1, response2, overall_preference)",
    "SHP (history, human_ref_A, human_ref_B, labels)",
    "WebGPT comparisons (question, answer_0, answer_1, score_0, score_1)",
    "Chatbot Arena (conversation_a, conversation_b, winner)",
    "Chatbot Arena table (prompt, response_a, response_b, winner_model_a, winner_model_b)",
    "Summarize from feedback (info, summaries, choice)",
)
"""In the order of `SPELLINGS`."""

NAMED = (
    (("instruction", "output"), "Alpaca (instruction, input, output)"),
    (("instruction", "context", "response"), "Dolly (instruction, context, response)"),
    (("system_prompt", "question", "response"), "OpenOrca (system_prompt, question, response)"),
    (("prompt", "completion"), "prompt and completion (TRL)"),
    (("question", "answer"), "question and answer (GSM8K)"),
)
SEVERAL = {
    ("responses", "ranks"): "ranking (prompt, responses, ranks)",
    ("completions", "labels"): "step marks (prompt, completions, labels)",
    ("completions", "marks"): "step marks (prompt, completions, marks)",
    ("context", "completions"): "NeMo's ranked completions (context, completions)",
    ("instruction", "completions"): "UltraFeedback (instruction, completions)",
    ("response", "values"): "ratings (prompt, response, values)",
    ("response", "helpfulness"): "HelpSteer (prompt, response, helpfulness, ...)",
}
MOST = 50  # layouts that are told apart


class Layouts:
    """Counts rows by layout."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[set[str], int, Place]] = {}

    def add(self, place: Place, columns: Mapping[str, Any], ours: Mapping[str, str]) -> None:
        """ours: the setting `columns`, our names -> theirs."""
        name = layout_of(columns)
        if ours:
            name += ", under other names"
        names, rows, first = self._found.get(name, (set(), 0, place))
        if rows or len(self._found) < MOST:
            self._found[name] = (names | columns.keys(), rows + 1, first)

    @property
    def found(self) -> tuple[Layout, ...]:
        """The commonest first."""
        ordered = sorted(self._found.items(), key=lambda item: -item[1][1])
        return tuple(
            Layout(name, tuple(sorted(names)), rows, first) for name, (names, rows, first) in ordered
        )


def layout_of(columns: Mapping[str, Any]) -> str:
    """What people call rows with these columns; else the columns that say most, or all of them."""
    for (names, _), name in zip(SPELLINGS, PUBLISHED, strict=True):
        if all(column in columns for column in names):
            return name
    if is_tree(columns.get("prompt")):
        return "OpenAssistant trees (prompt, replies)"
    if "chosen" in columns and "rejected" in columns:
        return _preference(columns)
    if columns.get("kind") in ("questions", "guidelines", "answer") and ("n" in columns or "item" in columns):
        return "a raw export of a feedback store"
    if form := published(columns):
        return f"{form.name} ({', '.join(form.columns)})"
    if several := next((names for names in SEVERAL if all(name in columns for name in names)), None):
        return SEVERAL[several]
    answer = next((name for name in ANSWERS if name in columns), "")
    for names, name in NAMED:
        if all(column in columns for column in names):
            return name
    turns = next((name for name in TURNS if name in columns), "")
    if turns:
        return _conversation(turns, columns[turns])
    asked = next((name for name in ("prompt", "instruction", "question", "input") if name in columns), "")
    if answer and asked:
        return f"{asked} and {answer}"
    if "turns" in columns:
        return "MT-Bench questions (turns)"
    if asked:
        return f"prompts ({asked})"
    return "documents (text)" if "text" in columns else f"no known layout ({_listed(columns)})"


def _preference(columns: Mapping[str, Any]) -> str:
    if "instruction" in columns or "question" in columns:
        name = "instruction" if "instruction" in columns else "question"
        return f"preference ({name}, chosen, rejected)"
    if "prompt" in columns:
        return "preference (prompt, chosen, rejected)"
    if turns := next((name for name in TURNS if name in columns), ""):
        return f"preference ({turns}, chosen, rejected)"
    chosen = columns["chosen"]
    if isinstance(chosen, str) and is_transcript(chosen):
        return "Anthropic HH (chosen and rejected transcripts)"
    return "preference (chosen, rejected; the prompt is what both share)"


def _conversation(name: str, value: Any) -> str:
    value = parsed(value, "[")
    if is_conversation(value) and "from" in value[0]:
        return f"ShareGPT ({name} with from and value)"
    return f"{name} (OpenAI, TRL)" if name == "messages" else f"conversations ({name})"


def _listed(columns: Mapping[str, Any]) -> str:
    names = list(columns)
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
