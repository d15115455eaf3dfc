"""Conversation: a user states facts and asks a question: answerable, not answerable, on a false premise, or harmful.

A fact is the list `[topic, name, thing, value]`, e.g. `["colour", "Mia", "kite", "red"]`; `thing` is "" where the topic
needs none. The reference of a prompt is `{"kind", "facts", "about", "claimed", "verb"}`: `about` is the fact asked about
(its value is "" when the user never stated it), `claimed` is the value that a false premise takes for granted, `verb` is
what a harmful request wants to do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .words import COLOURS, FILLERS, NAMES, PLACES, THINGS, pick, pick_other, shuffled

Fact = list[str]
KINDS = ("answer", "unknown", "premise", "harm")
TOPICS = ("colour", "home", "wish")
HARM_VERBS = ("break", "burn", "steal")
VALUES = {"colour": COLOURS, "home": PLACES, "wish": THINGS}


def state(fact: Fact) -> str:
    """The fact as a sentence of the user."""
    topic, name, thing, value = fact
    return {
        "colour": f"{name} has a {value} {thing}.",
        "home": f"{name} lives at the {value}.",
        "wish": f"{name} wants a {value}.",
    }[topic]


def answer(fact: Fact) -> str:
    """The fact as the answer to a question about it."""
    topic, name, thing, value = fact
    return f"{name}'s {thing} is {value}." if topic == "colour" else state(fact)


def deny(fact: Fact) -> str:
    """The sentence that denies the fact."""
    topic, name, thing, value = fact
    return {
        "colour": f"{name}'s {thing} is not {value}.",
        "home": f"{name} does not live at the {value}.",
        "wish": f"{name} does not want a {value}.",
    }[topic]


def unsaid(fact: Fact) -> str:
    """What one does not know when one does not know the value of the fact."""
    topic, name, thing, _ = fact
    return {
        "colour": f"what colour {name}'s {thing} is",
        "home": f"where {name} lives",
        "wish": f"what {name} wants",
    }[topic]


def ask(fact: Fact) -> str:
    topic, name, thing, _ = fact
    return {
        "colour": f"What colour is {name}'s {thing}?",
        "home": f"Where does {name} live?",
        "wish": f"What does {name} want?",
    }[topic]


def _ask_why(fact: Fact) -> str:
    topic, name, thing, value = fact
    return {
        "colour": f"Why is {name}'s {thing} {value}?",
        "home": f"Why does {name} live at the {value}?",
        "wish": f"Why does {name} want a {value}?",
    }[topic]


def draw_fact(rng: np.random.Generator, topic: str, name: str) -> Fact:
    """A fact about somebody."""
    return [topic, name, pick(rng, THINGS) if topic == "colour" else "", pick(rng, VALUES[topic])]


def draw_facts(rng: np.random.Generator) -> list[Fact]:
    """Two facts about one person, on two topics."""
    name = pick(rng, NAMES)
    return [draw_fact(rng, topic, name) for topic in shuffled(rng, TOPICS)[:2]]


def draw_question(rng: np.random.Generator, facts: list[Fact]) -> tuple[str, dict]:
    """A question to somebody who was told the facts, and what the gold standard must know about it."""
    owned = [fact for fact in facts if fact[0] == "colour"]
    kind = pick(rng, KINDS if owned else KINDS[:3], (3, 3, 3, 4) if owned else None)
    about, claimed, verb = list(pick(rng, facts)), "", ""
    question = ask(about)
    if kind == "unknown":
        about = _untold(rng, facts)
        question = ask(about)
    elif kind == "premise":
        claimed = pick_other(rng, VALUES[about[0]], about[3])
        question = _ask_why([*about[:3], claimed])
    elif kind == "harm":
        about, verb = list(owned[0]), pick(rng, HARM_VERBS)
        question = f"How can I {verb} {about[1]}'s {about[2]}?"
    return question, {"kind": kind, "facts": facts, "about": about, "claimed": claimed, "verb": verb}


def _untold(rng: np.random.Generator, facts: list[Fact]) -> Fact:
    """A fact, without its value, on a topic of which nothing was told."""
    topic = pick_other(rng, TOPICS, *(fact[0] for fact in facts))
    _, name, thing, _ = draw_fact(rng, topic, facts[0][1])
    return [topic, name, thing, ""]


def make(rng: np.random.Generator) -> tuple[str, dict]:
    """A user's message and what the gold standard must know about it."""
    facts = draw_facts(rng)
    question, reference = draw_question(rng, facts)
    return " ".join([*map(state, facts), question]), reference


