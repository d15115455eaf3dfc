"""Votes with help: what is stored with them, what `label` says of them, and how they travel."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from tests.feedback.test_label import run_label, settings
from tutelage.feedback.commands.helped import Helped, helped_rows
from tutelage.records import Help, Prompt, Response, Vote
from tutelage.seeds import rng
from tutelage.store import ModelInfo, NewVote, Store
from tutelage.worlds import chains
from tutelage.worlds.world import prompts

MANY = 120


def sample(path: Path, count: int = MANY) -> None:
    """A sound solution and one with a wrong step to each of some chains."""
    asked = list(prompts(0, "helped-test", count, tasks=["chain"]))
    written = []
    for prompt in asked:
        made: dict = dict(prompt.reference or {})
        texts = (chains.write(made, rng(0, prompt.id)), chains.slip(made, rng(0, prompt.id)))
        written += [Response(prompt, text, (1,), (2,), (-1.0,), "eos", i) for i, text in enumerate(texts)]
    with Store(path) as store:
        store.add_prompts("main", asked)
        run = store.add_generation_run(ModelInfo("people"), "written", {"seed": 0})
        store.add_responses("main", run, written)


def helped(
    arm: str, right: bool | None, argues: int | None = 1, margin: float = 1.0, prompt: str = "p"
) -> Helped:
    """A vote (None: a tie) on a pair whose second response is better."""
    preference = 0 if right is None else 1 if right else -1
    return Helped(Vote("x", preference, 0, help=Help(arm, "a", argues=argues)), prompt, margin)  # type: ignore[arg-type]


def test_the_figures_by_hand() -> None:
    votes = [
        *(helped("none", right, None, prompt=str(n)) for n, right in enumerate((True, False, True, False))),
        *(helped("honest", right, 1, prompt=str(n)) for n, right in enumerate((True, True, True, None))),
        *(
            helped("adversarial", right, 0, prompt=str(n))
            for n, right in enumerate((False, False, False, True))
        ),
        helped("honest", True, None, margin=0.0, prompt="equal"),
    ]
    found = {row.metric: row for row in helped_rows(votes, 200)}
    assert {name: row.value for name, row in found.items()} == {
        "gold_agreement/none": 0.5,
        "gold_agreement/honest": pytest.approx((3 + 0.5 + 0.5) / 5),
        "gold_agreement/adversarial": 0.25,
        "followed/honest": pytest.approx(3.5 / 4),
        "followed/adversarial": 0.75,
        "help_gain": pytest.approx(0.8 - 0.5),
        "help_harm": pytest.approx(0.5 - 0.25),
    }
    gain = found["help_gain"]
    assert gain.low is not None and gain.high is not None and gain.low <= 0.3 <= gain.high and gain.n == 13


def test_votes_without_help_have_no_figures_and_an_empty_arm_no_difference() -> None:
    assert helped_rows([Helped(Vote("x", 1, 0), "p", 1.0)], 100) == []
    only = helped_rows([helped("honest", True)], 100)
    assert {row.metric for row in only} == {"gold_agreement/honest", "followed/honest"}
    unknown = helped_rows([Helped(Vote("x", 1, 0, help=Help("honest", "a", argues=1)), "p", None)], 100)
    assert {row.metric for row in unknown} == {"followed/honest"}


def test_help_is_stored_with_the_vote_and_reported_by_arm(tmp_path: Path) -> None:
    sample(tmp_path / "store.sqlite")
    judge = [{"judge": "checker", "assistant": "world", "control": 0.3, "adversarial": 0.3}]
    printed = run_label(settings(tmp_path, judge=judge, annotator="helped"))
    with Store(tmp_path / "store.sqlite") as store:
        votes = [one.vote for one in store.votes("main")]
        assert {vote.annotator for vote in votes} == {"helped"} and len(votes) == MANY
    rows = {row["metric"]: row for row in json.loads((tmp_path / "label" / "results.json").read_text())}
    arms = [vote.help.arm for vote in votes if vote.help]
    for arm in ("none", "honest", "adversarial"):
        assert rows[f"gold_agreement/{arm}"]["n"] == arms.count(arm) > 20  # type: ignore[arg-type]
    assert rows["gold_agreement/honest"]["value"] == 1.0 and rows["help_gain"]["value"] > 0.1
    assert "helped by help, right by gold: none" in printed
    said = {vote.help.said for vote in votes if vote.help and vote.help.arm == "honest"}
    assert all(
        "I find nothing wrong." in both and any("Look at step" in one for one in both) for both in said
    )
    assert {vote.help.template for vote in votes if vote.help} == {"", "pointing-1"}


def test_the_same_again_adds_nothing(tmp_path: Path) -> None:
    sample(tmp_path / "store.sqlite", 10)
    judge = [{"judge": "checker", "assistant": "world"}]
    for out in ("one", "two"):
        run_label(settings(tmp_path, judge=judge, out=tmp_path / out, pairs="all"))
    with Store(tmp_path / "store.sqlite") as store:
        assert store.counts("main").votes == 10


def test_a_name_is_for_one_judge(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="annotator is for one judge, and the simulated annotators have names"
    ):
        settings(tmp_path, annotator="me")


def test_help_travels_in_raw_files(tmp_path: Path) -> None:
    from rich.console import Console

    from tests.feedback.test_exports import rows  # noqa: F401  the fixtures of exports are in the store's own terms
    from tutelage.feedback.commands.exporting import main as export
    from tutelage.feedback.commands.importing import main as take
    from tutelage.settings.feedback import FeedbackExportSettings, FeedbackImportSettings

    sample(tmp_path / "store.sqlite", 12)
    judge = [{"judge": "checker", "assistant": "world", "adversarial": 0.4}]
    run_label(settings(tmp_path, judge=judge))
    console = Console(file=io.StringIO())
    for ending in ("jsonl", "parquet"):
        file, other = tmp_path / f"raw.{ending}", tmp_path / f"{ending}.sqlite"
        export(
            FeedbackExportSettings(
                store=str(tmp_path / "store.sqlite"), project="main", out=file, format="raw"
            ),
            console,
        )
        take(FeedbackImportSettings(store=str(other), project="main", file=file, kind="raw"), console)
        with Store(tmp_path / "store.sqlite") as one, Store(other) as two:
            ours, theirs = (
                sorted(str(stored.vote.help) for stored in store.votes("main")) for store in (one, two)
            )
        assert ours == theirs and len(ours) == 12 and "None" not in ours


def test_a_vote_of_another_kind_has_no_help(tmp_path: Path) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        asked = Prompt("Q?")
        store.add_prompts("main", [asked])
        run = store.add_generation_run(ModelInfo("m"), "written", {})
        store.add_responses(
            "main", run, [Response(asked, text, (1,), (2,), (-1.0,), "eos", n) for n, text in enumerate("ab")]
        )
        store.build_pairs("main", 0, 1)
        store.add_annotator("ann", "judge", {})
        pair = store.pairs("main")[0].item_id
        help = Help("honest", "somebody", ("this", ""), 0, "words-1")
        store.add_votes("main", [NewVote(pair, Vote("ann", 1, 0, help=help), "key")])
        assert [one.vote.help for one in store.votes("main")] == [help]
