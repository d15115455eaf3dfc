"""The world's files: the same for a seed, split cleanly, and of the promised size."""

from __future__ import annotations

import hashlib
import json

import pytest

from tutelage.worlds import corpus, world
from tutelage.worlds.write import write_world


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("world")
    write_world(
        path,
        3,
        document_count=600,
        demonstration_count=300,
        careless=0.5,
        prompt_count=200,
        heldout_count=100,
    )
    return path


def rows(folder, name):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def question(row):
    return row["prompt"][0]["content"]


@pytest.mark.slow
def test_same_seed_same_bytes(folder, tmp_path):
    sizes = {
        "document_count": 600,
        "demonstration_count": 300,
        "careless": 0.5,
        "prompt_count": 200,
        "heldout_count": 100,
    }
    counts = write_world(tmp_path / "again", 3, **sizes)
    write_world(tmp_path / "other", 4, **sizes)
    for name, count in counts.items():
        assert len(rows(folder, name)) == count
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
        assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()


def test_a_longer_file_begins_with_the_shorter_one():
    short = [document.text for document in corpus.documents(0, 20)]
    assert [document.text for document in corpus.documents(0, 50)][:20] == short


def test_heldout_prompts_are_in_no_other_file(folder):
    heldout = {question(row) for row in rows(folder, "prompts_heldout.jsonl")}
    assert len(heldout) == 100
    assert not heldout & {question(row) for row in rows(folder, "prompts_train.jsonl")}
    assert not heldout & {question(row) for row in rows(folder, "demonstrations.jsonl")}
    text = (folder / "pretrain.jsonl").read_text()
    assert not any(prompt in text for prompt in heldout)
    # The side of a prompt is its own, so that worlds of different seeds do not leak into each other either.
    assert not any(world.is_heldout(question(row)) for row in rows(folder, "prompts_train.jsonl"))


def test_prompts_differ_and_tasks_are_even(folder):
    train = rows(folder, "prompts_train.jsonl")
    assert len({question(row) for row in train}) == len(train)
    shares = [sum(row["task"] == task for row in train) / len(train) for task in world.TOGETHER]
    assert all(abs(share - 1 / 3) < 0.05 for share in shares)


@pytest.mark.parametrize("careless", [0.0, 0.3, 1.0])
def test_careless_is_the_share_of_flawed_demonstrations(careless):
    written = [
        world.write_response(prompt, world.rng(0, "test", i), careless)
        for i, prompt in enumerate(world.prompts(0, "test", 600))
    ]
    share = sum(bool(response.flaw) for response in written) / len(written)
    assert share == pytest.approx(careless, abs=0.06)


@pytest.mark.slow
def test_the_vocabulary_is_small_and_text_is_short():
    texts = [document.text for document in corpus.documents(0, 3000)]
    words = {
        word for text in texts for word in text.replace("\n", " ").split() if word.strip(".,:?'").isalpha()
    }
    assert len({word.strip(".,:?'").removesuffix("'s").lower() for word in words}) < 300
    assert max(len(text.split()) for text in texts) < 90


@pytest.mark.slow
def test_every_kind_of_document_is_written_in_its_share():
    assert set(corpus.KINDS) == {"exchange", *corpus.WRITERS}
    texts = [document.text for document in corpus.documents(0, 2000)]
    sums = sum(text.startswith("1. ") for text in texts) / len(texts)
    assert sums == pytest.approx(corpus.KINDS["sums"], abs=0.02)


def test_prompts_and_demonstrations_of_some_tasks_alone() -> None:
    """In turn, and those held out stay apart from the others."""
    few = [prompt.task for prompt in world.prompts(0, "train", 6, tasks=["summary", "conversation"])]
    assert few == ["summary", "conversation"] * 3
    assert {demo.prompt.task for demo in world.demonstrations(0, 5, 0.5, ["summary"])} == {"summary"}
    trained = {prompt.text() for prompt in world.prompts(0, "train", 40, tasks=["summary"])}
    heldout = world.prompts(0, "heldout", 40, heldout=True, tasks=["summary"])
    assert not trained & {prompt.text() for prompt in heldout}


def test_several_people_write_to_each_prompt() -> None:
    """The first of them as if alone; nobody writes to a prompt that another group has."""
    alone = list(world.demonstrations(0, 20, 0.5))
    shared = list(world.demonstrations(0, 58, 0.5, each=3))
    assert len(shared) == 58 and shared[::3] == alone
    assert all(one.prompt == alone[number // 3].prompt for number, one in enumerate(shared))
    assert sum(len({one.response for one in shared[i : i + 3]}) > 1 for i in range(0, 57, 3)) > 10


def test_the_default_world_stays_as_it_is(tmp_path) -> None:
    """Beginnings of the hashes of its files as they were before there was a task that stands alone."""
    sizes = {"document_count": 40, "demonstration_count": 30, "prompt_count": 30, "heldout_count": 30}
    counts = write_world(tmp_path, 3, **sizes, solution_count=20)
    found = {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()[:16] for name in counts}
    assert found == {
        "pretrain.jsonl": "147f2e52d7f2feeb",
        "demonstrations.jsonl": "793dea31adb576d4",
        "prompts_train.jsonl": "cce67357e8b4f51c",
        "prompts_heldout.jsonl": "cb910b26259b1a8b",
        "steps.jsonl": "cb705183624a387e",
    }
