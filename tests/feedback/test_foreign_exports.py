"""Exports in the forms of others: what is expected is written from what was answered, and read with our own readers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.databases import fresh_sqlite
from tests.feedback.kit import hand_in, owner
from tutelage.data.reading.formats import (
    Dropped,
    read_comparisons,
    read_labelled,
    read_ratings,
    read_step_marks,
)
from tutelage.feedback.asking.payloads import (
    Answer,
    Criterion,
    PairAnswer,
    RankAnswer,
    RateAnswer,
    Schema,
    StepAnswer,
    StepMark,
    Task,
)
from tutelage.feedback.errors import Refused
from tutelage.feedback.exports import exporting
from tutelage.feedback.exports.exporting import Exported, ExportSpec
from tutelage.feedback.exports.foreign import FOREIGN
from tutelage.feedback.items import building
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects import projects
from tutelage.feedback.work import queue
from tutelage.files import sha256_of
from tutelage.records import Comparison, Labelled, Message, Prompt, Rating, Response, StepMarks
from tutelage.settings.base import load
from tutelage.settings.feedback import FeedbackExportSettings
from tutelage.store import ModelInfo, Store
from tutelage.store.database import Database

GOLDEN = Path(__file__).parent / "golden"


def asked(text: str, task: str = "", answer: str = "") -> Prompt:
    return Prompt((Message("user", text),), task, {"answer": answer} if answer else None)


PLAIN, CHAT = Prompt("Name a colour.\n"), asked("Wie weit ist der Mond? 🌙", "facts", "384 400 km")
SYSTEM = Prompt((Message("system", "Be brief."), Message("user", "Name a bird.")))
TURNS = Prompt((Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Name a fish.")))
TOOLS = Prompt(
    (Message("user", "How warm is it?"),),
    tools=({"type": "function", "function": {"name": "warmth", "parameters": {"type": "object"}}},),
)
SPOKEN = asked("Write a dialogue.")
PROMPTS = (PLAIN, CHAT, SYSTEM, TURNS, TOOLS, SPOKEN)
BEST, ONE = "Good – ein «Text»\nof two lines", "=One of two"
OTHER, SHORT = "Other of two ", "Cut off in the mid"
DIALOGUE = "Human: Who?\n\nAssistant: Me."  # a text that readers of text columns take for turns
PLACES = {BEST: 1, DIALOGUE: 1, ONE: 2, OTHER: 2, SHORT: 3}
CRITERIA = ("overall", "accuracy", "tone")
RATINGS = {BEST: (7, 5, 6), DIALOGUE: (7, 5, 6), ONE: (4, 2, 3), OTHER: (4, 4, None), SHORT: (1, 1, 1)}

STEPS = "One is 1. Two is 2. Three is 4."
MARKED: tuple[tuple[Prompt, str, tuple[int, ...], Any], ...] = (
    (Prompt("Count?"), STEPS, (1, 1, -1), "eos"),
    (asked("Count to 3.", "sums", "3"), STEPS, (1, -1), "eos"),  # marking ended at the first wrong step
    (asked("Count, please."), STEPS, (1, 0, 1), "eos"),
    (asked("Count again.", "sums"), "Step 1: is 1.\nStep 2: is 2.\n", (1, 1), "eos"),
    (asked("Count on."), STEPS, (1, 1, 1), "length"),
    (asked("Считай."), "Раз. Поднял руки.", (1, 1), "eos"),  # the tag of Math-Shepherd is in its words
    (TURNS, STEPS, (1, 1, 1), "eos"),
)


@dataclass(frozen=True)
class World:
    database: Database
    votes: Member
    steps: Member


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A project that was compared, ranked and rated, and one whose steps were marked."""
    address = str(fresh_sqlite(tmp_path_factory.mktemp("store") / "store.sqlite"))
    database = Database(address)
    olga = owner(database)
    with Store(address) as store:
        run = store.add_generation_run(ModelInfo("runs/sft"), "local", {})
        store.add_prompts("votes", PROMPTS)
        texts = dict.fromkeys(PROMPTS, (ONE, BEST, OTHER, SHORT)) | {SPOKEN: (ONE, DIALOGUE, OTHER, SHORT)}
        store.add_responses("votes", run, [written(p, t, n) for p in PROMPTS for n, t in enumerate(texts[p])])
        store.build_pairs("votes", 0, 1)
        votes = projects.member(database, olga, "votes")
        criteria = tuple(Criterion(name=name, title=name) for name in CRITERIA)
        projects.set_schema(database, votes, Schema(criteria=criteria, strength=3))
        building.build(database, votes, "rank", size=4)
        building.build(database, votes, "rate", size=4)
        answer_all(database, votes, voted)

        store.add_prompts("steps", [prompt for prompt, *_ in MARKED])
        store.add_responses("steps", run, [written(p, text, 0, end) for p, text, _, end in MARKED])
        steps = projects.member(database, olga, "steps")
        projects.set_schema(database, steps, Schema(type="step", splitter="sentences", first_error=True))
        building.build(database, steps, "step")
        answer_all(database, steps, marked)
    yield World(database, votes, steps)
    database.close()


