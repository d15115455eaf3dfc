"""Distillation: gradients against full logits, what it reaches in an enumerable world, invariances, agreement, the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch.nn import functional as F

from tests.oracle import LENGTHS, SEQUENCES, STATES, TabularPolicy, divergence
from tests.train.making import CPU, gradients, make_model, make_rows, make_tokenizer
from tests.train.test_oracle import PRACTICE, PROMPT_IDS, PROMPTS, EndsAreFree, Table
from tutelage.data.batch import TokenBatch, Tokens
from tutelage.launch import launch
from tutelage.models.forward import Traits
from tutelage.models.loading import save
from tutelage.models.policy import PolicyModule
from tutelage.models.tiny import tiny_model, train_tokenizer
from tutelage.records import Prompt
from tutelage.resume import read_metrics
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.runs import Run
from tutelage.settings.base import build, load
from tutelage.settings.distill import DistillSettings
from tutelage.train.distill import Distillation, Lesson, OwnResponses, from_rows, together
from tutelage.train.fit import accumulate, fit

TOKENIZER = make_tokenizer()
ROWS = [row[0] for row in make_rows(9)]


def settings(**changes: Any) -> DistillSettings:
    given = {"teacher": "t", "prompts": "-", "learn_from": "logits", "precision": "fp32"}
    return build(DistillSettings, {**given, **changes})


def two_models() -> tuple[PolicyModule, PolicyModule]:
    """A student and a teacher that differ by more than rounding hides."""
    models = make_model(TOKENIZER, 0), make_model(TOKENIZER, 1)
    for model in models:
        with torch.no_grad():
            model.host.get_output_embeddings().weight.mul_(8.0)
    return models


def algorithm(student: PolicyModule, teacher: PolicyModule, **changes: Any) -> Distillation:
    return Distillation(
        student, teacher.requires_grad_(False), lambda step: Lesson([], []), settings(**changes)
    )


def logits_of(model: PolicyModule, batch: TokenBatch) -> list[torch.Tensor]:
    """Per sequence [T, V], by transformers' own forward, one sequence at a time."""
    rows = batch.ids.split(batch.lengths)
    return [model.host(input_ids=row[None]).logits[0] for row in rows]


def plainly(
    student: PolicyModule, teacher: PolicyModule, batch: TokenBatch, kind: str, t: float
) -> torch.Tensor:
    """The mean over trained tokens, from full logits and torch's own kl_div."""
    total, masks = torch.zeros(()), batch.loss_mask.split(batch.lengths)
    for own, other, mask in zip(logits_of(student, batch), logits_of(teacher, batch), masks, strict=True):
        log_q, log_p = (torch.log_softmax(z[:-1][mask[1:]] / t, -1) for z in (own, other))
        if kind == "forward-kl":
            total = total + F.kl_div(log_q, log_p, log_target=True, reduction="sum")
        elif kind == "reverse-kl":
            total = total + F.kl_div(log_p, log_q, log_target=True, reduction="sum")
        else:
            beta = 0.3
            log_m = (beta * log_p.exp() + (1 - beta) * log_q.exp()).log()
            total = total + beta * F.kl_div(log_m, log_p, log_target=True, reduction="sum")
            total = total + (1 - beta) * F.kl_div(log_m, log_q, log_target=True, reduction="sum")
    return t**2 * total / batch.loss_mask.sum()


@pytest.mark.parametrize("t", [1.0, 2.5])
@pytest.mark.parametrize("kind", ["forward-kl", "reverse-kl", "jsd"])
def test_loss_and_gradient_are_those_of_the_full_distributions(kind: str, t: float) -> None:
    student, teacher = two_models()
    batch = TokenBatch.collate(ROWS)
    beta = {"beta": 0.3} if kind == "jsd" else {}
    learns = algorithm(student, teacher, divergence=kind, logits_temperature=t, **beta)
    found = accumulate(learns, [batch], 10_000, CPU).means()["loss"]
    slopes = gradients(student)
    expected = plainly(student, teacher, batch, kind, t)
    expected.backward()
    assert found == pytest.approx(expected.item(), rel=1e-5) and found > 1e-3
    for name, slope in gradients(student).items():
        torch.testing.assert_close(slopes[name], slope, rtol=1e-4, atol=1e-7)
    assert not gradients(teacher)


