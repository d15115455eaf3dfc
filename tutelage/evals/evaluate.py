"""The command `eval`: the same held-out prompts to every model, one function per evaluation, tidy rows out.

results.json and results.csv hold rows {model, metric, task, value, low, high, n, unit, signature}.  samples.jsonl holds one
line per prompt: id, task, prompt, and the response of every model with its text, finish, tokens, score and its parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.text import Text

from tutelage.data.reading.formats import read_documents, walk
from tutelage.data.reading.sources import shown
from tutelage.evals import diversity, text, win_rate
from tutelage.evals.acts import ACTS, telling
from tutelage.evals.answering import Answering, Answers
from tutelage.evals.asked import held_out_prompts
from tutelage.evals.entrants import baseline_of, check_served, entrants, named, reference_of
from tutelage.evals.findings import PER_TOKEN, display, other_tokenizers
from tutelage.evals.language import by_tokenizer
from tutelage.evals.overlap.answers import Comparing
from tutelage.evals.overlap.metrics import signatures
from tutelage.evals.rows import Row, write
from tutelage.evals.samples import stratified
from tutelage.evals.shown import models_table
from tutelage.evals.spent import note_spent
from tutelage.files import write_jsonl_atomic
from tutelage.judges.build import WORLD, build_judge
from tutelage.judges.inputs import note_judge
from tutelage.judges.judge import Judge
from tutelage.models.loading import load_tokenizer
from tutelage.parallel import World
from tutelage.records import Document, Prompt, place_json
from tutelage.rollout.few_shot import Shots, shots_of
from tutelage.runs import Run
from tutelage.settings.evals import EvalSettings as Settings
from tutelage.settings.ways import way_of

SHOWN = (
    "gold",
    "score",
    "win_rate",
    "win_rate_length_controlled",
    "win_rate_similar_length",
    "kl",
    "kl_bound",
    "tokens_per_answer",
    "seconds_per_answer",
    "length",
    "missing_eos",
    *ACTS,
    "distinct_2",
    "unique_share",
    "self_bleu",
    "valid_share",
    "distinct_valid",
    "entropy_valid",
    "entropy",
    "copy_rate",
    "repetition",
    *("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_1", "rouge_2", "rouge_l", "rouge_lsum"),
    *("meteor", "meteor_nosyn", "bertscore"),
    "eval_loss",
    "perplexity_words",
    "bits_per_byte",
)


def main(settings: Settings, world: World, run: Run) -> Path:
    """Evaluate the models; writes results.json and samples.jsonl. Raises ValueError for unusable inputs."""
    models = named(settings.models)
    check_served(settings, models)
    baseline = baseline_of(settings, list(models))
    groups = entrants(settings, list(models))
    reference = reference_of(settings, models, baseline)
    readers = models if reference in models.values() else {**models, "the reference": reference}
    shots = shots_of(settings, models)
    prompts = held_out_prompts(readers, settings, run, shots)
    documents = _documents(settings, run)
    _note_inputs(settings, models, reference, run)
    judge = _judge_of(settings, world)
    run.note(baseline=baseline, reference=reference, judge=named_judge(settings, judge))
    comparing = Comparing(settings, world, run)
    answering = Answering(settings, prompts, documents, reference, judge, world, run)
    answers: dict[str, Answers] = {}
    rows: list[Row] = []
    with run.progress(len(prompts) * sum(map(len, groups.values())), "evaluating") as bar:
        for model, group in groups.items():
            for entrant, given, found in answering.each_of(models[model], group, bar, shots.get(model)):
                answers[entrant.name] = given
                rows += found + _compare(entrant.name, answers, baseline, judge, settings)
    note_spent(run, answering.spent)
    rows += diversity.distinct_rows({name: found.responses for name, found in answers.items()})
    order = [entrant.name for model in models for entrant in groups[model]]
    rows += comparing.rows({name: answers[name].responses for name in order}, baseline)
    rows.sort(key=lambda r: order.index(r.model))
    write_jsonl_atomic(run.folder / "samples.jsonl", _lines(prompts, {name: answers[name] for name in order}))
    write(run.folder, rows)
    _close(settings, rows, order, models, baseline, reference, shots, run)
    if not answers[baseline].scores and not judge.pairwise:
        run.console.print(
            f"{shown(settings.prompts)} has prompts that {named_judge(settings, judge)} does not know: no score, no win rate."
        )
    return run.folder


def _judge_of(settings: Settings, world: World) -> Judge:
    """Who scores.  Raises ValueError where scores are asked for of one that only compares."""
    judge = build_judge(settings.judge, world)
    if judge.pairwise and settings.valid_from is not None:
        raise ValueError(
            f"valid_from={settings.valid_from:g} is a score, and {judge.name} compares responses and gives none: take a judge "
            "that scores, or leave valid_from out."
        )
    return judge


def named_judge(settings: Settings, judge: Judge) -> str:
    """The judge, as a reader knows it."""
    return "the gold standard" if settings.judge == WORLD else judge.name


def _note_inputs(settings: Settings, models: Mapping[str, str], reference: str, run: Run) -> None:
    run.input("prompts", settings.prompts)
    if settings.documents:
        run.input("documents", settings.documents)
    if settings.demonstrations:
        run.input("demonstrations", settings.demonstrations)
    for name, given in models.items():
        run.input(f"model {name}", way_of(given).path)
    if reference not in models.values():
        run.input("reference", reference)
    note_judge(run, "judge", settings.judge)
    note_judge(run, "reward", settings.reward)


def _close(
    settings: Settings,
    rows: Sequence[Row],
    columns: Sequence[str],
    models: Mapping[str, str],
    baseline: str,
    reference: str,
    shots: Mapping[str, Shots],
    run: Run,
) -> None:
    """The table, without what its models' tokenizers make incomparable, and whose KL is missing."""
    title = f"Held-out prompts, compared with {display(baseline)} (95 % intervals)"
    tokenizers = by_tokenizer({name: load_tokenizer(way_of(path).path) for name, path in models.items()})
    run.note(tokenizers=tokenizers)
    measures = [name for name in _measures(settings, rows) if len(tokenizers) == 1 or name not in PER_TOKEN]
    run.console.print(models_table(rows, columns, measures, title, run.console.width))
    if said := other_tokenizers(tokenizers):
        run.console.print(said, markup=False, highlight=False)
    for line in signatures(rows):
        run.console.print(Text(line, "dim"), soft_wrap=True)
    without_kl = [name for name in models if not any((r.model, r.metric) == (name, "kl") for r in rows)]
    for name in [name for name in without_kl if name in shots]:
        without_kl.remove(name)
        run.console.print(
            f"No KL of {name}: it reads prompts, and ends responses, in plain text, as the reference does not."
        )
    run.note(without_kl=without_kl)
    if without_kl:
        run.console.print(
            f"No KL of {', '.join(without_kl)}: the reference {reference} cannot read those tokens, for it has another "
            "tokenizer or fewer embeddings."
        )


