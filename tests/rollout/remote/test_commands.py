"""Commands whose responses servers draw: the same as without them, and one sentence where a server is the wrong one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tests.ranks import on_ranks
from tests.rollout.conftest import WORDS
from tests.rollout.remote.kit import serving
from tests.train.test_reinforce import command_settings
from tutelage.judges import patience
from tutelage.launch import launch
from tutelage.models.loading import load_policy, load_tokenizer, save
from tutelage.models.tiny import tiny_model, train_tokenizer
from tutelage.resume import read_metrics
from tutelage.rollout.remote import greeting
from tutelage.settings.base import build
from tutelage.settings.evals import EvalSettings
from tutelage.settings.rl import PPOSettings
from tutelage.settings.rollout import SampleSettings, SelectSettings

QUIET = Console(quiet=True)


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.01)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    tokenizer = train_tokenizer(WORDS, 280)
    folder = tmp_path_factory.mktemp("sft")
    save(tiny_model(tokenizer, hidden=16, layers=1, heads=2, context=40), tokenizer, folder / "model")
    return folder


@pytest.fixture(scope="module")
def endpoint(checkpoint):
    folder = checkpoint / "model"
    with serving(load_policy(folder), load_tokenizer(folder), fixed=True) as found:
        yield found


def sampling(checkpoint: Path, folder: Path, **more) -> SampleSettings:
    rows = [{"prompt": f"question {i}"} for i in range(6)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {
        "model": str(checkpoint),
        "prompts": str(folder / "prompts.jsonl"),
        "max_new_tokens": 6,
        "precision": "fp32",
    }
    return SampleSettings(**{**values, "out": folder / "run", "store": str(folder / "s.sqlite"), **more})


def lines(folder: Path) -> list[dict]:
    found = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    return [row | {"logprob": round(row["logprob"], 3)} for row in found]


def test_sample_draws_the_same_from_an_endpoint(checkpoint, endpoint, tmp_path):
    launch("sample", sampling(checkpoint, tmp_path), QUIET)
    served = sampling(checkpoint, tmp_path, rollouts=endpoint.url + "/v1", out=tmp_path / "served")
    launch("sample", served, QUIET)
    assert lines(tmp_path / "served") == lines(tmp_path / "run")
    assert endpoint.counts["completions"] >= 12


@pytest.mark.slow
def test_eval_measures_the_same_from_an_endpoint(checkpoint, endpoint, tmp_path):
    """A model that a server holds beside the same one here: every number alike, also of the best of three."""
    rows = [{"prompt": f"question {i}", "task": "t"} for i in range(6)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {
        "models": [f"here={checkpoint}", f"there={checkpoint}"],
        "rollouts": {"there": endpoint.url},
        "prompts": str(tmp_path / "prompts.jsonl"),
        "judge": "formula:flesch",
        "reward": [{"judge": "formula:length", "target": 3}],
        "best_of": 3,
        "best_of_models": ["here", "there"],
        "max_new_tokens": 6,
        "precision": "fp32",
        "out": str(tmp_path / "eval"),
    }
    launch("eval", build(EvalSettings, given), QUIET)
    found = json.loads((tmp_path / "eval" / "results.json").read_text())
    named = {
        name: {(row["metric"], row["task"]): row["value"] for row in found if row["model"] == name}
        for name in ("here", "there", "here-best-of-3", "there-best-of-3")
    }
    for suffix in ("", "-best-of-3"):
        here, there = named["here" + suffix], named["there" + suffix]
        keys = {key for key in here if key[0] != "seconds_per_answer"}
        assert len(keys) > 8 and keys <= there.keys(), "who is compared with the baseline has more"
        for key in keys:
            assert here[key] == pytest.approx(there[key], abs=1e-4), key
    assert endpoint.counts["completions"] >= 6 * 4


@pytest.mark.parametrize(
    ("rollouts", "sentence"),
    [
        (
            {"ppo": "http://localhost:1"},
            "rollouts: ppo is not among the models .here, fresh.: name one of them",
        ),
        ({"fresh": "http://localhost:1"}, "rollouts: fresh is untrained:.* drawn here: leave its server out"),
        ({"here": "localhost:1"}, "localhost:1 is no address of a server: write a URL"),
        ({"here": []}, "here has no server"),
    ],
)
def test_servers_that_eval_cannot_mean(rollouts, sentence, checkpoint, tmp_path):
    models = [f"here={checkpoint}", f"fresh=untrained:{checkpoint}"]
    given = {"models": models, "rollouts": rollouts, "prompts": "p.jsonl", "out": str(tmp_path / "x")}
    with pytest.raises(ValueError, match=sentence):
        launch("eval", build(EvalSettings, given), QUIET)


def test_what_stands_in_front_of_prompts_stands_there_at_an_endpoint_too(checkpoint, endpoint, tmp_path):
    weights = {"short": 1.0, "kind": 0.0}
    launch("sample", sampling(checkpoint, tmp_path, weights=weights), QUIET)
    served = sampling(checkpoint, tmp_path, weights=weights, rollouts=endpoint.url, out=tmp_path / "served")
    launch("sample", served, QUIET)
    assert lines(tmp_path / "served") == lines(tmp_path / "run")


def test_a_server_with_another_tokenizer_is_refused(endpoint, tmp_path):
    tokenizer = train_tokenizer(["entirely other words", "zebra quagga"], 270)
    other = tmp_path / "other"
    save(tiny_model(tokenizer, hidden=16, layers=1, heads=2, context=40), tokenizer, other / "model")
    with pytest.raises(
        ValueError, match=r"reads text as other tokens than the model here .*: give it the same model"
    ):
        launch("sample", sampling(other, tmp_path, rollouts=endpoint.url), QUIET)


@pytest.mark.parametrize("reads", [True, False])
def test_where_no_server_says_how_it_cuts_text_its_responses_do(
    reads, endpoint, checkpoint, tmp_path, monkeypatch
):
    async def silent(*args):
        return None, None

    monkeypatch.setattr(greeting, "tokens_of", silent)
    if reads:
        launch("sample", sampling(checkpoint, tmp_path, rollouts=endpoint.url), QUIET)
        return
    tokenizer = train_tokenizer(["entirely other words", "zebra quagga"], 280)
    other = tmp_path / "other"
    save(tiny_model(tokenizer, hidden=16, layers=1, heads=2, context=40), tokenizer, other / "model")
    with pytest.raises(ValueError, match=r"reads the tokens that it drew as .*: give it the same model"):
        launch("sample", sampling(other, tmp_path, rollouts=endpoint.url), QUIET)


def test_a_name_that_no_server_has(checkpoint, endpoint, tmp_path):
    with pytest.raises(ValueError, match="has no model 'llama': set rollouts_model to one of stand-in"):
        launch("sample", sampling(checkpoint, tmp_path, rollouts=endpoint.url, rollouts_model="llama"), QUIET)


def test_training_refuses_an_endpoint_that_takes_no_weights(tmp_path):
    settings = command_settings(tmp_path)
    folder = tmp_path / "base"
    with serving(load_policy(folder), load_tokenizer(folder), fixed=True) as endpoint:
        wrong = settings.model_copy(update={"rollouts": endpoint.url})
        with pytest.raises(
            ValueError, match="takes no weights, so that a policy that learns cannot be sampled"
        ):
            launch("reinforce", wrong, QUIET)


def test_weights_that_do_not_fit_the_server_are_refused(tmp_path):
    settings = command_settings(tmp_path)
    tokenizer = load_tokenizer(tmp_path / "base")
    larger = tiny_model(tokenizer, hidden=48, layers=2, heads=2, context=128)
    with serving(larger, tokenizer) as server:
        wrong = settings.model_copy(update={"rollouts": server.url})
        with pytest.raises(
            ValueError, match=r"cannot take the weights: .* has the shape \[.*32\] there and \[.*48\] here"
        ):
            launch("reinforce", wrong, QUIET)


@pytest.mark.slow
def test_training_with_a_server_is_training_without_one(tmp_path):
    """Two steps of REINFORCE: the same tokens, and weights that differ by rounding."""
    settings = command_settings(tmp_path, missing_eos_score=None, learning_rate=1e-3, samples=4)
    launch("reinforce", settings, QUIET)
    folder = tmp_path / "base"
    with serving(load_policy(folder), load_tokenizer(folder)) as server:
        served = settings.model_copy(update={"rollouts": server.url, "out": tmp_path / "served"})
        launch("reinforce", served, QUIET)
        assert server.counts["updates"] == 2, "once for each state of the policy"
        assert max(server.ids.values()) == 1 + 1 * any("-3:probe" in name for name in server.ids)
    here, there = read_metrics(tmp_path / "run"), read_metrics(tmp_path / "served")
    for one, other in zip(here, there, strict=True):
        assert one["objective/scores"] == pytest.approx(other["objective/scores"], abs=1e-5)
        assert one["completions/tokens"] == other["completions/tokens"]
    assert all(line["sampling/canary"] < 1e-4 for line in there)
    own, other = (load_policy(tmp_path / name / "model").host.state_dict() for name in ("run", "served"))
    for name, tensor in own.items():
        torch.testing.assert_close(tensor, other[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("cls", "given", "sentence"),
    [
        (SampleSettings, {"rollouts": "localhost:8000"}, "is no address of a server: write local, or a URL"),
        (SampleSettings, {"rollouts": ["http://a", "http://a"]}, "each once"),
        (
            SelectSettings,
            {"rollouts_model": "m"},
            "rollouts_model is for servers .* none is asked: set rollouts",
        ),
        (PPOSettings, {"weights_folder": "w"}, "weights_folder is for servers"),
    ],
)
def test_settings_that_cannot_be_meant(cls, given, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(cls, {"prompts": "p.jsonl", **given})


def test_a_model_may_move_to_another_server_and_not_into_this_process():
    settings = build(SampleSettings, {"prompts": "p.jsonl", "rollouts": ["http://a", "http://b"]})
    assert settings.refuses("rollouts", {"rollouts": "http://c"}, None) is None
    assert settings.refuses("rollouts", {"rollouts": "local"}, None) == ""
    local = build(SampleSettings, {"prompts": "p.jsonl"})
    assert local.refuses("rollouts", {"rollouts": "http://c"}, None) == ""


@pytest.mark.slow
def test_two_ranks_ask_servers_once(tmp_path):
    """The policy is cut over the ranks; rank 0 sends its weights and asks; the run is that of one process."""
    given = command_settings(tmp_path, missing_eos_score=None, max_steps=3, learning_rate=1e-3, samples=4)
    counts = []
    for size in (1, 2):
        with serving(load_policy(given.model), load_tokenizer(given.model)) as found:
            own = given.model_copy(update={"rollouts": found.url, "out": tmp_path / f"run{size}"})
            on_ranks(size, tmp_path / f"ranks{size}", lambda _: launch("reinforce", own, QUIET))  # noqa: B023
            counts.append(dict(found.counts))
    assert counts[0] == counts[1] and counts[0]["updates"] >= 2
    one, two = (read_metrics(tmp_path / f"run{size}") for size in (1, 2))
    for line, other in zip(one, two, strict=True):
        for key in {"loss", "objective/scores", "completions/tokens"} & line.keys():
            assert line[key] == pytest.approx(other[key], abs=1e-6), key
    assert all(line["sampling/canary"] < 1e-3 for line in two if "sampling/canary" in line)
