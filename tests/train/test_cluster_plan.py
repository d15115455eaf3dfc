"""Plans for many GPUs: rows computed by hand for a small model, and what public runs have published."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import LlamaConfig

from tests.train.making import make_tokenizer
from tutelage.launch import launch
from tutelage.models.loading import save
from tutelage.models.rehearsal import Role, Shape
from tutelage.models.tiny import tiny_model
from tutelage.parallel import World
from tutelage.settings.base import build, load
from tutelage.settings.groups import PlanSettings
from tutelage.settings.rl import PPOSettings
from tutelage.settings.rollout import SampleSettings
from tutelage.settings.train import PretrainSettings, SFTSettings
from tutelage.train.cluster.gpus import GPUS, OF_LINKS, OF_MEMORY, Cluster
from tutelage.train.cluster.memory import Held, Memory, Share, held, memory, whole
from tutelage.train.cluster.models import Size, size_of
from tutelage.train.cluster.plan import ClusterPlan, advice, cluster_plan, fewest_ranks
from tutelage.train.cluster.work import Passes, beside, decoding, forward_flops, micro_batch
from tutelage.train.held import Writing
from tutelage.train.plan import show

LAYER = (
    8 * 8 + 2 * (4 * 8) + 8 * 8 + 3 * (8 * 16) + 2 * 8
)  # queries, keys and values, out, gated MLP, two norms: 592
ROOT = 100 * 8 + 100 * 8 + 8  # embeddings, head, last norm: 1608
ALL = 3 * LAYER + ROOT  # 3384


def llama(folder: Path, **shape: int) -> str:
    """A config without weights."""
    LlamaConfig(tie_word_embeddings=False, **shape).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    return llama(
        tmp_path_factory.mktemp("small"),
        vocab_size=100,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
    )


@pytest.fixture(scope="module")
def seventy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Llama 3 70B, of which only the shape is here."""
    return llama(
        tmp_path_factory.mktemp("70b"),
        vocab_size=128256,
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        max_position_embeddings=8192,
    )


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Llama 3.1 8B."""
    return llama(
        tmp_path_factory.mktemp("8b"),
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131072,
    )


def test_sizes_of_a_model_that_is_trained_whole(small: str) -> None:
    found = size_of(Role("policy", small, trained=True))
    assert found == Size(3, 0, 0, 0, ALL, LAYER, ROOT, embedding=800, attention=3 * 8)


def test_sizes_of_an_adapter_are_those_that_it_gets(small: str) -> None:
    found = size_of(Role("policy", small, trained=True, lora_rank=2))
    adapter = 2 * ((8 + 8) + 2 * (8 + 4) + (8 + 8) + 3 * (8 + 16))
    assert (found.frozen, found.trained, found.trained_layer) == (ALL, 3 * adapter, adapter)
    assert found.parameters == ALL + 3 * adapter


def test_a_reward_model_has_one_row_for_a_head(small: str) -> None:
    found = size_of(Role("reward model", small, "scores"))
    assert (found.trained, found.frozen, found.frozen_root) == (0, 3 * LAYER + 808 + 8, 808 + 8)


def test_gathering_waits_for_the_slower_link() -> None:
    gpu = GPUS["H100"]
    one = Cluster(gpu, 8, 8, 400e9)
    assert one.gather_seconds(8e9) == pytest.approx(7e9 / (450e9 * OF_LINKS))
    slow = Cluster(gpu, 16, 8, 50e9)  # half of it comes from the other node
    assert slow.nodes == 2
    assert slow.gather_seconds(8e9) == pytest.approx(4e9 / (50e9 * OF_LINKS))
    assert Cluster(gpu, 1, 1, 400e9).gather_seconds(8e9) == 0


def test_what_a_rank_sends_for_a_micro_batch(small: str) -> None:
    """ZeRO, section 7: three times the parameters: here twice in bf16, once in float32."""
    cluster = Cluster(GPUS["H100"], 4, 4, 400e9)
    one = _held(small, trained=True)
    found = micro_batch(one, cluster, tokens=64, length=64)
    assert found.bytes == 0.75 * (2 * ALL * 2 + ALL * 4)
    assert found.model == 3 * 64 * (2 * (ALL - 800) + 4 * 24 * 64)


def test_weights_that_are_gathered_as_they_are_kept_are_twice_as_much(small: str) -> None:
    one = _held(small, trained=True)
    found = micro_batch(replace(one, gathered=4, rooted=4), Cluster(GPUS["H100"], 4, 4, 400e9), 64, 64)
    assert found.bytes == 0.75 * (2 * ALL * 4 + ALL * 4)


def test_layers_that_are_computed_again_cost_a_third_more(small: str) -> None:
    cluster = Cluster(GPUS["H100"], 4, 4, 400e9)
    kept = micro_batch(_held(small, trained=True), cluster, 64, 64)
    again = micro_batch(_held(small, trained=True, checkpointing=True), cluster, 64, 64)
    assert again.compute == pytest.approx(kept.compute * 4 / 3)
    assert again.model == kept.model  # which is why it lowers the share of the peak


def test_a_network_that_is_too_slow_is_waited_for(small: str) -> None:
    one = _held(small, trained=True)
    fast = micro_batch(one, Cluster(GPUS["H100"], 16, 8, 1e15), 1e6, 64)
    slow = micro_batch(one, Cluster(GPUS["H100"], 16, 8, 1e3), 1e6, 64)
    assert fast.exposed < 0.05 * fast.compute
    assert slow.exposed + slow.compute == pytest.approx(slow.links)  # nothing but the network counts


def test_decoding_reads_all_weights_for_every_token(small: str) -> None:
    cluster = Cluster(GPUS["H100"], 1, 1, 400e9)
    one = _held(small)
    found = decoding(one, cluster, Writing(4, 0, 10), 2, rows=2, copies=1, gpus=1)
    cache = 2 * 3 * 1 * 4 * 2  # keys and values of three layers, one head of four, two bytes
    read = (ALL * 2 + 2 * cache * 5) / (3.35e12 * OF_MEMORY)  # five tokens there on average
    assert one.part.token == cache
    assert found.seconds == pytest.approx(2 * 10 * read)  # two rows at a time, ten tokens each


def test_the_parts_of_a_ranks_memory_by_hand(small: str) -> None:
    found = cluster_plan(_sft(small, batch_size=4, max_length=32), 1)
    (share,) = found.memory.shares
    assert (share.weights, share.gradients, share.optimizer) == (ALL, ALL, 2 * ALL)  # 4 bytes, over 4 ranks
    assert share.whole == 2 * ROOT * 4 + (2 * LAYER + LAYER) * 2 + LAYER * 4  # layers in bf16, sums in fp32
    assert share.activations > 0
    assert share.copies == (ROOT - 800) * 2  # the head, which is kept in fp32 and rounded by autocast
    parts = (
        share.weights,
        share.gradients,
        share.optimizer,
        share.whole,
        share.activations,
        share.logits,
        share.copies,
    )
    assert found.memory.total == pytest.approx(sum(parts))


def test_what_is_sharded_shrinks_with_the_ranks_and_the_rest_does_not(small: str) -> None:
    few = cluster_plan(_sft(small, plan_ranks=2, batch_size=8, max_length=32), 1).memory.shares[0]
    many = cluster_plan(_sft(small, plan_ranks=8, batch_size=32, max_length=32), 1).memory.shares[0]
    assert many.weights == few.weights / 4 and many.optimizer == few.optimizer / 4
    assert (many.whole, many.activations, many.logits) == (few.whole, few.activations, few.logits)


def test_an_adapter_moves_its_base_but_sums_only_itself(small: str) -> None:
    found = cluster_plan(_sft(small, batch_size=4, max_length=32, lora_rank=2), 1)
    (share,) = found.memory.shares
    adapters = found.models[0].size.trained
    assert share.weights == (ALL * 2 + adapters * 4) / 4
    assert share.optimizer == 8 * adapters / 4
    assert found.passes.bytes == 0.75 * (2 * (ALL + adapters) * 2 + adapters * 4)


@pytest.mark.slow
def test_a_policy_that_practises_has_a_copy_that_writes(small: str) -> None:
    settings = PPOSettings(
        prompts="x",
        model=small,
        reward=small,
        plan_gpu="H100",
        plan_ranks=4,
        max_prompt_length=16,
        max_new_tokens=16,
    )
    found = cluster_plan(settings, 1)
    assert [share.role for share in found.memory.shares] == ["policy", "critic", "reference", "reward model"]
    assert found.memory.replica == 2 * ALL and not found.memory.remote
    assert found.decoding and found.decoding.copies == 4


def _held(source: str, *, trained: bool = False, checkpointing: bool = False) -> Held:
    role = Role("policy", source, trained=trained, checkpointing=checkpointing)
    return held(role, Shape(1, 1, 32, 32), 32, torch.bfloat16, 4, narrow=True)


def _sft(model: str, **given: object) -> SFTSettings:
    return build(SFTSettings, {"data": "x", "model": model, "plan_gpu": "H100", "plan_ranks": 4, **given})


@pytest.mark.slow
def test_70b_on_64_gpus_by_its_config_alone(seventy: str) -> None:
    """torchtitan trained it on 64 A100 of 80 GB with rows of 8,192 tokens, one per GPU, layers computed again: 331 tokens/s per
    GPU, 51.7 % of the peak (docs/performance.md there, June 2024)."""
    settings = _sft(
        seventy,
        plan_gpu="A100-80",
        plan_ranks=64,
        batch_size=64,
        max_length=8192,
        micro_batch_tokens=8192,
        gradient_checkpointing="on",
    )
    found = cluster_plan(settings, 1, narrow=True)  # as theirs gathers
    assert found.memory.fits and found.checkpointing
    assert found.tokens_per_second == pytest.approx(331, rel=0.1)
    assert found.utilisation == pytest.approx(0.517, rel=0.1)
    assert found.limit == "compute"


@pytest.mark.slow
def test_8b_on_8_and_128_gpus(eight: str) -> None:
    """torchtitan on H100 of 96 GB, two rows of 8,192 tokens per GPU, some of the activations kept: 5,762 and 5,605 tokens/s
    per GPU; 82.4 and 67.0 GiB (benchmarks/llama3_h100_202412_torchtitan.md there)."""
    plans = [
        cluster_plan(
            _sft(
                eight,
                plan_ranks=ranks,
                batch_size=2 * ranks,
                max_length=8192,
                micro_batch_tokens=16384,
                gradient_checkpointing="on",
            ),
            1,
            narrow=True,
        )
        for ranks in (8, 128)
    ]
    for found, published in zip(plans, (5762, 5605), strict=True):
        assert found.tokens_per_second == pytest.approx(published, rel=0.1)
    few, many = (found.memory.total / 2**30 for found in plans)
    assert few - many == pytest.approx(82.4 - 67.0, rel=0.15)  # what is sharded


def test_a_copy_that_does_not_fit_beside_the_rest_is_remote(small: str) -> None:
    models, wanted = [_held(small, trained=True)], Writing(4, 16, 16)
    here = memory(models, torch.bfloat16, 4, wanted, 1e9)
    assert here.replica == 2 * ALL and here.rows == 1 and not here.remote
    tight = memory(models, torch.bfloat16, 4, wanted, here.total - 1)
    assert tight.remote and tight.replica == 0 and tight.total < here.total
    assert memory(models, torch.bfloat16, 4, wanted, 1e9, served=True).remote  # servers that a run has anyway


def test_servers_take_as_few_gpus_as_hold_the_policy(small: str) -> None:
    one = _held(small)
    tiny = Cluster(replace(GPUS["H100"], bytes=6000.0), 64, 8, 400e9)  # the policy is 6,768 bytes in bf16
    found = beside(one, tiny, Writing(64, 1, 1), 2)
    assert found is not None and (found.gpus, found.copies) == (2, 4)
    assert beside(one, replace(tiny, gpu=replace(tiny.gpu, bytes=1000.0)), Writing(64, 1, 1), 2) is None


def test_a_plan_that_does_not_fit_says_how_many_would_do() -> None:
    gpu = GPUS["H100"]
    share = Share("policy", 40e9, 40e9, 80e9, 10e9, 10e9, 0)
    found = _planned(Memory([share], 0, 0, 0, 0, gpu.bytes, remote=False), Cluster(gpu, 8, 8, 400e9))
    assert found.limit == "memory"
    assert fewest_ranks(found) == 24  # 160 GB x 8 in shares of 60 GB: 21.3 ranks, three nodes
    assert "plan_ranks=24" in " ".join(advice(_sft("x"), found))


def test_no_number_of_ranks_helps_against_activations() -> None:
    gpu = GPUS["H100"]
    share = Share("policy", 1e9, 1e9, 2e9, 10e9, 100e9, 0)
    found = _planned(Memory([share], 0, 0, 0, 0, gpu.bytes, remote=False), Cluster(gpu, 8, 8, 400e9))
    assert fewest_ranks(found) is None
    ways = advice(_sft("x", micro_batch_tokens=8192), found)
    assert "gradient_checkpointing=on" in ways and "micro_batch_tokens=4096" in ways


def _planned(taken: Memory, cluster: Cluster) -> ClusterPlan:
    return ClusterPlan(cluster, [], Shape(1, 1, 1024, 1024), taken, Passes(1.0), 0.1, None, False, 1024)


def test_it_is_printed(small: str) -> None:
    printed = _printed(_sft(small, plan_ranks=16, batch_size=16, max_length=32))
    for part in (
        "16 x H100 in 2 nodes of 8",
        "memory of every rank",
        "time of a step",
        "limits",
        "trained tokens/s",
    ):
        assert part in printed


def _printed(settings: PlanSettings) -> str:
    out = StringIO()
    show(settings, World(torch.device("cpu"), torch.float32, 0, 1), Console(file=out, width=120))
    return out.getvalue()


def test_asking_for_gpus_asks_for_a_plan_and_does_nothing_else(tmp_path: Path) -> None:
    settings = load(SFTSettings, ["data=x", "plan_gpu=H100"])
    assert settings.plan
    assert not load(SFTSettings, ["data=x"]).plan


def test_the_command_leaves_nothing_behind(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    model = tiny_model(tokenizer, hidden=16, layers=2, heads=2, context=64)
    save(model, tokenizer, tmp_path / "model")
    settings = _sft(str(tmp_path / "model"), out=str(tmp_path / "run"), max_length=32)
    assert launch("sft", settings, Console(file=StringIO())) is None
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["plan_gpu=H10"], "is H10 (command line), but it must be: none | A100-80 | H100 | H200 | B200"),
        (["plan_ranks=64"], "plan_ranks=64 does not say of which GPUs: add plan_gpu=H100, say"),
        (["plan_gpu=H100", "plan_ranks=12"], "no whole number of nodes of plan_gpus_per_node=8"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(given: list[str], said: str) -> None:
    with pytest.raises(ValueError) as error:
        load(PretrainSettings, ["data=x", *given])
    assert said in str(error.value) and "\n" not in str(error.value)


def test_more_ranks_than_rows(small: str) -> None:
    with pytest.raises(
        ValueError, match=r"an update has 8 rows .* too few for 16 ranks: set batch_size higher"
    ):
        cluster_plan(_sft(small, plan_ranks=16, batch_size=8), 1)


def test_no_model_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        cluster_plan(_sft(str(tmp_path / "nowhere"), batch_size=8), 1)


def test_a_command_that_does_not_train(small: str) -> None:
    settings = build(SampleSettings, {"prompts": "x", "model": small, "plan_gpu": "H100"})
    with pytest.raises(ValueError, match="plan_gpu is for commands that train"):
        _printed(settings)


def test_whole_is_nothing_that_one_layer_does_not_have() -> None:
    one = Size(1, 0, 0, 0, 10, 4, 6, 2, 1)
    assert whole(one, 2, 2) == (6 + 4) * 2 + (6 + 4) * 2 + 4 * 4
    assert forward_flops(one, 3, 5) == 3 * (2 * 8 + 4 * 1 * 5)


def test_memory_of_what_only_reads_is_a_moment_of_its_own(small: str) -> None:
    frozen = _held(small)
    found = memory([_held(small, trained=True), frozen], torch.bfloat16, 4, None, 1e9)
    assert found.scoring == frozen.part.passes.most.total + (ROOT + 2 * LAYER) * 2
    assert found.total >= found.stays + found.scoring
