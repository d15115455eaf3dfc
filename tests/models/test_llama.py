"""Llama by hand against transformers' modules, and its gradient against finite differences."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import transformers as hf
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from tests.models.zoo import CONFIGS, batch_of, build, sequences
from tutelage.models.cpu import kernels, llama
from tutelage.models.cpu import layer as layer_module
from tutelage.models.cpu.compiler import kernels_here
from tutelage.models.decode import Decoding
from tutelage.models.layout import Layout
from tutelage.models.loading import policy_module, scalar_module


def by_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on transformers' modules run."""
    monkeypatch.setattr(llama, "plain_llama", lambda backbone: False)


@pytest.mark.parametrize("trained", ["everything", "ends"])
def test_states_and_gradients_are_those_of_the_modules(trained: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grouped heads, ragged lengths, shared beginnings; with all states read, and with few."""
    parts = sequences()
    parts.append(torch.cat([parts[-1][:4], parts[0]]))
    mask = [torch.arange(len(p)) >= (1 if trained == "everything" else len(p) - 1) for p in parts]
    batch = batch_of(parts, mask)
    model = policy_module(build("llama"), "llama")
    other = copy.deepcopy(model)
    weights = torch.arange(1.0, len(batch.ids) + 1).cos()
    assert llama.plain_llama(model.host.model)
    found, states = model(batch).logprobs, model.hidden_states(batch)
    by_modules(monkeypatch)
    wanted = other(batch).logprobs
    assert (found - wanted).abs().max() < 1e-5
    assert (states - other.hidden_states(batch)).abs().max() < 1e-5
    for logprobs in (found, wanted):
        (logprobs * weights).sum().backward()
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad, atol=2e-5)


def test_gradient_against_finite_differences() -> None:
    """Of the input and of every weight of a layer, in float64, where only some positions go on."""
    model = build("llama").double().model
    layout = Layout((4, 3), shared=(0, 2))
    layer = model.layers[0]
    x = torch.randn(layout.total, 32, dtype=torch.float64, requires_grad=True)
    turn = layer_module.rotation(model, x, layout.positions)
    for read in (None, torch.tensor([1, 4])):
        call = layer_module.call_of(layer, layout, turn, torch.float64, read)
        weights = [w.detach().clone().requires_grad_() for w in layer_module.weights_of(layer)]
        assert torch.autograd.gradcheck(
            lambda x, *w, call=call: layer_module.Layer.apply(x, call, *w), (x, *weights), fast_mode=True
        )


@pytest.mark.parametrize("compiled", [True, False])
def test_bfloat16_is_as_near_to_the_truth_as_the_modules(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under autocast, and with weights in bfloat16 (a frozen reference); in compiled kernels and on torch's operators."""
    if compiled and not kernels_here().library:
        pytest.skip(kernels_here().said)
    exact, parts = policy_module(build("llama"), "llama"), sequences()
    batch = batch_of(parts)
    truth = exact(batch).logprobs
    half = policy_module(build("llama").bfloat16(), "llama")

    def errors() -> list[float]:
        with torch.no_grad():
            with torch.autocast("cpu", dtype=torch.bfloat16):
                cast = exact(batch).logprobs
            return [float((found - truth).abs().mean()) for found in (cast, half(batch).logprobs)]

    monkeypatch.setattr(kernels, "multiplies", lambda dtype: compiled)
    ours = errors()
    by_modules(monkeypatch)
    for mine, theirs in zip(ours, errors(), strict=True):
        assert 0 < mine < 1.2 * theirs


def test_scores_of_a_scalar_model(monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIGS["llama"]()
    config.num_labels = 1
    model = scalar_module(hf.AutoModelForSequenceClassification.from_config(config).eval(), "llama")
    batch = batch_of(sequences())
    found = model(batch, at="ends")
    by_modules(monkeypatch)
    assert torch.allclose(found, model(batch, at="ends"), atol=1e-5)


def test_other_models_keep_their_modules() -> None:
    """An adapter, biases, another activation, another architecture: nothing of theirs may be passed over."""
    assert llama.plain_llama(build("llama").model)
    assert not llama.plain_llama(build("qwen2").model)
    adapted = get_peft_model(build("llama"), LoraConfig(target_modules=["q_proj"], r=2))
    assert not llama.plain_llama(adapted.get_base_model().model)
    for change in ({"attention_bias": True}, {"mlp_bias": True}, {"hidden_act": "gelu"}):
        config = CONFIGS["llama"]()
        config.update(change)
        assert not llama.plain_llama(hf.AutoModelForCausalLM.from_config(config).model)


def hook_forward(model: nn.Module, part: str) -> None:
    model.get_submodule(part).register_forward_hook(lambda module, args, output: None)


def hook_before(model: nn.Module, part: str) -> None:
    model.get_submodule(part).register_forward_pre_hook(lambda module, args: None)


def hook_backward(model: nn.Module, part: str) -> None:
    model.get_submodule(part).register_full_backward_hook(lambda module, inputs, outputs: None)


def hook_before_backward(model: nn.Module, part: str) -> None:
    model.get_submodule(part).register_full_backward_pre_hook(lambda module, outputs: None)


def put_before(model: nn.Module, part: str) -> None:
    """As accelerate does."""
    module = model.get_submodule(part)
    module.forward = module.forward


def subclass(model: nn.Module, part: str) -> None:
    """Another class: what an adapter, a quantised layer and FSDP have in common."""
    module = model.get_submodule(part)
    module.__class__ = type("Other", (type(module),), {})


CHANGES = [hook_forward, hook_before, hook_backward, hook_before_backward, put_before, subclass]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_any_part_is_seen(change: Callable[[nn.Module, str], None]) -> None:
    """Every module of the backbone and the backbone itself; a ModuleList is never called."""
    parts = [name for name, part in build("llama").model.named_modules() if type(part) is not nn.ModuleList]
    assert len(parts) == 1 + 3 + 2 * 13
    for part in parts:
        model = build("llama").model
        assert llama.plain_llama(model)
        change(model, part)
        assert not llama.plain_llama(model), part


class Tagged(Tensor):
    """Stands for a quantised or sharded weight inside an ordinary layer."""


def test_changes_of_weights_are_seen() -> None:
    for part in ("layers.1.mlp.up_proj", "layers.0.self_attn.o_proj", "norm", "embed_tokens"):
        model = build("llama").model
        parametrize.register_parametrization(model.get_submodule(part), "weight", nn.Identity())
        assert not llama.plain_llama(model), part
        model = build("llama").model
        layer = model.get_submodule(part)
        layer._parameters["weight"] = layer.weight.detach().as_subclass(Tagged)
        assert not llama.plain_llama(model), part
    model = build("llama").model
    prune.l1_unstructured(model.layers[0].mlp.up_proj, "weight", 0.5)
    assert not llama.plain_llama(model)
    model = build("llama").model
    model.embed_tokens.max_norm = 1.0
    assert not llama.plain_llama(model)


def test_hooks_of_all_modules_are_seen() -> None:
    model = build("llama").model
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, output: None)
    try:
        assert not llama.plain_llama(model)
    finally:
        handle.remove()
    assert llama.plain_llama(model)


def test_hooks_run_in_training_and_in_decoding() -> None:
    """Registered after the model was loaded, and removed again."""
    module, batch, seen = policy_module(build("llama"), "llama"), batch_of(sequences()), []
    wanted = module(batch).logprobs
    hook = module.host.model.layers[0].mlp.register_forward_hook(
        lambda m, args, output: seen.append(1) or 2 * output
    )
    changed = module(batch).logprobs
    assert seen and not torch.allclose(changed, wanted, atol=1e-3)
    seen.clear()
    with torch.inference_mode():
        Decoding(module, [[3, 4, 5]], 2)
    assert seen
    hook.remove()
    assert torch.equal(module(batch).logprobs, wanted)
    seen.clear()
    module.host.register_forward_pre_hook(lambda m, args: seen.append(1))
    with torch.inference_mode():
        Decoding(module, [[3, 4, 5]], 2)
    assert seen
