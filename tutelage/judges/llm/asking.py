"""Putting questions to a language model: each once, written down, within a budget, and several at a time.

A question is known by the hash of all that shapes its answer.  What is in the store is not asked again; what is not is written
down before it is sent, and its answer as soon as it is there.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tutelage.judges.llm.templates import Message
from tutelage.judges.patience import run_here
from tutelage.store import Answer, Question, Spent, Store

PER = 1e6  # tokens that a price is for
MARGIN = 16  # tokens around each message that the endpoint counts as well


@dataclass(frozen=True)
class Call:
    """A question: `messages`, and `params` as the endpoint is sent them.  about, prompt: as in `store.JudgeCall`."""

    messages: tuple[Message, ...]
    params: Mapping[str, Any]
    about: str
    prompt: str

    def key(self, model: str) -> str:
        """64 hex digits: the same question to the same model has the same."""
        content = [model, dict(self.params), [dict(message) for message in self.messages]]
        text = json.dumps(content, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def longest(self) -> int:
        """No tokenizer makes more tokens of the messages: one for every byte."""
        return sum(len(message["content"].encode("utf-8", "replace")) + MARGIN for message in self.messages)

    @property
    def limit(self) -> int:
        """Tokens that the answer has at most."""
        return int(self.params.get("max_tokens") or self.params.get("max_completion_tokens") or 0)


class Answering(Protocol):
    """Who answers: an endpoint.  Raises ValueError, one sentence, where nobody can."""

    async def answer(self, call: Call, key: str) -> Answer: ...


@dataclass(frozen=True)
class Prices:
    """Of a million tokens sent and received, in any unit; `most`: what may be spent (None: no limit)."""

    sent: float = 0.0
    received: float = 0.0
    most: float | None = None

    def of(self, sent: int, received: int) -> float:
        return (sent * self.sent + received * self.received) / PER


class OutOfBudget(ValueError):
    """The next question could cost more than is left."""


class Asker:
    """Asks on behalf of one judge (`name`), in a project of a store (None: outside of any)."""

    def __init__(
        self,
        name: str,
        model: str,
        open_store: Callable[[], Store],
        project: str | None,
        prices: Prices,
        concurrency: int,
        pace: Pace,
    ) -> None:
        self.name, self.model = name, model
        self._open, self._project = open_store, project
        self.prices, self._concurrency, self._pace = prices, concurrency, pace

    def known(self, calls: Sequence[Call]) -> dict[str, Answer]:
        """Key -> answer, of those that were answered before."""
        with self._open() as store:
            return store.judge_answers([call.key(self.model) for call in calls])

    def spent(self) -> Spent:
        """What this judge's questions have come to in this project."""
        with self._open() as store:
            return store.spent(self._project).get(self.name, Spent())

    def tell_budget(self) -> None:
        """Write down what it may cost in its project from now on, for those who look at the project."""
        if self._project is not None:
            with self._open() as store:
                store.set_budget(self._project, self.name, self.prices.most)

    def ask(
        self,
        calls: Sequence[Call],
        endpoint: Callable[[], Any],
        progress: Callable[[int], None] | None = None,
    ) -> list[Answer]:
        """One answer for each call, in order.  `endpoint` opens an async context that gives an `Answering`.

        progress: told how many more of `calls` have an answer.  Raises OutOfBudget before a question could cost more than may be
        spent, and ValueError where the endpoint cannot be asked; every answer that came is kept.
        """
        keys = [call.key(self.model) for call in calls]
        with self._open() as store:
            found = store.judge_answers(keys)
            wanted = {key: call for key, call in zip(keys, calls, strict=True) if key not in found}
            told = progress or (lambda count: None)
            told(sum(key in found for key in keys))
            if wanted:
                budget = Budget(self.prices, store.spent(self._project).get(self.name, Spent()))
                found |= run_here(
                    lambda: self._ask_all(wanted, endpoint, Book(store, self._project), budget, told)
                )
        return [found[key] for key in keys]

    async def _ask_all(
        self,
        wanted: Mapping[str, Call],
        endpoint: Callable[[], Any],
        book: Book,
        budget: Budget,
        told: Callable[[int], None],
    ) -> dict[str, Answer]:
        found: dict[str, Answer] = {}
        waiting = list(wanted.items())[::-1]
        faults: list[Exception] = []

        async def worker(answering: Answering) -> None:
            while waiting and not faults:
                key, call = waiting.pop()
                try:
                    found[key] = await self._one(answering, key, call, book, budget)
                    told(1)
                except Exception as fault:
                    faults.append(fault)

        async with endpoint() as answering, book:
            await asyncio.gather(*(worker(answering) for _ in range(min(self._concurrency, len(waiting)))))
        if faults:
            raise next((fault for fault in faults if not isinstance(fault, OutOfBudget)), faults[0])
        return found

    async def _one(self, answering: Answering, key: str, call: Call, book: Book, budget: Budget) -> Answer:
        reserved = await budget.take(self.prices.of(call.longest, call.limit))
        try:
            await self._pace.wait(call.longest + call.limit)
            await book.sent(Question(key, self.name, call.about, call.prompt, reserved))
            answer = await answering.answer(call, key)
        except BaseException:
            await budget.lose(reserved)
            raise
        await budget.settle(reserved, answer.cost)
        await book.answered(answer)
        return answer


