"""Before a file is stored: what it is, how its rows are understood, what would come of it; and its encoding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.feedback import seed_example as seed
from tests.web.conftest import Running
from tests.web.kit import World
from tests.web.people import visitor
from tutelage.store import Store

PAIRS = [{"prompt": f"Q{n}?", "chosen": "A", "rejected": "B", "annotator": "joan"} for n in range(12)]
EXCEL = "prompt;chosen;rejected\r\nWarum müde?;Zu spät\x80;Früh\r\nplain;a;b\r\n".encode("latin-1")


def send(api: TestClient, what: str, content: bytes, **query: str) -> Any:
    return api.post(f"/api/v1/projects/main/import{what}", params={"kind": "auto", **query}, content=content)


def test_a_preview_stores_nothing_and_counts_what_an_import_will(own: World, api: TestClient) -> None:
    content = json.dumps([*PAIRS, PAIRS[0], {"prompt": "Q", "chosen": "A", "rejected": "A"}]).encode()
    found = send(api, "/preview", content, name="rows.unknown").json()
    with Store(own.path) as store:
        assert store.counts("main").prompts == 0 and "joan@import" not in store.annotator_kinds()
    assert (found["file"], found["encoding"], found["kind"]) == ("JSON", "utf-8", "preference")
    assert (found["rows"], found["more"], found["proposed"]) == (14, False, "")
    assert [row["line"] for row in found["first"]] == list(range(1, 11))
    assert found["first"][0]["parts"] == {
        "prompt": "Q0?", "chosen": "A", "rejected": "B", "annotator": "joan", "split": "train",
    }  # fmt: skip
    done = send(api, "", content, name="rows.unknown").json()
    assert done == found["imported"] and (done["new"], done["there"], len(done["bad"])) == (12, 1, 1)


def test_the_encoding_is_proposed_chosen_and_never_guessed_at(own: World, api: TestClient) -> None:
    found = send(api, "/preview", EXCEL, name="Mappe1.csv").json()
    assert (found["encoding"], found["proposed"]) == ("utf-8", "windows-1252")
    assert found["imported"]["new"] == 1 and "not UTF-8 text" in found["first"][0]["why"]
    read = send(api, "/preview", EXCEL, name="Mappe1.csv", encoding="windows-1252").json()
    assert read["first"][0]["parts"]["chosen"] == "Zu spät€" and read["proposed"] == ""
    assert send(api, "", EXCEL, name="Mappe1.csv", encoding="windows-1252").json()["new"] == 2
    with Store(own.path) as store:
        assert {row.chosen for row in store.comparisons("main")} == {"Zu spät€", "a"}
    utf16 = EXCEL.decode("windows-1252").encode("utf-16")
    assert send(api, "", utf16, name="Mappe2.csv").json()["there"] == 2
    refused = send(api, "", EXCEL, name="a.csv", encoding="klingon")
    assert refused.status_code == 422 and "ncoding=klingon is not known" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("content", "name", "file", "kind"),
    [
        (b"prompt\tresponse\nQ?\tA\n", "rows.txt", "TSV", "responses"),
        (b"prompt,response,score\nQ?,A,0.5\n", "rows", "CSV", "scores"),
        (b'[{"question": "Q?"}]', "rows.csv", "JSON", "prompts"),
        (b'{"kind": "guidelines", "n": 1, "markdown": "Be fair"}', "rows.jsonl", "JSON lines", "raw"),
        (b'{"item": "0", "answer": {"preference": 1}, "source": "m"}', "rows.jsonl", "JSON lines", "suggestions"),
        (b"{}\n", "rows.jsonl", "", "o kind of rows has these columns"),
        (b"PK\x03\x04...", "rows.csv", "", "an Excel workbook"),
    ],
)  # fmt: skip
def test_files_and_rows_are_recognised(
    api: TestClient, content: bytes, name: str, file: str, kind: str
) -> None:
    found = send(api, "/preview", content, name=name)
    if file:
        assert (found.json()["file"], found.json()["kind"]) == (file, kind), found.text
    else:
        assert found.status_code == 422 and kind in found.json()["detail"]


def test_columns_under_other_names_and_what_is_missing(api: TestClient) -> None:
    names = json.dumps({"prompt": "frage", "response": "antwort", "model": "wer"})
    row = b'{"frage": "F?", "antwort": "A", "wer": "rm"}'
    assert send(api, "/preview", row, columns=names).json()["first"][0]["parts"]["model"] == "rm"
    assert "JSON object of names" in send(api, "", row, columns="[1]").json()["detail"]
    scores = b'{"prompt": "p", "response": "r", "score": 1}'
    assert "import responses first" in send(api, "/preview", scores).json()["imported"]["needs"]
    assert send(api, "", row, columns=names).json()["new"] == 1
    assert send(api, "/preview", scores).json()["imported"]["needs"] == ""


@pytest.mark.slow
def test_the_page_shows_rows_then_stores_them(
    world: World, server: Running, browser: Any, shots: Path
) -> None:
    world.project("excel", prompts=(), answers=())
    with visitor(browser, server.url, "ann") as page:
        page.goto("/p/excel/manage")
        page.get_by_label("File (JSON").set_input_files(
            {"name": "Mappe1.csv", "mimeType": "text/csv", "buffer": EXCEL}
        )
        page.get_by_role("button", name="Read it as windows-1252").click()
        page.get_by_text("Warum müde?").wait_for()
        page.screenshot(path=shots / "import.png", full_page=True)
        with Store(world.path) as store:
            assert store.counts("excel").prompts == 0
        page.get_by_role("button", name="Import").click()
        page.get_by_text("2 new, 0 were there already, 0 not taken.", exact=True).wait_for()
    with Store(world.path) as store:
        assert "Zu spät€" in {row.chosen for row in store.comparisons("excel")}


def test_what_an_import_mends_is_said_on_the_page(
    world: World, server: Running, browser: Any, tmp_path: Path
) -> None:
    """A step of the example is said to follow from one that is not wrong: the page says what was taken instead."""
    world.project("mended", {"type": "step"}, prompts=(), answers=())
    file = tmp_path / "refinements.jsonl"
    file.write_text(json.dumps(seed.ROW) + "\n")
    with visitor(browser, server.url, "ann") as page:
        page.goto("/p/mended/manage#import")
        page.locator("#import-form [name=file]").set_input_files(file)
        page.get_by_text("JSON lines, utf-8, refinements").wait_for()
        note = page.locator("#bad-lines li")
        note.first.wait_for()
        assert "taken otherwise than it stands there" in note.first.inner_text()
        page.get_by_role("button", name="Import", exact=True).click()
        page.get_by_text("1 new").wait_for()
        assert "taken otherwise than it stands there" in note.first.inner_text()
