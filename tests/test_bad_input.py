"""What a user can get wrong: one clear sentence, exit code 1, no traceback, and nothing written before is harmed."""

from __future__ import annotations

import json
import re
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.train.making import make_model, make_tokenizer
from tutelage.cli import run_command
from tutelage.commands import find
from tutelage.files import sha256_of
from tutelage.models.loading import save

SMALL = [
    "hidden_size=32",
    "layers=2",
    "heads=2",
    "max_length=64",
    "batch_size=4",
    "max_steps=4",
    "save_every=2",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model with a context of 128 tokens."""
    tokenizer = make_tokenizer()
    return save(make_model(tokenizer), tokenizer, tmp_path_factory.mktemp("base") / "model")


def complaint(capsys: pytest.CaptureFixture[str], command: str, *args: str) -> str:
    """Run a command that must fail; returns its one sentence."""
    capsys.readouterr()
    assert run_command(find(command), args) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    sentences = [line for line in lines if line.startswith("error: ")]
    assert len(sentences) == 1 and "Traceback" not in "".join(lines), lines
    return sentences[0]


def write(path: Path, *rows: object) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (None, r"rows\.jsonl"),
        ([], r"rows\.jsonl.*(empty|no rows)"),
        ([{"prompt": "a", "completion": "b"}, '{"prompt": "a", '], r"rows\.jsonl.*line 2"),
        ([{"question_text": "a", "reply": "b"}], r"question_text.*reply.*prompt"),
        ([{"prompt": "a", "completion": 7}], r"completion must be .*, not int 7 \(line 1\)"),
        ([{"prompt": "a", "completion": ""}] * 3, r"3 of 3 .*empty response"),
    ],
)
def test_unusable_demonstrations(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], rows: list[object] | None, sentence: str
) -> None:
    path = tmp_path / "rows.jsonl"
    if rows is not None:
        write(path, *rows)
    found = complaint(capsys, "sft", f"data={path}", f"model={model}", f"out={tmp_path / 'run'}")
    assert re.search(sentence, found, re.IGNORECASE), found


def test_identical_chosen_and_rejected(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"prompt": "the cat", "chosen": " sat", "rejected": " sat"}
    data = write(tmp_path / "pairs.jsonl", *[row] * 5)
    for command in ("reward", "dpo"):
        found = complaint(capsys, command, f"data={data}", f"model={model}", f"out={tmp_path / command}")
        assert "5 of 5" in found and "identical" in found, found


def test_prompt_longer_than_the_context(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = write(tmp_path / "prompts.jsonl", {"prompt": "the cat sat on the mat. " * 60})
    store = tmp_path / "store.sqlite"
    found = complaint(
        capsys,
        "sample",
        f"prompts={prompts}",
        f"model={model}",
        "max_new_tokens=8",
        f"store={store}",
        f"out={tmp_path / 'run'}",
    )
    assert "1 of 1" in found and "longer" in found, found


def test_a_context_too_small_for_any_response(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = write(tmp_path / "prompts.jsonl", {"prompt": "the cat"})
    found = complaint(
        capsys,
        "sample",
        f"prompts={prompts}",
        f"model={model}",
        "max_new_tokens=500",
        f"store={tmp_path / 's.sqlite'}",
        f"out={tmp_path / 'run'}",
    )
    assert "500" in found and "128" in found, found


def test_no_model_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "rows.jsonl", {"prompt": "a", "completion": "b"})
    missing = tmp_path / "nowhere"
    found = complaint(capsys, "sft", f"data={data}", f"model={missing}", f"out={tmp_path / 'run'}")
    assert str(missing) in found


def changed(model: Path, folder: Path, file: str, **changes: object) -> Path:
    """A copy of the model with some keys of one JSON file changed (None removes them)."""
    import shutil

    shutil.copytree(model, folder)
    config = json.loads((folder / file).read_text()) | changes
    (folder / file).write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return folder


def test_tokenizer_without_end_of_sequence(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = changed(model, tmp_path / "model", "tokenizer_config.json", eos_token=None)
    data = write(tmp_path / "rows.jsonl", {"prompt": "a", "completion": "b"})
    found = complaint(capsys, "sft", f"data={data}", f"model={broken}", f"out={tmp_path / 'run'}")
    assert "end-of-sequence" in found and str(broken) in found, found


def test_chat_rows_without_a_chat_template(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = changed(model, tmp_path / "model", "tokenizer_config.json", chat_template=None)
    (broken / "chat_template.jinja").unlink(missing_ok=True)
    turns = {
        "prompt": [{"role": "user", "content": "a"}],
        "completion": [{"role": "assistant", "content": "b"}],
    }
    data = write(tmp_path / "rows.jsonl", turns)
    found = complaint(capsys, "sft", f"data={data}", f"model={broken}", f"out={tmp_path / 'run'}")
    assert "chat template" in found, found


def test_tokenizer_without_pad_token_is_no_error(tmp_path: Path, model: Path) -> None:
    """It takes the one that its vocabulary has; no token is added, and the result still loads."""
    bare = changed(model, tmp_path / "model", "tokenizer_config.json", pad_token=None)
    data = write(tmp_path / "rows.jsonl", *[{"prompt": "the cat", "completion": " sat on the mat."}] * 8)
    args = [
        f"data={data}",
        f"model={bare}",
        f"out={tmp_path / 'run'}",
        "max_steps=2",
        "batch_size=4",
        "tensorboard=false",
    ]
    assert run_command(find("sft"), args) == 0
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    assert tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(model).get_vocab()


def test_a_folder_of_a_different_run_is_left_alone(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "rows.jsonl", *[{"prompt": "the cat", "completion": " sat on the mat."}] * 8)
    args = [f"data={data}", f"model={model}", f"out={tmp_path / 'run'}", "batch_size=4", "tensorboard=false"]
    assert run_command(find("sft"), [*args, "max_steps=2"]) == 0
    before = sha256_of(tmp_path / "run")
    found = complaint(capsys, "sft", *args, "max_steps=3")
    assert "max_steps is 2 there and 3 here" in found
    assert sha256_of(tmp_path / "run") == before


@pytest.mark.slow
def test_disk_full_while_saving(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No file may grow beyond 60 KB: the first checkpoint cannot be written, and what was there stays."""
    data = write(tmp_path / "rows.jsonl", *[{"text": "the cat sat on the mat. " * 4}] * 40)
    out = tmp_path / "run"
    command = [f"data={data}", f"out={out}", *SMALL, "tensorboard=false"]
    with no_file_above(60_000):
        assert "step-00000002" in complaint(capsys, "pretrain", *command)
    assert not list((out / "checkpoints").glob("*")), "no half-written checkpoint is left"
    assert run_command(find("pretrain"), command) == 0  # with room again, the same command ends well
    assert (out / "model" / "model.safetensors").exists()


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """A stand-in for a full disk: the system refuses larger files."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
