"""What every test relies on: no network, one thread, no slow tests unless asked for, nothing written outside tmp folders."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path

# Most of what tests write is waited for until it is on the disk, and on a busy disk that is most of their time: they write
# to memory where there is enough of it.
_memory = Path("/dev/shm")
if "TMPDIR" not in os.environ and os.access(_memory, os.W_OK) and shutil.disk_usage(_memory).free > 2 * 2**30:
    os.environ["TMPDIR"] = str(_memory)
    tempfile.tempdir = None  # look again

# Set before anything imports torch or a Hugging Face library: they read these once.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
for _offline in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
    os.environ[_offline] = "1"
os.environ["HF_HOME"] = f"{tempfile.gettempdir()}/tutelage-tests-hf-{os.getuid()}"
os.environ["MPLBACKEND"] = "agg"
if (
    "PYTEST_XDIST_WORKER" not in os.environ
):  # else it is that of whoever started us, so that kernels are built once
    os.environ["TUTELAGE_CACHE"] = tempfile.mkdtemp(prefix="tutelage-tests-cache-")
    atexit.register(shutil.rmtree, os.environ["TUTELAGE_CACHE"], ignore_errors=True)
gc.disable()  # while everything is imported, of which nothing is garbage

import pytest
from hypothesis import settings

# The same examples every time, and no verdict on how fast the machine is. The first of them are those of the fast tests.
EXAMPLES = {"fast": 40, "slow": 60}
for _profile, _most in EXAMPLES.items():
    settings.register_profile(_profile, derandomize=True, deadline=None, database=None, max_examples=_most)


LONGEST = ("test_ray.py", "test_kill.py", "test_iterated", "test_every_screen", "test_load")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("slow" if config.getoption("--slow") else "fast")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        # The longest first, so that no process is left with one of them at the end.
        items.sort(key=lambda item: not any(name in item.nodeid for name in LONGEST))
        return
    slow = [item for item in items if _is_slow(item)]
    if slow and not any("::" in arg for arg in config.args):  # a test asked for by name runs
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not _is_slow(item)]


def pytest_collection_finish() -> None:
    if "tutelage.store.database" in sys.modules:  # else there is no store here
        from tests.databases import compile_statements_once, make_tables_at_once

        make_tables_at_once()
        compile_statements_once()
    gc.freeze()  # looking through all that was imported again and again is seconds of every run
    gc.enable()


def _is_slow(item: pytest.Item) -> bool:
    """Marked so, or in need of a browser or of a database server."""
    needs: tuple[str, ...] = getattr(item, "fixturenames", ())
    return bool(item.get_closest_marker("slow")) or "browser" in needs or "postgresql" in item.nodeid
