"""Plans for many GPUs beside what public runs have published: `python -m benchmarks.cluster_plan`.

Prints the table of docs/cluster-plan.md, which says where every figure stands.  Only shapes of models are needed.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig

from tutelage.settings.base import build
from tutelage.settings.train import PretrainSettings
from tutelage.train.cluster.plan import ClusterPlan, cluster_plan

SHAPES = {  # vocabulary, width, MLP, layers, heads, heads of keys
    "Llama 2 7B": (32000, 4096, 11008, 32, 32, 32),
    "Llama 2 13B": (32000, 5120, 13824, 40, 40, 40),
    "Llama 2 70B": (32000, 8192, 28672, 80, 64, 8),
    "Llama 3 8B": (128256, 4096, 14336, 32, 32, 8),
    "Llama 3 70B": (128256, 8192, 28672, 80, 64, 8),
}


@dataclass(frozen=True)
class Published:
    """rows: of `length` tokens, on each GPU at once.  again: which layers are computed again (no, some, all).  network: of a
    node, Gbit/s (0: as NVIDIA builds them).  speed: trained tokens/s per GPU.  gib: of a GPU.  memory: taken, GiB."""

    who: str
    model: str
    gpu: str
    ranks: int
    rows: int
    length: int
    again: str
    speed: float
    network: float = 0
    gib: float = 0
    memory: float = 0


RUNS = (
    Published("IBM/Meta 2024", "Llama 2 70B", "A100-80", 128, 2, 4096, "all", 370, network=400),
    Published("IBM/Meta 2024", "Llama 2 70B", "H100", 96, 2, 4096, "all", 800, network=800),
    Published("torchtitan 2024-06", "Llama 3 70B", "A100-80", 64, 1, 8192, "all", 331),
    Published("torchtitan 2024-06", "Llama 2 70B", "A100-80", 64, 2, 4096, "all", 353),
    Published("torchtitan 2024-12", "Llama 3 8B", "H100", 8, 2, 8192, "some", 5762, gib=94, memory=82.4),
    Published("torchtitan 2024-12", "Llama 3 8B", "H100", 128, 2, 8192, "some", 5605, gib=94, memory=67.0),
    Published("torchtitan 2024-06", "Llama 3 8B", "A100-80", 64, 1, 8192, "some", 2973),
    Published("torchtitan 2024-06", "Llama 2 13B", "A100-80", 64, 2, 4096, "no", 2162),
    Published("IBM/Meta 2024", "Llama 2 7B", "A100-80", 128, 2, 4096, "no", 3700, network=400),
    Published("IBM/Meta 2024", "Llama 2 7B", "H100", 96, 2, 4096, "no", 7500, network=800),
)


def planned(run: Published, again: bool) -> ClusterPlan:
    """What is planned for such a run."""
    vocabulary, width, inner, layers, heads, shared = SHAPES[run.model]
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        max_position_embeddings=run.length,
        tie_word_embeddings=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        given: dict[str, Any] = {
            "data": "none",
            "model": folder,
            "batch_size": run.rows * run.ranks,
            "max_length": run.length,
            "micro_batch_tokens": run.rows * run.length,
            "gradient_checkpointing": "on" if again else "off",
            "plan_gpu": run.gpu,
            "plan_ranks": run.ranks,
            "plan_network": run.network,
            "plan_gib": run.gib,
        }
        return cluster_plan(build(PretrainSettings, given), 1, narrow=True)


def main() -> None:
    table = Table("run", "model", "GPUs", "rows", "computed again", "published", "planned", "error", "memory")
    for run in RUNS:
        for again in {"no": [False], "all": [True], "some": [False, True]}[run.again]:
            found = planned(run, again)
            speed = found.tokens_per_second
            taken = f"{found.memory.total / 2**30:.1f} GiB" + (f" ({run.memory:g})" if run.memory else "")
            table.add_row(
                run.who,
                run.model,
                f"{run.ranks} x {run.gpu}",
                f"{run.rows} x {run.length}",
                f"{run.again}, planned {'all' if again else 'no'}",
                f"{run.speed:,.0f}",
                f"{speed:,.0f}",
                f"{100 * (speed / run.speed - 1):+.0f} %",
                taken,
            )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