def written(prompt: Prompt, text: str, number: int, end: Any = "") -> Response:
    return Response(prompt, text, (), (1,), (), end or ("length" if text == SHORT else "eos"), number)


def answer_all(database: Database, who: Member, answer: Callable[[Task], Answer]) -> None:
    while (task := queue.next_task(database, who)) is not None:
        hand_in(database, who, task, answer(task))


def voted(task: Task) -> Answer:
    texts = [shown.text for shown in task.responses]
    if task.type == "pair":
        return PairAnswer(preference=PLACES[texts[0]] - PLACES[texts[1]])
    if task.type == "rank":
        return RankAnswer(ranks=tuple(PLACES[text] for text in texts))
    return RateAnswer(
        ratings={name: tuple(RATINGS[text][n] for text in texts) for n, name in enumerate(CRITERIA)}
    )


def marked(task: Task) -> Answer:
    [labels] = [labels for prompt, _, labels, _ in MARKED if last(prompt) == task.thread[-1].content]
    return StepAnswer(marks=tuple(StepMark(step=n, label=label) for n, label in enumerate(labels)))


def last(prompt: Prompt) -> str:
    return prompt.content if isinstance(prompt.content, str) else prompt.content[-1].content


# what must come back --------------------------------------------------------------------------------------------------


def turn(prompt: Prompt, **more: Any) -> Prompt:
    """The prompt as forms of others give it back: as turns, without task and reference unless they are said."""
    plain = isinstance(prompt.content, str)
    return Prompt(asked(str(prompt.content)).content if plain else prompt.content, **more)


def best(prompt: Prompt) -> str:
    return DIALOGUE if prompt is SPOKEN else BEST


def better(prompts: Iterable[Prompt], **more: Any) -> list[Comparison]:
    """What has a better side, of which both ended: once compared as a pair, and once in a ranking."""
    return [
        Comparison(turn(prompt, tools=prompt.tools), best(prompt), text)
        for prompt in prompts
        for text in (ONE, OTHER)
        for _ in ("pair", "rank")
    ]


def steps(prompt: Prompt, texts: str, *labels: int | None, finish: Any = "eos", **more: Any) -> StepMarks:
    return StepMarks(turn(prompt, **more), tuple(texts.split("|")), labels, finish=finish)


THREE = "One is 1. |Two is 2. |Three is 4."
NUMBERED = "Step 1: One is 1.|Step 2: Two is 2.|Step 3: Three is 4."
COUNT, TO_3, PLEASE, AGAIN, ON, RUSSIAN = (prompt for prompt, *_ in MARKED[:6])
ASKED = (PLAIN, CHAT, SPOKEN)  # one question
TIES, CUTS = {"tie": 12}, {"response was cut, which the format cannot say": 36}
SEVERAL = "conversation is not one question, as the format wants it"
WITH_TOOLS = "prompt has tools, which the format cannot say"
TAKEN = "text that readers would take for something else"

