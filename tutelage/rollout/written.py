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

    Rank 0 draws and writes, the others wait and read.
    """
    if world.leads:
        total = len(prompts) * sampling.samples
        there = len(keep_whole_groups(path, total, GROUP * sampling.samples))
        if there < total:
            generator = load()
            with run.progress(total, what, done=there) as bar:
                generator.progress = Meter(bar)
                for start in range(there // sampling.samples, len(prompts), GROUP):
                    chunk = list(prompts[start : start + GROUP])
                    add_lines(path, map(line, generator.generate(chunk, sampling)))
    world.wait()
    return read_lines(path)
