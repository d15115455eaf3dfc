"""Python code against its tests: honest code passes, and no code that cheats, hangs, forks or eats memory does."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tutelage.judges.build import build_judge
from tutelage.judges.judge import Judge
from tutelage.judges.verify import helpers
from tutelage.judges.verify.code import code_in, read_tests
from tutelage.records import Prompt, Response

SQUARE = "def f(x):\n    return x * x\n"
ASSERTS = ["assert f(2) == 4", "assert f(-3) == 9", "assert abs(f(0.5) - 0.25) < 1e-9", "assert 9 in [f(3)]"]
GIVEN = {"tests": ASSERTS, "entry_point": "f"}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def judge() -> Judge:
    """One judge for the tests of this file: its helpers start once."""
    return build_judge(
        [{"judge": "verify:code", "score": "share", "seconds": 2.0, "memory_mib": 256, "workers": 2}]
    )


def share(judge: Judge, source: str, **reference: Any) -> float:
    [found] = judge.score([Response.written(Prompt("p", reference=reference or GIVEN), source)])
    assert found is not None
    return found.value


def test_honest_code_passes(judge: Judge) -> None:
    assert share(judge, SQUARE) == 1
    assert (
        share(
            judge, f"I would write\n```python\nprint(1)\n```\nor rather\n```python\n{SQUARE}```\nGood luck!"
        )
        == 1
    )
    assert share(judge, f"```python\n{SQUARE}") == 1  # it was cut after the code
    assert share(judge, "def f(x):\n    return 4\n") == 0.25
    assert share(judge, "def f(x):\n    return abs(x) * x\n") == 0.75


SCRIPT = """
import math
s = Stack()
s.push(3)
s.push(4)
assert len(s) == 2 and list(s) == [3, 4] and s.items == [3, 4]
assert s.pop() == 4 and bool(s) and "3" in str(s)
x = [3, 1, 2]
sort(x)
assert x == [1, 2, 3]
nested = {"a": [1]}
grow(nested["a"])
assert nested == {"a": [1, 0]}
assert list(count()) == [0, 1, 2] and next(count()) == 0
assert apply(lambda y: y + 1, 3) == 4
try:
    fail()
    said = ""
except ValueError as error:
    said = str(error)
assert said == "no"
assert Point(1, 2) == Point(1, 2) and Point(1, 2) != Point(2, 1)
assert Point(1, 2) + Point(1, 1) == Point(2, 3)
assert kinds() == (None, True, 2**80, 1.5, 1j, b"x", {1, 2}, {(1, 2): [3]}, range(3), frozenset({1}))
assert isinstance(kinds()[3], float) and math.isinf(endless())
def test_more():
    assert root(16) == 4
"""
ANSWER = """
import math
from dataclasses import dataclass
class Stack:
    def __init__(self): self.items = []
    def push(self, x): self.items.append(x)
    def pop(self): return self.items.pop()
    def __len__(self): return len(self.items)
    def __iter__(self): return iter(self.items)
    def __str__(self): return str(self.items)
@dataclass
class Point:
    x: int
    y: int
    def __add__(self, other): return Point(self.x + other.x, self.y + other.y)
def sort(x): x.sort()
def grow(x): x.append(0)
def count():
    for i in range(3): yield i
