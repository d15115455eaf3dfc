"""The page: every number is in results.json, hostile text stays text, missing pieces are said in one sentence."""

from __future__ import annotations

import itertools
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.evals import synthetic
from tutelage.evals import figures, findings, report
from tutelage.evals.folders import RunFolder, find, parents
from tutelage.evals.page import graph
from tutelage.evals.rows import Row, to_json

VOID = {"meta", "link", "br", "img", "input", "hr", "base"}
HOSTILE = "</p><script>alert('x')</script><img src=http://evil.example/x onerror=alert(1)> & \"quotes\" "


class Reader(HTMLParser):
    """Collects what the tests ask about, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.values: list[float] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert len(found) == len(attrs), f"<{tag}> repeats an attribute"
        self.tags.append((tag, found))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "data":
            self.values.append(float(found["value"] or "nan"))
        if "id" in found:
            self.ids.append(str(found["id"]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = synthetic.demo(tmp_path_factory.mktemp("runs") / "demo", hostile=HOSTILE)
    report.write(find([root]), root, title="Demo <b>bold</b>")
    return root


@pytest.fixture(scope="module")
def page(demo: Path) -> str:
    return (demo / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def rows(demo: Path) -> list[Row]:
    return [Row(**item) for item in json.loads((demo / "results.json").read_text())]


def test_every_number_on_the_page_is_in_the_results(page: str, rows: list[Row]) -> None:
    known = {row.value for row in rows}
    shown = Reader(page).values
    assert len(shown) > 100
    assert [value for value in shown if value not in known] == []


def test_every_interval_on_the_page_is_in_the_results(page: str, rows: list[Row]) -> None:
    known = {findings.number(row).interval for row in rows}
    shown = re.findall(r'<span class="ci">(.*?)</span>', page)
    assert len(shown) > 40
    assert set(shown) <= known


def test_results_are_unique_tidy_rows(rows: list[Row]) -> None:
    keys = [(row.model, row.metric, row.task) for row in rows]
    assert len(keys) == len(set(keys))
    curve = [row for row in rows if row.model == "ppo" and row.metric.startswith("objective/kl@")]
    assert 25 <= len(curve) <= 85 and all(row.unit == "nats per response" for row in curve)


def test_the_headline_says_what_was_measured(page: str, rows: list[Row]) -> None:
    win = next(row for row in rows if (row.model, row.metric, row.task) == ("ppo", "win_rate", "all"))
    words = re.sub(r"\s+", " ", Reader(page).text)
    assert win.value is not None and win.low is not None and win.high is not None
    interval = f"[{100 * win.low:.0f}, {100 * win.high:.0f}]"
    assert f"PPO is preferred to SFT on {100 * win.value:.0f} % {interval} of 150 held-out prompts." in words
    assert "of the responses do not end by themselves" in words  # 1 in 15 does not
    assert "PPO: responses are" in words and "longer than those of SFT" in words
    assert "DPO: responses are" not in words


def test_hostile_text_stays_text(page: str) -> None:
    reader = Reader(page)
    names = [tag for tag, _ in reader.tags]
    assert "script" not in names and "img" not in names and "b" not in names
    assert "<script>alert('x')</script>" in reader.text
    assert not any(name.startswith("on") for _, attrs in reader.tags for name in attrs)


def test_the_page_is_self_contained_and_accessible(page: str) -> None:
    reader = Reader(page)
    for tag, attrs in reader.tags:
        assert tag not in ("link", "iframe", "object", "embed")
        for name in ("src", "href", "xlink:href"):
            assert (attrs.get(name) or "#").startswith("#")
        if tag == "svg":
            assert attrs["role"] == "img" and attrs["aria-label"]
        if tag == "th":
            assert "scope" in attrs
    assert not re.search(r"url\((?!#)", page) and "@import" not in page
    assert len(reader.ids) == len(set(reader.ids))
    referred = re.findall(r'(?:href="#|url\(#|aria-labelledby=")([^")]+)', page)
    assert set(referred) <= set(reader.ids)
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert ("html", {"lang": "en"}) in reader.tags


def test_figures_use_only_the_colours_of_the_page(page: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(drawings) >= 12
    for drawing in drawings:
        assert not re.findall(r"#[0-9a-fA-F]{6}\b", drawing)
    style = page.split("</style>")[0]
    assert "prefers-color-scheme: dark" in style and "@media print" in style
    used = set(re.findall(r"var\((--\w+)\)", page))
    assert used <= set(re.findall(r"(--\w+):", page))


@pytest.mark.slow
def test_the_same_runs_give_the_same_page(tmp_path: Path) -> None:
    evaluated = synthetic.evaluation(tmp_path / "eval", n=30)
    trained = synthetic.write_run(tmp_path / "sft", "sft", metrics=synthetic.language_metrics(5, 3, 1))

    def write(name: str, seed: int) -> str:
        path = report.write(find([evaluated, trained]), tmp_path / name, title="x", seed=seed, samples=3)
        return re.sub(r"Tutelage · .*?</p>", "", path.read_text())

    first = write("a", 0)
    assert write("b", 0) == first
    assert write("c", 1) != first


def test_samples_are_drawn_evenly_over_the_tasks(page: str) -> None:
    tasks = re.findall(r'<p class="task">(.*?)</p>', page)
    assert tasks == ["conversation"] * 2 + ["maths"] * 2 + ["summary"] * 2
    assert page.count("✓ better") + page.count("✗ worse") + page.count("= equal") == 12


def test_one_training_run_is_enough(tmp_path: Path) -> None:
    metrics = synthetic.language_metrics(30, 3, 1)
    run = synthetic.write_run(tmp_path / "sft", "sft", metrics=metrics, state="running")
    page = report.write(find([run]), tmp_path / "out", title="Only SFT").read_text()
    reader = Reader(page)
    assert "No evaluation yet: run tutelage eval" in reader.text
    assert "sft: loss" in page and "stopped" in reader.text
    assert {row["metric"] for row in json.loads((tmp_path / "out" / "results.json").read_text())} >= {
        "loss@30",
        "steps",
    }


def test_findings_stand_with_cause_and_cure(tmp_path: Path) -> None:
    """Of a run that went wrong; one that did not is said to have none, and other commands are not asked."""
    for name, clipped in (("good", 0.04), ("bad", 0.4375)):
        lines = [
            {"step": step, "objective/scores": 0.1 * step, "policy/clipfrac_avg": clipped}
            for step in range(1, 16)
        ]
        synthetic.write_run(tmp_path / name, "ppo", metrics=lines, settings={"precision": "fp32"})
    synthetic.write_run(tmp_path / "sft", "sft", metrics=synthetic.language_metrics(30, 2, 1))
    page = report.build(find([tmp_path]), title="T")
    text = Reader(report.render(page)).text
    assert [(name, [one.name for one in found]) for name, found in page.diagnosis] == [
        ("bad", ["clip-fraction"]),
        ("good", []),
    ]
    for said in (
        "44% of the tokens are clipped",
        "Updates are too large",
        "Lower learning_rate",
        "a few percent",
    ):
        assert said in text
    assert "steps 10 to 15" in text and text.count("Nothing was found.") == 1
    rows = {row.metric: row.value for row in page.rows if row.metric.startswith("finding/")}
    assert rows == {
        f"finding/clip-fraction/{k}": v for k, v in (("step", 10), ("last_step", 15), ("clipfrac", 0.4375))
    }


def test_an_evaluation_without_gold_standard(tmp_path: Path) -> None:
    folder = synthetic.evaluation(tmp_path / "eval", n=12)
    kept = [
        row for row in json.loads((folder / "results.json").read_text()) if row["metric"] in ("length", "kl")
    ]
    (folder / "results.json").write_text(json.dumps(kept))
    (folder / "samples.jsonl").unlink()
    text = Reader(report.write(find([folder]), tmp_path / "out", title="x").read_text()).text
    assert "Response length" in text and "Gold" not in text


def test_two_evaluations_do_not_mix(tmp_path: Path) -> None:
    for seed in (0, 1):
        synthetic.evaluation(tmp_path / f"eval-{seed}", n=30, seed=seed, minute=30 + seed)
    report.write(find([tmp_path]), tmp_path / "out", title="x", samples=2)
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    keys = [(row["model"], row["metric"], row["task"]) for row in found]
    assert len(keys) == len(set(keys))
    assert {"eval-0/ppo", "eval-1/ppo"} <= {row["model"] for row in found}


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for seed in ("a", "b"):
        synthetic.write_run(tmp_path / seed / "sft", "sft", metrics=synthetic.language_metrics(5, 3, 1))
    assert [run.name for run in find([tmp_path / "a" / "sft", tmp_path / "b" / "sft"])] == ["a/sft", "b/sft"]


def test_nothing_to_report_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a folder"):
        find([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="No run found"):
        find([tmp_path])
    synthetic.write_run(tmp_path / "report", "report")
    with pytest.raises(ValueError, match="None of the runs"):
        report.write(find([tmp_path]), tmp_path / "out", title="x")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("lineage.json", "{", "lineage.json, line 1: not valid JSON"),
        ("lineage.json", "[]", "is not a JSON object"),
        ("results.json", '{"a": 1}', "is not a list of rows"),
        ("results.json", '[{"model": "x"}]', "results.json, row 1: a row needs"),
        ("results.json", "[\n{,]", "results.json, line 2: not valid JSON"),
        ("samples.jsonl", '{"id": 1}\n{oops\n', "samples.jsonl, line 2: not valid JSON"),
        ("settings.yaml", "a: [", "settings.yaml is not valid YAML"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    folder = synthetic.evaluation(tmp_path / "eval", n=6)
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        report.write(find([folder]), tmp_path / "out", title="x")
    assert not (tmp_path / "out").exists()


def test_the_lineage_graph_shows_each_step_once(demo: Path) -> None:
    found = graph.edges(find([demo]))
    assert found["world"] == []
    assert found["pretrain"] == ["world"]
    assert found["sft"] == ["pretrain"]  # and the world's demonstrations, which pretrain already stands for
    assert found["label"] == ["sample"] and found["reward"] == ["label"] and found["dpo"] == ["label"]
    assert found["ppo"] == ["reward"]
    assert sorted(found["eval"]) == ["dpo", "ppo"]
    assert [sorted(row) for row in graph.layers(found)][-3:] == [["dpo", "reward"], ["ppo"], ["eval"]]


def test_every_part_of_a_mix_leads_to_the_run_that_wrote_it(tmp_path: Path) -> None:
    runs = []
    for name in ("one", "two", "mixed"):
        (tmp_path / name).mkdir()
        mix = [str(tmp_path / "one" / "a.jsonl"), str(tmp_path / "two" / "b.jsonl") + "*3"]
        inputs = [{"name": "data", "path": mix}] if name == "mixed" else []
        (tmp_path / name / "lineage.json").write_text(json.dumps({"command": "sft", "inputs": inputs}))
        runs.append(RunFolder(tmp_path / name, name))
    assert [owner.name for owner, _ in parents(runs[2], runs)] == ["one", "two"]


def test_the_longest_line_passes_beside_the_boxes(demo: Path) -> None:
    rows, paths = graph.routed(graph.edges(find([demo])))
    long = next(path for path in paths if path[0] == "dpo")
    assert len(long) == 3 and long[1] in rows[-2] and "ppo" in rows[-2]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.6, 0.8, "is preferred to SFT on"),
        (0.4, 0.8, "cannot be told apart"),
        (0.1, 0.4, "is worse than SFT"),
    ],
)
def test_the_headline_follows_the_interval(low: float, high: float, words: str) -> None:
    rows = [Row("ppo", "win_rate", "all", (low + high) / 2, low, high, 50, "share")]
    (sentence,) = findings.headline(rows, "sft")
    assert words in str(sentence[0])
    warned = any(
        "not distinguishable" in str(piece) for s in findings.warnings(rows, ["ppo"], "sft") for piece in s
    )
    assert warned == (low < 0.5 < high)


@pytest.mark.parametrize("models", [2, 4, 5, 9])
def test_the_names_of_many_models_do_not_stand_on_the_title(models: int) -> None:
    dots = [figures.Dot(f"model {i}", "g", 0.5, 0.4, 0.6, 1) for i in range(models)]
    drawn = figures.dots("The title", dots, "x", share=True)
    found = re.findall(r'<text[^>]*?(?: y="([\d.]+)"|translate\(\S+ ([\d.]+)\))[^>]*>([^<]+)</text>', drawn)
    height = {text: float(y or moved) for y, moved, text in found}
    names = [height[f"model {i}"] for i in range(models)]
    assert min(names) - height["The title"] > 8  # a line of text
    assert min(names) > 0 and height["The title"] > 0


def test_a_model_that_is_shown_examples_or_untrained_is_said(tmp_path: Path) -> None:
    run = synthetic.evaluation(tmp_path / "eval")
    settings = (run / "settings.yaml").read_text()
    models = "models: [few=few-shot-4:runs/pretrain, 'untrained:runs/sft', ppo=runs/ppo]\n"
    (run / "settings.yaml").write_text(re.sub(r"models:.*\n(?:-.*\n)*", "", settings) + models)
    text = Reader(report.render(report.build(find([run]), title="T"))).text
    assert "few was shown 4 examples before each prompt." in text
    assert "fresh weights" in text and "PPO was shown" not in text


def test_a_value_without_interval_has_no_error_bar(tmp_path: Path) -> None:
    for low, bar in ((0.4, True), (math.nan, False)):
        drawn = figures.dots("t", [figures.Dot("m", "g", 0.5, low, low + 0.2, 1)], "x", share=True)
        assert bool(re.search(r'LineCollection_1">\s*<path d=', drawn)) is bar
    root = tmp_path / "eval"
    synthetic.evaluation(root)
    given = json.loads((root / "results.json").read_text())
    (root / "results.json").write_text(
        json.dumps([r | {"low": None, "high": None} if r["metric"] == "gold" else r for r in given])
    )
    report.write(find([root]), tmp_path, title="t")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'title="no interval">–<' in text


def test_numbers_are_written_with_digits_that_mean_something() -> None:
    assert findings.figure(0.8312, "share") == "83"
    assert findings.figure(0.0312, "share") == "3.1"
    assert findings.figure(0.0, "share") == "0"
    assert findings.figure(1e-12, "p") == "< 0.001"
    assert findings.figure(None, "nats") == "–"
    assert findings.figure(1234.5, "tokens") == "1,234"
    assert findings.figure(-0.0931, "score") == "-0.09"


def test_habits_of_annotators_stand_once_with_their_errors(tmp_path: Path) -> None:
    told = {
        "project": "news",
        "group": "",
        "said": "All together like length.",
        "annotators": [
            {"annotator": "annotator-1", "votes": 9, "position": 0.5, "position_error": 0.25}
            | {"length": -1.0, "length_error": 0.125},
            {"annotator": "annotator-2", "votes": 1200, "position": 0.0, "position_error": 0.1}
            | {"length": 0.75, "length_error": 0.5},
        ],
    }
    for name in ("reward", "kto"):
        run = synthetic.write_run(tmp_path / name, name, metrics=synthetic.language_metrics(3, 1, 1))
        (run / "habits.json").write_text(json.dumps([told]))
    page = report.write(
        find([tmp_path / "reward", tmp_path / "kto"]), tmp_path / "out", title="x"
    ).read_text()
    said = Reader(page).text
    assert said.count("All together like length.") == 1 and "Found for kto, reward." in said
    assert (
        said.index("annotator-2")
        < said.index("1,200")
        < said.index("+0.75 ± 0.50")
        < said.index("annotator-1")
    )
    assert "+0.50 ± 0.25" in said and "-1.00 ± 0.12" in said


@pytest.mark.parametrize(
    ("values", "text"),
    [([0.50001, 0.50003, 0.50002, 0.50004], "0.5000"), ([0.5, 0.5 + 1e-9], "0.5000"), ([3e-6, 5e-6], "")],
)
def test_the_ticks_of_a_small_range_are_numbers_as_they_are(values: list[float], text: str) -> None:
    """No offset above the axis that has to be added, and few digits; what does not move is level."""
    drawn = figures.curves("t", [figures.Line("m", range(len(values)), values, 1)], "step", "unit")
    said = re.findall(r">([^<>]+)</text>", drawn)
    assert not any("+" in one for one in said)
    ticks = [one for one in said if text and one.startswith(text[:3]) and "." in one]
    if text:
        assert len(ticks) >= 2 == len({*ticks[:2]}) and max(map(len, ticks)) <= 8
        assert float(ticks[0]) <= min(values) + 1e-4 and float(ticks[-1]) >= max(values) - 1e-4


def test_the_loss_of_ratings_and_of_single_responses_is_said_per_response(tmp_path: Path) -> None:
    units = {}
    for name, command, chosen in (
        ("ratings", "reward", {"learn_from": "ratings"}),
        ("pairs", "reward", {"learn_from": "comparisons"}),
        ("kto", "kto", {}),
        ("process", "process", {}),
    ):
        run = synthetic.write_run(
            tmp_path / name, command, metrics=synthetic.language_metrics(3, 1, 1), settings=chosen
        )
        report.write(find([run]), tmp_path / "out", title="x")
        found = json.loads((tmp_path / "out" / "results.json").read_text())
        units[name] = {row["unit"] for row in found if row["metric"].startswith("loss@")}
    assert units == {
        "ratings": {"squared error per response"},
        "pairs": {"nats per pair"},
        "kto": {"per response"},
        "process": {"nats per mark"},
    }


def test_steps_are_counted_in_whole_numbers() -> None:
    drawn = figures.curves("t", [figures.Line("m", range(13), range(13), 1)], "step", "unit")
    ticks = re.findall(r">([\d.]+)</text>", drawn[: drawn.index(">step<")])
    assert len(ticks) >= 3 and not any("." in tick for tick in ticks)


def test_one_figure_of_a_process_model_stands_beside_its_numbers(tmp_path: Path) -> None:
    metrics = ("step_f1", "reliability/01/confidence", "reliability/01/accuracy")
    found = [Row("process", metric, "all", 0.75, 0.7, 0.8, 9, "share") for metric in metrics]
    run = synthetic.write_run(tmp_path / "process", "process")
    (run / "results.json").write_text(json.dumps(to_json(found)))
    text = report.write(find([run]), tmp_path / "out", title="x").read_text()
    inside = text[text.index('<div class="pair">') : text.index("F1 of steps")]
    assert "<svg" in inside and "</section>" not in inside
    Reader(text)
