"""Numbers for a monitor, in the text format of Prometheus: requests, their times, and how the work stands."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from tutelage import __version__
from tutelage.feedback.insights.census import ProjectCensus
from tutelage.web.security import App, Receive, Scope, Send

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)  # of the histogram's buckets
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
API = "/api/v1"


class Requests:
    """Requests since the start, counted by method and route (as templates: no names, no ids) and status."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str, int], int] = defaultdict(int)
        self._times: dict[tuple[str, str], list[float]] = {}  # one per bucket and one beyond, then the sum

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request is over."""
        method = method if method in METHODS else "other"
        with self._lock:
            self._counts[method, route, status] += 1
            times = self._times.setdefault((method, route), [0.0] * (len(SECONDS) + 2))
            times[bisect_left(SECONDS, seconds)] += 1
            times[-1] += seconds

    def lines(self) -> Iterable[str]:
        """As Prometheus reads them."""
        with self._lock:
            counts = sorted(self._counts.items())
            times = sorted((key, list(values)) for key, values in self._times.items())
        yield from _head("tutelage_requests_total", "counter", "Requests answered.")
        for (method, route, status), n in counts:
            yield _line("tutelage_requests_total", n, method=method, route=route, status=status)
        name = "tutelage_request_seconds"
        yield from _head(name, "histogram", "Time from a request's arrival to the end of its answer.")
        for (method, route), values in times:
            below = 0.0
            for bound, inside in zip((*SECONDS, "+Inf"), values, strict=False):
                below += inside
                yield _line(f"{name}_bucket", below, method=method, route=route, le=bound)
            yield _line(f"{name}_sum", values[-1], method=method, route=route)
            yield _line(f"{name}_count", below, method=method, route=route)


@dataclass(frozen=True)
class Meter:
    """ASGI middleware that counts every request, the refused ones too."""

    app: App
    requests: Requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            self.requests.count(scope["method"], route_of(scope), status, time.perf_counter() - began)


def route_of(scope: Scope) -> str:
    """The template of the route that a request found, such as /p/{project}/work."""
    path = scope["path"]
    if path.startswith("/static/"):
        return "/static"
    template = getattr(scope.get("route"), "path", None)
    if template is None:
        return "none"
    inside = path.startswith(API) and not template.startswith(API)  # a router does not know its prefix
    return API + template if inside else template


def exposition(requests: Requests, projects: Iterable[ProjectCensus]) -> str:
    """The whole answer of /metrics."""
    found = list(projects)
    lines = [
        *_head("tutelage_info", "gauge", "The version that runs."),
        _line("tutelage_info", 1, version=__version__),
        *_head("process_cpu_seconds_total", "counter", "Processor time that this process has used."),
        _line("process_cpu_seconds_total", time.process_time()),
        *requests.lines(),
    ]
    for name, what, values in (
        ("tutelage_answers", "Stored answers, revisions too.", [one.answers for one in found]),
        ("tutelage_open_leases", "Items in somebody's hands.", [one.leases for one in found]),
        ("tutelage_answers_wanted", "Answers that open items still want.", [one.wanted for one in found]),
    ):
        lines += _head(name, "gauge", what)
        lines += [_line(name, n, project=one.name) for one, n in zip(found, values, strict=True)]
    return "\n".join(lines) + "\n"


def _head(name: str, kind: str, what: str) -> list[str]:
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]


def _line(name: str, value: float, **labels: object) -> str:
    said = ",".join(f'{key}="{_escaped(str(label))}"' for key, label in labels.items())
    return f"{name}{{{said}}} {value:.15g}" if said else f"{name} {value:.15g}"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
