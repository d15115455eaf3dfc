"""From settings to a generator whose responses servers draw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from transformers import GenerationConfig, PreTrainedTokenizerBase

from tutelage.models.ends import end_ids
from tutelage.models.loading import config_of, context_at, context_of, imagine
from tutelage.models.memory import imagining
from tutelage.models.policy import PolicyModule
from tutelage.parallel import World
from tutelage.rollout.remote.canary import Canary, probes
from tutelage.rollout.remote.generator import Log, RemoteGenerator
from tutelage.rollout.remote.greeting import greet
from tutelage.rollout.remote.plain import Plain
from tutelage.rollout.remote.pool import Pool
from tutelage.rollout.remote.vllm import Vllm
from tutelage.rollout.remote.weights import Disk
from tutelage.rollout.remote.wire import Dialect
from tutelage.rollout.writer import Progress
from tutelage.settings.served import AskingSettings, SyncedSettings

WEIGHTS = "rollout-weights"


def fixed(
    settings: AskingSettings,
    servers: Sequence[str],
    path: str,
    tokenizer: PreTrainedTokenizerBase,
    world: World,
    progress: Progress | None = None,
) -> RemoteGenerator:
    """A model that servers (their URLs) hold and nobody changes: of the one at `path` only tokenizer and configuration are read.

    Raises ValueError for servers that do not serve it.
    """
    host = SimpleNamespace(config=config_of(path), generation_config=_generation_config(path))
    ends = end_ids(host, tokenizer)
    pool = _pool(settings, servers, Plain(ends))
    contexts, compared = world.told(lambda: greet(pool, tokenizer, settings.rollouts_model, weights=False))
    with imagining():
        parameters = sum(one.numel() for one in imagine(path, scalar=False).parameters())
    contexts += [own] if (own := context_at(path)) else []
    context = min(contexts, default=None)
    return RemoteGenerator(
        pool, tokenizer, context, parameters, by_text=not compared, world=world, progress=progress
    )


def synced(
    settings: SyncedSettings,
    policy: PolicyModule,
    tokenizer: PreTrainedTokenizerBase,
    temperature: float,
    world: World,
    folder: Path,
    log: Log,
) -> RemoteGenerator:
    """A policy that learns here and is sampled from servers, which take its weights.  folder: of the run.

    Raises ValueError for servers that take no weights, or read other tokens.
    """
    ends = end_ids(policy.host, tokenizer)
    pool = _pool(settings, settings.servers, Vllm(ends))
    contexts = world.told(lambda: greet(pool, tokenizer, settings.rollouts_model, weights=True).contexts)
    contexts += [own] if (own := context_of(policy)) else []
    place = Path(settings.weights_folder) if settings.weights_folder else folder / WEIGHTS
    return RemoteGenerator(
        pool,
        tokenizer,
        min(contexts, default=None),
        sum(one.numel() for one in policy.parameters()),
        way=Disk(place, tokenizer, world.dtype),
        canary=Canary(probes(tokenizer, temperature), world),
        world=world,
        log=log,
    )


def _pool(settings: AskingSettings, servers: Sequence[str], dialect: Dialect) -> Pool:
    return Pool(
        servers,
        dialect,
        timeout=settings.rollouts_timeout,
        patience=settings.rollouts_patience,
        at_once=settings.rollouts_at_once,
        key_env=settings.rollouts_key_env,
    )


def _generation_config(path: str) -> GenerationConfig:
    """What stands in the model's generation_config.json; an empty one where there is none."""
    try:
        return GenerationConfig.from_pretrained(path)
    except OSError:
        return GenerationConfig()
