"""The generator whose responses servers draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from tutelage.models.policy import PolicyModule
from tutelage.rollout.decode import Drawn, Key
from tutelage.rollout.generator import Sampling
from tutelage.rollout.remote.canary import Canary
from tutelage.rollout.remote.pool import Pool, Update
from tutelage.rollout.remote.weights import Fingerprint, Way, fingerprint, new_label
from tutelage.rollout.remote.wire import Ask, Said, Server
from tutelage.rollout.writer import Progress, Writer
from tutelage.seeds import rng

Log = Callable[[Mapping[str, float]], None]


class RemoteGenerator(Writer):
    """Responses of a model that servers hold, with the log-probabilities of their tokens.

    ends: the tokens at which a response ends.  context: the most tokens of prompt and response.  parameters: of the model.
    way: how the servers get the weights of a policy that learns; None: theirs stay, and `sync` is refused.  canary: what is
    asked for after each sync.  log: takes its metric.

    Each response is one request, with a seed of its own made from the sampling's seed and step, the prompt's id and the sample's
    number.  A server that draws from such a seed alone gives the same responses again, whatever it is asked beside them.
    """

    def __init__(
        self,
        pool: Pool,
        tokenizer: PreTrainedTokenizerBase,
        ends: Sequence[int],
        context: int | None,
        parameters: int,
        *,
        way: Way | None = None,
        canary: Canary | None = None,
        log: Log | None = None,
        version: int = 0,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(tokenizer, version=version, progress=progress)
        self._pool, self._ends = pool, frozenset(ends)
        self._context, self._parameters = context, parameters
        self._way, self._canary, self._log = way, canary, log or (lambda metrics: None)
        self._update: Update | None = None
        self._known: Fingerprint | None = None
        self._labels, self._pushed = new_label(), 0

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
        now = fingerprint(policy)
        if now == self._known:
            return
        self._pushed += 1
        label = f"{self._labels}-{self._pushed}"
        canary = self._canary
        update = Update(label, self._way.ready(policy, label), canary.asks, canary.compare)
        gaps = [canary.weigh(policy, server, said) for server, said in self._pool.push(update)]
        self._log({"sampling/canary": max(gaps)})
        self._update, self._known = update, now

    def _drawn(
        self,
        names: Sequence[str],
        ids: Sequence[list[int]],
        limits: Sequence[int],
        numbers: Sequence[range],
        sampling: Sampling,
    ) -> dict[Key, Drawn]:
        asks = [
            ask((i, k), names[i], number, ids[i], limits[i], sampling)
            for i, own in enumerate(numbers)
            for k, number in enumerate(own)
        ]

        def done(said: Said) -> None:
            if self.progress is not None:
                self.progress(len(said.ids), 1)

        found = self._pool.draw(asks, self._update, done)
        return {one.key: self._as_drawn(found[one.key], one, self._pool.servers[0]) for one in asks}

    def _as_drawn(self, said: Said, ask: Ask, server: Server) -> Drawn:
        """What was drawn, as the local generator would put it.  Raises ValueError where its end is none."""
        ended = said.ids[-1] in self._ends
        if said.stopped and not ended:
            raise ValueError(
                f"{server.name} ended a response at the token {said.ids[-1]}, which ends none of this model's: does it serve "
                "the same model, with its generation_config.json?"
            )
        if not said.stopped and not ended and len(said.ids) < ask.limit:
            raise ValueError(
                f"{server.name} broke a response off at {len(said.ids)} of {ask.limit} tokens: give it a longer context "
                "(--max-model-len of vLLM), or lower max_new_tokens."
            )
        return Drawn(list(said.ids), list(said.logprobs), ended)


def ask(key: Key, name: str, number: int, ids: Sequence[int], limit: int, sampling: Sampling) -> Ask:
    """The request for sample `number` of the prompt called `name`."""
    seed = int(rng(sampling.seed, "rollout seed", sampling.step, name, number).integers(2**63))
    identity = f"{sampling.seed}:{sampling.step}:{name}:{number}"
    return Ask(key, identity, ids, limit, seed, sampling.temperature)
