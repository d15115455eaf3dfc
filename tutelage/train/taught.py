"""What is taught as text: the teacher's responses, or those of a file; whole, or only where the student agrees.

samples.jsonl          what the teacher wrote
own.jsonl              what the student answered before it learnt, where that decides (keep=agreed)
demonstrations.jsonl   what is learnt, as rows that `sft` reads
Those about `eval_prompts` and `data` have that in their names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from tutelage.data.preflight.work import Prepared
from tutelage.data.reading.formats import First, read_demonstrations, read_prompts
from tutelage.data.reading.sources import Source, shown
from tutelage.files import write_jsonl_atomic
from tutelage.judges.verify.outcome import words
from tutelage.models.loading import context_at
from tutelage.models.policy import PolicyModule
from tutelage.parallel import World
from tutelage.records import Conversation, Demonstration, Prompt
from tutelage.rollout.drawing import Row
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.rollout.prompts import Distinct, answerable
from tutelage.rollout.written import written
from tutelage.runs import Run
from tutelage.settings.distill import DistillSettings as Settings
from tutelage.train.stage import show_preflight

Rows = Iterable[Demonstration | Conversation]


class Writer(NamedTuple):
    """A model that writes: its folder, its tokenizer, and how it is loaded where something is left to write."""

    path: str
    tokenizer: PreTrainedTokenizerBase
    load: Callable[[], PolicyModule]


@dataclass(frozen=True)
class Teaching:
    """What a run's rows are made with.  student: as it is before it learns."""

    settings: Settings
    world: World
    run: Run
    student: Writer
    teacher: Writer | None

    def responses(self, source: Source, about: str = "", limit: int = 0) -> Rows:
        """What the teacher writes to the prompts of `source`, at most `limit` of them (0: all)."""
        settings = self.settings
        assert self.teacher is not None, "settings with prompts have a teacher"
        found = fitting(source, self.teacher.tokenizer, [self.teacher.path], settings, self.run, limit)
        prompts = show_preflight(found, self.run, settings.max_dropped_share).examples
        sampling = Sampling(settings.max_new_tokens, settings.temperature, settings.samples, settings.seed)
        lines = self._written("samples", about, self.teacher, prompts, sampling)
        asked = {prompt.id: prompt for prompt in prompts}
        rows = [_demonstration(line, asked) for line in lines]
        if settings.keep == "agreed":
            return self.agreed(rows, about)
        return self._kept(map(_row, rows), about)

    def agreed(self, rows: Rows, about: str = "") -> Rows:
        """The rows whose response is what the student would say itself, word by word, and of the others the prompt with the
        abstention.  Raises ValueError for a conversation, in which no single answer can be compared."""
        given = [_single(row) for row in rows]
        asked = list({row.prompt.id: row.prompt for row in given}.values())
        likeliest = Sampling(self.settings.max_new_tokens, 0.0)
        own = {
            prompt.id: line["response"]
            for prompt, line in zip(
                asked, self._written("own", about, self.student, asked, likeliest), strict=True
            )
        }
        same = [words(row.response) == words(own[row.prompt.id]) for row in given]
        self.run.console.print(
            f"The student agrees with {sum(same):,} of {len(same):,} responses{about and f' ({about})'}; the others are replaced "
            f"by {self.settings.abstention!r}.",
            markup=False,
            highlight=False,
        )
        instead = partial(replace, response=self.settings.abstention, finish="eos")
        learnt = (row if agreed else instead(row) for row, agreed in zip(given, same, strict=True))
        return self._kept(map(_row, learnt), about)

    def _written(
        self, name: str, about: str, writer: Writer, prompts: Sequence[Prompt], sampling: Sampling
    ) -> list[Row]:
        def generator() -> LocalGenerator:
            memory = self.settings.memory_mib
            return LocalGenerator(
                writer.load(), writer.tokenizer, dtype=self.world.dtype, world=self.world, memory_mib=memory
            )

        path = self.run.folder / f"{'-'.join(filter(None, (name, about)))}.jsonl"
        what = "the student's own answers" if writer is self.student else "the teacher's responses"
        return written(path, generator, prompts, sampling, self.world, self.run, what)

    def _kept(self, rows: Iterable[Row], about: str) -> Rows:
        """The rows as they are read back from the file that says what is learnt."""
        path = self.run.folder / f"{'-'.join(filter(None, ('demonstrations', about)))}.jsonl"
        if self.world.leads:
            write_jsonl_atomic(path, rows)
        self.world.wait()
        return read_demonstrations(str(path))


def fitting(
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    readers: Sequence[str],
    settings: Settings,
    run: Run,
    limit: int = 0,
) -> Prepared[Prompt]:
    """The prompts of `source`, each once, that leave all `readers` room for a response."""
    contexts = [context for path in readers if (context := context_at(path))]
    return answerable(
        First(Distinct(read_prompts(source, settings.columns)), limit),
        tokenizer,
        min(contexts, default=None),
        settings.max_new_tokens,
        max_prompt_length=settings.max_prompt_length,
        source=shown(source),
        max_dropped_share=None,
        console=run.console,
    )


def _single(row: Demonstration | Conversation) -> Demonstration:
    if isinstance(row, Demonstration):
        return row
    raise ValueError(
        f"{row.place}: a conversation with several answers, but keep=agreed compares single ones: give rows of a prompt and a "
        "response, or set keep=all"
    )


def _demonstration(line: Mapping[str, Any], asked: Mapping[str, Prompt]) -> Demonstration:
    return Demonstration(asked[line["prompt_id"]], line["response"], line["finish"])


def _row(row: Demonstration) -> Row:
    """A row that `sft` reads."""
    return {
        "prompt": row.prompt.content_json(),
        "response": row.response,
        "response_finish": row.finish,
        "task": row.prompt.task,
        "reference": row.prompt.reference,
    }
