"""Texts as keys: exact, and without regard to case, punctuation and white space."""

from __future__ import annotations

import unicodedata
from hashlib import blake2b

# Marks between and around words; signs that mean something alone (+ - = < / % @ #) stay.
_SPACES = str.maketrans(dict.fromkeys(".,;:!?\"'()[]{}…‘’“”«»„`´*_|¿¡、。「」『』・·–—", " "))


def normalised(text: str) -> str:
    """Lower case, no punctuation, single spaces; the text itself where nothing else would be left."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    plain = " ".join(text.casefold().translate(_SPACES).split())
    return plain or text.strip()


def key(*texts: str) -> int:
    """Eight bytes that stand for texts: two of a million different ones are alike with a chance of one in 40 million."""
    digest = blake2b(digest_size=8)
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return int.from_bytes(digest.digest(), "big")
