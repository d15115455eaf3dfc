"""Progress: rows pass through as they are; what is quick shows nothing."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from tutelage.data.preflight import progress


def console() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=80)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_quick_work_shows_nothing() -> None:
    screen = console()
    assert list(progress.watched(range(5), "reading", screen)) == [0, 1, 2, 3, 4]
    with progress.patient("hashing", screen):
        pass
    assert shown(screen) == ""


@pytest.mark.slow
@pytest.mark.parametrize("rows", [range(5), iter(range(5))])
def test_slow_work_is_shown(monkeypatch: pytest.MonkeyPatch, rows: object) -> None:
    monkeypatch.setattr(progress, "PATIENCE", -1.0)
    screen = console()
    seen = []
    for row in progress.watched(rows, "reading", screen):  # type: ignore[arg-type]
        seen.append(row)
        time.sleep(0.15)
    assert seen == [0, 1, 2, 3, 4] and "reading" in shown(screen)
    screen = console()
    with progress.patient("hashing", screen):
        time.sleep(0.3)
    assert "hashing" in shown(screen)


def test_a_failure_ends_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", -1.0)
    screen = console()
    with pytest.raises(KeyError), progress.patient("hashing", screen):
        raise KeyError
    rows = progress.watched(range(5), "reading", screen)
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    with screen.status("another can start"):
        pass
