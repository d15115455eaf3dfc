"""A reward function in TRL's signature as a judge.

    def reward(prompts, completions, completion_ids, **columns) -> list[float | None]

`prompts` and `completions` are lists: of texts, or where the prompt is a chat, of lists of messages; `completion_ids` are the
sampled token ids; every column of the prompts' `reference` is a list too, with None where a prompt lacks it.  A function gets
those that it names, and all of them where it takes `**columns`.  It may be async.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Sequence
from numbers import Real
from threading import Thread
from typing import Any

from tutelage.judges.judge import Judge
from tutelage.records import Response, Score

GIVEN = ("prompts", "completions", "completion_ids")
OF_TRL = ("trainer_state", "log_extra", "log_metric", "environments")  # what TRL 1.16 gives besides


class RewardFunction(Judge):
    """Scores by a function of a whole batch; None from it means that it does not apply."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.name, self._function = name, function
        parameters = inspect.signature(function).parameters.values()
        self._takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters)
        named = [one for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
        self._named = {one.name for one in named}
        self._needed = [one.name for one in named if one.default is one.empty]

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        """Raises ValueError naming the function, and the prompt at which it raises or gives what is no score."""
        if not responses:
            return []
        arguments = self._arguments(responses)
        try:
            found = self._call(arguments)
        except (Exception, SystemExit) as error:
            raise self._fault(f"raised {_said(error)}", self._first_that_raises(responses)) from error
        values = _as_list(found)
        if values is None or len(values) != len(responses):
            counted = "" if values is None else f"{len(values)} value{'s' * (len(values) != 1)}"
            what = counted or f"{type(found).__name__} {found!r:.40}"
            raise self._fault(
                f"returned {what} for {len(responses)} responses, not a list with one number (or None) for each",
                responses[0],
            )
        return [self._score(value, response) for value, response in zip(values, responses, strict=True)]

    def _arguments(self, responses: Sequence[Response]) -> dict[str, list[Any]]:
        references = [response.prompt.reference or {} for response in responses]
        columns = dict.fromkeys(key for reference in references for key in reference)
        clash = next((name for name in GIVEN if name in columns), None)
        if clash:
            raise ValueError(
                f"the prompts' reference has a column {clash!r}, which is what {self.name} is given besides: rename it."
            )
        values: dict[str, list[Any]] = {
            name: [reference.get(name) for reference in references] for name in columns
        }
        values["prompts"] = [response.prompt.content_json() for response in responses]
        values["completions"] = [_completion(response) for response in responses]
        values["completion_ids"] = [list(response.ids) for response in responses]
        missing = next((name for name in self._needed if name not in values), None)
        if missing:
            raise self._fault(f"needs {missing!r}, {_not_given(missing)}", responses[0])
        return (
            values
            if self._takes_all
            else {name: value for name, value in values.items() if name in self._named}
        )

    def _call(self, arguments: dict[str, list[Any]]) -> Any:
        found = self._function(**arguments)
        return _finished(found) if inspect.isawaitable(found) else found

    def _first_that_raises(self, responses: Sequence[Response]) -> Response:
        """The function saw the whole batch; asked one by one, it shows which response it was.  The first where none is."""
        for response in responses if len(responses) > 1 else ():
            try:
                self._call(self._arguments([response]))
            except (Exception, SystemExit):
                return response
        return responses[0]

    def _score(self, value: Any, response: Response) -> Score | None:
        if value is None:
            return None
        if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
            value = value.item()  # a number of torch or NumPy
        if not isinstance(value, Real) or not math.isfinite(value):
            raise self._fault(
                f"returned {value!r:.60}, not a finite number (None says that it does not apply)", response
            )
        return Score(float(value))

    def _fault(self, what: str, response: Response) -> ValueError:
        return ValueError(
            f"the reward function {self.name} {what}; the prompt begins {response.prompt.text()[:60]!r}."
        )


def is_reward_function(found: Any) -> bool:
    """Whether something can be called as TRL calls its reward functions: it takes completions, prompts, or any column."""
    if not callable(found) or isinstance(found, type):
        return False
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(one.name in GIVEN or one.kind is one.VAR_KEYWORD for one in parameters)


def _completion(response: Response) -> Any:
    return [{"role": "assistant", "content": response.text}] if response.prompt.is_chat else response.text


def _not_given(name: str) -> str:
    if name in OF_TRL:
        return "which TRL's trainer gives and nobody here: leave it out, or give it a default"
    return (
        f"but no prompt has such a column in its reference: columns={{reference.{name}: {name}}} puts one there, where it is a "
        "column of the prompts' file"
    )


def _as_list(found: Any) -> list[Any] | None:
    if hasattr(found, "tolist"):
        found = found.tolist()  # an array of NumPy, or a tensor
    return list(found) if isinstance(found, list | tuple) else None


def _finished(work: Any) -> Any:
    """What an async function gives.  In a thread of its own: a notebook already runs a loop in this one."""
    outcome: list[Any] = []
    failure: list[Exception] = []

    async def wait() -> Any:
        return await work

    def run() -> None:
        try:
            outcome.append(asyncio.run(wait()))
        except Exception as error:
            failure.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
