"""Iterative Refinement with Explanations beside what the same minutes could buy: answers chosen, and solutions written.

    python -m studies.refine out=runs/study-refine

For each seed a world of problems with traps, a model that fell for them, and the same minutes of an expert spent in
different ways: marking and rewriting steps (refine, then SFT on what was accepted, or DPO on the corrected steps), looking
at answers alone (rejection sampling), or writing whole solutions.  All arms begin with the same SFT model and learn for as
many steps.  Reported are right answers and sound solutions (every line right) on held-out problems, greedy and at
temperature 1, pooled over seeds and paired by problem; and how dear the work may become before the verdict turns.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from studies.base import done
from tutelage.data.reading.formats import read_prompts
from tutelage.feedback.refining.lessons import Correction, corrections_of
from tutelage.files import write_json_atomic, write_jsonl_atomic
from tutelage.models.loading import load_policy, load_tokenizer
from tutelage.records import Prompt, Refinement
from tutelage.resume import read_metrics
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.runs import result_folder
from tutelage.seeds import rng
from tutelage.settings.base import Settings, load, setting
from tutelage.settings.preference import DPOSettings
from tutelage.settings.refine import Minutes, RefineSettings
from tutelage.settings.rollout import SelectSettings
from tutelage.settings.train import PretrainSettings, SFTSettings
from tutelage.settings.worlds import WorldSettings
from tutelage.worlds.gold import grade
from tutelage.worlds.world import TASKS

NEW_TOKENS = 96
PRICES = Minutes()
CPU: dict[str, Any] = {"device": "cpu", "precision": "fp32"}
LEARN: dict[str, Any] = {**CPU, "tensorboard": False, "save_every": 5000, "eval_every": 5000}
# Of the minutes, to see where a verdict would turn: were refining dearer, looking cheaper, writing dearer or cheaper by so much.
REFINED, CHOSEN, WRITTEN = (0.25, 0.5, 1.0), (1.0, 2.0, 4.0), (0.5, 1.0, 2.0)


class StudySettings(Settings):
    """Refinement against rejection sampling and written solutions at equal minutes."""

    out: Path = setting(Path("runs/study-refine"), "Folder for everything.")
    minutes: float = setting(600.0, "Minutes of the expert.", unit="minutes")
    seeds: int = setting(3, "Worlds, each with models of its own.", unit="runs")
    steps: int = setting(150, "Steps of six rows that every arm learns for.", unit="steps")
    heldout: int = setting(500, "Problems to measure with.", unit="prompts")


def main(settings: StudySettings) -> None:
    """Run what is missing, print the rows and write them."""
    rows: list[dict[str, Any]] = []
    for seed in range(settings.seeds):
        study = Study(settings, settings.out / f"seed-{seed}", seed)
        for name, run in study.arms():
            for temperature in (0.0, 1.0):
                rows += study.measured(name, run, temperature)
            print(
                seed,
                name,
                figures([row for row in rows if row["seed"] == seed and row["arm"] == name]),
                flush=True,
            )
        write_jsonl_atomic(settings.out / "rows.jsonl", rows)
        print(seed, study.ways_on(), flush=True)
    write_json_atomic(settings.out / "table.json", table(rows))
    for line in table(rows):
        print(line)


class Study:
    """One seed."""

    def __init__(self, settings: StudySettings, out: Path, seed: int) -> None:
        self.settings, self.out, self.seed = settings, out, seed
        self.world = done(
            "world",
            WorldSettings(
                out=out / "world",
                tasks=["options"],
                documents=13_000,
                demonstrations=1_200,
                prompts=4_000,
                heldout_prompts=settings.heldout,
                seed=seed,
            ),
        )
        self.store = str(out / "store.sqlite")
        self.start = self._start()

    def _start(self) -> Path:
        """A model that reads and compares, and has learnt from people who fall for the traps."""
        common: dict[str, Any] = {**LEARN, "max_length": 256, "batch_size": 3, "learning_rate": 2e-3}
        common |= {"weight_decay": 0.01, "seed": self.seed}
        drills = PretrainSettings(
            data=str(self.world / "drills.jsonl"),
            out=self.out / "drills",
            max_steps=800,
            schedule="constant",
            **common,
        )
        model = str(done("pretrain", drills))
        mixed = PretrainSettings(
            model=model,
            data=str(self.world / "pretrain.jsonl"),
            out=self.out / "pretrain",
            max_steps=2000,
            schedule="cosine",
            **common,
        )
        model = str(done("pretrain", mixed))
        return self._sft("sft", str(self.world / "demonstrations.jsonl"), model, 5e-4, 300)

    def _sft(
        self, name: str, data: str, start: str = "", rate: float = 3e-4, steps: int = 0, **more: Any
    ) -> Path:
        settings = SFTSettings(
            model=start or str(self.start),
            data=data,
            out=self.out / name,
            learning_rate=rate,
            batch_size=6,
            max_steps=steps or self.settings.steps,
            heldout_share=0.0,
            seed=self.seed,
            store=self.store,
            **LEARN,
            **more,
        )
        return done("sft", settings)

    def arms(self) -> Iterator[tuple[str, Path]]:
        """Name and run folder of every arm, the start first."""
        minutes = self.settings.minutes
        yield "start", self.start
        yield "more of the same", self._sft("more", str(self.world / "demonstrations.jsonl"))
        for share in REFINED:
            yield (
                f"refined {share:g}",
                self._sft(f"refined-{share:g}", f"store:{self._refined(share * minutes)}"),
            )
        for share in CHOSEN:
            yield f"chosen {share:g}", self._sft(f"chosen-{share:g}", self._chosen(share * minutes))
        for share in WRITTEN:
            yield f"written {share:g}", self._sft(f"written-{share:g}", self._written(share * minutes))
        project = self._refined(minutes)
        yield "steps", self._dpo("steps", f"store:{project}")
        yield "steps, other places", self._dpo("shuffled", self._shuffled(project))
        yield "steps, other solutions", self._dpo("dealt", self._dealt(project))
        some = self._refined(minutes / 2, "some", prompts=self._some())
        yield "refined, some traps", self._sft("refined-some", f"store:{some}")
        again = self._refined(minutes, "again", str(self.out / "refined-1"))
        yield "refined twice", self._sft("refined-twice", f"store:{again}", str(self.out / "refined-1"))

    def _some(self) -> str:
        """The problems that have a trap of reasoning, and none of misreading."""
        found = [
            one
            for one in self._prompts("prompts_train.jsonl")
            if {"each", "times"} & set(_traps(one)) and not {"turned", "more"} & set(_traps(one))
        ]
        path = self.out / "prompts_some.jsonl"
        rows = [{"prompt": one.content_json(), "task": one.task, "reference": one.reference} for one in found]
        write_jsonl_atomic(path, rows)
        return str(path)

    def _refined(self, minutes: float, name: str = "refined", model: str = "", prompts: str = "") -> str:
        """The project of refinements that take so many minutes."""
        project = f"{name}-{minutes:g}"
        settings = RefineSettings(
            model=model or str(self.start),
            prompts=prompts or str(self.world / "prompts_train.jsonl"),
            marks="world",
            max_minutes=minutes,
            max_new_tokens=NEW_TOKENS,
            store=self.store,
            project=project,
            out=self.out / f"refine-{project}",
            seed=self.seed,
            **CPU,
        )
        run = done("refine", settings)
        print(self.seed, project, read_metrics(run)[0], flush=True)
        return project

    def _chosen(self, minutes: float) -> str:
        """Right answers among four samples a problem, as many as can be looked at."""
        settings = SelectSettings(
            model=str(self.start),
            prompts=str(self.world / "prompts_train.jsonl"),
            reward="verify:choice",
            samples=4,
            keep=0,
            threshold=0.5,
            max_prompts=int(minutes / PRICES.look) // 4,
            max_new_tokens=NEW_TOKENS,
            out=self.out / f"select-{minutes:g}",
            seed=self.seed,
            **CPU,
        )
        return str(done("select", settings) / "demonstrations.jsonl")

    def _written(self, minutes: float) -> str:
        """Whole solutions, written by the expert."""
        count = int(minutes / PRICES.solution)
        found = list(self._prompts("prompts_train.jsonl"))[:count]
        texts = [
            TASKS["options"].write(dict(prompt.reference or {}), rng(self.seed, "written", number))
            for number, prompt in enumerate(found)
        ]
        path = self.out / f"written-{minutes:g}.jsonl"
        write_jsonl_atomic(
            path,
            [
                {"prompt": prompt.content_json(), "completion": [{"role": "assistant", "content": text}]}
                for prompt, text in zip(found, texts, strict=True)
            ],
        )
        return str(path)

    def _dpo(self, name: str, data: str) -> Path:
        """Step-DPO: a low rate and few steps, for sums of log-probabilities move fast."""
        settings = DPOSettings(
            model=str(self.start),
            data=data,
            store=self.store,
            out=self.out / name,
            shared_prefix="mask",
            beta=0.3,
            learning_rate=5e-5,
            batch_size=6,
            max_steps=60,
            heldout_share=0.0,
            seed=self.seed,
            **LEARN,
        )
        return done("dpo", settings)

    def _dealt(self, project: str) -> str:
        """The same corrections behind the beginnings of other solutions: what is better than what, but not where."""
        found = self._corrections(project)
        order = _derangement(len(found), self.seed)
        texts = [(one.after.steps[one.step].text, one.before.steps[one.step].text) for _, one in found]
        pairs = [
            (prompt, _before(one, one.step), *texts[other])
            for (prompt, one), other in zip(found, order, strict=True)
        ]
        return self._pairs("dealt.jsonl", pairs)

    def _shuffled(self, project: str) -> str:
        """The same corrections, each put in the place of another step of its solution: as by somebody who knows that something
        is wrong, and not where."""
        pairs = []
        for number, (prompt, one) in enumerate(self._corrections(project)):
            places = [place for place in range(len(one.before.steps)) if place != one.step]
            place = places[int(rng(self.seed, "shuffled", number).integers(len(places)))]
            better, there = one.after.steps[one.step].text, one.before.steps[place].text
            pairs.append((prompt, _before(one, place), better, there))
        return self._pairs("shuffled.jsonl", pairs)

    def _corrections(self, project: str) -> list[tuple[Prompt, Correction]]:
        lines = (self.out / f"refine-{project}" / "refinements.jsonl").read_text(encoding="utf-8")
        records = [Refinement.from_json(json.loads(line)) for line in lines.splitlines()]
        return [(record.prompt, one) for record in records for one in corrections_of(record)]

    def _pairs(self, name: str, pairs: Sequence[tuple[Prompt, str, str, str]]) -> str:
        """A file of (prompt, steps before, better step, worse step)."""
        rows = [
            {
                "prompt": prompt.content_json(),
                "chosen": [{"role": "assistant", "content": kept + better}],
                "rejected": [{"role": "assistant", "content": kept + worse}],
                "chosen_finish": "length",
                "rejected_finish": "length",
            }
            for prompt, kept, better, worse in pairs
        ]
        write_jsonl_atomic(self.out / name, rows)
        return str(self.out / name)

    def ways_on(self) -> dict[str, float]:
        """Of the problems that the model failed at first, at temperature 1: how often each way on was sound at once, and starting
        again on the same problems; by the closed form of one hazard (`_form`), where there is one."""
        found: dict[str, float] = {}
        refiner = self._sft("refiner", f"store:{self._refined(self.settings.minutes)}", refined="corrections")
        ways: dict[str, dict[str, Any]] = {
            "rewritten": {},
            "explained": {"use_rewrites": False},
            "refiner": {"use_rewrites": False, "refiner": str(refiner)},
            "regenerated": {"use_rewrites": False, "fallback": "regenerated"},
        }
        for name, more in ways.items():
            run = self._once(name, more)
            way = "explained" if name == "refiner" else name
            figures = read_metrics(run)[0]
            found |= {name: figures[f"sound_after/{way}"], f"{name}_form": figures[f"sound_after/{way}_form"]}
        return found | {"from scratch": self._from_scratch(self.out / "once-rewritten")}

    def _once(self, name: str, more: dict[str, Any]) -> Path:
        """One correction of each of 400 solutions of problems that no arm has learnt from."""
        settings = RefineSettings(
            model=str(self.start),
            prompts=str(self.world / "prompts_heldout.jsonl"),
            max_prompts=400,
            marks="world",
            rounds=1,
            checks=0,
            max_new_tokens=NEW_TOKENS,
            store=str(self.out / "once.sqlite"),
            project=name,
            out=self.out / f"once-{name}",
            seed=self.seed,
            **CPU,
            **more,
        )
        return done("refine", settings)

    def _from_scratch(self, run: Path) -> float:
        """How often the model is sound, starting again on the problems that it failed in a run."""
        lines = (run / "refinements.jsonl").read_text(encoding="utf-8").splitlines()
        records = [Refinement.from_json(json.loads(line)) for line in lines]
        failed = [one.prompt for one in records if len(one.rounds) > 1]
        folder = result_folder(self.start)
        policy = load_policy(folder, dtype=torch.float32, device="cpu")
        generator = LocalGenerator(policy, load_tokenizer(folder))
        again = generator.generate(failed, Sampling(NEW_TOKENS, 1.0, 4, seed=self.seed + 1))
        return float(np.mean([grade(one.prompt, one.text).parts["sound"] for one in again]))

    def _prompts(self, name: str) -> Iterator[Prompt]:
        found = read_prompts(str(self.world / name))
        return (one for one in found if isinstance(one, Prompt))

    def measured(self, arm: str, run: Path, temperature: float) -> list[dict[str, Any]]:
        """A row for every held-out problem: whether the answer is right, and the solution sound."""
        folder = result_folder(run)
        policy = load_policy(folder, dtype=torch.float32, device="cpu")
        prompts = list(self._prompts("prompts_heldout.jsonl"))
        generator = LocalGenerator(policy, load_tokenizer(folder))
        responses = generator.generate(prompts, Sampling(NEW_TOKENS, temperature, seed=self.seed))
        grades = [grade(one.prompt, one.text).parts for one in responses]
        return [
            {
                "seed": self.seed,
                "arm": arm,
                "temperature": temperature,
                "prompt": prompt.id,
                "traps": _traps(prompt),
                "right": found["answer"],
                "sound": found["sound"],
            }
            for prompt, found in zip(prompts, grades, strict=True)
        ]


def _before(one: Correction, step: int) -> str:
    return "".join(each.text for each in one.before.steps[:step])


def _traps(prompt: Prompt) -> list[str]:
    return list((prompt.reference or {})["traps"])


def _derangement(count: int, seed: int) -> list[int]:
    """A shuffled order in which nothing stays in its place."""
    order = [int(number) for number in rng(seed, "dealt").permutation(count)]
    places = {number: order[(at + 1) % count] for at, number in enumerate(order)}
    return [places[number] for number in range(count)]


MEASURES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "right, greedy": lambda row: row["temperature"] == 0,
    "sound, greedy": lambda row: row["temperature"] == 0,
    "right, sampled": lambda row: row["temperature"] == 1,
    "sound, sampled": lambda row: row["temperature"] == 1,
}


def figures(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Shares of right answers and sound solutions."""
    return {
        name: round(float(np.mean([row[name.split(",")[0]] for row in rows if wanted(row)])), 3)
        for name, wanted in MEASURES.items()
    }


