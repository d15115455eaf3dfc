"""The command `label`: who votes, how often, the same again after a crash, and what the closing table says."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.databases import prepared_sqlite
from tutelage.feedback.commands import label
from tutelage.judges.judge import Judge
from tutelage.records import Prompt, Response, Score, Vote
from tutelage.runs import Run
from tutelage.seeds import rng
from tutelage.settings.feedback import LabelSettings
from tutelage.store import ModelInfo, NewVote, Store
from tutelage.worlds.gold import grade
from tutelage.worlds.world import prompts, write_response

ROOT = Path(__file__).parents[2]
COUNT = 20  # prompts; 3 responses each


def sample(path: Path, order: int = 1, asked: list[Prompt] | None = None) -> None:
    """What `sample` would have put into the store: careful and careless responses to the world's prompts."""
    asked = (asked or list(prompts(0, "label-test", COUNT)))[::order]
    written = [
        Response(p, write_response(p, rng(0, p.id, i), careless=0.6).text, (1,), (2,), (-1.0,), "eos", i)
        for p in asked
        for i in range(3)
    ]
    with Store(path) as store:
        store.add_prompts("main", asked)
        run = store.add_generation_run(ModelInfo("people"), "written", {"seed": 0})
        store.add_responses("main", run, written)


def settings(folder: Path, **changes: object) -> LabelSettings:
    values = {
        "out": folder / "label",
        "store": str(folder / "store.sqlite"),
        "pairs_per_prompt": 0,
        **changes,
    }
    return LabelSettings(**values)  # type: ignore[arg-type]


