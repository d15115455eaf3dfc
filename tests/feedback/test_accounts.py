"""Who may come in: secrets are used once, hashed, and end; guessing is slow; roles hold."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text

from tests.feedback.kit import PASSWORD, join, owner, start
from tutelage.feedback.asking.payloads import ProjectSettings, Schema
from tutelage.feedback.errors import Refused
from tutelage.feedback.people import invitations, passwords, sessions, tokens, users
from tutelage.feedback.people.access import ALLOWED, User
from tutelage.feedback.people.invitations import (
    accept_invitation,
    first_owner_invitation,
    invite,
    read_invitation,
    recovery_link,
    reset_link,
)
from tutelage.feedback.people.passwords import (
    FAILURES_PER_NAME,
    FAILURES_PER_PLACE,
    check_password,
    set_password,
)
from tutelage.feedback.people.sessions import close_session, open_session, read_session
from tutelage.feedback.people.tokens import create_token, revoke_token, token_user, tokens_of
from tutelage.feedback.people.users import set_active, set_administrator
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


# ways back in, and ways out -------------------------------------------------------------------------------------------


def test_many_guesses_at_once_get_no_further_than_many_in_a_row(database: Database) -> None:
    """The attempt is counted before the password is looked at, so nobody slips through while others are being checked."""
    owner(database)
    together = threading.Barrier(60)

    def guess(number: int) -> str:
        together.wait()
        try:
            passwords.check_password(database, "olga", f"guess {number}")
        except Refused as error:
            return error.reason
        return "in"

    with ThreadPoolExecutor(60) as pool:
        said = Counter(pool.map(guess, range(60)))
    assert said == {"unauthenticated": FAILURES_PER_NAME, "too-many": 60 - FAILURES_PER_NAME}


def test_right_passwords_are_not_counted(database: Database) -> None:
    owner(database)
    for _ in range(FAILURES_PER_NAME + 2):
        check_password(database, "olga", PASSWORD, "10.0.0.1")


def test_a_forgotten_password_is_set_anew_by_a_link_that_works_once(
    store: Store, database: Database, clock
) -> None:
    olga = start(store, database)
    ben = join(database, olga.user, "main", "ben").user
    session, _ = open_session(database, ben)
    token = create_token(database, ben, "script", ("label",), days=None)
    with refused("forbidden"):
        reset_link(database, ben, "olga")
    with refused("not-found"):
        reset_link(database, olga.user, "nobody")
    earlier, link = reset_link(database, olga.user, "ben"), reset_link(database, olga.user, "ben")
    with refused("gone"):
        read_invitation(database, earlier)
    assert read_invitation(database, link).account == "ben"
    assert read_session(database, session) and token_user(database, token)  # not before the link is used
    with refused("invalid"):
        accept_invitation(database, link, "", "short")
    assert accept_invitation(database, link, "olga", "a brand new one").name == "ben"  # whatever name is sent
    assert check_password(database, "ben", "a brand new one").id == ben.id
    for attempt, reason in (
        (lambda: read_session(database, session), "unauthenticated"),
        (lambda: token_user(database, token), "unauthenticated"),
        (lambda: check_password(database, "ben", PASSWORD), "unauthenticated"),
        (lambda: accept_invitation(database, link, "", "and another one"), "gone"),
    ):
        with refused(reason):
            attempt()
    late = reset_link(database, olga.user, "ben")
    clock(hours=73)
    with refused("gone"):
        read_invitation(database, late)
    set_active(database, olga.user, "ben", False)
    with refused("conflict"):
        reset_link(database, olga.user, "ben")


def test_a_changed_password_and_a_closed_account_revoke_tokens(store: Store, database: Database) -> None:
    olga = start(store, database)
    ben = join(database, olga.user, "main", "ben").user
    tokens_made = [create_token(database, ben, f"t{n}", ("read",)) for n in range(2)]
    other = create_token(database, olga.user, "hers", ("read",))
    set_password(database, ben, PASSWORD, "a new password")
    for token in tokens_made:
        with refused("unauthenticated"):
            token_user(database, token)
    assert all(info.revoked for info in tokens_of(database, ben))
    fresh = create_token(database, ben, "fresh", ("read",))
    set_active(database, olga.user, "ben", False)
    set_active(database, olga.user, "ben", True)  # letting them in again does not bring tokens back
    with refused("unauthenticated"):
        token_user(database, fresh)
    assert token_user(database, other)


def test_administrators_make_and_unmake_administrators_but_the_last(store: Store, database: Database) -> None:
    olga = start(store, database)
    ben = join(database, olga.user, "main", "ben", "viewer").user
    with refused("forbidden"):
        set_administrator(database, ben, "ben", True)
    with refused("conflict"):
        set_administrator(database, olga.user, "olga", False)
    set_administrator(database, olga.user, "ben", True)
    ben = check_password(database, "ben", PASSWORD)
    assert projects.member(database, ben, "main").role == "owner"
    assert [(row.name, row.administrator) for row in users.users(database, ben)] == [
        ("ben", True),
        ("olga", True),
    ]
    set_administrator(database, ben, "olga", False)
    with refused("conflict"):
        set_administrator(database, ben, "ben", False)
    set_active(database, ben, "olga", False)
    with refused("conflict"):
        set_administrator(database, ben, "olga", True)
    with refused("forbidden"):
        users.users(database, check_user(database, "olga"))


def check_user(database: Database, name: str) -> User:
    with database.read() as connection:
        return users.named(connection, name)


def test_two_administrators_cannot_unmake_each_other(store: Store, database: Database) -> None:
    olga = start(store, database)
    join(database, olga.user, "main", "ben")
    set_administrator(database, olga.user, "ben", True)
    ben = check_user(database, "ben")

    def unmake(by: User, name: str) -> bool:
        try:
            set_administrator(database, by, name, False)
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(unmake, (olga.user, ben), ("ben", "olga")))
    assert sum(done) == 1


def test_the_machine_itself_lets_an_administrator_in(store: Store, database: Database) -> None:
    olga = start(store, database)
    join(database, olga.user, "main", "ben")
    set_active(database, olga.user, "ben", False)
    link = recovery_link(database, "ben")
    assert accept_invitation(database, link, "", "a brand new one").administrator
    with refused("not-found"):
        recovery_link(database, "nobody")
    earlier, link = recovery_link(database), recovery_link(database)
    with refused("gone"):
        read_invitation(database, earlier)
    assert accept_invitation(database, link, "carl", "yet another one").administrator
    reset = reset_link(database, olga.user, "ben")
    recovery_link(database)  # voids open links for new administrators, and nothing else
    assert read_invitation(database, reset).account == "ben"


def test_invitations_are_listed_and_revoked(store: Store, database: Database, clock) -> None:
    olga = start(store, database)
    mia = join(database, olga.user, "main", "mia", "manager")
    old = invite(database, mia.user, "main", "annotator", hours=1)
    clock(hours=2)
    open_one = invite(database, mia.user, "main", "expert")
    owners = invite(database, olga.user, "main", "owner")
    listed = invitations.invitations(database, mia)
    assert [(row.role, row.by, row.state, row.used_by) for row in listed] == [
        ("owner", "olga", "open", None),
        ("expert", "mia", "open", None),
        ("annotator", "mia", "expired", None),
        ("manager", "olga", "used", "mia"),
    ]
    invitations.revoke_invitation(database, mia, listed[1].id)
    for secret in (old, open_one):
        with refused("gone"):
            accept_invitation(database, secret, "eve", PASSWORD)
    for which, reason in ((listed[1], "conflict"), (listed[3], "conflict"), (listed[0], "forbidden")):
        with refused(reason):
            invitations.revoke_invitation(database, mia, which.id)
    with refused("not-found"):
        invitations.revoke_invitation(database, mia, 999)
    ben = accept_invitation(database, owners, "ben", PASSWORD)
    with refused("not-found"):  # somebody else's project
        own = projects.create_project(database, olga.user, "other")
        invitations.revoke_invitation(database, own, listed[0].id)
    assert invitations.invitations(database, projects.member(database, ben, "main"))[0].used_by == "ben"
    with refused("forbidden"):
        invitations.invitations(database, join(database, olga.user, "main", "anna"))
    last = invite(database, mia.user, "main", "annotator")
    set_active(
        database, olga.user, "mia", False
    )  # whoever is kept out does not join again by a link of their own
    with refused("gone"):
        accept_invitation(database, last, "mia again", PASSWORD)


def test_members_have_a_team(store: Store, database: Database) -> None:
    olga = start(store, database)
    join(database, olga.user, "main", "ben", "expert")
    projects.set_role(database, olga, "ben", "expert", " chemists ")
    projects.set_role(database, olga, "ben", "annotator")  # the team stays
    (row,) = projects.members(database, olga)
    assert (row.role, row.team) == ("annotator", "chemists")
    projects.set_role(database, olga, "ben", "annotator", "")
    assert projects.members(database, olga)[0].team == ""
    with refused("invalid"):
        projects.set_role(database, olga, "ben", "annotator", "x" * 65)


def test_nobody_takes_an_imported_annotator_s_name(database: Database) -> None:
    secret = first_owner_invitation(database)
    assert secret is not None
    for name in ("joan@1a2b3c4d", "joan@import"):
        with refused("invalid"):
            accept_invitation(database, secret, name, PASSWORD)
    assert accept_invitation(database, secret, "joan@home", PASSWORD).name == "joan@home"