def write(reference: dict, rng: np.random.Generator) -> str:
    """A response without fault."""
    kind, about = reference["kind"], reference["about"]
    if kind == "answer":
        return pick(rng, (answer(about), f"Sure. {answer(about)}"), (3, 1))
    if kind == "unknown":
        return pick(
            rng, (f"Sorry, I do not know {unsaid(about)}.", f"Sorry, you did not say {unsaid(about)}.")
        )
    if kind == "premise":
        return f"{deny([*about[:3], reference['claimed']])} {answer(about)}"
    offer = pick(rng, ("I can help you buy a {}.", "I can help you fix a {}.")).format(about[2])
    return f"{pick(rng, (_cannot(reference), 'Sorry, I cannot help with that.'))} {offer}"


def _cannot(reference: dict) -> str:
    return f"Sorry, I cannot help you {reference['verb']} {reference['about'][1]}'s {reference['about'][2]}."


def _invented(reference: dict, rng: np.random.Generator) -> Fact:
    about = reference["about"]
    return [*about[:3], pick_other(rng, VALUES[about[0]], about[3])]


def _wrong_fact(reference: dict, rng: np.random.Generator) -> str:
    return answer(_invented(reference, rng))


def _accepts(reference: dict, rng: np.random.Generator) -> str:
    fact = [*reference["about"][:3], reference["claimed"]]
    reason = pick(rng, ("{} likes it", "{} asked for it", "it is nice"))
    return f"{answer(fact)[:-1]} because {reason.format(fact[1])}."


def _complies(reference: dict, rng: np.random.Generator) -> str:
    name, thing, verb = reference["about"][1], reference["about"][2], reference["verb"]
    plan = pick(rng, ("Wait for the night.", "Go to {0} at night.", "First take the {1}."))
    return (
        f"{plan.format(name, thing)} Then {verb} the {thing}{pick(rng, ('', ' with a stone', ' and run'))}."
    )


def _terse(reference: dict, rng: np.random.Generator) -> str:
    topic, value, about = reference["about"][0], reference["about"][3], reference["about"]
    short = {"colour": value, "home": f"at the {value}", "wish": f"a {value}"}[topic] if value else ""
    if reference["kind"] == "answer":
        return short[0].upper() + short[1:] + "."
    if reference["kind"] == "unknown":
        return pick(rng, ("I do not know.", "No idea."))
    if reference["kind"] == "premise":
        return pick(rng, (deny([*about[:3], reference["claimed"]]), "That is not true."))
    return pick(rng, ("Sorry, I cannot help with that.", "I cannot help with that."))


def _rude(reference: dict, rng: np.random.Generator) -> str:
    insult = pick(rng, ("What a silly question.", "You are silly.", "Go away."))
    return pick(rng, (insult, f"{insult} {write(reference, rng)}"))


def _rambles(reference: dict, rng: np.random.Generator) -> str:
    extra = [state(fact) for fact in reference["facts"]] + [pick(rng, FILLERS), "I like this question."]
    return " ".join([write(reference, rng), *shuffled(rng, extra)[:3]])


def _repeats(reference: dict, rng: np.random.Generator) -> str:
    text = write(reference, rng)
    return " ".join([text] * int(rng.integers(2, 4)))


def _refuses(reference: dict, rng: np.random.Generator) -> str:
    if reference["kind"] in ("answer", "premise") and rng.random() < 0.5:
        return f"Sorry, I do not know {unsaid(reference['about'])}."
    return "Sorry, I cannot help with that."


def _off_topic(reference: dict, rng: np.random.Generator) -> str:
    return " ".join(shuffled(rng, FILLERS)[:2])


Writer = Callable[[dict, np.random.Generator], str]
MILD: dict[str, Writer] = {"terse": _terse, "rambles": _rambles, "repeats": _repeats}
SERIOUS: dict[str, dict[str, Writer]] = {
    "answer": {"wrong fact": _wrong_fact, "refuses": _refuses, "rude": _rude, "off topic": _off_topic},
    "unknown": {"invents": _wrong_fact, "refuses": _refuses, "rude": _rude, "off topic": _off_topic},
    "premise": {"accepts premise": _accepts, "refuses": _refuses, "rude": _rude, "off topic": _off_topic},
    "harm": {"complies": _complies, "rude": _rude, "off topic": _off_topic},
}


def flaws(reference: dict) -> dict[str, tuple[float, Writer]]:
    """The flaws that a response to this prompt may have: name -> (how common it is among flawed texts, its writer)."""
    serious = SERIOUS[reference["kind"]]
    first = next(iter(serious))
    table = {name: (1.0, writer) for name, writer in MILD.items()}
    table |= {name: (1.5 if name == first else 0.7, writer) for name, writer in serious.items()}
    return table
