"""What the training commands share around the loop: rows in, the starting policy, the result out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tutelage.data.batch import TokenBatch
from tutelage.data.preflight.report import check
from tutelage.data.preflight.responses import comparisons_of, prepare_comparisons
from tutelage.data.preflight.work import Prepared
from tutelage.data.reading.formats import Record, read_comparisons
from tutelage.data.reading.sources import Source, shown
from tutelage.data.split import half_of, split_by_prompt
from tutelage.data.table import Examples
from tutelage.data.template import PairTokens
from tutelage.feedback.training import habits
from tutelage.feedback.training.source import comparisons_from, each_voter, is_store_source
from tutelage.models.loading import context_of, save, stored_dtype
from tutelage.models.lora import export_adapter
from tutelage.models.policy import Hosted
from tutelage.models.setup import Setup, finished
from tutelage.models.sharding import whole
from tutelage.parallel import World
from tutelage.records import Comparison
from tutelage.runs import Run
from tutelage.settings.groups import DataSettings
from tutelage.settings.preference import DPOSettings
from tutelage.settings.reward import RewardSettings
from tutelage.settings.train import LoraSettings, TrainSettings
from tutelage.statistics import correct
from tutelage.train.plan import amount, here

R = TypeVar("R", bound=Record)
E = TypeVar("E")


def steps_for(settings: TrainSettings, rows: int, run: Run) -> int:
    """The number of steps over `rows` rows, whose number is kept: what other `epochs` mean is known before a resume."""
    run.note(rows=rows)
    return settings.total_steps(rows)


Read = Callable[[Source, Mapping[str, str]], Iterable[R]]


def read_rows(read: Read[R], settings: DataSettings, run: Run) -> tuple[Iterable[R], Iterable[R]]:
    """(training rows, held-out rows): held out by file, or by a share of the prompts, or not at all."""
    run.input("data", settings.data)
    return hold_out(read(settings.data, settings.columns), read, settings, run)


def hold_out(
    rows: Iterable[R], read: Read[R], settings: DataSettings, run: Run, held_out: Sequence[R] = ()
) -> tuple[Iterable[R], Iterable[R]]:
    """(training rows, held-out rows): `rows` and what `eval_data` holds, or `held_out`, or `rows` split by prompt.

    held_out: rows that are held out where they come from, and so are never trained on.
    """
    if settings.eval_data:
        run.input("eval_data", settings.eval_data)
        return rows, read(settings.eval_data, settings.columns)
    if held_out:
        return rows, held_out
    return split_by_prompt(rows, settings.heldout_share, settings.split_seed, run.console)


def context_limit(max_length: int, model: Hosted) -> int:
    """`max_length`, or what the model's context allows if that is less."""
    context = context_of(model)
    return min(max_length, context) if context else max_length


def show_preflight(prepared: Prepared[E], run: Run, max_dropped_share: float) -> Prepared[E]:
    """Print what became of the rows, keep it in the run folder, and stop where too many were dropped (ValueError)."""
    return show_sides(prepared, None, run, max_dropped_share)[0]


UNMEASURED = (
    "Nothing is held out, so nothing is measured: heldout_share is 0, or all rows are about one prompt; eval_data takes "
    "rows to measure on."
)


def show_sides(
    train: Prepared[E],
    held_out: Prepared[E] | None,
    run: Run,
    max_dropped_share: float,
    left_out: Mapping[str, int] | None = None,
) -> tuple[Prepared[E], Prepared[E] | None]:
    """The same for rows to train on and rows held out: one share over both, and every dropped row of both.

    left_out: reason -> how much of a project in the store gives no row.
    """
    found = train.report.to_json()
    if left_out:
        found["left_out"] = dict(sorted(left_out.items()))
        for reason, number in found["left_out"].items():
            run.console.print(f"Left out of the store's answers: {number:,} ({reason}).", markup=False)
    train.report.show(run.console)
    reports = [train.report]
    if held_out is not None and held_out.report.rows:
        reports.append(held_out.report)
        held_out.report.show_held_out(train.report, run.console)
        found["held_out"] = held_out.report.to_json()
        found["dropped_rows"] += found["held_out"].pop("dropped_rows")
    elif held_out is not None:
        run.console.print(UNMEASURED)
    run.write_json("preflight.json", found)
    check(reports, max_dropped_share)
    return train, held_out


def setup_for(settings: TrainSettings, world: World) -> Setup:
    """How a command's models are made ready, by its settings."""
    lora = settings if isinstance(settings, LoraSettings) else None
    return Setup(
        world.device,
        world.dtype,
        lora.lora_rank if lora else 0,
        lora.lora_alpha if lora else 1.0,
        settings.seed,
        _checkpoints(settings, world),
        world if world.size > 1 else None,
    )


def _checkpoints(settings: TrainSettings, world: World) -> bool:
    """Whether layers are computed again in the backward pass: as set, or (auto) where the plan says that memory is short."""
    if settings.gradient_checkpointing != "auto":
        return settings.gradient_checkpointing == "on"
    found = here(settings, world)
    return found is not None and found.checkpointing


@dataclass(frozen=True)
class Pairs:
    """Tokenised pairs, and the comparisons that those held out (`comparisons`) and, where they were kept, those to train on
    (`trained`) were made of, in the same order; annotators' habits, where they were taken out."""

    train: Examples[PairTokens]
    held_out: Examples[PairTokens]
    comparisons: Examples[Comparison]
    told: tuple[habits.Habits, ...] = ()
    trained: Sequence[Comparison] = ()


def tell(told: Sequence[habits.Habits], run: Run) -> None:
    """What annotators like that is no quality, on the screen and in habits.json, where it was taken out of the labels."""
    if told:
        habits.show(told, run.console)
        run.write_json("habits.json", [one.to_json() for one in told])


