"""`judge cost` and `judge calibration`: what a judge's labels cost before they are asked for, and what they are worth."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sqlalchemy import select

from tests.databases import prepared_sqlite
from tests.feedback.test_label import run_label, sample, settings
from tests.judges.endpoint import Server, serving
from tutelage.feedback.commands import judge_cost
from tutelage.feedback.insights.judges import judges_work
from tutelage.feedback.projects.projects import local_member
from tutelage.feedback.statistics.judging import labels_per_person
from tutelage.feedback.statistics.votes import Votes
from tutelage.launch import launch
from tutelage.records import Vote
from tutelage.settings.feedback import JudgeCalibrationSettings, JudgeCostSettings
from tutelage.store import NewVote, Store
from tutelage.store.database import Database
from tutelage.store.schema import Item
from tutelage.worlds.world import prompts

PRICED = {"price_in": 2.0, "price_out": 6.0, "max_tokens": 64}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(list(prompts(0, "label-test", 20))) as running:
        yield running


@pytest.fixture
def sampled(tmp_path: Path) -> Path:
    prepared_sqlite(tmp_path / "store.sqlite", "sampled", sample)
    return tmp_path


def cost(folder: Path, judge: Any, **more: Any) -> str:
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    judge_cost.main(
        JudgeCostSettings(store=str(folder / "store.sqlite"), judge=judge, pairs_per_prompt=0, **more),
        console,
    )
    return console.export_text()


def test_what_it_would_cost_and_what_it_did(sampled: Path, server: Server) -> None:
    """Nothing is asked for an estimate; what labelling then costs is below what it could not exceed."""
    requests, judge = server.stats()["requests"], server.part(**PRICED)
    before = cost(sampled, judge)
    assert server.stats()["requests"] == requests
    pairs, questions, known = map(
        int, re.findall(r"(\d+) pairs to judge, (\d+) questions, (\d+) of them answered", before)[0]
    )
    assert questions == 2 * pairs and known == 0
    likely, most = map(float, re.findall(r"cost about ([\d.e-]+), never more than ([\d.e-]+)\.", before)[0])
    said = run_label(settings(sampled, judge=judge))
    assert f"{questions} questions so far" in " ".join(said.split())
    with Store(sampled / "store.sqlite") as store:
        [(name, spent)] = store.spent("main").items()
        assert store.counts("main").votes == pairs and store.annotator_kinds()[name] == "judge"
    assert likely / 3 < spent.cost < min(3 * likely, most)
    rows = {row["metric"]: row for row in json.loads((sampled / "label/results.json").read_text())}
    assert rows["judge_cost"]["value"] == spent.cost and rows["questions"]["value"] == questions
    with closing(Database(sampled / "store.sqlite")) as database:
        [work] = judges_work(database, local_member(database, "main"))
    assert (work.name, work.votes, work.answered, work.cost) == (name, pairs, spent.answered, spent.cost)
    assert (work.lost, work.waiting, work.prompt_tokens) == (
        0,
        0,
        spent.prompt_tokens,
    ) and 0 < work.seconds < 5
    after = cost(sampled, judge)
    assert "0 pairs to judge" in after and f"{spent.answered} answers so far" in after
    again = cost(sampled, server.part(**PRICED, concurrency=2), pairs="all")
    assert "0 pairs to judge" in again  # it is the same judge
    with pytest.raises(ValueError, match="is not asked in words and costs nothing"):
        cost(sampled, "world")
    assert "The other" in before and "The other" not in again  # nothing is left
    with pytest.raises(ValueError, match=r"is several judges, and one is counted at a time: .*\(llm:[^,]*\)"):
        cost(sampled, [*server.part(**PRICED), {"judge": "formula:repetition"}])


def test_what_is_left_of_max_cost_is_said(sampled: Path, server: Server) -> None:
    """Of one that allows for the rest, and of one that cannot."""
    ample = cost(sampled, server.part(**PRICED, max_cost=1000.0))
    assert "Of max_cost=1000, 1000 is left." in ample
    assert "Of max_cost=1e-06, 1e-06 is left: likely too little for the rest." in cost(
        sampled, server.part(**PRICED, max_cost=1e-6)
    )


def simulated(h: float, j: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, Votes]:
    """Three people right with (1 + h) / 2 and a judge with (1 + j) / 2 on n items with a better side each."""
    random = np.random.default_rng(seed)
    truth = random.choice([-1, 1], n)
    people = truth[:, None] * np.where(random.random((n, 3)) < (1 + h) / 2, 1, -1)
    judge = truth * np.where(random.random(n) < (1 + j) / 2, 1, -1)
    items = np.repeat(np.arange(n), 3)
    votes = Votes.from_triplets(
        items, np.tile(["a", "b", "c"], n), people.ravel(), categories=[-1, 0, 1], mirrored=True
    )
    return np.arange(n), judge, votes


@pytest.mark.parametrize(("h", "j"), [(0.6, 0.4), (0.6, 0.6), (0.4, 0.8)])
def test_how_many_of_its_votes_one_of_a_person_s_is_worth(h: float, j: float) -> None:
    """The planted (h / j)^2; of 30 intervals no more miss it than 95 % leaves."""
    found = [labels_per_person(*simulated(h, j, 1500, seed)) for seed in range(30)]
    expected = (h / j) ** 2
    assert np.mean([one.value for one in found]) == pytest.approx(expected, rel=0.08)
    missed = sum(not (one.low <= expected <= one.high) for one in found)  # type: ignore[operator]
    assert missed <= 5
    assert all(one.unit == "votes" and one.n == 1500 for one in found)


def test_what_it_means_for_the_mean_of_votes() -> None:
    """So many of the judge's votes decide as surely as so many people's: counted, not derived."""
    random = np.random.default_rng(0)
    people = (random.random((200_000, 9)) < 0.6).sum(1) > 4.5  # h = 0.2
    judge = (random.random((200_000, 36)) < 0.55).sum(1)  # j = 0.1: 4 votes for one
    right = np.mean(judge > 18) + np.mean(judge == 18) / 2
    assert right == pytest.approx(np.mean(people), abs=0.01)


def test_a_judge_that_only_guesses_is_worth_no_number() -> None:
    found = labels_per_person(*simulated(0.6, -0.2, 400, 0))
    assert found.value is None and "no more than chance" in found.note


def test_a_judge_beside_people(sampled: Path, server: Server) -> None:
    """The panel votes, then the judge on the same pairs; every figure by hand from the votes."""
    run_label(settings(sampled, votes_per_item=3))
    run_label(settings(sampled, out=sampled / "judged", judge=server.part(), pairs="all"))
    run = launch(
        "judge calibration",
        JudgeCalibrationSettings(
            out=sampled / "calibration",
            store=str(sampled / "store.sqlite"),
            people="simulated",
            resamples=200,
        ),
        Console(quiet=True),
    )
    assert run is not None
    rows = [row for row in json.loads((run / "results.json").read_text()) if row["task"] == "all"]
    figures = {row["metric"]: row["value"] for row in rows}
    with Store(sampled / "store.sqlite") as store:
        votes, kinds = store.votes("main"), store.annotator_kinds()
    side = [(v.item_id, v.vote.annotator, np.sign(v.vote.preference)) for v in votes]
    judge = {item: s for item, who, s in side if kinds[who] == "judge"}
    people = {item: [s for i, who, s in side if i == item and kinds[who] == "simulated"] for item in judge}
    majority = [np.sign(sum(people[item])) == said for item, said in judge.items()]
    person = [np.mean([s == said for s in people[item]]) for item, said in judge.items()]
    assert figures["agreement_majority"] == pytest.approx(np.mean(majority))
    assert figures["agreement_person"] == pytest.approx(np.mean(person))
    assert {row["task"] for row in json.loads((run / "results.json").read_text())} >= {
        "people agree",
        "people part",
    }
    with pytest.raises(ValueError, match="has no votes of human annotators: choose people="):
        launch(
            "judge calibration",
            JudgeCalibrationSettings(out=sampled / "none", store=str(sampled / "store.sqlite")),
            Console(quiet=True),
        )
    with pytest.raises(ValueError, match="judge=x has no votes in project 'main': those that have are llm:"):
        launch(
            "judge calibration",
            JudgeCalibrationSettings(
                out=sampled / "x", store=str(sampled / "store.sqlite"), people="simulated", judge="x"
            ),
            Console(quiet=True),
        )


def test_criteria_beside_people(sampled: Path, server: Server) -> None:
    """A judge's criteria stand with its votes; agreement by each of them by hand from what both have said."""
    run_label(settings(sampled, judge=server.part(template="rlaif-4criteria")))
    means = {
        row["task"]: row
        for row in json.loads((sampled / "label/results.json").read_text())
        if row["metric"] == "criterion_mean"
    }
    with Store(sampled / "store.sqlite") as store:
        own = {one.item_id: dict(one.vote.criteria) for one in store.votes("main")}
        names = {"accuracy", "coherence", "coverage", "overall"}
        assert set(means) == names and all(set(said) == names for said in own.values())
        assert all(1 <= row["value"] <= 10 and row["n"] == 2 * len(own) for row in means.values())
        pairs, random = store.pairs("main"), np.random.default_rng(0)
        few = {pair.item_id for pair in pairs[:20]}  # that answered by coherence, too
        people: dict[str, dict[int, list[int]]] = {"accuracy": {}, "coherence": {}}
        for name in ("ann", "bob"):
            store.add_annotator(name, "human")
            votes = []
            for pair in pairs:
                said = {"accuracy": int(random.integers(-3, 4))}
                said |= {"coherence": int(random.integers(-3, 4))} if pair.item_id in few else {}
                votes.append(
                    NewVote(
                        pair.item_id,
                        Vote(name, 1, 0, criteria=tuple(sorted(said.items()))),
                        f"{name}/{pair.item_id}",
                    )
                )
                for criterion, preference in said.items():
                    people[criterion].setdefault(pair.item_id, []).append(int(np.sign(preference)))
            store.add_votes("main", votes)
            stored = [one.vote for one in store.votes("main") if one.vote.annotator == name]
            assert [one.criteria for one in stored] == [one.vote.criteria for one in votes]
    launch(
        "judge calibration",
        JudgeCalibrationSettings(out=sampled / "c", store=str(sampled / "store.sqlite"), resamples=100),
        Console(quiet=True),
    )
    rows = json.loads((sampled / "c/results.json").read_text())
    found = {(row["task"], row["metric"]): row for row in rows}
    assert {task for task, _ in found if task.startswith("by ")} == {"by accuracy", "by coherence"}
    sides = {item: np.sign(said["accuracy"]) for item, said in own.items()}
    person = [np.mean([one == sides[item] for one in said]) for item, said in people["accuracy"].items()]
    row = found["by accuracy", "agreement_person"]
    assert row["value"] == pytest.approx(np.mean(person)) and row["n"] == len(own) >= 30
    assert row["low"] < row["value"] < row["high"]
    row = found["by coherence", "agreement_person"]
    assert row["n"] == 20 and row["low"] is None and row["high"] is None  # too few


