"""Text -> ids, with what must be known of a tokenizer worked out once: start, end, control tokens, prefix spaces."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from tutelage.records import Finish, Message, Tool, ToolCall

BREAK = "\ufdd0"  # a Unicode noncharacter, which text never holds: tokens do not span it
_MARK = "(?:think|thinking|thought|reason|reasoning)>"
REASONING = re.compile(f"</?{_MARK}")
BEGUN = re.compile(rf"(<{_MARK})(\s*)$")  # reasoning that a prompt opens
ANCHOR = "\n"  # put in front of a continued text where a tokenizer would add a space, and taken off again
Tools = tuple[Tool, ...]
PROBE = (Message("user", "hello"), Message("assistant", "PROBE"))  # shows how a template writes


class Unusable(ValueError):
    """One row that cannot be tokenised; the text is the reason, the caller knows the row."""


def starts_with_system(chat: Sequence[Message]) -> bool:
    """Whether a system turn stands before the first user turn."""
    return [message.role for message in chat[:2]] == ["system", "user"]


class Encoder:
    """A tokenizer seen from its data.  Cheap to make; everything is worked out when first needed."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer: Any = tokenizer

    # ---- what the tokenizer puts around a sequence -----------------------------------------------------------------

    @cached_property
    def start_ids(self) -> list[int]:
        """[BOS] where the tokenizer starts plain text with it, else [].  (A chat template writes its own.)"""
        bos = self.tokenizer.bos_token_id
        return [bos] if bos is not None and self.tokenizer("a")["input_ids"][:1] == [bos] else []

    @cached_property
    def eos_id(self) -> int:
        """The end-of-sequence token.  Raises ValueError where there is none."""
        if self.tokenizer.eos_token_id is None:
            raise ValueError(
                "the tokenizer has no end-of-sequence token, without which a model cannot learn to stop: set its "
                "eos_token"
            )
        return int(self.tokenizer.eos_token_id)

    @cached_property
    def turn_end_id(self) -> int:
        """What the chat template writes after an assistant's words (Llama 3: <|eot_id|>), else end-of-sequence."""
        ids = self._batch([self._tail])[0]
        return next((i for i in ids if i in self._special_ids), self.eos_id)

    @cached_property
    def _special_ids(self) -> set[int]:
        return {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special} | {
            self.eos_id
        }

    def end_id(self, chat: bool) -> int:
        return self.turn_end_id if chat else self.eos_id

    # ---- text -> ids -----------------------------------------------------------------------------------------------

    def encode(self, texts: Sequence[str], continued: bool = False) -> list[list[int]]:
        """Ids of each text, nothing added.  `continued`: the text goes on after others, so no space is put before it."""
        ids = self._continue(texts) if continued and self._prepends_space else self._batch(texts)
        for i, text in enumerate(texts):
            if BREAK in text:
                first, *rest = text.split(BREAK)
                parts = [self.encode([first], continued)[0], *(self.encode([part], True)[0] for part in rest)]
                ids[i] = [token for part in parts for token in part]
        return ids

    def _batch(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        encoded = self.tokenizer(
            list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        return list(encoded["input_ids"])

    def _continue(self, texts: Sequence[str]) -> list[list[int]]:
        anchor = self._batch([ANCHOR])[0]
        alone = self._batch(texts)
        joined = self._batch([ANCHOR + text for text in texts])
        return [
            whole[len(anchor) :] if text and whole[: len(anchor)] == anchor else ids
            for text, ids, whole in zip(texts, alone, joined, strict=True)
        ]

    @cached_property
    def _prepends_space(self) -> bool:
        """SentencePiece-like tokenizers put a space before a text; in the middle of a sequence it would be a new one."""
        first = self.tokenizer.convert_ids_to_tokens(self._batch(["a"])[0])[0]
        return first.startswith(("▁", "Ġ"))

    # ---- text that spells a control token --------------------------------------------------------------------------

    def shield(self, text: str) -> str:
        """The text with breaks inside whatever spells a control token, so that it is encoded as ordinary text."""
        return self._control.sub(lambda found: found[0][0] + BREAK + found[0][1:], text.replace(BREAK, ""))

    @cached_property
    def _control(self) -> re.Pattern[str]:
        ids = self._special_ids | ({self.turn_end_id} if self.tokenizer.chat_template else set())
        tokens = [token for token in self.tokenizer.convert_ids_to_tokens(sorted(ids)) if len(token) > 1]
        return re.compile(
            "|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True)) or "(?!)"
        )

    # ---- the chat template -----------------------------------------------------------------------------------------

    def render(
        self,
        chats: Sequence[Sequence[Message]],
        open_turn: bool = False,
        shield: bool = True,
        tools: Sequence[Tools] = (),
    ) -> list[str | Unusable]:
        """The template's text of each chat; `open_turn` adds the start of an assistant turn; `tools` of each, if any.

        Raises ValueError when there is no template; a chat that the template refuses gives an `Unusable`, and so does one
        of which it would leave out calls or a tool's answer.  Where it takes no system turn, that stands at the start of
        the first user turn (`merged`); where it takes no list of tools, that is left out.
        """
        if not chats:
            return []
        if not self.tokenizer.chat_template:
            raise ValueError(
                "the data is conversational, but the tokenizer has no chat template: give it one "
                "(tokenizer.chat_template) or use plain text prompts"
            )
        plain = [self.plain(self.merged(chat), shield) for chat in chats]
        if any(tools):
            listed = [self.listed(own) for own in tools]
            return [
                self._lost(chat) or self._render_one(own, open_turn, named)
                for chat, own, named in zip(chats, plain, listed, strict=True)
            ]
        lost = [self._lost(chat) for chat in chats]
        try:
            texts: list[str | Unusable] = list(self._apply(plain, open_turn))
        except (TemplateError, ValueError, TypeError):
            texts = [self._render_one(chat, open_turn) for chat in plain]
        return [reason or text for reason, text in zip(lost, texts, strict=True)]

    def plain(self, chat: Sequence[Message], shield: bool = True) -> list[dict[str, Any]]:
        """The messages as a template takes them."""
        found = []
        for message in chat:
            content = self.shield(message.content) if shield else message.content
            if message == Message(message.role, message.content):
                found.append({"role": message.role, "content": content})
                continue
            own = message.to_json()
            own.pop("weight", None)
            found.append((self.shielded(own) if shield else own) | {"role": message.role})
        return found

    def shielded(self, value: Any) -> Any:
        """`shield` for every text in a JSON value."""
        if isinstance(value, str):
            return self.shield(value)
        if isinstance(value, list):
            return [self.shielded(item) for item in value]
        return {key: self.shielded(item) for key, item in value.items()} if isinstance(value, dict) else value

    def listed(self, tools: Tools) -> list[dict[str, Any]] | None:
        """The tools as a template takes them; None where it takes none."""
        return self.shielded([dict(tool) for tool in tools]) if tools and self.takes_tools else None

    def _lost(self, chat: Sequence[Message]) -> Unusable | None:
        """Why a chat cannot be written: the template would leave something out that was said."""
        if any(message.tool_calls for message in chat) and not self._writes["CALL"]:
            return Unusable("with tool calls, which the chat template does not write")
        if any(message.role == "tool" for message in chat) and not self._writes["RESULT"]:
            return Unusable("with a tool's answer, which the chat template does not write")
        return None

    @cached_property
    def takes_tools(self) -> bool:
        """Whether the template writes the list of tools."""
        return self._writes["TOOL"]

    @cached_property
    def _writes(self) -> dict[str, bool]:
        """Whether the template writes a list of tools, an assistant's call and a tool's answer."""
        parameters = {"type": "object", "properties": {}}
        tool = {"name": "TOOL", "description": "TOOL", "parameters": parameters}
        listed = [{"type": "function", "function": tool}]
        asked = self.plain(PROBE[:1], shield=False)
        called = Message("assistant", "", (ToolCall("CALL", {}, "abcdefghi"),))
        answered = Message("tool", "RESULT", name="CALL", tool_call_id="abcdefghi")
        chat = self.plain([PROBE[0], called, answered, PROBE[1]], shield=False)
        with_tools = self._render_one(asked, True, listed)
        whole = self._render_one(chat, False, listed if isinstance(with_tools, str) else None)
        found = {"TOOL": with_tools, "CALL": whole, "RESULT": whole}
        return {name: isinstance(text, str) and name in text for name, text in found.items()}

    def merged(self, chat: Sequence[Message]) -> Sequence[Message]:
        """The chat with its system turn put at the start of the user's, where the template takes no system turn."""
        if not starts_with_system(chat) or self.takes_system:
            return chat
        texts = [message.content for message in chat[:2] if message.content.strip()]
        return [replace(chat[1], content="\n\n".join(texts)), *chat[2:]]

    @cached_property
    def takes_system(self) -> bool:
        """Whether the template writes a system turn: Gemma's refuses one, and some leave it out."""
        system = Message("system", "SYSTEM")
        whole = self._render_one([system.to_json(), PROBE[0].to_json()], open_turn=True)
        return isinstance(whole, str) and system.content in whole

    def _render_one(
        self, chat: list[dict[str, Any]], open_turn: bool, tools: list[dict[str, Any]] | None = None
    ) -> str | Unusable:
        try:
            return self._apply([chat], open_turn, tools)[0]
        except (TemplateError, ValueError, TypeError) as error:
            return Unusable(f"that the chat template refuses ({str(error).splitlines()[0]})")

    def _apply(
        self, chats: list[list[dict[str, Any]]], open_turn: bool, tools: list[dict[str, Any]] | None = None
    ) -> list[str]:
        texts: list[str] = self.tokenizer.apply_chat_template(
            chats, tools=tools, tokenize=False, add_generation_prompt=open_turn
        )
        return texts

    # ---- an answer behind its prompt -------------------------------------------------------------------------------

    def answer_text(self, prompt: str, whole: str | Unusable, answer: str, finish: Finish) -> str:
        """What follows a rendered prompt, open for an answer: the answer as the template writes it, or else as it is.

        prompt, whole: what the template makes of the conversation up to the answer and with it; answer: shielded.  A
        template may write an answer otherwise than generation, which goes on from its prompt, would: it takes the
        reasoning out (R1, QwQ), puts an empty one in (Qwen3), or its prompt has begun the answer ("<think>").  Then the
        answer's own text is what follows.  Of one that was cut, what the template writes behind it is left out.
        """
        begun = BEGUN.search(prompt)
        if begun and answer.lstrip().startswith(begun[1]):
            answer = answer.lstrip().removeprefix(begun[1]).removeprefix(begun[2])
        words = answer.strip()
        if not words:
            return answer
        after = whole[len(prompt) :] if isinstance(whole, str) and whole.startswith(prompt) else ""
        said = after.removesuffix(self._tail).rstrip()
        before = said.removesuffix(words)
        if before == said or REASONING.search(before):
            return answer if answer[0].isspace() else self._gap + answer
        return after if finish == "eos" else before + words + answer[len(answer.rstrip()) :]

    @cached_property
    def reasoning_end(self) -> str:
        """What ends the reasoning that the template's prompts open ("</think>"); empty where they open none."""
        prompt = self.render([PROBE[:1]], open_turn=True)[0]
        begun = BEGUN.search(prompt) if isinstance(prompt, str) else None
        return begun[1].replace("<", "</") if begun else ""

    @cached_property
    def _tail(self) -> str:
        """What the template writes after an assistant's words, at the end of a conversation."""
        whole = self.render([PROBE], shield=False)[0]
        return "" if isinstance(whole, Unusable) else whole.rpartition(PROBE[1].content)[2]

    @cached_property
    def _gap(self) -> str:
        """White space that the template writes between an open prompt and an answer (Llama 2, Mistral: one space)."""
        before, whole = self.render([PROBE[:1]], open_turn=True)[0], self.render([PROBE])[0]
        if isinstance(before, Unusable) or isinstance(whole, Unusable) or not whole.startswith(before):
            return ""
        gap = whole[len(before) :].partition(PROBE[1].content)[0]
        return "" if gap.strip() else gap

    def without_turn_end(self, text: str) -> str:
        """Without the end of turn that some data sets spell out."""
        return text.removesuffix(self.tokenizer.convert_ids_to_tokens(self.turn_end_id))
