"""In which dtype a result is written: that of the model it started from, or as told; nothing else changes by it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from rich.console import Console
from safetensors.torch import load_file

from tests.models.zoo import CONFIGS
from tests.train.making import make_model, make_tokenizer
from tutelage.commands import find, settings_class
from tutelage.launch import launch
from tutelage.models.loading import load_scalar, policy_module, save
from tutelage.settings.base import build

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SHARED = {
    "precision": "fp32",
    "tensorboard": False,
    "warmup": 0.0,
    "schedule": "constant",
    "learning_rate": 1e-3,
    "max_steps": 2,
    "save_every": 1,
    "keep_checkpoints": 9,
    "batch_size": 4,
}


@pytest.fixture
def rows(tmp_path: Path) -> str:
    """Rows that every command can read: prompts, pairs, demonstrations, text."""
    path = tmp_path / "rows.jsonl"
    made = [{"prompt": f"the cat {i}", "chosen": " sat on the mat.", "rejected": " ran."} for i in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    (tmp_path / "text.jsonl").write_text(json.dumps({"text": "the cat sat on the mat. " * 40}) + "\n")
    done = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in made]
    (tmp_path / "done.jsonl").write_text("".join(json.dumps(row) + "\n" for row in done))
    return str(path)


def base_in(dtype: str, folder: Path) -> str:
    tokenizer = make_tokenizer()
    save(make_model(tokenizer), tokenizer, folder / "model", DTYPES[dtype])
    save(load_scalar(folder), tokenizer, folder / "reward" / "model", DTYPES[dtype])
    return str(folder)


def run(command: str, base: str, out: Path, rows: str, **changes: Any) -> tuple[Path, str]:
    """The run folder and what was printed."""
    beside = Path(rows).parent
    data = {"pretrain": beside / "text.jsonl", "sft": beside / "done.jsonl"}.get(command, Path(rows))
    own = (
        {"prompts": rows, "reward": f"{base}/reward", "max_new_tokens": 6}
        if command == "ppo"
        else {"data": str(data)}
    )
    given = {**SHARED, **own, "model": base, "out": str(out), **changes}
    console = Console(file=io.StringIO(), width=300)
    launch(command, build(settings_class(find(command)), given), console)
    return out, console.file.getvalue()  # type: ignore[attr-defined]


def trained(folder: Path, name: str = "policy") -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoints" / "step-00000002" / name / "model.safetensors")


def exported(folder: Path) -> tuple[dict[str, torch.Tensor], str]:
    return load_file(folder / "model" / "model.safetensors"), json.loads(
        (folder / "model" / "config.json").read_text()
    )["dtype"]


@pytest.mark.parametrize(
    "stored", ["bf16", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("fp16", "fp32"))]
)
def test_an_export_has_the_dtype_of_its_base_and_the_trained_weights(
    tmp_path: Path, rows: str, stored: str
) -> None:
    folder, printed = run("sft", base_in(stored, tmp_path / "base"), tmp_path / "sft", rows)
    found, said = exported(folder)
    weights = trained(folder)
    assert said == str(DTYPES[stored]).removeprefix("torch.")
    assert {tensor.dtype for tensor in found.values()} == {DTYPES[stored]}
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name].to(DTYPES[stored])) for name in weights)
    assert any(not torch.equal(found[name].float(), tensor) for name, tensor in weights.items()) == (
        stored != "fp32"
    )
    assert printed.count(f"weights in {stored}") == 1
    plain = hf.AutoModelForCausalLM.from_pretrained(folder / "model", dtype="auto")
    assert plain.dtype == DTYPES[stored]


@pytest.mark.parametrize("wanted", ["fp32", "bf16", "fp16"])
@pytest.mark.slow
def test_an_export_has_the_dtype_that_is_asked_for(tmp_path: Path, rows: str, wanted: str) -> None:
    folder, printed = run(
        "sft", base_in("bf16", tmp_path / "base"), tmp_path / "sft", rows, export_dtype=wanted
    )
    found, weights = exported(folder)[0], trained(folder)
    assert all(torch.equal(found[name], weights[name].to(DTYPES[wanted])) for name in weights)
    assert {tensor.dtype for tensor in found.values()} == {
        DTYPES[wanted]
    } and f"weights in {wanted}" in printed


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "command", ["dpo", *(pytest.param(c, marks=SLOW) for c in ("pretrain", "reward", "ppo"))]
)
def test_every_command_keeps_the_dtype_and_the_next_one_reads_it(
    tmp_path: Path, rows: str, command: str
) -> None:
    base = base_in("bf16", tmp_path / "base")
    folder, _ = run(command, base, tmp_path / command, rows, max_steps=1)
    assert exported(folder)[1] == "bfloat16"
    assert {tensor.dtype for tensor in exported(folder)[0].values()} == {torch.bfloat16}
    after = ("ppo", {"reward": str(folder)}) if command == "reward" else ("sft", {"model": str(folder)})
    folder, _ = run(after[0], base, tmp_path / "after", rows, **after[1], max_steps=1)
    assert exported(folder)[1] == "bfloat16"


def test_a_model_from_scratch_is_fp32_unless_told(tmp_path: Path, rows: str) -> None:
    for name, wanted in (("auto", "float32"), ("bf16", "bfloat16")):
        small = {
            "vocab_size": 300,
            "hidden_size": 32,
            "layers": 1,
            "heads": 2,
            "model": "",
            "export_dtype": name,
        }
        folder, _ = run("pretrain", "", tmp_path / name, rows, **small, max_steps=1)
        assert exported(folder)[1] == wanted


@pytest.mark.slow
def test_a_run_that_went_on_exports_the_same(tmp_path: Path, rows: str) -> None:
    """Checkpoints are exact: rounding happens only on the way out."""
    base = base_in("bf16", tmp_path / "base")
    whole, _ = run("sft", base, tmp_path / "whole", rows, max_steps=4)
    run("sft", base, tmp_path / "again", rows, max_steps=2)
    again, _ = run("sft", base, tmp_path / "again", rows, max_steps=4)
    assert (whole / "model" / "model.safetensors").read_bytes() == (
        again / "model" / "model.safetensors"
    ).read_bytes()
    with pytest.raises(ValueError, match="export_dtype is 'auto' there and 'fp32' here"):
        run("sft", base, tmp_path / "again", rows, max_steps=4, export_dtype="fp32")


@pytest.mark.parametrize(
    "wanted", ["auto", pytest.param("fp32", marks=SLOW), pytest.param("fp16", marks=SLOW)]
)
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=SLOW)])
@pytest.mark.slow
def test_an_adapter_is_merged_in_that_dtype(tmp_path: Path, rows: str, wanted: str, precision: str) -> None:
    """In fp32 the base's digits and the adapter's product are there in full; in others to their rounding."""
    base = base_in("bf16", tmp_path / "base")
    more = {"lora_rank": 2, "learning_rate": 3e-2, "export_dtype": wanted, "precision": precision}
    folder, _ = run("reward", base, tmp_path / "reward", rows, **more)
    dtype = DTYPES["bf16" if wanted == "auto" else wanted]
    found, said = exported(folder)
    assert {tensor.dtype for tensor in found.values()} == {dtype} and said == str(dtype).removeprefix(
        "torch."
    )
    start = load_file(Path(base) / "model" / "model.safetensors")
    adapter = load_file(folder / "adapter" / "adapter_model.safetensors")
    name = "model.layers.1.mlp.up_proj"
    a, b = (adapter[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
    exact = start[f"{name}.weight"].float() + 16 / 2 * b @ a
    assert not torch.equal(exact, start[f"{name}.weight"].float())
    tolerance = {torch.float32: 1e-6, torch.float16: 2e-4, torch.bfloat16: 2e-3}[dtype]
    assert torch.allclose(
        found[f"{name}.weight"].float(), exact, atol=tolerance, rtol=4 * torch.finfo(dtype).eps
    )
    assert torch.equal(found["model.embed_tokens.weight"].float(), start["model.embed_tokens.weight"].float())
    head = load_file(folder / "adapter" / "head.safetensors")["score.weight"]
    assert torch.equal(found["score.weight"], head.to(dtype))


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3", "gpt_neox"])
@pytest.mark.parametrize("tied", [False, True])
def test_writing_in_another_dtype_leaves_the_model_as_it_is(name: str, tied: bool, tmp_path: Path) -> None:
    config = CONFIGS[name]()
    config.tie_word_embeddings = tied
    module = policy_module(hf.AutoModelForCausalLM.from_config(config), name)
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    dtype, own = module.config.dtype, module.config
    save(module, make_tokenizer(), tmp_path, torch.bfloat16)
    after = module.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[key], before[key]) for key in before)
    assert module.config is own and module.config.dtype == dtype and module.dtype == torch.float32
    assert all(parameter.requires_grad for parameter in module.parameters())
    plain = hf.AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    for model in (module.host, plain):
        ends = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        assert (ends[0].data_ptr() == ends[1].data_ptr()) == tied
    wanted = module.host.state_dict()
    found = plain.state_dict()
    assert all(torch.equal(found[key], wanted[key].to(found[key].dtype)) for key in wanted)
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.bfloat16}


def test_what_does_not_fit_is_not_written(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    module = make_model(tokenizer)
    with torch.no_grad():
        module.host.get_input_embeddings().weight[0, 0] = 1e6
    with pytest.raises(ValueError, match=r"beyond the range of torch\.float16.*choose another export_dtype"):
        save(module, tokenizer, tmp_path / "out", torch.float16)
    assert not (tmp_path / "out").exists()
