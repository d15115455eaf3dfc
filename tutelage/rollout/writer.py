"""What every generator does around the drawing itself: prompts become token ids, and what was drawn becomes responses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from tutelage.data.encoding import Unusable
from tutelage.data.template import encode, encode_prompts
from tutelage.models.policy import PolicyModule
from tutelage.records import Prompt, Response
from tutelage.rollout.decode import Drawn, Key
from tutelage.rollout.draw import sample_numbers
from tutelage.rollout.generator import Prefix, Sampling

Progress = Callable[[int, int], None]
"""Called with the tokens drawn and the responses finished since the last call."""


class Writer(ABC):
    """A `Generator` of which the drawing (`_drawn`) is still to be said.

    progress: told of tokens and responses while they are drawn.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, version: int = 0, progress: Progress | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.progress = progress
        self.version = version

    @property
    @abstractmethod
    def context(self) -> int | None:
        """The most tokens that a prompt and its response may have together; None where the model sets no limit."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """How many parameters the model has."""

    @abstractmethod
    def sync(self, policy: PolicyModule, version: int) -> None:
        """Generate from the weights of `policy` from now on; responses carry `version`."""

    @abstractmethod
    def _drawn(
        self,
        names: Sequence[str],
        ids: Sequence[list[int]],
        limits: Sequence[int],
        numbers: Sequence[range],
        sampling: Sampling,
    ) -> dict[Key, Drawn]:
        """(number of the prompt, which of its samples) -> what was drawn.

        names: what the draws of each prompt are fixed by.  ids: what is there already.  limits: what may be added.  numbers:
        those of its samples.
        """

    def generate(self, prompts: list[Prompt], sampling: Sampling) -> list[Response]:
        """`sampling.samples` responses per prompt, prompt-major.

        Raises ValueError when a prompt has no tokens, or too many to leave room for the response in the model's
        context.
        """
        if not prompts:
            return []
        ids = self._encode(prompts, sampling.max_new_tokens)
        names, limits = [prompt.id for prompt in prompts], [sampling.max_new_tokens] * len(prompts)
        return self._responses(prompts, names, ids, limits, sampling)

    def continue_from(self, prefixes: Sequence[Prefix], sampling: Sampling) -> list[Response]:
        """`sampling.samples` responses per prefix, prefix-major (see `Generator`).

        Raises ValueError when a prompt has no tokens, or too many to leave room for the response in the model's context, or
        when a beginning is as long as a response may be.
        """
        if not prefixes:
            return []
        prompts = list({prefix.prompt.id: prefix.prompt for prefix in prefixes}.values())
        encoded = self._encode(prompts, sampling.max_new_tokens)
        known = {prompt.id: ids for prompt, ids in zip(prompts, encoded, strict=True)}
        limits = [sampling.max_new_tokens - len(prefix.begun) for prefix in prefixes]
        for prefix, limit in zip(prefixes, limits, strict=True):
            if limit < 1:
                raise ValueError(
                    f"{_named(prefix.prompt)} has an answer begun with {len(prefix.begun)} tokens, to which "
                    f"max_new_tokens={sampling.max_new_tokens} lets nothing be added: raise it or shorten the beginning."
                )
        ids = [[*known[prefix.prompt.id], *prefix.begun] for prefix in prefixes]
        names = [prefix.id for prefix in prefixes]
        return self._responses([prefix.prompt for prefix in prefixes], names, ids, limits, sampling)

    def begun(self, prompt: Prompt, text: str) -> Prefix:
        """The prompt with a response that begins with `text`.  Raises ValueError where it cannot be tokenised."""
        encoded = encode(self.tokenizer, [(prompt, text, "length")])[0]
        if isinstance(encoded, Unusable):
            raise ValueError(f"{_named(prompt)} cannot be tokenised: {encoded}.")
        return Prefix(prompt, tuple(encoded.response))

    def _encode(self, prompts: list[Prompt], new_tokens: int) -> list[list[int]]:
        """The ids of every prompt; raises ValueError naming the first that cannot be answered."""
        encoded = []
        for number, (prompt, ids) in enumerate(
            zip(prompts, encode_prompts(self.tokenizer, prompts), strict=True)
        ):
            name = _named(prompt, f"{number} ")
            if isinstance(ids, Unusable):
                raise ValueError(f"{name} cannot be tokenised: {ids}.")
            if not ids:
                raise ValueError(f"{name} has no tokens; give it some text.")
            if self.context is not None and len(ids) + new_tokens > self.context:
                raise ValueError(
                    f"{name} has {len(ids)} tokens; with max_new_tokens={new_tokens} that exceeds the model's context "
                    f"of {self.context}: shorten the prompt or lower max_new_tokens."
                )
            encoded.append(ids)
        return encoded

    def _responses(
        self,
        prompts: Sequence[Prompt],
        names: Sequence[str],
        ids: Sequence[list[int]],
        limits: Sequence[int],
        sampling: Sampling,
    ) -> list[Response]:
        """Draw, prompt-major; names: what the draws are fixed by; ids: what is there already; limits: what may be added."""
        numbers = sample_numbers(names, sampling.samples)
        drawn = self._drawn(names, ids, limits, numbers, sampling)
        return self._written(prompts, ids, numbers, drawn, self.version)

    def _written(
        self,
        prompts: Sequence[Prompt],
        ids: Sequence[list[int]],
        numbers: Sequence[range],
        drawn: Mapping[Key, Drawn],
        version: int,
    ) -> list[Response]:
        """What was drawn, by the weights of `version`, as responses, prompt-major."""
        keys = [(i, k) for i, own in enumerate(numbers) for k in range(len(own))]
        texts = self.tokenizer.batch_decode(
            [drawn[key].ids for key in keys], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return [
            Response(
                prompt=prompts[i],
                text=text,
                prompt_ids=tuple(ids[i]),
                ids=tuple(drawn[i, k].ids),
                logprobs=tuple(drawn[i, k].logprobs),
                finish="eos" if drawn[i, k].ended else "length",
                sample_index=numbers[i][k],
                version=version,
            )
            for (i, k), text in zip(keys, texts, strict=True)
        ]


def _named(prompt: Prompt, number: str = "") -> str:
    return f"Prompt {number}({' '.join(prompt.text().split())[:40]!r}, id {prompt.id})"
