"""What is to be checked: as `doctor` is told, or as a run would need it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tutelage.commands import find, settings_class
from tutelage.settings.base import Settings, load
from tutelage.settings.doctor import CheckGroup, DoctorSettings
from tutelage.settings.judges import HTTP, HTTPS, LLM, WRITTEN, read_parts, written_reward
from tutelage.settings.pipeline import RunPipelineSettings

STORE = Path("runs/store.sqlite")
REWARDS = ("reward", "cost", "monitor", "judge")
"""Settings that say who scores."""
EVERYTHING: tuple[CheckGroup, ...] = (
    "versions",
    "extras",
    "devices",
    "memory",
    "disk",
    "store",
    "endpoints",
    "interconnect",
    "run",
)


@dataclass(frozen=True)
class Server:
    """A server to be asked.  kind: chat (a judge that is asked in words), scores (a judge over HTTP), completions (whoever
    writes responses).  logprobs: whether it must give them."""

    url: str
    kind: str
    model: str = ""
    key_env: str = ""
    logprobs: bool = False


@dataclass(frozen=True)
class Asked:
    """run: the settings of the run that is checked; None where there is none.  stages: name -> settings, of a pipeline."""

    groups: tuple[CheckGroup, ...]
    out: Path
    needs: float
    store: str
    workers: int
    servers: tuple[Server, ...]
    hosts: tuple[str, ...]
    ranks: int
    timeout: float
    run: Settings | None = None
    command: str = ""
    stages: Mapping[str, Settings] = field(default_factory=dict)

    @property
    def on_server(self) -> bool:
        """Whether the store is a database server's."""
        return "://" in self.store and not self.store.startswith("sqlite")


def asked(settings: DoctorSettings) -> Asked:
    """Raises ValueError for an unknown command, and for settings that it would refuse."""
    run = None
    if settings.command:
        run = load(settings_class(find(settings.command)), settings.settings)
    servers = [
        Server(url, "completions", settings.model, settings.key_env, logprobs=True)
        for url in settings.endpoints
    ]
    stages = _stages_of(run)
    for one in (run, *stages.values()):
        servers += _servers_of(one) if one else []
    store = settings.store or (_store_beside(run, stages) if stages else _store_of(run))
    out = Path(getattr(run, "out", settings.out))
    groups = settings.checks or [
        group
        for group in EVERYTHING
        if (group != "run" or run)
        and (group != "store" or store)
        and (group != "endpoints" or servers)
        and (group != "interconnect" or settings.hosts)
    ]
    return Asked(
        tuple(groups),
        out,
        settings.needs_gib * 2**30,
        store,
        settings.workers,
        tuple(dict.fromkeys(servers)),
        tuple(settings.hosts),
        settings.ranks,
        settings.timeout,
        run,
        settings.command,
        stages,
    )


def _stages_of(run: Settings | None) -> dict[str, Settings]:
    """Those of a pipeline.  Raises ValueError for what it would refuse."""
    if not isinstance(run, RunPipelineSettings):
        return {}
    from tutelage.pipeline import plan

    return {stage.name: stage.settings for stage in plan(run)}


def made_by(run: Settings | None, path: str) -> bool:
    """Whether a pipeline makes this itself, so that it need not be there before."""
    return isinstance(run, RunPipelineSettings) and Path(path).is_relative_to(run.out)


def _store_beside(run: Settings | None, stages: Mapping[str, Settings]) -> str:
    """The first store that stages use and do not make."""
    return next(
        (found for one in stages.values() if (found := _store_of(one)) and not made_by(run, found)), ""
    )


def _store_of(run: Settings | None) -> str:
    """The store that a run uses; without one that which lies at the usual place, if any does."""
    if run is None:
        return str(STORE) if STORE.exists() else ""
    named = str(getattr(run, "store", ""))
    sources = getattr(run, "data", "")
    of_store = "store:" in str(sources) or not hasattr(run, "data")
    return named if named and of_store else ""


def _servers_of(run: Settings) -> Iterator[Server]:
    for name in REWARDS:
        if given := getattr(run, name, None):
            yield from _of_reward(given)
    for url in getattr(run, "servers", []):
        key, model = getattr(run, "rollouts_key_env", ""), getattr(run, "rollouts_model", "")
        yield Server(
            f"{url.removesuffix('/').removesuffix('/v1')}/v1", "completions", model, key, logprobs=True
        )


def _of_reward(given: Any) -> Iterator[Server]:
    for part in read_parts(given):
        if part.kind == WRITTEN:
            yield from _of_reward(written_reward(str(part.judge)))
        elif part.kind == LLM and part.options.url:
            model = str(part.judge).removeprefix(LLM)
            weighed = part.options.mode == "logits"
            yield Server(part.options.url, "chat", model, part.options.key_env, weighed)
        elif part.kind in (HTTP, HTTPS):
            yield Server(str(part.judge), "scores", key_env=part.options.token_env)
