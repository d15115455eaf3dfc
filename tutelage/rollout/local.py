"""The local generator: batched sampling from a transformers model in this process."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedTokenizerBase

from tutelage.data.encoding import Unusable
from tutelage.data.template import encode, encode_prompts
from tutelage.models.decode import cache_bytes, logits_bytes
from tutelage.models.ends import end_ids
from tutelage.models.free import free_bytes
from tutelage.models.loading import context_of
from tutelage.models.policy import PolicyModule
from tutelage.records import Prompt, Response
from tutelage.rollout.decode import Drawn, Job, Key, decode
from tutelage.rollout.draw import row_uniforms, sample_numbers
from tutelage.rollout.generator import Sampling

MAX_ROWS = 256
"""On a CPU more rows at once bring nothing: its caches are full by then."""

MAX_ROWS_GPU = 4096

PARTS = 4
"""Where not all responses fit at once, a prompt takes at most so much of the rows: a place for many is long in coming."""

SHARE = 0.5
"""Of the memory that is free, what a batch may take: caches are copied when they grow."""

Progress = Callable[[int, int], None]
"""Called after every step with the tokens drawn and the responses finished in it."""


class LocalGenerator:
    """Responses from a model held in this process, with the log-probabilities of their tokens.

    model: a causal language model as `models.loading` prepares it, plain or wrapped by peft.
    dtype: None or the dtype of its weights: the model is used as it is, and training it changes what is generated.
        Another dtype: the generator keeps a copy in that dtype, which `sync` renews (fast decoding in bfloat16 beside
        float32 weights for the optimizer).
    memory_mib: keys, values and logits of a batch take at most so many MiB (a single response may take more); 0: half of
        what is free when it begins.
    progress: told the tokens and responses of every step.

    What is drawn for a prompt depends on the weights, the prompt's id, the sampling's seed and step, and the number
    of the sample; not on the other prompts, their order, or the batches they fall into (up to rounding: two tokens
    can change places where a draw falls within about 1e-6 of the border between them). A prompt that is given twice
    with `samples=1` gets what it would get once with `samples=2`.
    """

    def __init__(
        self,
        model: PolicyModule,
        tokenizer: PreTrainedTokenizerBase,
        *,
        dtype: torch.dtype | None = None,
        memory_mib: int = 0,
        version: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.progress = progress
        self._memory = memory_mib * 2**20
        self._dtype = dtype or model.dtype
        self._model = self._weights_of(model)
        self._version = version

    def generate(self, prompts: list[Prompt], sampling: Sampling) -> list[Response]:
        """`sampling.samples` responses per prompt, prompt-major.

        Raises ValueError when a prompt has no tokens, or too many to leave room for the response in the model's
        context.
        """
        if not prompts:
            return []
        ids = self._encode(prompts, sampling.max_new_tokens)
        numbers = sample_numbers(prompts, sampling.samples)
        return self._responses(prompts, ids, self._drawn(prompts, ids, numbers, sampling), numbers)

    def continue_from(self, prompt: Prompt, begun: str, sampling: Sampling) -> list[Response]:
        """`sampling.samples` responses to one prompt that go on from `begun`; their text is what was added to it.

        `prompt_ids` of these responses hold the beginning, too.  Raises ValueError when there is no room for more.
        """
        encoded = encode(self.tokenizer, [(prompt, begun, "length")])[0]
        if isinstance(encoded, Unusable):
            raise ValueError(f"The prompt cannot be tokenised: {encoded}.")
        ids = [*encoded.prompt, *encoded.response]
        if self.context is not None and len(ids) + sampling.max_new_tokens > self.context:
            raise ValueError(
                f"Prompt and beginning have {len(ids)} tokens; with max_new_tokens={sampling.max_new_tokens} that "
                f"exceeds the model's context of {self.context}: shorten them or lower max_new_tokens."
            )
        numbers = [range(sampling.samples)]
        return self._responses([prompt], [ids], self._drawn([prompt], [ids], numbers, sampling), numbers)

    @property
    def context(self) -> int | None:
        """The most tokens that a prompt and its response may have together; None where the model sets no limit."""
        return context_of(self._model)

    @property
    def parameters(self) -> int:
        """How many parameters the model has."""
        return sum(parameter.numel() for parameter in self._model.parameters())

    def sync(self, policy: PolicyModule, version: int) -> None:
        """Generate from the weights of `policy` from now on.

        By reference when the dtypes are equal, by copy otherwise. `policy` has the structure of the model given at
        the start (same parameter names and shapes).
        """
        if self._model is not policy:
            if policy.dtype == self._dtype:
                self._model = policy
            else:
                _copy_weights(policy, self._model)
        self._version = version

    def _weights_of(self, model: PolicyModule) -> PolicyModule:
        if model.dtype == self._dtype:
            return model
        own = copy.deepcopy(model).requires_grad_(False)
        for parameter in own.parameters():  # not .to(): buffers such as rotary frequencies stay in float32
            parameter.data = parameter.data.to(self._dtype)
        return own.eval()

    def _encode(self, prompts: list[Prompt], new_tokens: int) -> list[list[int]]:
        """The ids of every prompt; raises ValueError naming the first that cannot be answered."""
        encoded = []
        for number, (prompt, ids) in enumerate(
            zip(prompts, encode_prompts(self.tokenizer, prompts), strict=True)
        ):
            name = f"Prompt {number} ({' '.join(prompt.text().split())[:40]!r}, id {prompt.id})"
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

    def _drawn(
        self,
        prompts: Sequence[Prompt],
        ids: Sequence[list[int]],
        numbers: Sequence[range],
        sampling: Sampling,
    ) -> dict[Key, Drawn]:
        drawn: dict[Key, Drawn] = {}
        waiting = self._jobs(ids, sampling)
        training = self._model.training
        self._model.eval()
        try:
            while waiting:
                drawn |= decode(
                    self._model,
                    waiting,
                    self._rows(len(waiting[0].ids) + sampling.max_new_tokens),
                    sampling.max_new_tokens,
                    lambda key: row_uniforms(sampling, prompts[key[0]].id, numbers[key[0]][key[1]]),
                    sampling.temperature,
                    end_ids(self._model.host, self.tokenizer),
                    self.progress or (lambda tokens, responses: None),
                )
        finally:
            self._model.train(training)
        return drawn

    def _jobs(self, ids: Sequence[list[int]], sampling: Sampling) -> deque[Job]:
        """Prompts of similar length next to each other, longest first, each in parts that fit the memory."""
        order = sorted(range(len(ids)), key=lambda i: (-len(ids[i]), i))
        rows = self._rows(len(ids[order[0]]) + sampling.max_new_tokens)
        if len(ids) * sampling.samples > rows:
            rows = max(1, rows // PARTS)
        return deque(
            Job(i, first, min(rows, sampling.samples - first), ids[i])
            for i in order
            for first in range(0, sampling.samples, rows)
        )

    def _rows(self, columns: int) -> int:
        """How many rows of so many tokens the memory holds: at least one, and a power of two, so that what is free may change
        a little between two runs without another number of rows, whose sums would round differently."""
        config, size = self._model.config.get_text_config(), self._model.dtype.itemsize
        each = cache_bytes(config, 1, columns, size) + logits_bytes(config, 1, size)
        rows = self._room() // each
        most = MAX_ROWS if self._model.device.type == "cpu" else MAX_ROWS_GPU
        return min(most, 1 << max(rows.bit_length() - 1, 0))

    def _room(self) -> int:
        """Bytes that a batch may take."""
        return self._memory or int(SHARE * free_bytes(self._model.device))

    def _responses(
        self,
        prompts: Sequence[Prompt],
        ids: Sequence[list[int]],
        drawn: dict[Key, Drawn],
        numbers: Sequence[range],
    ) -> list[Response]:
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
                version=self._version,
            )
            for (i, k), text in zip(keys, texts, strict=True)
        ]


@torch.no_grad()
def _copy_weights(policy: PolicyModule, own: PolicyModule) -> None:
    source = dict(policy.named_parameters())
    for name, parameter in own.named_parameters():
        parameter.copy_(source[name])
