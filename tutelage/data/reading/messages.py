"""The one notion of a message: whatever layout a turn comes from, it is read here, or its row is left out by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tutelage.data.reading.cells import Cells, Skip, blank, opened, parsed, shown, wrong
from tutelage.data.reading.rows import is_conversation, is_message
from tutelage.records import Message, Tool, ToolCall

Turns = tuple[Message, ...]

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(
        ("assistant", "gpt", "model", "bot", "ai", "chatgpt", "chatbot", "bing", "bard"), "assistant"
    ),
    **dict.fromkeys(
        ("tool", "function", "observation", "ipython", "function_response", "tool_response"), "tool"
    ),
    **dict.fromkeys(("function_call", "tool_call"), "assistant"),
}
CALLS = ("function_call", "tool_call")  # roles of ShareGPT whose words are a call, as JSON
WHO, SAID = ("role", "from"), ("content", "value")
KNOWN = {*WHO, *SAID, "tool_calls", "function_call", "tool_call_id", "name", "weight", "train"}
PLAIN, TALKERS = {"role", "content"}, ("user", "assistant", "system")
REASONING = ("reasoning_content", "reasoning", "thinking")
MEDIA = ("images", "image", "audio", "audios", "videos", "video")


def spelled_out(value: Any) -> Any:
    """The cell, or the message or messages in it where it is their JSON as text (CSV); any other text stays text."""
    if not isinstance(value, str):
        return value
    found, fault = opened(value, "[", "{")
    if not (is_message(found) or is_conversation(found)):
        return value
    if fault:
        raise Skip(fault)
    return found


def read_turns(cells: Cells, name: str) -> Turns:
    """A cell that holds turns: a list of messages, one message, {"messages": [...]}, or texts of user and assistant by turns."""
    value = parsed(cells.get(name), "[", "{")
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        value = value["messages"]
    if is_message(value):
        value = [value]
    if not isinstance(value, list) or not value:
        wrong(name, "a list of messages", value)
    if all(isinstance(item, str) for item in value):
        return tuple(Message(("user", "assistant")[i % 2], text) for i, text in enumerate(value))
    turns: list[Message] = []
    for number, item in enumerate(value):
        turns += _turns(cells, f"{name}[{number}]", item)
    return tuple(turns)


def _turns(cells: Cells, where: str, item: Any) -> list[Message]:
    if isinstance(item, dict) and item.keys() == {"input", "output"}:  # Capybara: a question with its answer
        return [
            Message("user", _content(where, item["input"])),
            Message("assistant", _content(where, item["output"])),
        ]
    if not isinstance(item, dict):
        wrong(where, "a message with role and content", item)
    return [_message(cells, where, item)]


def _message(cells: Cells, where: str, item: Mapping[str, Any]) -> Message:
    if item.keys() == PLAIN and item["role"] in TALKERS and isinstance(item["content"], str):
        return Message(item["role"], item["content"])  # nearly all; the rest of this takes four times as long
    who = _agreed(item, WHO, lambda role: ROLES.get(str(role).strip().casefold(), role))
    if not isinstance(who, str):
        wrong(where, "a message with a role", item)
    role = ROLES.get(who.strip().casefold())
    if role is None:
        raise Skip(f"with the unknown role {shown(who)}: known are system, user, assistant and tool")
    said = _agreed(item, SAID, lambda said: said)
    calls = _calls(where, item)
    if who.strip().casefold() in CALLS:
        calls, said = tuple(map(_call, _listed(parsed(said, "[", "{")))), None
    if said is None and not calls:
        raise Skip("with a turn that has neither words nor a call")
    if calls and role != "assistant":
        raise Skip(f"with tool calls in a turn of {role}: only an assistant calls tools")
    if any(not blank(item[key]) for key in MEDIA if key in item):
        raise Skip("with pictures or sounds, which are not read")
    if any(not blank(item[key]) for key in REASONING if key in item):
        raise Skip(
            "with reasoning beside an answer: put it into the content, in the marks that the model uses"
        )
    for key in item.keys() - KNOWN:
        if not blank(item[key]):
            cells.note(f"{where.partition('[')[0]}: {key if str(key).isprintable() else shown(key)}")
    names = (_name(where, item, "name"), _name(where, item, "tool_call_id"))
    trained = _trained(item) or role != "assistant"
    return Message(role, "" if said is None else _content(where, said), calls, *names, trained)


def _agreed(item: Mapping[str, Any], keys: tuple[str, str], meaning: Callable[[Any], Any]) -> Any:
    """What stands under either of two keys, or under both with one meaning."""
    found = [item[key] for key in keys if item.get(key) is not None]
    if len(found) == 2 and meaning(found[0]) != meaning(found[1]):
        raise Skip(f"with a message whose {keys[0]} and {keys[1]} say different things")
    return found[0] if found else None


def _content(where: str, value: Any) -> str:
    """Words: a text, or a list of parts that are texts."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        wrong(where, "a message whose content is text", value)
    return "".join(_part(part) for part in value)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and isinstance(part.get("text"), str) and "text" in part.get("type", "text"):
        return str(part["text"])
    kind = part.get("type", "no type") if isinstance(part, dict) else type(part).__name__
    raise Skip(f"with a part of content of type {shown(kind)}, which is no text")


def _name(where: str, item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    if value is not None and not isinstance(value, str):
        wrong(f"{where}.{key}", "text", value)
    return value or ""


def _trained(item: Mapping[str, Any]) -> bool:
    """`weight` (OpenAI) or `train`: 0 makes a turn context."""
    found = {key: item[key] for key in ("weight", "train") if item.get(key) is not None}
    for key, value in found.items():
        if value not in (0, 1):
            raise Skip(f"with a turn of {key} {shown(value)}: a turn is trained (1) or not (0)")
    return all(found.values())


# ---- calls and tools ---------------------------------------------------------------------------------------------------


def _calls(where: str, item: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    found, single = parsed(item.get("tool_calls"), "["), parsed(item.get("function_call"), "{")
    if not blank(found) and not isinstance(found, list):
        wrong(f"{where}.tool_calls", "a list of calls", found)
    calls = () if blank(found) else tuple(map(_call, found))
    own = () if blank(single) else (_call(single),)
    if calls and own and own != tuple(replace(call, id="") for call in calls):
        raise Skip("with a message whose tool_calls and function_call say different things")
    return calls or own


def _call(value: Any) -> ToolCall:
    """{"name", "arguments"}, bare or within "function"; the arguments are an object, or its text."""
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(name := function.get("name"), str) or not name:
        raise Skip("with a tool call that names no function")
    arguments = parsed(function.get("arguments", {}), "{")
    if blank(arguments):
        arguments = {}
    if not isinstance(arguments, dict):
        raise Skip(f"with a tool call whose arguments are no JSON object ({shown(name)})")
    identity = value.get("id")
    return ToolCall(name, arguments, identity if isinstance(identity, str) else "")


def read_tools(cells: Cells, names: Sequence[str] = ("tools", "functions")) -> tuple[Tool, ...]:
    """The tools that a row lists, as a list, as JSON text, or bare {"name", "parameters"}, in OpenAI's form."""
    for name in names:
        if name not in cells.columns:
            continue
        value = parsed(cells.get(name), "[", "{")
        if not blank(value):
            return tuple(_tool(name, parsed(item, "{")) for item in _listed(value))
    return ()


def _tool(where: str, value: Any) -> Tool:
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        wrong(where, "a list of tools with names", value)
    return {"type": "function", "function": function}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
