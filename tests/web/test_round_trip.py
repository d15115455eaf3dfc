"""From a click to a reward model: what was pressed on the page is what training calls chosen, whichever side it was on.

Labelled over HTTP with the requests that the page makes, exported, imported into another store, and learnt from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from tests.train.making import make_model, make_tokenizer
from tests.web.kit import PASSWORD, World, make_world
from tutelage.cli import run_command
from tutelage.commands import find
from tutelage.data.batch import TokenBatch
from tutelage.data.encoding import Unusable
from tutelage.data.template import encode
from tutelage.feedback.projects import projects
from tutelage.feedback.training.source import comparisons_from
from tutelage.models.loading import load_scalar, load_tokenizer, save
from tutelage.records import Comparison
from tutelage.store.database import Database
from tutelage.web.app import build_app
from tutelage.web.site import Site

# (order of the slots on the screen, side that is pressed): each side in both orders.
CASES = (((0, 1), 0), ((0, 1), 1), ((1, 0), 0), ((1, 0), 1))
QUESTIONS = ("the cat sat", "a dog ran", "1 + 2", "the mat is")
ANSWERS = [(f"on the mat {n}.", f"to the red cat {n}.") for n in range(4)]
STRENGTH = 2  # "better": a margin of 2/3


@dataclass
class Page:
    """The labelling page without its looks: a session by cookie, the CSRF token in a header, the page's own bodies."""

    client: TestClient
    csrf: str

    def post(self, path: str, body: dict[str, Any], key: str | None = None) -> Any:
        headers = {"X-CSRF-Token": self.csrf} | ({"Idempotency-Key": key} if key else {})
        answer = self.client.post(f"/api/v1{path}", json=body, headers=headers)
        assert answer.status_code < 300, answer.text
        return answer.json()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path / "store.sqlite")
    made.project("main", {"acceptable": False}, prompts=QUESTIONS, answers=ANSWERS)
    yield made
    made.close()


@pytest.fixture
def page(world: World) -> Iterator[Page]:
    site = Site(world.database)
    with TestClient(build_app(site), base_url="http://localhost") as client:
        said = client.post("/api/v1/auth/login", json={"name": "ann", "password": PASSWORD})
        yield Page(client, said.json()["csrf"])
    site.exports.close()


def label(page: Page, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, str]]:
    """Press a side of every pair; prompt -> (the text that was pressed, the other)."""
    pressed = {}
    for number, (order, side) in enumerate(CASES):
        monkeypatch.setattr(
            "tutelage.feedback.work.leases.draw_order", lambda slots, seed, order=order: list(order)
        )
        view = page.post("/projects/main/next", {"besides": []})["view"]
        texts = [shown["text"] for shown in view["task"]["responses"]]
        # What the screen shows is made from `responses`; the text to the left is position 0.
        assert [part["raw"] for part in view["responses"]] == texts
        preference = -STRENGTH if side == 0 else STRENGTH
        answer = {"type": "pair", "preference": preference, "criteria": {}, "acceptable": [], "reason": ""}
        answer["confidence"] = None
        body = {"answer": answer, "active_ms": 900, "ui_version": "test"}
        at = f"/projects/main/assignments/{view['task']['assignment_id']}/submit"
        page.post(at, body, key=f"page-{number:04d}")
        pressed[view["task"]["thread"][-1]["content"]] = (texts[side], texts[1 - side])
    assert page.post("/projects/main/next", {"besides": []})["view"] is None
    return pressed


def exported(page: Page, **spec: Any) -> bytes:
    made = page.post("/projects/main/exports", spec)
    return page.client.get(f"/api/v1/projects/main/exports/{made['name']}/file").content


def chosen_of(rows: list[Comparison]) -> dict[str, tuple[str, str]]:
    return {str(row.prompt.content): (row.chosen, row.rejected) for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize("format", ["preference", "raw"])
def test_the_side_that_was_pressed_is_the_side_that_training_prefers(
    page: Page, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    pressed = label(page, monkeypatch)
    assert len(pressed) == len(CASES)
    assert chosen_of(comparisons_from("store:main", str(world.path)).rows) == pressed

    file = tmp_path / "rows.jsonl"
    file.write_bytes(exported(page, format=format))
    copy = tmp_path / "copy.sqlite"
    imported = ["project=copy", f"file={file}", f"kind={format}", f"store={copy}"]
    with closing(Database(copy)) as database:
        projects.local_member(database, "copy", create=True)
    assert run_command(find("feedback import"), imported) == 0
    rows = comparisons_from("store:copy", str(copy)).rows
    assert chosen_of(rows) == pressed
    assert [row.margin for row in rows] == pytest.approx([STRENGTH / 3] * 4, abs=1e-6)

    tokenizer = make_tokenizer()
    base = save(make_model(tokenizer), tokenizer, tmp_path / "base")
    out = tmp_path / "reward"
    training = [
        f"model={base}",
        "data=store:copy",
        f"store={copy}",
        f"out={out}",
        "heldout_share=0",
        "device=cpu",
    ]
    how = [
        "learning_rate=0.01",
        "max_steps=20",
        "batch_size=4",
        "max_length=64",
        "tensorboard=false",
        "margin_coef=1",
    ]
    assert run_command(find("reward"), [*training, *how]) == 0
    model = load_scalar(out / "model").eval()
    for row in rows:
        better, worse = pressed[str(row.prompt.content)]
        pair = encode(
            load_tokenizer(out / "model"), [(row.prompt, better, "eos"), (row.prompt, worse, "eos")]
        )
        tokens = [one.tokens() for one in pair if not isinstance(one, Unusable)]
        with torch.no_grad():
            first, second = model(TokenBatch.collate(tokens, [0, 1]), at="ends").tolist()
        assert first > second
