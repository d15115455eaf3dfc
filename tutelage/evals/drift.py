"""Drift: KL divergence from the reference, on what the model itself writes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tutelage import statistics
from tutelage.data.responses import response_batch
from tutelage.evals.rows import Row, row
from tutelage.evals.scored import by_task
from tutelage.models.passes import forward_pass
from tutelage.models.policy import PolicyModule
from tutelage.parallel import World
from tutelage.records import Response


def response_sums(
    model: PolicyModule,
    responses: Sequence[Response],
    world: World,
    *,
    temperature: float = 1.0,
    max_tokens: int = 8192,
) -> np.ndarray:
    """log p(response | prompt) in nats, float64 [len(responses)], summed over the response's tokens."""
    if not responses:
        return np.zeros(0)
    batch = response_batch(responses).to(world.device)
    found = forward_pass(
        model,
        lambda part: model.sequence_logprobs(part, temperature),
        batch,
        "sequences",
        max_tokens,
        world,
    )
    return found.double().cpu().numpy()


def log_ratios(
    policy: PolicyModule,
    reference: PolicyModule,
    responses: Sequence[Response],
    world: World,
    *,
    temperature: float = 1.0,
    max_tokens: int = 8192,
    read: Sequence[Response] | None = None,
) -> np.ndarray:
    """log pi(y|x) - log ref(y|x) in nats per response, float64 [n].

    `responses` must be samples of `policy` at this `temperature`: only then is the mean the KL (estimator k1). Both models
    must have the same tokenizer (`models.loading.same_tokenizer`): they read the same ids.  `read`: the same responses behind
    other prompts, where the reference is asked in another way than the policy.
    """
    theirs = responses if read is None else read
    ours = response_sums(policy, responses, world, temperature=temperature, max_tokens=max_tokens)
    return ours - response_sums(reference, theirs, world, temperature=temperature, max_tokens=max_tokens)


def evaluate(
    model: str,
    ratios: np.ndarray,
    responses: Sequence[Response],
    *,
    seed: int = 0,
    resamples: int = statistics.RESAMPLES,
) -> list[Row]:
    """Row kl: mean over responses of the summed log-ratio (`log_ratios`), nats per response; overall and per task.

    Single-sample estimate k1: unbiased, so a small KL may come out below 0 within its interval.
    """
    keys = np.array([r.prompt.id for r in responses])
    rows = []
    for task, members in by_task(responses).items():
        i = np.array(members, dtype=int)
        found = statistics.bootstrap_mean(ratios[i], keys[i], seed=seed, resamples=resamples)
        rows.append(row(model, "kl", task, found, "nats"))
    return rows
