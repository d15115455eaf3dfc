"""The settings of `serve`."""

from __future__ import annotations

from tutelage.settings.base import setting
from tutelage.settings.groups import DeviceSettings


class ServeSettings(DeviceSettings):
    """Serve the web app: people give feedback in a browser, programs over the API."""

    store: str = setting("runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.")
    host: str = setting("127.0.0.1", "Address to listen on; 0.0.0.0 lets other machines in.")
    port: int = setting(8000, "Port to listen on; 0 takes a free one.", ge=0, le=65535)
    url: str = setting(
        "",
        "Address that people use when a proxy stands in front, such as https://labels.example.org.",
        everyday=False,
    )
    certificate: str = setting(
        "", "Certificate file (PEM) to speak TLS with; needs certificate_key.", everyday=False
    )
    certificate_key: str = setting("", "Private key file (PEM) of the certificate.", everyday=False)
    models: list[str] = setting(
        [],
        "Models that write in chats and regenerate steps: run folders or hub names, each optionally name=path.",
    )
    max_new_tokens: int = setting(128, "Longest text that a model writes at once.", unit="tokens", ge=1)
    temperature: float = setting(
        1.0, "Sampling temperature of the models; 0 takes the likeliest token.", ge=0
    )