def apply(function, x): return function(x)
def fail(): raise ValueError("no")
def kinds(): return (None, True, 2**80, 1.5, 1j, b"x", {1, 2}, {(1, 2): [3]}, range(3), frozenset({1}))
def endless(): return float("inf")
def root(x): return math.isqrt(x)
"""


def test_objects_exceptions_generators_and_changed_arguments_work_between_the_processes(judge: Judge) -> None:
    assert share(judge, ANSWER, tests=SCRIPT) == 1


@pytest.mark.parametrize(
    ("source", "reference", "expected"),
    [
        (
            "def g(x): return x + 1",
            {"tests": "def check(candidate):\n    assert candidate(1) == 2\n", "entry_point": "g"},
            1,
        ),
        (
            "def g(x): return x",
            {"tests": "def check(candidate):\n    assert candidate(1) == 2\n", "entry_point": "g"},
            0,
        ),
        (
            "def g(x): return x",
            {"tests": "def check(c):\n    assert c(1) == 2\ncheck(g)\n", "entry_point": "g"},
            0,
        ),
        ("def g(x): return x", {"tests": "if g(1) != 1:\n    raise SystemExit\n"}, 1),
        ("def g(x): return x", {"tests": "x = 1 / 0\nassert g(1) == 1\n"}, 0),
        ("def sum(x): return 6", {"tests": ["assert sum([1, 2, 3]) == 6"], "entry_point": "sum"}, 1),
    ],
)
def test_tests_may_be_scripts(judge: Judge, source: str, reference: dict[str, Any], expected: float) -> None:
    assert share(judge, source, **reference) == expected


EQUAL = "class E:\n    def __eq__(s, o): return True\n    __sub__ = __abs__ = __lt__ = lambda s, *o: 0.0\n    __hash__ = None\n"
WRITE = "import os\nfor n in range(64):\n    try: os.write(n, b'r' + b'1' * 40)\n    except OSError: pass\n"
CHEATS = {
    "fork bomb": "import os\nwhile True:\n    os.fork()",
    "memory": "x = []\nwhile True:\n    x.append(bytearray(10**7))",
    "os._exit(0) before the tests": f"{SQUARE}import os\nos._exit(0)",
    "SystemExit": f"{SQUARE}raise SystemExit(0)",
    "SystemExit when called": "def f(x): raise SystemExit(0)",
    "printing success": f"print('r1111')\nprint('4 passed')\n{WRITE}",
    "writing success when called": "def f(x):\n" + "".join(f"    {line}\n" for line in WRITE.splitlines()),
    "huge output": "for i in range(300):\n    print('x' * 10**6)",
    "monkeypatching": "import builtins\nbuiltins.abs = abs = lambda x: 0\nbuiltins.AssertionError = None\ndef f(x): return 1",
    "other modules": "import sys\nfor m in list(sys.modules.values()): vars(m).clear()\ndef f(x): return 4",
    "equal to all": f"{EQUAL}def f(x): return E()",
    "a number that equals all": "class I(float):\n    def __eq__(s, o): return True\ndef f(x): return I(1)",
    "looking for the tests": "import gc\ndef f(x):\n    return [o for o in gc.get_objects() if 'assert' in str(o)][0]",
    "killing": "import os, signal\nos.kill(os.getppid(), 9)\nos.kill(-1, 9)",
    "network": "import socket\nsocket.create_connection(('127.0.0.1', 80))",
    "a program": "import subprocess\nsubprocess.run(['true'])\ndef f(x): return x * x",
    "threads": "import threading\nfor _ in range(10**4): threading.Thread(target=input).start()",
    "endless recursion": "def f(x): return f(x)",
    "a nest of lists": "def f(x):\n    y = []\n    for _ in range(10**5): y = [y]\n    return y",
    "a long message": "def f(x): return 'x' * 10**8",
    "no function": "x = 1",
    "an error": "1 / 0",
}  # fmt: skip


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_scores_nothing_and_harms_nobody(name: str, judge: Judge) -> None:
    ours = {f.__name__: f for f in (abs, len, os.fork)}
    assert share(judge, CHEATS[name]) == 0
    assert {f.__name__: f for f in (abs, len, os.fork)} == ours
    assert share(judge, SQUARE) == 1  # the helper goes on


def test_no_file_is_written(judge: Judge, tmp_path: Path) -> None:
    place = tmp_path / "written"
    assert share(judge, f"open({str(place)!r}, 'w').write('x')\n{SQUARE}") == 0 and not place.exists()
    place.write_text("mine")
    assert (
        share(judge, f"import os\nos.remove({str(place)!r})\n{SQUARE}") == 0 and place.read_text() == "mine"
    )


LANDLOCK = sys.platform == "linux" and ctypes.CDLL(None).syscall(444, None, 0, 1) > 0


@pytest.mark.skipif(not LANDLOCK, reason="the kernel has no Landlock")
@pytest.mark.parametrize(
    "place", [str(ROOT / "pyproject.toml"), "/etc/passwd", "/proc/{pid}/mem", "/proc/self/maps"]
)
def test_only_python_s_own_files_are_read(judge: Judge, place: str) -> None:
    place = place.format(pid=os.getpid())  # not in its name, which is the same in every process
    reading = "def f(x):\n    open({!r}, 'rb').close()\n    return x * x\n"
    assert share(judge, reading.format(place)) == 0 and share(judge, reading.format(os.__file__)) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "source", ["while True: pass", "def f(x):\n    while True: pass", "import time\ntime.sleep(1000)"]
)
def test_what_does_not_end_is_ended(source: str) -> None:
    judge = build_judge([{"judge": "verify:code", "seconds": 1.0}])
    begun = time.monotonic()
    assert share(judge, source) == 0 and time.monotonic() - begun < 10
    assert share(judge, SQUARE) == 1


@pytest.mark.parametrize(
    "text", ["", "I do not know.", "```python\n```", "def f(x) return", "(" * 100_000, "x" * 300_000]
)
def test_what_is_no_code_is_not_run(text: str) -> None:
    assert code_in(text) == ""
    [found] = build_judge("verify:code").score([Response.written(Prompt("p", reference=GIVEN), text)])
    assert found is not None and found.value == 0 and found.parts == {"extracted": 0}


def test_all_or_nothing_unless_asked_otherwise() -> None:
    both = [Response.written(Prompt("p", reference=GIVEN), text) for text in (SQUARE, "def f(x): return 4")]
    judge = build_judge("verify:code")
    good, bad = judge.score(both)
    assert good is not None and bad is not None and (good.value, bad.value) == (1, 0)
    assert bad.parts == {"extracted": 1, "passed": 0.25}


def test_tests_that_are_no_python_are_refused() -> None:
    with pytest.raises(ValueError, match=r"reference.tests is no Python .*: 'assert f\(1\) ='"):
        read_tests({"tests": ["assert f(1) ="]})
    with pytest.raises(ValueError, match="must be a script or a list"):
        read_tests({"tests": ["assert f(1)", 3]})
    assert read_tests({"tests": "  "}) is None and read_tests({}) is None


def test_without_the_kernel_s_filter_python_refuses(tmp_path: Path) -> None:
    """What other systems than Linux have: an audit hook."""
    place = tmp_path / "written"
    tries = ["os.fork()", "os.kill(os.getppid(), 0)", "socket.socket()", "subprocess.run(['true'])", f"open({str(place)!r}, 'w')",
             "os.system('true')", "ctypes.CDLL(None)", f"os.mkdir({str(place)!r})"]  # fmt: skip
    script = f"""
