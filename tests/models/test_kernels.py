"""The compiled kernels against the layer on torch's operators in float64, and how they are built."""

from __future__ import annotations

import dataclasses
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from rich.console import Console
from torch import Tensor

from tests.models.zoo import batch_of, build, sequences
from tests.train.making import make_model, make_tokenizer
from tutelage import demo
from tutelage.launch import launch
from tutelage.models import decode
from tutelage.models.cpu import compiler, kernels, llama
from tutelage.models.cpu import rows as llama_rows
from tutelage.models.cpu.compiler import kernels_here, use
from tutelage.models.cpu.layer import Call, Layer, call_of, rotation, weights_of
from tutelage.models.decode import Decoding
from tutelage.models.layout import Layout
from tutelage.models.loading import policy_module, save
from tutelage.settings.pipeline import DemoSettings
from tutelage.settings.train import SFTSettings

ON_X86 = sys.platform.startswith("linux") and platform.machine() == "x86_64"
PROCESSORS = [
    "native",
    *(pytest.param(name, marks=pytest.mark.slow) for name in (("haswell", "x86-64") if ON_X86 else ())),
]  # 16 and 8 numbers at once, and 8 in two halves


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """What is built with other flags or an odd compiler is forgotten afterwards."""
    yield
    compiler._built.cache_clear()
    use("auto")


@pytest.fixture(params=PROCESSORS)
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    flags = [flag.replace("=native", f"={request.param}") for flag in compiler.FLAGS]
    monkeypatch.setattr(compiler, "FLAGS", flags)
    compiler._built.cache_clear()
    if not kernels_here().library:
        pytest.skip(kernels_here().said)
    return str(request.param)


SHAPES = {  # heads, heads of keys, width, size of a head, inner; lengths of sequences
    "grouped heads, nothing a multiple of a vector": ((6, 2, 42, 10, 70), (100, 33, 7, 150)),
    "a plain model": ((4, 4, 128, 32, 96), (64, 64, 1)),
    "one head for all, wide": ((3, 1, 51, 64, 200), (17, 300)),
}


def model_of(heads: int, shared: int, width: int, size: int, inner: int) -> hf.LlamaModel:
    torch.manual_seed(0)
    config = hf.LlamaConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=1,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        head_dim=size,
        vocab_size=8,
    )
    return hf.LlamaModel(config)


def case(
    model: hf.LlamaModel, layout: Layout, read: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Call, list[Tensor]]:
    """Input, call and weights of a layer, drawn in float64, in `dtype`; weights are large enough for softmax to be sharp."""
    draw = torch.Generator().manual_seed(1)
    layer = model.layers[0]
    x = torch.randn(layout.total, model.config.hidden_size, generator=draw, dtype=torch.float64)
    weights = []
    for weight in weights_of(layer):
        size = 1.0 if weight.dim() == 1 else 2.0 * weight.shape[1] ** -0.5
        weights.append(torch.randn(weight.shape, generator=draw, dtype=torch.float64) * size)
    by = rotation(model, x, layout.positions).to(torch.promote_types(dtype, torch.complex64))
    tensors = [t.float().to(dtype).requires_grad_() for t in (x, *weights)]
    return tensors[0], call_of(layer, layout, by, dtype, read), tensors[1:]


def results(
    kind: type[torch.autograd.Function],
    model: hf.LlamaModel,
    layout: Layout,
    read: Tensor | None,
    dtype: torch.dtype,
    products: torch.dtype | None = None,
) -> list[Tensor]:
    """What comes out, and the gradients of the input and of every weight; products: their dtype, where it is another one."""
    x, call, weights = case(model, layout, read, dtype)
    call = dataclasses.replace(call, dtype=products or dtype)
    out = kind.apply(x, call, *weights)
    towards = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    out.backward(towards.to(dtype))
    return [out.detach(), *(t.grad for t in (x, *weights))]


