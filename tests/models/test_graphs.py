"""Steps that are played back: recorded are torch's operators with the very tensors that they had, as a CUDA graph has their
addresses; whatever a step computes in Python is computed once, and old when it is played."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.models.zoo import FLAT, build, sequences, twin
from tutelage.models import cache, decode, graphs
from tutelage.models.decode import Decoding
from tutelage.models.graphs import Played, Step
from tutelage.models.loading import policy_module
from tutelage.rollout.decode import Drawn, Job, Key
from tutelage.rollout.decode import decode as draw


class Tape(TorchDispatchMode):
    """Remembers every operator with its tensors, and can compute them again, each result where it lay."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def play(self) -> None:
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if (
                    isinstance(old, Tensor)
                    and old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr()
                ):
                    old.copy_(new)


class Recorder:
    """How often steps were recorded and played."""

    def __init__(self) -> None:
        self.recorded = self.played = 0

    def __call__(self, step: Step) -> Step:
        with Tape() as tape:
            result = step()
        result.fill_(torch.nan)  # recording computes nothing
        self.recorded += 1

        def play() -> Tensor:
            self.played += 1
            tape.play()
            return result

        return play


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    found = Recorder()
    monkeypatch.setattr(decode, "recorder", lambda device: found)
    monkeypatch.setattr(decode.llama, "plain_llama", lambda backbone: False)
    monkeypatch.setattr(cache, "BLOCK", 8)
    return found


@pytest.mark.parametrize("name", FLAT)
@torch.inference_mode()
def test_played_steps_equal_a_fresh_forward(name: str, recorder: Recorder) -> None:
    """Through growth of the cache, rows that are given to other prompts, and rows that are dropped."""
    model = build(name)
    decoding = Decoding(policy_module(twin(model), name), [part.tolist() for part in sequences()], 12)
    rows = [part.tolist() for part in sequences()]
    prompts = [row[:] for row in rows]
    generator = torch.Generator().manual_seed(3)
    for step in range(12):
        tokens = torch.randint(2, 100, (decoding.rows,), generator=generator)
        decoding.step(tokens)
        for row, token in zip(rows, tokens.tolist(), strict=True):
            row.append(token)
        if step == 3:
            decoding.leave(torch.tensor([1]))
            decoding.replace(torch.tensor([1]), [prompts[3]], [1])
            rows[1] = prompts[3][:]
        if step == 9:
            decoding.select(torch.tensor([1, 2]))
            rows = rows[1:3]
        wanted = torch.stack([model(input_ids=torch.tensor([row])).logits[0, -1] for row in rows])
        assert (decoding.logits - wanted).abs().max() < 1e-5 * max(1.0, float(wanted.abs().max())), step
    assert (recorder.recorded, recorder.played) == (2, 6), (
        "after two calls each, until the cache grows and rows go"
    )


def drawn(model: Any, eos: Sequence[int]) -> dict[Key, Drawn]:
    def uniforms(key: Key) -> np.ndarray:
        return np.random.default_rng(key).random(24, dtype=np.float32)

    jobs = [Job(i, 0, 2, part.tolist(), 24) for i, part in enumerate(sequences())]
    jobs.sort(key=lambda job: -len(job.ids))
    return draw(model, deque(jobs), 4, uniforms, 1.0, eos, lambda tokens, ended: None)


def test_what_is_drawn_is_the_same(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    model = policy_module(build("qwen2" if "qwen2" in FLAT else FLAT[0]), "x").eval()
    played = drawn(model, range(2, 12))
    monkeypatch.setattr(decode, "recorder", lambda device: None)
    called = drawn(model, range(2, 12))
    assert {key: one.ids for key, one in played.items()} == {key: one.ids for key, one in called.items()}
    assert recorder.played > 10 and len({len(one.ids) for one in played.values()}) > 2


def test_a_step_that_cannot_be_recorded_is_called(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(step: Step) -> Step:
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA says more")

    played = Played(lambda tokens: tokens + 1.0, refuse)
    for number in range(5):
        assert played(torch.tensor([number]), "here").item() == number + 1
    assert caplog.text.count("operation not permitted") == 1 and "CUDA says more" not in caplog.text


def test_only_a_gpu_records() -> None:
    assert graphs.recorder(torch.device("cpu")) is None and graphs.recorder(torch.device("mps")) is None
    assert graphs.recorder(torch.device("cuda", 0)) is graphs.cuda_graph
