"""API: what came of the work: numbers and exports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import Path as InPath
from fastapi.responses import FileResponse

from tutelage.feedback.asking.payloads import Model
from tutelage.feedback.exports import exporting
from tutelage.feedback.exports.exporting import ExportSpec, Preview
from tutelage.feedback.insights import totals as counted
from tutelage.feedback.insights.figures import Insight, Whose, insight
from tutelage.feedback.insights.judges import JudgeWork, judges_work
from tutelage.feedback.insights.totals import Totals
from tutelage.web.access import Exporter, TheSite, Viewer
from tutelage.web.fields import strict_router

router = strict_router("results")

ExportName = Annotated[str, InPath(min_length=1, max_length=64)]


class ExportedView(Model):
    """A finished export; fetch `file` and `manifest` beside this address."""

    name: str
    rows: int
    left_out: dict[str, int]
    sha256: str


@router.get("/projects/{project}/stats/totals")
def totals(site: TheSite, who: Viewer) -> Totals:
    """The project in numbers."""
    return counted.totals(site.database, who)


@router.get("/projects/{project}/stats/judges")
def judges(site: TheSite, who: Viewer) -> list[JudgeWork]:
    """Language models that judge: votes, questions, tokens and cost."""
    return judges_work(site.database, who)


@router.get("/projects/{project}/stats")
def stats(site: TheSite, who: Viewer, whose: Whose | None = None) -> Insight:
    """Agreement, annotators, biases and models, each with interval and n; from the answers of `whose`."""
    return insight(site.database, who, whose)


@router.post("/projects/{project}/exports/preview")
def preview(site: TheSite, who: Exporter, body: ExportSpec) -> Preview:
    """The first rows as they would be written, how many there are, and what is left out by reason."""
    return exporting.preview(site.database, who, body)


@router.post("/projects/{project}/exports", status_code=201)
def export(site: TheSite, who: Exporter, body: ExportSpec) -> ExportedView:
    """Write an export."""
    site.limits.take("export", site.database, who.user.name)
    name, done = site.exports.write(site.database, who, body)
    return ExportedView(name=name, rows=done.rows, left_out=done.left_out, sha256=done.sha256)


@router.get("/projects/{project}/exports/{name}/file", response_class=FileResponse)
def export_file(site: TheSite, who: Exporter, name: ExportName) -> FileResponse:
    """The rows: one JSON object per line, Parquet or CSV, as was asked for."""
    return _download(site.exports.find(site.database, who, name).file)


@router.get("/projects/{project}/exports/{name}/manifest", response_class=FileResponse)
def export_manifest(site: TheSite, who: Exporter, name: ExportName) -> FileResponse:
    """What was written, from what, by which rule, with its hash."""
    return _download(site.exports.find(site.database, who, name).manifest)


def _download(path: Path) -> FileResponse:
    return FileResponse(path, filename=path.name, media_type="application/octet-stream")
