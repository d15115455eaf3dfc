"""Options: marks worked out by hand, problems whose answers a second reading of their words confirms, and simulated people."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.judges.verify.choice import chosen, right_letters
from tutelage.records import MarkedStep, Prompt
from tutelage.seeds import rng
from tutelage.settings.base import build
from tutelage.settings.worlds import WorldSettings
from tutelage.worlds import expert, options_text, world
from tutelage.worlds.gold import grade
from tutelage.worlds.gold_options import mark, steps_of
from tutelage.worlds.options import TRAPS
from tutelage.worlds.options_lines import Rates, attempt, plans, planted, show, write
from tutelage.worlds.write import write_world

PROMPTS = list(world.prompts(5, "options test", 300, tasks=["options"]))

BAGS = {
    "first": {"who": "Anna", "bags": 3, "each": 2},
    "second": {"who": "Tom", "op": "+", "by": 4, "turned": True},
    "statements": [
        {"kind": "second", "says": 11},
        {"kind": "all", "says": 18},
        {"kind": "first", "says": 6},
    ],
    "answer": ["C"],
}
KEYS = {
    "first": {"who": "Ben", "count": 6},
    "second": {"who": "Tom", "op": "-", "by": 4, "turned": False},
    "statements": [
        {"kind": "first", "says": 7},
        {"kind": "all", "says": 8},
        {"kind": "more", "of": "first", "says": 6},
    ],
    "answer": ["B"],
}
BALLS = {
    "first": {"who": "Max", "count": 5},
    "second": {"who": "Leo", "op": "-", "by": 2, "turned": False},
    "statements": [
        {"kind": "first", "says": 7},
        {"kind": "more", "of": "first", "says": 2},
        {"kind": "second", "says": 2},
    ],
    "answer": ["B"],
}


def root(text: str, trap: str, rewrite: str) -> MarkedStep:
    return MarkedStep(text, -1, TRAPS[trap].note, rewrite, error=TRAPS[trap].error)


WORKED = [
    (
        BAGS,
        [
            root("1. Anna: 3+2=5.\n", "each", "1. Anna: 3*2=6.\n"),
            root("2. Tom: 5-4=1.\n", "turned", "2. Tom: 5+4=9.\n"),
            root("3. A says 11, 1: right.\n", "slip", "3. A says 11, 1: wrong.\n"),
            MarkedStep("4. B says 18, 5+1=6: wrong.\n", -1, caused_by=0),
            MarkedStep("5. C says 6, 5: wrong.\n", -1, caused_by=0),
            MarkedStep("Answer: A.", -1, caused_by=0),
        ],
    ),
    (
        KEYS,
        [
            MarkedStep("1. Ben: 6.\n", 1),
            MarkedStep("2. Tom: 6-4=2.\n", 1),
            MarkedStep("3. A says 7, 6: wrong.\n", 1),
            MarkedStep("4. B says 8, 6+2=8: right.\n", 1),
            root("Answer: B.", "stop", "5. C says 6, 6-2=4: wrong.\n"),
        ],
    ),
    (
        BALLS,
        [
            MarkedStep("1. Max: 5.\n", 1),
            MarkedStep("2. Leo: 5-2=3.\n", 1),
            MarkedStep("3. A says 7, 5: wrong.\n", 1),
            root("4. B says 2, 5: wrong.\n", "more", "4. B says 2, 5-3=2: right.\n"),
            MarkedStep("5. C says 2, 3: wrong.\n", 1),
            MarkedStep("Answer: none.", -1, caused_by=3),
        ],
    ),
]


@pytest.mark.parametrize(("reference", "marked"), WORKED)
def test_marks_by_hand(reference: dict, marked: list[MarkedStep]) -> None:
    assert mark(reference, "".join(step.text for step in marked)) == tuple(marked)


@pytest.mark.parametrize(
    ("text", "labels", "rewrite"),
    [
        ("1. Ben: 6.\n3. A says 7, 6: wrong.", [1, -1], "2. Tom: 6-4=2.\n"),  # a line is missing
        ("1. Ben: 6.\nHello.\n2. Tom: 6-4=2.", [1, -1, None], "2. Tom: 6-4=2.\n"),
        ("1. Ben: 6.\n1. Ben: 6.", [1, -1], "2. Tom: 6-4=2.\n"),
        ("1. Tom: 6.", [-1], "1. Ben: 6.\n"),  # somebody else
        ("1. Ben: 7.\n2. Tom: 6-4=2.", [-1, -1], "1. Ben: 6.\n"),  # true, but not what line 1 says
        (show(attempt(KEYS, rng(0), lambda place, trap: False)) + "\nBye.", [1] * 6 + [-1], None),
    ],
)
def test_lines_that_are_missing_or_cannot_be_read(text: str, labels: list, rewrite: str | None) -> None:
    steps = mark(KEYS, text)
    assert [step.label for step in steps] == labels
    assert next(step for step in steps if step.is_root).rewrite == rewrite


def told(text: str) -> tuple[dict, str]:
    """What a problem says, read from its words alone: the letters of the right statements, by another way than the world's."""
    found = re.fullmatch(r"(\w+) has (.*?)\. (.*?)\. Which are right\? A\. (.*) B\. (.*) C\. (.*)", text)
    assert found is not None, text
    who, first, second, *statements = found.groups()
    numbers = [int(one) for one in re.findall(r"\d+", first)]
    has = {who: numbers[0] * numbers[1] if "bags" in first else numbers[0]}
    if turned := re.fullmatch(r"That is (\d+) (more|fewer) \w+ than (\w+) has", second):
        has[turned[3]] = has[who] - int(turned[1]) * (1 if turned[2] == "more" else -1)
    elif times := re.fullmatch(r"(\w+) has (\d+) times as many \w+ as (\w+)", second):
        has[times[1]] = has[times[3]] * int(times[2])
    else:
        plain = re.fullmatch(r"(\w+) has (\d+) (more|fewer) \w+ than (\w+)", second)
        assert plain is not None, second
        has[plain[1]] = has[plain[4]] + int(plain[2]) * (1 if plain[3] == "more" else -1)
    return has, "".join(letter for letter, said in zip("ABC", statements, strict=True) if _holds(said, has))


