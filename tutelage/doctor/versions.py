"""Python and libraries against what the package asks for, and what the project is tested with."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from operator import eq, ge, gt, le, lt, ne
from pathlib import Path

import tutelage
from tutelage.doctor.asked import Asked
from tutelage.doctor.check import Check, fail, ok, warn

PACKAGE = "tutelage"
TOLD = ("torch", "transformers", "peft", "datasets", "safetensors", "sqlalchemy", "pydantic")
"""Named one by one where all is well; any other only where it is not."""
COMPARED = {">=": ge, ">": gt, "<=": le, "<": lt, "==": eq, "!=": ne}
TESTED = Path(tutelage.__file__).parent.parent / "constraints.txt"
"""In a checkout, the versions that the tests run with."""


def checks(asked: Asked) -> Iterator[Check]:
    yield _python(sys.version_info[:3], _wanted_python())
    tested = read_pins(TESTED)
    wanted = dict(requirements())
    for name, rule in sorted(wanted.items(), key=lambda item: (item[0] not in TOLD, item[0])):
        found = library(name, rule, tested.get(name, ""))
        if found.state != "ok" or name in TOLD:
            yield found


def _wanted_python() -> str:
    try:
        return metadata.metadata(PACKAGE)["Requires-Python"] or ""
    except metadata.PackageNotFoundError:
        return ""


def _python(version: tuple[int, ...], rule: str) -> Check:
    text = ".".join(str(part) for part in version)
    if rule and not _within(text, rule):
        return fail("python", f"{text}, and {PACKAGE} wants {rule}", "use another Python", version=text)
    return ok("python", f"{text} ({sys.executable})", version=text)


def requirements(extra: str = "") -> Iterator[tuple[str, str]]:
    """(name, versions) of what the package needs, or of what one of its extras does."""
    try:
        lines = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        needed, _, marker = line.partition(";")
        match = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker)
        name = re.match(r"[\w.-]+", needed)
        if name and (match.group(1) if match else "") == extra:
            rule = re.sub(r"\[[^\]]*\]", "", needed[name.end() :]).strip()
            yield _plain(name.group()), rule


def read_pins(path: Path) -> dict[str, str]:
    """name -> version, of a constraints file; {} where there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pins = (line.partition("==") for line in lines if "==" in line and not line.startswith("#"))
    return {_plain(name.strip()): version.strip() for name, _, version in pins}


def library(name: str, rule: str, tested: str = "") -> Check:
    """One library against the versions that are wanted; without importing it."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return fail(name, "not installed", f'pip install "{name}{rule}"')
    if rule and not _within(version, rule):
        do = f'pip install "{name}{rule}"' + (f" ({tested} is tested)" if tested else "")
        return fail(name, f"{version}, and {rule} is wanted", do, version=version)
    if tested and version.partition("+")[0] != tested:
        return ok(name, f"{version} (tested with {tested})", version=version, tested=tested)
    return ok(name, version, version=version)


def _within(version: str, rule: str) -> bool:
    """Whether a version fits such a rule as >=2.13,<3 (our own say no more than that)."""
    found = _numbers(version)
    for one in filter(None, rule.replace(" ", "").split(",")):
        sign, wanted = re.match(r"([<>=!]+)(.*)", one).groups()  # type: ignore[union-attr]
        size = max(len(found), len(_numbers(wanted)))
        here, there = (tuple(numbers) + (0,) * (size - len(numbers)) for numbers in (found, _numbers(wanted)))
        if not COMPARED[sign](here, there):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a release: 2.13.0+cpu and 2.13.0rc1 are (2, 13, 0)."""
    parts = (re.match(r"\d+", part) for part in version.partition("+")[0].split("."))
    return tuple(int(part.group()) for part in parts if part)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def cpu_build_beside_gpu(gpus: int) -> Check | None:
    """A GPU that the installed torch cannot see, for it was built without CUDA."""
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None
    if gpus and version.endswith("+cpu"):
        do = "pip install torch from the index of your CUDA version (pytorch.org)"
        return warn(
            "torch", f"{version} is built without CUDA, and there are {gpus} GPUs", do, version=version
        )
    return None
