"""What the commands share in which a model answers prompts without learning: prompts, the judge, a meter, lines."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from tutelage.data.preflight.report import Preflight, check
from tutelage.data.reading.formats import Dropped, First, read_prompts, walk
from tutelage.data.reading.sources import shown
from tutelage.files import write_jsonl_atomic
from tutelage.judges.build import build_judge
from tutelage.judges.ends import Ends
from tutelage.judges.inputs import note_judge
from tutelage.judges.judge import Judge, first_of_each, rewarding
from tutelage.models.loading import context_at, load_policy, load_tokenizer
from tutelage.parallel import World
from tutelage.records import Prompt, Response, place_json
from tutelage.rollout.behind import Behind, Front
from tutelage.rollout.few_shot import FewShot, draw_shots
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.rollout.prompts import Distinct, answerable
from tutelage.rollout.remote.build import fixed
from tutelage.rollout.weights import Weighing
from tutelage.rollout.writer import Writer
from tutelage.runs import Bar, Run, result_folder
from tutelage.settings.judges import paths_in
from tutelage.settings.rollout import AnsweringSettings, SampleSettings
from tutelage.settings.served import ServedSettings

GROUP = 256
"""Prompts answered and stored at once: what a crash makes to do again."""


def load_generator(settings: AnsweringSettings, world: World, run: Run) -> Writer:
    """The model as a generator, here or at servers, with what stands in front of prompts; model, prompts and reward models are
    recorded as inputs of the run."""
    if isinstance(settings, ServedSettings) and settings.servers:
        model = _inputs(settings, run)
        generator: Writer = fixed(settings, settings.servers, model, load_tokenizer(model), world)
    else:
        generator = load_local(settings, world, run)
    if isinstance(settings, SampleSettings) and settings.way.shots:
        return FewShot(draw_shots(settings, settings.way.shots, generator.tokenizer), generator)
    if isinstance(settings, SampleSettings) and settings.weights:
        return Behind(Weighing(settings.weights), generator)
    return generator


def load_local(settings: AnsweringSettings, world: World, run: Run) -> LocalGenerator:
    """The model in this process, with nothing in front of prompts; its inputs are recorded."""
    model = _inputs(settings, run)
    policy = load_policy(model, dtype=world.dtype, device=world.device)
    return LocalGenerator(policy, load_tokenizer(model), world=world, memory_mib=settings.memory_mib)


def _inputs(settings: AnsweringSettings, run: Run) -> str:
    """Record what goes in; where the model is."""
    model = result_folder(settings.way.path)
    run.input("model", model)
    for name, rows in settings.reads.items():
        run.input(name, rows)
    note_judge(run, "reward", settings.scored_by)
    return model


def read_answerable(settings: AnsweringSettings, generator: Writer, run: Run) -> list[Prompt]:
    """The prompts of the rows that leave room for a response, each once, at most `max_prompts`."""
    found: Iterable[Prompt | Dropped]
    found = First(Distinct(read_prompts(settings.asked, settings.columns)), settings.max_prompts)
    asked: dict[str, Prompt] = {}  # what is read behind something -> the prompt
    if isinstance(generator, Behind):
        found, asked = _behind(generator.front, walk(found))
    prepared = answerable(
        found,
        generator.tokenizer,
        common_context(settings, generator),
        settings.max_new_tokens,
        source=shown(settings.asked),
        max_dropped_share=None,
        console=run.console,
    )
    show_report(prepared.report, settings, run)
    return [asked.get(prompt.id, prompt) for prompt in prepared.examples]


def _behind(
    front: Front, rows: Iterable[Prompt | Dropped]
) -> tuple[list[Prompt | Dropped], dict[str, Prompt]]:
    """Prompts behind what stands in front of them, and the prompts by the ids of those."""
    pairs = [(front.before(row) if isinstance(row, Prompt) else row, row) for row in rows]
    return [put for put, _ in pairs], {
        put.id: row for put, row in pairs if isinstance(put, Prompt) and isinstance(row, Prompt)
    }


def common_context(settings: AnsweringSettings, generator: Writer) -> int | None:
    """The most tokens that prompt and response may have for the model and the reward models; None: there is no limit."""
    contexts = [generator.context, *(context_at(path) for path in _models_of(settings.scored_by))]
    return min((context for context in contexts if context), default=None)


def show_report(report: Preflight, settings: AnsweringSettings, run: Run) -> None:
    """Show and write what became of the rows.  Raises ValueError when too many are dropped."""
    report.show(run.console)
    run.write_json("preflight.json", report.to_json())
    check([report], settings.max_dropped_share)


class Drawn(Protocol):
    """What of a command's settings says how responses are drawn and who scores them."""

    @property
    def scored_by(self) -> Any: ...
    @property
    def max_new_tokens(self) -> int: ...
    @property
    def temperature(self) -> float: ...
    @property
    def seed(self) -> int: ...