def _holds(said: str, has: dict[str, int]) -> bool:
    if more := re.fullmatch(r"(\w+) has (\d+) more \w+ than (\w+)\.", said):
        return has[more[1]] - has[more[3]] == int(more[2])
    if total := re.fullmatch(r"They have (\d+) \w+ in all\.", said):
        return sum(has.values()) == int(total[1])
    one = re.fullmatch(r"(\w+) has (\d+) \w+\.", said)
    return one is not None and has[one[1]] == int(one[2])


def test_the_answer_is_what_the_words_say() -> None:
    for prompt in PROMPTS:
        text = prompt.text().removeprefix("user: ")
        has, letters = told(text)
        assert list(letters) == prompt.reference["answer"] and letters
        assert all(1 <= number <= 9 for number in map(int, re.findall(r"\d+", text)))
        assert all(1 <= number <= 9 for number in has.values())


def test_traps_are_told_by_the_words() -> None:
    words = {"each": "in each bag", "times": "times as many", "turned": "That is"}
    for prompt in PROMPTS:
        text, reference = prompt.text(), prompt.reference
        expected = [trap for trap, word in words.items() if word in text]
        expected += ["more"] * bool(re.search(r"[ABC]\. \w+ has \d more", text))
        assert reference["joined"] == (len(expected) > 1)
        expected += ["stop"] * (reference["answer"][0] != "C")
        assert reference["traps"] == expected
        assert reference["trap"] == (expected[0] if expected else "")
    joined = sum(prompt.reference["joined"] for prompt in PROMPTS) / len(PROMPTS)
    assert 0.1 < joined < 0.25
    seen = {trap for prompt in PROMPTS for trap in prompt.reference["traps"]}
    assert seen == set(TRAPS) - {"slip"}


@pytest.mark.parametrize("prompt", PROMPTS[:60])
def test_a_faultless_solution_is_sound(prompt: Prompt) -> None:
    text = write(dict(prompt.reference), rng(0))
    assert [step.label for step in mark(prompt.reference, text)] == [1] * 6
    assert grade(prompt, text).value == 1.0
    assert all(int(number) <= 9 for number in re.findall(r"\d+", text))


@pytest.mark.parametrize("prompt", PROMPTS[:60])
def test_one_planted_trap_is_the_only_root(prompt: Prompt) -> None:
    reference = dict(prompt.reference)
    assert set(plans(reference)) == {*reference["traps"], "slip"}
    for trap in plans(reference):
        text, _ = planted(reference, rng(1, prompt.id, trap), trap)
        steps = mark(reference, text)
        roots = [number for number, step in enumerate(steps) if step.is_root]
        assert len(roots) == 1 and steps[roots[0]].error == TRAPS[trap].error
        assert steps[roots[0]].explanation == TRAPS[trap].note
        assert all(step.label == 1 or step.caused_by == roots[0] for step in steps if not step.is_root)
        assert "".join(step.text for step in steps) == text


