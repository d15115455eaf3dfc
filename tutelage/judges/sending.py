"""One request over HTTP: what comes back, what may pass, and what is said of the rest."""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import AbstractAsyncContextManager
from functools import lru_cache

import httpx2

from tutelage.judges.patience import Again, retry_after


async def received(
    asked: AbstractAsyncContextManager[httpx2.Response], name: str, timeout: float, largest: int, what: str
) -> tuple[int, bytes]:
    """(status, content) of the answer to `client.stream(...)`.

    Raises Again for what may pass (no connection, no whole answer within `timeout` seconds, 429, 5xx), ValueError for an
    answer of more than `largest` bytes, or one that cannot be unpacked.  name: of the server; what: it should have given.
    """
    try:
        async with asyncio.timeout(timeout), asked as answer:
            status, content = answer.status_code, bytearray()
            async for piece in answer.aiter_bytes():
                content += piece
                if len(content) > largest:
                    raise ValueError(
                        f"{name} answered with more than {largest >> 20} MiB, which are no {what}."
                    )
    except TimeoutError:
        raise Again(f"no answer within {timeout:g} s") from None
    except httpx2.DecodingError as error:
        raise ValueError(f"{name} answered with what cannot be unpacked ({error}).") from None
    except (httpx2.RequestError, OSError) as error:
        raise Again(f"{type(error).__name__}: {str(error) or 'the connection broke'}") from None
    if status == 429 or status >= 500:
        raise Again(f"status {status}", retry_after(answer.headers.get("Retry-After", "")), bytes(content))
    return status, bytes(content)


def authorization(token_env: str, name: str) -> dict[str, str]:
    """The header with the token that an environment variable holds; none where no variable is named.  Raises ValueError."""
    if not token_env:
        return {}
    token = os.environ.get(token_env, "").strip()
    if not token or not token.isascii() or not token.isprintable():
        wrong = "holds what no token is made of" if token else "is not set"
        raise ValueError(
            f"the environment variable {token_env} {wrong}, and token_env of {name} names it: set it to the token."
        )
    return {"Authorization": f"Bearer {token}"}


def shown(content: bytes) -> str:
    """The start of an answer on one line, for people."""
    text = " ".join(content[:400].decode("utf-8", "replace").split())
    text = "".join(letter for letter in text if letter.isprintable())
    return f"{text[:80]}..." if len(text) > 80 else text or "nothing"


@lru_cache(maxsize=1)
def trusted() -> ssl.SSLContext:
    """This machine's certificates; reading them takes longer than a request."""
    return ssl.create_default_context()
