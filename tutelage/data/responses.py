"""From responses (text and ids) to tensors: what a policy wrote, as a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tutelage.data.batch import TokenBatch, Tokens
from tutelage.records import Response


def response_tokens(responses: Sequence[Response]) -> list[Tokens]:
    """Each prompt with its response; loss_mask is True on the response (its end included)."""
    sequences = []
    for response in responses:
        ids = np.array(response.prompt_ids + response.ids, dtype=np.int32)
        sequences.append(Tokens(ids, np.arange(len(ids)) >= len(response.prompt_ids)))
    return sequences


def response_batch(responses: Sequence[Response], rows: Sequence[int] | None = None) -> TokenBatch:
    """Prompts with their responses, flat."""
    return TokenBatch.collate(response_tokens(responses), rows)
