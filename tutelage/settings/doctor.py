"""The settings of `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from tutelage.settings.base import Settings, setting

CheckGroup = Literal[
    "versions", "extras", "devices", "memory", "disk", "store", "endpoints", "interconnect", "run"
]


class DoctorSettings(Settings):
    """Check what a run will stand on, before it costs anything."""

    checks: list[CheckGroup] = setting(
        [],
        "What to check; empty: all that is asked for below or stands ready here; interconnect only where it is named, or with "
        "hosts.",
    )
    command: str = setting("", "The command of a run: what it would touch is checked.")
    settings: list[str] = setting(
        [], "That run's settings, as it would be given them: [ppo.yaml, lora_rank=16]."
    )
    out: Path = setting(Path("runs"), "Folder in which runs will be written.")
    needs_gib: float = setting(
        0.0, "Room that will be wanted there, beside what a run's checkpoints take.", unit="GiB", ge=0
    )
    store: str = setting(
        "",
        "Feedback store: path of an SQLite file, or a database URL; empty: runs/store.sqlite, if it is there.",
    )
    workers: int = setting(
        1, "Web processes and trainers that will use the store at once.", unit="processes", ge=1
    )
    endpoints: list[str] = setting([], "Base URLs of OpenAI-compatible servers, as http://localhost:8000/v1.")
    model: str = setting("", "Model that these are to have; empty: the first that they list.")
    key_env: str = setting(
        "OPENAI_API_KEY", "Environment variable with their key; not set: none is sent.", everyday=False
    )
    hosts: list[str] = setting(
        [], "HOST:PORT that must be reachable from here, such as the master's address of a cluster."
    )
    ranks: int = setting(
        2,
        "Processes between which the interconnect is measured, on this machine.",
        unit="processes",
        ge=2,
        le=16,
    )
    timeout: float = setting(
        10.0, "Nothing is waited for longer than this; ranks are given six times as long.", unit="s", gt=0
    )
    results: str = setting("", "Also write the results to this file, as JSON; empty: to none.")

    @model_validator(mode="after")
    def _of_a_run(self) -> Self:
        if self.settings and not self.command:
            raise ValueError("settings says how a run is set, but not which: add command=ppo, say")
        if "run" in self.checks and not self.command:
            raise ValueError("checks has run, but there is none: add command=ppo, say")
        return self
