"""A thin client of the API.

    from tutelage.web.client import Client

    with Client("http://localhost:8000", token="tut_...") as client:
        while task := client.next("main"):
            client.submit(task, {"type": "pair", "preference": -2})

What it takes and gives is JSON as the API has it (see /api/v1/openapi.json).  A request whose reply was lost is sent
again where repeating it changes nothing: reading, and answers, which carry their own key.
"""

from __future__ import annotations

import json
import ssl
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx2

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
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError(f"{url} is no address of a server: write it like http://localhost:8000.")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._url = url.rstrip("/")
        trusted = ssl.create_default_context()  # this machine's certificates
        self._http = httpx2.Client(headers=headers, timeout=timeout, verify=trusted, trust_env=False)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

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
        return self._give(_assignment(task, "submit"), answer, active_ms, key)

    def revise(
        self, project: str, annotation_id: int, answer: Mapping[str, Any], active_ms: int = 0, key: str = ""
    ) -> dict[str, Any]:
        """Revise one's own latest answer."""
        path = f"{_project(project)}/annotations/{annotation_id}/revise"
        return self._give(path, answer, active_ms, key)

    def _give(self, path: str, answer: Mapping[str, Any], active_ms: int, key: str) -> dict[str, Any]:
        body = {"answer": dict(answer), "active_ms": active_ms}
        return self.request("POST", path, body, repeatable=True, key=key or uuid.uuid4().hex)

    def skip(self, task: Mapping[str, Any], reason: str, text: str = "") -> None:
        """Give a task back for good."""
        self.request("POST", _assignment(task, "skip"), {"reason": reason, "text": text}, repeatable=True)

    def release(self, task: Mapping[str, Any]) -> None:
        """Give a task back; it may come again."""
        self.request("POST", _assignment(task, "release"), repeatable=True)

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

    def members(self, project: str) -> list[dict[str, Any]]:
        """The members: name, role, team, active, answers."""
        return self.request("GET", f"{_project(project)}/members")

    def set_member(self, project: str, name: str, role: str, team: str | None = None) -> None:
        """Add a user to a project, or change their role and team (None leaves the team as it is)."""
        path = f"{_project(project)}/members/{quote(name, safe='')}"
        self.request("PUT", path, {"role": role, "team": team})

    def import_lines(self, project: str, kind: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """Import rows (kind: prompts, responses, preference, scores, suggestions, raw); bad ones are listed in the result."""
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return self._import(project, lines.encode(), {"kind": kind, "name": "rows.jsonl"})

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
        how = {"kind": kind, "name": Path(path).name, "encoding": encoding}
        how["columns"] = json.dumps(dict(columns or {}))
        return self._import(project, Path(path).read_bytes(), how, "/preview" if preview else "")

    def _import(self, project: str, file: bytes, how: Mapping[str, str], end: str = "") -> dict[str, Any]:
        path = f"{_project(project)}/import{end}?{urlencode(how)}"
        return self.request("POST", path, file, repeatable=True)

    def build(self, project: str, type: str, **how: Any) -> dict[str, Any]:
        """Make items from stored responses (strategy, per_prompt, size, across_runs)."""
        body = {"type": type, **how}
        return self.request("POST", f"{_project(project)}/items/build", body, repeatable=True)

    def items(self, project: str, **query: Any) -> list[dict[str, Any]]:
        """All items that fit (text, type, state, model, annotator, answer, agreement, tag, task, split, run)."""
        found: list[dict[str, Any]] = []
        query = {"limit": 500, **query}
        while True:
            page = self.request("GET", f"{_project(project)}/items?{urlencode(query)}")
            found += page["items"]
            if page["next"] is None:
                return found
            query["after"] = page["next"]

    def stats(self, project: str) -> dict[str, Any]:
        """Agreement, annotators, biases and models."""
        return self.request("GET", f"{_project(project)}/stats")

    def export(self, project: str, **spec: Any) -> list[dict[str, Any]]:
        """The rows of an export (format, aggregation, ties, split, labels_from, neutral, names, gold, provenance)."""
        at = self._exported(project, {**spec, "file_format": "jsonl"})
        return [json.loads(line) for line in self._send("GET", f"{at}/file").splitlines() if line]

    def export_file(self, project: str, path: str | Path, **spec: Any) -> dict[str, Any]:
        """Write an export (as `export`, and file_format: jsonl, parquet, csv) to `path`, its manifest beside it; returns that."""
        at, path = self._exported(project, spec), Path(path)
        path.write_bytes(self._send("GET", f"{at}/file"))
        manifest = self._send("GET", f"{at}/manifest")
        path.with_name(f"{path.name}.manifest.json").write_bytes(manifest)
        return json.loads(manifest)

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
        data = body if body is None or isinstance(body, bytes) else _json(body)
        repeatable = repeatable or method in ("GET", "PUT", "DELETE")
        answer = self._send(method, path, data, repeatable, key)
        return json.loads(answer) if answer else None

    def _send(
        self, method: str, path: str, data: bytes | None = None, repeatable: bool = True, key: str = ""
    ) -> bytes:
        address, headers = f"{self._url}/api/v1{path}", {"Idempotency-Key": key} if key else {}
        pause = FIRST_PAUSE
        for attempt in range(RETRIES):
            last, wait = attempt == RETRIES - 1, 0.0
            try:
                answer = self._http.request(method, address, content=data, headers=headers)
            except httpx2.RequestError as error:
                if last or not repeatable:
                    raise Unreachable(f"{self._url} does not answer: {error}.") from error
            else:
                if answer.status_code < 300:
                    return answer.content
                if last or not (answer.status_code == 429 or (answer.status_code >= 500 and repeatable)):
                    raise _refusal(answer)
                said = answer.headers.get("Retry-After", "")
                wait = float(said) if said.isdecimal() else 0.0
            time.sleep(max(pause, min(wait, LONGEST_PAUSE)))
            pause *= 2
        raise AssertionError("the last attempt returns or raises")


def _json(body: Mapping[str, Any]) -> bytes:
    """Not escaped: a server takes only so many bytes, and an escaped letter is up to six."""
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _project(name: str) -> str:
    """The path of a project; a slash in its name stays part of the name."""
    return f"/projects/{quote(name.replace('%', '%25').replace('/', '%2F'), safe='')}"


def _assignment(task: Mapping[str, Any], act: str) -> str:
    """The path of something that can be done with a task in hand."""
    return f"{_project(task['project'])}/assignments/{task['assignment_id']}/{act}"


def _refusal(answer: httpx2.Response) -> ApiRefused:
    status = answer.status_code
    try:
        said = answer.json()
        return ApiRefused(status, said["detail"], said.get("reason", ""))
    except (ValueError, KeyError, TypeError):
        return ApiRefused(status, f"The server answered with {status}.", "")
