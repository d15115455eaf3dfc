"""Log-probabilities of the reference: of the rows that training visits, once, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.train.making import CPU, make_model, make_rows, make_tokenizer
from tutelage.data.batch import TokenBatch, Tokens
from tutelage.data.order import rows_for_step, rows_until
from tutelage.models.loading import save
from tutelage.models.policy import PolicyModule
from tutelage.runs import Run
from tutelage.settings.preference import DPOSettings
from tutelage.train import reference
from tutelage.train.reference import RowValues, reference_logprobs

ROWS = make_rows(30)


def sequences(row: int) -> Sequence[Tokens]:
    """Two sequences per row."""
    return [ROWS[row][0], ROWS[(row + 7) % 30][0]]


def find(tmp_path: Path, rows: Sequence[int], monkeypatch: pytest.MonkeyPatch) -> tuple[RowValues, int]:
    """(what is found, how many sequences were computed for it)."""
    computed: list[int] = []
    plainly = PolicyModule.sequence_logprobs

    def counted(self: PolicyModule, batch: TokenBatch, temperature: float = 1.0) -> torch.Tensor:
        computed.append(len(batch))
        return plainly(self, batch, temperature)

    settings = DPOSettings(out=tmp_path / "run")
    run = Run.open(settings.out, "dpo", settings)
    with monkeypatch.context() as patch:
        patch.setattr(PolicyModule, "sequence_logprobs", counted)
        found = reference_logprobs(make_model(make_tokenizer()), sequences, rows, 60, CPU, run)
    run.release()
    return found, sum(computed)


@pytest.mark.parametrize(("n", "batch_size", "steps"), [(30, 4, 3), (30, 8, 5), (5, 8, 1), (1000, 1, 1)])
def test_only_rows_that_will_be_visited(n: int, batch_size: int, steps: int) -> None:
    visited = {row for step in range(steps) for row in rows_for_step(n, batch_size, step, seed=3)}
    assert rows_until(n, batch_size, steps, seed=3).tolist() == sorted(visited)


def test_they_are_the_models_own_and_are_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, computed = find(tmp_path, [3, 5, 20], monkeypatch)
    assert computed == 6 and found.rows.tolist() == [3, 5, 20]
    model = make_model(make_tokenizer())
    for row in (3, 5, 20):
        alone = [model.sequence_logprobs(TokenBatch.collate([tokens])).item() for tokens in sequences(row)]
        assert found.of([row]).tolist() == pytest.approx(alone, abs=1e-4)
    again, computed = find(tmp_path, [3, 5, 20], monkeypatch)
    assert computed == 0 and torch.equal(again.values, found.values)
    assert found.of([20, 3]).tolist() == [*found.of([20]).tolist(), *found.of([3]).tolist()]
    more, computed = find(tmp_path, [3, 5, 12, 20], monkeypatch)  # a run that goes on for more steps
    assert computed > 0 and more.rows.tolist() == [3, 5, 12, 20]
    assert torch.equal(more.of([3, 5, 20]), found.of([3, 5, 20]))  # what was known stays, to the bit


def test_another_run_on_the_same_rows_has_them_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the same weights and cut into the same batches; to the bit."""
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    computed: list[int] = []
    plainly = PolicyModule.sequence_logprobs

    def counted(self: PolicyModule, batch: TokenBatch, temperature: float = 1.0) -> torch.Tensor:
        computed.append(len(batch))
        return plainly(self, batch, temperature)

    monkeypatch.setattr(PolicyModule, "sequence_logprobs", counted)

    def run(name: str, rows: Sequence[int], max_tokens: int = 60, seed: int = 0) -> RowValues:
        computed.clear()
        settings = DPOSettings(out=tmp_path / name, beta=0.1 + len(name) / 10)
        opened = Run.open(settings.out, "dpo", settings)
        model, tokenizer = make_model(make_tokenizer(), seed), make_tokenizer()
        opened.input("model", str(save(model, tokenizer, tmp_path / f"model-{seed}")))
        found = reference_logprobs(model, sequences, rows, max_tokens, CPU, opened)
        opened.release()
        return found

    first = run("a", [3, 5, 20])
    assert sum(computed) == 6
    again = run("bb", [3, 5, 20])
    assert not computed and torch.equal(again.values, first.values)
    assert (tmp_path / "bb" / "reference.bin").stat().st_size == 6 * reference.RECORD.itemsize
    for other in ({"rows": [3, 5, 21]}, {"max_tokens": 30}, {"seed": 1}):
        run(f"c{other}", **{"rows": [3, 5, 20], **other})  # type: ignore[arg-type]
        assert sum(computed) == 6, other
    run("a", [3, 5, 12, 20])  # a run that goes on for more steps computes what is new
    assert sum(computed) > 0
    fresh = run("d", [3, 5, 12, 20])  # and leaves nothing in the cache that was put into other batches
    assert sum(computed) == 8 and fresh.rows.tolist() == [3, 5, 12, 20]


def test_killed_at_any_byte_it_ends_in_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "BATCHES", 2)  # several writes
    rows = range(30)
    whole, _ = find(tmp_path / "whole", rows, monkeypatch)
    written = (tmp_path / "whole" / "run" / "reference.bin").read_bytes()
    assert len(written) == 60 * reference.RECORD.itemsize
    for size in (0, 7, 400, len(written) - 1):
        folder = tmp_path / str(size) / "run"
        find(tmp_path / str(size), [], monkeypatch)  # the run was begun
        (folder / "reference.bin").write_bytes(written[:size])
        again, computed = find(tmp_path / str(size), rows, monkeypatch)
        assert computed > 0
        assert torch.equal(again.values, whole.values), size
        assert len((folder / "reference.bin").read_bytes()) == len(written)
