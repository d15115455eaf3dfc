"""Columns -> records.  What was asked and what was answered are read apart, so that any form of one goes with any of the other.

    asked     prompt (text, turns), or a user's turn from instruction, question, ... with input or context behind it;
              system and history stand before it; or a conversation that ends with a question
    answered  chosen + rejected (text, one turn, turns, the whole conversation), or completion, response, output, ...

Every column is asked for by name (`Cells`), so what nobody asked for is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import takewhile
from typing import Any, Literal

from tutelage.data.reading.cells import Cells, LeftOut, Skip, blank, parsed, wrong
from tutelage.data.reading.messages import MEDIA, Turns, read_tools, read_turns, spelled_out
from tutelage.data.reading.rankings import is_several, ratings_of, read_several
from tutelage.data.reading.rows import is_conversation, is_message
from tutelage.data.reading.spellings import (
    ANSWERS,
    DETAILS,
    LABELS,
    MARKS,
    QUESTIONS,
    SIDES,
    SYSTEMS,
    TURNS,
    respell,
)
from tutelage.data.reading.steps import (
    OUTCOMES,
    corrected_steps,
    is_marked,
    labels_in,
    published,
    respell_steps,
    steps_in,
)
from tutelage.data.reading.transcripts import is_dialogue, is_transcript, read_transcript
from tutelage.data.reading.trees import best_answers, is_tree, ranked_answers
from tutelage.records import (
    Comparison,
    Conversation,
    Demonstration,
    Document,
    Finish,
    Labelled,
    Message,
    Place,
    Prompt,
    Rating,
    StepMarks,
    Tool,
)

Record = Document | Conversation | Demonstration | Prompt | Comparison | Rating | Labelled | StepMarks
Content = str | Turns
Purpose = Literal[
    "comparisons",
    "ratings",
    "labelled responses",
    "step marks",
    "demonstrations",
    "prompts",
    "pretraining text",
]

TREE_MESSAGE = ("message_id", "role", "text")


def read_columns(
    columns: Mapping[str, Any], purpose: Purpose, place: Place | None = None
) -> tuple[list[Record], list[str]]:
    """The records of a row (a tree, or several answers, give several), and the columns that were not used.

    No record at all: no layout has these columns.  Raises `Skip` for a row that holds none for a reason of its own.
    """
    if purpose == "prompts" and _of_steps(columns) is not None:
        records, left = read_columns(columns, "step marks", place)
        return records[:1], left  # several chains of steps answer one prompt
    pairs = corrected_steps(columns) if purpose == "comparisons" else None
    spelled = respell_steps(columns) if purpose == "step marks" else pairs or [respell(columns)]
    records = []
    unused: dict[str, None] = {}
    for own in spelled:
        cells = Cells(own, place)
        if any(not blank(cells.columns[name]) for name in MEDIA if name in cells.columns):
            raise Skip("with pictures or sounds, which are not read")
        records += _records(cells, purpose)
        unused |= dict.fromkeys(cells.unused)
    return records, list(unused)


def _records(cells: Cells, purpose: Purpose) -> Iterator[Record]:
    answer, turns = cells.first(ANSWERS), _turns_column(cells)
    if purpose == "step marks" and is_marked(cells):
        yield _step_marks(cells, turns)
    elif purpose == "step marks":
        if answer and cells.first(LABELS) and (_asking(cells) or _open(cells, turns)):
            yield from _outcomes(cells, answer, turns)
    elif is_tree(cells.columns.get("prompt")):
        root = cells.get("prompt")
        found = ranked_answers(root) if purpose == "comparisons" else best_answers(root)
        for record in found:
            yield replace(record, prompt=replace(record.prompt, place=cells.place), place=cells.place)
    elif cells.has("chosen", "rejected"):
        pair = _comparison(cells, turns)
        yield from _halves(pair) if purpose == "labelled responses" else (pair,)
    elif is_several(cells.columns):
        yield from _several(cells, purpose)
    elif cells.has(*TREE_MESSAGE):
        raise Skip("that is one message of a tree: take the file of whole trees")
    elif (by := _of_steps(cells.columns)) is not None:
        raise Skip(
            f"that marks steps{by}, which process and mark data= read: here write prompt and completion, or pairs"
        )
    elif answer and purpose == "labelled responses" and (_asking(cells) or _open(cells, turns)):
        yield _labelled(cells, answer, turns)
    elif answer and purpose == "ratings" and (_asking(cells) or _open(cells, turns)):
        yield _rating(cells, answer, turns)
    elif answer and (_asking(cells) or _open(cells, turns)):
        _refuse_bad(cells, purpose)
        yield from _answered(cells, answer, turns)
    elif turns:
        _refuse_bad(cells, purpose)
        yield _conversation(cells, turns)
    elif _asking(cells):
        yield _prompt(cells, *_asked(cells, ""))
    elif cells.has("text"):
        yield Document(cells.text("text"), place=cells.place)
    elif cells.has("turns"):
        yield _first_turn(cells)


def _of_steps(columns: Mapping[str, Any]) -> str | None:
    """Of a row whose steps are marked who publishes such (" (PRM800K)"; "" for TRL's columns), None for other rows."""
    if form := published(columns):
        return None if any(name in columns for name in ANSWERS) else f" ({form.name})"
    ours = "completions" in columns and any(name in columns for name in MARKS)
    return "" if ours and not is_several(columns) else None


# ---- what was asked ----------------------------------------------------------------------------------------------------


def _asking(cells: Cells) -> str:
    """The column that holds what was asked, "" where there is none."""
    return "prompt" if cells.has("prompt") else cells.first(QUESTIONS)


def _turns_column(cells: Cells) -> str:
    """The column that holds turns: the first that says something, else the first that is there, "" where none is."""
    there = [
        name
        for name in TURNS
        if name in cells.columns and (name != "data" or _are_texts(cells.columns[name]))
    ]
    return next((name for name in there if not blank(cells.columns[name])), next(iter(there), ""))


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _open(cells: Cells, turns: str) -> bool:
    """Whether the conversation ends with what is to be answered."""
    value = parsed(cells.columns.get(turns), "[")
    last = value[-1] if isinstance(value, list) and value else None
    return isinstance(last, dict) and read_turns(Cells({turns: [last]}), turns)[-1].role != "assistant"


def _asked(cells: Cells, turns: str) -> tuple[Content, tuple[Tool, ...]]:
    """What was asked, with everything that stands before it, and the tools that are there."""
    name, tools = _asking(cells), read_tools(cells)
    content: Content
    if name == "prompt":
        content, own = _prompt_cell(cells)
        tools = tools or own
    elif name:
        content = (Message("user", _question(cells, name)),)
    else:
        content = read_turns(cells, turns)
    before = (*_system(cells), *_history(cells))
    if not before and not (tools and isinstance(content, str)):
        return content, tools
    asked = (Message("user", content),) if isinstance(content, str) else content
    return _behind(before, asked), tools


def _prompt_cell(cells: Cells) -> tuple[Content, tuple[Tool, ...]]:
    """The column `prompt`: text, turns, or {"messages", "tools"}."""
    value = cells.get("prompt")
    if isinstance(value, list):
        return read_turns(cells, "prompt"), ()
    structured = parsed(value, "[", "{")
    if is_conversation(structured) or is_message(structured):
        return read_turns(cells.within({"prompt": structured}), "prompt"), ()
    if isinstance(structured, dict) and is_conversation(structured.get("messages")):
        return _inner_prompt(cells, structured)
    if not isinstance(value, str):
        wrong("prompt", "text or a list of messages", value)
    if not is_dialogue(value):
        return value, ()
    turns = read_transcript(value)
    return turns[:-1] if turns[-1] == Message("assistant", "") else turns, ()


def _in_transcript(cells: Cells) -> bool:
    """Whether an answer as text goes on a transcript, whose marks are set off by white space."""
    prompt = cells.columns.get("prompt")
    return isinstance(prompt, str) and is_dialogue(prompt)


def _inner_prompt(cells: Cells, value: Mapping[str, Any]) -> tuple[Turns, tuple[Tool, ...]]:
    inner = cells.within(value)
    found = read_turns(inner, "messages"), read_tools(inner)
    for name in set(inner.unused) & value.keys():
        cells.note(f"prompt: {name}")
    return found


def _question(cells: Cells, name: str) -> str:
    """The text of a user's turn: the question, and what it is about behind an empty line."""
    parts = [cells.text(name)]
    if name not in DETAILS:
        parts += [cells.text(detail) for detail in DETAILS]
    text = "\n\n".join(part for part in parts if part.strip())
    if not text:
        raise Skip(f"with an empty {name}")
    return text


def _system(cells: Cells) -> Turns:
    texts = [text for name in SYSTEMS if name in cells.columns and (text := cells.text(name)).strip()]
    if len({text.strip() for text in texts}) > 1:
        raise Skip("with two different system turns")
    return tuple(Message("system", text) for text in texts[:1])


def _history(cells: Cells) -> Turns:
    """Pairs of what a user said and what was answered, before the question."""
    if not cells.has("history"):
        return ()
    value = parsed(cells.get("history"), "[")
    if blank(value):
        return ()
    if is_conversation(value):
        return read_turns(cells.within({"history": value}), "history")
    pairs = isinstance(value, list) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in value
    )
    texts = [text for pair in value for text in pair] if pairs else []
    if not texts or not all(isinstance(text, str) for text in texts):
        wrong("history", "a list of pairs of texts", value)
    return tuple(Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts))