@pytest.mark.parametrize("kind", ["forward-kl", "reverse-kl", "jsd"])
def test_a_student_that_is_its_teacher_has_nothing_to_learn(kind: str) -> None:
    student = make_model(TOKENIZER, 3)
    learns = algorithm(student, make_model(TOKENIZER, 3), divergence=kind)
    assert accumulate(learns, [TokenBatch.collate(ROWS)], 10_000, CPU).means()["loss"] == pytest.approx(
        0, abs=1e-7
    )
    assert max(slope.abs().max().item() for slope in gradients(student).values()) < 1e-7


def test_cuts_order_and_company_change_no_gradient() -> None:
    """Micro-batches of few tokens, another order, and other sequences in between, whose part is known from themselves."""
    student, teacher = two_models()
    learns = algorithm(student, teacher, divergence="jsd")

    def slopes(rows: list[Tokens], most: int) -> dict[str, torch.Tensor]:
        accumulate(learns, [TokenBatch.collate(rows)], most, CPU)
        return gradients(student)

    whole = slopes(ROWS, 10_000)
    for other in (slopes(ROWS, 25), slopes(ROWS[::-1], 40)):
        for name, slope in whole.items():
            torch.testing.assert_close(other[name], slope, rtol=1e-4, atol=1e-7)
    tokens = [int(TokenBatch.collate(part).loss_mask.sum()) for part in (ROWS[:4], ROWS[4:])]
    first, second = slopes(ROWS[:4], 10_000), slopes(ROWS[4:], 10_000)
    for name, slope in whole.items():
        mean = (tokens[0] * first[name] + tokens[1] * second[name]) / sum(tokens)
        torch.testing.assert_close(mean, slope, rtol=1e-4, atol=1e-7)


def test_heads_of_two_lengths_are_compared_over_the_tokens_of_both() -> None:
    """A teacher with five rows more that no token has: as if they were not there."""
    student, teacher = make_model(TOKENIZER, 0), make_model(TOKENIZER, 1)
    batch = TokenBatch.collate(ROWS)
    short = accumulate(algorithm(student, teacher), [batch], 10_000, CPU).means()["loss"]
    wide = make_model(TOKENIZER, 1)
    wide.host.resize_token_embeddings(len(TOKENIZER) + 5)
    with torch.no_grad():
        wide.host.get_output_embeddings().weight[-5:] = 7.0
    assert accumulate(algorithm(student, wide), [batch], 10_000, CPU).means()["loss"] == pytest.approx(
        short, rel=1e-6
    )


# ---- a world that can be enumerated ------------------------------------------------------------------------------------

STRANGE = torch.tensor([[3.0, 0.0, 3.0], [0.0, 2.0, 0.0], [1.0, 1.0, -2.0], [0.0, 0.0, 3.0], [2.0, 0.0, 0.0], [0.0, 1.0, 0.0],
                        [0.0, 0.0, 1.0]])  # fmt: skip


def a_table(theta: torch.Tensor) -> PolicyModule:
    return PolicyModule(Table(theta.T.float()), Traits(flat=True))


def log_policy(model: PolicyModule) -> torch.Tensor:
    return TabularPolicy(model.host.score.weight.detach().T).sequence_logprobs().detach().double()


def learn(
    folder: Path, teacher: torch.Tensor, lessons: Any, steps: int, student: PolicyModule, **changes: Any
) -> None:
    shared = {name: value for name, value in PRACTICE.items() if name in DistillSettings.model_fields}
    chosen = settings(**{**shared, "out": folder, "max_new_tokens": 3, **changes})
    run = Run.open(folder, "distill", chosen, Console(quiet=True))
    if lessons is None:
        lessons = OwnResponses(student, EndsAreFree(), PROMPTS, 256, chosen, run.log)
    learns = Distillation(student, a_table(teacher).requires_grad_(False), lessons, chosen)
    fit(learns, chosen, CPU, run, steps=steps, tokenizer=make_tokenizer())
    run.close()


