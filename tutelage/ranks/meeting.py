"""How the ranks of a run find each other, and make sure that they are about to do the same.

`torchrun` says in the environment who a process is (RANK, WORLD_SIZE, LOCAL_RANK) and where all meet (MASTER_ADDR, MASTER_PORT).
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import distributed

import tutelage
from tutelage.ranks.place import Place

MISSING_AFTER = 600.0
"""Seconds until a rank that has not come is given up."""

SAID_AFTER = 20.0
"""Seconds until it is said who is waited for."""

PATIENCE = timedelta(hours=2)
"""How long a rank waits for the others in one operation: a judge may take its time on one of them."""


def meet(place: Place, device_type: str, say: Callable[[str], None]) -> None:
    """Wait until all ranks are there and let them talk; with one rank, or where whoever started them has seen to it, nothing is
    to do.

    Raises ValueError when a rank does not come.
    """
    if place.size == 1 or distributed.is_initialized():
        return
    store = _store(place)
    _wait_for_all(store, place, say)
    backend = "gloo" if device_type == "cpu" else f"cpu:gloo,{device_type}:nccl"
    distributed.init_process_group(
        backend,
        store=distributed.PrefixStore("group", store),
        rank=place.rank,
        world_size=place.size,
        timeout=PATIENCE,
    )


def _store(place: Place) -> distributed.Store:
    """What rank 0 keeps, or the process that has started the ranks (`torchrun`)."""
    try:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    except (KeyError, ValueError):
        raise ValueError(
            f"WORLD_SIZE is {place.size}, but MASTER_ADDR and MASTER_PORT do not say where the ranks meet: start them with "
            "torchrun, or leave WORLD_SIZE unset."
        ) from None
    kept_by_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    try:
        store = distributed.TCPStore(
            host,
            port,
            is_master=place.rank == 0 and not kept_by_agent,
            timeout=timedelta(seconds=MISSING_AFTER),
            wait_for_workers=False,
        )
    except (RuntimeError, distributed.DistError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"rank {place.rank} cannot reach the others at {host}:{port} ({reason}): see that rank 0 runs there and that the "
            "port is open."
        ) from None
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return distributed.PrefixStore(f"tutelage/{attempt}", store)


def _wait_for_all(store: distributed.Store, place: Place, say: Callable[[str], None]) -> None:
    store.set(f"here/{place.rank}", platform.node())
    started, said = time.monotonic(), False
    while missing := [rank for rank in range(place.size) if not store.check([f"here/{rank}"])]:
        waited, who = time.monotonic() - started, ", ".join(map(str, missing))
        ranks = f"rank{'s' * (len(missing) > 1)} {who}"
        if waited > MISSING_AFTER:
            raise ValueError(
                f"{ranks} of {place.size} did not come within {waited:.0f} s: see that a process was started for each, with the "
                "same MASTER_ADDR and MASTER_PORT."
            )
        if waited > SAID_AFTER and not said:
            say(f"Waiting for {ranks} of {place.size}.")
            said = True
        time.sleep(0.05)


def messages() -> distributed.Store:
    """What the ranks can leave messages in that have met, over a connection of its own, so that a thread may wait there."""
    store: Any = distributed.distributed_c10d._get_default_store()
    return distributed.PrefixStore("messages", store.clone())


def agree(settings: Mapping[str, Any]) -> None:
    """Raises ValueError on every rank where one runs other code or has other settings than rank 0."""
    own = {"settings": dict(settings), **_versions()}
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, own)
    first = found[0]
    for rank, other in enumerate(found):
        for name in ("code", "torch", "transformers"):
            if other[name] != first[name]:
                raise ValueError(
                    f"rank {rank} runs another {'version of tutelage' if name == 'code' else name} ({other[name]}) than rank 0 "
                    f"({first[name]}): install the same everywhere."
                )
        for key, value in first["settings"].items():
            if (there := other["settings"].get(key)) != value:
                raise ValueError(
                    f"rank {rank} has {key}={there!r} and rank 0 has {value!r}: give all ranks the same settings."
                )


@cache
def _versions() -> dict[str, str]:
    import transformers

    digest = hashlib.sha256()
    for path in sorted(Path(tutelage.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    code = f"{tutelage.__version__}, {digest.hexdigest()[:8]}"
    return {"code": code, "torch": torch.__version__, "transformers": transformers.__version__}


def part() -> None:
    """Part from the others, who are all done; without ado where they are gone."""
    if distributed.is_initialized():
        with suppress(RuntimeError):
            distributed.destroy_process_group()
