"""The command `revise`: critique and revision by a constitution (Bai et al. 2022, arXiv 2212.08073, section 3).

Each response is criticised by a principle and written anew, `rounds` times, each time by another principle.  What came of it
teaches in two ways: demonstrations.jsonl {prompt, response}: the last revision, for `sft`; preference.jsonl {prompt, chosen,
rejected}: the last revision against what was there before, for `reward` and `dpo`, where the two differ.  revisions.jsonl: every
critique and every version.

All questions are in the store and are asked once (`judges/llm/asking.py`), so that a run that was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tutelage.data.reading.formats import read_demonstrations, walk
from tutelage.files import write_jsonl_atomic
from tutelage.judges.llm.asking import Asker, Call
from tutelage.judges.llm.build import asking
from tutelage.judges.llm.questions import text_params
from tutelage.judges.llm.templates import Template, principle_for, read_constitution, read_template
from tutelage.judges.llm.verdict import without_reasoning
from tutelage.records import Demonstration, Prompt
from tutelage.runs import Run
from tutelage.seeds import rng
from tutelage.settings.judges import LLM, LLMOptions, read_parts
from tutelage.settings.rollout import ReviseSettings as Settings
from tutelage.store import Answer

AT_ONCE = 256  # responses; a crash makes nothing to do again, but what is on the way


@dataclass(frozen=True)
class Draft:
    """A response on its way: `versions`, the first as it was, and what was said of each but the last."""

    prompt: Prompt
    versions: tuple[str, ...]
    critiques: tuple[str, ...] = ()
    principles: tuple[str, ...] = ()
    lost: str = ""  # why there is no last version

    @property
    def last(self) -> str:
        return self.versions[-1]


@dataclass
class Writer:
    """Asks the model."""

    asker: Asker
    endpoint: Any
    options: LLMOptions
    constitution: Sequence[str]
    critique: Template = field(default_factory=lambda: read_template("critique", ["critique"]))
    revision: Template = field(default_factory=lambda: read_template("revision", ["revision"]))

    def round(self, drafts: Sequence[Draft], number: int) -> list[Draft]:
        """Each draft with one more critique and version; one that is lost stays as it is."""
        going = [at for at, draft in enumerate(drafts) if not draft.lost]
        principles = {at: self._principle(drafts[at], number) for at in going}
        said = self._ask(
            self.critique, [(drafts[at], principles[at], "") for at in going], f"critique {number}"
        )
        found = list(drafts)
        criticised = []
        for at, answer in zip(going, said, strict=True):
            if why := unusable(answer):
                found[at] = replace(drafts[at], lost=f"the critique {why}")
            else:
                criticised.append((at, without_reasoning(answer.text)))
        asked = [(drafts[at], principles[at], critique) for at, critique in criticised]
        written = self._ask(self.revision, asked, f"revision {number}")
        for (at, critique), answer in zip(criticised, written, strict=True):
            draft = drafts[at]
            if why := unusable(answer):
                found[at] = replace(draft, lost=f"the revision {why}")
                continue
            found[at] = replace(
                draft,
                versions=(*draft.versions, without_reasoning(answer.text)),
                critiques=(*draft.critiques, critique),
                principles=(*draft.principles, principles[at]),
            )
        return found

    def _principle(self, draft: Draft, number: int) -> str:
        """Another one in every round, as long as there are others."""
        left = [one for one in self.constitution if one not in draft.principles] or list(self.constitution)
        return principle_for(left, draft.prompt.id, draft.versions[0], str(number))

    def _ask(self, template: Template, about: Sequence[tuple[Draft, str, str]], what: str) -> list[Answer]:
        calls = []
        for draft, principle, critique in about:
            texts = {"prompt": draft.prompt.text(), "draft": draft.last} | (
                {"critique": critique} if critique else {}
            )
            messages = template.messages("text", principle=principle, **texts)
            calls.append(Call(tuple(messages), text_params(self.options), what, draft.prompt.id))
        return self.asker.ask(calls, self.endpoint) if calls else []


def unusable(answer: Answer) -> str:
    """Why an answer is no text to go on with; "" where it is one."""
    if answer.status == "refused":
        return "was refused"
    if answer.finish == "length":
        return "was cut off (max_tokens)"
    return "" if without_reasoning(answer.text) else "is empty"


def main(settings: Settings, world: None, run: Run) -> Path:
    """Revise; returns the run folder.  Raises ValueError for unusable inputs, and where no response could be revised."""
    [part] = read_parts(settings.judge)
    name = str(part.judge).removeprefix(LLM)
    asker, endpoint = asking(f"revise:{name}", name, part.options, settings.calls)
    writer = Writer(asker, endpoint, part.options, read_constitution(settings.constitution))
    run.input("data", settings.data)
    drafts = _drafts(settings)
    run.begin()
    found: list[Draft] = []
    with run.progress(len(drafts), "responses") as bar:
        for start in range(0, len(drafts), AT_ONCE):
            some = drafts[start : start + AT_ONCE]
            for number in range(1, settings.rounds + 1):
                some = writer.round(some, number)
            found += some
            bar.advance(len(some))
    _close(found, asker, run)
    return run.folder


def _drafts(settings: Settings) -> list[Draft]:
    rows = [
        Draft(row.prompt, (row.response,))
        for row in walk(read_demonstrations(settings.data, settings.columns))
        if isinstance(row, Demonstration)
    ]
    if not rows:
        raise ValueError(
            f"data={settings.data} has no prompts with responses: give samples.jsonl of `sample`, say."
        )
    if settings.max_rows and settings.max_rows < len(rows):
        chosen = rng(settings.seed, "revise", "rows").permutation(len(rows))[: settings.max_rows]
        rows = [rows[number] for number in sorted(chosen)]
    return rows


def _close(found: Sequence[Draft], asker: Asker, run: Run) -> None:
    """Write the files, and say what was left out and why."""
    done = [draft for draft in found if not draft.lost]
    changed = [draft for draft in done if draft.last != draft.versions[0]]
    lost: dict[str, int] = {}
    for draft in found:
        if draft.lost:
            lost[draft.lost] = lost.get(draft.lost, 0) + 1
    if not done:
        raise ValueError(
            f"none of {len(found)} responses could be revised: {said(lost)}. See to the model, or raise max_tokens."
        )
    write_jsonl_atomic(run.folder / "revisions.jsonl", map(_revision, found))
    write_jsonl_atomic(
        run.folder / "demonstrations.jsonl", (_prompt(draft) | {"response": draft.last} for draft in done)
    )
    write_jsonl_atomic(
        run.folder / "preference.jsonl",
        (_prompt(draft) | {"chosen": draft.last, "rejected": draft.versions[0]} for draft in changed),
    )
    spent = asker.spent()
    figures = {
        "responses": float(len(found)),
        "revised": float(len(changed)),
        "unchanged_rate": 1 - len(changed) / len(done),
        "lost_rate": 1 - len(done) / len(found),
        "prompt_tokens": float(spent.prompt_tokens),
        "completion_tokens": float(spent.completion_tokens),
        "judge_cost": spent.cost,
    }
    run.log(figures)
    run.commit(len(done))
    run.console.print(
        f"{len(changed)} of {len(found)} responses written anew, {len(done) - len(changed)} unchanged, "
        f"{len(found) - len(done)} lost{f' ({said(lost)})' if lost else ''}. "
        f"{spent.answered:,} answers so far, cost {spent.cost:.4g}.",
        markup=False,
        highlight=False,
    )


def said(lost: dict[str, int]) -> str:
    """Reasons with their counts."""
    return ", ".join(f"{why}: {count}" for why, count in sorted(lost.items()))


def _prompt(draft: Draft) -> dict[str, Any]:
    prompt = draft.prompt
    return {
        "prompt": prompt.content_json(),
        "task": prompt.task,
        "reference": prompt.reference and dict(prompt.reference),
    }


def _revision(draft: Draft) -> dict[str, Any]:
    return _prompt(draft) | {
        "versions": list(draft.versions),
        "critiques": list(draft.critiques),
        "principles": list(draft.principles),
        "lost": draft.lost,
    }
