"""An offline endpoint in a thread, for tests of judges that are asked in words."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx2
import uvicorn

from tutelage.records import Prompt
from tutelage.settings.web import JudgeServeSettings
from tutelage.web.judge_serve import MODEL, build_app
from tutelage.web.serve import listen
from tutelage.worlds.annotators import Annotator
from tutelage.worlds.speaker import Speaker


class Server:
    """`url` is what a client is given as its base."""

    def __init__(self, url: str, speaker: Speaker) -> None:
        self.url, self.speaker = url, speaker

    def stats(self) -> dict[str, Any]:
        return httpx2.get(f"{self.url.removesuffix('/v1')}/stats").json()

    def part(self, **options: Any) -> list[dict[str, Any]]:
        """The judge as a setting says it."""
        return [{"judge": f"llm:{MODEL}", "url": self.url, "timeout": 5.0, **options}]


@contextmanager
def serving(prompts: Sequence[Prompt], **options: Any) -> Iterator[Server]:
    """Answers questions about responses to `prompts`; `options` are those of `judge serve`."""
    settings = JudgeServeSettings(**options)
    annotator = Annotator(
        MODEL, settings.reliability, settings.position_bias, settings.length_bias, settings.tie_width
    )
    speaker = Speaker(prompts, annotator, settings.malformed, settings.seed)
    with listen("127.0.0.1", 0) as listener:
        config = uvicorn.Config(
            build_app(speaker, settings), log_level="error", access_log=False, lifespan="off"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield Server(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", speaker)
        finally:
            server.should_exit = server.force_exit = True
            thread.join()