@settings(max_examples=80, deadline=None)
@given(st.integers(0, len(PROMPTS) - 1), st.integers(0, 10**6))
def test_rewrites_lead_to_a_sound_solution(number: int, seed: int) -> None:
    """Each rewrite, inserted and gone on from by somebody careless, leaves a first error that stands later, or none."""
    reference, careless = dict(PROMPTS[number].reference), Rates(0.7, 0.4, 0.2)
    text, last = show(attempt(reference, rng(seed), careless.falls(rng(seed, "falls")))), -1
    for _ in range(8):
        steps = mark(reference, text)
        root = next((at for at, step in enumerate(steps) if step.label == -1), None)
        if root is None:
            break
        assert root > last and steps[root].is_root and steps[root].rewrite
        begun = "".join(step.text for step in steps[:root]) + steps[root].rewrite
        assert all(step.label == 1 for step in mark(reference, begun))
        text, last = _finished(reference, begun, careless, seed + root), root
    assert grade(PROMPTS[number], text).value == 1.0


def _finished(reference: dict, begun: str, rates: Rates, seed: int) -> str:
    """The beginning, gone on from: by those who are careless, until what they write begins alike."""
    lines = begun.rstrip("\n").split("\n")
    if lines[-1].startswith("Answer"):
        return begun
    done = len(lines)
    falls = rates.falls(rng(seed, "again"))
    again = attempt(reference, rng(seed), lambda place, trap: place >= done and falls(place, trap))
    return "\n".join([*lines, *(one.text for one in again[done:])])


@pytest.mark.parametrize("said", ["A", "B", "C", "A, B", "A, C", "B, C", "A, B, C", "none"])
def test_the_answer_is_graded_as_a_choice_is(said: str) -> None:
    for prompt in PROMPTS[:20]:
        right = ", ".join(prompt.reference["answer"]) == said
        text = f"1. Somebody: 3.\nAnswer: {said}."
        assert grade(prompt, text).parts["answer"] == float(right)
        assert (chosen(text) == right_letters(prompt.reference)) == right


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="123ABC.:,=+ \n\r\tAnswerightwosay", max_size=120))
def test_any_text_is_marked_and_its_steps_joined_are_the_text(text: str) -> None:
    assert "".join(steps_of(text)) == text
    assert "".join(step.text for step in mark(KEYS, text)) == text
    assert 0.0 <= grade(Prompt("", "options", KEYS), text).value < 1.0


def test_a_right_answer_from_unsound_lines_is_worth_little() -> None:
    prompt = Prompt("", "options", KEYS)
    stopped = "1. Ben: 6.\n2. Tom: 6-4=2.\n3. A says 7, 6: wrong.\n4. B says 8, 6+2=8: right.\nAnswer: B."
    score = grade(prompt, stopped)
    assert score.parts == {"answer": 1.0, "steps": pytest.approx(4 / 6), "sound": 0.0}
    assert score.value == pytest.approx(0.25 + 0.25 * 4 / 6)
    assert grade(prompt, "Answer: B.").value == 0.25


# ---- simulated people ----------------------------------------------------------------------------------------------------


def test_the_expert_knows_and_the_crowd_errs_at_its_rate() -> None:
    changed = count = 0
    for prompt in PROMPTS:
        text, _ = planted(dict(prompt.reference), rng(2, prompt.id))
        known = expert.expert(prompt, text)
        assert known == mark(prompt.reference, text)
        assert expert.crowd(prompt, text, rng(0), 0.0) == known
        noisy = expert.crowd(prompt, text, rng(3, prompt.id), 0.2)
        changed += sum(one != other for one, other in zip(noisy, known, strict=True))
        count += len(known)
        assert "".join(step.text for step in noisy) == text
    assert changed / count == pytest.approx(0.2, abs=0.04)


def test_a_wrong_correction_makes_a_right_step_wrong() -> None:
    for prompt in PROMPTS[:80]:
        reference, text = dict(prompt.reference), write(dict(prompt.reference), rng(0))
        number, step = expert.wrong_correction(prompt, text, rng(4, prompt.id))
        assert step.is_root and step.explanation and step.error
        steps = steps_of(text)
        assert step.text == steps[number]
        spoilt = mark(reference, "".join([*steps[:number], step.rewrite]))
        assert [one.label for one in spoilt] == [1] * number + [-1] and spoilt[-1].is_root


def test_the_expert_knows_options_alone() -> None:
    with pytest.raises(ValueError, match="marks steps of options"):
        expert.expert(Prompt("2+2?", "maths", {"steps": [], "answer": 4}), "4")
    with pytest.raises(ValueError, match="no step that is right"):
        expert.wrong_correction(PROMPTS[0], "Hello.", rng(0))


