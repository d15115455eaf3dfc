"""A way for weights into a vLLM server: a folder of safetensors that trainer and server both see.

It is installed in vLLM's own environment (`pip install tools/vllm_disk`), where vLLM finds it as a plugin, and chosen by

    vllm serve MODEL --weight-transfer-config '{"backend": "tutelage_disk"}'

Written for vLLM 0.32.  Weights come as `save_pretrained` writes them and pass through vLLM's own loader, which shards them.  What
vLLM only warns of is an error here: a parameter that got no value, a name or a shape that is not the model's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

NAME = "tutelage_disk"
UNFIT = "tutelage: "
"""What a message begins with that no second try will help; the trainer reads it."""


@dataclass
class InitInfo(WeightTransferInitInfo):
    """Nothing has to be agreed on."""


@dataclass
class UpdateInfo(WeightTransferUpdateInfo):
    """path: the folder."""

    path: str


class DiskEngine(WeightTransferEngine[InitInfo, UpdateInfo]):
    """Reads weights from a folder."""

    init_info_cls = InitInfo
    update_info_cls = UpdateInfo

    def init_transfer_engine(self, init_info: InitInfo) -> None:
        """Nothing to do."""

    def start_weight_update(self) -> None:
        self._missing = {name for name, _ in self.model.named_parameters()}
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: UpdateInfo) -> None:
        try:
            loaded = self.model.load_weights(_tensors(update_info.path))
        except (OSError, KeyError, ValueError, AssertionError, RuntimeError) as error:
            raise ValueError(f"{UNFIT}{type(error).__name__}: {error}") from error
        self._missing -= set(loaded or self._missing)
        if self._missing and self.model_config.quantization is None:
            raise ValueError(f"{UNFIT}there is no {min(self._missing)} among the new weights")

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)
        self._renew_tied_head()

    def _renew_tied_head(self) -> None:
        """A head that shares the embedding's weights may compute from a packed copy (on CPUs), which vLLM does not renew."""
        head: Any = getattr(self.model, "lm_head", None)
        tied = getattr(self.model_config.hf_text_config, "tie_word_embeddings", False)
        process = getattr(getattr(head, "quant_method", None), "process_weights_after_loading", None)
        if tied and process is not None and self.model_config.quantization is None:
            process(head)

    def shutdown(self) -> None:
        """Nothing is held."""


def _tensors(path: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and value of each tensor in the folder's safetensors."""
    parts = sorted(Path(path).glob("*.safetensors"))
    if not parts:
        raise ValueError(f"there are no safetensors in {path}: does the server see that folder?")
    for part in parts:
        with safe_open(part, framework="pt") as tensors:
            for name in list(tensors.keys()):
                yield name, tensors.get_tensor(name)


def register() -> None:
    """vLLM calls this in each of its processes."""
    if NAME not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(NAME, DiskEngine)