def run_label(chosen: LabelSettings) -> str:
    """Run the command and return what it printed."""
    console = Console(record=True, width=120, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    run = Run.open(chosen.out, "label", chosen, console)
    try:
        label.main(chosen, None, run)
    finally:
        run.close()
    return console.export_text()


def votes_in(folder: Path) -> dict[tuple[str, str], Vote]:
    """(content of the pair, annotator) -> vote."""
    with Store(folder / "store.sqlite") as store:
        digests = {pair.item_id: pair.digest for pair in store.pairs("main")}
        votes = store.votes("main", revisions=True)
    found = {(digests[stored.item_id], stored.vote.annotator): stored.vote for stored in votes}
    assert len(found) == len(votes)
    return found


@pytest.fixture
def sampled(tmp_path: Path) -> Path:
    prepared_sqlite(tmp_path / "store.sqlite", "sampled", sample)
    return tmp_path


def test_every_pair_gets_its_votes_from_different_people(sampled: Path) -> None:
    printed = run_label(settings(sampled))
    found = votes_in(sampled)
    per_pair = Counter(digest for digest, _ in found)
    assert len(per_pair) > COUNT and set(per_pair.values()) == {3}
    people = Counter(name for _, name in found)
    assert len(people) == 6 and max(people.values()) < 2 * min(people.values())
    first = [vote.first_shown for vote in found.values()]
    assert 0.35 < sum(first) / len(first) < 0.65
    orders = {
        digest: {vote.first_shown for (key, _), vote in found.items() if key == digest} for digest in per_pair
    }
    assert (
        sum(len(shown) == 2 for shown in orders.values()) > len(orders) / 2
    )  # each annotator draws their own
    with Store(sampled / "store.sqlite") as store:
        assert store.unlabelled_pairs("main") == []
    assert f"{len(found)} votes on {len(per_pair)} pairs" in printed and "sim-0-5" in printed


def test_votes_follow_from_seed_and_content_alone(tmp_path: Path) -> None:
    for name, order, seed in (("a", 1, 0), ("b", -1, 0), ("c", 1, 1)):
        (tmp_path / name).mkdir()
        sample(tmp_path / name / "store.sqlite", order)
        run_label(settings(tmp_path / name, seed=seed))
    assert votes_in(tmp_path / "a") == votes_in(tmp_path / "b")
    assert {vote.annotator for vote in votes_in(tmp_path / "c").values()} == {f"sim-1-{n}" for n in range(6)}


def test_a_budget_of_pairs_is_spread_over_the_prompts(sampled: Path) -> None:
    """Every prompt has one before any has two, the same ones when it goes on, and more when it is raised."""
    with Store(sampled / "store.sqlite") as store:
        store.build_pairs("main", 0, 3)
        prompt_of = {pair.digest: pair.prompt.id for pair in store.pairs("main")}
    several = len(set(prompt_of.values()))
    run_label(settings(sampled, max_pairs=several - 3))
    few = {digest for digest, _ in votes_in(sampled)}
    assert len(few) == several - 3 == len({prompt_of[digest] for digest in few})
    run_label(settings(sampled, max_pairs=several + 3, out=sampled / "more", votes_per_item=3))
    more = {digest for digest, _ in votes_in(sampled)}
    asked = Counter(prompt_of[digest] for digest in more)
    assert few < more and len(more) == several + 3 and len(asked) == several and max(asked.values()) == 2


def test_an_interrupted_run_goes_on_to_the_same_votes(
    sampled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    sample(whole / "store.sqlite")
    run_label(settings(whole))
    monkeypatch.setattr(label, "PAIRS_AT_ONCE", 7)
    add_votes, calls = Store.add_votes, []

    def stop_at_third(store: Store, project: str, votes: list[NewVote]) -> int:
        calls.append(len(votes))
        if len(calls) == 3:
            add_votes(store, project, votes[: len(votes) // 2])  # not even whole pairs
            raise KeyboardInterrupt
        return add_votes(store, project, votes)

    monkeypatch.setattr(Store, "add_votes", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        run_label(settings(sampled))
    assert 0 < len(votes_in(sampled)) < len(votes_in(whole))
    run_label(settings(sampled))
    assert votes_in(sampled) == votes_in(whole)


def test_a_stopped_run_does_not_go_on_with_more_responses(
    sampled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own votes are no change of its input; what was sampled meanwhile is."""

    def stop(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setattr(Store, "add_votes", stop)
        run_label(settings(sampled))
    with pytest.raises(ValueError, match="different run"):  # its votes are in the store: it is no empty run
        run_label(settings(sampled, votes_per_item=2))
    with Store(sampled / "store.sqlite") as store:
        prompt = store.pairs("main")[0].prompt
        run = store.add_generation_run(ModelInfo("runs/other", "cd34"), "local", {"seed": 1})
        store.add_responses("main", run, [Response(prompt, "Something else.", (1,), (2,), (-0.5,), "eos", 0)])
        pairs = store.counts("main").pairs
    with pytest.raises(ValueError, match=r"store:main \(responses\) has changed since the run"):
        run_label(settings(sampled))
    with Store(sampled / "store.sqlite") as store:
        assert store.counts("main").pairs == pairs, "nothing was done before the refusal"
    run_label(settings(sampled, out=sampled / "anew"))


def slow_down(seconds: float) -> None:
    """Make every transaction take its time, so that there is a middle to be killed in."""
    add_votes = Store.add_votes

    def slowly(store: Store, project: str, votes: list[NewVote]) -> int:
        time.sleep(seconds)
        return add_votes(store, project, votes)

    Store.add_votes = slowly  # type: ignore[method-assign, assignment]


@pytest.mark.slow
def test_kill_9_and_again(sampled: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.feedback import test_label as t;"
        "t.label.PAIRS_AT_ONCE = 1; t.slow_down(0.05); t.run_label(t.settings(Path(sys.argv[1])))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(sampled)], cwd=ROOT)
    with Store(sampled / "store.sqlite") as store:
        while process.poll() is None and not store.counts("main").votes:
            time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    some = votes_in(sampled)
    run_label(settings(sampled))
    everything = votes_in(sampled)
    assert 0 < len(some) < len(everything) and some.items() <= everything.items()
    assert set(Counter(digest for digest, _ in everything).values()) == {3}


def test_more_votes_later_and_people_count(sampled: Path) -> None:
    run_label(settings(sampled, votes_per_item=2))
    before = votes_in(sampled)
    with Store(sampled / "store.sqlite") as store:
        item = store.pairs("main")[0]
        store.add_annotator("a person", "human")
        store.add_votes("main", [NewVote(item.item_id, Vote("a person", 3, 0), "click")])
    run_label(settings(sampled, votes_per_item=3, out=sampled / "label2"))
    after = votes_in(sampled)
    assert before.items() <= after.items()
    assert set(Counter(digest for digest, _ in after).values()) == {3}
    assert sum(name.startswith("sim") for digest, name in after if digest == item.digest) == 2


def test_the_numbers_are_those_of_the_votes(sampled: Path) -> None:
    run_label(settings(sampled))
    rows = json.loads((sampled / "label" / "results.json").read_text())
    value = {(row["model"], row["metric"]): row for row in rows}
    with Store(sampled / "store.sqlite") as store:
        pairs = {pair.item_id: pair for pair in store.pairs("main")}
        own = [stored for stored in store.votes("main") if stored.vote.annotator == "sim-0-2"]
        comparisons = store.comparisons("main")
    credit = []
    for stored in own:
        pair, preference = pairs[stored.item_id], stored.vote.preference
        better = grade(pair.prompt, pair.texts[1]).value - grade(pair.prompt, pair.texts[0]).value
        credit.append(0.5 if better * preference == 0 else float(better * preference > 0))
    assert value["sim-0-2", "gold_agreement"]["value"] == pytest.approx(sum(credit) / len(credit))
    assert value["sim-0-2", "gold_agreement"]["n"] == len(own)
    decided = [stored for stored in own if stored.vote.preference]
    chose_first = [(stored.vote.preference > 0) == (stored.vote.first_shown == 1) for stored in decided]
    assert value["sim-0-2", "first_shown_rate"]["value"] == pytest.approx(sum(chose_first) / len(decided))
    credit = []
    for row in comparisons:
        margin = grade(row.prompt, row.chosen).value - grade(row.prompt, row.rejected).value
        credit.append(0.5 if margin == 0 else float(margin > 0) if row.p_chosen == 1 else 0.5)
    majority = value["majority", "gold_agreement"]
    assert majority["value"] == pytest.approx(sum(credit) / len(credit))
    assert majority["low"] < majority["value"] < majority["high"]
    assert majority["value"] > 0.75  # the panel sees the gold standard, through noise
    (line,) = (sampled / "label" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["gold_agreement"] == pytest.approx(majority["value"])


def test_sentences_for_what_cannot_be_labelled(sampled: Path) -> None:
    with pytest.raises(ValueError, match="votes_per_item=7, but the panel has 6 annotators"):
        run_label(settings(sampled, votes_per_item=7))
    with pytest.raises(ValueError, match=r"has no project 'mian': did you mean 'main'\?"):
        run_label(settings(sampled, project="mian", out=sampled / "2"))
    other = sampled / "other.sqlite"
    sample(other, asked=[next(iter(prompts(0, "label-test", 1)))])
    with Store(other) as store:
        store.add_prompts("empty", [])
        store.add_prompts("foreign", [Prompt("Hello?")])
        run = store.add_generation_run(ModelInfo("m"), "local", {})
        store.add_responses(
            "foreign",
            run,
            [Response(Prompt("Hello?"), text, (), (), (), "eos", i) for i, text in enumerate("ab")],
        )
    with pytest.raises(ValueError, match="has no two different responses to one prompt: sample at least two"):
        run_label(settings(sampled, store=str(other), project="empty", out=sampled / "3"))
    with pytest.raises(ValueError, match=r"the judge gold does not apply to the prompt 'Hello\?'"):
        run_label(settings(sampled, store=str(other), project="foreign", out=sampled / "4"))
    with Store(other) as store:
        assert store.counts("foreign").votes == 0


class LongerIsBetter(Judge):
    """A rule of somebody's own; it has nothing to say about maths."""

    name = "longer"

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return [None if r.prompt.task == "maths" else Score(float(len(r.text))) for r in responses]


def test_a_judge_of_ones_own_votes_once_where_it_applies(sampled: Path) -> None:
    said = run_label(settings(sampled, judge=f"python:{__name__}:LongerIsBetter"))
    votes = votes_in(sampled)
    with Store(sampled / "store.sqlite") as store:
        pairs = {pair.digest: pair for pair in store.pairs("main")}
        assert store.annotator_kinds() == {"longer": "judge"}
    asked = {digest for digest, pair in pairs.items() if pair.prompt.task != "maths"}
    assert {digest for digest, _ in votes} == asked and 0 < len(asked) < len(pairs)
    for (digest, _), vote in votes.items():
        first, second = map(len, pairs[digest].texts)
        assert vote.preference == (second > first) - (second < first)
    assert "longer" in said


@pytest.mark.parametrize(
    ("judge", "sentence"),
    [
        ("python:no.such.module:Judge", "python:no.such.module:Judge cannot be imported"),
        ("python:json:loads2", "python:json:loads2 cannot be imported"),
        ("python:pathlib:Path", "python:pathlib:Path is no judge"),
        ("runs/no-such-model", "There is no folder runs/no-such-model"),
    ],
)
def test_a_judge_that_is_none_is_one_sentence(sampled: Path, judge: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        run_label(settings(sampled, judge=judge))


def brief(completions: list[list[dict[str, str]]], **columns: object) -> list[float]:
    """A reward function as TRL's users write them, for prompts that are chats."""
    return [-float(len(completion[-1]["content"])) for completion in completions]


def test_a_mix_votes_as_the_sum_of_its_parts_under_a_name_of_its_own(sampled: Path) -> None:
    """Options, a gate, a function in TRL's signature, in units that are measured; the same again, and another mix beside it."""
    function = f"python:{__name__}:brief"
    mix = [
        {"judge": function, "normalise": "zscore"},
        {"judge": "formula:regex", "pattern": "[aeiou]{2}", "weight": 2.0},
        {"judge": "formula:regex", "pattern": "[.?!]", "gate": 0.5, "weight": 0, "name": "sentence"},
    ]
    run_label(settings(sampled, judge=mix))
    votes = votes_in(sampled)
    with Store(sampled / "store.sqlite") as store:
        pairs = store.pairs("main")
        (name,) = store.annotator_kinds()
    first = [float(len(text)) for pair in pairs[: label.MEASURED] for text in pair.texts]
    spread = float(np.std(first))

    def value(text: str) -> float:
        worth = -len(text) / spread + 2 * bool(re.search("[aeiou]{2}", text))
        return (
            worth - float(np.mean([-length for length in first])) / spread
            if re.search("[.?!]", text)
            else 0.0
        )

    assert name.startswith("mix-") and len(votes) == len(pairs)
    for pair in pairs:
        one, two = map(value, pair.texts)
        assert votes[pair.digest, name].preference == (two > one) - (one > two)
    assert {vote.preference for vote in votes.values()} >= {-1, 1}

    again = [dict(part) for part in mix]
    run_label(settings(sampled, judge=again, out=sampled / "again", votes_per_item=1))
    assert votes_in(sampled) == votes
    again[1]["weight"] = 3.0
    with Store(sampled / "store.sqlite") as store:
        store.build_pairs("main", 0, 2)
    run_label(settings(sampled, judge=again, out=sampled / "other"))
    with Store(sampled / "store.sqlite") as store:
        assert len(store.annotator_kinds()) == 2


def test_a_judge_that_gives_no_number_votes_for_nothing(sampled: Path) -> None:
    with pytest.raises(ValueError, match="the judge odd gave nan for the prompt"):
        run_label(settings(sampled, judge=f"python:{__name__}:Odd"))
    assert not votes_in(sampled)


class Odd(Judge):
    name = "odd"

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return [Score(float("nan")) for _ in responses]


def test_a_mix_that_is_none_is_one_sentence(sampled: Path) -> None:
    with pytest.raises(ValueError, match="normalise: rank compares the responses of one batch"):
        settings(sampled, judge=[{"judge": "world", "normalise": "rank"}])
    with pytest.raises(ValueError, match="nothing is rewarded"):
        settings(sampled, judge=[{"judge": "world", "gate": 1.0}])
