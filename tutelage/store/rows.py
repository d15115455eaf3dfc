"""What the store takes and gives besides `records`: plain values, no database objects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tutelage.records import Finish, Prompt, Vote

LIVE = "live"  # the split of prompts that arose in a chat: their responses are compared there and then
BOTH_ENDED: tuple[Finish, Finish] = ("eos", "eos")


def is_held_out(split: str) -> bool:
    """Whether prompts of a split are for evaluation.  Trained on: `train`, also as in `train_sft`, and what arose in chats."""
    return split != LIVE and not split.startswith("train")


def finish_of(reason: str) -> Finish:
    """How a stored response ended: cut, or by itself."""
    return "length" if reason == "length" else "eos"


@dataclass(frozen=True)
class ModelInfo:
    """Who wrote responses: a path or hub name, and a hash of the weights ('' = not known)."""

    name: str
    sha256: str = ""


@dataclass(frozen=True)
class Pair:
    """Two responses to one prompt in canonical slots, the names of those who voted on them (sorted), and how each ended."""

    item_id: int
    digest: str  # of prompt and texts: the same in every store
    prompt: Prompt
    texts: tuple[str, str]
    voters: tuple[str, ...]
    finishes: tuple[Finish, Finish] = BOTH_ENDED


@dataclass(frozen=True)
class VotedPair:
    """Two responses with everybody's current votes on them, wherever they come from.

    Besides pairs these are ranked responses, two at a time, and rewrites beside their originals.  `group` is the
    digest of the item; `settled` is what an adjudicator said; `scale` is how far preferences could go to either side
    (1: votes say which is better, and not by how much); `finishes` says how each response ended; `split` is the
    prompt's; `responses` are the rows of the store (None: what an annotator wrote); `redacted`: some text is gone.
    """

    group: str
    item_id: int
    prompt: Prompt
    texts: tuple[str, str]
    votes: tuple[Vote, ...]
    settled: int | None = None
    scale: int = 3
    finishes: tuple[Finish, Finish] = BOTH_ENDED
    split: str = "train"
    responses: tuple[int | None, int | None] = (None, None)
    redacted: bool = False


@dataclass(frozen=True)
class NewVote:
    """A vote to store.

    `client_key` is the sender's own name for this vote: sent twice, it is stored once.  `supersedes` is the id of
    the vote that this one revises.
    """

    item_id: int
    vote: Vote
    client_key: str
    supersedes: int | None = None


@dataclass(frozen=True)
class Unsure:
    """An item that people should look at: by `overlap` annotators in all, those with a high `priority` first."""

    item_id: int
    overlap: int
    priority: float


@dataclass(frozen=True)
class StoredVote:
    """A vote as stored."""

    id: int
    item_id: int
    vote: Vote
    client_key: str
    submitted_at: datetime
    supersedes: int | None


@dataclass(frozen=True)
class Counts:
    """What a project holds; votes are the current ones, without what was revised."""

    prompts: int
    responses: int
    pairs: int
    labelled_pairs: int
    votes: int
    ties: int
    annotators: int


@dataclass(frozen=True)
class AnnotatorRow:
    """One annotator's current votes in a project.

    `chose_first` is the share of decided votes for what was shown first (None without decided votes; 0.5 = no
    position bias).  `agreement` is the share of decided votes on the side of the other annotators' majority
    (None where nobody else decided).
    """

    name: str
    kind: str
    votes: int
    ties: int
    chose_first: float | None
    agreement: float | None