class Budget:
    """What is left: spent, and set aside for questions that are on their way."""

    def __init__(self, prices: Prices, before: Spent) -> None:
        self._most, self._spent, self._open = prices.most, before.cost + before.open_cost, 0.0
        self._going, self._over = 0, False
        self._changed = asyncio.Condition()

    async def take(self, most: float) -> float:
        """Set aside what a question may cost at most, once what is on its way has left enough of its own.

        Raises OutOfBudget where that is not left and nothing is on its way, or where a question was lost meanwhile."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._over or not self._going or self._fits(most))
            if self._over or not self._fits(most):
                raise OutOfBudget(
                    f"max_cost={self._most:g} would be exceeded: {self._spent:.4g} is spent or set aside for questions without "
                    f"an answer, and the next could cost {most:.4g}. What was answered is kept: raise max_cost to go on."
                )
            self._open += most
            self._going += 1
        return most

    def _fits(self, most: float) -> bool:
        return self._most is None or self._spent + self._open + most <= self._most

    async def settle(self, most: float, cost: float) -> None:
        """A question has cost what it has cost."""
        async with self._changed:
            self._open -= most
            self._going -= 1
            self._spent += cost
            self._changed.notify_all()

    async def lose(self, most: float) -> None:
        """A question has no answer and may have been charged; nobody waits for the rest of the budget any longer."""
        self._over = True
        await self.settle(most, most)


class Pace:
    """At most so many questions and tokens a minute (0: no limit), evenly, with a second's worth at once."""

    def __init__(self, questions: int, tokens: int) -> None:
        self._limits = [(limit / 60, float(limit) / 60) for limit in (questions, tokens)]  # per second, burst
        self._left = [burst for _, burst in self._limits]
        self._last = time.monotonic()

    async def wait(self, tokens: int) -> None:
        """Until one more question of so many tokens may be sent."""
        now = time.monotonic()
        passed, self._last = now - self._last, now
        waits = [0.0]
        for number, (cost, (rate, burst)) in enumerate(zip((1.0, float(tokens)), self._limits, strict=True)):
            if rate:
                self._left[number] = min(self._left[number] + passed * rate, max(burst, cost)) - cost
                waits.append(-self._left[number] / rate)
        if (pause := max(waits)) > 0:
            await asyncio.sleep(pause)


class Book:
    """Writes to the store what is sent and what comes back; what comes at the same time is one transaction."""

    def __init__(self, store: Store, project: str | None) -> None:
        self._store, self._project = store, project
        self._waiting: list[tuple[Question | Answer, asyncio.Future[None]]] = []
        self._there = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Book:
        self._writer = asyncio.create_task(self._write())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._writer is not None
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)

    def sent(self, question: Question) -> Awaitable[None]:
        """It is on disk when this returns."""
        return self._add(question)

    def answered(self, answer: Answer) -> Awaitable[None]:
        """It is on disk when this returns."""
        return self._add(answer)

    def _add(self, one: Question | Answer) -> Awaitable[None]:
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((one, written))
        self._there.set()
        return written

    async def _write(self) -> None:
        while True:
            await self._there.wait()
            self._there.clear()
            some, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._keep, [one for one, _ in some])
            except Exception as fault:
                for _, written in some:
                    written.set_exception(fault)
            else:
                for _, written in some:
                    written.set_result(None)

    def _keep(self, some: Sequence[Question | Answer]) -> None:
        if questions := [one for one in some if isinstance(one, Question)]:
            self._store.add_questions(self._project, questions)
        if answers := [one for one in some if isinstance(one, Answer)]:
            self._store.add_judge_answers(answers)
