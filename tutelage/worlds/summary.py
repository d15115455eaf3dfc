"""Summarisation: a post of five sentences, two of them filler; a good summary tells what happened, where, and how it ended.

The reference of a prompt is `{"who", "event", "colour", "thing", "place", "ending", "helper", "post"}`: `event` is one of
`EVENTS`; `ending` is "helper" (somebody named `helper` put it right), "new" (the owner bought another one) or "nobody";
`post` is the list of the post's sentences.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .words import COLOURS, DAYS, FILLERS, NAMES, PLACES, THINGS, pick, pick_other, shuffled

EVENTS = {"lost": ("found", "find"), "broke": ("fixed", "fix")}
ENDINGS = ("helper", "new", "nobody")
REQUEST = "Write a short summary."
SCENES = ("The {place} was full of people.", "It was cold at the {place}.", "There was music at the {place}.")


def _post_ending(reference: dict) -> str:
    past, base = EVENTS[reference["event"]]
    return {
        "helper": f"In the end {reference['helper']} {past} the {reference['thing']}.",
        "new": f"In the end {reference['who']} bought a new {reference['thing']}.",
        "nobody": f"In the end nobody could {base} the {reference['thing']}.",
    }[reference["ending"]]


def ending_clause(reference: dict) -> str:
    """How it ended, in the words of a summary."""
    past, _ = EVENTS[reference["event"]]
    return {
        "helper": f"{reference['helper']} {past} it",
        "new": f"{reference['who']} bought a new one",
        "nobody": f"nobody {past} it",
    }[reference["ending"]]


def tell_event(reference: dict) -> str:
    """What happened to whom, and where, in the words of a summary."""
    return f"{reference['who']} {reference['event']} a {reference['thing']} at the {reference['place']}"


def make(rng: np.random.Generator) -> tuple[str, dict]:
    """A request to summarise a post, and what the gold standard must know about the post."""
    who, helper = shuffled(rng, NAMES)[:2]
    event, ending = pick(rng, tuple(EVENTS)), pick(rng, ENDINGS, (2, 1, 1))
    reference = {
        "who": who,
        "event": event,
        "colour": pick(rng, COLOURS),
        "thing": pick(rng, THINGS),
        "place": pick(rng, PLACES),
        "ending": ending,
        "helper": helper if ending == "helper" else "",
    }
    second = pick(rng, FILLERS)
    post = [
        f"On {pick(rng, DAYS)} {who} was at the {reference['place']}.",
        pick(rng, SCENES).format(place=reference["place"]),
        f"There {who} {event} a {reference['colour']} {reference['thing']}.",
        second,
        _post_ending(reference),
    ]
    return f"{REQUEST} {' '.join(post)}", reference | {"post": post}


def write(reference: dict, rng: np.random.Generator) -> str:
    """A response without fault."""
    event, ending = tell_event(reference), ending_clause(reference)
    return pick(rng, (f"{event}, but {ending}.", f"{event}. Then {ending}."), (2, 1))


def _wrong_fact(reference: dict, rng: np.random.Generator) -> str:
    changed = dict(reference)
    slot = pick(rng, ("who", "thing", "place", "ending"))
    options = {"who": NAMES, "thing": THINGS, "place": PLACES, "ending": ENDINGS}[slot]
    changed[slot] = pick_other(rng, options, reference[slot])
    changed["helper"] = changed["helper"] or pick_other(rng, NAMES, reference["who"])
    return write(changed, rng)


def _no_ending(reference: dict, rng: np.random.Generator) -> str:
    return f"{tell_event(reference)}."


def _no_place(reference: dict, rng: np.random.Generator) -> str:
    return f"{reference['who']} {reference['event']} a {reference['thing']}, but {ending_clause(reference)}."


def _no_event(reference: dict, rng: np.random.Generator) -> str:
    return f"{reference['who']} was at the {reference['place']}. {pick(rng, FILLERS)}"


def _copies(reference: dict, rng: np.random.Generator) -> str:
    post = reference["post"]
    return " ".join(post[int(rng.integers(2)) :])


def _rambles(reference: dict, rng: np.random.Generator) -> str:
    extra = [
        f"{reference['who']} was at the {reference['place']}.",
        "I like this post.",
        *shuffled(rng, FILLERS)[:2],
    ]
    return " ".join([write(reference, rng), *shuffled(rng, extra)[:3]])


def _comments(reference: dict, rng: np.random.Generator) -> str:
    return pick(rng, ("I like this post.", "This is a nice post.", f"I like {reference['who']}."))


def _repeats(reference: dict, rng: np.random.Generator) -> str:
    return " ".join([write(reference, rng)] * 2)


def _off_topic(reference: dict, rng: np.random.Generator) -> str:
    return " ".join(shuffled(rng, FILLERS)[:2])


Writer = Callable[[dict, np.random.Generator], str]


def flaws(reference: dict) -> dict[str, tuple[float, Writer]]:
    """The flaws that a summary of this post may have: name -> (how common it is among flawed texts, its writer)."""
    return {
        "wrong fact": (0.4, _wrong_fact),
        "no ending": (1.5, _no_ending),
        "no place": (1.0, _no_place),
        "no event": (1.0, _no_event),
        "copies": (2.0, _copies),
        "rambles": (1.5, _rambles),
        "comments": (0.7, _comments),
        "repeats": (0.7, _repeats),
        "off topic": (0.5, _off_topic),
    }
