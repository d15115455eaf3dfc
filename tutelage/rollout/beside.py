"""Demonstrations, and what a model writes itself to their prompts: what `irl` and `contrast` begin with.

The model's responses stand in samples.jsonl, written in fixed groups of prompts: a run that was stopped goes on with the group
that is not whole, and ends with the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tutelage.data.batch import TokenBatch
from tutelage.data.encoding import Unusable
from tutelage.data.reading.formats import read_demonstrations, walk
from tutelage.data.reading.sources import shown
from tutelage.data.template import Encoded, encode
from tutelage.files import write_jsonl_atomic
from tutelage.models.passes import forward_pass
from tutelage.parallel import World
from tutelage.records import Conversation, Demonstration, Prompt, Response
from tutelage.rollout.drawing import (
    GROUP,
    Meter,
    Row,
    add_lines,
    keep_whole_groups,
    line,
    read_answerable,
    read_lines,
)
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.runs import Run
from tutelage.settings.irl import BesideSettings, IRLSettings

AT_ONCE = 8192  # tokens in a forward
Lines = Callable[[Sequence[Response]], list[Row]]


@dataclass(frozen=True)
class Shown:
    """Demonstrations as a policy would have written them (with token ids), and their prompts, each once."""

    prompts: list[Prompt]
    demonstrations: list[Response]


def read_shown(settings: BesideSettings, generator: LocalGenerator, run: Run) -> Shown:
    """The demonstrations that end, of prompts that leave room for a response.

    Raises ValueError when there are none, or when too many rows are dropped.
    """
    prompts = {prompt.id: prompt for prompt in read_answerable(settings, generator, run)}
    read = list(walk(read_demonstrations(settings.data, settings.columns)))
    asked = [row for row in read if isinstance(row, Demonstration) and row.prompt.id in prompts]
    ended = [row for row in asked if row.finish != "length"]
    written = _written(ended, generator)
    short = [one for one in written if len(one.ids) <= settings.max_new_tokens]
    for number, why in (
        (sum(isinstance(row, Conversation) for row in read), "are conversations with several answers"),
        (len(asked) - len(ended), "have no end"),
        (len(written) - len(short), f"are longer than max_new_tokens={settings.max_new_tokens}"),
    ):
        if number:
            run.console.print(f"Left out: {number:,} demonstrations that {why}.")
    if not short:
        raise ValueError(
            f"data={shown(settings.data)} holds no demonstration that can be used: it wants prompts with one response each."
        )
    shown_to = {response.prompt.id for response in short}
    return Shown([prompt for key, prompt in prompts.items() if key in shown_to], short)


def _written(rows: Sequence[Demonstration], generator: LocalGenerator) -> list[Response]:
    """Demonstrations as responses of which the ids are known, as lengths are counted in tokens; those that cannot be tokenised
    are left out."""
    encoded = encode(generator.tokenizer, [(row.prompt, row.response, row.finish) for row in rows])
    return [
        Response(row.prompt, row.response, tuple(ids.prompt), tuple(ids.response), (), row.finish)
        for row, ids in zip(rows, encoded, strict=True)
        if not isinstance(ids, Unusable)
    ]


def draw_own(
    prompts: list[Prompt], generator: LocalGenerator, lines: Lines, settings: BesideSettings, run: Run
) -> dict[str, list[Row]]:
    """Prompt's id -> lines of samples.jsonl, those that were missing drawn now.  lines: what is written of responses."""
    path, samples = run.folder / "samples.jsonl", settings.samples
    total = len(prompts) * samples
    answered = len(keep_whole_groups(path, total, GROUP * samples)) // samples
    sampling = Sampling(settings.max_new_tokens, settings.temperature, samples, settings.seed)
    with run.progress(total, "responses") as bar:
        bar.advance(answered * samples)
        generator.progress = Meter(bar)
        for start in range(answered, len(prompts), GROUP):
            responses = generator.generate(prompts[start : start + GROUP], sampling)
            add_lines(path, lines(responses))
    own: dict[str, list[Row]] = {}
    for row in read_lines(path):
        own.setdefault(row["prompt_id"], []).append(row)
    return own


def weigh_listed(
    seen: Shown, generator: LocalGenerator, lines: Lines, settings: IRLSettings, world: World, run: Run
) -> dict[str, list[Row]]:
    """Prompt's id -> all responses that it can have, in lines with `base`: the log-probability that the model gives each.

    Raises ValueError naming a demonstration that is none of those to its prompt.
    """
    own: dict[str, list[Row]] = {prompt.id: [] for prompt in seen.prompts}
    rows = [
        row
        for row in walk(read_demonstrations(settings.candidates, settings.columns))
        if isinstance(row, Demonstration) and row.prompt.id in own
    ]
    with run.progress(len(rows), "candidates") as bar:
        for start in range(0, len(rows), GROUP):
            responses = _written(rows[start : start + GROUP], generator)
            bases = _logprobs(responses, generator, settings, world)
            for row, base in zip(lines(responses), bases, strict=True):
                own[row["prompt_id"]].append({**row, "base": base})
            bar.advance(len(responses))
    write_jsonl_atomic(run.folder / "samples.jsonl", (row for rows in own.values() for row in rows))
    for one in seen.demonstrations:
        listed = [row["response"] for row in own[one.prompt.id]]
        if one.text not in listed:
            raise ValueError(
                f"candidates={shown(settings.candidates)} lists {len(listed)} responses to the prompt "
                f"{one.prompt.text()[:60]!r}, and its demonstration is none of them: add it."
            )
    return own


def _logprobs(
    responses: Sequence[Response], generator: LocalGenerator, settings: IRLSettings, world: World
) -> list[float]:
    """Log-probability of each response, its end included, under the generator's model: nats.  Raises ValueError for one that is
    longer than a response may be."""
    longest = max((len(one.ids) for one in responses), default=0)
    if longest > settings.max_new_tokens:
        raise ValueError(
            f"a candidate has {longest} tokens, and max_new_tokens={settings.max_new_tokens}: raise it."
        )
    if not responses:
        return []
    sequences = [Encoded(list(one.prompt_ids), list(one.ids)).tokens() for one in responses]
    batch = TokenBatch.collate(sequences).to(world.device)
    read = partial(generator.model.sequence_logprobs, temperature=settings.temperature)
    found: list[float] = forward_pass(generator.model, read, batch, "sequences", AT_ONCE, world).tolist()
    return found


def plain_lines(responses: Sequence[Response]) -> list[Row]:
    """Responses by themselves."""
    return [line(response) for response in responses]
