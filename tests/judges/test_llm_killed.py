"""`label` by a language model, killed again and again: every pair ends with one answer to each order, and the cost is exact."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from tests.feedback.test_label import sample
from tests.judges.endpoint import serving
from tests.processes import Started
from tutelage.worlds.world import prompts

KILLS = 5


@pytest.mark.slow
def test_kill_9_and_again(tmp_path: Path) -> None:
    asked = list(prompts(0, "label-test", 100))
    sample(tmp_path / "store.sqlite", 1, asked)
    with serving(asked, malformed=0.2, busy=0.1, stalled=0.01, latency=0.05) as server:
        options = "timeout: 1, concurrency: 8, price_in: 1, price_out: 4"
        words = [
            "label", f"out={tmp_path / 'label'}", f"store={tmp_path / 'store.sqlite'}", "pairs_per_prompt=2",
            f'judge=[{{judge: llm:tutelage-world, url: "{server.url}", {options}}}]',
        ]  # fmt: skip
        done = 0
        for number in range(KILLS):
            started = Started(words, tmp_path / f"said-{number}")
            before = server.stats()["answers"]
            while started.running and server.stats()["answers"] < before + 15:
                time.sleep(0.02)
            done += not started.running
            started.kill()
        assert done < KILLS / 2, "it was hardly ever killed at work"
        assert Started(words, tmp_path / "said").wait() == 0
        stats = server.stats()
    with sqlite3.connect(tmp_path / "store.sqlite") as store:
        keys, sent, answered, cost, tokens = store.execute(
            "SELECT count(DISTINCT key), count(*), sum(status = 'answered'), sum(cost), sum(prompt_tokens) FROM judge_call"
        ).fetchone()
        attempts = store.execute("SELECT sum(attempts) FROM judge_call").fetchone()[0]
        (pairs,) = store.execute("SELECT count(*) FROM item").fetchone()
        (orders,) = store.execute(
            "SELECT count(*) FROM judge_call WHERE about IN ('pair 01', 'pair 10')"
        ).fetchone()
        votes, voted = store.execute("SELECT count(*), count(DISTINCT item_id) FROM annotation").fetchone()
    assert keys == sent == answered == stats["answered"] and orders == 2 * pairs
    assert tokens == stats["prompt_tokens"]
    assert cost == pytest.approx((tokens + 4 * stats["completion_tokens"]) / 1e6, rel=1e-12)
    assert (
        stats["answers"] - answered <= attempts - sent <= 8 * KILLS
    )  # asked again is only what was on its way
    assert votes == voted > 0.7 * pairs