def _behind(before: Turns, turns: Turns) -> Turns:
    """The turns with others before them; a system turn that both have stands there once."""
    if before and turns and before[0].role == turns[0].role == "system":
        if _plain(before[0]) != _plain(turns[0]):
            raise Skip("with two different system turns")
        turns = turns[1:]
    return (*before, *turns)


def _prompt(cells: Cells, content: Content, tools: tuple[Tool, ...]) -> Prompt:
    """A prompt that can be answered: its turns are context, and the last one is nobody's answer."""
    if not isinstance(content, str):
        if content[-1].role == "assistant":
            raise Skip("whose prompt ends with an assistant's turn, not with what is to be answered")
        if content[-1].role == "system":
            raise Skip("whose prompt is a system turn alone: nobody asks anything")
        if not all(turn.trained for turn in content):
            content = tuple(replace(turn, trained=True) for turn in content)
    return Prompt(content, cells.text("task"), _reference(cells), tools, cells.place)


def _reference(cells: Cells) -> dict[str, Any] | None:
    """What a response is graded by: an object as it is, one answer as {"answer": it}, several as {"answers": them}."""
    if not cells.has("reference"):
        return None
    given = cells.get("reference")
    value = parsed(given, "{", "[")
    if isinstance(given, str) and isinstance(value, list) and not all(isinstance(one, str) for one in value):
        value = given  # "[0, 1]" is an interval, or a point, not two answers
    if isinstance(value, int | float) or (isinstance(value, str) and value.strip()):
        return {"answer": value}
    if isinstance(value, list) and value:
        return {"answers": value}
    return cells.object("reference") if isinstance(value, dict) or not blank(value) else None


