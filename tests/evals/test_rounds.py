"""What a report says of rounds: each number stands in its round and line, and nothing is made up where a round has none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.evals.synthetic import write_run
from tutelage.evals import report, rounds
from tutelage.evals.folders import find
from tutelage.evals.rounds import BEFORE, NEW, OLD
from tutelage.evals.rows import Row, to_json


def run(folder: Path, command: str, found: list[Row], **facts: Any) -> None:
    write_run(folder, command, **facts)
    (folder / "results.json").write_text(json.dumps(to_json(found)))


def share(metric: str, value: float, n: int, model: str = "reward") -> Row:
    return Row(model, metric, "all", value, value - 0.1, value + 0.1, n, "share")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three rounds; the last one's policy has not been trained."""
    for number in (1, 2, 3):
        data = [f"store:wave-{n}" for n in range(1, number + 1)]
        found = [
            share(f"accuracy@wave-{n}", 0.5 + n / 100 + number / 10, 100 * n) for n in range(1, number + 1)
        ]
        if number > 1:
            found.append(share(f"accuracy_previous@wave-{number}", 0.6 + number / 100, 100 * number))
        run(tmp_path / f"round-{number}/reward", "reward", found, settings={"data": data}, minute=number)
        if number < 3:
            metrics = [{"step": step, "objective/scores": step * number} for step in (1, 2, 3)]
            write_run(tmp_path / f"round-{number}/ppo", "ppo", metrics=metrics, minute=number + 10)
    gold = [share("gold", 0.2 + n / 10, 50, f"round-{n}") for n in (1, 2)]
    run(tmp_path / "eval", "eval", [share("gold", 0.2, 50, "sft"), *gold], baseline="sft", minute=30)
    return tmp_path


def test_every_number_stands_in_its_round(root: Path) -> None:
    lines = {(line.quantity, line.of): line.rounds for line in rounds.drifts(find([root]))}
    values = {key: {n: row.value for n, row in of.items()} for key, of in lines.items()}
    accuracy = "Accuracy of the reward model"
    assert values == {
        ("Gold score", "policy"): {1: pytest.approx(0.3), 2: pytest.approx(0.4)},
        (accuracy, NEW): {1: pytest.approx(0.61), 2: pytest.approx(0.72), 3: pytest.approx(0.83)},
        (accuracy, BEFORE): {2: pytest.approx(0.62), 3: pytest.approx(0.63)},
        # round 3: 100 pairs at 0.81 and 200 at 0.82
        (accuracy, OLD): {2: pytest.approx(0.71), 3: pytest.approx((0.81 + 2 * 0.82) / 3)},
        ("Score in training", "PPO"): {1: 3.0, 2: 6.0},
    }
    assert lines[accuracy, OLD][3].n == 300


def test_the_page_shows_them_and_has_every_number(root: Path) -> None:
    report.write(find([root]), root, title="Rounds")
    page = (root / "report.html").read_text()
    section = page[page.index("From round to round") :]
    section = section[: section.index("</section>")]
    known = {row["value"] for row in json.loads((root / "results.json").read_text())}
    shown = [float(part.split('"')[1]) for part in section.split("<data value=")[1:]]
    assert len(shown) == 2 + 3 + 2 + 2 + 2 and set(shown) <= known
    assert section.count("<svg") == 3 and "Round 3" in section and "Round 4" not in section
    for run in find([root]):
        assert run.round == (int(run.path.parent.name[6:]) if "round-" in run.path.parent.name else None)


def test_one_round_is_no_drift(root: Path, tmp_path: Path) -> None:
    assert rounds.drifts(find([root / "round-1"])) == []
    report.write(find([root / "round-1"]), tmp_path / "page", title="One")
    assert "From round to round" not in (tmp_path / "page" / "report.html").read_text()


def test_evaluations_within_rounds(tmp_path: Path) -> None:
    """Each round's own evaluation: what it was compared with is not drift."""
    for number in (1, 2):
        found = [share("gold", 0.2, 9, "sft"), share("gold", 0.3 * number, 9, "ppo")]
        run(tmp_path / f"round-{number}/eval", "eval", found, baseline="sft", minute=number)
    [line] = rounds.drifts(find([tmp_path]))
    assert (line.quantity, line.of) == ("Gold score", "PPO")
    assert {n: row.value for n, row in line.rounds.items()} == {1: 0.3, 2: 0.6}
