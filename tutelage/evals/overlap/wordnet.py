"""WordNet for METEOR: NLTK's copy where it is installed, Debian's made into one, or a folder that the user names.  No download.

NLTK reads `corpora/wordnet` below a folder of its data.  Debian's packages wordnet-base and wordnet-sense-index have the same
files in /usr/share/wordnet, but for `lexnames`; NLTK follows no link out of its data, so they are copied into the cache.
"""

from __future__ import annotations

import hashlib
import shutil
import warnings
from pathlib import Path
from typing import Any

from tutelage.cache import claim
from tutelage.files import folder_atomic

DEBIAN = Path("/usr/share/wordnet")
KINDS = ("noun", "verb", "adj", "adv")
FILES = (
    *("cntlist.rev", "index.sense"),
    *(f"{what}.{kind}" for what in ("index", "data") for kind in KINDS),
    *(f"{kind}.exc" for kind in KINDS),
)
# The names of WordNet's lexicographer files, in the order of their numbers (its manual page lexnames(5WN)).
LEXNAMES = {
    "adj": ["all", "pert"],
    "adv": ["all"],
    "noun": [
        *(
            "Tops",
            "act",
            "animal",
            "artifact",
            "attribute",
            "body",
            "cognition",
            "communication",
            "event",
            "feeling",
        ),
        *(
            "food",
            "group",
            "location",
            "motive",
            "object",
            "person",
            "phenomenon",
            "plant",
            "possession",
            "process",
        ),
        *("quantity", "relation", "shape", "state", "substance", "time"),
    ],
    "verb": [
        *(
            "body",
            "change",
            "cognition",
            "communication",
            "competition",
            "consumption",
            "contact",
            "creation",
        ),
        *("emotion", "motion", "perception", "possession", "social", "stative", "weather"),
    ],
}
LAST = ("adj", "ppl")
_named: set[str] = set()  # what this module has added to NLTK's folders


def reader(folder: str) -> Any:
    """NLTK's reader of WordNet; None where `folder` is "" and none is installed.

    `folder`: NLTK data with corpora/wordnet in it, or the folder of WordNet's own files.  Raises ValueError where it is neither.
    """
    place = _found(Path(folder).expanduser()) if folder else _installed()
    if place is None:
        return None
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    root = str(place.parent.parent)
    if root not in nltk.data.path:
        nltk.data.path.append(root)  # NLTK reads nothing outside of these
        _named.add(root)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that other languages are missing
        try:
            return WordNetCorpusReader(nltk.data.find(f"corpora/{place.name}", [root]), None)
        except (OSError, LookupError) as error:
            why = str(error).strip().splitlines()[0]
            raise ValueError(
                f"WordNet in {place} cannot be read by NLTK: {why}: name a folder with all of it"
            ) from None


def _found(folder: Path) -> Path:
    """Where `corpora/wordnet` lies, for what the user named."""
    for name in ("wordnet", "wordnet.zip"):
        if (folder / "corpora" / name).exists():
            return folder / "corpora" / name
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"wordnet={folder} has no corpora/wordnet, and of WordNet's own files {', '.join(missing[:3])} is missing: name "
            "a folder of NLTK data, or /usr/share/wordnet of Debian's packages wordnet-base and wordnet-sense-index"
        )
    whole = (folder / "lexnames").is_file() and (folder.parent.name, folder.name) == ("corpora", "wordnet")
    return folder if whole else copied(folder)


def _installed() -> Path | None:
    import nltk

    for name in ("wordnet", "wordnet.zip"):
        for root in nltk.data.path:
            if root not in _named and (place := Path(root) / "corpora" / name).exists():
                return place
    return copied(DEBIAN) if all((DEBIAN / name).is_file() for name in FILES) else None


def copied(source: Path) -> Path:
    """`corpora/wordnet` in the cache, made of WordNet's files in `source`."""
    sizes = [(name, (source / name).stat().st_size, (source / name).stat().st_mtime_ns) for name in FILES]
    key = hashlib.sha256(repr((str(source.resolve()), sizes)).encode()).hexdigest()[:16]
    with claim("wordnet", key) as folder:
        place = folder / "corpora" / "wordnet"
        if not folder.exists():
            with folder_atomic(folder) as partial:
                inside = partial / "corpora" / "wordnet"
                inside.mkdir(parents=True)
                for name in FILES:
                    shutil.copyfile(source / name, inside / name)
                (inside / "lexnames").write_text(lexnames(), encoding="ascii")
    return place


def lexnames() -> str:
    """The file that Debian's packages lack: number, name and part of speech (1 noun, 2 verb, 3 adjective, 4 adverb)."""
    names = [*((kind, name) for kind, each in LEXNAMES.items() for name in each), LAST]
    parts = {"noun": 1, "verb": 2, "adj": 3, "adv": 4}
    return "".join(
        f"{number:02}\t{kind}.{name}\t{parts[kind]}\n" for number, (kind, name) in enumerate(names)
    )