def _first_turn(cells: Cells) -> Prompt:
    """What a user says turn by turn (MT-Bench): the first is a prompt, the others follow answers that are not there."""
    turns = cells.get("turns")
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], str):
        wrong("turns", "a list of texts", turns)
    if len(turns) > 1:
        cells.note("turns after the first")
    return _prompt(cells, (*_system(cells), Message("user", turns[0])), ())


# ---- what was answered -------------------------------------------------------------------------------------------------


def _refuse_bad(cells: Cells, purpose: Purpose) -> None:
    """An answer that is labelled as a bad one (KTO, our own export of single responses) is no example; its prompt is one."""
    if purpose != "prompts" and any(cells.truth(name) is False for name in LABELS):
        raise LeftOut("with label false: an answer that is not to be imitated")


def _answered(cells: Cells, name: str, turns: str) -> Iterator[Demonstration | Conversation]:
    prompt = _prompt(cells, *_asked(cells, turns))
    answer = spelled_out(cells.get(name))
    if name == "answer" and prompt.reference is None and isinstance(answer, str):
        prompt = replace(prompt, reference={"answer": answer})  # what a verifier needs for another response
    finish = cells.finish(f"{name}_finish")
    several = isinstance(answer, list) and answer and all(isinstance(item, str) for item in answer)
    for item in answer if several else [answer]:
        if isinstance(item, str):
            said = item.strip() if _in_transcript(cells) else item
            yield Demonstration(prompt, said, finish, cells.place)
        else:
            yield _turned(prompt, read_turns(cells, name), finish)