def test_people_are_asked_where_the_judge_is_unsure(sampled: Path, server: Server) -> None:
    """Those pairs and no others want one more vote, the least sure first; a second run asks nobody twice."""
    judge = server.part(mode="logits")
    run_label(settings(sampled, judge=judge, people_below=0.8))
    with Store(sampled / "store.sqlite") as store:
        shares = {one.item_id: one.vote.share for one in store.votes("main")}
        waiting = [pair.item_id for pair in store.unlabelled_pairs("main")]
        unsure = {item for item, share in shares.items() if share is not None and share < 0.8}
        assert set(waiting) == unsure and 0 < len(unsure) < len(shares)
        with store.reading("main") as (connection, _):
            rows = connection.execute(select(Item.id, Item.priority, Item.overlap)).all()
        assert {row.id: (row.priority, row.overlap) for row in rows if row.id in unsure} == {
            item: (pytest.approx(1 - shares[item]), 2) for item in unsure
        }
        assert all((row.priority, row.overlap) == (0, 1) for row in rows if row.id not in unsure)
    again = run_label(settings(sampled, out=sampled / "again", judge=judge, people_below=0.8))
    with Store(sampled / "store.sqlite") as store:
        assert len(store.votes("main")) == len(shares) and len(store.unlabelled_pairs("main")) == len(
            unsure
        ), again
    with pytest.raises(ValueError, match="people_below is for a judge that says how sure it is"):
        settings(sampled, people_below=0.8)


@pytest.mark.slow
def test_several_language_models_are_told_apart_in_what_they_cost(sampled: Path, server: Server) -> None:
    judge = [
        *server.part(**PRICED, name="one"),
        *server.part(**PRICED, template="rlaif-4criteria", name="two"),
    ]
    said = " ".join(run_label(settings(sampled, judge=judge)).split())
    rows = [
        row
        for row in json.loads((sampled / "label/results.json").read_text())
        if row["metric"] == "judge_cost"
    ]
    with Store(sampled / "store.sqlite") as store:
        spent = store.spent("main")
    assert {row["model"]: row["value"] for row in rows} == {name: one.cost for name, one in spent.items()}
    assert len(rows) == 2 and said.count("questions so far") == 2
    with pytest.raises(ValueError, match="is for a judge that says how sure it is"):
        run_label(
            settings(sampled, out=sampled / "x", judge="python:tests.judges.kit:Longer", people_below=0.8)
        )
