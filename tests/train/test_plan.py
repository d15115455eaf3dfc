"""The plan says what a command will take: as measured, and for models that nobody has here."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

from tests.train.making import make_tokenizer
from tutelage.launch import launch
from tutelage.models.loading import save
from tutelage.models.tiny import tiny_model
from tutelage.parallel import World
from tutelage.settings.distill import DistillSettings
from tutelage.settings.preference import DPOSettings
from tutelage.settings.reward import RewardSettings
from tutelage.settings.rl import PPOSettings
from tutelage.settings.train import SFTSettings
from tutelage.train.held import roles
from tutelage.train.plan import Plan, here, plan

GIB = 2**30
BF16 = torch.bfloat16
PEAK = """
import sys
from tutelage.launch import launch
from tutelage.settings.base import load
from tutelage.settings.train import SFTSettings
launch("sft", load(SFTSettings, sys.argv[1:]))
facts = dict(line.split(":", 1) for line in open("/proc/self/status"))
print("peak", int(facts["VmHWM"].split()[0]) * 1024)
"""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The config of an 8 B Llama; no weights."""
    folder = tmp_path_factory.mktemp("8b")
    LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
    ).save_pretrained(folder)
    return str(folder)


def on_gpu(settings: SFTSettings | DPOSettings | RewardSettings | PPOSettings) -> Plan:
    """On a card of 80 GB."""
    return plan(settings, "cuda", BF16, 80e9)


@pytest.mark.slow
def test_an_8b_model_by_its_config_alone(llama: str) -> None:
    lora = on_gpu(SFTSettings(data="x", model=llama, lora_rank=16))
    assert lora.fits
    trained = lora.columns[0].optimizer / 8
    assert trained == 16 * 32 * (4096 * 2 + 2 * (4096 + 1024) + 4096 * 2 + 3 * (4096 + 14336))


@pytest.mark.slow
def test_full_training_of_8b_does_not_fit(llama: str) -> None:
    full = on_gpu(SFTSettings(data="x", model=llama))
    assert full.columns[0].weights == 4 * 8_030_261_248  # the model's card says 8.03 B
    assert full.columns[0].optimizer == 8 * 8_030_261_248
    assert not full.fits


@pytest.mark.slow
def test_dpo_of_8b_with_an_adapter_fits_a_card_of_80_gb(llama: str) -> None:
    assert on_gpu(DPOSettings(data="x", model=llama, lora_rank=16)).fits


@pytest.mark.slow
def test_ppo_of_8b_with_adapters_on_one_base_fits(llama: str) -> None:
    found = on_gpu(PPOSettings(prompts="x", model=llama, reward=llama, lora_rank=16))
    assert found.fits
    frozen = {column.role: column.weights for column in found.columns}
    assert frozen["critic"] < GIB < frozen["reward model"]  # the critic's base is the reward model's


@pytest.mark.slow
def test_full_ppo_of_1_5b_fits_with_layers_computed_again(tmp_path: Path) -> None:
    LlamaConfig(
        vocab_size=151936,
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    ).save_pretrained(tmp_path)
    settings = PPOSettings(prompts="x", model=str(tmp_path), reward=str(tmp_path))
    found = on_gpu(settings)
    assert found.fits and found.checkpointing
    kept = on_gpu(settings.model_copy(update={"gradient_checkpointing": "off"}))
    assert not kept.fits and not kept.checkpointing


@pytest.mark.slow
def test_auto_computes_again_only_where_memory_is_short(tmp_path: Path) -> None:
    settings = SFTSettings(data="x", model=save_model(tmp_path), max_length=256, batch_size=8)
    plenty = plan(settings, "cpu", torch.float32, 8 * GIB)
    assert plenty.fits and not plenty.checkpointing
    scarce = plan(settings, "cpu", torch.float32, 0.9 * plenty.total)
    assert scarce.checkpointing and scarce.columns[0].activations < plenty.columns[0].activations


@pytest.mark.slow
def test_fewer_tokens_at_a_time_take_less(tmp_path: Path) -> None:
    model = save_model(tmp_path)
    totals = [
        plan(
            SFTSettings(data="x", model=model, micro_batch_tokens=tokens, max_length=64),
            "cpu",
            torch.float32,
            64 * GIB,  # plenty, however much this process has taken already
        ).columns[0]
        for tokens in (512, 1024, 2048)
    ]
    assert totals[0].activations < 0.6 * totals[1].activations < 0.36 * totals[2].activations * 1.1