def _turned(prompt: Prompt, turns: Turns, finish: Finish) -> Demonstration | Conversation:
    """An answer given as turns: one turn of words is a response; calls, or several turns, are a conversation."""
    asked = (Message("user", prompt.content),) if isinstance(prompt.content, str) else prompt.content
    whole = _whole(asked, turns, isinstance(prompt.content, str))
    said = whole[-1]
    if len(whole) == len(asked) + 1 and said == Message("assistant", said.content):
        return Demonstration(replace(prompt, content=whole[:-1]), said.content, finish, prompt.place)
    context = (replace(turn, trained=turn.role != "assistant") for turn in whole[: len(asked)])
    return Conversation((*context, *whole[len(asked) :]), prompt.tools, prompt.place)


def _conversation(cells: Cells, name: str) -> Conversation:
    turns = _behind((*_system(cells), *_history(cells)), read_turns(cells, name))
    prompt = cells.columns.get("prompt")
    if isinstance(prompt, str) and any(turn.content.strip() == prompt.strip() for turn in turns):
        cells.get("prompt")  # it stands in the conversation as well (No Robots), and says nothing more
    return Conversation(turns, read_tools(cells), cells.place)


def _step_marks(cells: Cells, turns: str) -> StepMarks:
    """Steps with what was said of each; those after the last label are not marked."""
    prompt = _prompt(cells, *_asked(cells, turns))
    steps, (labels, soft) = steps_in(cells), labels_in(cells)
    if len(labels) > len(steps):
        raise Skip("with labels for more steps than it has")
    outcome = next((found for name in OUTCOMES if (found := cells.truth(name)) is not None), None)
    whole = (*labels, *[None] * (len(steps) - len(labels)))
    return StepMarks(prompt, steps, whole, soft, cells.finish("completion_finish"), outcome, cells.place)


def _outcomes(cells: Cells, answer: str, turns: str) -> Iterator[StepMarks]:
    """Answers that are right or wrong as a whole (KTO's columns): one step, which nobody marked, with its outcome."""
    name = cells.first(LABELS)
    outcome = cells.truth(name)
    if outcome is None:
        wrong(name, "true or false", cells.columns[name])
    for found in _answered(cells, answer, turns):
        if not isinstance(found, Demonstration):
            raise Skip("whose answer is not one turn of words")
        yield StepMarks(found.prompt, (found.response,), (None,), False, found.finish, outcome, cells.place)


# ---- ranked and rated --------------------------------------------------------------------------------------------------


def _several(cells: Cells, purpose: Purpose) -> Iterator[Record]:
    """What a row of several responses holds for a purpose."""
    found = read_several(cells)
    if purpose != "comparisons" and not _asking(cells.made_into(found.rest)):
        raise Skip("with no prompt")
    if purpose == "labelled responses":
        raise Skip("whose responses are ranked: which of them are good is not said")
    if purpose == "comparisons":
        for columns in found.comparisons():
            pair = cells.made_into(columns)
            yield _comparison(pair, _turns_column(pair))
    elif purpose == "ratings":
        rated = list(found.rated())
        if not rated:
            raise Skip("whose responses are ranked and not rated")
        for columns, ratings in rated:
            yield _rated(cells.made_into(columns), "completion", "", ratings)
    elif purpose == "prompts":
        yield _prompt(cells.made_into(found.rest), *_asked(cells.made_into(found.rest), ""))
    else:
        yield from _answered(cells.made_into(found.best()), "completion", "")


