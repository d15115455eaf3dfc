"""Models and tokenizers from a folder or the hub, ready for flat forwards, and back into a plain folder."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import logging as hf_logging

from tutelage.files import folder_atomic, recover
from tutelage.hub import hub
from tutelage.models.ends import generation_config
from tutelage.models.forward import Traits
from tutelage.models.lora import KNOWN_OF_SCORES, merged
from tutelage.models.policy import EncoderModule, Hosted, PolicyModule, Pooling, ScalarModule
from tutelage.models.probe import find_traits, imagined_traits, rope_limit
from tutelage.seeds import torch_generator

PAD = "<|pad|>"
Source = str | Path | PreTrainedConfig
HeadsOf = Literal["groups", "criteria"]
"""Where a model is (a folder, or its name on the hub), or what it would be."""

SPECIMEN = """Don't split the  difference: 1,234.5 naïve cafés, cafe\u0301s & Größen (ß); x_1 += f(y)[-2]  # TODO
\tHEIGHTS\r\nof 10\u202f000 m — “really?” ... ½ ﬁne, 你好，世界 Привет مرحبا नमस्ते 🙂👩‍🔬 unbelievably"""
"""Text on which tokenizers part: case, spaces, digits, accents in both forms, marks, code, scripts without spaces."""

TRANSCRIPT = (
    "{{ bos_token }}{% for turn in messages %}{{ turn['role'] + ': ' + turn['content'] }}"
    "{% if turn['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
"""How an encoder, which has no template of its own, reads a conversation."""

KNOWN_PADS = (PAD, "<pad>", "[PAD]", "<|padding|>", "<|finetune_right_pad_id|>")


def load_policy(
    path: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> PolicyModule:
    """A causal language model by folder or hub name, dropout 0, prepared for flat forwards.

    Raises ValueError (one sentence) when there is no model at `path`, when it is not a causal language model, or
    when its logits are computed in a way that log-probs cannot follow.
    """
    model, info = _load(AutoModelForCausalLM, path, dtype)
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise ValueError(
            f"The checkpoint at {path} lacks weights of a language model ({missing}); is it complete?"
        )
    return policy_module(_moved(model, device), str(path))


def load_untrained(
    path: str | Path, *, seed: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> PolicyModule:
    """A language model of the shape of the one at `path`, with fresh weights as transformers draws them, from `seed` alone.

    Raises ValueError when there is no language model at `path`.
    """
    config = _config(path)
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(torch_generator(seed, "untrained").initial_seed())
        try:
            _refuse_scalar(config, path)
            without_dropout(config)
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(dtype)
        except (ValueError, KeyError, ImportError) as error:
            raise ValueError(_cannot_load("model", path, error, "")) from error
    return policy_module(_moved(model, device), str(path))


def load_scalar(
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
    heads: int | None = None,
    fresh_head: bool = True,
) -> ScalarModule:
    """A model with `heads` numbers per sequence or token (reward model, critic; None: as many as it has, else one), dropout 0,
    prepared for flat forwards; from an encoder (BERT, RoBERTa, ModernBERT) an `EncoderModule`.

    A scalar checkpoint comes with its head. From a causal language model the backbone is taken and the head is fresh:
    N(0, 1/(d+1)) (standard deviation 1/sqrt(d+1)) drawn from `seed`, no bias; from an encoder as transformers makes it, drawn
    from `seed`.  ValueError where none may be (`fresh_head`).
    """
    known = heads_at(path)
    model, info = _load(AutoModelForSequenceClassification, path, dtype, seed, num_labels=heads or known or 1)
    head = getattr(model, "score", None)
    encodes = is_encoder(model)
    if not (isinstance(head, nn.Linear) or encodes):
        raise ValueError(
            f"The model at {path} ({type(model).__name__}) has no linear head named score, and is no encoder; use another one."
        )
    fresh = {name for name in info["missing_keys"] if _of_head(model, name)}
    if info["missing_keys"] - fresh:
        missing = ", ".join(sorted(info["missing_keys"] - fresh)[:3])
        raise ValueError(f"The checkpoint at {path} lacks weights of the model ({missing}); is it complete?")
    if fresh and not fresh_head:
        raise ValueError(
            f"The model at {path} is no reward model, for it has no head that scores: train one with tutelage reward."
        )
    if encodes:
        return EncoderModule(_moved(model.eval(), device), Traits(flat=False))
    if fresh:
        assert isinstance(head, nn.Linear)
        std = (head.in_features + 1) ** -0.5
        noise = torch.empty(head.weight.shape).normal_(
            0.0, std, generator=torch_generator(seed, "score head")
        )
        with torch.no_grad():
            head.weight.copy_(noise)
    return scalar_module(_moved(model, device), str(path))


def is_encoder(model: PreTrainedModel) -> bool:
    """Whether a sequence classifier reads both ways and has a head of its own kind (BERT and its relatives)."""
    masked = model.config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return masked and not model.config.is_encoder_decoder and hasattr(model, "classifier")


def heads_at(path: str | Path) -> int | None:
    """How many numbers the scalar model at `path` gives; None where it is none (its config does not say: a language model)."""
    config = _config(path)
    scalar = any("ForSequenceClassification" in name for name in config.architectures or ())
    return int(config.num_labels) if scalar else None


def _of_head(model: PreTrainedModel, name: str) -> bool:
    """Whether a weight belongs to the head of a sequence classifier: it is outside of the backbone, or pools its states."""
    return not name.startswith(f"{model.base_model_prefix}.") or ".pooler." in name


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer beside a model.

    An encoder's has [CLS] and [SEP]: these begin and end a sequence.  One without padding token, or that pads with EOS, takes a
    known one of its vocabulary where there is one. None is added: nothing here is padded. Raises ValueError when there is no
    tokenizer or it has no EOS.
    """
    source = _source(path)
    with quiet(), _reaching(source) as unreachable:
        try:
            tokenizer = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ValueError(_cannot_load("tokenizer", path, error, unreachable)) from error
    if tokenizer.eos_token_id is None and tokenizer.sep_token_id is not None:
        tokenizer.bos_token, tokenizer.eos_token = tokenizer.cls_token, tokenizer.sep_token
        tokenizer.chat_template = tokenizer.chat_template or TRANSCRIPT
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"The tokenizer at {path} has no end-of-sequence token; set eos_token in its tokenizer_config.json."
        )
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        vocabulary = tokenizer.get_vocab()
        known = next((token for token in KNOWN_PADS if token in vocabulary), None)
        if known is not None:
            tokenizer.pad_token = known
    return tokenizer


