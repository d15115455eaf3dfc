"""A file of claims: what somebody said, a study for each that tests it, and one page of verdicts.

    base: {stages: [...]}                       # done once, in OUT/base; studies name it as $base
    claims:
      dpo-like-ppo:
        claim: DPO is as good as PPO.
        source: who says it, and where
        test: ...
        change: what would change the verdict
        study: {axes: ..., stages: [...]}       # in OUT/dpo-like-ppo, as a study of its own
        effects:
          - {what: DPO less PPO, metric: gold, first: {method: dpo}, second: {method: ppo}, within: 0.05}

All are checked before anything runs.  What is finished and unchanged is skipped; a claim whose study fails is told as such, and
the others go on.  The page is written anew after every claim, so that what is known stands there when the night is over early.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from tutelage.evals.folders import RunFolder
from tutelage.files import write_json_atomic, write_text_atomic
from tutelage.settings.base import build, nearest
from tutelage.settings.claims import ClaimSettings, EffectSettings
from tutelage.settings.pipeline import StudySettings
from tutelage.settings.yaml12 import read_mapping
from tutelage.study import cells, claims_page, report
from tutelage.study.claims_page import NOT_RUN, UNTESTED, Told
from tutelage.study.doing import why_run
from tutelage.study.going import go
from tutelage.study.grid import put_in
from tutelage.study.listing import sentence, show_failed, show_plan
from tutelage.study.plan import Study, plan
from tutelage.study.verdicts import Effect, effect_of, verdict_of

BASE = "base"
FILE = "claims"


@dataclass(frozen=True)
class Tested:
    """A claim, its study, and the effects that decide."""

    name: str
    said: ClaimSettings
    settings: StudySettings
    study: Study
    effects: tuple[EffectSettings, ...]


def main(settings: StudySettings, console: Console) -> Path:
    """Run what is left of the claims and write their page; returns the study's folder.

    Raises ValueError before anything runs where a claim cannot be, and at the end where studies have failed.
    """
    base, tested = plan_all(settings)
    chosen = _chosen(settings, tested)
    if settings.plan:
        for study in [*([base[1]] if base else []), *(one.study for one in chosen)]:
            show_plan(study, console)
        return settings.out
    if base is not None:
        outcome = go(base[1], base[0], console)
        if outcome.failed:
            show_failed(outcome, console)
            raise ValueError(sentence(outcome, len(base[1].instances)))
    studies = [*([base[1]] if base else []), *(one.study for one in tested)]
    # Kept, for to see what is done every input of every stage is read.
    done = {id(study): _done(study) for study in studies}
    told = {one.name: _told(one, done[id(one.study)]) for one in tested}
    for number, one in enumerate(chosen, 1):
        console.rule(f"claim {number}/{len(chosen)} {one.name}", align="left")
        console.print(one.said.claim, markup=False, highlight=False)
        failed = _run(one, console)
        done[id(one.study)] = _done(one.study)
        # What reads the same study can be told now, too.
        told |= {
            each.name: _told(each, done[id(each.study)], failed) for each in tested if each.study is one.study
        }
        console.print(told[one.name].verdict, markup=False, highlight=False)
        _write(list(told.values()), settings, _seconds(*done.values()))
    console.print(f"Verdicts: {page_of(settings)}", markup=False, highlight=False)
    _complain([told[one.name] for one in chosen])
    return settings.out


def _complain(told: Sequence[Told]) -> None:
    """Raise ValueError where claims could not be tested."""
    if failed := [one for one in told if one.verdict.startswith(UNTESTED)]:
        why = failed[0].verdict.removeprefix(f"{UNTESTED}: ").rstrip(".")
        raise ValueError(
            f"{len(failed)} of {len(told)} claims {UNTESTED} (the first is {failed[0].name}: {why}): mend it, and the same "
            "command goes on."
        )


def page_of(settings: StudySettings) -> Path:
    """Where the page of verdicts is."""
    return Path(settings.page) if settings.page else settings.out / f"{FILE}.md"


def _base(settings: StudySettings) -> tuple[StudySettings, Study] | None:
    """What all claims stand on; None where they stand alone."""
    if not settings.base:
        return None
    found = _study_settings(BASE, settings.base, settings, {})
    return found, plan(found)


def plan_all(settings: StudySettings) -> tuple[tuple[StudySettings, Study] | None, list[Tested]]:
    """(what all claims stand on, the claims), checked and planned.  Raises ValueError that names the claim at fault."""
    found: dict[str, Tested] = {}
    for name, given in settings.claims.items():
        found[name] = _tested(name, given, settings, found)
    return _base(settings), list(found.values())


def _tested(name: str, given: Any, settings: StudySettings, before: Mapping[str, Tested]) -> Tested:
    """A claim, ready to run.  Raises ValueError that names it."""
    if not name.replace("-", "").isalnum() or name == BASE or not isinstance(given, dict):
        raise ValueError(
            f"claims: '{name}' cannot be a claim: take letters, digits and dashes, and a mapping."
        )
    try:
        said = build(ClaimSettings, given)
        effects = tuple(build(EffectSettings, effect) for effect in said.effects)
        if not effects:
            raise ValueError("there is no effect that decides: give one in effects.")
        if isinstance(said.study, str) and said.study in before:
            other = before[said.study]
            return _checked(Tested(name, said, other.settings, other.study, effects))
        own = _study_settings(name, _written(said.study), settings, {BASE: str(settings.out / BASE)})
        return _checked(Tested(name, said, own, plan(own), effects))
    except ValueError as error:
        raise ValueError(f"claims: {name}: {error}") from None


def _checked(one: Tested) -> Tested:
    """Raises ValueError for an effect of a stage that its study has not."""
    stages = list(dict.fromkeys(each.of for each in one.study.instances.values()))
    for effect in one.effects:
        if effect.results and effect.results not in stages:
            raise ValueError(
                f"'{effect.what}': results={effect.results} names no stage: there are {', '.join(stages)}."
            )
    return one


def _written(study: Mapping[str, Any] | str) -> Mapping[str, Any]:
    """A study as it is written here, or in a file.  Raises ValueError where there is none."""
    if not isinstance(study, str):
        return study
    if not study.endswith((".yaml", ".yml")):
        raise ValueError(f"study: there is no earlier claim '{study}', and it is no file: write NAME.yaml.")
    return read_mapping(Path(study)).values


def _study_settings(
    name: str, given: Mapping[str, Any], settings: StudySettings, known: Mapping[str, Any]
) -> StudySettings:
    """The settings of one study of many: its folder is OUT/NAME, and what is not its own is that of all."""
    shared = {**known, **put_in(settings.constants, known)}
    text = str(given)
    used = {key: value for key, value in shared.items() if f"${key}" in text or f"${{{key}}}" in text}
    stages = given.get("stages", [])
    last = str(stages[-1].get("name", stages[-1].get("command"))) if stages else ""
    values = {
        "results": last.replace(" ", "-"),
        "seed": settings.seed,
        "split_seed": settings.split_seed,
        "title": name,
        **given,
        "out": str(settings.out / name),
        "parallel": settings.parallel,
        "constants": used | given.get("constants", {}),
    }
    return build(StudySettings, values)


def _chosen(settings: StudySettings, tested: list[Tested]) -> list[Tested]:
    names = [one.name for one in tested]
    for name in settings.only:
        if name not in names:
            near = nearest(name, names)
            raise ValueError(
                f"only: there is no claim '{name}': "
                + (f"did you mean '{near}'?" if near else f"there are {', '.join(names)}.")
            )
    return [one for one in tested if not settings.only or one.name in settings.only]


def _run(one: Tested, console: Console) -> str | None:
    """Do what is left of its study; why it failed, None where it did not."""
    outcome = go(one.study, one.settings, console)
    if outcome.failed:
        show_failed(outcome, console)
        return sentence(outcome, len(one.study.instances))
    try:
        report.write(one.study, one.settings, console)
    except ValueError as error:
        return str(error)
    return None


Done = dict[Path, str]
"""Run folder -> name, of what is done of a study."""


def _done(study: Study) -> Done:
    """What stands, with the inputs that it was made from."""
    return {
        each.stage.folder: each.name
        for each in study.instances.values()
        if why_run(each, study.instances) is None
    }


def _seconds(*done: Done) -> float:
    """That all this took, what several studies share counted once."""
    runs = {folder: name for some in done for folder, name in some.items()}
    return sum(RunFolder(folder, name).seconds or 0.0 for folder, name in runs.items())


def _told(one: Tested, done: Done, failed: str | None = None) -> Told:
    """What can be said of a claim now.  failed: why its study could not be done, if it could not."""
    seconds = _seconds(done)
    if failed:
        return Told(one.name, one.said, seconds, (), f"{UNTESTED}: {failed}")
    if len(done) < len({each.stage.folder for each in one.study.instances.values()}):
        return Told(one.name, one.said, seconds, (), NOT_RUN)
    try:
        effects = tuple(_effect(effect, one) for effect in one.effects)
    except ValueError as error:
        return Told(one.name, one.said, seconds, (), f"{UNTESTED}: {error}")
    return Told(one.name, one.said, seconds, effects, verdict_of(effects))


def _effect(wanted: EffectSettings, one: Tested) -> Effect:
    """A number of its study, from the stage that has it."""
    study = one.study
    if wanted.results:
        study = replace(
            study, results=[each for each in study.instances.values() if each.of == wanted.results]
        )
    return effect_of(wanted, cells.read(study, one.settings.prices), one.settings.repeats)


def _write(told: list[Told], settings: StudySettings, seconds: float) -> None:
    write_json_atomic(settings.out / f"{FILE}.json", [one.to_json() for one in told])
    write_text_atomic(page_of(settings), claims_page.markdown(told, settings.title, settings.about, seconds))
