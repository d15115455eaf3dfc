"""Experience: what any on-policy method starts from.  Prompts -> responses -> scores -> log-probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from tutelage.data.batch import TokenBatch
from tutelage.data.order import TaskOrder, rows_for_step
from tutelage.data.responses import response_batch
from tutelage.judges.ends import Ends
from tutelage.judges.judge import Judge, first_of_each, scores_of
from tutelage.models.lora import reference
from tutelage.models.passes import forward_pass
from tutelage.models.policy import PolicyModule
from tutelage.models.sharding import parts
from tutelage.ops.logprobs import Outputs
from tutelage.ops.masked import segment_sum
from tutelage.parallel import World
from tutelage.records import Prompt, Response, Score
from tutelage.rollout.ahead import Ahead
from tutelage.rollout.cost import Multiplier
from tutelage.rollout.drawn import Drawn, filled_up, further_rows
from tutelage.rollout.generator import Generator, Sampling
from tutelage.rollout.reading import NOW, Reading
from tutelage.rollout.weights import WeightsInPrompts
from tutelage.settings.onpolicy import RLSettings

GAP = 0.1
"""Nats by which sampler and trainer may differ about a token before it is counted."""


@dataclass(frozen=True)
class Experience:
    """What a policy wrote in one step, and what is known of it.

    batch: the responses with their prompts, `loss_mask` on the response tokens; per token `old_logprobs` (the trainer's,
    before the update; and `old_values` and `old_kl`, where they were read beside), `sampled_logprobs` (the sampler's own) and
    `ref_logprobs`: float32 [N] in nats, 0 where not `loss_mask`; and `scores`, float32 [N]: what the judge said, at the last
    token of a response or at the places that it scored.  judged: what it said in full.  costs: float32 [B] where somebody
    says what a response costs; cost_coef: the price of it.  group: int64 [B], which of the step's prompts each response
    answers.  live: what the policy's forward gave, by name and with its graph, where that was asked for and one micro-batch
    held everything.  drawing: what it took to draw them, as metrics, where prompts were left out.  task_kl: the weight of the KL
    for tasks that have one of their own.
    """

    responses: list[Response]
    batch: TokenBatch
    judged: list[Score]
    group: Tensor
    live: Mapping[str, Tensor] | None = None
    costs: Tensor | None = None
    cost_coef: float = 0.0
    drawing: Mapping[str, float] = field(default_factory=dict)
    task_kl: Mapping[str, float] = field(default_factory=dict)

    def without_cut(self) -> Experience:
        """Only the responses that ended, as if the others had never been drawn."""
        ended = [number for number, response in enumerate(self.responses) if response.finish != "length"]
        return self if len(ended) == len(self.responses) else self.take(ended)

    def take(self, numbers: Sequence[int]) -> Experience:
        """The responses of these numbers, in that order."""
        chosen = torch.tensor(numbers, dtype=torch.long, device=self.group.device)
        tokens = self.batch.token_index(numbers)
        live = self.live and {name: value[tokens] for name, value in self.live.items()}
        return replace(
            self,
            responses=[self.responses[number] for number in numbers],
            batch=self.batch.take(numbers),
            judged=[self.judged[number] for number in numbers],
            group=self.group[chosen],
            live=live,
            costs=None if self.costs is None else self.costs[chosen],
        )

    @property
    def lengths(self) -> list[int]:
        """Tokens of each response."""
        return [len(response.ids) for response in self.responses]

    @property
    def scores(self) -> Tensor:
        """float32 [B]: the score of each response; the sum over its places where it has several."""
        return segment_sum(self.batch.per_token["scores"], self.batch.lengths)

    @property
    def token_scores(self) -> Tensor:
        """float32 [M]: the scores that stand at the response tokens, less the price of what a response costs at its last."""
        found = self.batch.per_token["scores"][self.batch.loss_mask]
        if self.costs is None:
            return found
        last = torch.tensor(self.lengths, device=found.device).cumsum(0) - 1
        return found.index_add(0, last, self.costs, alpha=-self.cost_coef)

    @property
    def paid(self) -> Tensor:
        """float32 [B]: the score of each response, less the price of what it costs."""
        return self.scores if self.costs is None else self.scores - self.cost_coef * self.costs

    @property
    def log_ratio(self) -> Tensor:
        """float32 [N]: log policy - log reference, of response tokens."""
        return self.batch.per_token["old_logprobs"] - self.batch.per_token["ref_logprobs"]

    @property
    def kl(self) -> float:
        """Estimated KL(policy || reference), nats per response (k1)."""
        return self.log_ratio.sum().item() / len(self.responses)

    def kl_coefs(self, kl_coef: float) -> Tensor:
        """float64 [B]: the weight of each response's KL, that of its task or else this."""
        weights = [self.task_kl.get(response.prompt.task, kl_coef) for response in self.responses]
        return torch.tensor(weights, dtype=torch.float64, device=self.group.device)

    def _kl_charge(self, kl_coef: float) -> float:
        """What a response's KL costs, in units of the score: the mean over responses."""
        if not self.task_kl:
            return kl_coef * self.kl
        each = segment_sum(self.log_ratio, self.batch.lengths)
        return (self.kl_coefs(kl_coef) * each).mean().item()

    @property
    def equal_groups(self) -> float:
        """The share of prompts whose responses all have the same score, which no group can learn from."""
        if not self.responses:
            return 1.0
        scores = self.scores
        low, high = (
            scores.new_zeros(int(self.group.max()) + 1).scatter_reduce(
                0, self.group, scores, how, include_self=False
            )
            for how in ("amin", "amax")
        )
        return (low == high).float().mean().item()

    @property
    def live_fields(self) -> dict[str, Tensor]:
        """What the first update may take over from the forward that is there already; {} where there is none."""
        return {} if self.live is None else {NOW + name: value for name, value in self.live.items()}

    def importance(self, cap: float) -> Tensor:
        """float32 [N]: min(policy / sampler, cap) of every response token, which makes a mean over what the sampler drew one
        over what the policy would have drawn (truncated importance sampling: Ionides 2008); all 1 where cap is 0."""
        known = self.batch.per_token
        ratio = (known["old_logprobs"] - known["sampled_logprobs"]).exp()
        return ratio.clamp(max=cap) if cap else torch.ones_like(ratio)

    def age(self, step: int, cap: float) -> dict[str, float]:
        """How many steps ago the responses were begun, as metrics, and the share of tokens that are too much likelier by now to
        count in full."""
        known, mask = self.batch.per_token, self.batch.loss_mask
        ratio = (known["old_logprobs"] - known["sampled_logprobs"])[mask].exp()
        capped = (ratio > cap).float().mean().item() if cap else 0.0
        return {
            "sampling/staleness": float(step - self.responses[0].version),
            "sampling/importance_capped": capped,
        }

    def metrics(self, kl_coef: float) -> dict[str, float]:
        """Means over responses: scores, KL, lengths, ends; and how far the sampler is from the trainer."""
        score, charge = self.scores.mean().item(), self._kl_charge(kl_coef)
        sampled = self.batch.per_token["sampled_logprobs"]
        gap = (sampled - self.batch.per_token["old_logprobs"])[self.batch.loss_mask].abs()
        return {
            **self._parts(),
            **self._cost(),
            **self._length_correlation(),
            **self._tasks(),
            "objective/scores": score,
            "objective/scores_std": self.scores.std(correction=0).item(),
            "objective/kl": self.kl,
            "objective/kl_coef": kl_coef,
            "objective/non_score_reward": -charge,
            "objective/rlhf_reward": self.paid.mean().item() - charge,
            "objective/entropy": -sampled[self.batch.loss_mask].mean().item(),
            "completions/tokens": float(sum(self.lengths)),
            "completions/mean_length": float(np.mean(self.lengths)),
            "completions/clipped_ratio": float(np.mean([r.finish == "length" for r in self.responses])),
            "sampling/sampling_logp_difference/mean": gap.mean().item(),
            "sampling/sampling_logp_difference/max": gap.max().item(),
            "sampling/sampling_logp_difference/share": (gap > GAP).float().mean().item(),
            **self.drawing,
        }

    def _cost(self) -> dict[str, float]:
        if self.costs is None:
            return {}
        return {"objective/cost": self.costs.mean().item(), "objective/cost_coef": self.cost_coef}

    def _length_correlation(self) -> dict[str, float]:
        """Between score and number of tokens, among the responses that ended: those that were cut are all long and have a score
        of their own.  {} where either is the same for all."""
        ended = [number for number, response in enumerate(self.responses) if response.finish != "length"]
        scores, lengths = self.scores.double().cpu().numpy()[ended], np.array(self.lengths, float)[ended]
        if len(ended) < 3 or np.ptp(scores) == 0 or np.ptp(lengths) == 0:
            return {}
        return {"objective/score_length_correlation": float(np.corrcoef(scores, lengths)[0, 1])}

    def _tasks(self) -> dict[str, float]:
        """Score, KL and length of each task, where there are several."""
        tasks = [response.prompt.task or "none" for response in self.responses]
        if len(set(tasks)) < 2:
            return {}
        kl = segment_sum(self.log_ratio, self.batch.lengths).tolist()
        measured = {"scores": self.scores.tolist(), "kl": kl, "mean_length": self.lengths}
        found: dict[str, float] = {}
        for task in sorted(set(tasks)):
            own = [number for number, other in enumerate(tasks) if other == task]
            found |= {
                f"task/{name}/{task}": float(np.mean([values[number] for number in own]))
                for name, values in measured.items()
            }
        return found

    def _parts(self) -> dict[str, float]:
        """The mean of every part of the scores over the responses that it applies to."""
        parts: dict[str, list[float]] = {}
        for score in self.judged:
            for name, value in score.parts.items():
                parts.setdefault(name, []).append(value)
        return {f"objective/scores/{name}": float(np.mean(values)) for name, values in parts.items()}


class Rollouts:
    """Makes experience.  `ref` is the frozen reference; None: the policy is an adapter, its own reference when switched off.

    console: where it says what it had to measure before the first scores.  weights: what stands in front of prompts, if something
    does.  ahead: where the responses of steps come from that are drawn before their time.
    """

    def __init__(
        self,
        policy: PolicyModule,
        ref: PolicyModule | None,
        judge: Judge,
        generator: Generator,
        prompts: Sequence[Prompt],
        settings: RLSettings,
        world: World,
        console: Console,
        cost: Judge | None = None,
        weights: WeightsInPrompts | None = None,
        ahead: Ahead | None = None,
    ) -> None:
        self._cost, self._price = cost, Multiplier(settings.cost_limit, settings.cost_rate)
        self._policy, self._ref, self._generator, self._prompts = policy, ref, generator, prompts
        self._weights, self._ahead = weights, ahead
        missing = settings.missing_eos_score
        self._judge = judge if missing is None else Ends(judge, missing)
        self._settings, self._world, self._console = settings, world, console

    @property
    def kept(self) -> dict[str, nn.Module]:
        """What changes in here as a run goes on, by name: it belongs into every checkpoint."""
        kept: dict[str, nn.Module] = {}
        if self._ref is not None and self._settings.ref_refresh:
            kept["reference"] = self._ref
        if self._cost is not None:
            kept["cost_price"] = self._price
        if self._ahead is not None:
            kept["ahead"] = self._ahead
        judges = {"judge": self._judge, "cost": self._cost}
        return kept | {
            name: judge.state for name, judge in judges.items() if judge and judge.state is not None
        }

    def collect(
        self, step: int, live: bool = False, reading: Reading | None = None, further_draws: int = 0
    ) -> Experience:
        """The experience of one step, from the policy as it is (`order.rows_for_step` says with which prompts).

        `reading`: what is read of the policy, if not its log-probabilities alone.  `live`: keep the graph of the policy's
        forward if one micro-batch holds everything, so that the first update need not make it again.  `further_draws`: so often
        prompts whose responses are all worth the same are replaced by others (`drawn.filled_up`).
        """
        settings, known = self._settings, len(self._prompts)
        if settings.ref_refresh and step and step % settings.ref_refresh == 0:
            self._refresh_reference()
        self._calibrate(step)

        def draw(rows: Sequence[int]) -> Drawn:
            return self._drawn([self._prompts[row] for row in rows], rows, step, settings.samples)

        rows = self._visits(step)
        drawing: Mapping[str, float] = {}
        if self._ahead is None:
            first = drawn = draw(rows)
        else:
            responses = self._ahead.take(step, self._policy, self._asked)
            first = drawn = self._scored(rows, responses)
        if further_draws:
            further = further_rows(known, rows, further_draws * len(rows), settings.seed, step)
            drawn, drawing = filled_up(first, further, further_draws, draw)
        found = self._experience(drawn, reading or self._plainly, live, drawing)
        if self._ahead is not None:
            found = replace(found, drawing={**drawing, **found.age(step, settings.importance_cap)})
        self._judge.learn(drawn.responses, drawn.judged)
        if self._cost is not None:
            self._cost.learn(drawn.responses, drawn.costs)
            self._price.update(float(np.mean([cost.value for cost in first.costs])))
        return found

    def _visits(self, step: int) -> list[int]:
        """The prompts of a step, all or their tasks in other shares; one that stands there twice stands beside itself, as updates
        lay it out: equal sums have equal bits."""
        size, seed = self._settings.batch_size, self._settings.seed
        if self._settings.task_alpha == 1.0:
            return sorted(rows_for_step(len(self._prompts), size, step, seed))
        return sorted(self._order.rows_for_step(size, step))

    @cached_property
    def _order(self) -> TaskOrder:
        tasks = [prompt.task for prompt in self._prompts]
        if len(set(tasks)) < 2:
            raise ValueError(
                f"task_alpha={self._settings.task_alpha:g} says how often tasks are drawn, and all prompts are of one task: give "
                "prompts of several (in a column `task`), or leave it out."
            )
        return TaskOrder(tasks, self._settings.task_alpha, self._settings.seed)

    def answer(self, prompts: Sequence[Prompt]) -> Experience:
        """One response to each of these prompts, always with the same draws: for evaluation."""
        self._calibrate(-1)
        drawn = self._drawn(prompts, range(len(prompts)), -1, 1)
        return self._experience(drawn, self._plainly, live=False, drawing={})

    @property
    def _plainly(self) -> Reading:
        return Reading(self._policy, self._settings.temperature)

    @torch.no_grad()
    def ref_outputs(self, batch: TokenBatch) -> Outputs:
        """What the reference predicts the response tokens of a batch with."""
        with reference(self._policy) if self._ref is None else nullcontext(self._ref) as ref:
            return ref.outputs(batch)

    def _drawn(self, prompts: Sequence[Prompt], rows: Sequence[int], step: int, samples: int) -> Drawn:
        """Responses to prompts, and what is said of them."""
        asked = self._shown(prompts, rows, step)
        self._generator.sync(self._policy, step)
        return self._scored(rows, self._generator.generate(asked, self._sampling(step, samples)))

    def _asked(self, step: int) -> tuple[list[Prompt], Sampling]:
        """What is drawn at a step."""
        rows = self._visits(step)
        shown = self._shown([self._prompts[row] for row in rows], rows, step)
        return shown, self._sampling(step, self._settings.samples)

    def _shown(self, prompts: Sequence[Prompt], rows: Sequence[int], step: int) -> list[Prompt]:
        """With what stands in front of them, if something does."""
        return list(prompts if self._weights is None else self._weights.before(prompts, rows, step))

    def _scored(self, rows: Sequence[int], responses: list[Response]) -> Drawn:
        """Responses to the prompts of these rows, and what is said of them."""
        judged = scores_of(self._judge, responses)
        costs = [] if self._cost is None else scores_of(self._cost, [each.judged for each in responses])
        price = float(self._price.coef)
        worth: list[float | None] = []
        for number, (score, response) in enumerate(zip(judged, responses, strict=True)):
            paid = sum(self._placed(score, response)) - (price * costs[number].value if costs else 0.0)
            left_out = self._settings.truncated == "mask" and response.finish == "length"
            worth.append(None if left_out else paid)
        return Drawn(rows, responses, judged, worth, costs)

    def _experience(
        self, drawn: Drawn, reading: Reading, live: bool, drawing: Mapping[str, float]
    ) -> Experience:
        responses, judged, device = drawn.responses, drawn.judged, self._world.device
        per_response = [row for row in drawn.rows for _ in range(drawn.samples)]
        batch = response_batch(responses, per_response).to(device)
        kept = self._live(reading, batch) if live else None
        old = (
            self._old(reading, batch)
            if kept is None
            else {name: value.detach() for name, value in kept.items()}
        )
        fields = {
            **{f"old_{name}": value for name, value in old.items()},
            "ref_logprobs": self._ref_logprobs(batch),
            "sampled_logprobs": _at_tokens([r.logprobs for r in responses], batch),
            "scores": _at_tokens(
                [self._placed(*each) for each in zip(judged, responses, strict=True)], batch
            ),
        }
        group = torch.arange(len(drawn.rows)).repeat_interleave(drawn.samples)
        return Experience(
            responses,
            batch.with_fields(**fields),
            judged,
            group.to(device),
            kept,
            torch.tensor([cost.value for cost in drawn.costs], device=device) if drawn.costs else None,
            float(self._price.coef),
            drawing,
            self._settings.task_kl,
        )

    def _placed(self, score: Score, response: Response) -> list[float]:
        """The score at every token of a response, within its bounds."""
        most, places = self._settings.score_clip or float("inf"), [0.0] * len(response.ids)
        for token, value in score.at or ((len(places) - 1, score.value),):
            places[token] += min(max(value, -most), most)
        return places

    @torch.no_grad()
    def _refresh_reference(self) -> None:
        """The policy as it is becomes the reference."""
        assert self._ref is not None, "an adapter that is switched off cannot be another reference"
        for (_, own), (_, new) in zip(parts(self._ref), parts(self._policy), strict=True):
            own.copy_(new)

    def _calibrate(self, step: int) -> None:
        """Before the first update the policy is the reference: its responses tell what the judge's scores are like."""

        def sample() -> list[Response]:
            first = first_of_each(self._prompts, [prompt.task for prompt in self._prompts])
            self._generator.sync(self._policy, -2)
            return self._generator.generate(list(first), self._sampling(-2, 1))

        for judge in (self._judge, self._cost):
            said = judge.calibrate(sample) if judge is not None else None
            if said:
                self._console.print(said)

    def _sampling(self, step: int, samples: int) -> Sampling:
        settings = self._settings
        return Sampling(settings.max_new_tokens, settings.temperature, samples, settings.seed, step)

    def _live(self, reading: Reading, batch: TokenBatch) -> Mapping[str, Tensor] | None:
        """What is read of the policy, with its graph; None where it takes several micro-batches or ranks: each that
        waits takes as much memory as an update does at a time."""
        limit = self._settings.micro_batch_tokens
        if self._world.size > 1 or len(batch.groups(limit, self._policy.pads)) > 1:
            return None
        with self._world.autocast():
            return reading(batch)

    def _old(self, reading: Reading, batch: TokenBatch) -> dict[str, Tensor]:
        """What is read of a model, float32 [N] each, without a graph."""

        def columns(part: TokenBatch) -> Tensor:
            return torch.stack(list(reading(part).values()), -1)

        limit, world = self._settings.micro_batch_tokens, self._world
        found = forward_pass(reading.model, columns, batch, "tokens", limit, world)
        return dict(zip(reading.names, found.unbind(-1), strict=True))

    def _ref_logprobs(self, batch: TokenBatch) -> Tensor:
        with reference(self._policy) if self._ref is None else nullcontext(self._ref) as ref:
            return self._old(Reading(ref, self._settings.temperature), batch)["logprobs"]


def _at_tokens(rows: Sequence[Sequence[float]], batch: TokenBatch) -> Tensor:
    """float32 [N]: a value for each token of each response, 0 elsewhere."""
    values = torch.tensor([value for row in rows for value in row], device=batch.device)
    return torch.zeros(sum(batch.lengths), device=batch.device).masked_scatter(batch.loss_mask, values)
