"""The command `revise`: critique and revision by a constitution, and data that train."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.judges.endpoint import Server, serving
from tests.train.making import make_model, make_tokenizer
from tutelage.judges.llm.templates import principle_for, read_constitution
from tutelage.launch import launch
from tutelage.models.loading import save
from tutelage.resume import read_metrics
from tutelage.rollout.revise import unusable
from tutelage.seeds import rng
from tutelage.settings.preference import DPOSettings
from tutelage.settings.rollout import ReviseSettings
from tutelage.settings.train import SFTSettings
from tutelage.store import Answer
from tutelage.worlds.gold import grade
from tutelage.worlds.world import prompts, write_response

ASKED = [one for one in prompts(0, "revise-test", 36) if one.task != "summary"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(ASKED) as running:
        yield running


@pytest.fixture
def responses(tmp_path: Path) -> Path:
    file = tmp_path / "samples.jsonl"
    rows = [
        {
            "prompt": p.content_json(),
            "task": p.task,
            "reference": dict(p.reference or {}),
            "response": write_response(p, rng(0, p.id), careless=1.0).text,
        }
        for p in ASKED
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def revise(server: Server, data: Path, folder: Path, part: dict[str, Any] | None = None, **more: Any) -> Path:
    model = [{"judge": "llm:tutelage-world", "url": server.url, **(part or {})}]
    settings = ReviseSettings(
        out=folder, data=str(data), judge=model, calls=str(data.parent / "store.sqlite"), **more
    )
    run = launch("revise", settings, Console(quiet=True))
    assert run is not None
    return run


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_written_anew_is_better_and_the_pairs_say_so(
    server: Server, responses: Path, tmp_path: Path
) -> None:
    """Two rounds by two principles; every chosen one is worth more by gold than what it takes the place of."""
    run = revise(server, responses, tmp_path / "revise", rounds=2)
    revisions = lines(run / "revisions.jsonl")
    known = {p.id: p for p in ASKED}
    assert [row["versions"][0] for row in revisions] == [row["response"] for row in lines(responses)]
    assert all(len(row["versions"]) == 3 and len(set(row["principles"])) == 2 for row in revisions)
    assert all(row["critiques"][0].startswith("By the gold standard") for row in revisions)
    pairs, demonstrations = lines(run / "preference.jsonl"), lines(run / "demonstrations.jsonl")
    assert [row["response"] for row in demonstrations] == [row["versions"][-1] for row in revisions]
    assert 0 < len(pairs) <= len(demonstrations)
    for pair in pairs:
        prompt = next(p for p in known.values() if p.content_json() == pair["prompt"])
        assert grade(prompt, pair["chosen"]).value >= grade(prompt, pair["rejected"]).value
    assert sum(
        grade(p, row["response"]).value for p, row in zip(ASKED, demonstrations, strict=True)
    ) > 0.95 * len(ASKED)
    requests = server.stats()["requests"]
    again = revise(server, responses, tmp_path / "again", rounds=2)
    assert server.stats()["requests"] == requests  # everything is known
    assert (again / "revisions.jsonl").read_bytes() == (run / "revisions.jsonl").read_bytes()


@pytest.mark.slow
def test_sft_and_dpo_read_what_it_writes(server: Server, responses: Path, tmp_path: Path) -> None:
    run = revise(server, responses, tmp_path / "revise")
    tokenizer = make_tokenizer()
    base = save(make_model(tokenizer), tokenizer, tmp_path / "base")
    common: dict[str, Any] = {"model": str(base), "max_steps": 2, "batch_size": 4, "precision": "fp32", "tensorboard": False,
                              "max_dropped_share": 0.5}  # fmt: skip
    sft = SFTSettings(data=str(run / "demonstrations.jsonl"), out=tmp_path / "sft", **common)
    dpo = DPOSettings(data=str(run / "preference.jsonl"), out=tmp_path / "dpo", **common)
    for command, settings in (("sft", sft), ("dpo", dpo)):
        folder = launch(command, settings, Console(quiet=True))
        assert folder is not None
        assert [row["step"] for row in read_metrics(folder) if "loss" in row] == [1, 2]


def test_what_is_lost_is_counted_and_trains_nothing(responses: Path, tmp_path: Path) -> None:
    """An empty answer is no revision."""
    with serving(ASKED, malformed=0.4) as broken:
        run = revise(broken, responses, tmp_path / "revise")
    rows = lines(run / "revisions.jsonl")
    lost = Counter(row["lost"] for row in rows if row["lost"])
    assert lost and set(lost) <= {"the critique is empty", "the revision is empty"}
    assert len(lines(run / "demonstrations.jsonl")) == len(rows) - lost.total()
    [figures] = [row for row in lines(run / "metrics.jsonl") if "lost_rate" in row]
    assert figures["lost_rate"] == pytest.approx(lost.total() / len(rows))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer("k", "answered", "Well.", "stop"), ""),
        (Answer("k", "answered", "<think>hm</think>", "stop"), "is empty"),
        (Answer("k", "answered", "Well, and", "length"), "was cut off (max_tokens)"),
        (Answer("k", "refused", "no"), "was refused"),
    ],
)
def test_what_is_no_text_to_go_on_with(answer: Answer, why: str) -> None:
    assert unusable(answer) == why


def test_each_principle_is_used_and_always_the_same(tmp_path: Path) -> None:
    own = read_constitution("")
    assert len(own) == 8
    drawn = Counter(principle_for(own, str(n)) for n in range(800))
    assert len(drawn) == 8 and min(drawn.values()) > 60
    assert principle_for(own, "x") == principle_for(own, "x")
    (tmp_path / "c.txt").write_text("# mine\n\nBe kind.\n")
    assert read_constitution(str(tmp_path / "c.txt")) == ["Be kind."]
    (tmp_path / "c.txt").write_text("# mine\n")
    with pytest.raises(ValueError, match="has no principle"):
        read_constitution(str(tmp_path / "c.txt"))


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("runs/reward", "who revises is one language model"),
        (
            [{"judge": "llm:x", "url": "http://h/v1", "mode": "logits"}],
            "mode is for a judge, and means nothing",
        ),
    ],
)
def test_who_cannot_revise(tmp_path: Path, model: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ReviseSettings(out=tmp_path, data="x.jsonl", judge=model)
