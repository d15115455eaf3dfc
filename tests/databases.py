"""The two databases that tests run on.  PostgreSQL needs a server: TUTELAGE_TEST_POSTGRES names one, or one is started here
where its programs are installed; else those tests are skipped, with the reason."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

WHERE = "TUTELAGE_TEST_POSTGRES"
TEMPLATE = "tutelage_test_template"


@contextlib.contextmanager
def postgres_server() -> Iterator[str | None]:
    """The URL of a server where databases can be made; None where there is none."""
    given = os.environ.get(WHERE)
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(shutil.which("initdb") or "")
    ]
    if given or not programs[-1].name:
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="tutelage-postgres-"))
    run = _as_user(folder)
    binaries, port = programs[-1].parent, _free_port()
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    try:
        run([str(binaries / "initdb"), "-D", f"{folder}/data", "-A", "trust", "-U", "postgres"])
        run(
            [
                str(binaries / "pg_ctl"),
                "-D",
                f"{folder}/data",
                "-o",
                options,
                "-l",
                f"{folder}/log",
                "-w",
                "start",
            ]
        )
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            run([str(binaries / "pg_ctl"), "-D", f"{folder}/data", "-m", "immediate", "stop"])
        shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def _sqlite_template() -> bytes:
    """A file with our tables, made once per process: copying it is much faster than migrating."""
    from tutelage.store.database import Database

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite"
        Database(path).close()
        assert [file.name for file in path.parent.iterdir()] == [path.name], "nothing waits in another file"
        return path.read_bytes()


def fresh_sqlite(path: Path) -> Path:
    """`path`, with our tables in it."""
    path.write_bytes(_sqlite_template())
    return path


def template_database(server: str) -> str:
    """The name of a database with our tables, made once: copying it is much faster than migrating."""
    from tutelage.store.database import Database

    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        there = connection.execute(
            text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": TEMPLATE}
        )
        if there.scalar() is not None:
            connection.execute(text(f"DROP DATABASE {TEMPLATE} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {TEMPLATE}"))
    admin.dispose()
    Database(make_url(server).set(database=TEMPLATE).render_as_string(hide_password=False)).close()
    return TEMPLATE


@contextlib.contextmanager
def fresh_database(server: str | None, template: str = "template1") -> Iterator[str]:
    """The URL of a new database on a server; skips the test where there is no server."""
    if server is None:
        pytest.skip(f"no PostgreSQL server: install postgresql, or set {WHERE} to the URL of one")
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    name = f"tutelage_test_{uuid.uuid4().hex[:12]}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def _as_user(folder: Path):  # type: ignore[no-untyped-def]
    """How to run the server's programs: they refuse to run as root, so root lends them to the user `postgres`."""
    user = None
    if os.getuid() == 0:
        entry = pwd.getpwnam("postgres")
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        user = "postgres"
    return lambda command: subprocess.run(
        command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