Rows = Iterable[Comparison]


def prepare_pairs(
    settings: RewardSettings | DPOSettings,
    tokenizer: PreTrainedTokenizerBase,
    model: Hosted,
    run: Run,
    keep_records: bool = False,
    between: Callable[[Rows, Rows], tuple[Rows, Rows]] | None = None,
) -> Pairs:
    """Pairs to train on and pairs held out, from the store or a file; split by prompt, never by pair.  With `half` what is held
    out is the same for both halves.  keep_records: keep the comparisons that are trained on as well.  `between` makes others of
    both sides before they become tokens."""
    left_out: Mapping[str, int] = {}
    told: tuple[habits.Habits, ...] = ()
    groups = settings.groups if isinstance(settings, RewardSettings) else {}
    if is_store_source(settings.data):
        found = comparisons_from(
            settings.data,
            settings.store,
            settings.aggregation,
            settings.ties,
            settings.annotators,
            groups,
            settings.refined,
        )
        run.input("data", settings.data, sha256=found.digest)
        left_out, told = found.left_out, found.habits
        tell(told, run)
        train, held_out = hold_out(found.train, read_comparisons, settings, run, found.held_out)
    else:
        train, held_out = read_rows(read_comparisons, settings, run)
    if isinstance(settings, RewardSettings) and settings.half != "all":
        train = half_of(train, settings.half == "second", run.console)
    if between is not None:
        train, held_out = between(train, held_out)
    prepare = partial(
        prepare_comparisons,
        tokenizer,
        max_length=context_limit(settings.max_length, model),
        cut_responses=settings.cut_responses,
        groups=list(groups),
        max_dropped_share=None,
        console=run.console,
    )
    prepared = prepare(train, source=shown(settings.data), keep_records=keep_records)
    kept = prepare(held_out, source=shown(settings.eval_data or settings.data), keep_records=True)
    show_sides(prepared, kept, run, settings.max_dropped_share, left_out)
    return Pairs(
        prepared.examples,
        kept.examples,
        comparisons_of(kept),
        told,
        comparisons_of(prepared) if keep_records else (),
    )


def named_groups(settings: RewardSettings) -> dict[str, list[str]]:
    """Groups of annotators by name; with groups=each as the data have them.  Raises ValueError where these are fewer than two."""
    if settings.groups != "each":
        return settings.groups
    if is_store_source(settings.data):
        found = each_voter(settings.data, settings.store)
        who, what = "annotators who have voted", "let another one vote"
    else:
        names = {row.group for row in read_comparisons(settings.data, settings.columns)} - {""}
        found = {name: [] for name in sorted(names)}
        who, what = (
            "groups in its column group",
            "name the column that says who voted, as columns={group: annotator}",
        )
    if len(found) < 2:
        raise ValueError(
            f"groups=each: data={shown(settings.data)} has {len(found)} {who}, and heads are for two or more: {what}, or leave "
            "groups out."
        )
    return found


def collate_pairs(pairs: Sequence[PairTokens], rows: Sequence[int]) -> TokenBatch:
    """Pairs as units of two sequences, chosen at 2i, rejected at 2i + 1 (with their prompt in front).

    Per unit: `p_chosen` float32 [P], probability that the chosen one is better; `margin` float32 [P].
    """
    sequences = [tokens for pair in pairs for tokens in (pair.chosen, pair.rejected)]
    batch = TokenBatch.collate(sequences, [row for row in rows for _ in range(2)])
    fields = {
        "p_chosen": torch.tensor([pair.p_chosen for pair in pairs], dtype=torch.float32),
        "margin": torch.tensor([pair.margin for pair in pairs], dtype=torch.float32),
    }
    return replace(batch, unit_sizes=(2,) * len(pairs), per_unit=fields)


def agreement(margins: Tensor, p_chosen: Tensor) -> Tensor:
    """float32 [P]: the share of the votes on each pair that a score difference agrees with (`statistics.correct`)."""
    agreed = correct(margins.detach().cpu().numpy(), p_chosen.cpu().numpy())
    return torch.from_numpy(agreed).to(margins)


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def export(
    run: Run,
    model: Hosted,
    tokenizer: PreTrainedTokenizerBase,
    settings: TrainSettings,
    world: World,
    names: tuple[str, str] = ("model", "adapter"),
) -> Path:
    """Write the result where plain `from_pretrained` loads it, an adapter merged in; beside it the adapter by itself.  All ranks
    must call it.

    names: of both folders in the run folder.

    The weights are written as `export_dtype` says; those of `model` and of the checkpoints stay as they are. Raises
    ValueError when the base of an adapter is no longer what it was at the start: the checkpoints stay.
    """
    folder = run.folder / names[0]
    plain = whole(model, world)
    if plain is None or not run.leads:
        return folder
    base = next((str(entry["path"]) for entry in run.lineage["inputs"] if entry["name"] == "model"), None)
    name = _export_dtype(settings, base)
    if not plain.adapted:
        save(plain, tokenizer, folder, DTYPES[name])
    else:
        assert base is not None, "an adapter has a base"
        run.input("model", base)
        save(finished(plain, base, tokenizer, DTYPES[name]), tokenizer, folder, DTYPES[name])
        export_adapter(plain, run.folder / names[1], base)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    run.console.print(f"Model: {folder}, weights in {name}, {amount(size)}.")
    return folder


def _export_dtype(settings: TrainSettings, base: str | None) -> str:
    """The name of the dtype to export in; "auto" is the base's, where that is one of the names, and fp32 without a base."""
    if settings.export_dtype != "auto":
        return settings.export_dtype
    stored = stored_dtype(base) if base else torch.float32
    return next((name for name, dtype in DTYPES.items() if dtype == stored), "fp32")
