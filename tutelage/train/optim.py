"""The optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from tutelage.settings.train import TrainSettings


def make_optimizer(trained: Mapping[str, nn.Module], settings: TrainSettings) -> torch.optim.Optimizer:
    """AdamW over everything trainable, each model at its own peak rate (`TrainSettings.peak_rate`, kept as `peak` of its
    groups); weight decay on matrices only (not on biases, norms, embeddings)."""
    groups: list[dict[str, Any]] = []
    for name, module in trained.items():
        decayed, plain = _by_decay(module)
        shared = {"lr": settings.peak_rate(name), "peak": settings.peak_rate(name)}
        groups += [
            {"params": decayed, "weight_decay": settings.weight_decay, **shared},
            {"params": plain, "weight_decay": 0.0, **shared},
        ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        fused=True,
    )


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every group to `factor` times its peak rate."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["peak"]


def _by_decay(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trainable parameters of a model: those that decay, and the others."""
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            matrix = parameter.ndim >= 2 and id(parameter) not in embeddings
            (decayed if matrix else plain).append(parameter)
    return decayed, plain