def every_sequence(step: int) -> Lesson:
    """All 15, each once: whatever the student does, every prefix is visited."""
    ids = [(*PROMPT_IDS, *sequence) for sequence in SEQUENCES]
    return Lesson([Tokens(np.array(i, np.int32), np.arange(len(i)) > 0) for i in ids], list(range(len(ids))))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["forward-kl", "reverse-kl", "jsd"])
def test_a_student_that_can_be_its_teacher_becomes_it(tmp_path: Path, kind: str) -> None:
    student = a_table(torch.zeros(len(STATES), 3))
    learn(
        tmp_path / "run",
        STRANGE,
        every_sequence,
        300,
        student,
        divergence=kind,
        learning_rate=0.1,
        schedule="linear",
    )
    expected = TabularPolicy(STRANGE).sequence_logprobs().detach().double()
    assert float(divergence(expected, log_policy(student))) < 1e-4


@pytest.mark.slow
def test_on_its_own_responses_it_becomes_its_teacher_too(tmp_path: Path) -> None:
    student = a_table(torch.zeros(len(STATES), 3))
    learn(
        tmp_path / "run", STRANGE, None, 200, student,
        learn_from="on-policy", divergence="reverse-kl", learning_rate=0.1, schedule="linear",
    )  # fmt: skip
    expected = TabularPolicy(STRANGE).sequence_logprobs().detach().double()
    assert float(divergence(log_policy(student), expected)) < 1e-3
    lines = read_metrics(tmp_path / "run")
    assert lines[0]["loss"] > 0.2 and lines[-1]["loss"] < 1e-3
    assert 1 <= lines[-1]["completions/mean_length"] <= max(LENGTHS)


class OneForAll(Table):
    """A student too small for its teacher: one distribution of the next token, whatever stands before."""

    def base_model(self, input_ids: torch.Tensor, tutelage_layout: Any, **more: Any) -> Any:
        found = super().base_model(input_ids, tutelage_layout, **more)
        found.last_hidden_state = torch.ones_like(found.last_hidden_state[..., :1])
        return found


class _Constant(EndsAreFree):
    def sync(self, policy: PolicyModule, version: int) -> None:
        row = policy.host.score.weight.detach().T
        self._policy = TabularPolicy(row.expand(len(STATES), 3))


@pytest.mark.slow
def test_too_small_a_student_covers_its_teacher_or_takes_its_mode(tmp_path: Path) -> None:
    """The teacher begins with 0 or 1 and then says the same again.  Forward KL spreads over both; reverse KL, on-policy, takes
    one of them."""
    sure = 6.0
    theta = torch.tensor([[sure, sure, 0.0], [sure, 0.0, 0.0], [0.0, sure, 0.0], *[[0.0, 0.0, 0.0]] * 4])
    for state, token in (((0, 0), 0), ((1, 1), 1)):
        theta[STATES.index(state), token] = sure
    start = torch.tensor([[0.1, 0.0, 0.0]])
    found = {}
    for kind, own in (("forward-kl", False), ("reverse-kl", True)):
        student = PolicyModule(OneForAll(start.T), Traits(flat=True))
        chosen = settings(
            **{name: value for name, value in PRACTICE.items() if name in DistillSettings.model_fields},
            divergence=kind, learn_from="on-policy" if own else "logits", max_new_tokens=3,
        ).model_copy(update={"learning_rate": 0.05, "schedule": "linear", "out": tmp_path / kind})  # fmt: skip
        run = Run.open(chosen.out, "distill", chosen, Console(quiet=True))
        lessons: Any = OwnResponses(student, _Constant(), PROMPTS, 256, chosen, run.log) if own else teachers
        fit(
            Distillation(student, a_table(theta).requires_grad_(False), lessons, chosen),
            chosen, CPU, run, steps=200, tokenizer=make_tokenizer(),
        )  # fmt: skip
        run.close()
        found[kind] = torch.softmax(student.host.score.weight.detach()[:, 0], 0)
    assert found["forward-kl"][:2].min() > 0.45
    assert found["reverse-kl"][0] > 0.95


