"""Templates that rewrite earlier turns, open the answer's reasoning, or take no system turn: what they can express is used.

The templates behave as those of DeepSeek-R1-Distill, QwQ, Qwen3, Gemma 1 and 2 and Mistral 7B v0.3, and are shortened.
"""

from __future__ import annotations

import copy
import io
from functools import cache

import numpy as np
import pytest
from rich.console import Console
from transformers import AddedToken, PreTrainedTokenizerFast

from tests.data.kit import BARE, CHATML, ask, byte_level, chat, sentencepiece_like
from tutelage.data.preflight.report import Preflight
from tutelage.data.preflight.responses import prepare_comparisons
from tutelage.data.preflight.texts import prepare_demonstrations, prepare_documents
from tutelage.data.template import end_token_id, tokenize, tokenize_prompt
from tutelage.records import Comparison, Conversation, Demonstration, Message, Prompt

# System text in front, reasoning taken out of every answer, the prompt opens the reasoning.
R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}"
    "{% elif m['role'] == 'user' %}{{ '<|User|>' + m['content'] }}"
    "{% else %}{{ '<|Assistant|>' + m['content'].split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}"
)
QWQ = (
    "{% for m in messages %}{% set content = m['content'] %}{% if m['role'] == 'assistant' %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
# The last answer gets reasoning, an empty one if it has none; earlier answers lose theirs.
QWEN3 = (
    "{% set ns = namespace(query=-1) %}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{% set ns.query = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% set content = m['content'] %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% set thought = '' %}{% if '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if loop.index0 > ns.query and (loop.last or thought) %}"
    "{{ '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}"
    "{% else %}{{ content }}{% endif %}{% else %}{{ content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + m['content'] | trim }}"
    "{{ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
# The system text stands in the latest question, and in none once that is answered.
MISTRAL = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set turns = messages[1:] %}{% else %}{% set turns = messages %}{% endif %}{% for m in turns %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' }}{% if loop.last and system is defined %}{{ system + '\n\n' }}{% endif %}"
    "{{ m['content'] + '[/INST]' }}{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
# The prompt opens the reasoning, an answer without any closes it at once (GLM 4.5).
GLM = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ '<|Assistant|>\n' }}{% if '</think>' in m['content'] %}"
    "{{ m['content'] }}{% else %}{{ '<think></think>' + m['content'] }}{% endif %}"
    "{% else %}{{ '<|User|>\n' + m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|>\n<think>' }}{% endif %}"
)
# The model itself chooses a channel before it answers; the last answer has another end than earlier ones (gpt-oss).
HARMONY = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ '<|Assistant|><|im_start|>final<|User|>' + m['content'] }}"
    "{{ '</s>' if loop.last else '<|im_end|>' }}{% else %}{{ '<|User|>' + m['content'] + '<|im_end|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|Assistant|>' }}{% endif %}"
)
SILENT = CHATML.replace(
    "{{ '<|im_start|>'", "{% if m == m and message['role'] != 'system' %}{{ '<|im_start|>'", 1
).replace("{% endfor %}", "{% endif %}{% endfor %}", 1)  # leaves a system turn out without a word
HEADLESS = CHATML.partition("{% if add_generation_prompt")[0]  # cannot open a turn
TEMPLATES = {"r1": R1, "qwq": QWQ, "qwen3": QWEN3, "gemma": GEMMA, "mistral": MISTRAL, "glm": GLM}
SYSTEMLESS = {"gemma": GEMMA, "silent": SILENT}
every_template = pytest.mark.parametrize("name", TEMPLATES)
THOUGHT = "<think>\nLet me count.\n</think>\n\nThree cats."


@cache
def tokenizer_of(template: str) -> PreTrainedTokenizerFast:
    """Turn marks are control tokens, the marks of reasoning are tokens but not control tokens, as in the models."""
    made = copy.deepcopy(byte_level(template))
    marks = ["<start_of_turn>", "<end_of_turn>", "<|User|>", "<|Assistant|>"]
    made.add_tokens([AddedToken(mark, special=True) for mark in marks], special_tokens=True)
    made.add_tokens(["<think>", "</think>"])
    return made


def generation_ids(tokenizer: PreTrainedTokenizerFast, prompt: Prompt) -> list[int]:
    """What plain transformers starts generating from."""
    messages = [message.to_json() for message in prompt.content]  # type: ignore[union-attr]
    return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))


