"""A stand-in server in a thread, and generators that ask it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import uvicorn
from transformers import PreTrainedTokenizerBase

from tutelage.models.policy import PolicyModule
from tutelage.parallel import World
from tutelage.rollout.remote.canary import Canary, probes
from tutelage.rollout.remote.generator import RemoteGenerator
from tutelage.rollout.remote.plain import Plain
from tutelage.rollout.remote.pool import Pool
from tutelage.rollout.remote.vllm import Vllm
from tutelage.rollout.remote.weights import Disk
from tutelage.rollout.standin import build_app
from tutelage.rollout.standin_engine import Engine, Faults, fresh

CPU = World(torch.device("cpu"))


class Served:
    """`url`, and the engine behind it."""

    def __init__(self, url: str, engine: Engine, app: Any) -> None:
        self.url, self.engine, self.app = url, engine, app

    def wrong(self, **faults: Any) -> None:
        self.engine.faults = Faults(**faults)

    @property
    def counts(self) -> dict[str, int]:
        return self.app.state.service.counts

    @property
    def ids(self) -> dict[str, int]:
        return self.app.state.service.ids


@contextmanager
def serving(
    model: PolicyModule, tokenizer: PreTrainedTokenizerBase, *, fixed: bool = False, port: int = 0
) -> Iterator[Served]:
    """A stand-in with a copy of the model."""
    engine = fresh(model, tokenizer)
    app = build_app(engine, fixed=fixed)
    config = uvicorn.Config(app, port=port, log_level="critical", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    listener = config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}", engine, app)
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
        listener.close()


def plain(urls: Sequence[str], served: Served, **options: Any) -> RemoteGenerator:
    """A generator of weights that stay."""
    engine, options = served.engine, {"timeout": 60.0, "patience": 60.0, "at_once": 8, **options}
    pool = Pool(urls, Plain(engine.ends), **options)
    for server in pool.servers:
        server.model = "stand-in"
    return RemoteGenerator(pool, engine.tokenizer, engine.context, 1)


def learning(
    urls: Sequence[str],
    served: Served,
    folder: Path,
    temperature: float = 1.0,
    log: Any = None,
    **options: Any,
) -> RemoteGenerator:
    """A generator whose servers take weights."""
    engine, options = served.engine, {"timeout": 60.0, "patience": 60.0, "at_once": 8, **options}
    pool = Pool(urls, Vllm(engine.ends), **options)
    canary = Canary(probes(engine.tokenizer, temperature), CPU)
    way = Disk(folder, engine.tokenizer, torch.float32)
    return RemoteGenerator(pool, engine.tokenizer, engine.context, 1, way=way, canary=canary, log=log)