def _labelled(cells: Cells, answer: str, turns: str) -> Labelled:
    """The one response of a row, with its label."""
    name = cells.first(LABELS)
    if not name or blank(cells.columns[name]):
        raise Skip("with no label")
    good = cells.truth(name)
    if good is None:
        wrong(name, "true or false", cells.columns[name])
    one = _one_response(cells, answer, turns, "labelled")
    return Labelled(one.prompt, one.response, good, one.finish, one.place)


def _halves(pair: Comparison) -> Iterator[Labelled]:
    """The better response as a good one, the other as one that is not; a tie, and one with itself, say neither."""
    if (pair.chosen, pair.chosen_finish) == (pair.rejected, pair.rejected_finish):
        raise Skip("with identical chosen and rejected")
    if pair.p_chosen == 0.5:
        raise LeftOut("that is a tie, of which neither side is the better one")
    sides = (pair.chosen, pair.chosen_finish), (pair.rejected, pair.rejected_finish)
    for (text, finish), first in zip(sides, (True, False), strict=True):
        yield Labelled(pair.prompt, text, first == (pair.p_chosen > 0.5), finish, pair.place)


def _one_response(cells: Cells, answer: str, turns: str, what: str) -> Demonstration:
    said = list(_answered(cells, answer, turns))
    one = said[0]
    if len(said) != 1 or not isinstance(one, Demonstration):
        raise Skip(f"whose {what} response is not one turn of words")
    return one


def _rating(cells: Cells, answer: str, turns: str) -> Rating:
    """The one response of a row, with its ratings."""
    found = ratings_of(cells)
    if not found:
        raise Skip("with no rating")
    return _rated(cells, answer, turns, found)


def _rated(cells: Cells, answer: str, turns: str, ratings: Mapping[str, float]) -> Rating:
    one = _one_response(cells, answer, turns, "rated")
    return Rating(one.prompt, one.response, dict(ratings), cells.text("annotator"), one.finish, one.place)


# ---- comparisons -------------------------------------------------------------------------------------------------------


def _comparison(cells: Cells, turns: str) -> Comparison:
    asking = _asking(cells) or ("" if _all_whole(cells, turns) else turns)
    if asking:
        content, tools = _asked(cells, turns)
    else:
        content, tools = (*_system(cells), *_history(cells)), read_tools(cells)
    asked, chosen, rejected = _pair(cells, content, bool(asking))
    if not asked and asking:
        raise Skip(f"with an empty {asking}")
    if not asked:
        raise Skip("whose chosen and rejected have no shared start that could be the prompt")
    beside = spelled_out(cells.columns.get(turns)) if asking != turns else None
    if is_conversation(beside) and read_turns(Cells({turns: beside}), turns)[-1].content == chosen:
        cells.get(turns)  # UltraFeedback repeats the chosen conversation
    p_chosen = cells.number("p_chosen", 1.0)
    if not 0.0 <= p_chosen <= 1.0:
        raise Skip(f"whose p_chosen is {p_chosen:g}, but a probability lies between 0 and 1")
    ends = (cells.finish("chosen_finish"), cells.finish("rejected_finish"))
    margin = cells.number("margin", 0.0)
    weight = cells.number("weight", 1.0)
    if weight < 0:
        raise Skip(f"whose weight is {weight:g}, but a weight is 0 or more")
    prompt = _prompt(cells, asked, tools)
    more = weight, cells.text("group")
    return Comparison(prompt, chosen, rejected, p_chosen, margin, *ends, cells.place, *more)


def _all_whole(cells: Cells, turns: str) -> bool:
    """Whether a conversation has its own answer and both sides have their questions: then it is no prompt (Capybara)."""
    if not turns or _open(cells, turns):
        return False
    firsts = [spelled_out(cells.columns[name]) for name in SIDES]
    return all(
        is_conversation(side) and read_turns(Cells({"side": side[:1]}), "side")[0].role != "assistant"
        for side in firsts
    )


