"""`eval` with the best of n beside the models, and with judges that are mixed: against a search by hand over plain samples."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from tutelage.evals import drift, entrants
from tutelage.evals.answering import Answering
from tutelage.evals.samples import stratified
from tutelage.files import write_jsonl_atomic
from tutelage.judges.judge import Judge
from tutelage.launch import launch
from tutelage.models.loading import load_policy, load_tokenizer, save
from tutelage.models.tiny import tiny_model, train_tokenizer
from tutelage.ops.best_of_n import kl_bound, kl_estimate
from tutelage.parallel import World
from tutelage.records import Prompt, Response
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.settings.base import load
from tutelage.settings.evals import EvalSettings

NEW = 6
FUNCTIONS = """
def tokens(completion_ids, **columns):
    return [float(sum(ids) % 5) for ids in completion_ids]


def broken(completions, **columns):
    return [float("nan")] * len(completions)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models with one tokenizer, eight prompts, and judges as functions on the Python path."""
    root = tmp_path_factory.mktemp("best")
    tokenizer = train_tokenizer(["the cat sat on the mat.", "a dog ran to the cat."] * 5, vocab_size=280)
    for seed, name in enumerate(("sft", "ppo")):
        made = tiny_model(tokenizer, hidden=32, layers=2, heads=2, context=64, seed=seed)
        with torch.no_grad():
            made.host.get_output_embeddings().weight.mul_(6.0)
        save(made, tokenizer, root / name)
    write_jsonl_atomic(root / "prompts.jsonl", [{"prompt": f"the cat {i}"} for i in range(8)])
    (root / "eval_judges.py").write_text(FUNCTIONS)
    return root


@pytest.fixture(autouse=True)
def _on_the_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop("eval_judges", None)


def settings(folder: Path, out: str, **more: Any) -> EvalSettings:
    given: dict[str, Any] = {
        "models": [f"{folder}/sft", f"{folder}/ppo"],
        "prompts": str(folder / "prompts.jsonl"),
        "judge": "formula:repetition",
        "max_new_tokens": NEW,
        "diversity_samples": 4,
        "diversity_prompts": 3,
        "missing_eos_score": None,
        "resamples": 100,
        "precision": "fp32",
        "out": folder / out,
    }
    return EvalSettings(**{**given, **more})


def evaluated(folder: Path, out: str, **more: Any) -> tuple[dict[tuple[str, str], Any], list[Any], str]:
    """({(model, metric): row}, lines of samples.jsonl, what was printed)."""
    console = Console(width=80, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    launch("eval", settings(folder, out, **more), console)
    rows = json.loads((folder / out / "results.json").read_text())
    lines = [json.loads(line) for line in (folder / out / "samples.jsonl").read_text().splitlines()]
    found = {(row["model"], row["metric"]): row for row in rows if row["task"] == "all"}
    return found, lines, console.export_text()


def worth(response: Response) -> float:
    return float(sum(response.ids) % 5)


def plain(folder: Path, name: str, prompts: list[Prompt], samples: int) -> list[list[Response]]:
    """Per prompt, what the model draws without any choice."""
    model = load_policy(str(folder / name))
    generator = LocalGenerator(model, load_tokenizer(str(folder / name)))
    found = generator.generate(prompts, Sampling(NEW, samples=samples, seed=0))
    return [found[at : at + samples] for at in range(0, len(found), samples)]


@pytest.mark.slow
def test_the_best_of_n_stands_beside_the_models(folder: Path) -> None:
    """Answers, KL and cost of the best of 3 of a model that is not the reference, all found again by hand."""
    n = 3
    rows, lines, printed = evaluated(
        folder, "both", best_of=n, reward="python:eval_judges:tokens", best_of_models=["sft", "ppo"]
    )
    prompts = [Prompt.from_json(line["prompt"]) for line in lines]
    drawn = plain(folder, "ppo", prompts, n)
    tops = [max(group, key=worth) for group in drawn]  # max takes the first of equals
    assert [line["responses"]["ppo-best-of-3"]["text"] for line in lines] == [top.text for top in tops]
    assert list(lines[0]["responses"]) == ["sft", "sft-best-of-3", "ppo", "ppo-best-of-3"]

    name = "ppo-best-of-3"
    tokens = sum(len(response.ids) for group in drawn for response in group)
    assert rows[name, "tokens_per_answer"]["value"] == pytest.approx(tokens / len(prompts))
    assert rows["ppo", "tokens_per_answer"]["value"] == rows["ppo", "length"]["value"]
    assert rows[name, "seconds_per_answer"]["value"] > 0
    assert rows[name, "kl_bound"]["value"] == pytest.approx(kl_bound(n)) and ("ppo", "kl_bound") not in rows
    assert {(name, "win_rate"), (name, "length_change"), (name, "unique_share")} <= rows.keys()
    assert (name, "entropy") not in rows and ("ppo", "entropy") in rows

    few = [prompts[i] for i in stratified([""] * len(prompts), 3, 0)]
    world = World(torch.device("cpu"))
    models = [load_policy(str(folder / each)) for each in ("ppo", "sft")]
    each = []
    for group in plain(folder, "ppo", few, 4 * n):
        chosen = [max(group[at : at + n], key=worth) for at in range(0, 4 * n, n)]
        choice = kl_estimate(torch.tensor([worth(response) for response in group]), n)
        each.append(choice + np.mean(drift.log_ratios(*models, chosen, world)))
        assert 0 < choice < kl_bound(n)
    assert rows[name, "kl"]["value"] == pytest.approx(np.mean(each), rel=1e-5)
    assert 0 < rows["sft-best-of-3", "kl"]["value"] < kl_bound(n)  # of the reference itself: the choice alone
    assert "Bound of the KL" in printed and "Seconds per answer" in printed
    assert all(len(line) <= 80 for line in printed.splitlines())


def test_where_the_judge_knows_no_difference_nothing_is_chosen(folder: Path) -> None:
    """The best by a judge for whom all are equal is the first sample, no further from the model than it is itself."""
    same = [{"judge": "formula:regex", "pattern": "never"}]
    rows, lines, _ = evaluated(folder, "same", best_of=[2, 4], reward=same, judge="formula:repetition")
    assert rows["sft-best-of-2", "kl"]["value"] == rows["sft-best-of-4", "kl"]["value"] == 0
    prompts = [Prompt.from_json(line["prompt"]) for line in lines]
    firsts = [group[0].text for group in plain(folder, "sft", prompts, 4)]
    for name in ("sft", "sft-best-of-2", "sft-best-of-4"):
        assert [line["responses"][name]["text"] for line in lines] == firsts
    assert rows["sft-best-of-4", "win_rate"]["value"] == 0.5
    assert not any(model.startswith("ppo-best") for model, _ in rows)


def test_a_mix_judges_and_each_of_its_parts_is_shown(folder: Path) -> None:
    mix = [
        {"judge": "python:eval_judges:tokens", "weight": 2, "name": "sums"},
        {"judge": "formula:regex", "pattern": "a", "weight": 0.5},
        {"judge": "python:eval_judges:tokens", "normalise": "zscore", "weight": 0, "name": "watched"},
    ]
    rows, lines, printed = evaluated(folder, "mix", judge=mix)
    for name in ("sft", "ppo"):
        answers = [line["responses"][name] for line in lines]
        for answer in answers:
            parts = answer["parts"]
            assert answer["score"] == pytest.approx(2 * parts["sums"] + 0.5 * parts["formula:regex"])
            assert parts["formula:regex"] == float("a" in answer["text"])
        assert rows[name, "score/sums"]["value"] == pytest.approx(
            np.mean([a["parts"]["sums"] for a in answers])
        )
    assert "  sums" in printed and "  formula:regex" in printed
    assert ("ppo", "win_rate") in rows and ("ppo", "gold") not in rows
    assert json.loads((folder / "mix" / "lineage.json").read_text())["judge"] == "mix"


class Curious(Judge):
    """Keeps what its units are measured on."""

    name = "curious"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def calibrate(self, sample: Callable[[], Sequence[Response]]) -> str | None:
        self.seen += [response.prompt.task for response in sample()]
        return None


def test_units_are_measured_on_every_task_although_one_stands_behind_many_prompts_of_another() -> None:
    answering = object.__new__(Answering)
    answering._judge = Curious()
    tasks = [*["a"] * 300, *["b"] * 3]
    answering._measure_units([Response.written(Prompt("q", task), "x") for task in tasks])
    assert answering._judge.seen == [*["a"] * 128, *["b"] * 3]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["best_of=4"], "best_of=4 needs somebody who says which is best: add reward=runs/reward"),
        (["reward=world"], "reward is for the best of several, and best_of=1 draws one: set best_of=4"),
        (["best_of=[2,2]", "reward=world"], "has a number twice: keep one"),
        (["best_of=0", "reward=world"], "the best of 0 responses is none: give 2 or more"),
        (
            ["best_of=4", "reward=world", "temperature=0"],
            "there is nothing to choose from: set temperature=1",
        ),
        (["judge=[{judge: world, normalise: rank}]"], "setting 'judge'.*normalise: rank compares"),
        (["judge=[{judge: world, weihgt: 2}]"], "part 1 .*unknown option 'weihgt': did you mean 'weight'"),
        (["judge=[]"], "nothing is rewarded"),
    ],
)
def test_settings_that_make_no_sense(more: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        load(EvalSettings, ["models=a", "prompts=b", *more])


def test_names_of_what_is_chosen() -> None:
    chosen = load(EvalSettings, ["models=a,b", "prompts=p", "best_of=[4,16]", "reward=world", "baseline=b"])
    found = entrants.entrants(chosen, ["a", "b"])
    assert [entrant.name for group in found.values() for entrant in group] == [
        "b",
        "b-best-of-4",
        "b-best-of-16",
        "a",
    ]
    taken = load(EvalSettings, ["models=a,a-best-of-4=b", "prompts=p", "best_of=4", "reward=world"])
    with pytest.raises(ValueError, match="a-best-of-4 is what best_of calls its responses; give that model"):
        entrants.entrants(taken, ["a", "a-best-of-4"])
    nobody = chosen.model_copy(update={"best_of_models": ["c"]})
    with pytest.raises(ValueError, match=r"best_of_models names c, which is not among the models \(a, b\)"):
        entrants.entrants(nobody, ["a", "b"])


def test_a_timeout_may_change_and_a_weight_may_not(tmp_path: Path) -> None:
    def chosen(**options: float) -> EvalSettings:
        return settings(tmp_path, "out", judge=[{"judge": "http://localhost:9/score", **options}])

    before = chosen(timeout=5.0).model_dump(mode="json")
    assert chosen(timeout=9.0).refuses("judge", before, None) is None  # type: ignore[arg-type]
    assert chosen(weight=2.0).refuses("judge", before, None) == ""  # type: ignore[arg-type]


def test_what_is_no_number_is_no_score(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"broken returned nan, not a finite number .* begins 'the cat"):
        evaluated(folder, "nan", judge="python:eval_judges:broken")