def table(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For every arm its figures, and their differences to the start, `chosen 1` and `written 1`, each with a 95 % interval: a
    bootstrap over problems, all seeds pooled."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    found = []
    for arm in arms:
        line: dict[str, Any] = {"arm": arm} | figures([row for row in rows if row["arm"] == arm])
        for other in ("start", "chosen 1", "written 1", "steps, other places"):
            if other != arm:
                line[f"less {other}"] = {name: _difference(rows, arm, other, name) for name in MEASURES}
        line["with a trap"] = {
            trap: figures([row for row in rows if row["arm"] == arm and trap in row["traps"]])
            for trap in ("each", "times", "turned", "more")
        }
        found.append(line)
    return found


def _difference(rows: Sequence[dict[str, Any]], arm: str, other: str, name: str) -> list[float]:
    """[difference, low, high], paired by seed and problem."""
    wanted, field = MEASURES[name], name.split(",")[0]

    def of(which: str) -> dict[tuple[int, str], float]:
        own = (row for row in rows if row["arm"] == which and wanted(row))
        return {(row["seed"], row["prompt"]): row[field] for row in own}

    first, second = of(arm), of(other)
    gaps = np.array([first[key] - second[key] for key in first if key in second])
    draws = rng(0, "bootstrap").integers(len(gaps), size=(2000, len(gaps)))
    low, high = np.quantile(gaps[draws].mean(axis=1), [0.025, 0.975])
    return [round(float(value), 3) for value in (gaps.mean(), low, high)]


if __name__ == "__main__":
    main(load(StudySettings, sys.argv[1:]))