# ---- the files -----------------------------------------------------------------------------------------------------------


def test_files_of_options(tmp_path) -> None:
    sizes = {
        "document_count": 60,
        "demonstration_count": 40,
        "prompt_count": 40,
        "heldout_count": 30,
        "solution_count": 30,
    }
    counts = write_world(tmp_path / "one", 1, **sizes, tasks=["options"])
    write_world(tmp_path / "two", 1, **sizes, tasks=["options"])
    rows = {name: [json.loads(line) for line in (tmp_path / "one" / name).open()] for name in counts}
    for name, count in counts.items():
        assert len(rows[name]) == count
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert counts["drills.jsonl"] == 30
    heldout = {row["prompt"][0]["content"] for row in rows["prompts_heldout.jsonl"]}
    rest = "".join(
        (tmp_path / "one" / name).read_text() for name in counts if name != "prompts_heldout.jsonl"
    )
    assert not any(text in rest for text in heldout)
    for row in rows["steps.jsonl"]:
        assert (-1 in row["marks"]) == bool(row["trap"])
        assert not row["trap"] or row["trap"] == "slip" or row["trap"] in row["reference"]["traps"]


def test_every_kind_of_document() -> None:
    texts = [document.text for document in options_text.documents(0, 600)]
    shares = {
        "drill": sum("Which" not in text for text in texts),
        "taught": sum("Teacher" in text for text in texts),
        "marked": sum(bool(re.search(r" (ok|no)$", text)) for text in texts),
    }
    assert shares["drill"] / 600 == pytest.approx(0.27, abs=0.05)
    assert shares["marked"] / 600 == pytest.approx(0.2, abs=0.05)
    assert 0.05 < shares["taught"] / 600 < 0.16  # those without an error need no teacher
    for text in (text for text in texts if "Teacher" in text):
        problem, _, work = text.partition("\n")
        wrong, _, again = work.partition("\nTeacher: step ")
        number, note, redone = int(again[0]), again[3:].partition("\n")[0], again.partition("\n")[2]
        assert note in {trap.note for trap in TRAPS.values()}
        whole = "\n".join([*wrong.split("\n")[: number - 1], redone])
        assert redone.endswith(f"Answer: {', '.join(told(problem)[1])}."), whole


def test_drills_are_true() -> None:
    """Sums come out, and verdicts are those of the numbers beside them."""
    count = 0
    for text in (document.text for document in options_text.drills(0, 500)):
        if "Which" in text:
            continue
        for sum_, result in re.findall(r"(\d[-+*]\d)=(\d+)", text):
            a, op, b = sum_
            assert {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[op] == int(result)
        for says, shown, verdict in re.findall(r"says (\d), (?:.*=)?(\d): (right|wrong)", text):
            assert (says == shown) == (verdict == "right")
        count += 1
    assert count > 460


def test_numbers_are_looked_up_in_half_of_the_drills() -> None:
    """Whose number a statement is about: verdicts that follow from the two lines that give the quantities."""
    drills = [one.text for one in options_text.drills(1, 300) if "Which" not in one.text]
    looked_up = [text for text in drills if text.startswith("A. ")]
    assert len(looked_up) / len(drills) == pytest.approx(0.5, abs=0.12)
    for text in looked_up:
        statements, *lines = text.split("\n")
        found = re.fullmatch(r"A\. (.*) B\. (.*) C\. (.*)", statements)
        has = {who: int(number) for who, number in re.findall(r"\d\. (\w+): (\d)\.", text)}
        assert found is not None and len(has) == 2
        for said, written in zip(found.groups(), lines[2:], strict=True):
            assert written.endswith(": right." if _holds(said, has) else ": wrong.")


def test_careless_is_how_often_demonstrators_fall_into_traps() -> None:
    def sound(careless: float) -> float:
        shown = list(options_text.demonstrations(0, 300, careless))
        return sum(grade(demo.prompt, demo.response).parts["sound"] for demo in shown) / len(shown)

    assert sound(0.0) == 1.0 and 0.3 < sound(0.5) < 0.45 and sound(1.0) < 0.2


def test_options_stands_alone() -> None:
    assert build(WorldSettings, {"tasks": ["options"]}).tasks == ["options"]
    for beside in ({"tasks": ["options", "maths"]}, {"tasks": ["options"], "people": 40}):
        with pytest.raises(ValueError, match="stands alone"):
            build(WorldSettings, beside)
