"""Language modelling on text: every token trained, documents packed whole into rows, none seeing another.

Without `model` the tiny model is made from scratch: a byte-level BPE tokenizer trained on the text at hand, and a Llama.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tutelage.data.batch import TokenBatch
from tutelage.data.packing import Packing, Segment
from tutelage.data.preflight.progress import watched
from tutelage.data.preflight.texts import prepare_documents
from tutelage.data.reading.formats import read_documents
from tutelage.data.reading.sources import shown
from tutelage.data.table import Table
from tutelage.models.loading import load_tokenizer
from tutelage.models.policy import PolicyModule
from tutelage.models.tiny import tiny_model, train_tokenizer
from tutelage.parallel import World
from tutelage.records import Conversation, Document
from tutelage.runs import Run, result_folder
from tutelage.settings.train import PretrainSettings as Settings
from tutelage.train.fit import fit, heldout_metrics
from tutelage.train.sft import LanguageModelling
from tutelage.train.stage import context_limit, export, read_rows, setup_for, show_sides, steps_for


def main(settings: Settings, world: World, run: Run) -> Path:
    """Pretrain; the result is in `model/` of the run folder.  Raises ValueError for unusable inputs."""
    documents, held_out = read_rows(read_documents, settings, run)
    model, tokenizer = start_model(settings, documents, world, run)
    model.to(world.device)
    prepare = partial(prepare_documents, tokenizer, max_dropped_share=None, console=run.console)
    prepared = prepare(documents, source=shown(settings.data))
    held = prepare(held_out, source=shown(settings.eval_data or settings.data))
    show_sides(prepared, held, run, settings.max_dropped_share)
    texts = prepared.examples
    packing = Packing(texts.table.lengths, context_limit(settings.max_length, model), settings.seed)
    run.console.print(
        f"{len(packing):,} rows of {packing.max_length} tokens, {packing.waste:.1%} of them empty."
    )
    algorithm = LanguageModelling(
        model, lambda step: segments_batch(texts.table, packing.for_step(step, settings.batch_size))
    )
    evaluate = None
    if kept := held.examples:
        whole = Packing(kept.table.lengths, packing.max_length)
        batches = lambda: (segments_batch(kept.table, part) for part in whole.parts())  # noqa: E731
        evaluate = lambda: heldout_metrics(algorithm, batches(), settings, world)  # noqa: E731
    fit(
        algorithm,
        settings,
        world,
        run,
        steps=steps_for(settings, len(packing), run),
        tokenizer=tokenizer,
        evaluate=evaluate,
        place=texts.table.place,
    )
    return export(run, model, tokenizer, settings, world)


def segments_batch(texts: Table, segments: Sequence[Segment]) -> TokenBatch:
    """Pieces of documents as one batch, each a sequence of its own."""
    sequences = [texts.sequence(s.document, s.start, s.stop) for s in segments]
    return TokenBatch.collate(sequences, [s.document for s in segments])


def start_model(
    settings: Settings, documents: Iterable[Document | Conversation], world: World, run: Run
) -> tuple[PolicyModule, PreTrainedTokenizerBase]:
    """The model to go on from, or the tiny model with a tokenizer of its own (kept in the run folder for a resume)."""
    setup = setup_for(settings, world)
    if settings.model:
        path = result_folder(settings.model)
        run.input("model", path)
        tokenizer = load_tokenizer(path)
        return setup.policy(path, tokenizer), tokenizer
    folder = run.folder / "tokenizer"
    if run.leads and not folder.exists():
        texts = (
            d.text if isinstance(d, Document) else conversation_text(d)
            for d in watched(documents, "learning the tokenizer", run.console)
        )
        train_tokenizer(texts, settings.vocab_size).save_pretrained(folder)
    world.wait()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = tiny_model(
        tokenizer,
        hidden=settings.hidden_size,
        layers=settings.layers,
        heads=settings.heads,
        context=settings.context,
        seed=settings.seed,
    )
    return setup.trained(model), tokenizer


def conversation_text(conversation: Conversation) -> str:
    """What its people say: the text that a tokenizer learns from."""
    return "\n".join(message.text() for message in conversation.messages)
