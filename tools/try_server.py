"""Everything that remote rollouts ask of a server, tried against a real one.

    python -m tools.try_server http://localhost:8000 --model runs/sft/model --folder /shared/weights

The server holds the model at --model, started as docs/remote.md says.  Tried are, in this order: its tokenizer; its tokens
and their log-probabilities against the model here; that equal seeds give equal tokens; weights that are moved a little, sent
and put back, each with the canary; and that the canary sees weights that the server does not have.  --fixed leaves out what
weights are needed for. A line for each, with what was measured; the exit code is 1 where one failed.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from tutelage.data.responses import response_batch
from tutelage.models.ends import end_ids
from tutelage.models.loading import context_of, load_policy, load_tokenizer
from tutelage.models.policy import PolicyModule
from tutelage.parallel import World
from tutelage.records import Prompt, Response
from tutelage.rollout.generator import Sampling
from tutelage.rollout.remote.canary import BOUND, Canary, probes
from tutelage.rollout.remote.generator import RemoteGenerator
from tutelage.rollout.remote.greeting import greet
from tutelage.rollout.remote.plain import Plain
from tutelage.rollout.remote.pool import Pool
from tutelage.rollout.remote.vllm import Vllm
from tutelage.rollout.remote.weights import Disk

TEXTS = ("The sea was", "Question: what is 2 + 2?\nAnswer:", "A list of towns:", "def f(x):")
SAMPLING = Sampling(max_new_tokens=24, temperature=0.8, samples=2, seed=1)


class Trial:
    """A server, and the model that it should hold."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.world = World(torch.device("cpu"), torch.bfloat16 if given.bf16 else torch.float32)
        self.policy: PolicyModule = load_policy(given.model)
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(given.model)
        ends = end_ids(self.policy.host, self.tokenizer)
        dialect = Plain(ends) if given.fixed else Vllm(ends)
        self.pool = Pool([given.url], dialect, timeout=given.timeout, patience=given.timeout, at_once=8)
        self.fixed, self.name, self.bound = given.fixed, given.name, BOUND[self.world.dtype]
        self.gaps: list[float] = []
        self.generator = RemoteGenerator(
            self.pool,
            self.tokenizer,
            context_of(self.policy),
            1,
            way=None if given.fixed else Disk(Path(given.folder), self.tokenizer, self.world.dtype),
            canary=Canary(probes(self.tokenizer, SAMPLING.temperature), self.world),
            log=lambda metrics: self.gaps.append(metrics["sampling/canary"]),
        )

    def draw(self) -> list[Response]:
        return self.generator.generate([Prompt(text) for text in TEXTS], SAMPLING)

    def greets(self) -> str:
        """The name of the model, its tokenizer, and whether it takes weights."""
        contexts, compared = greet(self.pool, self.tokenizer, self.name, weights=not self.fixed)
        known = "the same tokens" if compared else "it does not say how it cuts text"
        return f"{known}; longest context {min(contexts, default=0) or 'not said'}"

    def agrees(self) -> str:
        """The server's log-probabilities are the model's."""
        gap = self.gap(self.draw())
        assert gap <= self.bound, (
            f"log-probabilities are {gap:.3g} nats per token off, allowed are {self.bound:g}"
        )
        return f"log-probabilities {gap:.2g} nats per token off"

    @torch.no_grad()
    def gap(self, responses: list[Response]) -> float:
        """By how much server and model differ (nats per token, root of the mean square)."""
        batch = response_batch(responses, list(range(len(responses)))).to(self.world.device)
        with self.world.autocast():
            own = self.policy(batch, SAMPLING.temperature).logprobs[batch.loss_mask]
        theirs = torch.tensor([value for response in responses for value in response.logprobs])
        return float((own.float() - theirs).square().mean().sqrt())

    def repeats(self) -> str:
        """Equal seeds give equal tokens."""
        first, second = self.draw(), self.draw()
        same = sum(one.ids == other.ids for one, other in zip(first, second, strict=True))
        assert same == len(first) or self.bound > 1e-2, f"only {same} of {len(first)} responses came again"
        return f"{same} of {len(first)} responses came again"

    def learns(self) -> str:
        """Weights that have moved are taken, and drawn from; so are those from before."""
        before = copy.deepcopy(self.policy)
        self.generator.sync(self.policy, 0)
        move(self.policy, 0.02)
        self.generator.sync(self.policy, 1)
        gap = self.gap(self.draw())
        self.policy = before
        self.generator.sync(self.policy, 2)
        assert gap <= self.bound, f"after new weights log-probabilities are {gap:.3g} nats per token off"
        return (
            f"canary {', '.join(f'{one:.2g}' for one in self.gaps)}; {gap:.2g} nats per token off afterwards"
        )

    def sees(self) -> str:
        """The canary sees a policy that the server does not have."""
        asks = Canary(probes(self.tokenizer, SAMPLING.temperature), self.world)
        drawn = self.pool.draw(asks.asks, None, lambda said: None)
        other = copy.deepcopy(self.policy)
        move(other, 0.1)
        try:
            asks.weigh(other, self.pool.servers[0], [drawn[ask.key] for ask in asks.asks])
        except ValueError as error:
            return str(error).partition("; it may")[0]
        raise AssertionError("another policy passed for this one")


@torch.no_grad()
def move(policy: PolicyModule, share: float) -> None:
    """Every weight a little elsewhere."""
    torch.manual_seed(0)
    for parameter in policy.parameters():
        parameter.add_(share * float(parameter.abs().mean()) * torch.randn_like(parameter))


def tried(steps: Iterable[Callable[[], str]]) -> int:
    """A line for each; how many failed."""
    failed = 0
    for step in steps:
        try:
            said = f"ok      {step.__name__}: {step()}"
        except (ValueError, AssertionError) as error:
            failed, said = failed + 1, f"FAILED  {step.__name__}: {error}"
        print(said, flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.try_server", description=__doc__.split("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--model", required=True, help="the model that the server holds")
    parser.add_argument("--name", default="", help="its name there; empty: the only one")
    parser.add_argument("--folder", default="rollout-weights", help="a folder that the server sees too")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for one request")
    parser.add_argument("--bf16", action="store_true", help="the server computes in bfloat16")
    parser.add_argument("--fixed", action="store_true", help="an endpoint that takes no weights")
    trial = Trial(parser.parse_args())
    steps = [trial.greets, trial.agrees, trial.repeats]
    return min(1, tried(steps if trial.fixed else [*steps, trial.learns, trial.sees]))


if __name__ == "__main__":
    sys.exit(main())