COMPARED = {
    "openai": (better(PROMPTS), {}),
    "orca": (better((PLAIN, CHAT, SYSTEM)), {SEVERAL: 4, WITH_TOOLS: 4, TAKEN: 4}),
    "summarize-from-feedback": (better((PLAIN, CHAT)), {SEVERAL: 8, WITH_TOOLS: 4, TAKEN: 4}),
}


def export(world: World, folder: Path, format: str, kind: str = "jsonl", **spec: Any) -> Exported:
    who = world.steps if format in MARKS else world.votes
    file = folder / f"{format}.{kind}"
    done = exporting.export(world.database, who, ExportSpec(format=format, file_format=kind, **spec), file)
    manifest = json.loads(done.manifest.read_text())
    assert manifest["sha256"] == sha256_of(file) and manifest["left_out"] == done.left_out
    assert manifest["aggregation"] == "majority" and manifest["spec"]["format"] == format
    return done


def read(reader: Any, done: Exported) -> list[Any]:
    """What a trainer reads of the file: every row serves, and every column is used but those that say where it is from."""
    rows = reader(str(done.file))
    found = list(rows.walk())
    assert not any(isinstance(row, Dropped) for row in found)
    return found


def same(found: list[Any], expected: list[Any]) -> bool:
    left = list(found)
    for row in expected:
        if row not in left:
            return False
        left.remove(row)
    return not left


@pytest.mark.parametrize("format", COMPARED)
def test_comparisons_come_back_from_the_forms_of_others(world: World, tmp_path: Path, format: str) -> None:
    expected, left_out = COMPARED[format]
    done = export(world, tmp_path, format)
    assert same(read(read_comparisons, done), expected) and done.rows == len(expected)
    assert done.left_out == TIES | CUTS | left_out
    halves = [
        Labelled(row.prompt, text, good)
        for row in expected
        for text, good in ((row.chosen, True), (row.rejected, False))
    ]
    assert same(read(read_labelled, done), halves)
    if format == "summarize-from-feedback":
        assert {json.loads(line)["choice"] for line in done.file.read_text().splitlines()} == {0, 1}
    kept = export(world, tmp_path, format, ties="keep")
    assert kept.left_out == {"tie: the format has none": 12} | CUTS | left_out


def test_rankings_keep_their_ties_as_nemo_writes_them(world: World, tmp_path: Path) -> None:
    """Every ranking whole, with its tie and without the response that was cut; and beside it the pairs."""
    prompts = [prompt for prompt in PROMPTS if prompt is not TOOLS]
    strict = better(prompts)
    for ties, times in (("drop", 1), ("keep", 2)):
        done = export(world, tmp_path, "nemo", ties=ties)
        found = read(read_comparisons, done)
        tied = [frozenset((row.chosen, row.rejected)) for row in found if row.p_chosen == 0.5]
        assert same([row for row in found if row.p_chosen != 0.5], strict)
        assert tied == [frozenset((ONE, OTHER))] * 5 * times
        lines = [json.loads(line) for line in done.file.read_text().splitlines()]
        ranks = Counter(tuple(sorted(one["rank"] for one in line["completions"])) for line in lines)
        assert ranks == {(0, 1, 1): 5, (0, 1): 10} | ({(0, 0): 5} if ties == "keep" else {})
        cut = {"response was cut, which the format cannot say": 6 + 18}
        tools = 1 + 2 + (1 if ties == "keep" else 0)
        assert done.left_out == cut | {WITH_TOOLS: tools} | ({"tie": 6} if ties == "drop" else {})
    by_skill = export_by_skill(world, tmp_path)
    assert {len(json.loads(line)["completions"]) for line in by_skill.file.read_text().splitlines()} == {2}


def export_by_skill(world: World, folder: Path) -> Exported:
    spec = ExportSpec(format="nemo", aggregation="crowd-bt")
    return exporting.export(world.database, world.votes, spec, folder / "skill.jsonl")


