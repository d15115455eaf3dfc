"""How fast ranks of this machine reach each other, measured, and whether other hosts are reachable at all."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tutelage
from tutelage.doctor.asked import Asked
from tutelage.doctor.check import Check, fail, ok, warn

MASTER = "127.0.0.1"
SLOW = {"nccl": 20e9, "gloo": 0.1e9}
"""Bytes per second of an all-reduce (NCCL's bus bandwidth) below which something is wrong: PCIe gives NCCL 20 GB/s and more."""
PATIENCE = 6
"""Times the timeout: ranks load torch first."""


def checks(asked: Asked) -> Iterator[Check]:
    for host in asked.hosts:
        yield reachable(host, asked.timeout)
    yield from measured(asked.ranks, PATIENCE * asked.timeout)


def reachable(host: str, timeout: float) -> Check:
    """Whether HOST:PORT takes a connection from here."""
    name, _, port = host.rpartition(":")
    if not name or not port.isdigit() or int(port) > 65535:
        return fail(host, "is no HOST:PORT", "write it as node1:29500")
    started = time.perf_counter()
    try:
        with socket.create_connection((name.strip("[]"), int(port)), timeout):
            pass
    except OSError as error:
        why = "no answer" if isinstance(error, TimeoutError) else (error.strerror or str(error))
        do = "start what listens there (torchrun on the first node), open the port in the firewall, or correct the address"
        return fail(host, f"cannot be reached: {why}", do)
    seconds = time.perf_counter() - started
    return ok(host, f"reached in {1000 * seconds:.1f} ms", seconds=seconds)


def measured(ranks: int, timeout: float) -> Iterator[Check]:
    """Start ranks here, have them gather and sum, and read what they measured."""
    env = {**os.environ, "MASTER_ADDR": MASTER, "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(ranks)}
    root = str(Path(tutelage.__file__).parent.parent)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    env |= {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tutelage.doctor.rank"]
    started = [
        subprocess.Popen(
            command,
            env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    name = f"{ranks} ranks"
    try:
        said, wrong = _answers(started, timeout)
    except subprocess.TimeoutExpired:
        yield fail(
            name,
            f"did not meet within {timeout:g} s on {MASTER}",
            "is a firewall between processes of this machine?",
        )
        return
    finally:
        for process in started:
            process.kill()
            process.wait()
    if said is None:
        yield fail(
            name,
            f"ended without a result: {wrong}",
            "run `torchrun --nproc-per-node 2` on any script: it fails alike",
        )
    else:
        yield from told(ranks, said)


def _answers(started: list[subprocess.Popen[str]], timeout: float) -> tuple[dict[str, Any] | None, str]:
    """What the first rank measured; or None, and the last line of what a rank complained of."""
    end = time.monotonic() + timeout
    outputs = [process.communicate(timeout=max(end - time.monotonic(), 0.1)) for process in started]
    for line in reversed(outputs[0][0].splitlines()):
        if line.startswith("{"):
            found: dict[str, Any] = json.loads(line)
            return found, ""
    complaints = [err.strip().splitlines()[-1] for _, err in outputs if err.strip()]
    return None, complaints[0] if complaints else "no rank said why"


def told(ranks: int, said: dict[str, Any]) -> Iterator[Check]:
    """The checks that measurements make.  said: backend, latency (s), all_reduce and all_gather (bytes/s of the bus)."""
    backend = said["backend"]
    for kind in ("all_reduce", "all_gather"):
        rate = said[kind]
        text = f"{rate / 1e9:.2f} GB/s between {ranks} ranks ({backend})"
        if kind == "all_reduce":
            text += f", {1e6 * said['latency']:.0f} us for a small one"
        facts = {"bytes_per_second": rate, "backend": backend, "latency": said["latency"]}
        if rate < SLOW[backend]:
            do = (
                "see nvidia-smi topo -m, and NCCL_DEBUG=INFO"
                if backend == "nccl"
                else "other programs may hold the processor"
            )
            yield warn(kind.replace("_", "-"), text, do, **facts)
        else:
            yield ok(kind.replace("_", "-"), text, **facts)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((MASTER, 0))
        port: int = probe.getsockname()[1]
        return port