def _measures(settings: Settings, rows: Sequence[Row]) -> list[str]:
    """What the table shows; the parts of a mix stand below its score, and what responses do is left out where they answer."""
    parts = [] if settings.judge == WORLD else [row.metric for row in rows if row.metric.startswith("score/")]
    at = SHOWN.index("score") + 1
    quiet = () if telling(rows) else ACTS
    return [name for name in (*SHOWN[:at], *dict.fromkeys(parts), *SHOWN[at:]) if name not in quiet]


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


def _compare(
    name: str, answers: dict[str, Answers], baseline: str, judge: Judge, settings: Settings
) -> list[Row]:
    """The rows that compare a model with the baseline; none for the baseline itself."""
    if name == baseline:
        return []
    ours, theirs = answers[name], answers[baseline]
    seeded = {"seed": settings.seed, "resamples": settings.resamples}
    rows = text.length_change(name, ours.responses, theirs.responses, **seeded)
    if judge.pairwise:
        outcomes = win_rate.judged(judge, ours.responses, theirs.responses)
    elif ours.scores:
        outcomes = win_rate.by_score(ours.scores, theirs.scores)
    else:
        return rows
    return rows + win_rate.evaluate(
        name, outcomes, ours.responses, theirs.responses, similar_length=settings.similar_length, **seeded
    )


def _lines(prompts: Sequence[Prompt], answers: dict[str, Answers]) -> list[dict]:
    """The lines of samples.jsonl."""

    def entry(found: Answers, i: int) -> dict:
        response = found.responses[i]
        graded = (
            {"score": found.scores[i].value, "parts": dict(found.scores[i].parts)} if found.scores else {}
        )
        told = {"text": response.text, "finish": response.finish, "tokens": len(response.ids)}
        return {**told, "does": found.acts[i], **graded}

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