def test_ratings_come_back_as_ultrafeedback_has_them(world: World, tmp_path: Path) -> None:
    done = export(world, tmp_path, "ultrafeedback")
    expected = [
        Rating(turn(prompt), text, values)
        for prompt in (PLAIN, CHAT)
        for text, values in (
            (BEST, {"overall": 7, "accuracy": 5, "tone": 6}),
            (ONE, {"overall": 4, "accuracy": 2, "tone": 3}),
            (OTHER, {"overall": 4, "accuracy": 4}),
        )
    ]
    assert same(read(read_ratings, done), expected) and done.rows == 2
    cut = {"response was cut, which the format cannot say": 2}
    assert done.left_out == cut | {SEVERAL: 2, WITH_TOOLS: 1, TAKEN: 1}
    pairs = Counter(
        (row.prompt, row.p_chosen, frozenset((row.chosen, row.rejected)))
        for row in read(read_comparisons, done)
    )
    assert pairs == {  # by the overall score, ties and all
        (turn(prompt), p, frozenset(sides)): 1
        for prompt in (PLAIN, CHAT)
        for p, sides in ((1, (BEST, ONE)), (1, (BEST, OTHER)), (0.5, (ONE, OTHER)))
    }


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_ratings_come_back_as_helpsteer_has_them(world: World, tmp_path: Path, kind: str) -> None:
    """Its prompts are text, which readers take as it is; a criterion that no reader knows as a column is counted."""
    done = export(world, tmp_path, "helpsteer", kind)
    expected = [
        Rating(Prompt(last(prompt)), text, {"overall": overall, "accuracy": accuracy})
        for prompt in ASKED
        for text, overall, accuracy in ((best(prompt), 7, 5), (ONE, 4, 2), (OTHER, 4, 4))
    ]
    assert same(read(read_ratings, done), expected) and done.rows == 9
    assert done.left_out == {
        "response was cut, which the format cannot say": 3,
        "rating by a criterion that is no column of the format": 6,
        SEVERAL: 8,
        WITH_TOOLS: 4,
    }


MARKS: dict[str, tuple[list[StepMarks], dict[str, int]]] = {
    "prm800k": (
        [
            steps(COUNT, THREE, 1, 1, -1),
            steps(TO_3, "One is 1. |Two is 2. ", 1, -1, finish="length", reference={"answer": "3"}),
            steps(PLEASE, THREE, 1, 0, 1),
            steps(AGAIN, "Step 1: is 1.\n|Step 2: is 2.\n", 1, 1),
            steps(ON, THREE, 1, 1, 1, finish="length"),
            steps(RUSSIAN, "Раз. |Поднял руки.", 1, 1),
        ],
        {SEVERAL: 1},
    ),
    "math-shepherd": (
        [
            steps(COUNT, NUMBERED, 1, 1, -1),
            steps(AGAIN, "Step 1: is 1.|Step 2: is 2.", 1, 1, task="sums"),
        ],
        {
            "not every step is marked": 1,
            "neutral step": 1,
            "response was cut, which the format cannot say": 1,
            TAKEN: 1,
            SEVERAL: 1,
        },
    ),
    "processbench": (
        [
            steps(COUNT, THREE, 1, 1, -1),
            steps(TO_3, THREE, 1, -1, None),
            steps(AGAIN, "Step 1: is 1.\n|Step 2: is 2.\n", 1, 1),
            steps(RUSSIAN, "Раз. |Поднял руки.", 1, 1),
        ],
        {"neutral step": 1, "response was cut, which the format cannot say": 1, SEVERAL: 1},
    ),
}


@pytest.mark.parametrize("format", MARKS)
def test_marks_come_back_from_the_forms_of_others(world: World, tmp_path: Path, format: str) -> None:
    expected, left_out = MARKS[format]
    done = export(world, tmp_path, format)
    assert same(read(read_step_marks, done), expected)
    assert done.left_out == left_out and done.rows == len(expected)


def test_what_neutral_steps_become_is_said_on_the_command_line() -> None:
    said = {
        value: load(FeedbackExportSettings, [f"neutral={value}"]).neutral
        for value in ("true", "false", "drop")
    }
    assert said == {value: value for value in said}


