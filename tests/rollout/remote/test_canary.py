"""What the canary lets pass in bf16, whose rounding puts single tokens far off, and what it does not."""

from __future__ import annotations

import pytest
import torch

from tutelage.parallel import World
from tutelage.rollout.remote import canary
from tutelage.rollout.remote.canary import Canary
from tutelage.rollout.remote.wire import Said, Server

BF16 = World(torch.device("cpu"), torch.bfloat16)
OWN = torch.linspace(-4, -0.1, 48).tolist()


def weighed(differences: list[float], monkeypatch: pytest.MonkeyPatch) -> float:
    """Of a server whose log-probabilities are so far off."""
    monkeypatch.setattr(canary, "logprobs", lambda *_: [OWN])
    said = [a + b for a, b in zip(OWN, differences, strict=True)]
    server = Server("http://there", 1.0)
    return Canary([], BF16).weigh(None, server, [Said(tuple(range(48)), tuple(said), stopped=False)])  # type: ignore[arg-type]


def test_single_tokens_may_be_off_by_an_eighth(monkeypatch: pytest.MonkeyPatch) -> None:
    rounding = [0.125 if i % 12 == 0 else -0.01 for i in range(48)]
    assert weighed(rounding, monkeypatch) == pytest.approx((4 * 0.125**2 / 48 + 44 * 0.01**2 / 48) ** 0.5)


def test_a_softmax_that_was_cut_makes_all_a_little_likelier(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = [0.02 + 0.04 * (i % 2) for i in range(48)]  # of the tokens 2 to 6 %, as with top_p=0.95
    with pytest.raises(ValueError, match=r"0\.04 nats too high on average \(allowed: 0\.03\)"):
        weighed(cut, monkeypatch)


def test_other_weights_are_off_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"0\.15 nats per token off \(allowed: 0\.1\)"):
        weighed([0.15 * (-1) ** i for i in range(48)], monkeypatch)
