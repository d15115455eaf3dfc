"""The documentation cannot fall behind: every command has a page, every setting and metric an entry, every example parses."""

from __future__ import annotations

import ast
import json
import re
import shlex
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from tests.data.kit import tiny
from tools import docs
from tutelage import pipeline
from tutelage.commands import COMMANDS, Command, find, settings_class
from tutelage.data.preflight import responses, steps, texts
from tutelage.data.reading import formats, spellings
from tutelage.settings.base import build, load
from tutelage.settings.pipeline import RunPipelineSettings, StudySettings
from tutelage.study.claims import plan_all
from tutelage.study.plan import plan as plan_study

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def examples(text: str) -> list[str]:
    """The `tutelage ...` command lines in a page's code blocks; a line that ends in a backslash goes on."""
    found = []
    for block in re.findall(r"^```(?:sh|bash|shell|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"^\s*(\$ )?(\.venv/bin/)?((\w+=\S+) )*", "", line)  # prompt, environment variables
            if line.startswith("tutelage "):
                found.append(line)
    return found


def check(line: str) -> None:
    """Load the settings of an example as the command would, without running it."""
    name, *args = shlex.split(line, comments=True)[1:]
    if args and f"{name} {args[0]}" in {command.name for command in COMMANDS}:
        name, *args = f"{name} {args[0]}", *args[1:]
    if name.startswith("--") or "--help" in args:
        return
    load(
        settings_class(find(name)),
        [str(ROOT / arg) if arg.endswith(".yaml") and "=" not in arg else arg for arg in args],
    )


EXAMPLES = [(page, line) for page in PAGES for line in examples(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(
    "page, line", EXAMPLES, ids=lambda value: value if isinstance(value, str) else value.name
)
def test_every_example_parses(page: Path, line: str) -> None:
    try:
        check(line)
    except ValueError as error:
        pytest.fail(f"{page.relative_to(ROOT)}: `{line}`: {error}")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_setting_stands_in_the_page_of_its_command(command: Command) -> None:
    text = (ROOT / "docs" / "commands" / f"{command.page}.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert sorted(documented) == sorted(settings_class(command).model_fields)


def test_pages_are_up_to_date() -> None:
    stale = [
        path.name for path, text in docs.pages().items() if not path.exists() or path.read_text() != text
    ]
    assert not stale, f"run `make docs`: {', '.join(stale)}"


def test_no_page_of_a_command_that_is_gone() -> None:
    names = {command.page for command in COMMANDS} | {"README"}
    assert {path.stem for path in (ROOT / "docs" / "commands").glob("*.md")} == names


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_setting_has_a_sentence(command: Command) -> None:
    for name, field in settings_class(command).model_fields.items():
        assert field.description, f"{command.name}: {name} has no sentence"
        assert field.description.endswith("."), f"{command.name}: the sentence of {name} does not end"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        linked = page.parent / target if target else page
        assert linked.exists(), f"{page.relative_to(ROOT)} links to {target}"
        assert not anchor or anchor in anchors(linked), f"{page.relative_to(ROOT)} links to {target}#{anchor}"


def test_prose_outside_the_markers_stays() -> None:
    command = COMMANDS[0]
    text = f"# Mine\n\nprose\n\n{docs.BEGIN}\nold table\n{docs.END}\n\nmore prose\n"
    new = docs.page(command, text)
    assert new.startswith("# Mine\n\nprose\n") and new.endswith("\n\nmore prose\n") and "old table" not in new
    assert docs.page(command, new) == new
    with pytest.raises(ValueError, match="must hold the lines"):
        docs.page(command, "# Mine\n")


def test_examples_are_found_and_checked() -> None:
    block = "```sh\n$ tutelage world out=a \\\n seed=1  # why\nOMP_NUM_THREADS=1 tutelage runs\nls\n```\n```\ntutelage no\n```\n"
    first, second = examples(block)
    assert shlex.split(first, comments=True) == ["tutelage", "world", "out=a", "seed=1"]
    assert second == "tutelage runs"
    check(first)
    with pytest.raises(ValueError, match="did you mean 'seed'"):
        check("tutelage world sed=1")
    with pytest.raises(ValueError, match="no command 'wrld'"):
        check("tutelage wrld out=a")
    with pytest.raises(ValueError, match="no settings file"):
        check("tutelage world examples/there-is-none.yaml")


# ---- Python, pipelines and rows in the documentation ------------------------------------------------------------------


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of one language in a page."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


SETTINGS = {cls.__name__: cls for cls in map(settings_class, COMMANDS)}


def in_pages(language: str) -> list[tuple[Path, str]]:
    return [(page, block) for page in PAGES for block in blocks(page, language)]


@pytest.mark.parametrize(
    "page, block", in_pages("python"), ids=lambda v: v.name if isinstance(v, Path) else ""
)
def test_python_examples_name_settings_that_exist(page: Path, block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Call) and name in SETTINGS:
            values = {k.arg: k.value for k in node.keywords if k.arg}
            known = {
                k: ast.literal_eval(v) if isinstance(v, ast.Constant) else "x" for k, v in values.items()
            }
            SETTINGS[name](**known)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tutelage"):
            module = import_module(node.module or "")
            assert all(hasattr(module, alias.name) for alias in node.names), (
                f"{page.name}: {ast.unparse(node)}"
            )


@pytest.mark.parametrize("page, block", in_pages("yaml"), ids=lambda v: v.name if isinstance(v, Path) else "")
def test_pipeline_examples_can_be_planned(page: Path, block: str) -> None:
    given = yaml.safe_load(block)
    if "claims" in given:
        assert plan_all(build(StudySettings, given))[1]
    elif "axes" in given:
        assert plan_study(build(StudySettings, given)).results
    else:
        assert pipeline.plan(build(RunPipelineSettings, given))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs" / "cluster").glob("*.yaml")), ids=lambda path: path.name
)
def test_cluster_examples_run_commands_that_exist(path: Path) -> None:
    given = yaml.safe_load(path.read_text())
    script = given["run"] if "run" in given else given["spec"]["entrypoint"]
    words = script.replace("\\\n", " ").partition("tutelage ")[2].split()
    settings = settings_class(find(words[0]))
    known = {word.partition("=")[0] for word in words[1:] if "=" in word}
    assert known and known <= settings.model_fields.keys()


@pytest.mark.parametrize("row", blocks(ROOT / "docs" / "data.md", "jsonl"))
def test_example_rows_are_read_and_become_tokens(row: str, tmp_path: Path) -> None:
    """By every reader that takes them, with nothing dropped, through the tiny model's template."""
    path = tmp_path / "rows.jsonl"
    path.write_text(row, encoding="utf-8")
    kept = []
    for reader, prepare in (
        (formats.read_comparisons, responses.prepare_comparisons),
        (formats.read_demonstrations, texts.prepare_demonstrations),
        (formats.read_prompts, texts.prepare_prompts),
        (formats.read_documents, texts.prepare_documents),
    ):
        limits = {"max_length": 1000} | ({"too_long": ""} if prepare is texts.prepare_prompts else {})
        given = {} if prepare is texts.prepare_documents else limits
        try:
            report = prepare(tiny(), reader(path), **given).report  # type: ignore[operator]
        except ValueError as error:
            assert re.search("can be read from the columns", str(error)), error
            continue
        assert not report.dropped
        kept.append(report.kept)
    assert kept and all(kept)


@pytest.mark.parametrize("row", blocks(ROOT / "docs" / "data.md", "jsonl marks"))
def test_example_rows_of_step_marks_are_read_and_become_tokens(row: str, tmp_path: Path) -> None:
    """One without steps for its outcome."""
    path = tmp_path / "rows.jsonl"
    path.write_text(row, encoding="utf-8")
    prepared = steps.prepare_step_marks(
        tiny(),
        formats.read_step_marks(path),
        max_length=1000,
        separator="\n",
        about="outcome" if "completion" in json.loads(row) else "steps",
    )
    assert prepared.report.kept and not prepared.report.dropped


def test_every_column_has_its_rule() -> None:
    """Each name that means something to the reader stands in the tables of the page, and in an example or a spelling."""
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    rules = {
        name for line in page.splitlines() if line.startswith("|") for name in re.findall(r"`(\w+)`", line)
    }
    assert set(spellings.KNOWN) - rules == set()
    examples = [set(json.loads(row)) for row in blocks(ROOT / "docs" / "data.md", "jsonl")]
    for names, _ in spellings.SPELLINGS:
        assert any(set(names) <= columns for columns in examples), f"docs/data.md: no row with {names}"


# ---- the glossary of metrics -----------------------------------------------------------------------------------------

LOGGING = (
    "train/*.py",
    "evals/*.py",
    "evals/card/*.py",
    "evals/front/*.py",
    "evals/page/*.py",
    "evals/pairs/*.py",
    "evals/honesty/*.py",
    "feedback/commands/label.py",
    "feedback/verdicts/*.py",
    "refine/reasoning/*.py",
    "rollout/*.py",
    "rollout/remote/*.py",
    "study/*.py",
)  # who writes metrics
NAMED = {"metrics", "figures", "totals"}  # what dictionaries of metrics are called
ROWS = {
    "Row": 1,
    "row": 1,
    "_plain": 1,
    "_accuracy": 1,
    "Measure": 0,
}  # makers of result rows: which argument is the metric
PART = r"[^/@]+"  # what stands for a part of a name that is put together


def keys(tree: ast.AST) -> set[str]:
    """The constant keys of all dictionaries in a piece of code."""
    found = {key for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys}
    return {key.value for key in found if isinstance(key, ast.Constant) and isinstance(key.value, str)}


def terms(target: ast.expr, value: ast.expr) -> set[str]:
    """The names under which the terms of a loss are logged, where an assignment makes a loss of several."""
    if isinstance(target, ast.Subscript) and ast.unparse(target.value) == "terms":
        return {f"loss/{ast.literal_eval(target.slice)}_avg"}
    return {f"loss/{name}_avg" for name in keys(value)} if ast.unparse(target) == "terms" else set()


def logged(tree: ast.Module) -> set[str]:
    """Metric names that a module writes to metrics.jsonl: keys of dictionaries that are logged, returned or named as metrics."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("log", "_log")
        ):
            names |= set().union(*map(keys, node.args))
        if isinstance(node, ast.Lambda):
            names |= keys(node.body)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if {ast.unparse(target) for target in targets} & NAMED:
                names |= keys(node.value)
            names |= terms(targets[0], node.value)
        if (
            isinstance(node, ast.FunctionDef)
            and node.returns
            and ast.unparse(node.returns) == "dict[str, float]"
        ):
            returned = [
                inner.value for inner in ast.walk(node) if isinstance(inner, ast.Return) and inner.value
            ]
            names |= set().union(*map(keys, returned))
    return names


def measured(tree: ast.Module) -> set[str]:
    """Patterns of the metric names that a module writes to results.json: an argument of what makes rows."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (place := ROWS.get(ast.unparse(node.func))) is not None:
            names |= {
                re.escape(name) for given in node.args[place : place + 1] for name in text_of(given, tree)
            }
    return {name.replace("\0", PART) for name in names}


def text_of(node: ast.expr, tree: ast.Module) -> list[str]:
    """The strings that an expression can be; NUL stands for what is only known when the program runs."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)]
    if isinstance(node, ast.Name):  # the variable of a loop over constants
        loops = [
            loop.iter
            for loop in ast.walk(tree)
            if isinstance(loop, ast.For) and ast.unparse(loop.target) == node.id
        ]
        items = [item for items in loops if isinstance(items, ast.Tuple) for item in items.elts]
        return [text for item in items if not isinstance(item, ast.Starred) for text in text_of(item, tree)]
    return []


@cache
def modules() -> list[ast.Module]:
    files = [file for pattern in LOGGING for file in sorted((ROOT / "tutelage").glob(pattern))]
    return [ast.parse(file.read_text(encoding="utf-8")) for file in files]


def glossary() -> list[str]:
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def test_every_metric_stands_in_the_glossary() -> None:
    entries = glossary()
    names = set().union(*map(logged, modules()))
    pair_metrics = logged(
        ast.parse((ROOT / "tutelage" / "train" / "preference.py").read_text(encoding="utf-8"))
    )
    names |= {f"eval_{name}" for name in pair_metrics}  # held-out twins, named as they are logged
    assert {
        "grad_norm",
        "loss/policy_avg",
        "eval_loss",
        "eval_rewards/margins",
        "gold_agreement",
        "mean_length",
    } <= names
    assert not (missing := sorted(names - set(entries))), (
        f"docs/metrics.md has no entry for {', '.join(missing)}"
    )
    patterns = set().union(*map(measured, modules()))
    assert {"win_rate", "wins", "accuracy", "kl", "tie_rate", f"distinct_{PART}"} <= patterns
    missing = sorted(p for p in patterns if not any(re.fullmatch(p, entry) for entry in entries))
    assert not missing, f"docs/metrics.md has no entry for {', '.join(missing)}"


def test_no_metric_in_the_glossary_that_is_gone() -> None:
    """Every entry is a string of the package, or the held-out twin of one, or a name that is put together."""
    constants = {
        node.value
        for tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    patterns = set().union(*map(measured, modules()))
    names = set().union(*map(logged, modules()))
    gone = [
        entry
        for entry in glossary()
        if entry not in constants | names | {"step"}
        and entry.removeprefix("eval_") not in constants
        and entry.removeprefix("mix/").removeprefix("loss/").removesuffix("_avg") not in constants | names
        and not entry.endswith(("@STEP", "/PART", "/TASK"))
        and not any(re.fullmatch(pattern, entry) for pattern in patterns)
    ]
    assert not gone, f"docs/metrics.md explains what nothing writes: {', '.join(gone)}"


def test_the_glossary_has_every_name_once() -> None:
    entries = glossary()
    assert len(entries) == len(set(entries))


def test_metric_names_are_found_in_code() -> None:
    code = 'def f() -> dict[str, float]:\n    return {"a": 1.0} | {"b": 2.0}\n'
    code += 'run.log({"c": 1, **more})\nmetrics = {"d": 1}\nother = {"e": 1}\ng = lambda: {"h": 1}\n'
    assert logged(ast.parse(code)) == {"a", "b", "c", "d", "h"}
    code = 'row(m, "i", t)\nfor name in ("j", *more):\n    Row(m, name, t)\n_plain(m, f"k_{n}", v)\nprint(m, "l")\n'
    assert measured(ast.parse(code)) == {"i", "j", f"k_{PART}"}