import ctypes, os, socket, subprocess, sys
from tutelage.judges.verify.apart import guard
guard._filter_calls = lambda: False
assert guard.confine() == "python"
refused = 0
for source in {tries!r}:
    try:
        eval(source)
    except PermissionError:
        refused += 1
print(refused, len(open({str(ROOT / "pyproject.toml")!r}).read()) > 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == [str(len(tries)), "True"], done.stderr
    assert not place.exists()


def test_a_helper_ends_with_the_trainer() -> None:
    script = (
        "from tutelage.judges.verify.helpers import Helpers\n"
        "h = Helpers('code', 1)\n"
        "job = {'code': 'x = 1', 'entry_point': '', 'seconds': 2.0, 'memory_mib': 256}\n"
        "assert h.run([(job, [[True, 'assert x == 1']])]) == [b'r1']\n"
        "print(h._free.get()._process.pid, flush=True)\n"
        "import os; os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    helper = int(done.stdout)
    deadline = time.monotonic() + 10
    while _runs(helper) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(helper)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


def test_a_helper_that_is_killed_costs_nothing() -> None:
    pool = helpers.Helpers("code", 1)
    job = {"code": SQUARE, "entry_point": "f", "seconds": 2.0, "memory_mib": 256}
    units = [[True, "assert f(2) == 4"]]
    assert pool.run([(job, units)]) == [b"r1"]
    helper = pool._free.get()
    pool._free.put(helper)
    assert helper._process is not None
    helper._process.kill()
    assert pool.run([(job, units)] * 3) == [b"r1"] * 3


def test_a_helper_that_cannot_start_is_an_error_and_no_reward(monkeypatch) -> None:
    monkeypatch.setattr(helpers, "START", "raise ImportError('no resource {root}')")
    with pytest.raises(
        ValueError, match=r"helper process of verify:code did not start \(ImportError: no resource"
    ):
        build_judge("verify:code").score([Response.written(Prompt("p", reference=GIVEN), SQUARE)])
