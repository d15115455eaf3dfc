"""Where generation stops: known here, for our own sampling and for whoever generates from an exported folder."""

from __future__ import annotations

import copy
from typing import Any

from transformers import GenerationConfig, PreTrainedTokenizerBase

from tutelage.data.template import end_token_id

_SAMPLING_ONLY = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")


def end_ids(host: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Every token that ends a response, ascending: the tokenizer's, the chat template's, and those of the transformers
    model `host` itself."""
    found = {end_token_id(tokenizer, chat=False)}
    if tokenizer.chat_template:
        found.add(end_token_id(tokenizer, chat=True))
    for config in (host.config.get_text_config(), host.generation_config):
        ids = getattr(config, "eos_token_id", None)
        found.update(ids if isinstance(ids, list | tuple) else [] if ids is None else [ids])
    return sorted(found)


def generation_config(host: Any, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """The model's own, so that plain `generate` stops at every one of `end_ids`, and valid, so that it can be saved.

    Rows that have ended are filled with the tokenizer's padding token, with its end-of-sequence token where it has none.
    What only matters to sampling is left out where there is none: transformers refuses to write it.
    """
    config: GenerationConfig = copy.deepcopy(host.generation_config)
    config.eos_token_id = end_ids(host, tokenizer)
    pad = tokenizer.pad_token_id
    config.pad_token_id = tokenizer.eos_token_id if pad is None else pad
    if not config.do_sample:
        for name in _SAMPLING_ONLY:
            setattr(config, name, None)
    return config