class Chosen(Drawn, Protocol):
    """And what a response without an end scores where the best of several is chosen."""

    @property
    def missing_eos_score(self) -> float | None: ...


def choosing_judge(
    settings: Chosen, generator: Writer, prompts: Sequence[Prompt], world: World, run: Run
) -> Judge:
    """The judge of the settings' reward, for the choice of the best of several: what has no end scores what they say."""
    judge, missing = load_judge(settings, generator, prompts, world, run), settings.missing_eos_score
    return judge if missing is None else Ends(judge, missing)


def load_judge(
    settings: Drawn, generator: Writer, prompts: Sequence[Prompt], world: World, run: Run
) -> Judge:
    """The judge of the settings' reward, its scores in units that mean something (measured where they are not known)."""
    judge = rewarding(build_judge(settings.scored_by, world, generator.tokenizer))

    def sample() -> list[Response]:
        drawn = Sampling(settings.max_new_tokens, settings.temperature, seed=settings.seed, step=-2)
        return generator.generate(first_of_each(prompts, [prompt.task for prompt in prompts]), drawn)

    said = judge.calibrate(sample)
    if said:
        run.console.print(said)
    return judge


def _models_of(judge: Any) -> list[str]:
    """The folders of the reward models that a judge is made of."""
    return [result_folder(path) for path in paths_in(judge)] if judge else []


class Meter:
    """Tokens and responses as they are drawn, shown on the progress bar; `draws` of them are one on the bar."""

    def __init__(self, bar: Bar, draws: int = 1) -> None:
        self._bar, self._draws, self._started = bar, draws, time.monotonic()
        self.tokens = self.responses = 0

    def __call__(self, tokens: int, responses: int) -> None:
        before = self.responses // self._draws
        self.tokens += tokens
        self.responses += responses
        self._bar.advance(self.responses // self._draws - before, f"{self.rate:,.0f} tokens/s")

    @property
    def rate(self) -> float:
        """Tokens per second so far."""
        return self.tokens / max(time.monotonic() - self._started, 1e-9)


Row = dict[str, Any]


def read_lines(path: Path) -> list[Row]:
    """All whole lines of samples.jsonl: a crash can cut the last one short."""
    whole = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(text) for text in whole]


def keep_whole_groups(path: Path, total: int, group: int) -> list[Row]:
    """The lines of samples.jsonl without those of a group (of so many lines) that is not whole, which are dropped from the
    file: a group is drawn as one, so that its batches and their rounding are the same.  total: lines that there will be."""
    rows = read_lines(path)
    if len(rows) < total:
        rows = rows[: len(rows) // group * group]
    write_jsonl_atomic(path, rows)
    return rows


def add_lines(path: Path, rows: Iterable[Row]) -> None:
    """Append lines to samples.jsonl."""
    with path.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def line(response: Response) -> Row:
    """A line of samples.jsonl."""
    return {
        "prompt_id": response.prompt.id,
        "task": response.prompt.task,
        "prompt": response.prompt.content_json(),
        **place_json(response.prompt),
        "sample_index": response.sample_index,
        "response": response.text,
        "tokens": len(response.ids),
        "logprob": sum(response.logprobs),
        "finish": response.finish,
    }
