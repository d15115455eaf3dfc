"""From a piece of work to numbers: start one process per side, let them take turns, and sum up."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median

from benchmarks import meter
from benchmarks.peers import Peer
from benchmarks.turns import Step, Worker
from benchmarks.work import Work, flops_per_step

OURS = "Tutelage"
METER = "meter"
ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
}


@dataclass(frozen=True)
class Result:
    """What one side took for one case.

    step_s: median seconds of a step; the mean for ragged rows, whose steps differ.  low_s, high_s: the fastest and the
    slowest step.  cpu_s: processor time of a step, averaged alike; on a busy machine it moves less.  share: of the rate
    at which the machine multiplied matrices meanwhile.  speedup: how many times faster ours was than this side (median
    over pairs of steps next to each other), None for ours.
    """

    case: str
    size: str
    side: str
    step_s: float
    low_s: float
    high_s: float
    cpu_s: float
    tokens_per_s: float
    peak_mib: float
    share: float
    matmul_gflops: float
    speedup: float | None

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def measure(work: Work, peers: Sequence[Peer], logs: Path) -> list[Result]:
    """Results of every side, ours first.  Raises RuntimeError, naming the side, when one stops early."""
    commands = {OURS: [sys.executable, "-m", "benchmarks.ours", json.dumps(vars(work))]}
    for peer in peers:
        commands[peer.label] = [
            peer.python,
            "-m",
            "benchmarks.peer_trl",
            json.dumps(vars(work)),
            peer.variant,
        ]
    commands[METER] = [sys.executable, "-m", "benchmarks.meter", json.dumps(vars(work))]
    steps = _take_turns(commands, work, logs)
    gflops = median(meter.FLOPS / step.seconds for step in steps.pop(METER)) / 1e9
    return [_sum_up(work, side, taken, steps[OURS], gflops) for side, taken in steps.items()]


def _take_turns(commands: Mapping[str, list[str]], work: Work, logs: Path) -> dict[str, list[Step]]:
    """The timed steps of every side.  Sides start one after the other; the order within a round alternates."""
    env = ENVIRONMENT | ({"OMP_NUM_THREADS": str(work.threads)} if work.threads else {})
    steps: dict[str, list[Step]] = {side: [] for side in commands}
    side = OURS
    with ExitStack() as stack:
        try:
            workers = {}
            for number, (side, command) in enumerate(commands.items()):
                log = logs / f"{work.case}-{work.size}-{number}.log"
                workers[side] = worker = Worker(command, env, log)
                stack.callback(worker.close)
                worker.ready()
            for step in range(1, work.steps):
                for side in list(workers)[:: 1 if step % 2 else -1]:
                    taken = workers[side].turn()
                    if step >= work.warmup:
                        steps[side].append(taken)
        except (RuntimeError, OSError) as error:
            raise RuntimeError(f"{side} stopped at {work.case} {work.size}: {error}") from error
    return steps


def _sum_up(work: Work, side: str, taken: Sequence[Step], ours: Sequence[Step], gflops: float) -> Result:
    seconds = [step.seconds for step in taken]
    base = [step.seconds for step in ours]
    average = fmean if work.kind.ragged else median
    typical = average(seconds)
    if work.kind.ragged:
        speedup = fmean(seconds) / fmean(base)
    else:
        speedup = median(theirs / mine for theirs, mine in zip(seconds, base, strict=True))
    return Result(
        case=work.case,
        size=work.size,
        side=side,
        step_s=typical,
        low_s=min(seconds),
        high_s=max(seconds),
        cpu_s=average(step.cpu_seconds for step in taken),
        tokens_per_s=work.tokens_per_step() / typical,
        peak_mib=taken[-1].peak_mib,
        share=flops_per_step(work) / typical / (gflops * 1e9),
        matmul_gflops=gflops,
        speedup=None if side == OURS else speedup,
    )
