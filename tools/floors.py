"""The floors: who may import whom. `python -m tools.floors` draws the picture and fails on an arrow that goes up.

A part of the package (a folder or a file right below `tutelage/`) stands on a floor and imports only from its own floor
and those below; parts of one floor never import each other in a circle, nor do the rooms of a part in HOUSES (a folder or
a file right below it). Imports inside functions count too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = "tutelage"
ROOT = Path(__file__).resolve().parent.parent
FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "ops",
        "records",
        "settings",
        "diagnosis",
        "files",
        "cache",
        "seeds",
        "statistics",
        "errors",
        "__init__",
    ),
    (
        "store",
        "models",
        "data",
        "hub",
        "parallel",
        "checkpoint",
        "runs",
        "resume",
        "cost",
        "commands",
        "ranks",
    ),
    ("rollout", "judges"),
    ("train", "evals", "worlds", "feedback", "inspect", "refine"),
    ("pipeline", "rounds", "stopping", "study", "launch", "web", "demo", "doctor", "cli", "__main__"),
)
HOUSES = ("feedback",)
FLOOR = {part: number for number, parts in enumerate(FLOORS) for part in parts}
# What these parts may import from outside the standard library, at any depth of the code.
ONLY = {"ops": {"torch"}, "records": set(), "settings": {"pydantic", "pydantic_core", "yaml"}, "files": set()}
# These parts answer at once: nothing that they import, directly or through ours, is one of HEAVY.
LIGHT = (
    "records",
    "settings",
    "files",
    "seeds",
    "statistics",
    "diagnosis",
    "store",
    "feedback",
    "commands",
    "cli",
    "__main__",
)
HEAVY = {
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "peft",
    "safetensors",
    "matplotlib",
    "tensorboard",
    "sacrebleu",
    "rouge_score",
    "nltk",
}


class Import(NamedTuple):
    """`file:line`, in module `source`, imports `target` (dotted); `lazy` when inside a function or only for types."""

    file: str
    line: int
    source: str
    target: str
    lazy: bool

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


def read_imports(root: Path = ROOT, package: str = PACKAGE) -> list[Import]:
    """Every import in every file of the package; `from tutelage.x import y` targets the module x.y where there is one."""
    files = sorted((root / package).rglob("*.py"))
    modules = {_module(root, file) for file in files}
    names = modules | {
        module.rpartition(".")[0] for module in modules
    }  # folders too, with an __init__.py or without
    found = []
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
        for node, lazy in _walk(tree, False):
            for target in _targets(node, _module(root, file), file.name == "__init__.py", names):
                found.append(
                    Import(str(file.relative_to(root)), node.lineno, _module(root, file), target, lazy)
                )
    return found


def faults(imports: Iterable[Import], package: str = PACKAGE) -> list[str]:
    """What breaks the rules of this page, one sentence each, with file and line."""
    imports = list(imports)
    return [*_unassigned(imports, package), *_upward(imports, package), *_circles(imports, package),
            *(fault for house in HOUSES for fault in _circles(imports, f"{package}.{house}")),
            *_outsiders(imports, package), *_heavy(imports, package)]  # fmt: skip


def picture(imports: Iterable[Import], package: str = PACKAGE) -> str:
    """The floors from the top down, and under each part what it imports of ours."""
    arrows = _arrows(imports, package)
    lines = []
    for number in reversed(range(len(FLOORS))):
        lines.append(f"FLOOR {number}")
        for part in FLOORS[number]:
            if part in arrows:
                lines.append(
                    f"  {part:<12}" + (f"-> {', '.join(sorted(arrows[part]))}" if arrows[part] else "")
                )
    return "\n".join(lines)


def part_of(module: str, package: str = PACKAGE) -> str | None:
    """The part of a package (dotted, too) that a dotted module belongs to; None for other packages."""
    if module != package and not module.startswith(f"{package}."):
        return None
    return module.removeprefix(package).lstrip(".").partition(".")[0] or "__init__"


def _module(root: Path, file: Path) -> str:
    return ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _walk(node: ast.AST, lazy: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, lazy
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        yield from _walk(child, lazy or inside or typing_only)


def _targets(
    node: ast.Import | ast.ImportFrom, module: str, is_package: bool, names: set[str]
) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        parents = module.split(".")
        keep = len(parents) - node.level + (1 if is_package else 0)
        base = ".".join([*parents[:keep], *([base] if base else [])])
    for alias in node.names:
        inner = f"{base}.{alias.name}"
        yield inner if inner in names else base


def _unassigned(imports: list[Import], package: str) -> Iterator[str]:
    parts = {(part_of(item.source, package), item.file) for item in imports}
    for part, file in sorted((part, file) for part, file in parts if part is not None):
        if part not in FLOOR:
            yield f"{file}: {part!r} stands on no floor: give it one in tools/floors.py"


def _upward(imports: list[Import], package: str) -> Iterator[str]:
    for item in imports:
        source, target = part_of(item.source, package), part_of(item.target, package)
        if source in FLOOR and target in FLOOR and FLOOR[target] > FLOOR[source]:
            yield (
                f"{item.place}: {source} (floor {FLOOR[source]}) imports {item.target} (floor {FLOOR[target]}): "
                "imports only go down"
            )


def _circles(imports: list[Import], package: str) -> Iterator[str]:
    """Circles between parts. Each is told once, from its alphabetically first part, with the line of its first arrow."""
    imports = list(imports)
    arrows = _arrows(imports, package)

    def search(start: str, path: list[str]) -> Iterator[list[str]]:
        for nxt in sorted(arrows.get(path[-1], ())):
            if nxt == start:
                yield path
            elif nxt > start and nxt not in path:
                yield from search(start, [*path, nxt])

    for start in sorted(arrows):
        for path in search(start, [start]):
            second = path[1] if len(path) > 1 else start
            place = next(
                item.place
                for item in imports
                if part_of(item.source, package) == start and part_of(item.target, package) == second
            )
            yield f"{place}: imports go in a circle: {' -> '.join([*path, start])}"


def _outsiders(imports: list[Import], package: str) -> Iterator[str]:
    for item in imports:
        source, top = part_of(item.source, package), item.target.split(".")[0]
        if (
            source in ONLY
            and top not in sys.stdlib_module_names
            and top != package
            and top not in ONLY[source]
        ):
            allowed = ", ".join(sorted(ONLY[source])) or "nothing else"
            yield f"{item.place}: {source} imports {top}: beside the standard library it may import {allowed}"


def _heavy(imports: list[Import], package: str) -> Iterator[str]:
    """Heavy libraries that a light part reaches through imports that run when it is imported."""
    eager: dict[str, list[Import]] = {}
    for item in imports:
        if not item.lazy:
            eager.setdefault(item.source, []).append(item)
    for start in sorted(module for module in eager if part_of(module, package) in LIGHT):
        seen, queue = {start}, [start]
        while queue:
            for item in eager.get(queue.pop(), []):
                if item.target.split(".")[0] in HEAVY:
                    yield f"{item.place}: {start} must start fast but reaches {item.target} when imported"
                parents = item.target.split(".")
                for module in (".".join(parents[: n + 1]) for n in range(len(parents))):
                    if module not in seen:
                        seen.add(module)
                        queue.append(module)


def _arrows(imports: Iterable[Import], package: str) -> dict[str, set[str]]:
    arrows: dict[str, set[str]] = {}
    for item in imports:
        source, target = part_of(item.source, package), part_of(item.target, package)
        if source is not None:
            arrows.setdefault(source, set())
            if target is not None and target not in (source, "__init__"):
                arrows[source].add(target)
    return arrows


def main() -> int:
    """Print the picture; faults go to standard error. Returns the exit code."""
    imports = read_imports()
    print(picture(imports))
    found = faults(imports)
    for fault in found:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
