"""The tables of people's feedback: accounts, versions of questions, assignments, and answers that are more than a pair's.

`answers` are rows below an `annotation`: append-only like it, in canonical slots.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tutelage.store.schema import Base, everywhere, now, partial_index

APPEND_ONLY = (  # tables in which the database refuses UPDATE and DELETE
    "annotation",
    "criterion_preference",
    "rank_entry",
    "rating",
    "acceptance",
    "step_mark",
    "rewrite",
    "soft_vote",
    "vote_help",
    "schema_version",
    "guideline_version",
    "audit_event",
)

RESERVED_FOR = (  # exactly one of them
    "(CASE WHEN annotator_id IS NULL THEN 0 ELSE 1 END) + (CASE WHEN team IS NULL THEN 0 ELSE 1 END) + "
    "(CASE WHEN role IS NULL THEN 0 ELSE 1 END) = 1"
)

# who ----------------------------------------------------------------------------------------------------------------


class Account(Base):
    """A person (or their program) who may come in.  Never deleted: their answers stay under `annotator_id`."""

    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    annotator_id: Mapped[int] = mapped_column(ForeignKey("annotator.id"), unique=True)
    administrator: Mapped[bool]
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Credential(Base):
    """A password (Argon2id) or a token (SHA-256 of 32 random bytes, found by its visible prefix)."""

    __tablename__ = "credential"
    __table_args__ = (CheckConstraint("kind IN ('password', 'token')", name="credential_kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    kind: Mapped[str]
    name: Mapped[str]
    prefix: Mapped[str | None] = mapped_column(unique=True)
    hash: Mapped[str]
    scopes: Mapped[Any] = mapped_column(JSON)  # list of text
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class SessionRow(Base):
    """An open session: the hash of the cookie's secret, and what must come back with every change (`csrf`)."""

    __tablename__ = "session"

    id: Mapped[int] = mapped_column(primary_key=True)
    secret_hash: Mapped[str] = mapped_column(unique=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    csrf: Mapped[str]
    place_hash: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
    used_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]


class InvitationRow(Base):
    """A single-use invitation to a project, or (without one) for an administrator.

    With an `account_id` it invites nobody new: it sets a new password for that account.  Once used, it is who used it.
    """

    __tablename__ = "invitation"

    id: Mapped[int] = mapped_column(primary_key=True)
    secret_hash: Mapped[str] = mapped_column(unique=True)
    project_id: Mapped[int | None] = mapped_column(ForeignKey("project.id"))
    role: Mapped[str | None]
    by_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    account_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    revoked_at: Mapped[datetime | None]


class LoginFailure(Base):
    """One failed login; `key` is a hash of the name or of the place that it came from."""

    __tablename__ = "login_failure"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(index=True)
    at: Mapped[datetime] = mapped_column(default=now)


class Allowance(Base):
    """When somebody (`key`: a hash of what is limited and of their name) has their full allowance again."""

    __tablename__ = "allowance"

    key: Mapped[str] = mapped_column(primary_key=True)
    free_at: Mapped[datetime]


class Membership(Base):
    """An account's role in a project.  Answers of an `expert` weigh more (`ProjectSettings.expert_weight`)."""

    __tablename__ = "membership"
    __table_args__ = (
        CheckConstraint(
            "role IN ('owner', 'manager', 'adjudicator', 'expert', 'annotator', 'viewer')",
            name="membership_role",
        ),
    )

    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), primary_key=True)
    role: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
    team: Mapped[str] = mapped_column(
        default="", server_default=""
    )  # a group of members that items can be for


# what is asked --------------------------------------------------------------------------------------------------------


