"""A small project to work on: prompts, four responses each, pairs, annotators."""

from __future__ import annotations

from tutelage.records import Message, Prompt, Response, Vote
from tutelage.store import ModelInfo, NewVote, Store


def prompt(number: int) -> Prompt:
    return Prompt((Message("user", f"question {number}"),), "maths", {"answer": number})


def response(to: Prompt, index: int, text: str = "") -> Response:
    return Response(
        to, text or f"answer {index} to {to.id}", (1, 2), (3, 4, 5), (-0.5, -0.25, -0.25), "eos", index
    )


def new_vote(
    item: int,
    annotator: str,
    preference: int,
    first_shown: int = 0,
    key: str = "",
    supersedes: int | None = None,
) -> NewVote:
    return NewVote(item, Vote(annotator, preference, first_shown), key or f"{annotator}/{item}", supersedes)


def fill(
    store: Store, project: str = "main", prompts: int = 3, samples: int = 4, per_prompt: int = 0
) -> None:
    asked = [prompt(number) for number in range(prompts)]
    store.add_prompts(project, asked)
    run = store.add_generation_run(ModelInfo("runs/sft", "ab12"), "local", {"temperature": 1.0, "seed": 0})
    store.add_responses(project, run, [response(p, index) for p in asked for index in range(samples)])
    store.build_pairs(project, per_prompt, overlap=2)
    for name in ("ann", "bob", "cat"):
        store.add_annotator(name, "simulated", {"reliability": 0.8})
