"""From people to trainers without files: `data=store:PROJECT` in sft and reward reads what was answered."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, update

from tests.databases import prepared_sqlite
from tests.feedback.kit import hand_in, start
from tests.train.making import make_model, make_tokenizer
from tutelage.cli import run_command
from tutelage.commands import find
from tutelage.feedback.asking.payloads import PairAnswer, RankAnswer, RewriteAnswer, Schema
from tutelage.feedback.items import building
from tutelage.feedback.training import source
from tutelage.feedback.training.source import comparisons_digest, demonstrations_digest
from tutelage.feedback.work import queue
from tutelage.models.loading import save
from tutelage.store import Store
from tutelage.store.database import Database
from tutelage.store.schema import PromptRow

SMALL = ["max_length=64", "batch_size=4", "max_steps=2", "save_every=2", "eval_every=2", "device=cpu"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = make_tokenizer()
    return save(make_model(tokenizer), tokenizer, tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def answered(tmp_path: Path) -> str:
    """A store in which one person has answered pairs, ranks and rewrites."""
    return str(prepared_sqlite(tmp_path / "store.sqlite", "answered", answer_all))


def answer_all(path: Path) -> None:
    with Store(path) as store, closing(Database(path)) as database:
        olga = start(store, database, prompts=4, schema=Schema(rewrite_makes_pair=False))
        building.build(database, olga, "rank", size=3)
        building.build(database, olga, "rewrite")
        while (task := queue.next_task(database, olga)) is not None:
            answer = {
                "pair": PairAnswer(preference=-1),
                "rank": RankAnswer(ranks=(1, 2, 3)),
                "rewrite": RewriteAnswer(text="better"),
            }[task.type]
            hand_in(database, olga, task, answer)


def trained(out: Path) -> tuple[int, dict[str, str]]:
    """(rows that were prepared, hash of each input by its path) of a finished run."""
    lineage = json.loads((out / "lineage.json").read_text())
    rows = json.loads((out / "preflight.json").read_text())
    assert lineage["state"] == "done"
    return rows["rows"], {entry["path"]: entry.get("sha256", "") for entry in lineage["inputs"]}


def test_sft_learns_from_rewrites(answered: str, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "sft"
    args = ["data=store:main", f"store={answered}", f"model={model}", f"out={out}", "heldout_share=0", *SMALL]
    assert run_command(find("sft"), args) == 0
    rows, inputs = trained(out)
    assert rows == 4 and inputs["store:main"] == demonstrations_digest("store:main", answered)


@pytest.mark.parametrize(
    "aggregation",
    [
        "majority",
        "adjudicated",
        pytest.param("dawid-skene", marks=pytest.mark.slow),
        pytest.param("crowd-bt", marks=pytest.mark.slow),
    ],
)
def test_reward_learns_from_pairs_and_ranks(
    answered: str, model: Path, tmp_path: Path, aggregation: str
) -> None:
    out = tmp_path / "reward"
    args = [
        "data=store:main",
        f"store={answered}",
        f"model={model}",
        f"out={out}",
        f"aggregation={aggregation}",
    ]
    assert run_command(find("reward"), [*args, "heldout_share=0", *SMALL]) == 0
    rows, inputs = trained(out)
    assert rows == 4 * 6 + 4 * 3  # all pairs of four responses, and of the three that were ranked
    assert inputs["store:main"] == comparisons_digest("store:main", answered, aggregation)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "held_out"), [("sft", 1), ("reward", 6 + 3)])
def test_held_out_prompts_are_measured_and_not_trained_on(
    answered: str, model: Path, tmp_path: Path, command: str, held_out: int
) -> None:
    database = Database(answered)
    with database.write() as connection:
        connection.execute(update(PromptRow).where(PromptRow.id == 1).values(split="test", task=""))
    database.close()
    out = tmp_path / command
    args = ["data=store:main", f"store={answered}", f"model={model}", f"out={out}", "heldout_share=0", *SMALL]
    assert run_command(find(command), args) == 0
    found = json.loads((out / "preflight.json").read_text())
    assert (found["rows"], found["held_out"]["rows"]) == (3 * held_out, held_out)


def test_sft_without_anything_written(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        start(store, Database(tmp_path / "store.sqlite"))
    args = [
        "data=store:main",
        f"store={tmp_path / 'store.sqlite'}",
        f"model={model}",
        f"out={tmp_path / 'sft'}",
    ]
    assert run_command(find("sft"), args) == 1
    assert "nobody has rewritten or written a response in project 'main'" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.parametrize(("command", "read"), [("sft", "stream_written"), ("reward", "stream_voted_pairs")])
def test_the_hash_is_that_of_the_rows_that_are_trained_on(
    command: str, read: str, answered: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reading serves both, so answers that come in meanwhile cannot stand in the hash only."""
    seen, whole = [], getattr(source, read)

    def fewer_first(connection: Connection, project_id: int) -> object:
        rows = list(whole(connection, project_id))
        seen.append(len(rows))
        return rows[: len(rows) // 2] if len(seen) == 1 else rows

    monkeypatch.setattr(source, read, fewer_first)
    out = tmp_path / command
    args = ["data=store:main", f"store={answered}", f"model={model}", f"out={out}", "heldout_share=0", *SMALL]
    assert run_command(find(command), args) == 0
    rows, inputs = trained(out)
    assert len(seen) == 1 and rows == seen[0] // 2
    seen.clear()  # the next reading is a short one again
    digest = {"sft": demonstrations_digest, "reward": comparisons_digest}[command]
    assert inputs["store:main"] == digest("store:main", answered)
