"""The command `eval front`: models by several rewards, which of them are on the front, and what each group covers.

results.json, results.csv   rows {model = a model or a group, metric, task, value, low, high, n, unit}
samples.jsonl               to each prompt the first response of every model, and what each reward says of it
front.svg                   the front; of three rewards and more one figure for each pair, front-A-B.svg
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tutelage import statistics
from tutelage.data.reading.sources import shown
from tutelage.evals import text
from tutelage.evals.asked import held_out_prompts
from tutelage.evals.figures import standalone
from tutelage.evals.front.measures import Front, group_rows, model_rows, nadir
from tutelage.evals.front.measuring import Measured, Measuring, Objective
from tutelage.evals.front.members import REFERENCE, Member, groups_of, members_of, training_time
from tutelage.evals.page import front as front_page
from tutelage.evals.rows import OVERALL, Row, row, write
from tutelage.evals.scored import by_task
from tutelage.evals.shown import columns_table
from tutelage.evals.spent import note_spent
from tutelage.files import write_jsonl_atomic, write_text_atomic
from tutelage.judges.inputs import note_judge
from tutelage.parallel import World
from tutelage.records import Prompt, place_json
from tutelage.rollout.weights import Weighing
from tutelage.runs import Run, result_folder
from tutelage.settings.front import FrontSettings as Settings
from tutelage.statistics import Floats


def main(settings: Settings, world: World, run: Run) -> Path:
    """Measure and draw; returns the run folder.  Raises ValueError for unusable inputs."""
    members = members_of(settings.models)
    reference = _reference(settings, members)
    asked = list(members)
    if reference and reference not in [member.path for member in members]:
        asked.append(Member(REFERENCE, reference))
    asked.sort(key=lambda member: member.path != reference)  # which gives rewards their units
    weighed = {member.name: Weighing(dict(member.weights)) for member in asked if member.weights}
    prompts = held_out_prompts({member.name: member.path for member in asked}, settings, run, weighed)
    _note_inputs(asked, settings, run)
    measuring = Measuring(settings, reference, prompts, world, run)
    with run.progress(len(prompts) * settings.samples * len(asked), "responses") as bar:
        found = {member.name: measuring(member, bar) for member in asked}
    members += [member for member in asked if member not in members]
    kept = _complete(found, measuring.objectives, settings, run)
    front = _front(settings, members, found, kept, measuring.objectives)
    rows = _rows(front, members, found, kept)
    write(run.folder, rows)
    write_jsonl_atomic(
        run.folder / "samples.jsonl", _lines(prompts, members, found, kept, measuring.objectives)
    )
    note_spent(run, measuring.spent)
    run.note(
        objectives=[vars(objective) for objective in measuring.objectives],
        groups={name: [members[number].name for number in own] for name, own in groups_of(members).items()},
        point=front.point.tolist(),
        point_given=bool(settings.point),
        prompts_measured=len(kept),
    )
    _show(front_page.Told.of(run.lineage, rows), run)
    return run.folder


def _reference(settings: Settings, members: Sequence[Member]) -> str:
    """The path of the model that the KL is measured to; "": none."""
    named = {member.name: member.path for member in members}
    given = settings.reference
    return named.get(given, result_folder(given)) if given else ""


def _note_inputs(members: Sequence[Member], settings: Settings, run: Run) -> None:
    run.input("prompts", settings.prompts)
    for member in members:
        run.input(f"model {member.name}", member.path)
    note_judge(run, "reward", settings.rewards)


def _complete(
    found: dict[str, Measured], objectives: Sequence[Objective], settings: Settings, run: Run
) -> list[int]:
    """The prompts of which every response has every score.  Raises ValueError where there are none."""
    known = np.all([np.isfinite(each.scores).all(axis=1) for each in found.values()], axis=0)  # [P, R]
    for place, objective in enumerate(objectives):
        if lost := int((~known[:, place]).sum()):
            run.console.print(
                f"{shown(settings.prompts)}: {objective.name} does not apply to {lost} of {len(known)} prompts: left out.",
                markup=False,
            )
    kept: list[int] = np.flatnonzero(known.all(axis=1)).tolist()
    if not kept:
        raise ValueError(
            f"{shown(settings.prompts)}: there is no prompt to which all of the rewards apply: give prompts that all are for, or "
            "other rewards."
        )
    return kept


def _front(
    settings: Settings,
    members: Sequence[Member],
    found: dict[str, Measured],
    kept: list[int],
    objectives: Sequence[Objective],
) -> Front:
    values = np.stack([found[member.name].scores[kept].mean(axis=1) for member in members])
    direction = np.array([objective.direction for objective in objectives], float)
    point: Floats = np.array(settings.point, float) if settings.point else nadir(values, direction)
    names = [member.name for member in members]
    rewards = [objective.name for objective in objectives]
    return Front(names, rewards, direction, values, point, settings.seed, settings.resamples)


def _rows(front: Front, members: Sequence[Member], found: dict[str, Measured], kept: list[int]) -> list[Row]:
    """The rows of all models in their order, then those of the groups."""
    samples = found[members[0].name].scores.shape[1]
    first = [found[members[0].name].responses[i * samples] for i in kept]
    rows = list(model_rows(front, by_task(first)))
    for member in members:
        measured = found[member.name]
        if measured.ratios is not None:
            kl = statistics.bootstrap_mean(
                measured.ratios[kept].mean(axis=1), seed=front.seed, resamples=front.resamples
            )
            rows.append(row(member.name, "kl", OVERALL, kl, "nats"))
        responses = [measured.responses[i * samples + k] for i in kept for k in range(samples)]
        rows += text.evaluate(member.name, responses, seed=front.seed, resamples=front.resamples)
    order = {member.name: number for number, member in enumerate(members)}
    rows.sort(key=lambda one: order[one.model])
    groups = groups_of(members)
    for name, own in groups.items():
        rows += [one for one in group_rows(front, groups) if one.model == name]
        spent = training_time([members[number] for number in own])
        if spent is not None:
            rows.append(Row(name, "training_time", OVERALL, spent, n=len(own), unit="s"))
    return rows


def _lines(
    prompts: Sequence[Prompt],
    members: Sequence[Member],
    found: dict[str, Measured],
    kept: list[int],
    objectives: Sequence[Objective],
) -> list[dict]:
    """The lines of samples.jsonl."""

    def entry(measured: Measured, i: int) -> dict:
        response = measured.responses[i * measured.scores.shape[1]]
        rewards = {
            objective.name: float(value)
            for objective, value in zip(objectives, measured.scores[i, 0], strict=True)
        }
        return {
            "text": response.text,
            "finish": response.finish,
            "tokens": len(response.ids),
            "rewards": rewards,
        }

    return [
        {
            "id": prompt.id,
            "task": prompt.task,
            "prompt": prompt.content_json(),
            **place_json(prompt),
            "responses": {member.name: entry(found[member.name], i) for member in members},
        }
        for i, prompt in ((i, prompts[i]) for i in kept)
    ]


def _show(told: front_page.Told, run: Run) -> None:
    """Table, sentences and figures."""
    for title, heading, names, columns in front_page.tables(told):
        run.console.print(columns_table(title, heading, names, columns, run.console.width))
    for sentence in front_page.sentences(told):
        run.console.print(sentence, markup=False, highlight=False)
    for name, svg, _ in front_page.draw(told):
        path = write_text_atomic(run.folder / f"{name}.svg", standalone(svg))
        run.console.print(f"Figure: {path}", markup=False, highlight=False)
