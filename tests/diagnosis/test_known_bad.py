"""For every finding a run in which that very thing is wrong, through the real loop: it is found, printed once, written down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.diagnosis.practising import GOLD, Cut, Rewards, WorldRewards, ends_at_once, exploited, practise
from tests.oracle import EOS
from tests.train.test_oracle import WORLD, EndsAreFree, Table
from tutelage.diagnosis.looks import SCORES
from tutelage.diagnosis.rules import RULES
from tutelage.models.forward import Traits
from tutelage.models.policy import PolicyModule
from tutelage.records import Response

WORLDS = WorldRewards(WORLD.rewards)


class Dropping(Table):
    """A policy that forgets the dropout that it was loaded with."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight)
        self.drop = nn.Dropout(0.1)

    def base_model(self, *given: Any, **named: Any) -> Any:
        found = super().base_model(*given, **named)
        found.last_hidden_state = self.drop.train()(found.last_hidden_state)
        return found


class Hotter(EndsAreFree):
    """A sampler that reports probabilities of another temperature than it is trained with."""

    def _response(self, number: int, logprobs: Tensor) -> Response:
        return super()._response(number, 0.8 * logprobs)


def dropping() -> PolicyModule:
    return PolicyModule(Dropping(WORLD.theta_ref.T.float()), Traits(flat=True))


BAD: Mapping[str, dict[str, Any]] = {
    "no-signal": {"command": "reinforce", "steps": 12, "judge": Rewards(lambda ids: 1.0)},
    "not-moving": {"command": "reinforce", "steps": 42, "judge": WORLDS, "learning_rate": 1e-7},
    "kl-runaway": {
        "command": "reinforce",
        "steps": 20,
        "judge": Rewards(lambda ids: ids == (EOS,)),
        "logits": -1.2 * ends_at_once(),
        "learning_rate": 1.0,
        "kl_coef": 0.0,
    },
    "entropy-collapse": {
        "command": "ppo",
        "steps": 15,
        "judge": WORLDS,
        "learning_rate": 1.0,
        "kl_coef": 0.0,
    },
    "no-end": {"command": "raft", "steps": 12, "judge": Rewards(lambda ids: EOS not in ids), "generator": Cut(),
               "missing_eos_score": None, "learning_rate": 0.1, "kl_coef": 0.0},
    "length-drift": {
        "command": "reinforce",
        "steps": 28,
        "judge": Rewards(len),
        "logits": ends_at_once(),
        "learning_rate": 0.15,
        "schedule": "constant",
        "kl_coef": 0.0,
    },
    "length-driven": {"command": "ppo", "steps": 12, "judge": Rewards(len)},
    "reward-saturated": {
        "command": "reinforce",
        "steps": 20,
        "judge": Rewards(lambda ids: ids[0] == 0),
        "learning_rate": 0.5,
        "kl_coef": 0.0,
    },
    "over-optimised": {
        "command": "reinforce",
        "steps": 20,
        "judge": Rewards(exploited),
        "monitor": Rewards(GOLD.__getitem__),
        "eval_every": 4,
        "learning_rate": 0.2,
        "kl_coef": 0.0,
    },
    "bad-critic": {
        "command": "ppo",
        "steps": 42,
        "judge": WORLDS,
        "values": torch.tensor([2.0, -2.0, 2.0, 2.0, -2.0, 2.0, -2.0]),
        "critic_learning_rate": 1e-6,
    },
    "first-ratio": {"command": "ppo", "steps": 1, "judge": WORLDS, "minibatches": 2, "policy": dropping},
    "clip-fraction": {
        "command": "reinforce",
        "steps": 12,
        "judge": WORLDS,
        "learning_rate": 0.5,
        "schedule": "constant",
        "inner_epochs": 8,
        "kl_coef": 3.0,
        "max_approx_kl": 100.0,
    },
    "sampler-differs": {"command": "reinforce", "steps": 6, "judge": WORLDS, "generator": Hotter()},
}  # fmt: skip


ALSO = {  # what goes wrong as well when that does
    "kl-runaway": {"entropy-collapse", "reward-saturated", "length-drift"},
    "entropy-collapse": {"reward-saturated"},
    "reward-saturated": {"entropy-collapse"},
    "length-drift": {"length-driven"},
}


def test_there_is_a_bad_run_for_every_finding() -> None:
    assert set(BAD) == {rule.name for rule in RULES if rule.needs == SCORES}  # for pairs: test_displaced


@pytest.mark.parametrize("name", BAD)
def test_it_is_found(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    given = dict(BAD[name])
    if "policy" in given:
        given["policy"] = given["policy"]()
    told = practise(tmp_path / "run", **given)
    found = {one["name"]: one for one in json.loads((told.folder / "findings.json").read_text())}
    assert name in found and set(found) <= {name} | ALSO.get(name, set()), found
    one = found[name]
    assert told.screen.count(f", {name}: ") == 1 and one["seen"] in told.screen
    assert 1 <= one["step"] <= one["last"] <= len(told.lines)
    assert all(one[key].strip() for key in ("seen", "cause", "change", "healthy"))
