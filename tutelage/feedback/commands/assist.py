"""`tutelage assist`: an assistant says what it finds in the responses of pairs, for people to see before they vote.

Who sees it the project decides (`show_help`, `help_control`), when a pair is first shown.  What was said of a pair stays: the
same command again goes on with the pairs that are left.
"""

from __future__ import annotations

from pathlib import Path

from tutelage.feedback.commands.label import spread
from tutelage.feedback.commands.voters import both_of
from tutelage.feedback.training.source import responses_digest
from tutelage.judges.assist.assistant import advise
from tutelage.judges.assist.build import build_assistant
from tutelage.runs import Run, result_folder
from tutelage.settings.assist import AssistedOptions, read_assistant
from tutelage.settings.base import build
from tutelage.settings.feedback import AssistSettings as Settings
from tutelage.store import Store

AT_ONCE = 64
"""Pairs in one transaction: what a crash makes to do again."""


def main(settings: Settings, world: None, run: Run) -> Path:
    """Say something of every pair; returns the run folder.  Raises ValueError where the project has no pairs."""
    options = build(
        AssistedOptions,
        {"assistant": settings.assistant, "control": 0.0, "adversarial": settings.adversarial},
    )
    for path in read_assistant(settings.assistant).models:
        run.input("assistant", result_folder(path))
    source = f"store:{settings.project}"
    with Store(settings.store) as store:
        run.input("responses", source, responses_digest(source, settings.store))
        pairs = store.pairs(settings.project)
        if not pairs:
            raise ValueError(
                f"project '{settings.project}' in {store.place} has no pairs: build items of type pair first, in the browser or "
                "with `label`."
            )
        assistant = build_assistant(settings.assistant, store=settings.store, project=settings.project)
        drawn = spread(pairs, settings.max_pairs or len(pairs), settings.seed)
        there = store.helped_by(settings.project, assistant.name)
        waiting = [pair for pair in pairs if pair.item_id in drawn and pair.item_id not in there]
        run.begin()
        told = 0
        with run.progress(len(waiting), "pairs") as bar:
            for start in range(0, len(waiting), AT_ONCE):
                some = waiting[start : start + AT_ONCE]
                found = advise(assistant, options, [both_of(pair) for pair in some], settings.seed)
                said = [(pair.item_id, one.help) for pair, one in zip(some, found, strict=True)]
                told += store.add_help(settings.project, said)
                bar.advance(len(some))
    run.console.print(
        f"{assistant.name} has said something of {told} pairs, and of {len(there & drawn)} before. People see it where the "
        "project shows it (show_help).",
        markup=False,
    )
    run.log({"helped_pairs": float(told + len(there & drawn))})
    run.commit(0)
    return run.folder
