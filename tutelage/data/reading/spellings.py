"""Comparisons under other names, put into ours: who published them is said in docs/data.md.

Each function takes a row's columns and gives new ones; what it used is not among them.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from tutelage.data.reading.cells import Skip, blank, parsed, shown

Columns = dict[str, Any]
QUESTIONS = ("instruction", "question", "query", "problem", "input", "inputs")
DETAILS = ("input", "context")
SYSTEMS = ("system", "system_prompt")
ANSWERS = ("completion", "response", "output", "answer", "solution", "target", "targets")
TURNS = ("messages", "conversations", "conversation", "dialogue", "dialog", "data")
LABELS = ("label", "kto_tag")
SIDES = ("chosen", "rejected")
STEPS, MARKS = ("completions", "steps"), ("labels", "marks")
_OTHERS = (
    "history",
    "tools",
    "functions",
    "turns",
    "text",
    "task",
    "reference",
    "split",
    "p_chosen",
    "margin",
    "weight",
    "group",
    "responses",
    "ranks",
    "responses_finish",
    "completions",
    "annotator",
    "values",
    "ratings",
    "rating",
    "score",
    "outcome",
    "final_answer_correct",
)
_FINISHES = tuple(f"{name}_finish" for name in (*ANSWERS, *SIDES))
KNOWN = tuple(
    dict.fromkeys(
        (
            *("prompt", *SIDES, *ANSWERS, *QUESTIONS, *DETAILS, *SYSTEMS, *TURNS, *LABELS),
            *(*STEPS, *MARKS, *_OTHERS, *_FINISHES),
        )
    )
)
"""Every column that means something to us."""
WITHIN = "reference."  # before a name that is one within the object of that column


def respell(columns: Mapping[str, Any]) -> Mapping[str, Any]:
    """The columns under our names."""
    if not _TELLING.isdisjoint(columns):
        for names, put in SPELLINGS:
            if all(name in columns for name in names):
                return put(dict(columns))
    return columns


def null_in(columns: Mapping[str, Any], nulls: Sequence[str]) -> str:
    """The column that is null where all others of comparisons under other names are there, "" where there is none."""
    for names, _ in SPELLINGS:
        missing = [name for name in names if name not in columns]
        if missing and len(missing) < len(names) and all(name in nulls for name in missing):
            return missing[0]
    return ""


def check_columns(ours: Mapping[str, str]) -> None:
    """Raises ValueError where the setting `columns` has a name before the colon that is none of ours."""
    for name in ours:
        if name == WITHIN or (name.startswith(WITHIN) and "reference" in ours):
            raise ValueError(
                f"columns={{{name}: {ours[name]}}}: reference is one column, or made of several: write reference: {ours[name]}, "
                "or reference.NAME for each"
            )
        if name not in KNOWN and not name.startswith(WITHIN):
            near = difflib.get_close_matches(name, KNOWN, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"our names are {', '.join(KNOWN)}"
            raise ValueError(f"columns={{{name}: {ours[name]}}}: {name!r} is no column that we know: {hint}")


def renamed(columns: Mapping[str, Any], ours: Mapping[str, str]) -> Columns:
    """The columns with those of `ours` (our name -> theirs, `a.b` for b within a) under our names.

    `reference.b` is b within the object `reference`, which is made of all such.  A column that stood under our name before is
    kept as "NAME (replaced)", so that it is said to be unused.
    """
    found = {name: cell for name, cell in columns.items() if name not in ours.values()}
    for name, theirs in ours.items():
        cell = columns[theirs] if theirs in columns else _within(columns, theirs)
        if name in found and cell is not None:
            found[f"{name} (replaced)"] = found.pop(name)
        if cell is not None:
            found[name] = cell
    inside = {
        name.removeprefix(WITHIN): found.pop(name)
        for name in [*found]
        if name in ours and name.startswith(WITHIN)
    }
    if inside and "reference" in found and "reference" not in ours:
        found["reference (replaced)"] = found.pop("reference")
    return found | {"reference": inside} if inside else found


def _within(columns: Mapping[str, Any], path: str) -> Any:
    value: Any = columns
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _sides(columns: Columns, first: str, second: str, share: float) -> Columns:
    """The two columns as chosen and rejected; share: probability that the first is better."""
    one, other = columns.pop(first), columns.pop(second)
    chosen, rejected = (one, other) if share >= 0.5 else (other, one)
    return columns | {"chosen": chosen, "rejected": rejected, "p_chosen": max(share, 1 - share)}


def _openai(columns: Columns) -> Columns:
    asked = columns.pop("input")
    sides = {"chosen": columns.pop("preferred_output"), "rejected": columns.pop("non_preferred_output")}
    return columns | sides | {"prompt": asked}


def _safe_rlhf(columns: Columns) -> Columns:
    better = _which(columns, "better_response_id")
    _question(columns, "prompt", columns.pop("prompt"))
    return _sides(columns, "response_0", "response_1", 1.0 - better)


def _helpsteer2(columns: Columns) -> Columns:
    _question(columns, "prompt", columns.pop("prompt"))
    return _sides(columns, "response_1", "response_2", _by_sign(-_strength(columns, "preference_strength")))


def _helpsteer3(columns: Columns) -> Columns:
    columns["prompt"] = columns.pop("context")
    return _sides(columns, "response1", "response2", _by_sign(-_strength(columns, "overall_preference")))


def _shp(columns: Columns) -> Columns:
    _question(columns, "history", columns.pop("history"))
    return _sides(columns, "human_ref_A", "human_ref_B", _which(columns, "labels"))


def _webgpt(columns: Columns) -> Columns:
    asked = columns.pop("question")
    _question(columns, "question", asked.get("full_text") if isinstance(asked, dict) else asked)
    difference = _number(columns, "score_0") - _number(columns, "score_1")
    return _sides(columns, "answer_0", "answer_1", _by_sign(difference))


def _arena(columns: Columns) -> Columns:
    winner = columns.pop("winner")
    shares = {"model_a": 1.0, "model_b": 0.0}
    if not isinstance(winner, str) or not (winner in shares or winner.startswith("tie")):
        raise Skip(f"with the unknown winner {shown(winner)}")
    return _sides(columns, "conversation_a", "conversation_b", shares.get(winner, 0.5))


def _arena_table(columns: Columns) -> Columns:
    won = [_which(columns, name) for name in ("winner_model_a", "winner_model_b")]
    tied = _which(columns, "winner_tie") if "winner_tie" in columns else 1.0 - sum(won)
    if sum(won) + tied != 1.0:
        raise Skip("with more than one winner, or none")
    asked = _texts(columns.pop("prompt"))
    for side in ("response_a", "response_b"):
        said = _texts(columns[side])
        if len(said) != len(asked):
            raise Skip(f"with {len(said)} turns in {side} for {len(asked)} questions")
        columns[side] = list(chain.from_iterable(zip(asked, said, strict=True)))
    return _sides(columns, "response_a", "response_b", _by_sign(won[0] - won[1]))


def _summaries(columns: Columns) -> Columns:
    found = columns.pop("summaries")
    if not isinstance(found, list) or len(found) != 2:
        raise Skip("whose summaries are not two")
    texts = [item.get("text") if isinstance(item, dict) else item for item in found]
    if any(text is None for text in texts):
        raise Skip("with a summary that has no text")
    choice, info = _which(columns, "choice"), columns.pop("info")
    post = (info.get("post") or info.get("article")) if isinstance(info, dict) else info
    _question(columns, "info", post)
    return _sides(columns | {"one": texts[0], "other": texts[1]}, "one", "other", 1.0 - choice)


def _question(columns: Columns, name: str, text: Any) -> None:
    """What was asked, as a user's turn."""
    if isinstance(text, str):
        columns["instruction"] = text
    elif not blank(text):
        columns["prompt"] = text
    else:
        raise Skip(f"with an empty {name}")