def layouts(lengths: tuple[int, ...]) -> list[tuple[Layout, Tensor | None]]:
    """Sequences and what is read of them; also such as share beginnings, of which few states are read, or none."""
    shared = Layout((9, 80, 120, 70, 5), shared=(0, 4, 60, 60, 0))
    reads = None, torch.tensor([3, 0, 40, 119, 83]), torch.tensor([], dtype=torch.long)
    return [(Layout(lengths), None), *((shared, read) for read in reads)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_layer_and_its_gradients_are_those_in_float64(shape: str, processor: str) -> None:
    """As near as torch's operators in float32 come."""
    sizes, lengths = SHAPES[shape]
    model = model_of(*sizes)
    for layout, read in layouts(lengths):
        truth = results(Layer, model, layout, read, torch.float64)
        usual = results(Layer, model, layout, read, torch.float32)
        found = results(kernels.Layer, model, layout, read, torch.float32)
        for exact, theirs, mine in zip(truth, usual, found, strict=True):
            assert mine.shape == exact.shape
            allowed = 2 * (theirs - exact).norm() + 2e-7 * exact.norm()
            assert (mine - exact).norm() <= allowed <= 1e-4 * exact.norm()


@pytest.mark.parametrize("shape", SHAPES)
def test_with_products_in_bfloat16_it_is_as_near_to_them_as_the_operators(shape: str, processor: str) -> None:
    """Processors that multiply no pairs are to come to the same: they compute the two halves of a word by themselves."""
    sizes, lengths = SHAPES[shape]
    model = model_of(*sizes)
    for layout, read in layouts(lengths):
        truth = results(Layer, model, layout, read, torch.float64)
        usual = results(Layer, model, layout, read, torch.float32, torch.bfloat16)
        found = results(kernels.Layer, model, layout, read, torch.float32, torch.bfloat16)
        for exact, theirs, mine in zip(truth, usual, found, strict=True):
            assert mine.shape == exact.shape and mine.dtype == torch.float32
            allowed = 1.1 * (theirs - exact).norm() + 2e-7 * exact.norm()
            assert (mine - exact).norm() <= allowed <= 0.1 * exact.norm()


PRODUCTS = pytest.mark.parametrize("products", [torch.float32, torch.bfloat16])


@PRODUCTS
def test_neither_threads_nor_neighbours_change_a_bit(products: torch.dtype) -> None:
    """Three sequences in one row, and each by itself; one thread, and three."""
    if not kernels_here().library:
        pytest.skip(kernels_here().said)
    sizes, _ = SHAPES["a plain model"]
    model, lengths, before = model_of(*sizes), (70, 33, 100), torch.get_num_threads()
    x, call, weights = case(model, Layout(lengths), None, torch.float32)
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            rows = results(kernels.Layer, model, Layout(lengths), None, torch.float32, products)
            if count == 1:
                first = rows
            assert all(torch.equal(a, b) for a, b in zip(first, rows, strict=True))
    finally:
        torch.set_num_threads(before)
    start = 0
    for length in lengths:
        layout, part = Layout((length,)), slice(start, start + length)
        alone = call_of(model.layers[0], layout, call.turn[part].contiguous(), products, None)
        with torch.no_grad():
            assert torch.equal(kernels.Layer.apply(x[part], alone, *weights), first[0][part])
        start += length


@PRODUCTS
def test_what_is_no_number_stays_visible(products: torch.dtype) -> None:
    """The loop refuses an update that is not finite: exponentials must not make a number of NaN."""
    if not kernels_here().library:
        pytest.skip(kernels_here().said)
    sizes, _ = SHAPES["a plain model"]
    for bad in (torch.nan, torch.inf):
        x, call, weights = case(model_of(*sizes), Layout((5, 6)), None, torch.float32)
        x.data[2, 3] = bad
        out = kernels.Layer.apply(x, dataclasses.replace(call, dtype=products), *weights)
        assert not out[2:5].isfinite().any() and out[5:].isfinite().all()


@torch.inference_mode()
def test_decoding_is_that_of_the_modules_past_every_block(processor: str) -> None:
    """Rows of several lengths, more of them than go together, 50 steps, rows dropped on the way, copied before."""
    model = policy_module(build("llama"), "llama")
    prompts = [[3 + (7 * row + k) % 90 for k in range(1 + row % 11)] for row in range(90)]
    mine, theirs = Decoding(model, prompts, 51), Decoding(model, prompts, 51)
    assert llama.compiled(model.host.model)
    theirs._rows = decode._FlatRows(model.host)
    theirs.logits = theirs._rows.prefill(prompts, 51)
    for both in (mine, theirs):
        both.repeat([2] * len(prompts))
    for step in range(50):
        assert (mine.logits - theirs.logits).abs().max() < 2e-5
        tokens = torch.arange(mine.rows) % 90 + 3
        if step in (10, 33):
            keep = torch.arange(step % 3, mine.rows, 3)
            for both in (mine, theirs):
                both.select(keep)
            tokens = tokens[keep]
        mine.step(tokens)
        theirs.step(tokens)


@torch.inference_mode()
@pytest.mark.parametrize(("heads", "shared", "size"), [(4, 2, 8), (2, 1, 48), (3, 3, 6)])
@pytest.mark.parametrize("whole", [True, False])
def test_a_step_in_bfloat16_is_as_exact_as_that_of_the_operators(
    processor: str, heads: int, shared: int, size: int, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the same weights in float64, rows of several lengths, past whole vectors of keys; head sizes of half, one and a
    half and no whole number of vectors.  In one call, and where another library makes the products."""
    torch.manual_seed(0)
    config = hf.LlamaConfig(
        vocab_size=90, hidden_size=48, num_hidden_layers=2, num_attention_heads=heads, num_key_value_heads=shared,
        head_dim=size, intermediate_size=52, initializer_range=0.2, pad_token_id=0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    exact = hf.LlamaForCausalLM(config).eval().bfloat16().double()
    model = policy_module(hf.LlamaForCausalLM(config).eval(), "llama")
    for parameter, value in zip(model.parameters(), exact.parameters(), strict=True):
        parameter.data = value.data.bfloat16()
    rows = [[3 + (7 * row + k) % 80 for k in range(1 + 5 * row)] for row in range(8)]
    monkeypatch.setattr(kernels, "multiplies", lambda dtype: whole)
    mine = Decoding(model, rows, 20)
    parts = getattr(mine._rows._next, "_parts", None)  # type: ignore[attr-defined]
    assert parts is None if whole else type(parts) is llama_rows._CompiledParts
    monkeypatch.setattr(kernels, "multiplies", lambda dtype: False)
    monkeypatch.setattr(llama_rows, "_parts", llama_rows._TorchParts)
    theirs = Decoding(model, rows, 20)
    errors: list[tuple[float, float]] = []
    for step in range(20):
        tokens = torch.arange(8) + 3 + step
        rows = [[*row, token] for row, token in zip(rows, tokens.tolist(), strict=True)]
        wanted = torch.stack([exact(input_ids=torch.tensor([row])).logits[0, -1] for row in rows])
        found = [(both.step(tokens).double() - wanted).abs().mean().item() for both in (mine, theirs)]
        errors.append((found[0], found[1]))
    ours, operators = (sum(each) for each in zip(*errors, strict=True))
    assert ours < 1.1 * operators


def test_which_arithmetic_they_are_for() -> None:
    """float32 wherever they are; bfloat16 where the processor multiplies pairs of it, in the weights or by autocast."""
    model, there = build("llama").model, kernels_here().library is not None
    assert llama.compiled(model) == there
    narrow = there and torch.cpu.get_capabilities().get("avx512_bf16", False)
    narrow = narrow and not torch.cpu.get_capabilities().get("amx_bf16", False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert llama.compiled(model) == narrow
    assert llama.compiled(build("llama").bfloat16().model) == narrow
    assert not llama.compiled(build("llama").bfloat16().model, torch.float32)
    assert not llama.compiled(build("llama").double().model)


def test_they_can_be_switched_off() -> None:
    use("off")
    assert kernels_here().said == "No compiled kernels: kernels=off."
    assert not llama.compiled(build("llama").model)
    assert not llama.compiled(build("llama").bfloat16().model)
    use("auto")
    if kernels_here().library:
        assert kernels_here().said == "Kernels compiled for this processor."
        assert llama.compiled(build("llama").model)


@pytest.mark.slow
def test_a_command_says_which_it_is(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    save(make_model(tokenizer), tokenizer, tmp_path / "start")
    for precision, given, said in (
        ("fp32", "off", "No compiled kernels: kernels=off."),
        ("fp32", "auto", compiler._built().said),
        ("bf16", "auto", compiler._built().said),
    ):
        console = Console(record=True, width=200)
        start = {"data": "x", "model": str(tmp_path / "start"), "plan": True, "device": "cpu"}
        launch("sft", SFTSettings(**start, precision=precision, kernels=given), console)
        text = console.export_text()
        assert said in text


@pytest.mark.parametrize("built", [True, False])
def test_the_demo_computes_in_float32_where_they_are_there(
    built: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[Any] = []

    def stop(settings: Any, console: Console) -> None:
        plans.append(settings)
        raise InterruptedError

    monkeypatch.setattr(demo.pipeline, "main", stop)
    monkeypatch.setattr(demo, "kernels_here", lambda: compiler.Built(object() if built else None))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InterruptedError):
        demo.main(DemoSettings(out=tmp_path), Console(quiet=True))
    precisions = {stage["command"]: stage.get("precision") for stage in plans[0].stages}
    wanted = "fp32" if built else None
    assert precisions["pretrain"] == precisions["ppo"] == precisions["eval"] == wanted
    assert precisions["world"] is precisions["label"] is precisions["report"] is None


def compiling(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> compiler.Built:
    """With a compiler that is this shell script."""
    script = folder / "odd-cc"
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    compiler._built.cache_clear()
    return kernels_here()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="built on Linux only")
@pytest.mark.slow
def test_without_a_compiler_that_works_it_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = policy_module(build("llama"), "llama"), batch_of(sequences())
    wanted = model(batch).logprobs
    monkeypatch.setattr(compiler, "PATIENCE", 2.0)
    version = 'if [ "$1" = --version ]; then echo odd; exit; fi'
    for text, why in (
        (f"{version}; echo 'odd.c: it does not please me' >&2; exit 1", "(odd.c: it does not please me)"),
        (f"{version}; sleep 20", "timed out after 2"),
        (version, "cannot open shared object file"),
        ("exit 3", "did not build them"),
    ):
        built = compiling(text, tmp_path, monkeypatch)
        assert built.library is None and why in built.said, built.said
        assert torch.allclose(model(batch).logprobs, wanted, atol=1e-5)
    monkeypatch.setenv("CC", "no-such-compiler")
    compiler._built.cache_clear()
    assert "CC names no-such-compiler, which is not there" in kernels_here().said
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    compiler._built.cache_clear()
    assert "there is no C compiler" in kernels_here().said


@pytest.mark.skipif(not ON_X86, reason="the script calls cc")
@pytest.mark.slow
def test_they_are_built_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    count = tmp_path / "count"
    text = f'[ "$1" = --version ] || echo built >> {count}; exec cc "$@"'
    for _ in range(2):
        if not compiling(text, tmp_path, monkeypatch).library:
            pytest.skip(kernels_here().said)
    assert count.read_text() == "built\n"
    monkeypatch.setattr(compiler, "FLAGS", [*compiler.FLAGS, "-DOTHER"])
    compiler._built.cache_clear()
    assert kernels_here().library and count.read_text() == "built\nbuilt\n"
