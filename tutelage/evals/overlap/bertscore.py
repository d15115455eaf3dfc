"""BERTScore (Zhang et al. 2020, arXiv 1904.09675): how well the tokens of output and reference match as vectors of an encoder.

As the package bert-score 0.3.13 computes it without idf weights and without rescaling: cosines of one layer's hidden states,
each token matched with the best one of the other side; the special tokens at both ends may be matched, but do not count.
A text without tokens scores 0.  Of several references the best one counts, for each of the three numbers by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.evals.overlap.sums import Sums, means
from tutelage.files import sha256_of
from tutelage.hub import hub
from tutelage.models.loading import quiet

NAMES = ("bertscore_precision", "bertscore_recall", "bertscore")
# Kind of model -> its layers -> the layer that bert-score takes: where its authors found the best correlation with people.
LAYERS: dict[str, dict[int, int]] = {
    "bert": {2: 1, 4: 3, 6: 5, 8: 7, 10: 8, 12: 9, 24: 18},
    "roberta": {6: 5, 12: 10, 24: 17},
    "xlm-roberta": {12: 9, 24: 17},
    "distilbert": {6: 5},
    "albert": {12: 9},
    "electra": {12: 9, 24: 14},
    "mpnet": {12: 8},
    "deberta": {12: 9, 24: 16, 48: 18},
}
LONGEST = 512  # tokens, where a tokenizer does not say it
BATCH = 32  # texts of about the same length


class BertScore:
    """BERTScore by the encoder in a folder, or of a hub name; `layer` 0 takes the one in `LAYERS`.

    Raises ValueError where there is no such encoder, or no such layer.
    """

    def __init__(self, model: str, layer: int = 0, device: str = "cpu") -> None:
        import transformers
        from transformers import AutoModel, AutoTokenizer

        with quiet(), nullcontext("") if Path(model).is_dir() else hub() as unreachable:
            try:
                self._tokenizer: Any = AutoTokenizer.from_pretrained(model)
                self._model: Any = AutoModel.from_pretrained(model, dtype=torch.float32).to(device).eval()
            except (OSError, ValueError, KeyError) as error:
                why = (str(error).strip() or type(error).__name__).splitlines()[0]
                why += f", and {unreachable}" if unreachable else ""
                raise ValueError(
                    f"bertscore_model={model} cannot be loaded: {why}: name an encoder"
                ) from error
        self.layer = _layer(model, self._model.config, layer)
        limit = self._tokenizer.model_max_length
        most = getattr(self._model.config, "max_position_embeddings", None) or LONGEST
        self._limit = limit if limit < 10**9 else min(LONGEST, most)  # "not known" is a number of 31 digits
        which = _named(model, self._model.config)
        self.about = (
            f"transformers:{transformers.__version__}|model:{which}|layer:{self.layer}|idf:no|rescaled:no|f1"
        )

    def __call__(self, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> Sums:
        """Precision, recall and F1 of each output."""
        vectors = self._vectors([*outputs, *(text for known in references for text in known)])
        values = []
        for output, known in zip(outputs, references, strict=True):
            each = [_matched(vectors[output.strip()], vectors[text.strip()]) for text in known]
            values.append([max(column) for column in zip(*each, strict=True)])
        return means(NAMES, values, self.about, unit="overlap")

    @torch.no_grad()
    def _vectors(self, texts: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
        """Text -> its tokens' vectors [T, D], of length 1, and which of them count [T]; float32 and bool, on the CPU."""
        special = {self._tokenizer.cls_token_id, self._tokenizer.sep_token_id} - {None}
        found: dict[str, tuple[Tensor, Tensor]] = {}
        ids = {text: self._ids(text) for text in dict.fromkeys(text.strip() for text in texts)}
        order = sorted(ids, key=lambda text: -len(ids[text]))
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            states = self._states([ids[text] for text in part])
            for text, rows in zip(part, states, strict=True):
                kept = rows[: len(ids[text])]
                counted = torch.tensor([token not in special for token in ids[text]], dtype=torch.bool)
                found[text] = kept / kept.norm(dim=-1, keepdim=True), counted
        return found

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, truncation=True, max_length=self._limit))

    def _states(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """The layer's hidden states [B, T, D] of token ids of different lengths."""
        width = max(1, *map(len, rows))
        pad = self._tokenizer.pad_token_id or 0
        device = self._model.device
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
        out = self._model(ids, attention_mask=mask, output_hidden_states=True)
        states: Tensor = out.hidden_states[self.layer].cpu()
        return states


def _matched(output: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor]) -> tuple[float, float, float]:
    """Precision, recall, F1; 0 where one of the two has no token that counts."""
    (ours, counted), (theirs, known) = output, reference
    if not (counted.any() and known.any()):
        return 0.0, 0.0, 0.0
    cosines = ours @ theirs.T
    precision = float(cosines.max(dim=1).values[counted].mean())
    recall = float(cosines.max(dim=0).values[known].mean())
    return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _layer(name: str, config: Any, asked: int) -> int:
    layers = int(config.num_hidden_layers)
    layer = asked or LAYERS.get(config.model_type, {}).get(layers, 0)
    if not layer:
        raise ValueError(
            f"which layer of {name} BERTScore is to use is not known (it is a {config.model_type} of {layers} layers): set "
            "bertscore_layer, for example to three quarters of them"
        )
    if layer > layers:
        raise ValueError(
            f"bertscore_layer={layer}, but {name} has {layers} layers: give one of 1 to {layers}"
        )
    return layer


def _named(model: str, config: Any) -> str:
    """The encoder's name and what it holds: the hash of its folder, or the hub's commit."""
    if Path(model).is_dir():
        return f"{Path(model).resolve().name}@{sha256_of(model)[:12]}"
    return f"{model}@{str(getattr(config, '_commit_hash', None) or 'unknown')[:12]}"