def test_a_teacher_is_held_beside_its_student_in_the_arithmetic_of_the_run(tmp_path: Path) -> None:
    model = save_model(tmp_path)
    settings = DistillSettings(prompts="x", model=model, teacher=model, learn_from="on-policy")
    student, teacher = roles(settings, BF16)
    assert (student.name, student.trained, student.dtype) == ("policy", True, torch.float32)
    assert (teacher.name, teacher.trained, teacher.dtype) == ("teacher", False, BF16)
    found = plan(settings, "cpu", torch.float32, 64 * GIB)
    assert found.columns[1].weights == found.columns[0].weights and found.columns[1].optimizer == 0
    assert found.generation > 0


def test_every_judge_that_is_a_model_is_held(tmp_path: Path) -> None:
    model = save_model(tmp_path)
    settings = PPOSettings(
        prompts="x",
        model=model,
        reward=["formula:repetition", model],
        cost=model,
        monitor=[model, "world"],
        eval_prompts="y",
    )
    found = [role.name for role in roles(settings, torch.float32)]
    assert found == ["policy", "critic", "reference", "reward model", "cost", "monitor"]


@pytest.mark.slow
def test_ppo_holds_what_it_says(tmp_path: Path) -> None:
    model = save_model(tmp_path)
    settings = PPOSettings(
        prompts="x", model=model, reward=model, batch_size=4, max_prompt_length=32, max_new_tokens=16
    )
    found = plan(settings, "cpu", torch.float32, GIB)
    assert [column.role for column in found.columns] == ["policy", "critic", "reference", "reward model"]
    assert [bool(column.optimizer) for column in found.columns] == [True, True, False, False]
    assert found.generation > 0


def save_model(folder: Path, hidden: int = 64) -> str:
    tokenizer = make_tokenizer()
    save(tiny_model(tokenizer, hidden=hidden, layers=4, heads=4, context=512), tokenizer, folder / "start")
    return str(folder / "start")


def test_planning_leaves_nothing_behind(tmp_path: Path) -> None:
    settings = SFTSettings(data="x", model=save_model(tmp_path), out=tmp_path / "run", plan=True)
    assert launch("sft", settings) is None
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("more", [["lora_rank=8"], ["batch_size=32"]])
def test_a_run_takes_what_the_plan_says(tmp_path: Path, more: list[str]) -> None:
    """Within 20 %, peak resident memory of the process, a model of a million parameters."""
    model, rng = save_model(tmp_path, hidden=128), random.Random(0)
    rows = tmp_path / "rows.jsonl"
    digits = ("".join(rng.choices("0123456789", k=250)) for _ in range(100))  # every digit is a token
    rows.write_text("".join(json.dumps({"prompt": "1", "completion": text}) + "\n" for text in digits))
    args = [f"data={rows}", f"model={model}", f"out={tmp_path / 'run'}", "max_length=256", "max_steps=4"]
    args += ["batch_size=16", "precision=fp32", "heldout_share=0", "tensorboard=false"]
    args = [arg for arg in args if arg.split("=")[0] not in {m.split("=")[0] for m in more}] + more
    run = [sys.executable, "-c", PEAK, *args]
    output = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    said = next(line for line in output.splitlines() if line.startswith("At most"))
    amount, unit = said.split()[2:4]
    planned = float(amount) * {"MiB": 2**20, "GiB": GIB}[unit]
    peak = int(output.split()[-1])
    assert 0.8 * peak < planned < 1.2 * peak, said


def test_a_mistake_is_one_sentence_and_the_command_itself_says_it(tmp_path: Path) -> None:
    wrong = SFTSettings(data="x", model=str(tmp_path / "nothing"), out=tmp_path / "run")
    with pytest.raises(ValueError, match="There is no folder"):
        launch("sft", wrong.model_copy(update={"plan": True}))
    assert not (tmp_path / "run").exists()
    assert here(wrong, World(torch.device("cpu"))) is None
