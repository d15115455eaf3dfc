"""Any sequence of claims, answers, expiries, skips, releases and votes keeps the queue's promises."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.databases import fresh_sqlite
from tests.feedback.kit import expire, hand_in, join, keys, start
from tests.store.making import new_vote
from tutelage.feedback.asking.payloads import PairAnswer, Submission, Task
from tutelage.feedback.errors import Refused
from tutelage.feedback.people import passwords
from tutelage.feedback.people.access import Member
from tutelage.feedback.upkeep import examine
from tutelage.feedback.work import answers, queue
from tutelage.store import Store
from tutelage.store.database import Database

OVERLAP = 2
WHO = st.integers(0, 2)
PREFERENCE = st.integers(-3, 3)


class Queue(RuleBasedStateMachine):
    """Three people and one program on the six pairs of one prompt, two answers wanted of each."""

    def __init__(self) -> None:
        super().__init__()
        passwords.HASHER = passwords.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        self.folder = tempfile.TemporaryDirectory()
        path = fresh_sqlite(Path(self.folder.name) / "store.sqlite")
        self.store, self.database = Store(path), Database(path)
        olga = start(self.store, self.database, prompts=1, overlap=OVERLAP, lease_seconds=60)
        self.people = [olga, *(join(self.database, olga.user, "main", name) for name in ("ben", "cy"))]
        self.held: dict[int, dict[int, Task]] = {
            0: {},
            1: {},
            2: {},
        }  # what each has on a screen, live or not
        self.late: set[int] = set()  # assignments that we let run out
        self.said: dict[
            tuple[str, int], int
        ] = {}  # (annotator, item) -> what a page was told is stored, in slots
        self.extra: set[tuple[str, int]] = set()
        self.latest: dict[tuple[int, int], int] = {}  # (who, item) -> annotation

    def teardown(self) -> None:
        assert [finding for finding in examine(self.database) if finding.wrong] == []
        self.store.close()
        self.database.close()
        self.folder.cleanup()

    @rule(who=WHO, more=st.booleans())
    def claim(self, who: int, more: bool) -> None:
        task = queue.next_task(self.database, self.people[who], list(self.held[who]) if more else [])
        if task is None:
            return
        assert (self.people[who].user.name, task.item_id) not in self.said
        if task.assignment_id in self.held[who]:
            assert self.held[who][task.assignment_id].responses == task.responses
        self.held[who][task.assignment_id] = task
        self.late.discard(task.assignment_id)

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data(), preference=PREFERENCE, twice=st.booleans())
    def answer(self, data: st.DataObject, preference: int, twice: bool) -> None:
        who, task = self._some(data)
        member, key = self.people[who], next(keys)
        room = (
            sum(item == task.item_id and (name, item) not in self.extra for name, item in self.said) < OVERLAP
        )
        receipt = hand_in(self.database, member, task, PairAnswer(preference=preference), key)
        if twice:
            again = hand_in(self.database, member, task, PairAnswer(preference=preference), key)
            assert again.repeated and again.annotation_id == receipt.annotation_id
        assert receipt.extra is not room
        self._remember(who, task, preference, receipt.annotation_id)
        if receipt.extra:
            self.extra.add((member.user.name, task.item_id))
        del self.held[who][task.assignment_id]

    @precondition(lambda self: self.latest)
    @rule(data=st.data(), preference=PREFERENCE)
    def revise(self, data: st.DataObject, preference: int) -> None:
        (who, item), annotation = data.draw(st.sampled_from(sorted(self.latest.items())))
        answer = Submission(client_key=next(keys), answer=PairAnswer(preference=preference))
        receipt = answers.revise(self.database, self.people[who], annotation, answer)
        task = queue.task(self.database, self.people[who], receipt.assignment_id)
        assert task.item_id == item and task.answer == PairAnswer(preference=preference)
        self._remember(who, task, preference, receipt.annotation_id)

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data(), how=st.sampled_from(["skip", "release", "heartbeat", "expire", "draft"]))
    def do(self, data: st.DataObject, how: str) -> None:
        who, task = self._some(data)
        member, key = self.people[who], task.assignment_id
        if how == "skip":
            queue.skip(self.database, member, key, "other")
            del self.held[who][key]
        elif how == "release":
            queue.release(self.database, member, key)
            self.late.add(key)
        elif how == "draft":
            queue.save_draft(self.database, member, key, {"preference": 1})
        elif how == "heartbeat":
            try:
                queue.heartbeat(self.database, member, key)
                self.late.discard(key)
            except Refused as error:
                assert error.reason == "gone" and key in self.late
        else:
            expire(self.database, key, by=timedelta(seconds=1))
            self.late.add(key)

    @rule(preference=PREFERENCE)
    def program_votes(self, preference: int) -> None:
        for pair in self.store.unlabelled_pairs("main", "ann", limit=1):
            self.store.add_votes("main", [new_vote(pair.item_id, "ann", preference)])
            self.said["ann", pair.item_id] = preference

    @invariant()
    def what_was_acknowledged_is_there_and_nothing_else(self) -> None:
        stored = {(v.vote.annotator, v.item_id): v.vote.preference for v in self.store.votes("main")}
        assert stored == {key: value for key, value in self.said.items() if key not in self.extra}

    @invariant()
    def no_item_has_more_than_its_overlap(self) -> None:
        assert all(len(pair.voters) <= OVERLAP for pair in self.store.pairs("main"))

    def _some(self, data: st.DataObject) -> tuple[int, Task]:
        everything = [(who, key) for who, tasks in self.held.items() for key in sorted(tasks)]
        who, key = data.draw(st.sampled_from(everything))
        return who, self.held[who][key]

    def _remember(self, who: int, task: Task, preference: int, annotation: int) -> None:
        member: Member = self.people[who]
        first = next(p.texts[0] for p in self.store.pairs("main") if p.item_id == task.item_id)
        in_slots = preference if task.responses[0].text == first else -preference
        self.said[member.user.name, task.item_id] = in_slots
        self.latest[who, task.item_id] = annotation


Queue.TestCase.settings = settings(max_examples=12, stateful_step_count=40, deadline=None)
TestQueue = pytest.mark.slow(Queue.TestCase)
