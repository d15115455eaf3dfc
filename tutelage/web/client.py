"""A thin client of the API, standard library only.

    from tutelage.web.client import Client

    with Client("http://localhost:8000", token="tut_...") as client:
        while task := client.next("main"):
            client.submit(task, {"type": "pair", "preference": -2})

What it takes and gives is JSON as the API has it (see /api/v1/openapi.json).  A request whose reply was lost is sent
again where repeating it changes nothing: reading, and answers, which carry their own key.  One connection, so one
thread.
"""

from __future__ import annotations

import http.client
import json
import selectors
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

RETRIES = 6
FIRST_PAUSE = 0.2  # seconds; doubled every time
LONGEST_PAUSE = 60.0  # a server that says to wait for longer is asked again all the same


class Unreachable(OSError):
    """The server did not answer, after several tries."""


class ApiRefused(ValueError):
    """What the server refused, in its own sentence; `status` is HTTP's, `reason` is for programs."""

    def __init__(self, status: int, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.status, self.reason = status, reason


class Client:
    """One user's token at one server.  Raises ApiRefused for what is refused, Unreachable when nobody answers."""

    def __init__(self, url: str, token: str, timeout: float = 60.0) -> None:
        self._url = urlsplit(url)
        if self._url.scheme not in ("http", "https") or not self._url.hostname:
            raise ValueError(f"{url} is no address of a server: write it like http://localhost:8000.")
        self._token, self._timeout = token, timeout
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # work ---------------------------------------------------------------------------------------------------------

    def me(self) -> dict[str, Any]:
        """Who the token belongs to, and their projects."""
        return self.request("GET", "/me")

    def next(self, project: str, besides: Iterable[int] = ()) -> dict[str, Any] | None:
        """The next task, or None; `besides` are assignments in hand."""
        body = {"besides": list(besides)}
        found = self.request("POST", f"{_project(project)}/next", body, repeatable=True)["view"]
        return None if found is None else found["task"]

    def submit(
        self, task: Mapping[str, Any], answer: Mapping[str, Any], active_ms: int = 0, key: str = ""
    ) -> dict[str, Any]:
        """Answer a task; returns the receipt once the answer is on the server's disk.  `key`: this answer's own name."""
        path = f"{_project(task['project'])}/assignments/{task['assignment_id']}/submit"
        return self.request(
            "POST", path, _given(answer, active_ms), repeatable=True, key=key or uuid.uuid4().hex
        )

    def revise(
        self, project: str, annotation_id: int, answer: Mapping[str, Any], active_ms: int = 0, key: str = ""
    ) -> dict[str, Any]:
        """Revise one's own latest answer."""
        path = f"{_project(project)}/annotations/{annotation_id}/revise"
        return self.request(
            "POST", path, _given(answer, active_ms), repeatable=True, key=key or uuid.uuid4().hex
        )

    def skip(self, task: Mapping[str, Any], reason: str, text: str = "") -> None:
        """Give a task back for good."""
        path = f"{_project(task['project'])}/assignments/{task['assignment_id']}/skip"
        self.request("POST", path, {"reason": reason, "text": text}, repeatable=True)

    def release(self, task: Mapping[str, Any]) -> None:
        """Give a task back; it may come again."""
        path = f"{_project(task['project'])}/assignments/{task['assignment_id']}/release"
        self.request("POST", path, repeatable=True)

    # projects -----------------------------------------------------------------------------------------------------

    def project(self, project: str) -> dict[str, Any]:
        """Settings, questions and guidelines."""
        return self.request("GET", _project(project))

    def create_project(
        self, name: str, questions: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Make a project."""
        body = {"name": name, "questions": dict(questions or {}), "settings": dict(settings or {})}
        return self.request("POST", "/projects", body)

    def delete_project(self, project: str) -> None:
        """Hide a project; everything in it stays."""
        self.request("DELETE", _project(project))

    def restore_project(self, project: str) -> None:
        """Bring a deleted project back."""
        self.request("POST", f"{_project(project)}/restore")

    def purge_project(self, project: str) -> dict[str, Any]:
        """Delete a deleted project for good; says how much it was."""
        return self.request("POST", f"{_project(project)}/purge", {"confirm": project})

    def import_lines(self, project: str, kind: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """Import rows (kind: prompts, responses, preference, scores, suggestions, raw); bad ones are listed in the result."""
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return self._import(project, kind, lines.encode(), "rows.jsonl")

    def import_file(
        self,
        project: str,
        kind: str,
        path: str | Path,
        columns: Mapping[str, str] | None = None,
        encoding: str = "auto",
        preview: bool = False,
    ) -> dict[str, Any]:
        """Import a file (JSON, CSV, TSV, Parquet), as `import_lines`; kind=auto: what its columns say.

        `columns`: our names for theirs.  `encoding`: of text, such as windows-1252.  `preview`: only say what would be
        stored, and show the first rows as they are understood.
        """
        how = {"columns": json.dumps(dict(columns or {})), "encoding": encoding}
        return self._import(project, kind, Path(path).read_bytes(), Path(path).name, how, preview)

    def _import(
        self,
        project: str,
        kind: str,
        content: bytes,
        name: str,
        how: Mapping[str, str] | None = None,
        preview: bool = False,
    ) -> dict[str, Any]:
        query = urlencode({"kind": kind, "name": name, **(how or {})})
        path = f"{_project(project)}/import{'/preview' if preview else ''}?{query}"
        found: dict[str, Any] = self.request("POST", path, content, repeatable=True)
        return found

    def build(self, project: str, type: str, **how: Any) -> dict[str, Any]:
        """Make items from stored responses (strategy, per_prompt, size, across_runs)."""
        body = {"type": type, **how}
        return self.request("POST", f"{_project(project)}/items/build", body, repeatable=True)

    def items(self, project: str, **query: Any) -> list[dict[str, Any]]:
        """A page of items (text, type, state, model, after, limit)."""
        found: list[dict[str, Any]] = self.request("GET", f"{_project(project)}/items?{urlencode(query)}")
        return found

    def stats(self, project: str) -> dict[str, Any]:
        """Agreement, annotators, biases and models."""
        return self.request("GET", f"{_project(project)}/stats")

    def export(self, project: str, **spec: Any) -> list[dict[str, Any]]:
        """The rows of an export (format, aggregation, ties, split, labels_from, neutral, names, gold, provenance)."""
        at = self._exported(project, {**spec, "file_format": "jsonl"})
        lines = self._send("GET", f"/api/v1{at}/file", None, True, {})
        return [json.loads(line) for line in lines.splitlines() if line]

    def export_file(self, project: str, path: str | Path, **spec: Any) -> dict[str, Any]:
        """Write an export (as `export`, and file_format: jsonl, parquet, csv) to `path`, its manifest beside it; returns that."""
        at, path = self._exported(project, spec), Path(path)
        path.write_bytes(self._send("GET", f"/api/v1{at}/file", None, True, {}))
        manifest = self._send("GET", f"/api/v1{at}/manifest", None, True, {})
        path.with_name(f"{path.name}.manifest.json").write_bytes(manifest)
        found: dict[str, Any] = json.loads(manifest)
        return found

    def _exported(self, project: str, spec: Mapping[str, Any]) -> str:
        """Make an export; returns where its files are."""
        made = self.request("POST", f"{_project(project)}/exports", spec)
        return f"{_project(project)}/exports/{made['name']}"

    # the wire -----------------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        repeatable: bool = False,
        key: str = "",
    ) -> Any:
        """Any request of the API (`path` below /api/v1); returns the parsed answer.

        `repeatable`: sending it twice does what sending it once does, so a lost reply is no reason to give up.
        `key` goes with it as Idempotency-Key.
        """
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        repeatable = repeatable or method in ("GET", "PUT", "DELETE")
        answer = self._send(
            method, f"/api/v1{path}", data, repeatable, {"Idempotency-Key": key} if key else {}
        )
        return json.loads(answer) if answer else None

    def _send(
        self, method: str, path: str, data: bytes | None, repeatable: bool, extra: Mapping[str, str]
    ) -> bytes:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json", **extra}
        pause = FIRST_PAUSE
        for attempt in range(RETRIES):
            last, wait = attempt == RETRIES - 1, 0.0
            try:
                status, answer, wait = self._once(method, path, data, headers)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if last or not repeatable:
                    raise Unreachable(f"{self._url.geturl()} does not answer: {error}.") from error
            else:
                if status < 400:
                    return answer
                if last or not (status == 429 or (status >= 500 and repeatable)):
                    raise _refusal(status, answer)
            time.sleep(max(pause, min(wait, LONGEST_PAUSE)))
            pause *= 2
        raise AssertionError("the last attempt returns or raises")

    def _once(
        self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes, float]:
        if self._connection is not None and _was_closed(self._connection):
            self.close()
        if self._connection is None:
            secure = self._url.scheme == "https"
            kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            assert self._url.hostname is not None
            self._connection = kind(self._url.hostname, self._url.port, timeout=self._timeout)
        self._connection.request(method, self._url.path.rstrip("/") + path, data, dict(headers))
        answer = self._connection.getresponse()
        wait = answer.headers.get("Retry-After", "")
        return answer.status, answer.read(), float(wait) if wait.isdecimal() else 0.0


def _was_closed(connection: http.client.HTTPConnection) -> bool:
    """Whether the server has closed a connection that was silent for long: all that can arrive unasked is its end."""
    if connection.sock is None:
        return True
    with selectors.DefaultSelector() as watch:
        watch.register(connection.sock, selectors.EVENT_READ)
        return bool(watch.select(timeout=0))


def _given(answer: Mapping[str, Any], active_ms: int) -> dict[str, Any]:
    return {"answer": dict(answer), "active_ms": active_ms}


def _project(name: str) -> str:
    """The path of a project; a slash in its name stays part of the name."""
    return f"/projects/{quote(name.replace('%', '%25').replace('/', '%2F'), safe='')}"


def _refusal(status: int, answer: bytes) -> ApiRefused:
    try:
        said = json.loads(answer)
        return ApiRefused(status, said["detail"], said.get("reason", ""))
    except (ValueError, KeyError, TypeError):
        return ApiRefused(status, f"The server answered with {status}.", "")
