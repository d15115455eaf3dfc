"""Models made ready for their roles: in which dtype, with which adapter, with or without gradient checkpointing.

What is trained in full has weights in float32 (the optimizer needs them); what is frozen is kept in the arithmetic of
the run (bf16 where the device has it): the base under an adapter, the reward model, a teacher.  The reference of a policy that is
trained in full is kept in float32 as well: then both compute the same to the bit, and their KL starts at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from transformers import PreTrainedTokenizerBase

from tutelage.models.loading import (
    fit_embeddings,
    heads_at,
    load_policy,
    load_scalar,
    load_tokenizer,
    stored_dtype,
    take_what_is_known,
)
from tutelage.models.lora import Adapter, add_lora, copy_adapter, load_adapter, read_adapter, share_frozen
from tutelage.models.policy import Hosted, PolicyModule, ScalarModule
from tutelage.models.sharding import in_turn, shard
from tutelage.models.step_head import StepHead
from tutelage.parallel import World

H = TypeVar("H", bound=Hosted)


@dataclass(frozen=True)
class Setup:
    """What the models of a command have in common.

    dtype: of frozen weights.  lora_rank: 0 trains all weights.  checkpointing: layers are computed again in the backward
    pass instead of kept.  world: the ranks over which every model is cut as soon as it is made; None: there is one.
    """

    device: torch.device
    dtype: torch.dtype
    lora_rank: int = 0
    lora_alpha: float = 16.0
    seed: int = 0
    checkpointing: bool = False
    world: World | None = None

    def policy(self, path: str, tokenizer: PreTrainedTokenizerBase) -> PolicyModule:
        """The policy to train: all weights in float32, or with a fresh adapter."""
        with in_turn(self.world):
            module = load_policy(path, dtype=self._base_dtype, device=self._first_device)
            fit_embeddings(module, tokenizer)
            return self.trained(module)

    def reference(self, path: str, tokenizer: PreTrainedTokenizerBase) -> PolicyModule | None:
        """The frozen start of the policy; None with an adapter: switched off, the policy is its own reference."""
        if self.lora_rank:
            return None
        with in_turn(self.world):
            module = load_policy(path, device=self._first_device)
            fit_embeddings(module, tokenizer)
            return self._cut(module.requires_grad_(False))

    def teacher(self, path: str, tokenizer: PreTrainedTokenizerBase) -> PolicyModule:
        """A frozen language model that others learn from, in the arithmetic of the run: it is mostly the largest."""
        with in_turn(self.world):
            module = load_policy(path, dtype=self.dtype, device=self._first_device)
            fit_embeddings(module, tokenizer)
            return self._cut(module.requires_grad_(False))

    def scalar(
        self,
        path: str,
        tokenizer: PreTrainedTokenizerBase,
        heads: int = 1,
        prepare: Callable[[ScalarModule], object] = lambda module: None,
    ) -> ScalarModule:
        """A scalar model to train from a language model, an encoder, or another scalar model; `prepare` may write to its head."""
        with in_turn(self.world):
            module = load_scalar(
                path, dtype=self._base_dtype, device=self._first_device, seed=self.seed, heads=heads
            )
            fit_embeddings(module, tokenizer)
            prepare(module)
            return self.trained(module)

    def reward_model(self, path: str, policy: PolicyModule, base: str) -> ScalarModule:
        """The frozen reward model; on the frozen weights of `policy`, which come from `base`, where it is an adapter on
        the same."""
        adapter, head = self._on_base(path, base), StepHead.at(path)
        heads = head.classes if head else heads_at(path)
        with in_turn(self.world):
            if adapter is None:
                module = load_scalar(
                    path, dtype=self.dtype, device=self._first_device, heads=heads, fresh_head=False
                )
            else:
                module = self._adapted(adapter, path, base, heads)
                take_what_is_known(module, path)
            return self.sharing(module.requires_grad_(False), policy)

    def critic(
        self, path: str, policy: PolicyModule, base: str, reward_model: ScalarModule | None = None
    ) -> ScalarModule:
        """A critic that starts from the reward model at `path`, on the frozen weights of `reward_model` where that is there,
        too; with an adapter of its own where the policy has one."""
        adapter = self._on_base(path, base)
        with in_turn(self.world):
            if adapter is None:
                module = load_scalar(
                    path, dtype=self._base_dtype, device=self._first_device, fresh_head=False
                )
                module = self._with_adapter(module)
            else:
                module = self._adapted(adapter, path, base, heads_at(path))
            return self.sharing(self._checkpointed(module), policy, reward_model)

    @property
    def _base_dtype(self) -> torch.dtype:
        return self.dtype if self.lora_rank else torch.float32

    def trained(self, module: H) -> H:
        """A model that is there already, made ready to be trained."""
        return self._cut(self._checkpointed(self._with_adapter(module)))

    def _with_adapter(self, module: H) -> H:
        if self.lora_rank:
            module = add_lora(module, rank=self.lora_rank, alpha=self.lora_alpha, seed=self.seed)
        return module

    @property
    def _first_device(self) -> torch.device:
        """Where a model lies before it is cut: all of it would not fit where its parts will be."""
        return self.device if self.world is None else torch.device("cpu")

    def _cut(self, module: H) -> H:
        if self.world is not None:
            shard([module], self.world)
        return module

    def sharing(self, module: H, *owners: Hosted | None) -> H:
        """On the frozen weights of those; what is cut over ranks has parts of its own."""
        for owner in owners if self.world is None else ():
            if owner is not None:
                module = share_frozen(owner, module)
        return self._cut(module)

    def _checkpointed(self, module: H) -> H:
        if self.checkpointing:
            module.checkpoint_gradients()
        return module

    def _on_base(self, path: str, base: str) -> Adapter | None:
        """The adapter that stands beside a reward model, if the policy has one, too, and both are on the same base."""
        adapter = read_adapter(Path(path).parent / "adapter") if self.lora_rank else None
        return adapter if adapter and adapter.is_on(base) else None

    def _adapted(self, adapter: Adapter, path: str, base: str, heads: int | None = 1) -> ScalarModule:
        """The reward model at `path` as its adapter on `base`, wherever the copy that it was trained on may be by now."""
        module = load_scalar(base, dtype=self.dtype, device=self._first_device, seed=self.seed, heads=heads)
        fit_embeddings(module, load_tokenizer(path))
        adapted = add_lora(module, rank=adapter.rank, alpha=adapter.alpha, seed=self.seed)
        load_adapter(adapted, adapter.folder)
        return adapted


def finished(module: H, path: str, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype) -> H:
    """A trained model as it is exported in `dtype`: its adapter on the base at `path` as that is stored, which in training
    may have been rounded to the arithmetic of the run; in float32 where `dtype` is another than the base's."""
    if not module.adapted:
        return module
    stored = stored_dtype(path)
    exact = stored if stored == dtype else torch.float32
    if module.dtype == exact:
        return module
    base: Hosted
    if isinstance(module, PolicyModule):
        base = load_policy(path, dtype=exact)
    else:
        base = load_scalar(path, dtype=exact, heads=module.config.num_labels)
        head = StepHead.of(module.config)
        if head is not None:
            head.keep(base)
    fit_embeddings(base, tokenizer)
    config: Any = module.model
    adapter = config.peft_config["default"]
    whole = add_lora(base, rank=adapter.r, alpha=adapter.lora_alpha)
    copy_adapter(module, whole)
    return cast(H, whole)
