"""The endpoint without a model, as a client of OpenAI's API sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tutelage.judges.llm.templates import read_template
from tutelage.seeds import rng
from tutelage.settings.web import JudgeServeSettings
from tutelage.web.judge_serve import MODEL, build_app, speaker_of
from tutelage.worlds.annotators import Annotator
from tutelage.worlds.speaker import STRANGE, Speaker
from tutelage.worlds.world import prompts, write_response

ASKED = list(prompts(0, "serve-test", 3))


@pytest.fixture
def client() -> TestClient:
    return TestClient(
        build_app(Speaker(ASKED, Annotator(MODEL, 0.9, 0.0, 0.0, 0.0), 0.0, 0), JudgeServeSettings())
    )


def question(number: int, **more: Any) -> dict[str, Any]:
    prompt = ASKED[number]
    good, bad = (
        write_response(prompt, rng(0, "serve", n), careless=careless).text
        for n, careless in ((0, 0.0), (1, 1.0))
    )
    messages = read_template("pair").messages("text", prompt=prompt.text(), first=good, second=bad)
    return {"model": MODEL, "messages": list(messages), **more}


def test_what_was_answered_under_a_key_is_answered_again_and_counted_once(client: TestClient) -> None:
    """Whatever is asked under it: a client that did not get the answer gets that one."""
    sent = {"Idempotency-Key": "k"}
    first, again = (
        client.post("/v1/chat/completions", json=question(n), headers=sent).json() for n in (0, 1)
    )
    other = client.post("/v1/chat/completions", json=question(1)).json()
    assert first == again and first["choices"] != other["choices"]
    told = client.get("/stats").json()
    assert (told["requests"], told["answered"], told["answers"]) == (3, 2, 3)
    assert told["prompt_tokens"] == first["usage"]["prompt_tokens"] + other["usage"]["prompt_tokens"]


def test_it_is_an_endpoint_of_openais_kind(client: TestClient) -> None:
    assert client.get("/v1/models").json()["data"][0]["id"] == MODEL
    weighed = client.post("/v1/chat/completions", json=question(0, logprobs=True)).json()["choices"][0]
    assert {one["token"] for one in weighed["logprobs"]["content"][0]["top_logprobs"]} == {"1", "2"}
    unknown = client.post("/v1/chat/completions", json=question(0) | {"model": "x"})
    assert unknown.status_code == 404 and unknown.json()["error"]["code"] == "model_not_found"
    assert client.post("/v1/chat/completions", content=b"{").status_code == 400
    stray = {"model": MODEL, "messages": [{"role": "user", "content": "Hello?"}]}
    assert (
        client.post("/v1/chat/completions", json=stray).json()["choices"][0]["message"]["content"] == STRANGE
    )


def test_without_prompts_of_the_world_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "What?"}\n')
    with pytest.raises(ValueError, match="has no prompt of the embedded world with its reference"):
        speaker_of(JudgeServeSettings(references=str(tmp_path / "p.jsonl")))