def same_tokenizer(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether a model with one tokenizer reads the token ids of the other as they are meant.

    Both must have the same pieces under the same ids, and cut text into the same ones.  Embeddings say nothing about it:
    their rows may be padded.
    """
    if one.get_vocab() != other.get_vocab():
        return False
    ids, others = (each(SPECIMEN, add_special_tokens=False)["input_ids"] for each in (one, other))
    return bool(ids == others)


def context_of(module: Hosted) -> int | None:
    """The most tokens that the model takes at once; None where it sets no limit."""
    return _context(module.config)


def context_at(source: Source) -> int | None:
    """`context_of` a model, without its weights. Raises ValueError when there is no such model."""
    return _context(config_of(source))


def config_of(source: Source) -> PreTrainedConfig:
    """What the model is, without its weights. Raises ValueError when there is no such model."""
    return source if isinstance(source, PreTrainedConfig) else _config(source)


def imagine(
    source: Source, *, scalar: bool, dtype: torch.dtype = torch.float32, layers: int | None = None
) -> PolicyModule | ScalarModule:
    """A model as `load_policy` or `load_scalar` gives it, from its config alone: call this inside `memory.imagining`.

    layers: with so many instead of its own.  Raises ValueError when there is no such model.
    """
    config = copy.deepcopy(config_of(source))
    if scalar:
        config.num_labels = 1
    without_dropout(config)
    text = config.get_text_config()
    if layers is not None:
        text.num_hidden_layers = layers
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[:layers]
    kind = AutoModelForSequenceClassification if scalar else AutoModelForCausalLM
    try:
        model = kind.from_config(config, dtype=dtype).eval()
    except (ValueError, KeyError, ImportError) as error:
        raise ValueError(_cannot_load("model", str(source), error, "")) from error
    if scalar and is_encoder(model):
        return EncoderModule(model, Traits(flat=False))
    return (ScalarModule if scalar else PolicyModule)(model, imagined_traits(model))


def fit_embeddings(module: Hosted, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give every token of the tokenizer an embedding; new rows are the mean of the old ones. Sets the padding id.

    That is None where the tokenizer has no padding token of its own: with EOS for it, transformers would read a scalar
    model's score before the end.
    """
    model = module.host
    old = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > old:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            if layer is not None:
                with torch.no_grad():
                    layer.weight[old:] = layer.weight[:old].float().mean(0).to(layer.weight.dtype)
    pad = tokenizer.pad_token_id
    model.config.pad_token_id = None if pad == tokenizer.eos_token_id else pad


def policy_module(model: PreTrainedModel, name: str) -> PolicyModule:
    """A causal language model as a unit: in eval mode, its traits found out (which sets its attention).

    `name` is for error messages.
    """
    return PolicyModule(model, find_traits(model.eval(), name))


def scalar_module(model: PreTrainedModel, name: str) -> ScalarModule:
    """The same for a model with a scalar head."""
    return ScalarModule(model, find_traits(model.eval(), name))


def save(
    module: Hosted,
    tokenizer: PreTrainedTokenizerBase,
    folder: str | Path,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a folder that plain `from_pretrained` loads, atomically: safetensors, config, tokenizer, chat template.

    An adapter is merged into a copy of the weights. They are written in `dtype` (default: as they are); those in memory stay
    as they are. A language model's generation_config lists every end at which our own sampling stops. Raises OSError naming
    the folder when it cannot be written, ValueError when a weight is too large for `dtype`.
    """
    model = merged(module)
    if dtype is not None and any(parameter.dtype != dtype for parameter in model.parameters()):
        model = _in_dtype(model, dtype)
    with folder_atomic(folder) as partial, quiet(), _ending_as_here(model, tokenizer):
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
    return Path(folder)


def _in_dtype(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """A copy with its parameters in `dtype` on the CPU; what is tied stays tied."""
    rounded: dict[int, Any] = {}  # what deepcopy takes instead of copying: no second copy in the old dtype
    for name, parameter in model.named_parameters():
        values = parameter.detach().to("cpu", dtype)
        if not values.isfinite().all() and parameter.isfinite().all():
            raise ValueError(
                f"{name} has values beyond the range of {dtype}, so the model cannot be written in it: choose another "
                "export_dtype. The checkpoints of the run hold it in float32."
            )
        rounded[id(parameter)] = nn.Parameter(values, requires_grad=False)
    return copy.deepcopy(model, rounded)


@contextmanager
def _ending_as_here(model: Any, tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Inside, the model has the generation config of an export; one that generates nothing stays without."""
    own = model.generation_config if model.can_generate() else None
    if own is None:
        yield
        return
    model.generation_config = generation_config(model, tokenizer)
    try:
        yield
    finally:
        model.generation_config = own


def stored_dtype(path: str | Path) -> torch.dtype:
    """In which dtype the weights at `path` are stored, as its config says; float32 where it does not."""
    dtype: torch.dtype | None = getattr(_config(path), "dtype", None)
    return dtype or torch.float32


def score_normalisation(module: Hosted) -> tuple[float, float] | None:
    """(mean, standard deviation) of the scores on reference responses, from the model's config; None when not set."""
    return _normalisation(module.config)


def take_what_is_known(module: Hosted, path: str | Path) -> None:
    """Put what the scalar model at `path` knows of its scores (their spread, its heads) into the config of `module`."""
    source, target = _config(path), module.config
    for name, known in vars(source).items():
        if name.startswith(KNOWN_OF_SCORES):
            setattr(target, name, known)
    target.id2label, target.label2id = source.id2label, source.label2id


def _normalisation(config: Any) -> tuple[float, float] | None:
    mean, std = (getattr(config, f"tutelage_score_{name}", None) for name in ("mean", "std"))
    return None if mean is None or std is None else (float(mean), float(std))


def set_score_normalisation(module: Hosted, mean: float, std: float) -> None:
    """Store the scores' mean and standard deviation in the config, so that they travel with the checkpoint."""
    assert std > 0, "the standard deviation of scores is positive"
    config = module.config
    config.tutelage_score_mean, config.tutelage_score_std = float(mean), float(std)


def set_pooling(module: Hosted, pooling: Pooling) -> None:
    """Say in the config how a reward model's states become a score.  With mean, plain transformers reads it as a token
    classifier, whose logits at the tokens of the response have the score as their mean.

    Raises ValueError for an encoder, whose head pools in its own way.
    """
    config = module.config
    if pooling == "mean" and isinstance(module, EncoderModule):
        raise ValueError(
            "pooling=mean is for models that read from left to right: an encoder's head pools already, so leave it out."
        )
    if pooling == "mean":
        config.tutelage_score_pooling = pooling
        config.token_classification_bias = False  # the head has none
    elif hasattr(config, "tutelage_score_pooling"):  # it starts from a reward model that had the other
        del config.tutelage_score_pooling


def name_heads(
    module: Hosted, names: Sequence[str], weights: Sequence[float] = (), of: HeadsOf = "groups"
) -> None:
    """Say in the config what each head of a scalar model is for, and what it counts in the score (no weights: all alike);
    nothing where `names` is empty: it has one."""
    if names:
        module.config.tutelage_heads = of
        module.config.id2label = dict(enumerate(names))
        module.config.label2id = {name: number for number, name in enumerate(names)}
        module.config.tutelage_head_weights = list(weights or [1.0] * len(names))


def heads_are_of(module: Hosted) -> HeadsOf:
    """What the heads stand for; earlier versions did not say."""
    found: HeadsOf = getattr(module.config, "tutelage_heads", "groups")
    return found


def one_score(module: Hosted, scores: torch.Tensor) -> torch.Tensor:
    """[..., k] -> [...]: what the heads of a scalar model say together, their mean by weight."""
    known = getattr(module.config, "tutelage_head_weights", None) or [1.0] * scores.shape[-1]
    weights = scores.new_tensor(known)
    return scores @ (weights / weights.abs().sum())


def head_names(module: Hosted) -> list[str]:
    """What the heads are for; [] where there is one, which needs no name."""
    config = module.config
    return [config.id2label[number] for number in range(config.num_labels)] if config.num_labels > 1 else []


def _moved(model: Any, device: torch.device | str) -> PreTrainedModel:
    return model.to(device)


def _load(
    kind: Any, path: str | Path, dtype: torch.dtype, seed: int = 0, **options: Any
) -> tuple[PreTrainedModel, dict[str, set[str]]]:
    source = _source(path)
    config = _config(path, **options)
    with (
        quiet(),
        _reaching(source) as unreachable,
        torch.random.fork_rng(devices=[]),
    ):
        torch.default_generator.manual_seed(
            torch_generator(seed, "missing weights").initial_seed()
        )  # transformers fills them from the global state
        try:
            if kind is AutoModelForCausalLM:
                _refuse_scalar(config, path)
            without_dropout(config)
            model, info = kind.from_pretrained(source, config=config, dtype=dtype, output_loading_info=True)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise ValueError(_cannot_load("model", path, error, unreachable)) from error
    return model, info


def _config(path: str | Path, **options: Any) -> Any:
    source = _source(path)
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise ValueError(
            f"The folder {path} holds no model: there is no config.json in it or in its folder model."
        )
    with quiet(), _reaching(source) as unreachable:
        try:
            return AutoConfig.from_pretrained(source, **options)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ValueError(_cannot_load("model", path, error, unreachable)) from error


def _context(config: Any) -> int | None:
    limits = getattr(config.get_text_config(), "max_position_embeddings", None), rope_limit(config)
    return min((limit for limit in limits if limit is not None), default=None)


def _refuse_scalar(config: Any, path: str | Path) -> None:
    if any("ForSequenceClassification" in name for name in config.architectures or ()):
        raise ValueError("it holds a scalar model (a reward model or critic), not a language model")


def _source(path: str | Path) -> str:
    """A folder as it is, or a hub name; a run folder stands for the model in it."""
    folder = recover(path)
    if (recover(folder / "model") / "config.json").is_file():
        return str(folder / "model")
    local = str(path).startswith((".", "/", "~")) or str(path).count("/") > 1 or folder.is_absolute()
    if not folder.is_dir() and local:
        raise ValueError(
            f"There is no folder {path}; give a folder with a model or the name of one on the hub."
        )
    return str(path)


def without_dropout(config: Any) -> None:
    """Set every dropout rate of a config, and of the configs in it, to 0."""
    for name, value in list(vars(config).items()):
        if hasattr(value, "to_dict"):
            without_dropout(value)
        elif "drop" in name and isinstance(value, float | int) and not isinstance(value, bool):
            setattr(config, name, 0.0)


def _reaching(source: str) -> AbstractContextManager[str]:
    """Why the hub cannot be asked for `source`; "" when it can, or when `source` is a folder."""
    return nullcontext("") if Path(source).is_dir() else hub()


def _cannot_load(what: str, path: str | Path, error: Exception, unreachable: str) -> str:
    """One sentence: why the hub cannot be asked, or the first one of transformers' explanation."""
    why = " ".join(str(error).split()).split(". ")[0].rstrip(".")
    if Path(path).is_dir():
        return f"Cannot load a {what} from {path} ({why}); check that all its files are there and whole."
    if unreachable and isinstance(error, OSError):
        return (
            f"There is no folder {path}, no {what} of that name was downloaded before, and the hub cannot be asked "
            f"({unreachable}); check the name and the network, or give a folder."
        )
    return f"There is no folder {path}, and no {what} of that name on the hub can be had ({why}); check the name."


@contextmanager
def quiet() -> Iterator[None]:
    """transformers prints progress bars and advice while loading; what matters comes back as errors here."""
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()
