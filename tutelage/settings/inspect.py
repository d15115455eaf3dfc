"""The settings of `data`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from tutelage.settings.base import setting
from tutelage.settings.groups import CutSettings, RowSettings, Source


class DataCommandSettings(RowSettings, CutSettings):
    """What a file holds, how each command would read it, and what is likely wrong with it."""

    bare: ClassVar[str] = "data"

    data: Source = setting(
        ...,
        "What to look at: a file, a glob, hub:OWNER/NAME, or [a.jsonl, b.jsonl*3]; needs no data= before it.",
    )
    out: Path = setting(
        Path("runs/data"),
        "Folder that receives data.html and data.json; those of an earlier look are replaced.",
        changes_result=False,
    )
    model: str = setting(
        "",
        "Run folder, checkpoint, tokenizer folder or hub model whose tokenizer and chat template are used; empty: lengths in "
        "characters, and rows by turns.",
    )
    against: Source = setting(
        "", "Held-out rows that must not stand in data: a benchmark, or your eval_data."
    )
    max_length: int = setting(
        1024, "Longest sequence, prompt and response together; needs model.", unit="tokens", ge=2
    )
    heldout_share: float = setting(
        0.05,
        "Share of the prompts that would be held out, to look for what stands on both sides; 0 = do not look.",
        unit="share",
        everyday=False,
        ge=0,
        lt=1,
    )
    split_seed: int = setting(0, "Which prompts would be held out.", everyday=False, ge=0)
