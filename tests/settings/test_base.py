"""Settings: what is read, in which order, and what each mistake says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import model_validator

from tutelage.settings.base import Settings, build, load, nearest, setting, to_yaml
from tutelage.settings.describe import Row, rows
from tutelage.settings.yaml12 import dump_yaml, parse_yaml


class Inner(Settings):
    steps: int = setting(3, "Steps inside.", unit="steps", gt=0)


class Shared(Settings):
    out: Path = setting("runs/x", "Where to write.")
    seed: int = setting(0, "Seed.", ge=0)


class Example(Shared):
    learning_rate: float = setting(1e-5, "Step size.", gt=0)
    share: float = setting(0.5, "A share.", unit="share", ge=0, le=1)
    model: str = setting("", "Model.")
    precision: Literal["auto", "bf16", "fp32"] = setting("auto", "Arithmetic.", everyday=False)
    tasks: tuple[str, ...] = setting(("a", "b"), "Tasks.")
    early: bool = setting(False, "Whether.")
    limit: float | None = setting(None, "Limit.", gt=0)
    stages: dict[str, dict] = setting({}, "Stages.")
    inner: Inner = setting(Inner(), "Inner.")
    source: str | list[str] = setting("", "Source.")


class Needs(Settings):
    data: str = setting(..., "Rows: a file.")


class Checked(Settings):
    low: int = setting(0, "Low.")
    high: int = setting(1, "High.")

    @model_validator(mode="after")
    def ordered(self) -> Checked:
        if self.low > self.high:
            raise ValueError(f"low is {self.low}, above high, which is {self.high}: swap them")
        return self


def said(cls: type[Settings], *args: str) -> str:
    with pytest.raises(ValueError) as caught:
        load(cls, args)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults_then_files_then_arguments(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yml"
    first.write_text("seed: 1\nshare: 0.1\nmodel: first\n")
    second.write_text("share: 0.2\nmodel: second\n")
    got = load(Example, ["model=third", str(first), str(second)])
    assert (got.learning_rate, got.seed, got.share, got.model) == (1e-5, 1, 0.2, "third")


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("learning_rate=1e-3", 1e-3),
        ("learning_rate=2", 2.0),
        ("seed=010", 10),
        ("seed=1_000", 1000),
        ("model=123", "123"),
        ("model=no", "no"),
        ("model='a b'", "a b"),
        ("model=a=b", "a=b"),
        ("model=", ""),
        ("out=1e5", Path("1e5")),
        ("tasks=[x, y]", ("x", "y")),
        ("tasks=x,y", ("x", "y")),
        ("tasks=x", ("x",)),
        ("tasks=", ()),
        ("early=true", True),
        ("limit=null", None),
        ("limit=3", 3.0),
        ("stages={sft: {steps: 4}}", {"sft": {"steps": 4}}),
        ("stages.sft.steps=4", {"sft": {"steps": 4}}),
        ("inner.steps=9", Inner(steps=9)),
    ],
)
def test_values(argument: str, value: Any) -> None:
    got = getattr(load(Example, [argument]), argument.split("=")[0].split(".")[0])
    assert got == value and type(got) is type(value)


def test_reaching_inside_keeps_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("stages:\n  sft: {steps: 1, rate: 2}\n  dpo: {steps: 3}\n")
    got = load(Example, [str(file), "stages.sft.steps=9"])
    assert got.stages == {"sft": {"steps": 9, "rate": 2}, "dpo": {"steps": 3}}
    assert load(Example, []).stages == {}


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["learning_rte=1"], ["'learning_rte'", "command line", "did you mean 'learning_rate'"]),
        (["lr=1"], ["did you mean 'learning_rate'"]),
        (["rate=1"], ["did you mean 'learning_rate'"]),
        (["qqq=1"], ["'qqq'", "known settings are", "learning_rate"]),
        (["seed=true"], ["'seed'", "true", "integer >= 0"]),
        (["seed=1.5"], ["'seed'", "1.5", "integer"]),
        (["seed=-1"], ["'seed'", "-1", "integer >= 0"]),
        (["early=1"], ["'early'", "true | false"]),
        (["learning_rate=fast"], ["'learning_rate'", "fast", "number > 0"]),
        (["learning_rate=.nan"], ["'learning_rate'", "nan"]),
        (["learning_rate=.inf"], ["'learning_rate'", "inf"]),
        (["share=1.01"], ["'share'", "1.01", "number >= 0 and <= 1"]),
        (["precision=fp8"], ["'precision'", "fp8", "auto | bf16 | fp32"]),
        (["limit=0"], ["'limit'", "number > 0 or null"]),
        (["tasks=[1]"], ["'tasks'", "tasks.0 is 1", "list of text"]),
        (["tasks=[a"], ["tasks", "not valid YAML"]),
        (["source=[a, 1]"], ["'source' is [a, 1] (command line)", "it must be: text or list of text"]),
        (["inner.step=1"], ["'inner.step'", "did you mean 'steps'"]),
        (["inner.steps=0"], ["inner.steps is 0", "greater than 0"]),
        (["seed.x=1"], ["'seed.x'", "nothing inside"]),
        (["seed=1", "seed=2"], ["'seed'", "twice", "seed=1", "seed=2"]),
        (["--seed=1"], ["'--seed=1'", "seed=1"]),
        (["--learning-rate", "1"], ["learning_rate=VALUE"]),
        (["sft"], ["'sft'", ".yaml", "key=value"]),
        (["none.yaml"], ["no settings file none.yaml"]),
    ],
)  # fmt: skip
def test_mistakes_on_the_command_line(args: list[str], parts: list[str]) -> None:
    message = said(Example, *args)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("seed: 1\nsede: 2\n", 2, "did you mean 'seed'"),
        ("seed: 1\n\nshare: much\n", 3, "number >= 0 and <= 1"),
        ("seed: 1\nshare: 0.5\nseed: 2\n", 3, "already given on line 1"),
        ("seed: 1\nstages:\n  a: {b: 1, b: 2}\n", 3, "'b' is already given"),
        ("seed: 1\nshare: [1,\n", 3, "not valid YAML"),
        ("seed: 1\n\tshare: 2\n", 2, "not valid YAML"),
        ("- seed\n", 1, "key: value"),
        ("seed: !!python/object:os.system 1\n", 1, "not valid YAML"),
    ],
)
def test_mistakes_in_a_file_name_the_line(tmp_path: Path, text: str, line: int, part: str) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(text)
    message = said(Example, str(file))
    assert f"{file}, line {line}" in message and part in message


def test_files_that_are_no_settings(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00seed")
    (tmp_path / "empty.yaml").write_text("# only a comment\n")
    assert "is a folder" in said(Example, str(tmp_path / "folder.yaml"))
    assert "not UTF-8" in said(Example, str(tmp_path / "bytes.yaml"))
    assert load(Example, [str(tmp_path / "empty.yaml")]) == Example()


def test_what_must_be_given() -> None:
    assert said(Needs) == "setting 'data' must be given (Rows: a file): add data=..."
    assert load(Needs, ["data=x"]).data == "x"


def test_a_check_between_settings_speaks_for_itself() -> None:
    assert said(Checked, "low=5") == "low is 5, above high, which is 1: swap them"


def test_settings_are_frozen_and_closed() -> None:
    with pytest.raises(ValueError):
        Example().seed = 3  # type: ignore[misc]
    with pytest.raises(ValueError):
        Example(sed=3)
    assert Example(out="a/b").out == Path("a/b")  # Python callers may write a path as text


def test_a_default_that_breaks_its_own_rule_is_found() -> None:
    class Wrong(Settings):
        share: float = setting(2.0, "A share.", le=1)

    with pytest.raises(ValueError):
        Wrong()
    assert "'share' is 2" in said(Wrong)


def test_rows_put_everyday_settings_first_in_the_order_of_the_work() -> None:
    described = rows(Example)
    assert [row.name for row in described] == [
        "stages", "model", "out", "learning_rate",  # where from, where to, how
        "share", "tasks", "early", "limit", "inner", "source",  # its own, as declared
        "seed",  # those of its group
        "precision",  # what few people set
    ]  # fmt: skip
    assert [row.name for row in described if not row.everyday] == ["precision"]
    assert {row.name for row in described} == set(Example.model_fields)
    by_name = {row.name: row for row in described}
    assert by_name["share"] == Row("share", "number >= 0 and <= 1", "0.5", "share", "A share.")
    assert by_name["learning_rate"].default == "1e-05"
    assert by_name["model"].default == '""'
    assert by_name["tasks"][1:3] == ("list of text", "[a, b]")
    assert by_name["inner"][1:3] == ("map with steps", "{steps: 3}")
    assert rows(Needs)[0].default == ""


@given(
    st.builds(
        dict,
        learning_rate=st.floats(min_value=1e-300, allow_nan=False, allow_infinity=False),
        model=st.text(st.characters(exclude_categories=["Cs"])),
        seed=st.integers(0, 2**60),
        tasks=st.lists(st.sampled_from(["1e5", "no", "null", "true", "12:30", "010", "~", "", "a: b", "# x", "2026-01-01"])),
        limit=st.none() | st.floats(min_value=1e-9, max_value=1e9),
    )
)  # fmt: skip
def test_what_is_written_reads_back_equal(values: dict[str, Any]) -> None:
    settings = build(Example, values)
    text = to_yaml(settings)
    assert build(Example, parse_yaml(text, "test")) == settings
    assert build(Example, yaml.safe_load(text)) == settings  # a plain YAML 1.1 reader agrees


def test_settings_file_is_complete(tmp_path: Path) -> None:
    settings = load(Example, ["seed=3", "tasks=x"])
    (tmp_path / "settings.yaml").write_text(to_yaml(settings))
    assert set(yaml.safe_load(to_yaml(settings))) == set(Example.model_fields)
    assert load(Example, [str(tmp_path / "settings.yaml")]) == settings


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False), st.lists
    )
)
@pytest.mark.slow
def test_json_is_yaml(value: Any) -> None:
    assert parse_yaml(json.dumps(value), "test") == value
    assert parse_yaml(dump_yaml(value), "test") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("1E5", 1e5), (".5", 0.5), ("5.", 5.0), ("-.inf", -math.inf), ("no", "no"), ("on", "on"), ("010", 10),
     ("12:30", "12:30"), ("2026-01-01", "2026-01-01"), ("true", True), ("", None), ("~", None), ("1.2.3", "1.2.3")],
)  # fmt: skip
def test_scalars_of_yaml_1_2(text: str, value: Any) -> None:
    got = parse_yaml(text, "test")
    assert got == value and type(got) is type(value)


def test_a_merge_key_takes_over_what_stands_elsewhere() -> None:
    text = "stages:\n  - &one {command: ppo, kl_coef: 0.1, seed: 1}\n  - &two {<<: *one, seed: 2}\n  - {<<: *two, name: b}"
    first = {"command": "ppo", "kl_coef": 0.1, "seed": 1}
    assert parse_yaml(text, "here") == {
        "stages": [first, first | {"seed": 2}, first | {"seed": 2, "name": "b"}]
    }
    assert parse_yaml("'<<'", "here") == "<<"
    with pytest.raises(ValueError, match=r"line 1.*mapping"):
        parse_yaml("{<<: 3}", "here")


def test_nearest_prefers_likeness_to_parts() -> None:
    names = ["clip_low", "clip_high", "kl_coef", "gae_lambda"]
    assert nearest("kl_coeff", names) == "kl_coef"
    assert nearest("cliphigh", names) == "clip_high"
    assert nearest("lambda", names) == "gae_lambda"
    assert nearest("KL-coef", names) == "kl_coef"
    assert nearest("zzzzz", names) is None
