"""The local generator: batched sampling from a transformers model in this process."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from tutelage.models.decode import cache_bytes, logits_bytes
from tutelage.models.ends import end_ids
from tutelage.models.free import free_bytes
from tutelage.models.loading import context_of
from tutelage.models.policy import PolicyModule
from tutelage.models.sharding import is_sharded, parts, replica, whole_tensor
from tutelage.parallel import World
from tutelage.rollout.decode import Drawn, Job, Key, decode
from tutelage.rollout.draw import row_uniforms
from tutelage.rollout.generator import Sampling
from tutelage.rollout.writer import Progress, Writer

MAX_ROWS = 256
"""On a CPU more rows at once bring nothing: its caches are full by then."""

MAX_ROWS_GPU = 4096

PARTS = 4
"""Where not all responses fit at once, a prompt takes at most so much of the rows: a place for many is long in coming."""

SHARE = 0.5
"""Of the memory that is free, what a batch may take: caches are copied when they grow."""


class LocalGenerator(Writer):
    """Responses from a model held in this process, with the log-probabilities of their tokens.

    model: a causal language model as `models.loading` prepares it, plain or wrapped by peft.
    dtype: None or the dtype of its weights: the model is used as it is, and training it changes what is generated.
        Another dtype: the generator keeps a copy in that dtype, which `sync` renews (fast decoding in bfloat16 beside
        float32 weights for the optimizer).
    world: the ranks that share the drawing; all of them must call everything here with the same prompts, and all get all
        responses.  The weights may be cut over them, so that a step of decoding would have to put these together; the generator
        keeps a copy of its own, which `sync` renews.
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
        world: World | None = None,
        memory_mib: int = 0,
        version: int = 0,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(tokenizer, version=version, progress=progress)
        self._memory = memory_mib * 2**20
        self._dtype = dtype or model.dtype
        self._world = world if world and world.size > 1 else None
        self._model = self._copy_of(model) if self._world or model.dtype != self._dtype else model

    @property
    def model(self) -> PolicyModule:
        """What it samples from."""
        return self._model

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
            if policy.dtype == self._dtype and not is_sharded(policy):
                self._model = policy
            else:
                _copy_weights(policy, self._model)
        self.version = version

    def _copy_of(self, model: PolicyModule) -> PolicyModule:
        """In the generator's dtype; frozen weights that are in it already are shared."""
        if self._world is not None and is_sharded(model):
            return replica(model, self._dtype, self._world).eval()
        own = copy.deepcopy(model).requires_grad_(False)
        for copied, parameter in zip(own.parameters(), model.parameters(), strict=True):
            shared = not parameter.requires_grad and parameter.dtype == self._dtype
            # not .to() of the module: buffers such as rotary frequencies stay in float32
            copied.data = parameter.data if shared else copied.data.to(self._dtype)
        return own.eval()

    def _drawn(
        self,
        names: Sequence[str],
        ids: Sequence[list[int]],
        limits: Sequence[int],
        numbers: Sequence[range],
        sampling: Sampling,
    ) -> dict[Key, Drawn]:
        drawn: dict[Key, Drawn] = {}
        waiting = self._own(self._jobs(ids, limits, sampling.samples))
        training = self._model.training
        self._model.eval()
        try:
            while waiting:
                drawn |= decode(
                    self._model,
                    waiting,
                    self._rows(max(job.reach for job in waiting)),
                    lambda key: row_uniforms(sampling, names[key[0]], numbers[key[0]][key[1]]),
                    sampling.temperature,
                    end_ids(self._model.host, self.tokenizer),
                    self.progress or (lambda tokens, responses: None),
                )
        finally:
            self._model.train(training)
        if self._world is None:
            return drawn
        everything = {key: one for part in self._world.gather(drawn) for key, one in part.items()}
        if self.progress is not None:  # what the others drew
            others = [one for key, one in everything.items() if key not in drawn]
            self.progress(sum(len(one.ids) for one in others), len(others))
        return everything

    def _own(self, jobs: deque[Job]) -> deque[Job]:
        """Those that this rank draws: each goes to the rank with the fewest tokens to draw so far."""
        if self._world is None:
            return jobs
        tokens = [0] * self._world.size
        own: deque[Job] = deque()
        for job in jobs:
            rank = tokens.index(min(tokens))
            tokens[rank] += job.count * job.limit
            if rank == self._world.rank:
                own.append(job)
        return own

    def _jobs(self, ids: Sequence[list[int]], limits: Sequence[int], samples: int) -> deque[Job]:
        """Prompts of similar length next to each other, longest first, each in parts that fit the memory."""
        order = sorted(range(len(ids)), key=lambda i: (-len(ids[i]), i))
        rows = self._rows(max(len(own) + limit for own, limit in zip(ids, limits, strict=True)))
        if len(ids) * samples > rows:
            rows = max(1, rows // PARTS)
        if self._world is not None:  # something for every rank
            rows = min(rows, -(-len(ids) * samples // self._world.size))
        return deque(
            Job(i, first, min(rows, samples - first), ids[i], limits[i])
            for i in order
            for first in range(0, samples, rows)
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


@torch.no_grad()
def _copy_weights(policy: PolicyModule, own: PolicyModule) -> None:
    """Where the weights are cut over the ranks, only those that can have changed: the others are there from the start."""
    target, cut = dict(own.named_parameters()), is_sharded(policy)
    for name, parameter in parts(policy):
        if parameter.requires_grad or not cut:
            target[name].copy_(whole_tensor(parameter))
