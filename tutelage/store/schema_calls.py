"""The tables of language models that judge: their questions, what they may cost, and what they left to people."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from tutelage.store.schema import Base, now


class JudgeCall(Base):
    """One question to a language model that judges, and its answer: `key` is the hash of all that shapes it (decision 0022).

    `sent`: asked, and no answer came (yet); `answered`; `refused`: the endpoint will not answer this question.  `about` says
    what is judged, and in which order it was shown; `prompt` is the digest of its prompt.  Tokens are as the endpoint counted
    them, `cost` in the unit of the prices that were given, `reserved` the most that the question may cost.
    """

    __tablename__ = "judge_call"
    __table_args__ = (
        CheckConstraint("status IN ('sent', 'answered', 'refused')", name="judge_call_status"),
        Index("ix_judge_call_judge", "project_id", "judge"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    project_id: Mapped[int | None] = mapped_column(ForeignKey("project.id"))
    judge: Mapped[str]
    about: Mapped[str]
    prompt: Mapped[str]
    status: Mapped[str]
    text: Mapped[str | None]
    finish: Mapped[str | None]
    likely: Mapped[dict[str, Any] | None]  # token -> log-probability, of the first token of the answer
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    cost: Mapped[float] = mapped_column(default=0.0, server_default="0")
    reserved: Mapped[float] = mapped_column(default=0.0, server_default="0")
    seconds: Mapped[float | None]
    attempts: Mapped[int] = mapped_column(default=1, server_default="1")
    sent_at: Mapped[datetime] = mapped_column(default=now)
    answered_at: Mapped[datetime | None]


class JudgeBudget(Base):
    """What a judge may cost in a project, in the unit of its prices, as it was last run there; no row: it has no limit."""

    __tablename__ = "judge_budget"

    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True, autoincrement=False)
    judge: Mapped[str] = mapped_column(primary_key=True)
    max_cost: Mapped[float]


class JudgeLeft(Base):
    """An item that a judge left to people at a time: it was not sure enough, or had no verdict."""

    __tablename__ = "judge_left"

    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), primary_key=True, autoincrement=False)
    judge: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now)
