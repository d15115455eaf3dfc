"""A store with people and projects to serve, and models that answer without being models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.databases import fresh_sqlite
from tutelage.feedback.asking.payloads import LiveResponse, ProjectSettings, Role, Schema
from tutelage.feedback.errors import Refused
from tutelage.feedback.items import building
from tutelage.feedback.people.access import User
from tutelage.feedback.people.invitations import accept_invitation, first_owner_invitation, invite
from tutelage.feedback.projects import projects
from tutelage.feedback.projects.projects import Member
from tutelage.records import Message, Prompt, Response
from tutelage.store import ModelInfo, Store
from tutelage.store.database import Database
from tutelage.web.generation import LiveGenerator, NamedModel

PASSWORD = "correct horse battery staple"
T = TypeVar("T")
ROLES: tuple[Role, ...] = ("owner", "manager", "adjudicator", "expert", "annotator", "viewer")
PROMPTS = (
    "Summarise: **Tom** has a red ball. He walked to the market, and there he sold it to Mary for three coins.",
    "What is $\\frac{1}{2} + \\frac{1}{3}$? Show each step.",
    "How do I boil an egg?",
    "Write a haiku about rain.",
    "Explain to a child why the sky is blue.",
    "Give me three names for a grey cat.",
)
ANSWERS = (
    (
        "Tom sold his red ball to Mary for three coins.",
        "Tom went to the market.",
        "Mary has a ball now, and Tom has coins.",
    ),
    (
        "Find a common denominator: 6.\n\n$\\frac{3}{6} + \\frac{2}{6} = \\frac{5}{6}$.\n\nSo it is $$\\frac{5}{6}$$",
        "Add the tops, add the bottoms.\n\nSo it is $\\frac{2}{5}$.",
        "A half is 0.5.\n\nA third is 0.33.\n\nTogether 0.83.",
    ),
    (
        "1. Boil water.\n2. Add the egg.\n3. Wait **8 minutes**.\n4. Cool it in cold water.",
        "Put it in the microwave.",
        "Boil it for eight minutes.",
    ),
    (
        "Soft rain on the roof\n\nA cat listens, half asleep\n\nThe street shines like glass",
        "Rain, rain, rain.",
        "Rain falls on the town\n\nEverybody goes inside\n\nUmbrellas are wet",
    ),
    (
        "Sunlight is made of many colours. Blue light bounces around in the air more than the others do, so blue comes "
        "from everywhere.",
        "Because of the sea.",
        "The air scatters blue light.",
    ),
    ("- Ash\n- Smoke\n- Pebble", "Cat, Cat, Cat", "Silver, Mist, Fog"),
)


class Parrots(LiveGenerator):
    """Two models that are no models: they say what they were asked, each in its own words, at once."""

    def __init__(self) -> None:
        super().__init__([NamedModel("red", "red"), NamedModel("green", "green")])
        self.asked: list[tuple[Prompt, int, str | None]] = []

    async def start(self) -> None:
        return

    async def write(
        self,
        prompt: Prompt,
        count: int,
        begun: str | None = None,
        model: str | None = None,
        one_step: Any = None,
    ) -> list[LiveResponse]:
        self.asked.append((prompt, count, begun))
        said = prompt.content if isinstance(prompt.content, str) else prompt.content[-1].content
        words = ["I heard", "You said", "Indeed", "So"]
        if begun is not None:
            return [
                LiveResponse(
                    text="\n\nThen add the numerators.\n\nThat gives five sixths.", model="red", n_tokens=9
                )
            ]
        return [
            LiveResponse(text=f"{words[n % 4]}: {said}", model=self.models[n % 2].name, n_tokens=4 + n)
            for n in range(count)
        ]


@dataclass
class World:
    """A served store: its database, everybody's user by name, and a way to make more."""

    path: str | Path
    database: Database
    owner: User
    users: dict[str, User] = field(default_factory=dict)

    def user(self, name: str, project: str | None = None, role: Role = "annotator") -> User:
        """A user with `PASSWORD`, in a project if one is given."""
        if name not in self.users:
            target = project or "main"
            secret = invite(self.database, self.owner, target, role)
            self.users[name] = accept_invitation(self.database, secret, name, PASSWORD)
        elif project is not None:
            projects.set_role(self.database, self.member(project), name, role)
        return self.users[name]

    def member(self, project: str, user: User | None = None) -> Member:
        """A user's place in a project (the owner's)."""
        return projects.member(self.database, user or self.owner, project)

    def project(
        self,
        name: str,
        questions: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        prompts: Sequence[str] = PROMPTS,
        answers: Sequence[Sequence[str]] = ANSWERS,
        items_of: dict[str, Any] | None = None,
    ) -> Member:
        """A project with prompts, responses of three models, and items of the type that its questions are about."""
        wanted = {"dwell_seconds": 0, **(settings or {})}
        schema = Schema(**(questions or {}))
        try:
            member = projects.create_project(
                self.database, self.owner, name, ProjectSettings(**wanted), schema
            )
        except Refused:
            return self.member(name)
        fill(self.path, name, prompts, answers)
        build = {"strategy": "random", "per_prompt": 1, **(items_of or {})}
        building.build(self.database, member, schema.type, **build)
        return member

    def close(self) -> None:
        self.database.close()


def fill(path: str | Path, project: str, prompts: Sequence[str], answers: Sequence[Sequence[str]]) -> None:
    """Put prompts and responses into a project: one generation run per model."""
    nouns = [
        Prompt(
            (Message("user", "Hello."), Message("assistant", "Hello! How can I help?"), Message("user", text))
        )
        if text.startswith("Explain")
        else Prompt(text)
        for text in prompts
    ]
    with Store(path) as store:
        store.add_prompts(project, nouns)
        for number in range(max(map(len, answers), default=0)):
            model = ModelInfo(f"model-{number}", str(number) * 64)
            run = store.add_generation_run(model, "local", {"seed": number, "project": project})
            responses = [
                Response(prompt, said[number], (1,), (2, 3), (-1.0, -1.0), "eos")
                for prompt, said in zip(nouns, answers, strict=True)
                if number < len(said)
            ]
            store.add_responses(project, run, responses)


def make_world(path: str | Path) -> World:
    """A new store with its owner ("ann", `PASSWORD`)."""
    database = Database(path if "://" in str(path) else fresh_sqlite(Path(path)))
    secret = first_owner_invitation(database)
    assert secret is not None
    owner = accept_invitation(database, secret, "ann", PASSWORD)
    return World(path, database, owner, {"ann": owner})


def apart(function: Callable[..., T], *arguments: Any) -> T:
    """Call it in a thread of its own: Playwright's loop may be at work in this one, and a thread has one loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result()


def run(work: Coroutine[Any, Any, T]) -> T:
    return apart(asyncio.run, work)