def teachers(step: int) -> Lesson:
    """What the teacher of two modes writes: 000 and 111, as often."""
    rows = [
        Tokens(np.array([*PROMPT_IDS, *ids], np.int32), np.arange(4) > 0) for ids in ((0, 0, 0), (1, 1, 1))
    ]
    return Lesson(rows, [0, 1])


# ---- where rows come from ----------------------------------------------------------------------------------------------


def test_a_step_takes_its_share_of_each_kind_and_numbers_them_apart() -> None:
    lessons = together(from_rows(ROWS[:5], 3, 0), from_rows(ROWS[5:], 1, 0, first=5))
    seen = [lessons(step) for step in range(5)]
    assert all(len(lesson.rows) == 4 and sum(row < 5 for row in lesson.rows) == 3 for lesson in seen)
    assert sorted(row for lesson in seen for row in lesson.rows[:3]) == sorted([*range(5)] * 3)
    assert {row for lesson in seen[:4] for row in lesson.rows[3:]} == {5, 6, 7, 8}
    assert all((s.ids == ROWS[r].ids).all() for lesson in seen for s, r in zip(*lesson, strict=True))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["teacher=t", "learn_from=on-policy", "data=d"], "nothing to respond to"),
        (["teacher=t"], "nothing to respond to"),
        (["learn_from=logits", "data=d"], "learn_from=logits needs a teacher"),
        (["prompts=p"], "prompts needs a teacher"),
        (["data=d"], "this is fine-tuning on data: use `sft`"),
        (["teacher=t", "learn_from=logits"], "nothing to learn from"),
        (["teacher=t", "prompts=p", "divergence=jsd"], "divergence=jsd is about distributions"),
        (["teacher=t", "prompts=p", "learn_from=logits", "beta=0.2"], "beta=0.2 is for divergence=jsd"),
        (["teacher=t", "prompts=p", "learn_from=logits", "keep=agreed"], "keep=agreed replaces what is learnt"),
        (["teacher=t", "prompts=p", "abstention=No."], "abstention is for keep=agreed"),
        (["teacher=t", "prompts=p", "temperature=0", "samples=2"], "draws the same response every time"),
        (["teacher=t", "prompts=p", "data_share=0.2"], "shares a step between prompts and data"),
        (["teacher=t", "prompts=p", "data=d", "batch_size=2", "data_share=0.1"], "leaves no row for one of the two"),
        (["data=d", "keep=agreed", "abstention="], "it is empty: give words"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(given: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load(DistillSettings, given)


# ---- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    for name, seed in (("student", 0), ("teacher", 1)):
        save(make_model(TOKENIZER, seed), TOKENIZER, tmp_path / name)
    texts = ["the cat", "a dog ran", "1 + 2 =", "the mat is"]
    rows = [{"prompt": text, "completion": " red."} for text in texts]
    for name, some in (("p", [{"prompt": text} for text in texts]), ("d", rows)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    return {
        "model": str(tmp_path / "student"),
        "teacher": str(tmp_path / "teacher"),
        "prompts": str(tmp_path / "p.jsonl"),
        "out": tmp_path / "run",
        "batch_size": 4,
        "max_new_tokens": 6,
        "max_steps": 3,
        "learning_rate": 1e-3,
        "tensorboard": False,
        "precision": "fp32",
        "gradient_checkpointing": "off",
    }


def distilled(given: dict[str, Any], **changes: Any) -> Path:
    chosen = build(
        DistillSettings, {name: str(v) if isinstance(v, Path) else v for name, v in (given | changes).items()}
    )
    launch("distill", chosen, Console(quiet=True))
    return chosen.out


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_outputs_are_written_once_and_learnt(given: dict[str, Any]) -> None:
    out = distilled(given, samples=2, eval_prompts=given["prompts"], eval_every=3)
    rows = lines(out / "demonstrations.jsonl")
    assert len(rows) == 8 and {row["prompt"] for row in rows} == {
        "the cat",
        "a dog ran",
        "1 + 2 =",
        "the mat is",
    }
    found = read_metrics(out)
    assert [line["step"] for line in found] == [0, 1, 2, 3] and found[-1]["eval_loss"] < found[0]["eval_loss"]
    assert (out / "model" / "model.safetensors").is_file() and (out / "demonstrations-eval.jsonl").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["logits", "on-policy"])
def test_distributions_are_learnt_from_its_own_or_from_both(given: dict[str, Any], way: str) -> None:
    out = distilled(given, learn_from=way, data=str(given["out"].parent / "d.jsonl"), divergence="jsd", max_steps=12,
                    eval_prompts=given["prompts"], eval_every=12)  # fmt: skip
    found = read_metrics(out)
    assert found[-1]["eval_loss"] < 0.9 * found[0]["eval_loss"] and found[1]["student_entropy"] > 0
    assert ("completions/mean_length" in found[1]) == (way == "on-policy")


def test_only_what_the_student_would_say_itself_is_kept(given: dict[str, Any]) -> None:
    """Of two rows one is the student's own likeliest answer, written down beforehand with other capitals."""
    own = (
        LocalGenerator(make_model(TOKENIZER, 0), TOKENIZER)
        .generate([Prompt("the cat")], Sampling(6, 0.0))[0]
        .text
    )
    data = given["out"].parent / "two.jsonl"
    said = [{"prompt": "the cat", "completion": own.upper()}, {"prompt": "a dog ran", "completion": " home."}]
    data.write_text("".join(json.dumps(row) + "\n" for row in said))
    out = distilled(
        {**given, "teacher": "", "prompts": ""}, data=str(data), keep="agreed", abstention="No idea."
    )
    rows = lines(out / "demonstrations-data.jsonl")
    assert [row["response"] for row in rows] == [own.upper(), "No idea."]


def test_a_conversation_of_several_answers_cannot_be_agreed_with(given: dict[str, Any]) -> None:
    data = given["out"].parent / "talk.jsonl"
    turns = [{"role": role, "content": "the cat"} for role in ("user", "assistant", "user", "assistant")]
    data.write_text(json.dumps({"messages": turns}) + "\n")
    with pytest.raises(ValueError, match=r"talk.jsonl line 1: a conversation with several answers"):
        distilled({**given, "teacher": "", "prompts": ""}, data=str(data), keep="agreed")


def test_another_tokenizer_will_do_for_outputs_and_for_nothing_else(
    given: dict[str, Any], tmp_path: Path
) -> None:
    other = train_tokenizer(["some other words here, with others."] * 5, vocab_size=280)
    save(tiny_model(other, hidden=32, layers=2, heads=2, context=128, seed=4), other, tmp_path / "other")
    for way in ("logits", "on-policy"):
        with pytest.raises(ValueError, match=f"another tokenizer than model=.*learn_from={way} compares"):
            distilled(given, teacher=str(tmp_path / "other"), learn_from=way, out=tmp_path / way)
    out = distilled(given, teacher=str(tmp_path / "other"))
    assert len(read_metrics(out)) == 3


@pytest.mark.slow
def test_written_responses_are_gone_on_with_after_a_crash(given: dict[str, Any], monkeypatch: Any) -> None:
    """Groups of two prompts; the file is cut in the middle of a line, and ends as if nothing had happened."""
    monkeypatch.setattr("tutelage.rollout.written.GROUP", 2)
    whole = distilled(given, samples=2, temperature=1.0)
    text = (whole / "samples.jsonl").read_text()
    broken = given["out"].parent / "broken"
    monkeypatch.setattr(
        "tutelage.train.distill.fit", lambda *_, **__: (_ for _ in ()).throw(ValueError("killed"))
    )
    with pytest.raises(ValueError, match="killed"):
        distilled(given, samples=2, temperature=1.0, out=broken)
    (broken / "samples.jsonl").write_text(text[: len(text) * 3 // 4])
    monkeypatch.undo()
    monkeypatch.setattr("tutelage.rollout.written.GROUP", 2)
    distilled(given, samples=2, temperature=1.0, out=broken)
    assert (broken / "samples.jsonl").read_text() == text
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (whole, broken)]
    assert weights[0] == weights[1]
