"""A language model in this process as what answers: by the rollouts' generator, or by how likely its first words are."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Sequence
from importlib import import_module
from types import TracebackType
from typing import Any, Self

import torch
from transformers import PreTrainedTokenizerBase

from tutelage.data.batch import TokenBatch, Tokens
from tutelage.data.encoding import Encoder, Unusable
from tutelage.data.template import encode_prompts
from tutelage.judges.llm.asking import Call
from tutelage.models.loading import context_of
from tutelage.models.passes import forward_pass
from tutelage.models.policy import PolicyModule
from tutelage.parallel import World
from tutelage.records import Message, Prompt
from tutelage.store import Answer

GENERATOR = "tutelage.rollout.local"  # a floor that this one serves, so it is found by its name


class LocalModel:
    """Answers the questions that are asked at the same time together; to be entered as an async context."""

    def __init__(
        self,
        model: PolicyModule,
        tokenizer: PreTrainedTokenizerBase,
        world: World,
        name: str,
        max_tokens: int,
    ) -> None:
        self.name = name
        self._model, self._tokenizer, self._world, self._max_tokens = (
            model.eval(),
            tokenizer,
            world,
            max_tokens,
        )
        self._waiting: list[tuple[Call, str, asyncio.Future[Answer]]] = []
        self._there = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._there, self._worker = asyncio.Event(), asyncio.create_task(self._work())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._worker is not None
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)

    async def answer(self, call: Call, key: str) -> Answer:
        """What the model says.  Raises ValueError for a question that it cannot read."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, key, answered))
        self._there.set()
        return await answered

    async def _work(self) -> None:
        while True:
            await self._there.wait()
            await asyncio.sleep(0.005)  # those who ask at the same time
            self._there.clear()
            some, self._waiting = self._waiting, []
            try:
                answers = await asyncio.to_thread(self._answers, [(call, key) for call, key, _ in some])
            except Exception as fault:
                for *_, answered in some:
                    answered.set_exception(fault)
            else:
                for answer, (*_, answered) in zip(answers, some, strict=True):
                    answered.set_result(answer)

    def _answers(self, asked: Sequence[tuple[Call, str]]) -> list[Answer]:
        started = time.monotonic()
        alike: dict[str, list[int]] = {}  # questions that are answered in the same way are answered together
        for number, (call, _) in enumerate(asked):
            alike.setdefault(json.dumps(dict(call.params), sort_keys=True), []).append(number)
        found: dict[int, dict[str, Any]] = {}
        for numbers in alike.values():
            prompts = [asked_of(self._tokenizer, asked[number][0]) for number in numbers]
            call = asked[numbers[0]][0]
            among = call.params.get("among")
            own = self._weighed(prompts, among) if among else self._written(prompts, call)
            found |= dict(zip(numbers, own, strict=True))
        said = [found[number] for number in range(len(asked))]
        seconds = (time.monotonic() - started) / len(asked)
        return [
            Answer(key, "answered", seconds=seconds, **one) for (_, key), one in zip(asked, said, strict=True)
        ]

    def _written(self, prompts: Sequence[Prompt], call: Call) -> list[dict[str, Any]]:
        local, contract = import_module(GENERATOR), import_module("tutelage.rollout.generator")
        limit = int(call.params.get("max_tokens") or call.params["max_completion_tokens"])
        sampling = contract.Sampling(
            limit, call.params.get("temperature", 1.0), 1, call.params.get("seed", 0)
        )
        generator = local.LocalGenerator(self._model, self._tokenizer)
        return [
            {
                "text": one.text,
                "finish": "stop" if one.finish == "eos" else "length",
                "prompt_tokens": len(one.prompt_ids),
                "completion_tokens": len(one.ids),
            }
            for one in generator.generate(list(prompts), sampling)
        ]

    def _weighed(self, prompts: Sequence[Prompt], among: Sequence[str]) -> list[dict[str, Any]]:
        """The log-probability of each of `among` as the beginning of the answer; where one begins another ("1", "10"), without
        the other's."""
        words = Encoder(self._tokenizer).encode(list(among), continued=True)
        read = [
            self._readable(ids, prompt)
            for ids, prompt in zip(encode_prompts(self._tokenizer, prompts), prompts, strict=True)
        ]
        rows = [tokens_of(ids, word) for ids in read for word in words]
        batch = TokenBatch.collate(rows).to(self._world.device)
        found = forward_pass(
            self._model, self._model.sequence_logprobs, batch, "sequences", self._max_tokens, self._world
        )
        return [
            {
                "likely": apart(dict(zip(among, own.tolist(), strict=True))),
                "prompt_tokens": len(ids),
                "completion_tokens": 1,
            }
            for ids, own in zip(read, found.double().cpu().view(len(read), len(words)), strict=True)
        ]

    def _readable(self, ids: list[int] | Unusable, prompt: Prompt) -> list[int]:
        limit = context_of(self._model)
        if isinstance(ids, Unusable) or (limit is not None and len(ids) >= limit):
            why = ids if isinstance(ids, Unusable) else f"longer than its context of {limit} tokens"
            raise ValueError(f"{self.name} cannot read the question {prompt.text()[:60]!r}: {why}.")
        return ids


def asked_of(tokenizer: PreTrainedTokenizerBase, call: Call) -> Prompt:
    """The messages as a prompt: a chat, or plain text for a model that knows none."""
    if tokenizer.chat_template:
        return Prompt(tuple(Message(one["role"], one["content"]) for one in call.messages))
    return Prompt("\n\n".join(one["content"] for one in call.messages) + "\n\n")


def tokens_of(prompt: Sequence[int], word: Sequence[int]) -> Tokens:
    """A question and the beginning of an answer, which is what is weighed."""
    ids = torch.tensor([*prompt, *word], dtype=torch.int32).numpy()
    mask = torch.zeros(len(ids), dtype=torch.bool).numpy()
    mask[len(prompt) :] = True
    return Tokens(ids, mask)


def apart(likely: dict[str, float]) -> dict[str, float]:
    """Log-probabilities of texts as whole answers, from those as beginnings: "10" is no "1"."""
    found = {}
    for text, logprob in likely.items():
        longer = sum(
            math.exp(other) for name, other in likely.items() if name != text and name.startswith(text)
        )
        own = math.exp(logprob) - longer
        found[text] = math.log(own) if own > 0 else -1e9
    return found
