"""The command `eval`: the same held-out prompts to every model, one function per evaluation, tidy rows out.

results.json holds rows {model, metric, task, value, low, high, n, unit}.  samples.jsonl holds one line per prompt: id, task,
prompt, and the response of every model with its text, finish, tokens, score and its parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from tutelage.data.reading.formats import read_documents, walk
from tutelage.data.reading.sources import shown
from tutelage.evals import diversity, drift, language, scored, text, win_rate
from tutelage.evals.asked import held_out_prompts
from tutelage.evals.findings import display
from tutelage.evals.rows import Row, to_json
from tutelage.evals.samples import stratified
from tutelage.evals.shown import models_table
from tutelage.evals.spent import Spent, note_spent
from tutelage.files import write_json_atomic, write_jsonl_atomic
from tutelage.judges.build import WORLD, build_judge, reads_model
from tutelage.judges.judge import Judge
from tutelage.models.loading import fit_embeddings, load_policy, load_tokenizer, same_tokenizer
from tutelage.models.policy import PolicyModule
from tutelage.parallel import World
from tutelage.records import Document, Prompt, Response, Score, place_json
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.runs import Bar, Run, result_folder
from tutelage.settings.evals import EvalSettings as Settings

CHUNK = 128  # prompts between two movements of the progress bar; no response depends on it
SHOWN = (
    "gold",
    "score",
    "win_rate",
    "win_rate_similar_length",
    "kl",
    "length",
    "missing_eos",
    "distinct_2",
    "unique_share",
    "self_bleu",
    "entropy",
    "copy_rate",
    "eval_loss",
)


@dataclass(frozen=True)
class Answers:
    """A model's responses to the prompts, in their order; scores are empty where the judge does not apply."""

    responses: list[Response]
    scores: list[Score]
    spent: Spent


def main(settings: Settings, world: World, run: Run) -> Path:
    """Evaluate the models; writes results.json and samples.jsonl. Raises ValueError for unusable inputs."""
    models = named(settings.models)
    baseline = _baseline(settings, models)
    reference_path = models.get(settings.reference or baseline) or result_folder(settings.reference)
    readers = models if reference_path in models.values() else {**models, "the reference": reference_path}
    prompts = held_out_prompts(readers, settings, run)
    documents = _documents(settings, run)
    run.input("prompts", settings.prompts)
    if settings.documents:
        run.input("documents", settings.documents)
    for name, path in models.items():
        run.input(f"model {name}", path)
    if reference_path not in models.values():
        run.input("reference", reference_path)
    if reads_model(settings.judge):
        run.input("judge", result_folder(settings.judge))
    judge = build_judge(settings.judge, world)
    run.note(baseline=baseline, reference=reference_path, judge=named_judge(settings, judge))
    answers: dict[str, Answers] = {}
    rows: list[Row] = []
    with run.progress(len(prompts) * len(models), "evaluating") as bar:
        # The baseline goes first, for the others are compared with it.
        for name in sorted(models, key=lambda name: name != baseline):
            answers[name], found = _evaluate(
                name, models[name], prompts, documents, reference_path, judge, settings, world, bar
            )
            rows += found + _compare(name, answers, baseline, settings)
    note_spent(run, [found.spent for found in answers.values()])
    rows += diversity.distinct_rows({name: found.responses for name, found in answers.items()})
    order = {name: i for i, name in enumerate(models)}
    rows.sort(key=lambda r: order[r.model])
    write_jsonl_atomic(
        run.folder / "samples.jsonl", _lines(prompts, {name: answers[name] for name in models})
    )
    write_json_atomic(run.folder / "results.json", to_json(rows))
    title = f"Held-out prompts, compared with {display(baseline)} (95 % intervals)"
    run.console.print(models_table(rows, list(models), SHOWN, title, run.console.width))
    without_kl = [name for name in models if not any((r.model, r.metric) == (name, "kl") for r in rows)]
    run.note(without_kl=without_kl)
    if without_kl:
        run.console.print(
            f"No KL of {', '.join(without_kl)}: the reference {reference_path} cannot read those tokens, for it has another "
            "tokenizer or fewer embeddings."
        )
    if not answers[baseline].scores:
        run.console.print(
            f"{shown(settings.prompts)} has prompts that {named_judge(settings, judge)} does not know: no score, no win rate."
        )
    return run.folder


def named_judge(settings: Settings, judge: Judge) -> str:
    """The judge, as a reader knows it."""
    return "the gold standard" if settings.judge == WORLD else judge.name


def named(models: Sequence[str]) -> dict[str, str]:
    """Name -> checkpoint, from "name=path" or "path" (named after its last folder). Raises ValueError on a repeated name."""
    found: dict[str, str] = {}
    for given in models:
        name, _, path = given.rpartition("=")
        name = name or Path(path).name
        if name in found:
            raise ValueError(
                f"models: two models are named '{name}'; give them names as in models=[first={path}, ...]."
            )
        found[name] = result_folder(path)
    if not found:
        raise ValueError(
            "models is empty; give the checkpoints to evaluate, for example models=[sft=runs/sft, ppo=runs/ppo]."
        )
    return found


def _baseline(settings: Settings, models: dict[str, str]) -> str:
    baseline = settings.baseline or next(iter(models))
    if baseline not in models:
        raise ValueError(
            f"baseline={baseline} is not among the models ({', '.join(models)}); name one of them."
        )
    return baseline


def _documents(settings: Settings, run: Run) -> list[Document]:
    """Held-out text; what is none is counted."""
    if not settings.documents:
        return []
    rows = list(walk(read_documents(settings.documents, settings.columns)))
    texts = [row for row in rows if isinstance(row, Document)]
    if left := len(rows) - len(texts):
        run.console.print(
            f"{shown(settings.documents)}: {left} of {len(rows)} rows are no plain text: left out."
        )
    chosen = stratified([""] * len(texts), settings.max_documents or len(texts), settings.seed)
    return [texts[i] for i in chosen]


