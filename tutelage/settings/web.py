"""The settings of `serve` and `judge serve`."""

from __future__ import annotations

from tutelage.settings.base import Settings, setting
from tutelage.settings.groups import DeviceSettings, Source


class ServeSettings(DeviceSettings):
    """Serve the web app: people give feedback in a browser, programs over the API."""

    store: str = setting("runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.")
    host: str = setting("127.0.0.1", "Address to listen on; 0.0.0.0 lets other machines in.")
    port: int = setting(8000, "Port to listen on; 0 takes a free one.", ge=0, le=65535)
    workers: int = setting(1, "Processes that answer requests, for more cores and people.", ge=1, le=64)
    url: str = setting(
        "",
        "Address that people use when a proxy stands in front, such as https://labels.example.org.",
        everyday=False,
    )
    proxies: list[str] = setting(
        ["127.0.0.1", "::1"],
        "Addresses or networks of proxies whose X-Forwarded-For is believed; needs url.",
        everyday=False,
    )
    exports: str = setting(
        "",
        "Folder for exports to be fetched, shared by several servers; empty: a temporary one.",
        everyday=False,
    )
    certificate: str = setting(
        "", "Certificate file (PEM) to speak TLS with; needs certificate_key.", everyday=False
    )
    certificate_key: str = setting("", "Private key file (PEM) of the certificate.", everyday=False)
    models: list[str] = setting(
        [],
        "Models that write in chats and refinements: run folders or hub names, each optionally name=path.",
    )
    max_new_tokens: int = setting(128, "Longest text that a model writes at once.", unit="tokens", ge=1)
    temperature: float = setting(
        1.0, "Sampling temperature of the models; 0 takes the likeliest token.", ge=0
    )


class JudgeServeSettings(Settings):
    """Stand in for a language model that judges: an OpenAI-compatible endpoint that answers from the embedded world."""

    references: Source = setting(
        "runs/world/prompts_train.jsonl",
        "Prompts that it can judge responses to, with their references: what `world` writes.",
    )
    host: str = setting("127.0.0.1", "Address to listen on.")
    port: int = setting(8100, "Port to listen on; 0 takes a free one.", ge=0, le=65535)
    reliability: float = setting(
        0.9,
        "How often it prefers the better of two responses that differ by half of the gold scale.",
        unit="share",
        ge=0.5,
        lt=1,
    )
    position_bias: float = setting(0.0, "What it likes about the response shown first.", unit="logits")
    length_bias: float = setting(0.0, "What it likes about ten words more.", unit="logits")
    tie_width: float = setting(0.0, "Half the width of what it sees no difference in.", unit="logits", ge=0)
    malformed: float = setting(
        0.0, "Share of the answers without a verdict that can be read.", unit="share", ge=0, le=1
    )
    busy: float = setting(0.0, "Share of the requests that it answers with 429.", unit="share", ge=0, le=0.9)
    stalled: float = setting(
        0.0, "Share of the requests that it leaves without an answer.", unit="share", ge=0, le=0.9
    )
    latency: float = setting(0.0, "How long an answer takes.", unit="s", ge=0)
    seed: int = setting(0, "Seed of everything random.", ge=0)
