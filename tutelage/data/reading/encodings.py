"""How text is written in bytes: found by a mark at the beginning, or named.  What cannot be decoded stays seen to be so."""

from __future__ import annotations

import codecs
import io
from typing import BinaryIO

AUTO = "auto"  # UTF-8, or what a mark at the beginning says
UTF8 = "utf-8"
MARKS = (  # the longer first: that of UTF-32 begins like that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
ENCODINGS = (
    UTF8,
    "utf-16",
    "windows-1252",
    "windows-1250",
    "windows-1251",
    "windows-1253",
    "windows-1254",
    "windows-1255",
    "windows-1256",
    "iso-8859-1",
    "iso-8859-2",
    "iso-8859-15",
    "mac-roman",
    "koi8-r",
    "gb18030",
    "big5",
    "shift_jis",
    "euc_jp",
    "euc_kr",
    "utf-16-le",
    "utf-16-be",
    "utf-32",
)
BLOCK = 2**18  # bytes decoded at once
LOST = "\udcff"  # stands for bytes that are no text; written as UTF-8 it is a byte that is none
_KEEP = "tutelage.lost"
codecs.register_error(_KEEP, lambda error: (LOST, error.end))  # type: ignore[attr-defined]


def check_encoding(name: str) -> None:
    """Raises ValueError for a name that is none of ours."""
    if name != AUTO and name not in ENCODINGS:
        raise ValueError(f"encoding={name} is not known: there are {AUTO}, {', '.join(ENCODINGS)}")


def marked(start: bytes) -> str:
    """The encoding that the first bytes of a file name, "" where they name none."""
    return next((encoding for mark, encoding in MARKS if start.startswith(mark)), "")


def likely(content: bytes) -> str:
    """What text is probably written in.  Western Europe's Windows is a guess: everything can be read so."""
    if found := marked(content):
        return found
    try:
        codecs.getincrementaldecoder(UTF8)().decode(content)  # the last character may be cut
    except UnicodeDecodeError:
        zeros = content.count(0)
        return "utf-16-le" if zeros > len(content) / 5 else "windows-1252"
    return UTF8


class Recoded(io.RawIOBase):
    """A file in some encoding as UTF-8; bytes that are no text become one that is none there either."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)(errors=_KEEP)
        self._ready = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready and not self._ended:
            block = self._file.read(BLOCK)
            self._ended = not block
            text = self._decoder.decode(block, final=self._ended)
            self._ready = text.encode(UTF8, "surrogateescape")
        some = self._ready[: len(buffer)]
        buffer[: len(some)] = some
        self._ready = self._ready[len(some) :]
        return len(some)
