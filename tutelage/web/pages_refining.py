"""The pages of refined problems: writing one, what waits for experts, the list, and the history of one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.encoders import jsonable_encoder
from fastapi.responses import Response

from tutelage.feedback.refining import history
from tutelage.feedback.refining.history import Which
from tutelage.web.access import AnyMember, Teacher, TheSite
from tutelage.web.api_refining import SAMPLES
from tutelage.web.fields import Id
from tutelage.web.pages import project_page

router = APIRouter()


@router.get("/p/{project}/author")
def author(request: Request, site: TheSite, who: Teacher) -> Response:
    """Write a problem that a model falls into."""
    data = {
        "project": who.project,
        "user": who.user.name,
        "models": [model.name for model in site.generator.models],
        "generation": site.generator.why_off,
        "samples": SAMPLES,
    }
    return project_page(request, site, who, "author.html", data)


@router.get("/p/{project}/experts")
def experts(request: Request, site: TheSite, who: Teacher) -> Response:
    """What was handed up."""
    lines = history.problems(site.database, who, "handed-up")[::-1]  # whoever has waited longest comes first
    return project_page(request, site, who, "problems.html", lines=lines, which="handed-up", handed=True)


@router.get("/p/{project}/problems")
def problems(
    request: Request, site: TheSite, who: AnyMember, outcome: Annotated[Which, Query()] = ""
) -> Response:
    """The refined problems."""
    lines = history.problems(site.database, who, outcome)
    return project_page(request, site, who, "problems.html", lines=lines, which=outcome, handed=False)


@router.get("/p/{project}/problems/{root}")
def problem(request: Request, site: TheSite, who: AnyMember, root: Id) -> Response:
    """One refined problem with all its rounds."""
    found = history.problem(site.database, who, root)
    data = {
        "problem": jsonable_encoder(found),
        "teaches": who.may("teach"),
        "work": f"/p/{request.path_params['project']}/work",
        "generation": site.generator.why_off,
    }
    return project_page(request, site, who, "problem.html", data, root=root)