def _number(columns: Columns, name: str) -> float:
    value = columns.pop(name)
    found = math.nan
    with suppress(TypeError, ValueError, OverflowError):
        found = float(value)
    if not math.isfinite(found):
        raise Skip(f"whose {name} must be a number, not {shown(value)}")
    return found


def _strength(columns: Columns, name: str) -> float:
    """By how much the second is better, from -3 to 3."""
    found = _number(columns, name)
    if not -3 <= found <= 3:
        raise Skip(f"whose {name} is {found:g}, but it lies between -3 and 3")
    return found


def _which(columns: Columns, name: str) -> float:
    """0 or 1: which of two."""
    found = _number(columns, name)
    if found not in (0.0, 1.0):
        raise Skip(f"whose {name} must be 0 or 1, not {found:g}")
    return found


def _by_sign(difference: float) -> float:
    return 0.5 + 0.5 * ((difference > 0) - (difference < 0))


def _texts(value: Any) -> list[Any]:
    found = parsed(value, "[")
    return found if isinstance(found, list) else [found]


SPELLINGS: tuple[tuple[tuple[str, ...], Callable[[Columns], Columns]], ...] = (
    (("input", "preferred_output", "non_preferred_output"), _openai),
    (("prompt", "response_0", "response_1", "better_response_id"), _safe_rlhf),
    (("prompt", "response_1", "response_2", "preference_strength"), _helpsteer2),
    (("context", "response1", "response2", "overall_preference"), _helpsteer3),
    (("history", "human_ref_A", "human_ref_B", "labels"), _shp),
    (("question", "answer_0", "answer_1", "score_0", "score_1"), _webgpt),
    (("conversation_a", "conversation_b", "winner"), _arena),
    (("prompt", "response_a", "response_b", "winner_model_a", "winner_model_b"), _arena_table),
    (("info", "summaries", "choice"), _summaries),
)
_TELLING = {names[-1] for names, _ in SPELLINGS}
