"""Weights on their way to servers: what they are told apart by, and the folder that servers read them from."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PreTrainedTokenizerBase

from tutelage.models.loading import save
from tutelage.models.policy import PolicyModule
from tutelage.models.sharding import in_parts, parts

Fingerprint = tuple[int, ...]


def fingerprint(policy: PolicyModule) -> Fingerprint:
    """Of all weights, or of this rank's parts of them: others have another one.

    Of each tensor its bits put together by exclusive or, and its sum (equal changes in an even number of places cancel in the
    first, not in the second).  How often a tensor was written to would be free, but fused optimizers do not count it.
    """
    parameters: list[Any] = [own.to_local() if in_parts(own) else own for _, own in parts(policy)]
    with torch.no_grad():
        bits = [torch.hash_tensor(parameter).view(torch.int64) for parameter in parameters]
        sums = [parameter.sum(dtype=torch.float64).view(torch.int64) for parameter in parameters]
        return tuple(int(one) for one in torch.stack([*bits, *sums]).tolist())


class Way(Protocol):
    """How weights travel."""

    def ready(self, policy: PolicyModule, label: str) -> Mapping[str, Any]:
        """What servers are told so that they find these weights."""
        ...


class Disk:
    """A folder that trainer and servers see under the same path: the newest weights are there, as plain safetensors.

    dtype: in which they are written.  They are whole: an adapter is merged into a copy.
    """

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype) -> None:
        self.folder = folder.absolute()
        self._tokenizer, self._dtype = tokenizer, dtype

    def ready(self, policy: PolicyModule, label: str) -> Mapping[str, Any]:
        """Write them, and remove those before.  Raises OSError where the disk refuses."""
        own = self.folder / label
        save(policy, self._tokenizer, own, self._dtype)
        for part in own.rglob("*"):
            part.chmod(0o755 if part.is_dir() else 0o644)  # servers may run under another user's name
        own.chmod(0o755)
        for other in self.folder.iterdir():
            if other.is_dir() and other != own:
                shutil.rmtree(other, ignore_errors=True)
        return {"path": str(own)}


def new_label() -> str:
    """What the labels of one process begin with, and nobody else's do: a server that has such weights got them from here."""
    return secrets.token_hex(4)
