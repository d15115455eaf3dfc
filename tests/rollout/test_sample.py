"""The command: provenance in the store, and a killed run that ends like one that was not."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from sqlalchemy import create_engine, text

from tests.rollout.conftest import WORDS
from tutelage.files import sha256_of
from tutelage.models.loading import load_policy, load_tokenizer, save
from tutelage.models.tiny import tiny_model, train_tokenizer
from tutelage.parallel import World
from tutelage.records import Prompt
from tutelage.resume import read_metrics
from tutelage.rollout import sample
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.runs import Run
from tutelage.seeds import rng
from tutelage.settings.base import build
from tutelage.settings.rollout import SampleSettings
from tutelage.store import Store

WORLD = World(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    tokenizer = train_tokenizer(WORDS, 280)
    folder = tmp_path_factory.mktemp("sft")
    save(tiny_model(tokenizer, hidden=16, layers=1, heads=2, context=40), tokenizer, folder / "model")
    return folder


@pytest.fixture
def settings(checkpoint, tmp_path) -> SampleSettings:
    rows = [{"prompt": f"question {i}", "task": "maths", "reference": {"answer": i}} for i in range(10)]
    rows.append(rows[0])
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return SampleSettings(
        out=tmp_path / "run",
        model=str(checkpoint),
        prompts=str(tmp_path / "prompts.jsonl"),
        store=str(tmp_path / "store.sqlite"),
        samples=3,
        max_new_tokens=6,
    )


def _sample(settings: SampleSettings) -> str:
    said = io.StringIO()
    run = Run.open(settings.out, "sample", settings, Console(file=said, width=200))
    try:
        sample.main(settings, WORLD, run)
    finally:
        run.close()
        run.release()
    return " ".join(said.getvalue().split())


def _rows(place: str, table: str, columns: str) -> list[tuple]:
    engine = create_engine(f"sqlite:///{place}")
    with engine.connect() as connection:
        return sorted(tuple(row) for row in connection.execute(text(f"SELECT {columns} FROM {table}")))


def _lines(settings: SampleSettings) -> list[dict]:
    return [json.loads(line) for line in (settings.out / "samples.jsonl").read_text().splitlines()]


def test_responses_are_in_the_store_with_where_they_came_from(settings, checkpoint):
    said = _sample(settings)
    with Store(settings.store) as store:
        counts = store.counts("main")
        assert (counts.prompts, counts.responses) == (10, 30), "the repeated prompt is answered once"
        run_id = json.loads((settings.out / "lineage.json").read_text())["generation_run"]
        assert len(store.sampled("main", run_id)) == 30
        assert store.build_pairs("main", per_prompt=3, overlap=1) > 0
    hashes = _rows(settings.store, "model_ref", "name, sha256")
    assert hashes == [(str(checkpoint / "model"), sha256_of(checkpoint / "model"))]
    lines = _lines(settings)
    assert len({(line["prompt_id"], line["sample_index"]) for line in lines}) == len(lines) == 30
    assert {line["task"] for line in lines} == {"maths"} and all(line["tokens"] <= 6 for line in lines)
    assert "tokens/s" in said and "without an end" in said


def test_a_stopped_run_goes_on_to_the_same_responses(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "GROUP", 4)
    _sample(settings)
    whole = _lines(settings)
    broken = settings.model_copy(update={"out": tmp_path / "again", "store": str(tmp_path / "again.sqlite")})
    add = Store.add_responses
    calls = []

    def dies(self, *args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return add(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add_responses", dies)
        with pytest.raises(KeyboardInterrupt):
            _sample(broken)
    assert len(_lines(broken)) == 24, "the second group is in the file and not in the store"
    with (broken.out / "samples.jsonl").open("a") as stream:
        stream.write('{"cut sh')
    prompts = Path(broken.prompts).read_text()
    Path(broken.prompts).write_text(prompts.splitlines()[0] + "\n")
    with pytest.raises(ValueError, match=r"\(prompts\) has changed since the run"):
        _sample(broken)
    Path(broken.prompts).write_text(prompts)
    said = _sample(broken)
    assert "12 of 30 responses were in the store already" in said
    key = lambda line: (line["prompt_id"], line["sample_index"])  # noqa: E731
    assert sorted(_lines(broken), key=key) == sorted(whole, key=key)


def test_prompts_without_room_for_a_response_are_refused(settings):
    with pytest.raises(ValueError, match=r"max_new_tokens=40 leaves no room .* context of 40"):
        _sample(settings.model_copy(update={"max_new_tokens": 40}))


def test_only_the_best_is_stored_with_what_chose_it(settings):
    """Against the same draws without choosing: the 12 candidates of a prompt in groups of 4, the longest text of each."""
    every = settings.model_copy(
        update={"samples": 12, "out": settings.out.with_name("all"), "store": settings.store + "2"}
    )
    _sample(every)
    drawn = {(row["prompt_id"], row["sample_index"]): row for row in _lines(every)}
    best = SampleSettings.model_validate(
        settings.model_dump()
        | {"best_of": 4, "reward": "python:tests.judges.kit:Longer", "missing_eos_score": None}
    )
    said = _sample(best)
    rows = _lines(best)
    assert len(rows) == 30
    for row in rows:
        group = [drawn[row["prompt_id"], 4 * row["sample_index"] + k] for k in range(4)]
        first = max(group, key=lambda candidate: len(candidate["response"]))  # max takes the first of equals
        assert (row["response"], row["score"]) == (first["response"], float(len(first["response"])))
    figures = read_metrics(best.out)[0]
    lengths = [len(row["response"]) for row in drawn.values()]
    gain = sum(row["score"] for row in rows) / 30 - sum(lengths) / len(lengths)
    assert figures["selection_gain"] == pytest.approx(gain) and gain > 0
    assert figures["tokens_per_answer"] == sum(row["tokens"] for row in drawn.values()) / 30
    assert figures["seconds_per_answer"] > 0
    assert "the best of 4" in said and "at most 0.64 nats" in said
    params = json.loads(_rows(best.store, "generation_run", "params")[0][0])
    assert params["best_of"] == 4 and params["reward"] == "python:tests.judges.kit:Longer"
    (plain,) = _rows(every.store, "generation_run", "params")
    assert "reward" not in json.loads(plain[0]), "plain sampling is the run that it always was"
    again = best.model_copy(update={"out": best.out.with_name("again")})
    assert "30 of 30 responses were in the store already" in _sample(again)


@pytest.mark.slow
def test_what_never_ends_is_chosen_last(settings):
    """The longest responses here are those that were cut."""
    given = settings.model_dump() | {"best_of": 6, "reward": "python:tests.judges.kit:Longer"}
    shares = {}
    for missing in (None, -1.0):
        named = {"missing_eos_score": missing, "out": settings.out.with_name(f"missing {missing}")}
        best = SampleSettings.model_validate(given | named)
        _sample(best)
        shares[missing] = read_metrics(best.out)[0]["missing_eos_rate"]
    assert shares[-1.0] < shares[None]


def test_choosing_needs_a_reward_and_several_to_choose_from():
    for wrong, sentence in (
        ({"best_of": 4}, r"best_of=4 needs somebody who says which is best: add reward="),
        ({"reward": "formula:flesch"}, r"best_of=1 draws one: set best_of=4"),
        ({"best_of": 4, "reward": "formula:flesch", "temperature": 0.0}, "nothing to choose from"),
        ({"best_of": 2, "reward": "formula:flsch"}, "formula"),
    ):
        with pytest.raises(ValueError, match=sentence):
            build(SampleSettings, {"prompts": "p.jsonl", **wrong})


# behind examples ------------------------------------------------------------------------------------------------------


EXAMPLES = [("one", "two"), ("three", "four"), ("five", "six"), ("question 3", "a town")]


def _shown(settings: SampleSettings, folder: Path, examples=EXAMPLES, **more) -> SampleSettings:
    """The same behind two of these examples."""
    path = folder / "demonstrations.jsonl"
    path.write_text("".join(json.dumps({"prompt": q, "response": a}) + "\n" for q, a in examples))
    given = settings.model_dump(exclude_unset=True) | {
        "model": f"few-shot-2:{settings.model}",
        "demonstrations": str(path),
        "out": str(folder / "shown"),
    }
    return build(SampleSettings, {**given, "prompts": str(settings.prompts), **more}, "settings")


def _params_of(settings: SampleSettings) -> dict[int, dict]:
    return {key: json.loads(said) for key, said in _rows(settings.store, "generation_run", "id, params")}


def test_behind_examples_the_model_answers_the_prompts_as_they_were_given(settings, checkpoint, tmp_path):
    """The responses are those of the same weights to the examples and the prompt, by hand; the store has the prompt."""
    shown = _shown(settings, tmp_path, temperature=0.0, samples=1, few_shot_form="text")
    _sample(shown)
    lines = {line["prompt"]: line for line in _lines(shown)}
    assert set(lines) == {f"question {i}" for i in range(10)}
    tokenizer = load_tokenizer(checkpoint / "model")
    plain = LocalGenerator(load_policy(checkpoint / "model"), tokenizer)
    drawn = rng(0, "few-shot examples").permutation(4)[:3]
    for asked, line in lines.items():
        before = [EXAMPLES[i] for i in drawn if EXAMPLES[i][0] != asked][:2]
        text = "\n\n".join([*(q + a for q, a in before), asked])
        (expected,) = plain.generate([Prompt(text)], Sampling(6, 0.0))
        assert line["response"] == expected.text.split("\n\n")[0]
    with Store(shown.store) as store:
        assert store.counts("main").prompts == 10
    assert _rows(shown.store, "model_ref", "name, sha256") == [
        (f"few-shot-2:{checkpoint / 'model'}", sha256_of(checkpoint / "model"))
    ]


def test_other_examples_are_another_generation_run(settings, tmp_path):
    """So is none at all; the same examples again are the same run, and nothing is drawn."""
    _sample(settings)
    shown = _shown(settings, tmp_path)
    _sample(shown)
    (plain, behind) = sorted(_params_of(settings).values(), key=len)
    assert "few_shot" not in plain
    said = behind.pop("few_shot")
    assert behind == plain and (said["examples"], said["form"], len(said["sha256"])) == (2, "template", 64)
    again = _sample(_shown(settings, tmp_path, out=str(tmp_path / "again")))
    assert "30 of 30 responses were in the store already" in again and len(_params_of(settings)) == 2
    with pytest.raises(ValueError, match=r"\(demonstrations\) has changed since the run"):
        _sample(_shown(settings, tmp_path, EXAMPLES[::-1]))
    _sample(_shown(settings, tmp_path, [*EXAMPLES[:3], ("seven", "eight")], out=str(tmp_path / "other")))
    hashes = {one["few_shot"]["sha256"] for one in _params_of(settings).values() if "few_shot" in one}
    assert len(hashes) == 2 and len(_rows(settings.store, "response", "id")) == 90


def test_prompts_that_do_not_fit_behind_the_examples_are_left_out(settings, tmp_path):
    long = [(f"question {n}", "a town by the sea") for n in (20, 21, 22)]
    with pytest.raises(ValueError, match=r"dropped|leaves of the context"):
        _sample(_shown(settings, tmp_path, long, max_new_tokens=20))
    kept = json.loads((tmp_path / "shown" / "preflight.json").read_text())
    assert "longer than the 20 tokens" in json.dumps(kept)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"model": "few-shot-4:runs/pretrain"}, "is shown examples, and there is nothing to take them from"),
        ({"demonstrations": "d.jsonl"}, "none is: write few-shot-4: before the model, or leave them out"),
        ({"model": "few-shot-0:runs/x"}, "'few-shot-0:' is no way to ask a model"),
        ({"model": "untrained:runs/x"}, "has fresh weights, and what it says is not worth storing"),
        ({"few_shot_form": "text"}, "few_shot_form is for a model that is shown examples"),
    ],
)
def test_what_makes_no_sense_behind_examples_is_refused(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(SampleSettings, {"prompts": "p.jsonl", **values}, "settings")


def test_too_few_examples_and_a_template_that_is_not_there(settings, tmp_path):
    with pytest.raises(ValueError, match=r"has 2 examples that can be shown .* few-shot-2 takes 3"):
        _sample(_shown(settings, tmp_path, EXAMPLES[:2]))