class SchemaVersion(Base):
    """One version of a project's questions; assignments point at the one that was shown."""

    __tablename__ = "schema_version"
    __table_args__ = (UniqueConstraint("project_id", "n"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    n: Mapped[int]
    content: Mapped[dict[str, Any]]
    sha256: Mapped[str]
    by_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    created_at: Mapped[datetime] = mapped_column(default=now)


class GuidelineVersion(Base):
    """One version of a project's guidelines."""

    __tablename__ = "guideline_version"
    __table_args__ = (UniqueConstraint("project_id", "n"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    n: Mapped[int]
    markdown: Mapped[str]
    sha256: Mapped[str]
    by_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    created_at: Mapped[datetime] = mapped_column(default=now)


class Gold(Base):
    """An item whose right answer is known (JSON of an answer, in canonical slots)."""

    __tablename__ = "gold"

    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), primary_key=True)
    answer: Mapped[dict[str, Any]]
    by_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    created_at: Mapped[datetime] = mapped_column(default=now)


class ResponseScore(Base):
    """What a reward model or a judge (`source`) said of a response: for choosing what to ask people."""

    __tablename__ = "response_score"

    response_id: Mapped[int] = mapped_column(ForeignKey("response.id"), primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]


class ChatTurn(Base):
    """One turn of a chat: a child item (n-th below the chat's item), and the response that continued it."""

    __tablename__ = "chat_turn"

    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), primary_key=True)
    n: Mapped[int]
    message: Mapped[str]
    chosen_slot: Mapped[int | None]


# who has what ---------------------------------------------------------------------------------------------------------


class Assignment(Base):
    """An item in one annotator's hands.  Whether a lease lives is a comparison of `lease_expires_at` with the clock.

    `presented_order[position]` is the slot shown at that position, drawn from `order_seed`; with the versions it is
    all that is needed to show again what the annotator saw.
    """

    __tablename__ = "assignment"
    __table_args__ = (
        UniqueConstraint("item_id", "annotator_id"),
        CheckConstraint(
            "status IN ('leased', 'done', 'skipped', 'released', 'review')", name="assignment_status"
        ),
        Index("ix_assignment_annotator", "annotator_id", "status", "id"),
        partial_index(
            "ix_assignment_leased",
            "lease_expires_at",
            where=everywhere("status = 'leased'"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    annotator_id: Mapped[int] = mapped_column(ForeignKey("annotator.id"))
    status: Mapped[str]  # review: opened by an adjudicator, holds no place in the overlap
    lease_expires_at: Mapped[datetime]
    presented_order: Mapped[Any] = mapped_column(JSON)
    order_seed: Mapped[int]
    schema_version_id: Mapped[int] = mapped_column(ForeignKey("schema_version.id"))
    guideline_version_id: Mapped[int | None] = mapped_column(ForeignKey("guideline_version.id"))
    assigned_at: Mapped[datetime] = mapped_column(default=now)
    skip_reason: Mapped[str | None]
    skip_text: Mapped[str | None]
    suggestion_id: Mapped[int | None] = mapped_column(ForeignKey("suggestion.id"))  # what was shown with it


class Draft(Base):
    """What an annotator has typed so far; gone once it is submitted."""

    __tablename__ = "draft"

    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignment.id"), primary_key=True)
    content: Mapped[dict[str, Any]]
    saved_at: Mapped[datetime] = mapped_column(default=now)


class Flag(Base):
    """Something wrong with an item, as an annotator says."""

    __tablename__ = "flag"

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), index=True)
    annotator_id: Mapped[int] = mapped_column(ForeignKey("annotator.id"))
    code: Mapped[str]
    text: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
    resolved_at: Mapped[datetime | None]
    resolved_by_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    resolution: Mapped[str] = mapped_column(default="", server_default="")  # what came of it, in words


class GuidelineSeen(Base):
    """That an annotator has had a version of the guidelines on screen."""

    __tablename__ = "guideline_seen"

    annotator_id: Mapped[int] = mapped_column(
        ForeignKey("annotator.id"), primary_key=True, autoincrement=False
    )
    guideline_version_id: Mapped[int] = mapped_column(
        ForeignKey("guideline_version.id"), primary_key=True, autoincrement=False
    )
    seen_at: Mapped[datetime] = mapped_column(default=now)


class ItemReserved(Base):
    """Whom an item with `Item.reserved` is for: one annotator, one team, or a role ("expert": experts and whoever may do
    more); several rows: any of them."""

    __tablename__ = "item_reserved"
    __table_args__ = (CheckConstraint(RESERVED_FOR, name="item_reserved_for"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), index=True)
    annotator_id: Mapped[int | None] = mapped_column(ForeignKey("annotator.id"))
    team: Mapped[str | None]
    role: Mapped[str | None]


class ItemTag(Base):
    """A word that managers sort items by."""

    __tablename__ = "item_tag"

    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), primary_key=True, autoincrement=False)
    tag: Mapped[str] = mapped_column(primary_key=True)
    by_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    created_at: Mapped[datetime] = mapped_column(default=now)


