"""What one running server has: its database, its generator, its limits, its counters, and how it is reached."""

from __future__ import annotations

from dataclasses import dataclass, field

from tutelage.store.database import Database
from tutelage.web.exporting import Exports
from tutelage.web.generation import LiveGenerator
from tutelage.web.limits import Gate, Limits
from tutelage.web.metrics import Requests


@dataclass(frozen=True)
class Site:
    """`https`: the server is reached over TLS, so cookies are marked for it; `hosts`: names it answers to, empty = any;
    `threads`: requests that are worked on at once, 0 = as many as the libraries think; `own_database`: it is closed with the
    server."""

    database: Database
    generator: LiveGenerator = field(default_factory=lambda: LiveGenerator(()))
    exports: Exports = field(default_factory=Exports)
    limits: Limits = field(default_factory=Limits)
    passwords: Gate = field(default_factory=Gate)  # before whatever hashes one
    requests: Requests = field(default_factory=Requests)
    https: bool = False
    hosts: tuple[str, ...] = ()
    threads: int = 0
    own_database: bool = False

    @property
    def cookie(self) -> str:
        """The name of the session cookie; the prefix makes browsers hold it to this host and to TLS."""
        return "__Host-tutelage" if self.https else "tutelage"
