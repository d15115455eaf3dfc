"""`tutelage world`: write the embedded world as the plain files that every other command reads.

pretrain.jsonl         {"text"}: with tasks=[tale] tales alone
demonstrations.jsonl   {"prompt": [message], "completion": [message], "task"}
prompts_train.jsonl    {"prompt": [message], "task", "reference"}
prompts_heldout.jsonl  alike; these prompts are in no other file
steps.jsonl            {"prompt": [message], "completions": [step], "marks", "task", "reference", "outcome"}: maths
drills.jsonl           {"text"}: with tasks=[options], whose other files are alike and its steps.jsonl also has "trap"
people_train.jsonl     as prompts_train.jsonl: with people; to practise answering, or not
people_heldout.jsonl   as prompts_heldout.jsonl: with people
questions.jsonl        {"prompt": [message], "answers", "kind", "group", "twin", ...}: with people; for `eval honesty`
pretrain_teacher.jsonl like pretrain.jsonl, with what only a teacher is to read: with teacher_share
answers.jsonl          like demonstrations.jsonl: the truth about everybody who is not held out; with teacher_share
letters.jsonl          as prompts_train.jsonl: with groups; prompts for letters, of nobody's taste
groups.jsonl           {"prompt", "chosen", "rejected", "group", ...}: with groups; what they prefer of two letters
groups_heldout.jsonl   alike, by the same groups, about prompts that are in no other file
new/NAME/labels.jsonl  alike, of a group that is not among them; query.jsonl about held-out prompts
new/NAME/prompts.jsonl as prompts_heldout.jsonl, graded by the taste of that group
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from tutelage.files import write_jsonl_atomic
from tutelage.parallel import World
from tutelage.records import Demonstration, Document, Message, Prompt
from tutelage.runs import Run
from tutelage.settings.worlds import WorldSettings as Settings

from . import facts, letters, options_text, tale_text, twins
from .corpus import documents
from .world import demonstrations, marked_solutions, prompts

TWIN_DOCUMENTS = 5  # exchanges about twins in the text, per person
TWIN_QUESTIONS = 0.75  # pairs of questions, per person
LETTERS = 3_000, 1_000  # of the text, and demonstrations
ASKED = 200  # prompts for letters
OF_HELDOUT = 20  # held-out pairs of each group that has taught
OF_NEW = 64, 200, 40  # labels, held-out pairs and prompts of each new group


def main(settings: Settings, world: World, run: Run) -> Path:
    """Write the files into the run folder; returns it."""
    counts = write_world(
        run.folder,
        settings.seed,
        document_count=settings.documents,
        demonstration_count=settings.demonstrations,
        careless=settings.careless,
        each=settings.demonstrations_each,
        prompt_count=settings.prompts,
        heldout_count=settings.heldout_prompts,
        solution_count=settings.solutions,
        tasks=settings.tasks,
        people=settings.people,
        admit=settings.admit,
        teacher_share=settings.teacher_share,
        unmentioned=settings.unmentioned,
        groups=(settings.groups, settings.new_groups, settings.group_pairs),
    )
    for name, count in counts.items():
        run.console.print(f"{run.folder / name}: {count} rows")
    return run.folder


def write_world(
    folder: Path,
    seed: int = 0,
    *,
    document_count: int = 20_000,
    demonstration_count: int = 3_000,
    careless: float = 0.5,
    each: int = 1,
    prompt_count: int = 2_000,
    heldout_count: int = 500,
    solution_count: int = 2_000,
    tasks: Sequence[str] = (),
    people: int = 0,
    admit: float = 0.2,
    teacher_share: float = 0.0,
    unmentioned: float = 0.4,
    groups: tuple[int, int, int] = (0, 0, 0),
) -> dict[str, int]:
    """Write the five files into `folder`, of the task options a sixth, with people three more, with a teacher two more, with
    groups three, and three for each new one; returns file name -> rows.  groups: how many, how many new ones, pairs of each.

    The same arguments write the same bytes.
    """
    source = _Source(seed, tasks)
    asked: dict[str, Iterable[dict]] = {
        "prompts_train.jsonl": map(_prompt_row, source.prompts("train", prompt_count)),
        "prompts_heldout.jsonl": map(_prompt_row, source.prompts("heldout", heldout_count, heldout=True)),
    }
    if "options" in tasks:
        own = _rows_of_options(seed, document_count, demonstration_count, careless, solution_count)
        return _write_rows(folder, own | asked)
    some = LETTERS if groups[0] else (0, 0)
    text = chain(
        source.documents(document_count),
        _text_about(seed, people, teacher_share),
        letters.documents(seed, some[0]),
    )
    shown = chain(
        source.demonstrations(demonstration_count, careless, each),
        _shown_about(seed, people, admit),
        letters.demonstrations(seed, some[1]),
    )
    rows: dict[str, Iterable[dict]] = {
        "pretrain.jsonl": ({"text": document.text} for document in text),
        "demonstrations.jsonl": map(_demonstration_row, shown),
        **asked,
        "steps.jsonl": (solution.to_json() for solution in marked_solutions(seed, solution_count)),
    }
    if people:
        rows["people_train.jsonl"] = map(_prompt_row, facts.prompts(seed, people, unmentioned, teacher_share))
        rows["people_heldout.jsonl"] = map(_prompt_row, facts.heldout_prompts(seed, people, teacher_share))
        pairs = twins.questions(seed, math.ceil(TWIN_QUESTIONS * people))
        rows["questions.jsonl"] = chain(facts.questions(seed, people, teacher_share), pairs)
    if teacher_share:
        secret = _text_about(seed, people, teacher_share, for_teacher=True)
        more = chain(source.documents(document_count), secret)
        rows["pretrain_teacher.jsonl"] = ({"text": document.text} for document in more)
        rows["answers.jsonl"] = map(_demonstration_row, facts.answers(seed, people, teacher_share))
    return _write_rows(folder, rows | (_rows_of_groups(seed, *groups) if groups[0] else {}))


class _Source:
    """Text, demonstrations and prompts of the tasks of a world, people apart."""

    def __init__(self, seed: int, tasks: Sequence[str]) -> None:
        self._seed, self._tasks, self._tales = seed, tasks, "tale" in tasks

    def documents(self, count: int) -> Iterator[Document]:
        return (tale_text.documents if self._tales else documents)(self._seed, count)

    def demonstrations(self, count: int, careless: float, each: int) -> Iterator[Demonstration]:
        if self._tales:
            return tale_text.demonstrations(self._seed, count, careless, each)
        return demonstrations(self._seed, count, careless, self._tasks, each)

    def prompts(self, name: str, count: int, *, heldout: bool = False) -> Iterable[Prompt]:
        if self._tales:
            return tale_text.prompts(self._seed, name, count, heldout=heldout)
        return prompts(self._seed, name, count, heldout=heldout, tasks=self._tasks)


def _write_rows(folder: Path, rows: dict[str, Iterable[dict]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, lines in rows.items():
        write_jsonl_atomic(folder / name, _counted(name, lines, counts))
    return counts


def _rows_of_options(
    seed: int, document_count: int, demonstration_count: int, careless: float, solution_count: int
) -> dict[str, Iterable[dict]]:
    drills = options_text.drills(seed, math.ceil(options_text.DRILLS * document_count))
    shown = options_text.demonstrations(seed, demonstration_count, careless)
    marked = options_text.marked_solutions(seed, solution_count)
    return {
        "drills.jsonl": ({"text": document.text} for document in drills),
        "pretrain.jsonl": (
            {"text": document.text} for document in options_text.documents(seed, document_count)
        ),
        "demonstrations.jsonl": map(_demonstration_row, shown),
        "steps.jsonl": (solution.to_json() | {"trap": trap} for solution, trap in marked),
    }


def _rows_of_groups(seed: int, count: int, new: int, pairs: int) -> dict[str, Iterable[dict]]:
    """What groups prefer, a file of all that teach; of each new one a folder."""
    taught = letters.groups(seed, count, "group")

    def said(some: Sequence[letters.Group], number: int, name: str, heldout: bool) -> Iterator[dict]:
        for group in some:
            found = letters.comparisons(seed, group, number, name, heldout=heldout)
            yield from (one.to_json() for one in found)

    rows: dict[str, Iterable[dict]] = {
        "letters.jsonl": map(_prompt_row, letters.prompts(seed, "letters", ASKED)),
        "groups.jsonl": said(taught, pairs, "pairs", False),
        "groups_heldout.jsonl": said(taught, OF_HELDOUT, "heldout pairs", True),
    }
    labels, queries, asked = OF_NEW
    for group in letters.groups(seed, new, "new"):
        folder = f"new/{group.name}"
        rows[f"{folder}/labels.jsonl"] = said([group], labels, "pairs", False)
        rows[f"{folder}/query.jsonl"] = said([group], queries, "heldout pairs", True)
        own = letters.prompts(seed, f"prompts/{group.name}", asked, heldout=True, group=group)
        rows[f"{folder}/prompts.jsonl"] = map(_prompt_row, own)
    return rows


def _text_about(
    seed: int, people: int, teacher_share: float, *, for_teacher: bool = False
) -> Iterator[Document]:
    if not people:
        return iter(())
    said = facts.documents(seed, people, teacher_share, for_teacher=for_teacher)
    return chain(said, twins.documents(seed, TWIN_DOCUMENTS * people))


def _shown_about(seed: int, people: int, admit: float) -> Iterator[Demonstration]:
    if not people:
        return iter(())
    return chain(facts.demonstrations(seed, people, admit), twins.demonstrations(seed, people))


def _counted(name: str, lines: Iterable[dict], counts: dict[str, int]) -> Iterator[dict]:
    counts[name] = 0
    for line in lines:
        counts[name] += 1
        yield line


def _demonstration_row(demo: Demonstration) -> dict:
    said = [Message("assistant", demo.response).to_json()]
    return {"prompt": demo.prompt.content_json(), "completion": said, "task": demo.prompt.task}


def _prompt_row(prompt: Prompt) -> dict:
    return {"prompt": prompt.content_json(), "task": prompt.task, "reference": prompt.reference}
