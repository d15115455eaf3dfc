"""What a model writes to prompts, once, on disk.

In fixed groups: a run that was stopped goes on with the group that is not whole, and ends with the same lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tutelage.parallel import World
from tutelage.records import Prompt
from tutelage.rollout.drawing import GROUP, Meter, Row, add_lines, keep_whole_groups, line, read_lines
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.runs import Run


def written(
    path: Path,
    load: Callable[[], LocalGenerator],
    prompts: Sequence[Prompt],
    sampling: Sampling,
    world: World,
    run: Run,
    what: str,
) -> list[Row]:
    """The lines of the file at `path` (`drawing.line`), prompt-major, `sampling.samples` for each prompt: those that are there
    already, and the rest, drawn now by what `load` gives, which is asked only then.  what: named on the progress bar.

    All ranks draw, where `load` gives a generator that they share; rank 0 writes.
    """
    total, group = len(prompts) * sampling.samples, GROUP * sampling.samples
    there = world.told(lambda: len(keep_whole_groups(path, total, group)))
    if there < total:
        generator = load()
        with run.progress(total, what, done=there) as bar:
            generator.progress = Meter(bar)
            for start in range(there // sampling.samples, len(prompts), GROUP):
                chunk = list(prompts[start : start + GROUP])
                responses = generator.generate(chunk, sampling)
                if world.leads:
                    add_lines(path, map(line, responses))
    world.wait()
    return read_lines(path)