def _pair(cells: Cells, content: Content, asked: bool) -> tuple[Content, str, str]:
    """(prompt, chosen, rejected), all plain text, or the prompt as turns.  asked: whether a column holds the prompt."""
    sides = [spelled_out(cells.get(name)) for name in SIDES]
    spoken = [isinstance(side, str) and (is_dialogue if asked else is_transcript)(side) for side in sides]
    if all(isinstance(side, str) for side in sides) and not any(spoken):
        if isinstance(content, str):
            return content, sides[0], sides[1]
        if not content:
            return _split_texts(sides[0], sides[1])
    if spoken[0] != spoken[1] and not asked:
        raise Skip("of which only one side is a transcript")
    known = (Message("user", content),) if isinstance(content, str) else content
    whole = [
        _whole(known, _side(cells, name, side, spoken), isinstance(content, str))
        for name, side, spoken in zip(SIDES, sides, spoken, strict=True)
    ]
    return _split_turns(*whole)


def _side(cells: Cells, name: str, value: Any, spoken: bool) -> Turns:
    if isinstance(value, bool | int | float):
        wrong(name, "text or a list of messages", value)
    if not isinstance(value, str):
        return read_turns(cells.within({name: value}), name)
    if spoken:
        return read_transcript(value)
    return (Message("assistant", value.strip() if _in_transcript(cells) else value),)


def _whole(asked: Turns, turns: Turns, from_text: bool) -> Turns:
    """The whole conversation: `turns` behind what was asked, which they may hold themselves, with its system turn or without.

    from_text: what was asked is one text, which may be any of the user's turns (UltraFeedback: the first).
    """
    plain, start = list(map(_plain, turns)), list(map(_plain, asked))
    system = asked[:1] if asked and asked[0].role == "system" else ()
    if system and turns[0].role == "system" and plain[0] != start[0]:
        raise Skip("with two different system turns")
    if len(turns) > len(asked) and plain[: len(start)] == start:
        return turns
    if turns[0].role in ("assistant", "tool"):
        return (*asked, *turns)
    bare = start[len(system) :]
    if plain[: len(bare)] == bare or (
        turns[0].role == "system" and not system and plain[1 : 1 + len(bare)] == bare
    ):
        return (*system, *turns)
    if from_text and start[-1] in plain:
        return turns
    raise Skip("whose answers do not begin with its prompt")


def _plain(turn: Message) -> tuple[Any, ...]:
    return turn.role, turn.content.strip(), turn.tool_calls


def _split_turns(chosen: Turns, rejected: Turns) -> tuple[Turns, str, str]:
    """(shared start, chosen's last turn, rejected's last turn).  Identical conversations share all but the last turn."""
    pairs = zip(chosen[:-1], rejected[:-1], strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: _plain(pair[0]) == _plain(pair[1]), pairs))
    if shared != len(chosen) - 1 or shared != len(rejected) - 1:
        raise Skip("whose chosen and rejected differ in more than one turn")
    if chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
        raise Skip("whose chosen or rejected does not end with an assistant's turn")
    if chosen[-1].tool_calls or rejected[-1].tool_calls:
        raise Skip("whose chosen or rejected calls a tool: comparisons hold words only")
    return chosen[:shared], chosen[-1].content, rejected[-1].content


def _split_texts(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Cut two texts where they part, but never inside a word: the cut goes back to before the last white space."""
    pairs = zip(chosen, rejected, strict=False)
    shared = chosen[: sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))]
    if chosen == rejected or not _ends_word(shared, chosen, rejected):
        shared = re.sub(r"\s*\S*$", "", shared)
    else:
        shared = shared.rstrip()
    return shared, chosen[len(shared) :], rejected[len(shared) :]


def _ends_word(shared: str, chosen: str, rejected: str) -> bool:
    return all(not rest or rest[0].isspace() for rest in (chosen[len(shared) :], rejected[len(shared) :]))
