"""The Hugging Face hub, asked first whether it answers: its own client keeps trying for half a minute, for every file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

PATIENCE = 3.0  # seconds in which a hub that refuses is asked again


@contextmanager
def hub() -> Iterator[str]:
    """Load from the hub inside; where it does not answer, the libraries look at what was downloaded before, and no further.

    Yields why the hub cannot be asked, "" when it can.
    """
    from huggingface_hub import constants, is_offline_mode

    if is_offline_mode():
        yield "HF_HUB_OFFLINE is set"
        return
    silence = _silence(constants.ENDPOINT, int(time.monotonic() // 60))
    constants.HF_HUB_OFFLINE = bool(silence)
    try:
        yield silence
    finally:
        constants.HF_HUB_OFFLINE = False


@lru_cache(maxsize=1)
def _silence(endpoint: str, minute: int) -> str:
    """Why nothing at all comes back from `endpoint`, "" when something does; asked anew every `minute`."""
    from huggingface_hub import constants, get_session

    started = time.monotonic()
    while True:
        try:
            get_session().head(endpoint, timeout=constants.HF_HUB_ETAG_TIMEOUT)
            return ""
        except Exception as error:  # no network, no such host, refused, timed out: of several libraries
            if time.monotonic() - started > PATIENCE:
                return f"{endpoint} does not answer: {str(error).strip() or type(error).__name__}"
            time.sleep(1)
