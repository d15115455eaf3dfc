"""Numbers for a monitor, in the text format of Prometheus: requests, their times, and how the work stands."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector

from tutelage import __version__
from tutelage.feedback.insights.census import ProjectCensus
from tutelage.web.security import App, Receive, Scope, Send

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)  # of the histogram's buckets
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
API = "/api/v1"
SHARED_COUNTS = "PROMETHEUS_MULTIPROC_DIR"  # the environment variable that prometheus_client looks at


class Requests:
    """Requests since the start, counted by method and route (as templates: no names, no ids) and status.

    Each server has a registry of its own, so that several in one process do not count into each other.  Where several processes
    are one server (`workers`), they count in files of a folder, and whichever is asked answers for all.
    """

    def __init__(self) -> None:
        own = CollectorRegistry()
        self._counts = Counter(
            "tutelage_requests", "Requests answered.", ("method", "route", "status"), registry=own
        )
        self._times = Histogram(
            "tutelage_request_seconds",
            "Time from a request's arrival to the end of its answer.",
            ("method", "route"),
            registry=own,
            buckets=SECONDS,
        )
        self.registry = own
        if os.environ.get(SHARED_COUNTS):
            self.registry = CollectorRegistry()
            MultiProcessCollector(self.registry)
        else:
            ProcessCollector(registry=own)  # of one process there is one memory to tell

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request is over."""
        method = method if method in METHODS else "other"
        self._counts.labels(method, route, status).inc()
        self._times.labels(method, route).observe(seconds)


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


def exposition(requests: Requests, projects: Sequence[ProjectCensus]) -> bytes:
    """The whole answer of /metrics: the requests, and how the work stands in each project."""
    work = CollectorRegistry()
    work.register(_Work(projects))
    return generate_latest(requests.registry) + generate_latest(work)


@dataclass(frozen=True, eq=False)
class _Work:
    """The version that runs and how the work stands, as they are now: nothing that is counted on."""

    projects: Sequence[ProjectCensus]

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("tutelage", "The version that runs.", value={"version": __version__})
        for name, what, field in (
            ("tutelage_answers", "Stored answers, revisions too.", "answers"),
            ("tutelage_open_leases", "Items in somebody's hands.", "leases"),
            ("tutelage_answers_wanted", "Answers that open items still want.", "wanted"),
        ):
            gauge = GaugeMetricFamily(name, what, labels=("project",))
            for one in self.projects:
                gauge.add_metric((one.name,), getattr(one, field))
            yield gauge
