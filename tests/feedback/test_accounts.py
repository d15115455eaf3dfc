"""Who may come in: secrets are used once, hashed, and end; guessing is slow; roles hold."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from sqlalchemy import text

from tests.feedback.kit import PASSWORD, join, owner, start
from tutelage.feedback.asking.payloads import ProjectSettings, Schema
from tutelage.feedback.errors import Refused
from tutelage.feedback.people import invitations, passwords, sessions, tokens, users
from tutelage.feedback.people.access import ALLOWED
from tutelage.feedback.people.invitations import (
    accept_invitation,
    first_owner_invitation,
    invite,
    read_invitation,
)
from tutelage.feedback.people.passwords import (
    FAILURES_PER_NAME,
    FAILURES_PER_PLACE,
    check_password,
    set_password,
)
from tutelage.feedback.people.sessions import close_session, open_session, read_session
from tutelage.feedback.people.tokens import create_token, revoke_token, token_user, tokens_of
from tutelage.feedback.people.users import set_active
from tutelage.feedback.projects import projects
from tutelage.store import Store
from tutelage.store.database import Database
from tutelage.store.schema import now


def refused(reason: str):
    class Expect:
        def __enter__(self):
            self.raises = pytest.raises(Refused)
            self.caught = self.raises.__enter__()
            return self.caught

        def __exit__(self, *error):
            done = self.raises.__exit__(*error)
            assert self.caught.value.reason == reason, str(self.caught.value)
            assert str(self.caught.value).endswith(".") and "\n" not in str(self.caught.value)
            return done

    return Expect()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """`clock(hours=1)` moves the clock of people/."""
    passed = [timedelta()]
    for module in (invitations, passwords, sessions, tokens, users):
        monkeypatch.setattr(module, "now", lambda: now() + passed[0])

    def forward(**by: float) -> None:
        passed[0] += timedelta(**by)

    return forward


def test_the_first_owner_comes_in_once(database: Database) -> None:
    earlier = first_owner_invitation(database)
    secret = first_owner_invitation(database)
    assert earlier and secret and earlier != secret
    with refused("gone"):
        accept_invitation(database, earlier, "eve", PASSWORD)
    assert read_invitation(database, secret).project is None
    user = accept_invitation(database, secret, " olga ", PASSWORD)
    assert user.administrator and user.name == "olga"
    with refused("gone"):
        accept_invitation(database, secret, "eve", PASSWORD)
    assert first_owner_invitation(database) is None


def test_invitations_run_out_and_say_what_for(store: Store, database: Database, clock) -> None:
    olga = start(store, database)
    secret = invite(database, olga.user, "main", "annotator", hours=2)
    found = read_invitation(database, secret)
    assert (found.project, found.role) == ("main", "annotator")
    clock(hours=3)
    for attempt in (
        lambda: read_invitation(database, secret),
        lambda: accept_invitation(database, secret, "ben", PASSWORD),
    ):
        with refused("gone"):
            attempt()


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("", PASSWORD),
        ("x" * 65, PASSWORD),
        ("a\nb", PASSWORD),
        ("ben", "short"),
        ("ben", "x" * 1001),
        ("benjamin55", "benjamin55!"),
    ],
    ids=["no name", "long name", "line break", "short", "long", "the name"],
)
def test_unusable_names_and_passwords(store: Store, database: Database, name: str, password: str) -> None:
    olga = start(store, database)
    secret = invite(database, olga.user, "main", "annotator")
    with refused("invalid"):
        accept_invitation(database, secret, name, password)
    user = accept_invitation(database, secret, "fine", PASSWORD)
    assert user.name == "fine"  # the invitation was not used up


def test_a_name_is_its_owners(store: Store, database: Database) -> None:
    olga = start(store, database)
    join(database, olga.user, "main", "ben")
    for name in ("ben", "ann"):  # a user, and a simulated annotator
        with refused("conflict"):
            accept_invitation(
                database, invite(database, olga.user, "main", "viewer"), name, "another password"
            )
    projects.create_project(database, olga.user, "second")
    secret = invite(database, olga.user, "second", "manager")
    again = accept_invitation(database, secret, "ben", PASSWORD)  # the same person joins another project
    assert projects.member(database, again, "second").role == "manager"
    assert projects.member(database, again, "main").role == "annotator"


def test_logins_are_slowed_down(database: Database, clock) -> None:
    owner(database)
    for _ in range(FAILURES_PER_NAME):
        with refused("unauthenticated"):
            check_password(database, "olga", "wrong", "10.0.0.1")
    with refused("too-many"):
        check_password(database, "olga", PASSWORD, "10.0.0.2")
    clock(minutes=16)
    assert check_password(database, "olga", PASSWORD).name == "olga"
    for number in range(FAILURES_PER_PLACE):
        with refused("unauthenticated"):
            check_password(database, f"guess-{number}", "wrong", "10.0.0.3")
    with refused("too-many"):
        check_password(database, "olga", PASSWORD, "10.0.0.3")
    assert check_password(database, "olga", PASSWORD, "10.0.0.4").name == "olga"


def test_wrong_name_and_wrong_password_read_the_same(database: Database) -> None:
    owner(database)
    said = []
    for name, password in (("olga", "wrong password"), ("nobody", "wrong password"), ("olga", "x" * 5000)):
        with refused("unauthenticated") as caught:
            check_password(database, name, password)
        said.append(str(caught.value))
    assert len(set(said)) == 1


def test_sessions_end(database: Database, clock) -> None:
    olga = owner(database)
    secret, opened = open_session(database, olga, "10.0.0.1")
    assert read_session(database, secret) == opened and opened.csrf != secret
    clock(hours=11)
    assert read_session(database, secret).user == olga
    clock(hours=11)  # used in between
    assert read_session(database, secret).user == olga
    clock(hours=13)
    with refused("unauthenticated"):
        read_session(database, secret)
    second, _ = open_session(database, olga)
    for _ in range(40):  # never idle, but fourteen days are enough
        clock(hours=9)
        try:
            read_session(database, second)
        except Refused:
            break
    else:
        raise AssertionError("a session lives for ever")
    third, _ = open_session(database, olga)
    close_session(database, third)
    close_session(database, third)
    with refused("unauthenticated"):
        read_session(database, third)


def test_a_new_password_ends_sessions_and_somebody_kept_out_is_out(store: Store, database: Database) -> None:
    olga = start(store, database)
    ben = join(database, olga.user, "main", "ben").user
    secret, _ = open_session(database, ben)
    with refused("unauthenticated"):
        set_password(database, ben, "wrong", "a new password")
    set_password(database, ben, PASSWORD, "a new password")
    with refused("unauthenticated"):
        read_session(database, secret)
    assert check_password(database, "ben", "a new password").id == ben.id
    secret, _ = open_session(database, ben)
    token = create_token(database, ben, "script", ("label",))
    set_active(database, olga.user, "ben", False)
    for attempt in (
        lambda: read_session(database, secret),
        lambda: token_user(database, token),
        lambda: check_password(database, "ben", "a new password"),
    ):
        with refused("unauthenticated"):
            attempt()
    with refused("conflict"):
        set_active(database, olga.user, "olga", False)  # the last administrator
    with refused("forbidden"):
        set_active(database, ben, "olga", False)


def test_tokens(database: Database, clock) -> None:
    olga = owner(database)
    token = create_token(database, olga, "script", ("label", "read"), days=10)
    assert token_user(database, token) == (olga, ("label", "read"))
    (info,) = tokens_of(database, olga)
    assert token.startswith(info.prefix) and info.name == "script" and not info.revoked
    for wrong in ("", "tut_", token[:-1], f"{info.prefix}_{'x' * 43}", token.replace("tut", "tot")):
        with refused("unauthenticated"):
            token_user(database, wrong)
    clock(days=11)
    with refused("unauthenticated"):
        token_user(database, token)
    lasting = create_token(database, olga, "other", ("read",), days=None)
    revoke_token(database, olga, tokens_of(database, olga)[0].id)
    with refused("unauthenticated"):
        token_user(database, lasting)
    with refused("not-found"):
        revoke_token(database, olga, 999)
    with refused("invalid"):
        create_token(database, olga, "none", ())


def test_nothing_secret_is_stored(store: Store, database: Database) -> None:
    olga = start(store, database)
    secrets = [PASSWORD, invite(database, olga.user, "main", "viewer")]
    secrets.append(open_session(database, olga.user, "10.1.2.3")[0])
    secrets += [create_token(database, olga.user, "t", ("read",)).split("_", 2)[2], "10.1.2.3"]
    with database.read() as connection:
        for table in ("account", "credential", "session", "invitation", "login_failure", "audit_event"):
            stored = repr(connection.execute(text(f"SELECT * FROM {table}")).all())
            assert not [secret for secret in secrets if secret in stored], table


def test_every_role_may_what_it_may(store: Store, database: Database) -> None:
    olga = start(store, database)
    found = {"owner": olga}
    for role in ("manager", "adjudicator", "annotator", "viewer"):
        found[role] = join(database, olga.user, "main", f"a-{role}", role)
    attempts = {
        "manage": lambda who: projects.set_settings(database, who, ProjectSettings()),
        "own": lambda who: projects.set_role(database, who, "a-viewer", "owner"),
    }
    for (role, who), (action, attempt) in itertools.product(found.items(), attempts.items()):
        if action in ALLOWED[role]:
            assert who.may(action)
            attempt(who)
            projects.set_role(database, olga, "a-viewer", "viewer")
        else:
            with refused("forbidden"):
                attempt(who)
    with refused("forbidden"):
        invite(database, found["manager"].user, "main", "owner")
    with refused("not-found"):
        invite(database, found["manager"].user, "nowhere", "viewer")
    with refused("forbidden"):
        projects.create_project(database, found["manager"].user, "mine")


def test_owners_make_and_unmake_owners(database: Database) -> None:
    olga = projects.create_project(database, owner(database), "solo")
    ben = join(database, olga.user, "solo", "ben", "owner")
    projects.set_role(database, ben, "olga", "viewer")
    assert {row.name: row.role for row in projects.members(database, ben)} == {
        "ben": "owner",
        "olga": "viewer",
    }
    projects.set_role(database, ben, "ben", None)
    assert projects.member(database, olga.user, "solo").role == "owner"  # she is the administrator
    with refused("not-found"):
        projects.member(database, ben.user, "solo")


def test_versions_of_questions_and_guidelines_are_kept(store: Store, database: Database) -> None:
    olga = start(store, database)
    first = projects.set_schema(database, olga, Schema(strength=1))
    assert projects.set_schema(database, olga, Schema(strength=1)) == first
    assert projects.set_schema(database, olga, Schema(strength=2)) == first + 1
    assert projects.info(database, olga).schema.strength == 2
    assert projects.info(database, olga).guideline.n == 0
    for n, words in enumerate(("# Be fair", "# Be kind", "# Be kind", "# Be fair"), start=1):
        projects.set_guideline(database, olga, words)
        assert projects.info(database, olga).guideline.markdown == words
        assert n >= projects.info(database, olga).guideline.n
    assert [version.markdown for version in projects.guidelines(database, olga)] == [
        "# Be fair",
        "# Be kind",
        "# Be fair",
    ]
    events = projects.audit(database, olga)
    assert {"guidelines", "questions", "settings"} <= {event["what"] for event in events}
