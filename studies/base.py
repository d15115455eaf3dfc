"""What every study starts from: models of the embedded world, and what they write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tutelage.data.reading.formats import read_prompts
from tutelage.launch import launch
from tutelage.records import Prompt, Response
from tutelage.settings.base import Settings
from tutelage.settings.rollout import SampleSettings
from tutelage.settings.train import PretrainSettings, SFTSettings
from tutelage.settings.worlds import WorldSettings

NEW_TOKENS = 56


def done(command: str, settings: Settings) -> Path:
    """The run folder of a command, which runs where it has not yet."""
    run = launch(command, settings)
    assert run is not None
    return run


def world(out: Path) -> Path:
    """The embedded world's files, most of its demonstrations careless."""
    settings = WorldSettings(
        out=out, documents=16500, demonstrations=4500, careless=0.72, heldout_prompts=900
    )
    return done("world", settings)


def pretrained(out: Path, text: Path, **shape: Any) -> Path:
    """A language model of the world's text; `shape`: as in PretrainSettings."""
    settings = PretrainSettings(
        data=str(text), out=out, max_length=128, batch_size=5, save_every=2000, **shape
    )
    return done("pretrain", settings)


def fine_tuned(out: Path, start: Path, demonstrations: Path) -> Path:
    """The same taught by demonstrations."""
    settings = SFTSettings(
        model=str(start),
        data=str(demonstrations),
        out=out,
        learning_rate=1e-3,
        batch_size=16,
        schedule="cosine",
    )
    return done("sft", settings)


def written(out: Path, model: Path, prompts: Path, samples: int, most: int = 0) -> list[Response]:
    """`samples` responses to each of the prompts (at most so many; 0: all), prompt by prompt; they are in the store beside
    `out`, in a project of its name."""
    settings = SampleSettings(
        model=str(model),
        prompts=str(prompts),
        out=out,
        store=str(store_of(out)),
        project=out.name,
        samples=samples,
        max_prompts=most,
        max_new_tokens=NEW_TOKENS,
    )
    run = done("sample", settings)
    known = {one.id: one for one in read_prompts(str(prompts)) if isinstance(one, Prompt)}
    rows = [json.loads(line) for line in (run / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    return [Response.written(known[row["prompt_id"]], row["response"], row["finish"]) for row in rows]


def store_of(out: Path) -> Path:
    """Where what stands in `out` is stored."""
    return out.with_name("store.sqlite")
