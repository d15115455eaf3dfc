"""Messages through a file descriptor: four bytes with the length, then so many bytes."""

from __future__ import annotations

import os
import struct

LARGEST = 2**26  # bytes of a message


def write_frame(descriptor: int, message: bytes) -> None:
    data = memoryview(struct.pack(">I", len(message)) + message)
    while data:
        data = data[os.write(descriptor, data) :]


def read_frame(descriptor: int) -> bytes | None:
    """The next message, None where the other side has closed.  Raises OSError for one that is too long."""
    head = _read(descriptor, 4)
    if head is None:
        return None
    (size,) = struct.unpack(">I", head)
    if size > LARGEST:
        raise OSError(f"a message of {size} bytes")
    return _read(descriptor, size)


def _read(descriptor: int, size: int) -> bytes | None:
    parts = []
    while size:
        part = os.read(descriptor, min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
