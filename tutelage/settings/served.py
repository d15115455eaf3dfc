"""Settings of commands whose responses servers may draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import field_validator, model_validator

from tutelage.settings.base import Made, Settings, setting

LOCAL = "local"


def check_address(url: str, instead: str = "write ") -> None:
    """Raises ValueError for what is no URL."""
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not address.netloc:
        raise ValueError(f"{url} is no address of a server: {instead}a URL such as http://localhost:8000")


def checked(rollouts: str | list[str]) -> str | list[str]:
    """What is said of who draws, as it is.  Raises ValueError for anything but local and addresses."""
    for url in [rollouts] if isinstance(rollouts, str) else rollouts:
        if url != LOCAL:
            check_address(url, "write local, or ")
    if not rollouts or (
        isinstance(rollouts, list) and (LOCAL in rollouts or len(set(rollouts)) < len(rollouts))
    ):
        raise ValueError("give local, or the URLs of servers, each once")
    return rollouts


class AskingSettings(Settings):
    """How servers that draw responses are asked, over HTTP."""

    rollouts_model: str = setting(
        "", "The model's name at the servers; empty = the only one that they have.", everyday=False
    )
    rollouts_key_env: str = setting(
        "",
        "Environment variable with the servers' key; empty = they ask for none.",
        everyday=False,
        changes_result=False,
    )
    rollouts_at_once: int = setting(
        64,
        "Responses that each server is asked for at the same time.",
        unit="responses",
        everyday=False,
        changes_result=False,
        ge=1,
    )
    rollouts_timeout: float = setting(
        300.0,
        "A server that has not answered for so long is asked again; new weights must be read in it, too.",
        unit="s",
        everyday=False,
        changes_result=False,
        gt=0,
    )
    rollouts_patience: float = setting(
        1800.0,
        "Servers that fail are waited for so long.",
        unit="s",
        everyday=False,
        changes_result=False,
        ge=0,
    )

    @property
    def servers(self) -> list[str]:
        """The URLs of servers; [] where this process draws all."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _for_servers(self) -> Self:
        known = [name for name in SERVERS_ONLY if name in type(self).model_fields]
        if not self.servers and (given := self.set_of(*known)):
            raise ValueError(
                f"{given} is for servers that draw responses, and none is asked: set rollouts, or leave {given} out"
            )
        return self


class ServedSettings(AskingSettings):
    """Who draws responses: this process, or servers that are spoken to over HTTP."""

    rollouts: str | list[str] = setting(
        LOCAL,
        "Who draws responses: local (this process), or a server's URL, or several: [http://a:8000, http://b:8000].",
        everyday=False,
    )

    @property
    def servers(self) -> list[str]:
        if self.rollouts == LOCAL:
            return []
        return [self.rollouts] if isinstance(self.rollouts, str) else self.rollouts

    def refuses(self, name: str, before: Mapping[str, Any], made: Made) -> str | None:
        """The same model may be served somewhere else; who draws, a server or this process, may not change: they draw
        differently."""
        if name == "rollouts" and before.get(name, LOCAL) != LOCAL and self.rollouts != LOCAL:
            return None
        return super().refuses(name, before, made)

    _addresses = field_validator("rollouts")(checked)


class SyncedSettings(ServedSettings):
    """The same for commands whose policy learns: servers get its weights at every step."""

    weights_folder: str = setting(
        "",
        "Folder for new weights, which servers see under the same path; empty = rollout-weights in the run folder.",
        everyday=False,
        changes_result=False,
    )
    max_staleness: int = setting(
        0,
        "Servers get new weights every so many steps, and draw for as many steps ahead while the policy learns; 0 = learning "
        "waits for the responses of each step.",
        unit="steps",
        everyday=False,
        ge=0,
    )


SERVERS_ONLY = (
    "rollouts_model",
    "rollouts_key_env",
    "rollouts_at_once",
    "rollouts_timeout",
    "rollouts_patience",
    "weights_folder",
    "max_staleness",
)
"""What says nothing where this process draws."""