def test_a_neutral_step_may_be_the_first_wrong_one(world: World, tmp_path: Path) -> None:
    for neutral, labels in (("false", (1, -1, None)), ("true", (1, 1, 1))):
        found = read(read_step_marks, export(world, tmp_path, "processbench", neutral=neutral))
        [row] = [row for row in found if row.prompt == PLEASE]
        assert row.labels == labels


def test_trl_rows_say_that_a_response_goes_on(world: World, tmp_path: Path) -> None:
    spec = ExportSpec(format="stepwise", neutral="true")
    done = exporting.export(world.database, world.steps, spec, tmp_path / "stepwise.jsonl")
    ends = {last(row.prompt): row.finish for row in read(read_step_marks, done)}
    assert [ends[last(prompt)] for prompt in (COUNT, TO_3, ON)] == ["eos", "length", "length"]


@pytest.mark.parametrize("format", FOREIGN)
def test_files_are_what_they_were(world: World, tmp_path: Path, format: str) -> None:
    """The first rows, byte by byte."""
    first = export(world, tmp_path, format).file.read_text(encoding="utf-8").splitlines(keepends=True)[:4]
    assert "".join(first) == (GOLDEN / f"{format}.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("format", "kind"),
    [("orca", "parquet"), ("orca", "csv"), ("math-shepherd", "parquet"), ("processbench", "parquet")],
)
def test_what_has_columns_may_be_a_table(world: World, tmp_path: Path, format: str, kind: str) -> None:
    """Read, it gives what the lines give; in CSV a text that looks like a formula keeps the quote before it."""
    reader = read_comparisons if format == "orca" else read_step_marks
    table = read(reader, export(world, tmp_path, format, kind))
    lines = read(reader, export(world, tmp_path, format))
    if kind == "csv":
        assert any(row.rejected == ONE for row in lines)
        lines = [replace(row, rejected=row.rejected.replace(ONE, f"'{ONE}")) for row in lines]
    assert table == lines


@pytest.mark.parametrize("format", ["ratings", "helpsteer"])
def test_ratings_in_tables_come_back(world: World, tmp_path: Path, format: str) -> None:
    """With a criterion that not every response is rated by; prompts that are turns throughout, where some are."""
    lines = read(read_ratings, export(world, tmp_path, format))
    assert len({frozenset(row.values) for row in lines}) == (2 if format == "ratings" else 1)
    for kind in ("parquet", "csv"):
        table = read(read_ratings, export(world, tmp_path, format, kind))
        assert len(table) == len(lines)
        for found, expected in zip(table, lines, strict=True):
            assert (found.values, found.finish) == (expected.values, expected.finish)
            assert found.response.removeprefix("'") == expected.response


@pytest.mark.parametrize("format", ["openai", "summarize-from-feedback", "nemo", "ultrafeedback", "prm800k"])
def test_what_nests_is_lines_only(world: World, tmp_path: Path, format: str) -> None:
    for kind in ("parquet", "csv"):
        with pytest.raises(Refused, match=f"format={format} has objects within .* choose jsonl"):
            export(world, tmp_path, format, kind)
    assert not list(tmp_path.iterdir())


READERS = {"ultrafeedback": read_ratings, "helpsteer": read_ratings} | dict.fromkeys(MARKS, read_step_marks)


@pytest.mark.parametrize("aggregation", ["majority", "all", "adjudicated"])
def test_every_row_of_a_busy_project_is_read(
    database: Database, busy: Member, tmp_path: Path, aggregation: Any
) -> None:
    """With rewrites, revisions, a second annotator, what an adjudicator settled, and open disputes."""
    for format in FOREIGN:
        spec = ExportSpec(format=format, aggregation=aggregation, neutral="true", ties="keep")  # type: ignore[arg-type]
        done = exporting.export(database, busy, spec, tmp_path / f"{format}.jsonl")
        found = read(READERS.get(format, read_comparisons), done)
        assert len(found) >= done.rows > 0
        disputed = aggregation == "adjudicated" and READERS.get(format) is None
        assert ("unsettled dispute" in done.left_out) == disputed
