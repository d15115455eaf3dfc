"""A process model on real text: GSM8K's human solutions with planted errors, and then what real models wrote.

    python -m studies.gsm8k train=gsm8k_train.jsonl.gz solutions=gsm8k_model_solutions.jsonl.gz model=runs/real/pretrain

Both files are OpenAI's (github.com/openai/grade-school-math).  A process model and an outcome verifier learn from sound and
planted solutions (studies/planting.py); a second outcome verifier from real solutions of the other half of the problems.
Reported are first errors found on held-out problems by kind; and of the real solutions, by whether the answer is right: AUC,
order within a problem, and the best of each problem's, beside sums that hold, lengths, agreement and the models' names.
The last `heldout` problems of `train` are never learnt from; pretrain on the others (`out`/text.jsonl), or leave `model` empty.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from studies.base import done
from studies.choosing import Floats, compared
from studies.planting import KINDS, Worked, planted, sound
from tutelage.data.reading.rows import BadRow
from tutelage.data.reading.sources import read_rows
from tutelage.files import write_jsonl_atomic
from tutelage.judges.build import build_judge
from tutelage.parallel import World
from tutelage.records import Prompt, Response, StepMarks
from tutelage.refine.sums import checked_sums
from tutelage.seeds import rng
from tutelage.settings.base import Settings, load, setting
from tutelage.settings.evals import StepsSettings
from tutelage.settings.reward import ProcessSettings
from tutelage.settings.train import PretrainSettings

FEW = 2  # halves of the problems of real solutions


class StudySettings(Settings):
    """Process and outcome models on GSM8K, and on real solutions."""

    train: str = setting(..., "GSM8K's problems with human solutions.")
    solutions: str = setting(..., "Its problems with several models' solutions.")
    out: Path = setting(Path("runs/study-gsm8k"), "Folder for everything.")
    model: str = setting("", "Where training starts; empty pretrains a tiny model.")
    heldout: int = setting(750, "Problems that are not learnt from, the last ones.", unit="prompts")
    problems: int = setting(3000, "Problems that are learnt from, from the first.", unit="prompts")
    learning_rate: float = setting(1e-3, "Of what is trained from the model.")
    epochs: float = setting(1.0, "Passes over the solutions.", unit="epochs")
    max_length: int = setting(512, "Longest sequence.", unit="tokens")
    resamples: int = setting(1000, "Bootstrap resamples behind each interval.")
    seed: int = setting(0, "Seed of everything random.")


class Written(NamedTuple):
    """A real solution: who wrote it, its text, whether its answer is right."""

    model: str
    text: str
    right: bool

    @property
    def answer(self) -> str:
        return self.text.rsplit("\n", 1)[-1]


Problem = tuple[str, list[Written]]


def main(settings: StudySettings) -> None:
    """Run what is missing, print the rows and write them."""
    settings.out.mkdir(parents=True, exist_ok=True)
    problems = real_solutions(settings.solutions)
    files = planted_files(settings)
    start = settings.model or str(pretrained(settings))
    steps = trained(settings, start, "process", files["learn"], "steps")
    whole = trained(settings, start, "outcome-planted", files["learn"], "outcome-tokens")
    rows = []
    for kind in (*KINDS, "all"):
        run = done(
            "eval steps",
            StepsSettings(
                model=str(steps), data=files[kind], out=settings.out / f"steps-{kind}".replace(" ", "-")
            ),
        )
        rows += [{"kind": kind} | row for row in [*_results(run), without_threshold(run)]]
    scores = {
        "outcome, planted": scored(whole, problems)["value"],
        "outcome, real": crossed(settings, start, problems),
        **{f"process, {name}": own for name, own in scored(steps, problems).items() if name != "value"},
        **without_model(problems),
    }
    right = np.array([[one.right for one in own] for _, own in problems], float)
    rows += compared(scores, right, "process, product", settings.seed, settings.resamples)
    for row in rows:
        print(row)
    write_jsonl_atomic(settings.out / "rows.jsonl", rows)


# ---- data --------------------------------------------------------------------------------------------------------------


def real_solutions(source: str) -> list[Problem]:
    """Each problem with its models' solutions, which end with `#### answer` here, as human ones do; 25.0 is 25."""
    found = []
    for columns in _rows(source):
        own = [
            Written(name, as_human(one["solution"]), bool(one["is_correct"]))
            for name, one in columns.items()
            if isinstance(one, dict) and "is_correct" in one
        ]
        if not own or "question" not in columns:
            raise ValueError(
                f"solutions={source} has a row without a question or models' solutions: give GSM8K's example solutions."
            )
        found.append((str(columns["question"]), own))
    return found


