"""API: projects, their settings, questions and guidelines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from tutelage.feedback.asking.payloads import LARGEST_ID, Model, ProjectSettings, Role, Schema, Text
from tutelage.feedback.projects import deletion, projects
from tutelage.feedback.projects.deletion import DeletedProject, Purged
from tutelage.web.access import AnyMember, FormerOwner, Manager, Managing, Owner, Reader, TheSite
from tutelage.web.fields import Name, strict_router
from tutelage.web.render import markdown

router = strict_router("projects")


class NewProject(Model):
    """A project to make."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    settings: ProjectSettings = ProjectSettings()
    questions: Schema = Schema()


@dataclass(frozen=True)
class GuidelineView(projects.Guideline):
    """One version of the guidelines; `html` is safe to insert."""

    html: str


@dataclass(frozen=True)
class ProjectView:
    """A project as its members see it."""

    name: str
    role: Role
    settings: ProjectSettings
    questions: Schema
    schema_version: int
    guideline: GuidelineView


class NewSettings(Model):
    """Settings in full; `apply_overlap` gives every item there is the new overlap."""

    settings: ProjectSettings
    apply_overlap: bool = False


class NewGuideline(Model):
    """Guidelines in Markdown."""

    markdown: Text


class Version(Model):
    """The number of a version, counted from 1."""

    n: int


class Purge(Model):
    """The project's name, typed once more."""

    confirm: Name


class History(Model):
    """A page of events; `next` is the `before` of the page that follows (null: this is the last)."""

    events: list[dict[str, Any]]
    next: int | None


@router.get("/projects")
def list_projects(site: TheSite, who: Reader) -> list[ProjectView]:
    """The caller's projects by name."""
    return [view(found) for found in projects.projects_of(site.database, who.user)]


@router.post("/projects", status_code=201)
def create_project(site: TheSite, who: Managing, body: NewProject) -> ProjectView:
    """Make a project; administrators may."""
    made = projects.create_project(site.database, who.user, body.name, body.settings, body.questions)
    return view(projects.info(site.database, made))


@router.get("/projects/{project}")
def read_project(site: TheSite, who: AnyMember) -> ProjectView:
    """Settings, questions and guidelines as they are now."""
    return view(projects.info(site.database, who))


@router.put("/projects/{project}/settings", status_code=204)
def replace_settings(site: TheSite, who: Manager, body: NewSettings) -> None:
    """Replace the settings."""
    projects.set_settings(site.database, who, body.settings, body.apply_overlap)


@router.put("/projects/{project}/questions")
def replace_questions(site: TheSite, who: Manager, body: Schema) -> Version:
    """Store a new version of the questions; answers keep pointing at the version they were given under."""
    return Version(n=projects.set_schema(site.database, who, body))


@router.get("/projects/{project}/guidelines")
def list_guidelines(site: TheSite, who: AnyMember) -> list[GuidelineView]:
    """All versions, newest first."""
    return [guideline_view(found) for found in projects.guidelines(site.database, who)]


@router.put("/projects/{project}/guidelines")
def replace_guideline(site: TheSite, who: Manager, body: NewGuideline) -> Version:
    """Store a new version of the guidelines."""
    return Version(n=projects.set_guideline(site.database, who, body.markdown))


@router.delete("/projects/{project}", status_code=204)
def delete_project(site: TheSite, who: Owner) -> None:
    """Hide the project from everybody; all its data stay, and it can be restored."""
    deletion.delete_project(site.database, who)


@router.get("/deleted")
def deleted_projects(site: TheSite, who: Reader) -> list[DeletedProject]:
    """The deleted projects that the caller may restore or purge."""
    return deletion.deleted_projects(site.database, who.user)


@router.post("/projects/{project}/restore", status_code=204)
def restore_project(site: TheSite, who: FormerOwner) -> None:
    """Bring a deleted project back as it was."""
    deletion.restore_project(site.database, who)


@router.post("/projects/{project}/purge")
def purge_project(site: TheSite, who: FormerOwner, body: Purge) -> Purged:
    """Delete a deleted project for good: prompts, responses, answers, history."""
    done = deletion.purge_project(site.database, who, body.confirm)
    site.exports.forget(site.database, who.project_id)
    return done


@router.get("/projects/{project}/audit")
def audit(
    site: TheSite,
    who: Manager,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    before: Annotated[int | None, Query(ge=1, le=LARGEST_ID)] = None,
) -> History:
    """Who did what, newest first; `before` is the `next` of the page before."""
    events = projects.audit(site.database, who, limit + 1, before)
    more = events[limit - 1]["id"] if len(events) > limit else None
    return History(events=events[:limit], next=more)


def view(found: projects.ProjectInfo) -> ProjectView:
    """A project for JSON."""
    questions, guideline = found.schema, guideline_view(found.guideline)
    return ProjectView(found.name, found.role, found.settings, questions, found.schema_version, guideline)


def guideline_view(found: projects.Guideline) -> GuidelineView:
    """Guidelines for JSON."""
    return GuidelineView(**asdict(found), html=str(markdown(found.markdown)))
