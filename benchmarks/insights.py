"""`python -m benchmarks.insights [key=value ...]`: how long the insights page takes, cold and warm, for many votes.

A store of its own: people and a judge of known care compare the responses of four models, and rate some of them.  Cold is
the first request of a process, or the first after another answer; warm the next one.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from sqlalchemy import insert, select

from tutelage.feedback.asking.payloads import ProjectSettings, Schema
from tutelage.feedback.insights.figures import insight
from tutelage.feedback.items import building
from tutelage.feedback.people.invitations import accept_invitation, first_owner_invitation
from tutelage.feedback.people.passwords import check_password
from tutelage.feedback.projects import projects
from tutelage.records import Prompt, Response, Vote
from tutelage.seeds import rng
from tutelage.settings.base import Settings, load, setting
from tutelage.store import ModelInfo, NewVote, Store
from tutelage.store.database import Database
from tutelage.store.schema import Annotation, Item, ItemResponse
from tutelage.store.schema_feedback import Rating
from tutelage.store.sql import insert_one

PEOPLE = {"careful": 0.95, "fair": 0.85, "hasty": 0.65, "judge": 0.8}  # how often each is right
PASSWORD = "a password for a benchmark"
PER_PROMPT = 6  # pairs of four responses


class InsightsBenchSettings(Settings):
    """What to measure."""

    votes: int = setting(18_000, "Votes on pairs.", unit="votes", ge=24)
    rated: int = setting(300, "Prompts whose responses are rated, too.", ge=0)
    store: str = setting("", "Store to make, such as a database URL; empty makes an SQLite file.")


def fill(place: str, settings: InsightsBenchSettings) -> None:
    """A project `bench` with that many votes, owned by `owner`."""
    database = Database(place)
    secret = first_owner_invitation(database)
    assert secret is not None, f"store={place} is in use already: give one that does not exist yet."
    owner = accept_invitation(database, secret, "owner", PASSWORD)
    projects.create_project(database, owner, "bench", ProjectSettings(overlap=len(PEOPLE)), Schema())
    draw = rng(0, "insights benchmark")
    prompts = [Prompt(f"Question {n}?") for n in range(settings.votes // (PER_PROMPT * len(PEOPLE)))]
    with Store(place) as store:
        store.add_prompts("bench", prompts)
        for model in range(4):
            run = store.add_generation_run(
                ModelInfo(f"model-{model}", str(model) * 64), "local", {"seed": model}
            )
            texts = [f"Answer {model} " + "word " * draw.integers(20, 200) for _ in prompts]
            rows = [Response(p, said, (1,), (2,), (-1.0,), "eos") for p, said in zip(prompts, texts)]
            store.add_responses("bench", run, rows)
        building.build(database, projects.member(database, owner, "bench"), "pair", strategy="all")
        for name in PEOPLE:
            store.add_annotator(name, "judge" if name == "judge" else "human", {})
        votes = []
        for number, pair in enumerate(store.pairs("bench")):
            better = int(draw.choice([-1, 1]))
            for name, right in PEOPLE.items():
                side = better if draw.random() < right else -better
                strength = int(draw.integers(0, 4))
                votes.append(
                    NewVote(
                        pair.item_id, Vote(name, side * strength, int(draw.integers(2))), f"{name}/{number}"
                    )
                )
        store.add_votes("bench", votes)
    _rate(database, settings.rated, draw)
    database.close()


def _rate(database: Database, prompts: int, draw: np.random.Generator) -> None:
    """Items of four responses each, rated by everybody."""
    query = select(Item.project_id, Item.prompt_id, ItemResponse.response_id).join(ItemResponse)
    with database.write() as connection:
        found: dict[tuple[int, int], set[int]] = {}
        for project, prompt, response in connection.execute(query):
            found.setdefault((project, prompt), set()).add(response)
        for (project, prompt), responses in list(found.items())[:prompts]:
            values = {"project_id": project, "prompt_id": prompt, "type": "rate", "digest": f"rate {prompt}"}
            item = insert_one(connection, Item, overlap=len(PEOPLE), **values)
            slots = [{"item_id": item, "slot": n, "response_id": r} for n, r in enumerate(sorted(responses))]
            connection.execute(insert(ItemResponse), slots)
            quality = draw.normal(4, 1, len(slots))
            for annotator in range(1, 1 + len(PEOPLE)):
                place = {"item_id": item, "annotator_id": annotator, "client_key": f"rate {item}/{annotator}"}
                answer = insert_one(connection, Annotation, **place)
                said = np.clip(np.rint(quality + draw.normal(0, 1, quality.size)), 1, 7).astype(int).tolist()
                rows = [
                    {"annotation_id": answer, "slot": n, "criterion": "overall", "value": v}
                    for n, v in enumerate(said)
                ]
                connection.execute(insert(Rating), rows)


def main(arguments: Sequence[str]) -> int:
    """Fill, measure, print.  Returns the exit code."""
    console = Console()
    settings = load(InsightsBenchSettings, arguments)
    with tempfile.TemporaryDirectory(prefix="bench-insights-") as folder:
        place = settings.store or str(Path(folder) / "store.sqlite")
        if not Path(place).exists():
            fill(place, settings)
        database = Database(place)
        who = projects.member(database, check_password(database, "owner", PASSWORD), "bench")
        for name in ("cold", "warm"):
            began = time.monotonic()
            insight(database, who)
            console.print(f"{name}: {time.monotonic() - began:.2f} s")
        database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