def _rows(source: str) -> list[dict[str, Any]]:
    found = []
    for row in read_rows(source):
        if isinstance(row, BadRow):
            raise ValueError(f"{row.place} is a row {row.why}: mend or remove it.")
        found.append(dict(row.columns))
    return found


def as_human(text: str) -> str:
    """A model's solution in the form of the human ones."""
    *steps, last = [line.strip() for line in text.strip().splitlines()]
    lines = "\n".join([*steps, f"#### {last.removeprefix('A:').strip()}"])
    return re.sub(r"(?<=\d)\.0(?!\d)", "", lines)


def planted_files(settings: StudySettings) -> dict[str, str]:
    """Name -> file: what is learnt (each problem sound and with one error), what is held out (by kind, and all), and the text."""
    rows = _rows(settings.train)
    taught, kept = rows[: -settings.heldout], rows[-settings.heldout :]
    parts: dict[str, list[StepMarks]] = {"learn": [], **{kind: [] for kind in KINDS}, "all": []}
    for number, row in enumerate(taught[: settings.problems]):
        turn = number % len(
            KINDS
        )  # the kinds in turn; another one where an error of the first cannot be planted
        parts["learn"] += [one for _, one in _pair(row, KINDS[turn:] + KINDS[:turn], settings.seed)[:2]]
    for row in kept:
        for kind, one in _pair(row, KINDS, settings.seed):
            parts["all"].append(one)
            for name in KINDS if kind == "sound" else (kind,):
                parts[name].append(one)
    files = {}
    for name, records in parts.items():
        files[name] = str(settings.out / f"{name.replace(' ', '-')}.jsonl")
        write_jsonl_atomic(Path(files[name]), (one.to_json() for one in records))
        print(f"{name}: {len(records)} solutions")
    write_jsonl_atomic(settings.out / "text.jsonl", taught)
    return files


def _pair(row: dict[str, Any], kinds: Sequence[Any], seed: int) -> list[tuple[str, StepMarks]]:
    """The sound solution and those with an error; nothing where none can be planted."""
    question, worked = str(row["question"]), sound(str(row["answer"]))
    if worked is None:
        return []
    found = [(kind, planted(question, worked, kind, rng(seed, "planted", kind, question))) for kind in kinds]
    errors = [(kind, marked(question, one)) for kind, one in found if one is not None]
    return [("sound", marked(question, worked)), *errors] if errors else []


def marked(question: str, worked: Worked) -> StepMarks:
    """As `process` reads it: steps up to the first wrong one are marked."""
    count, wrong = len(worked.steps), worked.wrong
    labels = [1.0] * count if wrong is None else [1.0] * wrong + [-1.0] + [None] * (count - wrong - 1)
    return StepMarks(Prompt(question), worked.steps, tuple(labels), outcome=wrong is None)


# ---- models ------------------------------------------------------------------------------------------------------------


def pretrained(settings: StudySettings) -> Path:
    """A tiny language model of the text that is learnt from."""
    return done(
        "pretrain",
        PretrainSettings(
            data=str(settings.out / "text.jsonl"),
            out=settings.out / "pretrain",
            vocab_size=2048,
            max_steps=1500,
            tensorboard=False,
        ),
    )