class ItemNote(Base):
    """A remark about an item, for those who view the data."""

    __tablename__ = "item_note"

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), index=True)
    by_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    text: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Suggestion(Base):
    """An answer that a program proposes for an item (JSON of an answer, in canonical slots), by `source`."""

    __tablename__ = "suggestion"
    __table_args__ = (UniqueConstraint("item_id", "source"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    source: Mapped[str]
    answer: Mapped[dict[str, Any]]
    score: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


class ItemHelp(Base):
    """Pairs: what an assistant says of both responses, for people to see before they vote (see `records.Help`)."""

    __tablename__ = "item_help"
    __table_args__ = (
        UniqueConstraint("item_id", "assistant"),
        CheckConstraint("arm IN ('honest', 'adversarial')", name="item_help_arm"),
        CheckConstraint("argues IN (0, 1)", name="item_help_argues"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    arm: Mapped[str]
    assistant: Mapped[str]
    first: Mapped[str]
    second: Mapped[str]
    argues: Mapped[int | None]
    template: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)


class AssignmentHelp(Base):
    """Which help there was when somebody was first shown an item; `shown`: whether they saw it, or are of the control."""

    __tablename__ = "assignment_help"

    assignment_id: Mapped[int] = mapped_column(
        ForeignKey("assignment.id"), primary_key=True, autoincrement=False
    )
    help_id: Mapped[int] = mapped_column(ForeignKey("item_help.id"))
    shown: Mapped[bool]


# answers: rows below an annotation ----------------------------------------------------------------------------------


class CriterionPreference(Base):
    """Pairs: which slot is better by one criterion, -3 to 3 like `Annotation.preference`."""

    __tablename__ = "criterion_preference"
    __table_args__ = (CheckConstraint("preference BETWEEN -3 AND 3", name="criterion_preference_range"),)

    annotation_id: Mapped[int] = mapped_column(ForeignKey("annotation.id"), primary_key=True)
    criterion: Mapped[str] = mapped_column(primary_key=True)
    preference: Mapped[int]


class RankEntry(Base):
    """Ranks: 1 = best, without gaps; equal ranks are ties."""

    __tablename__ = "rank_entry"
    __table_args__ = (CheckConstraint("rank >= 1", name="rank_entry_rank"),)

    annotation_id: Mapped[int] = mapped_column(ForeignKey("annotation.id"), primary_key=True)
    slot: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    rank: Mapped[int]


class Rating(Base):
    """Ratings: a value per slot and criterion; not applicable = no row."""

    __tablename__ = "rating"

    annotation_id: Mapped[int] = mapped_column(ForeignKey("annotation.id"), primary_key=True)
    slot: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    criterion: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]


class Acceptance(Base):
    """Whether the response in a slot is acceptable on its own; not said = no row."""

    __tablename__ = "acceptance"

    annotation_id: Mapped[int] = mapped_column(ForeignKey("annotation.id"), primary_key=True)
    slot: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    acceptable: Mapped[bool]


class StepMarkRow(Base):
    """Steps: the step's text as it was shown, and 1 correct, 0 neutral, -1 wrong."""

    __tablename__ = "step_mark"
    __table_args__ = (CheckConstraint("label IN (-1, 0, 1)", name="step_mark_label"),)

    annotation_id: Mapped[int] = mapped_column(ForeignKey("annotation.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str]
    label: Mapped[int]
    reason: Mapped[str]
    rewrite: Mapped[str | None]
    flagged: Mapped[bool]
    caused_by: Mapped[int | None]  # the earlier wrong step that this one follows from
    error: Mapped[str | None]  # of a wrong one, what kind of error it is (`records.ErrorKind`)


class Rewrite(Base):
    """Rewrites and demonstrations: the new text (the original, if any, is the item's slot 0)."""

    __tablename__ = "rewrite"

    annotation_id: Mapped[int] = mapped_column(ForeignKey("annotation.id"), primary_key=True)
    text: Mapped[str]


class SoftVote(Base):
    """Pairs: what a vote from a file says beyond its seven steps (see `records.Vote`; decision 0018).

    `share` is that of the side which `Annotation.preference` names (NULL: one vote, not counted before).
    """

    __tablename__ = "soft_vote"
    __table_args__ = (CheckConstraint("share BETWEEN 0.5 AND 1", name="soft_vote_share"),)

    annotation_id: Mapped[int] = mapped_column(ForeignKey("annotation.id"), primary_key=True)
    share: Mapped[float | None]
    margin: Mapped[float]


class VoteHelp(Base):
    """Pairs: what an assistant had told whoever voted (see `records.Help`); `first` and `second` are what it said of each slot,
    `argues` is the slot that it argues for."""

    __tablename__ = "vote_help"
    __table_args__ = (
        CheckConstraint("arm IN ('none', 'honest', 'adversarial')", name="vote_help_arm"),
        CheckConstraint("argues IN (0, 1)", name="vote_help_argues"),
    )

    annotation_id: Mapped[int] = mapped_column(
        ForeignKey("annotation.id"), primary_key=True, autoincrement=False
    )
    arm: Mapped[str]
    assistant: Mapped[str]
    first: Mapped[str]
    second: Mapped[str]
    argues: Mapped[int | None]
    template: Mapped[str]


class SentBack(Base):
    """An answer that its annotator is asked to correct; done once a revision supersedes it."""

    __tablename__ = "sent_back"

    id: Mapped[int] = mapped_column(primary_key=True)
    annotation_id: Mapped[int] = mapped_column(ForeignKey("annotation.id"), index=True)
    by_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    note: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Withdrawal(Base):
    """An adjudication that no longer holds: its item is in conflict again."""

    __tablename__ = "withdrawal"

    annotation_id: Mapped[int] = mapped_column(
        ForeignKey("annotation.id"), primary_key=True, autoincrement=False
    )
    by_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    created_at: Mapped[datetime] = mapped_column(default=now)


# what happened ----------------------------------------------------------------------------------------------------


class AuditEvent(Base):
    """Who did what to what."""

    __tablename__ = "audit_event"

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int | None] = mapped_column(ForeignKey("project.id"), index=True)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    what: Mapped[str]
    object: Mapped[str]
    detail: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(default=now)


class ExportRow(Base):
    """An export that was made: its specification and the hash of its file."""

    __tablename__ = "export"

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    account_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    spec: Mapped[dict[str, Any]]
    rows: Mapped[int]
    sha256: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)


# who is told ----------------------------------------------------------------------------------------------------------


class Webhook(Base):
    """An address that is told of events in a project (`events`: list of names), signed with `secret`."""

    __tablename__ = "webhook"

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), index=True)
    url: Mapped[str]
    secret: Mapped[str]
    events: Mapped[Any] = mapped_column(JSON)
    active: Mapped[bool] = mapped_column(default=True)
    by_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    created_at: Mapped[datetime] = mapped_column(default=now)


class WebhookDelivery(Base):
    """One message to a webhook, written with what it tells of and kept until it is delivered."""

    __tablename__ = "webhook_delivery"

    id: Mapped[int] = mapped_column(primary_key=True)
    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhook.id"), index=True)
    event: Mapped[str]
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now)
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime] = mapped_column(default=now)
    delivered_at: Mapped[datetime | None]
    error: Mapped[str] = mapped_column(default="")