def _evaluate(
    name: str,
    path: str,
    prompts: Sequence[Prompt],
    documents: Sequence[Document],
    reference_path: str,
    judge: Judge,
    settings: Settings,
    world: World,
    bar: Bar,
) -> tuple[Answers, list[Row]]:
    """One model's responses, and the rows that need no other model's responses."""
    model, tokenizer = _load(path, world), load_tokenizer(path)
    spent = Spent(model)
    generator = LocalGenerator(
        model, tokenizer, dtype=world.dtype, memory_mib=settings.memory_mib, progress=spent
    )
    sampling = Sampling(settings.max_new_tokens, settings.temperature, seed=settings.seed)
    responses: list[Response] = []
    for start in range(0, len(prompts), CHUNK):
        chunk = list(prompts[start : start + CHUNK])
        responses += generator.generate(chunk, sampling)
        bar.advance(len(chunk), status=name)
    seeded = {"seed": settings.seed, "resamples": settings.resamples}
    scores = [score for score in judge.score(responses) if score is not None]
    scores = scores if len(scores) == len(responses) else []
    metric = "gold" if settings.judge == WORLD else "score"
    rows = scored.evaluate(name, responses, scores, metric, **seeded) if scores else []
    rows += text.evaluate(name, responses, **seeded)
    drawn = _samples(generator, responses, settings)
    rows += diversity.entropy_rows(name, drawn, **seeded)
    rows += _siblings(name, prompts, generator, settings)
    rows += _kl(name, path, model, tokenizer, drawn, reference_path, settings, world)
    if documents:
        losses = language.losses(model, tokenizer, documents, world, max_tokens=settings.max_tokens)
        rows += language.evaluate(name, losses, **seeded)
    return Answers(responses, scores, spent), rows


def _load(path: str, world: World) -> PolicyModule:
    return load_policy(path, dtype=world.dtype, device=world.device).requires_grad_(False)


def _samples(
    generator: LocalGenerator, responses: Sequence[Response], settings: Settings
) -> Sequence[Response]:
    """Responses drawn from the model, for what describes its distribution: a greedy response is no sample of one."""
    if settings.temperature:
        return responses
    asked = [response.prompt for response in responses]
    return generator.generate(asked, Sampling(settings.max_new_tokens, seed=settings.seed))


def _siblings(
    name: str, prompts: Sequence[Prompt], generator: LocalGenerator, settings: Settings
) -> list[Row]:
    """How much several responses to one prompt differ, on a few prompts; no rows where that is switched off."""
    if not settings.diversity_samples:
        return []
    asked = stratified([p.task for p in prompts], settings.diversity_prompts, settings.seed)
    sampling = Sampling(
        settings.max_new_tokens, settings.temperature or 1.0, settings.diversity_samples, settings.seed
    )
    responses = generator.generate([prompts[i] for i in asked], sampling)
    return diversity.sibling_rows(name, responses, seed=settings.seed, resamples=settings.resamples)


def _kl(
    name: str,
    path: str,
    model: PolicyModule,
    tokenizer: PreTrainedTokenizerBase,
    samples: Sequence[Response],
    reference_path: str,
    settings: Settings,
    world: World,
) -> list[Row]:
    """Rows kl, 0 for the reference itself; none where the reference cannot read the model's tokens: any number would come
    out."""
    seeded = {"seed": settings.seed, "resamples": settings.resamples}
    if path == reference_path:
        return drift.evaluate(name, np.zeros(len(samples)), samples, **seeded)
    if not same_tokenizer(tokenizer, load_tokenizer(reference_path)):
        return []
    reference = _load(reference_path, world)
    fit_embeddings(reference, tokenizer)  # as in training, where the model got rows for new tokens
    known = reference.host.get_input_embeddings().weight.shape[0]
    if any(token >= known for sample in samples for token in sample.ids):
        return []
    temperature = settings.temperature or 1.0
    ratios = drift.log_ratios(
        model, reference, samples, world, temperature=temperature, max_tokens=settings.max_tokens
    )
    return drift.evaluate(name, ratios, samples, **seeded)


def _compare(name: str, answers: dict[str, Answers], baseline: str, settings: Settings) -> list[Row]:
    """The rows that compare a model with the baseline; none for the baseline itself."""
    if name == baseline:
        return []
    ours, theirs = answers[name], answers[baseline]
    seeded = {"seed": settings.seed, "resamples": settings.resamples}
    rows = text.length_change(name, ours.responses, theirs.responses, **seeded)
    if ours.scores:
        rows += win_rate.evaluate(
            name,
            ours.responses,
            ours.scores,
            theirs.responses,
            theirs.scores,
            similar_length=settings.similar_length,
            **seeded,
        )
    return rows


def _lines(prompts: Sequence[Prompt], answers: dict[str, Answers]) -> list[dict]:
    """The lines of samples.jsonl."""

    def entry(found: Answers, i: int) -> dict:
        response = found.responses[i]
        graded = (
            {"score": found.scores[i].value, "parts": dict(found.scores[i].parts)} if found.scores else {}
        )
        return {"text": response.text, "finish": response.finish, "tokens": len(response.ids), **graded}

    return [
        {
            "id": prompt.id,
            "task": prompt.task,
            "prompt": prompt.content_json(),
            **place_json(prompt),
            "responses": {name: entry(found, i) for name, found in answers.items()},
        }
        for i, prompt in enumerate(prompts)
    ]