def trained(settings: StudySettings, start: str, name: str, data: str, marks: Any) -> Path:
    """The run folder of what learns from a file."""
    return done(
        "process",
        ProcessSettings(
            model=start,
            data=data,
            out=settings.out / name,
            marks=marks,
            learning_rate=settings.learning_rate,
            epochs=settings.epochs,
            batch_size=16,
            max_length=settings.max_length,
            heldout_share=0.05,
            seed=settings.seed,
            tensorboard=False,
        ),
    )


def crossed(settings: StudySettings, start: str, problems: Sequence[Problem]) -> Floats:
    """Scores of outcome verifiers that learnt from real solutions of the other problems."""
    found = np.zeros((len(problems), len(problems[0][1])))
    for half in range(FEW):
        path = settings.out / f"real-{half}.jsonl"
        others = [one for number, one in enumerate(problems) if number % FEW != half]
        write_jsonl_atomic(path, (_labelled(*one).to_json() for own in others for one in _each(own)))
        run = trained(settings, start, f"outcome-real-{half}", str(path), "outcome-tokens")
        found[half::FEW] = scored(run, problems[half::FEW])["value"]
    return found


def _each(problem: Problem) -> list[tuple[str, Written]]:
    return [(problem[0], one) for one in problem[1]]


def _labelled(question: str, one: Written) -> StepMarks:
    steps = tuple(line for line in one.text.splitlines() if line.strip())
    return StepMarks(Prompt(question), steps, (None,) * len(steps), outcome=one.right)


def scored(model: Path, problems: Sequence[Problem]) -> dict[str, Floats]:
    """What a model says of each solution [problems, solutions], in every way to combine its steps."""
    judge = build_judge(str(model), World(torch.device("cpu"), torch.float32), None)
    responses = [
        Response.written(Prompt(question), one.text, "eos") for question, own in problems for one in own
    ]
    scores = [score for score in judge.score(responses) if score is not None]
    assert len(scores) == len(responses)
    found = {"value": [score.value for score in scores]}
    for name in ("product", "minimum", "mean", "last"):
        if name in scores[0].parts:
            found[name] = [score.parts[name] for score in scores]
    return {name: np.array(own).reshape(len(problems), -1) for name, own in found.items()}


def without_model(problems: Sequence[Problem]) -> dict[str, Floats]:
    """What can be said without one."""
    names = sorted({one.model for _, own in problems for one in own})

    def of(score: Any) -> Floats:
        return np.array([[float(score(one, own)) for one in own] for _, own in problems])

    return {
        "sums hold": of(
            lambda one, own: all(checked_sums(step).label != -1 for step in one.text.split("\n"))
        ),
        "shorter": of(lambda one, own: -len(one.text)),
        "fewer steps": of(lambda one, own: -one.text.count("\n")),
        "agreement": of(lambda one, own: sum(one.answer == other.answer for other in own)),
        **{f"always {name}": of(lambda one, own, name=name: one.model == name) for name in names},
    }


def without_threshold(run: Path) -> dict[str, Any]:
    """Of solutions with an error: how often its step is the least probable one (and how often a step drawn at random is it);
    and how often its sound twin has the higher product, equal ones half."""
    lines = [json.loads(line) for line in (run / "scores.jsonl").read_text(encoding="utf-8").splitlines()]
    hits, chance, above, twin = [], [], [], 0.0
    for line in lines:  # the sound solution stands before those with errors planted in it
        right = np.array(line["right"])
        if line["label"] < 0:
            twin = float(right.prod())
            continue
        hits.append(float(np.argmin(right) == line["label"]))
        chance.append(1 / len(right))
        product = float(right.prod())
        above.append((twin > product) + 0.5 * (twin == product))
    shares = {"least probable": hits, "at random": chance, "twin above": above}
    return {"n": len(hits)} | {name: round(float(np.mean(own)), 3) for name, own in shares.items()}


def _results(run: Path) -> list[dict[str, Any]]:
    rows = json.loads((run / "results.json").read_text(encoding="utf-8"))
    wanted = ("first_error_accuracy", "sound_accuracy", "first_error_f1")
    return [row for row in rows if row["metric"] in wanted]


if __name__ == "__main__":
    main(load(StudySettings, sys.argv[1:]))
