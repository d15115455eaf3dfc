"""The generator whose responses servers draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from transformers import PreTrainedTokenizerBase

from tutelage.models.policy import PolicyModule
from tutelage.models.sharding import whole
from tutelage.parallel import World
from tutelage.records import Prompt, Response
from tutelage.rollout.decode import Drawn, Key
from tutelage.rollout.draw import sample_numbers
from tutelage.rollout.generator import Sampling
from tutelage.rollout.remote.canary import Canary
from tutelage.rollout.remote.later import Later
from tutelage.rollout.remote.pool import Pool, Update
from tutelage.rollout.remote.weights import Fingerprint, Way, fingerprint, new_label
from tutelage.rollout.remote.wire import Ask, Said
from tutelage.rollout.writer import Progress, Writer
from tutelage.seeds import rng

Log = Callable[[Mapping[str, float]], None]


class RemoteGenerator(Writer):
    """Responses of a model that servers hold, with the log-probabilities of their tokens.

    context: the most tokens of prompt and response.  parameters: of the model.
    way: how the servers get the weights of a policy that learns; None: theirs stay, and `sync` is refused.  canary: what is
    asked for after each sync.  world: the ranks of the command; rank 0 asks for all.  log: takes the canary's metric.  by_text:
    the servers do not say how they cut text into tokens, so that it is seen in the text that they make of those that they drew.

    Each response is one request, with a seed of its own made from the sampling's seed and step, the prompt's id and the sample's
    number.  A server that draws from such a seed alone gives the same responses again, whatever it is asked beside them.
    """

    def __init__(
        self,
        pool: Pool,
        tokenizer: PreTrainedTokenizerBase,
        context: int | None,
        parameters: int,
        *,
        way: Way | None = None,
        canary: Canary | None = None,
        world: World | None = None,
        log: Log | None = None,
        by_text: bool = False,
        version: int = 0,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(tokenizer, version=version, progress=progress)
        self._pool, self._by_text = pool, by_text
        self._context, self._parameters = context, parameters
        self._way, self._canary, self._log = way, canary, log or (lambda metrics: None)
        self._world = world or World(torch.device("cpu"))
        self._update: Update | None = None
        self._known: list[Fingerprint] | None = None
        self._labels, self._pushed = new_label(), 0
        self._drawing: Later[dict[Key, Said]] | None = None  # what was begun last

    @property
    def context(self) -> int | None:
        return self._context

    @property
    def parameters(self) -> int:
        return self._parameters

    def sync(self, policy: PolicyModule, version: int) -> None:
        """Have the servers draw from the weights of `policy`, if it has others than at the last time.

        Raises ValueError where a server cannot take them, or computes something else with them (`canary`).
        """
        assert self._way is not None and self._canary is not None, "a pool of fixed weights is never synced"
        self.version = version
        now = self._world.gather(fingerprint(policy))
        if now == self._known:
            return
        plain = whole(policy, self._world)
        answers = self._world.told(lambda: self._push(plain))
        gaps = []
        for number, said in answers:  # weighed by all ranks, which the policy may be cut over
            server = self._pool.servers[number]
            gaps.append(self._canary.weigh(policy, server, said))
            server.proven = self._label
        self._log({"sampling/canary": max(gaps)})
        self._known = now

    def begin(self, prompts: list[Prompt], sampling: Sampling) -> Callable[[], list[Response]]:
        """Begin to draw what `generate` would; what it returns waits for the responses, on rank 0 and as often as it is called.

        Raises ValueError as `generate` does, at once for prompts and from what it returns for servers.
        """
        ids = self._encode(prompts, sampling.max_new_tokens)
        names, version = [prompt.id for prompt in prompts], self.version
        numbers = sample_numbers(names, sampling.samples)
        drawn = self._later(names, ids, [sampling.max_new_tokens] * len(prompts), numbers, sampling)
        return lambda: self._written(prompts, ids, numbers, drawn(), version)

    def _push(self, plain: PolicyModule | None) -> list[tuple[int, list[Said]]]:
        """Give the weights to the servers; the number of each that took them, and what it draws for the probes."""
        assert self._way is not None and self._canary is not None and plain is not None, "rank 0 has it all"
        if self._drawing is not None:  # what is being drawn is drawn with the weights that it was begun with
            self._drawing.wait()
        self._pushed += 1
        info = self._way.ready(plain, self._label)
        self._update = Update(self._label, info, self._canary.asks, self._canary.compare)
        return [(self._pool.servers.index(server), said) for server, said in self._pool.push(self._update)]

    @property
    def _label(self) -> str:
        """Of the newest weights."""
        return f"{self._labels}-{self._pushed}"

    def _drawn(
        self,
        names: Sequence[str],
        ids: Sequence[list[int]],
        limits: Sequence[int],
        numbers: Sequence[range],
        sampling: Sampling,
    ) -> dict[Key, Drawn]:
        found = self._later(names, ids, limits, numbers, sampling)
        return self._world.told(found)

    def _later(
        self,
        names: Sequence[str],
        ids: Sequence[list[int]],
        limits: Sequence[int],
        numbers: Sequence[range],
        sampling: Sampling,
    ) -> Callable[[], dict[Key, Drawn]]:
        """Begin to draw, on rank 0, behind what has been begun before; what it returns waits for that, there."""
        asks = [
            ask((i, k), names[i], number, ids[i], limits[i], sampling)
            for i, own in enumerate(numbers)
            for k, number in enumerate(own)
        ]

        def done(said: Said) -> None:
            if self.progress is not None:
                self.progress(len(said.ids), 1)

        if self._world.leads:
            update = self._update
            drawing = Later(lambda: self._pool.draw(asks, update, done), self._drawing)
            self._drawing = drawing
            return lambda: {key: self._as_drawn(said) for key, said in drawing.result().items()}
        return dict

    def _as_drawn(self, said: Said) -> Drawn:
        """What was drawn, as the local generator would put it.  Raises ValueError where its text is not that of its tokens."""
        if self._by_text and said.text is not None:
            own = str(self.tokenizer.decode(list(said.ids), skip_special_tokens=True))
            if _letters(own) != _letters(said.text):
                raise ValueError(
                    f"{self._pool.servers[0].name} reads the tokens that it drew as {said.text[:40]!r}, which are {own[:40]!r} "
                    "here: give it the same model."
                )
        return Drawn(list(said.ids), list(said.logprobs), said.ids[-1] in self._pool.dialect.ends)


def _letters(text: str) -> str:
    """Without spaces, which some servers leave out at the start, and characters that are not whole."""
    return "".join(text.replace("\ufffd", "").split())


def ask(key: Key, name: str, number: int, ids: Sequence[int], limit: int, sampling: Sampling) -> Ask:
    """The request for sample `number` of the prompt called `name`."""
    seed = int(rng(sampling.seed, "rollout seed", sampling.step, name, number).integers(2**63))
    identity = f"{sampling.seed}:{sampling.step}:{name}:{number}"
    return Ask(key, identity, ids, limit, seed, sampling.temperature)
