"""Text written on the spot: the worker process with real (tiny) models, and what happens when it goes away."""

from __future__ import annotations

import asyncio
import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.rollout.conftest import CONTEXT, WORDS, build, exact_logprobs, prepared
from tests.web.kit import run
from tutelage.feedback.errors import Refused
from tutelage.files import sha256_of
from tutelage.models.tiny import train_tokenizer
from tutelage.records import Prompt, Response
from tutelage.rollout.generator import Prefix, Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.web import generation_worker
from tutelage.web.generation import Drawing, GenerationFailed, LiveGenerator, NamedModel


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[NamedModel]:
    """Two saved models, one of them as a run folder."""
    tokenizer = train_tokenizer(WORDS, 280)
    found = []
    for name, kind, inside in (("first", "llama", "model"), ("second", "gpt2", "")):
        folder = tmp_path_factory.mktemp(name)
        target = folder / inside if inside else folder
        build(kind).save_pretrained(target)
        tokenizer.save_pretrained(target)
        found.append(NamedModel(name, str(folder)))
    return found


def test_a_response_goes_on_from_its_beginning() -> None:
    """The ids begin with prompt and beginning, and the log-probabilities are those of a plain forward over all of it."""
    tokenizer = train_tokenizer(WORDS, 280)
    model = prepared("llama")
    generator = LocalGenerator(model, tokenizer)
    prompt, begun = Prompt("one two"), " three one"
    sampling = Sampling(max_new_tokens=19, temperature=0.9, samples=3, seed=4)
    responses = generator.continue_from([generator.begun(prompt, begun)], sampling)
    whole = generator.generate([Prompt(prompt.content)], Sampling(max_new_tokens=1))[0].prompt_ids
    assert len({response.ids for response in responses}) > 1
    for response in responses:
        assert response.prompt_ids[: len(whole)] == whole
        assert tokenizer.decode(response.prompt_ids[len(whole) :]) == begun
        exact = exact_logprobs(build("llama"), response.prompt_ids, response.ids, 0.9)
        assert list(response.logprobs) == pytest.approx(exact.tolist(), abs=2e-5)


@pytest.mark.parametrize("kernels", ["auto", "off"])
def test_the_worker_uses_kernels_as_it_is_told(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(generation_worker, "use", told.append)
    config = {"drawing": asdict(Drawing(device="cpu", kernels=kernels)), "models": []}
    generation_worker.serve(config, io.StringIO(), io.StringIO())
    assert told == [kernels]


class Letters:
    """A generator that says a text letter by letter, and notes how many letters it was asked for."""

    def __init__(self, text: str) -> None:
        self.ids, self.asked, self.tokenizer = [ord(letter) for letter in text], list[int](), self

    def batch_decode(self, rows: list[list[int]], **_: Any) -> list[str]:
        return ["".join(map(chr, ids)) for ids in rows]

    def continue_from(self, prefixes: list[Prefix], sampling: Sampling) -> list[Response]:
        [prefix] = prefixes
        assert list(prefix.begun) == self.ids[: len(prefix.begun)], "it goes on from what it said"
        ids = self.ids[len(prefix.begun) : sampling.max_new_tokens]
        self.asked.append(len(ids))
        finish = "eos" if sampling.max_new_tokens > len(self.ids) else "length"
        return [Response(prefix.prompt, "", (), tuple(ids), (-1.0,) * len(ids), finish)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "most", "said"),
    [
        ("2. Leo: 6+3=9.\n3. A says 9: right.\n4. B says 8: wrong.", 96, "2. Leo: 6+3=9.\n3. A says"),
        ("2. Leo: 6+3=9.", 96, "2. Leo: 6+3=9."),
        ("9" * 200, 50, "9" * 50),
    ],
)
def test_one_step_is_written_and_hardly_more(text: str, most: int, said: str) -> None:
    writer = generation_worker.Writer.__new__(generation_worker.Writer)
    writer.name, writer.sha256, writer.generator = "letters", "", Letters(text)  # type: ignore[assignment]
    request = {"prompt": "Why?", "task": "", "begun": None, "one_step": "lines", "seed": 1}
    found = writer.write(request, 0, {"max_new_tokens": most, "temperature": 1.0})
    assert found["text"] == said and found["n_tokens"] == len(said) and found["logprob"] == -len(said)
    assert max(writer.generator.asked) <= generation_worker.AT_ONCE  # type: ignore[attr-defined]


def test_no_room_to_go_on_is_said() -> None:
    generator = LocalGenerator(prepared("llama"), train_tokenizer(WORDS, 280))
    with pytest.raises(ValueError, match="exceeds the model's context"):
        prefix = generator.begun(Prompt("one"), "two " * CONTEXT)
        generator.continue_from([prefix], Sampling(max_new_tokens=8 + len(prefix.begun)))


@pytest.mark.slow
def test_the_worker_writes_with_every_model_and_says_where_from(folders: list[NamedModel]) -> None:
    generator = LiveGenerator(folders, Drawing(max_new_tokens=6, device="cpu"))

    async def work() -> None:
        candidates = await generator.write(Prompt("what is it"), 3)
        assert sorted({candidate.model for candidate in candidates}) == ["first", "second"]
        shas = {
            model.name: sha256_of(Path(model.path) / "model" if model.name == "first" else model.path)
            for model in folders
        }
        for candidate in candidates:
            assert candidate.model_sha256 == shas[candidate.model]
            assert 1 <= candidate.n_tokens <= 6 and candidate.logprob < 0
            assert candidate.params["max_new_tokens"] == 6 and candidate.params["seed"] >= 0
        (continued,) = await generator.write(Prompt("what is it"), 1, begun="a small town")
        assert not continued.text.startswith("a small town")
        with pytest.raises(Refused, match="context") as refused:
            await generator.write(Prompt("what " * 500), 1)
        assert refused.value.reason == "invalid"
        several = await asyncio.gather(*(generator.write(Prompt(str(n)), 2) for n in range(4)))
        assert [len(found) for found in several] == [2, 2, 2, 2]
        process = generator._process
        process.kill()
        await process.wait()
        with pytest.raises(GenerationFailed, match="try again"):
            await generator.write(Prompt("one"), 1)
        assert len(await generator.write(Prompt("one"), 1)) == 1
        await generator.stop()
        assert generator._process is None

    run(work())


@pytest.mark.slow
def test_a_worker_without_its_models_says_so() -> None:
    generator = LiveGenerator([NamedModel("gone", "/nonexistent/model")], Drawing(device="cpu"))

    async def work() -> None:
        with pytest.raises(GenerationFailed, match="has ended"):
            await generator.write(Prompt("one"), 1)

    run(work())


def test_without_a_model_it_says_why() -> None:
    generator = LiveGenerator(())
    assert "models=" in (generator.why_off or "")
    with pytest.raises(Refused, match="models="):
        run(generator.write(Prompt("one"), 1))
