"""The other side: TRL's trainers on the same models and rows, held at the end of every step until their next turn.

`TRL_PYTHON -m benchmarks.peer_trl WORK VARIANT` in an environment with TRL 1.x (PPO: 1.12 at the latest, the last that
has a PPO trainer).  Nothing of tutelage is imported.  TRL runs at its fastest setting that was found, not at its
default: weights in bfloat16 (SFT and reward at M: autocast), no gradient checkpointing, batches of similar length, and
for PPO one rollout batch.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
    TrainerCallback,
)

from benchmarks.turns import Turns
from benchmarks.work import KL_COEF, PPO_EPOCHS, Work, variety

AUTOCAST = {(case, "M") for case in ("sft", "sft_ragged", "reward", "reward_ragged")}
"""Where autocast over float32 weights is the faster of the two."""

FLOAT32 = {(case, size) for case in ("generation", "rloo", "grpo") for size in ("XS", "S")}
"""Where float32 is: the products are too small to pay for bfloat16."""


class Pace(TrainerCallback):
    """Waits for the next turn at the end of every step."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def on_step_end(self, *args: object, **kwargs: object) -> None:
        self._turns.wait()


class Peer:
    """What every case needs of TRL."""

    def __init__(self, work: Work, variant: str, turns: Turns) -> None:
        self.work, self.variant, self.turns = work, variant, turns
        lines = work.data.read_text(encoding="utf-8").splitlines()
        self.rows: list[dict[str, str]] = [json.loads(line) for line in lines]
        self.tokenizer: Any = AutoTokenizer.from_pretrained(work.policy, padding_side="left")
        here = (work.case, work.size)
        half = work.precision == "bf16"
        self.autocast = half and here in AUTOCAST
        self.dtype = torch.bfloat16 if half and here not in AUTOCAST | FLOAT32 else torch.float32

    def policy(self) -> Any:
        return AutoModelForCausalLM.from_pretrained(self.work.policy, dtype=self.dtype)

    def scalar(self) -> Any:
        return AutoModelForSequenceClassification.from_pretrained(
            self.work.scalar, num_labels=1, dtype=self.dtype
        )

    def options(self, **more: Any) -> dict[str, Any]:
        """Settings that all trainers share."""
        return {
            "output_dir": f"{self.work.folder}/trl-{self.work.case}-{self.work.size}",
            "per_device_train_batch_size": self.work.kind.rows,
            "gradient_checkpointing": False,
            "bf16": self.autocast,
            "use_cpu": True,
            "learning_rate": 1e-6,
            "lr_scheduler_type": "constant",
            "logging_steps": 10_000,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "seed": 0,
        } | more

    def train(self, trainer: type, model: Any, config: Any, rows: list[dict[str, Any]], **more: Any) -> None:
        """Build the trainer and run it."""
        callbacks = [Pace(self.turns)]
        data = Dataset.from_list(rows)
        trainer(
            model=model,
            args=config,
            train_dataset=data,
            processing_class=self.tokenizer,
            callbacks=callbacks,
            **more,
        ).train()


def generation(peer: Peer) -> None:
    """`transformers.generate`, through which TRL's trainers sample."""
    model, kind = peer.policy().eval(), peer.work.kind
    config = GenerationConfig(
        max_new_tokens=kind.response, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=0
    )
    for step in range(peer.work.steps):
        texts = [row["prompt"] for row in peer.rows[step * kind.rows :][: kind.rows]]
        encoded = peer.tokenizer(texts, return_tensors="pt", padding=True)
        inputs = {name: encoded[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            made = model.generate(**inputs, generation_config=config)
        assert made.shape[1] == kind.length, "no response ends early"
        peer.turns.wait()


def sft(peer: Peer) -> None:
    from trl import SFTConfig, SFTTrainer

    options = peer.options(max_steps=peer.work.steps, max_length=peer.work.kind.length)
    if (
        peer.work.kind.ragged
    ):  # its trainers of pairs cannot: their rows have no `input_ids` that tell a length
        options["train_sampling_strategy"] = "group_by_length"
    rows = [{"text": row["prompt"] + row["completion"]} for row in peer.rows]
    peer.train(SFTTrainer, peer.policy(), SFTConfig(**options), rows)


def reward(peer: Peer) -> None:
    from trl import RewardConfig, RewardTrainer

    options = peer.options(max_steps=peer.work.steps, max_length=peer.work.kind.length)
    config = RewardConfig(**options)
    rows = [{side: row["prompt"] + row[side] for side in ("chosen", "rejected")} for row in peer.rows]
    peer.train(RewardTrainer, peer.scalar(), config, rows)


def dpo(peer: Peer) -> None:
    from trl import DPOConfig, DPOTrainer

    config = DPOConfig(
        **peer.options(
            max_steps=peer.work.steps,
            max_length=peer.work.kind.length,
            precompute_ref_log_probs=peer.variant != "reference every step",
            beta=0.1,
        )
    )
    peer.train(DPOTrainer, peer.policy(), config, list(peer.rows), ref_model=peer.policy())


def ppo(peer: Peer) -> None:
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    kind = peer.work.kind
    config = PPOConfig(
        **peer.options(
            total_episodes=kind.rows * peer.work.steps,
            gradient_accumulation_steps=1,
            num_mini_batches=1,
            num_ppo_epochs=PPO_EPOCHS,
            local_rollout_forward_batch_size=kind.rows,
            response_length=kind.response,
            temperature=1.0,
            num_sample_generations=0,
        )
    )
    rows = [{"input_ids": peer.tokenizer(row["prompt"]).input_ids} for row in peer.rows]
    models = {"ref_model": peer.policy(), "reward_model": peer.scalar(), "value_model": peer.scalar()}
    peer.train(PPOTrainer, peer.policy(), config, rows, **models)


def rloo(peer: Peer) -> None:
    from trl import RLOOConfig, RLOOTrainer

    config = RLOOConfig(**online(peer))
    peer.train(RLOOTrainer, peer.policy(), config, list(peer.rows), reward_funcs=variety)


def grpo(peer: Peer) -> None:
    from trl import GRPOConfig, GRPOTrainer

    config = GRPOConfig(**online(peer), loss_type="grpo")
    peer.train(GRPOTrainer, peer.policy(), config, list(peer.rows), reward_funcs=variety)


def online(peer: Peer) -> dict[str, Any]:
    """Settings of a step that samples, scores and learns once."""
    kind = peer.work.kind
    return peer.options(
        max_steps=peer.work.steps,
        per_device_train_batch_size=kind.rows * kind.samples,
        num_generations=kind.samples,
        max_completion_length=kind.response,
        temperature=1.0,
        beta=KL_COEF[peer.work.case],
    )


STEPS = {
    "generation": generation,
    "sft": sft,
    "sft_ragged": sft,
    "reward": reward,
    "reward_ragged": reward,
    "dpo": dpo,
    "dpo_ragged": dpo,
    "ppo": ppo,
    "rloo": rloo,
    "grpo": grpo,
}


def main() -> None:
    """Entry point of the process."""
    turns = Turns()
    work = Work.from_json(sys.argv[1])
    if work.threads:
        torch.set_num_threads(work.threads)
    STEPS[work.case](Peer(work, sys.argv[2], turns))


if __name__ == "__main__":
    main()