def trained(tokens) -> list[list[int]]:
    """The runs of trained ids."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], tokens.loss_mask.astype(int), [0]])))
    return [tokens.ids[a:b].tolist() for a, b in zip(edges[::2], edges[1::2], strict=True)]


@every_template
@pytest.mark.parametrize(
    "answer", ["Three cats.", "Let me count.\n</think>\n\nThree cats.", "No <b>cats</b>"]
)
@pytest.mark.parametrize("turns", [("How many?",), ("Hi", "<think>\nHm\n</think>\n\nHello", "How many?")])
def test_an_answer_follows_the_ids_that_generation_starts_from(
    name: str, answer: str, turns: tuple[str, ...]
) -> None:
    tokenizer, prompt = tokenizer_of(TEMPLATES[name]), ask(*turns)
    before, end = generation_ids(tokenizer, prompt), end_token_id(tokenizer, chat=True)
    assert tokenize_prompt(tokenizer, prompt) == before
    tokens = tokenize(tokenizer, prompt, answer)
    assert tokens.ids[: len(before)].tolist() == before
    [response] = trained(tokens)
    assert tokens.ids[len(before) :].tolist() == response and response[-1] == end
    assert tokenizer.decode(response[:-1]).strip() == answer
    cut = tokenize(tokenizer, prompt, answer, "length")
    assert cut.ids.tolist() == tokens.ids[:-1].tolist()


@pytest.mark.parametrize("name", ["r1", "qwq", "qwen3", "glm"])
@pytest.mark.parametrize("thought", [THOUGHT, "\n" + THOUGHT, THOUGHT.replace("<think>\n", "<think>")])
def test_reasoning_is_opened_once(name: str, thought: str) -> None:
    """Whether the prompt opens it (R1, QwQ) or the answer (Qwen3): prompt and answer together hold the marks once."""
    tokenizer = tokenizer_of(TEMPLATES[name])
    ids = tokenize(tokenizer, ask("How many?"), thought).ids.tolist()
    text = tokenizer.decode(ids)
    assert text.count("<think>") == 1 and text.count("</think>") == 1
    assert "<think>\nLet me count.\n</think>\n\nThree cats." in text.replace("<think>Let", "<think>\nLet")
    if thought == THOUGHT and name == "qwen3":  # what the template itself makes of it, to the last token
        messages = [message.to_json() for message in chat("How many?", thought)]
        theirs = list(tokenizer.apply_chat_template(messages, return_dict=False))
        assert theirs[: len(ids)] == ids


@every_template
def test_pairs_share_their_prompt(name: str) -> None:
    tokenizer = tokenizer_of(TEMPLATES[name])
    rows = [
        Comparison(ask("How many?", system="Be brief."), "Three cats.", THOUGHT.removeprefix("<think>\n")),
        Comparison(ask("Hi", "Hello", "How many?"), "Three cats.", ""),
    ]
    ready = prepare_comparisons(tokenizer, rows, max_length=200)
    assert list(ready.examples.table.rows) == [0, 1] and not ready.report.dropped
    for row, pair in zip(rows, ready.examples, strict=True):
        before = tokenize_prompt(tokenizer, row.prompt)
        for side, text in ((pair.chosen, row.chosen), (pair.rejected, row.rejected)):
            assert side.ids[: len(before)].tolist() == before
            [response] = trained(side)
            assert tokenizer.decode(response[:-1]).strip() == text
            assert response[-1] == end_token_id(tokenizer, chat=True)
    if _can_open(tokenizer):
        assert int(ready.examples[1].rejected.loss_mask.sum()) == 1  # an empty response is its end


def _can_open(tokenizer: PreTrainedTokenizerFast) -> bool:
    return "add_generation_prompt" in tokenizer.chat_template


@every_template
@pytest.mark.parametrize("system", ["", "Be brief."])
def test_every_answer_of_a_conversation_is_trained_behind_its_own_prompt(name: str, system: str) -> None:
    """In one sequence or in several: before each trained answer stands what generation would have started from."""
    tokenizer = tokenizer_of(TEMPLATES[name])
    answers = ["Two.", "Let me think.\n</think>\n\nThree.", "Four."]
    turns = ["How many?", answers[0], "And now?", answers[1], "Sure?", answers[2]]
    conversation = Conversation(chat(*turns, system=system))
    ready = prepare_demonstrations(tokenizer, [conversation], max_length=200)
    end, found = end_token_id(tokenizer, chat=True), []
    for tokens in ready.examples:
        position = 0
        for run in trained(tokens):
            start = next(
                i for i in range(position, len(tokens)) if tokens.ids[i : i + len(run)].tolist() == run
            )
            prompt = Prompt(chat(*turns[: 2 * len(found) + 1], system=system))
            assert tokens.ids[:start].tolist() == tokenize_prompt(tokenizer, prompt)
            assert run[-1] == end
            found.append(tokenizer.decode(run[:-1]).strip())
            position = start + len(run)
    assert found == answers
    assert (ready.report.kept, set(ready.examples.table.rows)) == (1, {0})
    assert ready.report.apart == (len(ready.examples) > 1)
    assert ready.report.tokens == sum(map(len, ready.examples))
    documents = prepare_documents(tokenizer, [conversation])
    assert [t.ids.tolist() for t in documents.examples] == [t.ids.tolist() for t in ready.examples]


def test_a_conversation_stays_in_one_sequence_where_the_template_allows_it() -> None:
    conversation = Conversation(chat("How many?", "Two.", "And now?", "Three."))
    for template, apart in ((GEMMA, 0), (CHATML, 0), (BARE, 0), (R1, 1), (QWQ, 1), (QWEN3, 1), (MISTRAL, 0)):
        ready = prepare_demonstrations(tokenizer_of(template), [conversation], max_length=200)
        assert (ready.report.apart, len(ready.examples)) == (apart, 1 + apart)
    whole = Conversation(chat("How many?", "Two.", "And now?", "Three.", system="Be brief."))
    assert prepare_demonstrations(tokenizer_of(MISTRAL), [whole], max_length=200).report.apart == 1


def test_long_conversations_lose_their_oldest_text_turn_by_turn() -> None:
    rows = [Conversation(chat("How many? " * 30, "Two.", "And now?", "Three."))]
    ready = prepare_demonstrations(tokenizer_of(R1), rows, max_length=80)
    assert len(ready.examples) == 2 and max(map(len, ready.examples)) == 80 and ready.report.truncated == 1
    short = prepare_demonstrations(
        tokenizer_of(R1),
        [*rows, Conversation(chat("a", "b" * 90, "c", "d"))],
        max_length=80,
        max_dropped_share=0.5,
    )
    assert list(short.examples.table.rows) == [0, 0] and "alone is longer" in next(iter(short.report.dropped))


@pytest.mark.parametrize("template", SYSTEMLESS.values(), ids=SYSTEMLESS)
def test_a_system_turn_that_the_template_does_not_write_begins_the_users(template: str) -> None:
    tokenizer = tokenizer_of(template)
    asked = ask("Hi", "Hello", "How many?", system="Be brief.")
    merged = ask("Be brief.\n\nHi", "Hello", "How many?")
    assert tokenize_prompt(tokenizer, asked) == generation_ids(tokenizer, merged)
    assert tokenize_prompt(tokenizer, ask("Hi", system=" ")) == generation_ids(tokenizer, ask("Hi"))
    rows = [Demonstration(asked, "Three."), Demonstration(merged, "Three."), Demonstration(Prompt("x"), "y")]
    ready = prepare_demonstrations(tokenizer, rows, max_length=200)
    assert ready.examples[0].ids.tolist() == ready.examples[1].ids.tolist()
    assert ready.report.merged == 1 and "1 system turns begin the user's" in shown(ready.report)
    turns = ("Hi", "Hello", "How many?", "Three.")
    several = prepare_demonstrations(
        tokenizer, [Conversation(chat(*turns, system="Be brief."))], max_length=200
    )
    assert several.report.merged == 1
    assert several.examples[0].ids.tolist() == ready.examples[0].ids.tolist()
    assert len(trained(several.examples[0])) == 2


def test_a_system_turn_stays_where_the_template_writes_it() -> None:
    for template in (CHATML, R1, QWEN3, MISTRAL):
        tokenizer, prompt = tokenizer_of(template), ask("How many?", system="Be brief.")
        assert tokenize_prompt(tokenizer, prompt) == generation_ids(tokenizer, prompt)
        ready = prepare_demonstrations(tokenizer, [Demonstration(prompt, "Three.")], max_length=200)
        assert ready.report.merged == 0


def test_what_a_template_cannot_write_at_all_is_said_with_its_rows() -> None:
    twice = (Message("user", "a"), Message("user", "b"))
    rows = [
        Demonstration(ask("How many?"), "Three."),
        Demonstration(Prompt(twice), "c"),
        Conversation((*twice, Message("assistant", "c"))),
        Conversation((Message("assistant", "a"), Message("user", "b"))),
    ]
    report = prepare_demonstrations(tokenizer_of(GEMMA), rows, max_length=200, max_dropped_share=0.9).report
    assert report.dropped == {"that the chat template refuses (Conversation roles must alternate)": 3}
    assert report.dropped_places == {next(iter(report.dropped)): {"row": [2, 3, 4]}}


def test_a_conversation_that_the_assistant_begins() -> None:
    """Its greeting is an answer to nothing: it stands in the prompts of what follows."""
    turns = (Message("assistant", "Hello!"), *chat("How many?", "Three.", "Sure?", "Yes."))
    ready = prepare_demonstrations(tokenizer_of(CHATML), [Conversation(turns)], max_length=200)
    assert [len(trained(tokens)) for tokens in ready.examples] == [1, 1]
    first = ready.examples[0]
    before = generation_ids(tokenizer_of(CHATML), Prompt(turns[:2]))
    assert first.ids[: len(before)].tolist() == before
    assert tokenizer_of(CHATML).decode(trained(first)[0]) == "Three.<|im_end|>"


def test_a_channel_that_the_model_chooses_is_trained_with_its_answer() -> None:
    tokenizer = tokenizer_of(HARMONY)
    [response] = trained(tokenize(tokenizer, ask("Hi", "Hello", "How many?"), "final"))
    assert tokenizer.decode(response) == "<|im_start|>final<|User|>final</s>"
    [cut] = trained(tokenize(tokenizer, ask("How many?"), "</s", "length"))
    assert tokenizer.decode(cut) == "<|im_start|>final<|User|></s"
    turns = ("How many?", "Two.", "Sure?", "Yes.")
    ready = prepare_demonstrations(tokenizer, [Conversation(chat(*turns))], max_length=200)
    assert [tokenizer.decode(run) for tokens in ready.examples for run in trained(tokens)] == [
        "<|im_start|>final<|User|>Two.</s>",
        "<|im_start|>final<|User|>Yes.</s>",
    ]


def test_responses_inside_reasoning_that_the_prompt_opened_are_counted() -> None:
    rows = [
        Demonstration(ask("How many?"), "Three."),
        Demonstration(ask("How many?"), "Hm.</think>Three."),
        Demonstration(ask("How many?"), "Hm, let me", "length"),
        Demonstration(Prompt("How many?"), " Three."),
        Conversation(chat("How many?", "Three.", "Sure?", "Hm.</think>Yes.")),
    ]
    for template, count in ((R1, 2), (QWQ, 2), (GLM, 2), (QWEN3, 0), (CHATML, 0)):
        report = prepare_demonstrations(tokenizer_of(template), rows, max_length=200).report
        assert report.unclosed == count
        assert ("2 responses never end the reasoning" in shown(report)) == (count > 0)
    pairs = [Comparison(ask("a"), "b", "c"), Comparison(ask("a"), "b", "c</think>d", chosen_finish="length")]
    assert prepare_comparisons(tokenizer_of(R1), pairs, max_length=200).report.unclosed == 2
    assert (
        prepare_comparisons(byte_level(), [Comparison(Prompt("a"), "b", "c")], max_length=9).report.unclosed
        == 0
    )


def test_a_template_that_opens_no_turn_leaves_its_start_to_the_model() -> None:
    tokenizer = tokenizer_of(HEADLESS)
    tokens = tokenize(tokenizer, ask("How many?"), "Three.")
    assert tokenizer.decode(trained(tokens)[0]) == "<|im_start|>assistant\nThree.<|im_end|>"
    cut = tokenize(tokenizer, ask("How many?"), "Three", "length")
    assert tokenizer.decode(trained(cut)[0]) == "<|im_start|>assistant\nThree"


def test_white_space_before_an_answer_is_the_templates_also_where_it_rewrites_the_prompt() -> None:
    """Mistral's: with a system turn the answered conversation does not go on from its prompt; the space stays."""
    tokenizer = tokenizer_of(MISTRAL)
    plain, system = ask("How many?"), ask("How many?", system="Be brief.")
    [first], [second] = (trained(tokenize(tokenizer, prompt, "Three.")) for prompt in (plain, system))
    assert first == second and tokenizer.decode(first) == " Three.</s>"
    own = sentencepiece_like()
    cut = tokenize(own, plain, "Three", "length")
    assert own.convert_ids_to_tokens(trained(cut)[0]) == ["▁Three"]


def shown(report: Preflight) -> str:
    stream = io.StringIO()
    report.show(Console(file=stream, width=120))
    return stream.getvalue()
