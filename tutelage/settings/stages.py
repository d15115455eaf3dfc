"""The settings of every command: one frozen class each, from shared groups.

Help, documentation and checks all read these fields, so a sentence is written once.  No torch here: `--help` and errors
in settings must answer at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tutelage.settings.base import Settings, setting


class RunSettings(Settings):
    """What every command that writes a run folder has."""

    out: Path = setting(Path("runs/run"), "Run folder; the same command with the same settings resumes it.")
    seed: int = setting(0, "Seed of everything random.", ge=0)


class DeviceSettings(Settings):
    """Where and in which arithmetic models run."""

    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", "Where to compute; auto takes a GPU when there is one."
    )
    precision: Literal["auto", "bf16", "fp32"] = setting(
        "auto", "Arithmetic of the models; auto takes bf16 where the processor has it (weights stay fp32)."
    )


class DroppingSettings(Settings):
    """What happens when rows cannot be used."""

    max_dropped_share: float = setting(
        0.1,
        "Stop before the work starts when more than this share of the rows would be dropped.",
        unit="share",
        ge=0,
        le=1,
    )


class DataSettings(DroppingSettings):
    """Where rows come from and what happens to long ones."""

    max_length: int = setting(1024, "Longest sequence, prompt and response together.", unit="tokens", ge=2)
    heldout_share: float = setting(
        0.05,
        "Share of the prompts held out for evaluation when there is no eval_data.",
        unit="share",
        ge=0,
        lt=1,
    )
    split_seed: int = setting(
        0, "Which prompts are held out; another number gives another split. Not touched by seed.", ge=0
    )
    eval_data: str = setting("", "Rows for evaluation, same formats as data; empty holds out heldout_share.")


class FeedbackSettings(Settings):
    """How votes in the store become comparisons."""

    store: str = setting("runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.")
    aggregation: Literal["majority", "all", "dawid-skene", "crowd-bt", "adjudicated"] = setting(
        "majority",
        "How votes become one comparison: majority; all (vote share as a soft label); dawid-skene (votes weighed by "
        "how right their annotators are, as a soft label); crowd-bt (the share of careful annotators, as a soft "
        "label); adjudicated (as settled, disputed pairs left out).",
    )
    ties: Literal["keep", "drop"] = setting(
        "keep", "An exact tie becomes a row with probability 0.5, or no row."
    )
    annotators: list[str] = setting(
        [], "Whose votes count: names, or all that are human, simulated, judge or rule; empty: everybody's."
    )


class TrainSettings(RunSettings, DeviceSettings):
    """What every training command has."""

    learning_rate: float = setting(2e-5, "Peak learning rate of AdamW.", gt=0)
    schedule: Literal["constant", "linear", "cosine"] = setting("linear", "Learning rate after the warm-up.")
    warmup: float = setting(
        0.03, "Share of the steps over which the learning rate rises.", unit="share", ge=0, lt=1
    )
    min_rate: float = setting(
        0.1, "Where the cosine schedule ends, as a share of the peak.", unit="share", ge=0, le=1
    )
    weight_decay: float = setting(0.0, "Decoupled weight decay on matrices.", ge=0)
    adam_beta1: float = setting(0.9, "AdamW's first decay rate.", ge=0, lt=1)
    adam_beta2: float = setting(0.95, "AdamW's second decay rate.", ge=0, lt=1)
    adam_epsilon: float = setting(1e-8, "AdamW's epsilon.", gt=0)
    max_grad_norm: float = setting(
        1.0, "Clip each trained model's gradient to this norm; 0 = no clipping.", ge=0
    )
    epochs: float = setting(1.0, "Passes over the data.", unit="epochs", gt=0)
    max_steps: int = setting(0, "Steps to train, instead of epochs; 0 = as epochs say.", unit="steps", ge=0)
    micro_batch_tokens: int = setting(
        4096, "Tokens per forward pass; changes memory and speed, never a gradient.", unit="tokens", ge=1
    )
    eval_every: int = setting(50, "Evaluate every so many steps, and at both ends.", unit="steps", ge=1)
    save_every: int = setting(100, "Checkpoint every so many steps, and at the end.", unit="steps", ge=1)
    keep_checkpoints: int = setting(1, "Checkpoints kept, beside the best one.", unit="checkpoints", ge=1)
    load_best: bool = setting(False, "Export the best checkpoint by evaluation instead of the last.")
    tensorboard: bool = setting(True, "Also write the metrics as TensorBoard files.")


class LoraSettings(Settings):
    """Train a low-rank adapter instead of all weights."""

    lora_rank: int = setting(0, "Rank of the LoRA adapter on all linear layers; 0 trains all weights.", ge=0)
    lora_alpha: float = setting(16.0, "Scale of the LoRA adapter (times 1 / rank).", gt=0)


class WorldSettings(RunSettings):
    """Write the embedded world's files: text, demonstrations and prompts that every other command reads."""

    out: Path = setting(Path("runs/world"), "Folder to write.")
    documents: int = setting(20_000, "Documents of pretraining text.", unit="documents", ge=1)
    demonstrations: int = setting(3_000, "Demonstrations for fine-tuning.", unit="rows", ge=1)
    careless: float = setting(0.5, "Share of the demonstrations that have a flaw.", unit="share", ge=0, le=1)
    prompts: int = setting(2_000, "Prompts to train on, without responses.", unit="prompts", ge=1)
    heldout_prompts: int = setting(500, "Held-out prompts: they are in no other file.", unit="prompts", ge=1)


class PretrainSettings(TrainSettings, DataSettings):
    """Train a language model on text, from scratch or from a checkpoint."""

    out: Path = setting(
        Path("runs/pretrain"), "Run folder; the same command with the same settings resumes it."
    )
    data: str = setting(..., "Text: a file (JSONL, JSON, Parquet, text; .gz too), a glob, or hub:OWNER/NAME.")
    model: str = setting(
        "", "Checkpoint or hub model to go on from; empty starts the tiny model from scratch."
    )
    vocab_size: int = setting(1024, "Vocabulary of the tiny model's own tokenizer.", unit="tokens", ge=300)
    hidden_size: int = setting(128, "Width of the tiny model.", ge=8)
    layers: int = setting(4, "Layers of the tiny model.", unit="layers", ge=1)
    heads: int = setting(4, "Attention heads of the tiny model.", unit="heads", ge=1)
    context: int = setting(1024, "Context of the tiny model.", unit="tokens", ge=16)
    batch_size: int = setting(2, "Rows of max_length tokens per step.", unit="rows", ge=1)
    max_length: int = setting(
        256, "Tokens per row: documents are packed into rows, longer ones are cut.", unit="tokens", ge=2
    )
    learning_rate: float = setting(2e-3, "Peak learning rate of AdamW.", gt=0)
    schedule: Literal["constant", "linear", "cosine"] = setting("cosine", "Learning rate after the warm-up.")
    weight_decay: float = setting(0.1, "Decoupled weight decay on matrices.", ge=0)
    heldout_share: float = setting(
        0.02,
        "Share of the documents held out for evaluation when there is no eval_data.",
        unit="share",
        ge=0,
        lt=1,
    )
    eval_every: int = setting(500, "Evaluate every so many steps, and at both ends.", unit="steps", ge=1)
    save_every: int = setting(1000, "Checkpoint every so many steps, and at the end.", unit="steps", ge=1)


class SFTSettings(TrainSettings, DataSettings, LoraSettings):
    """Fine-tune on demonstrations: the responses are trained, the prompts are not."""

    out: Path = setting(Path("runs/sft"), "Run folder; the same command with the same settings resumes it.")
    data: str = setting(..., "Demonstrations: store:PROJECT, a file, a glob, or hub:OWNER/NAME.")
    store: str = setting("runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.")
    model: str = setting("runs/pretrain", "Run folder, checkpoint or hub model to start from.")
    train_on_prompt: bool = setting(False, "Train the prompt's tokens too.")
    batch_size: int = setting(32, "Demonstrations per step.", unit="rows", ge=1)


class SampleSettings(RunSettings, DroppingSettings, DeviceSettings):
    """Sample responses to prompts, and record them in the store with where they came from."""

    out: Path = setting(
        Path("runs/sample"), "Run folder; the same command with the same settings resumes it."
    )
    model: str = setting("runs/sft", "Run folder, checkpoint or hub model to sample from.")
    prompts: str = setting(..., "Prompts: a file, a glob, or hub:OWNER/NAME.")
    store: str = setting("runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.")
    project: str = setting("main", "Project in the store that receives prompts and responses.")
    samples: int = setting(2, "Responses per prompt.", unit="responses", ge=1)
    max_new_tokens: int = setting(128, "Longest response.", unit="tokens", ge=1)
    temperature: float = setting(1.0, "Sampling temperature; 0 takes the likeliest token.", ge=0)
    max_prompts: int = setting(0, "Use only so many prompts, from the first; 0 = all.", unit="prompts", ge=0)
    memory_mib: int = setting(1024, "Memory for keys and values while generating.", unit="MiB", ge=16)


class LabelSettings(RunSettings):
    """Let the simulated annotators vote on the unlabelled pairs of a project."""

    out: Path = setting(Path("runs/label"), "Run folder; the same command with the same settings resumes it.")
    store: str = setting("runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.")
    project: str = setting("main", "Project in the store whose responses are compared.")
    pairs_per_prompt: int = setting(
        3,
        "Random pairs of different responses per prompt and generation run; 0 = all pairs.",
        unit="pairs",
        ge=0,
    )
    votes_per_item: int = setting(3, "Different annotators who vote on each pair.", unit="votes", ge=1)


class ServeSettings(DeviceSettings):
    """Serve the web app: people give feedback in a browser, programs over the API."""

    store: str = setting("runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.")
    host: str = setting("127.0.0.1", "Address to listen on; 0.0.0.0 lets other machines in.")
    port: int = setting(8000, "Port to listen on; 0 takes a free one.", ge=0, le=65535)
    url: str = setting(
        "", "Address that people use when a proxy stands in front, such as https://labels.example.org."
    )
    certificate: str = setting("", "Certificate file (PEM) to speak TLS with; needs certificate_key.")
    certificate_key: str = setting("", "Private key file (PEM) of the certificate.")
    models: list[str] = setting(
        [],
        "Models that write in chats and regenerate steps: run folders or hub names, each optionally name=path.",
    )
    max_new_tokens: int = setting(128, "Longest text that a model writes at once.", unit="tokens", ge=1)
    temperature: float = setting(
        1.0, "Sampling temperature of the models; 0 takes the likeliest token.", ge=0
    )


class StoreSettings(Settings):
    """Which store, for commands that work on it directly."""

    store: str = setting("runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.")


class FeedbackImportSettings(StoreSettings):
    """Take JSONL into a project, line by line: good lines are stored, bad ones listed, nothing is stored twice."""

    project: str = setting("main", "Project that receives the lines; made if missing.")
    file: Path = setting(..., "JSONL file to read.")
    kind: Literal["prompts", "responses", "preference", "scores", "raw"] = setting(
        "responses", "What the lines hold; raw is what an export with format=raw wrote."
    )


class FeedbackExportSettings(StoreSettings):
    """Write the answers of a project as JSONL, Parquet or CSV, with a manifest beside it."""

    project: str = setting("main", "Project whose answers are written.")
    out: Path = setting(Path("runs/export.jsonl"), "File to write; its manifest is OUT.manifest.json.")
    format: Literal["preference", "hh", "unpaired", "ranked", "stepwise", "sft", "ratings", "raw"] = setting(
        "preference", "Which rows to write."
    )
    file_format: Literal["auto", "jsonl", "parquet", "csv"] = setting(
        "auto", "Kind of file; auto goes by the ending of out: .parquet, .csv, or else JSONL."
    )
    aggregation: Literal["majority", "all", "dawid-skene", "crowd-bt", "adjudicated"] = setting(
        "majority", "How several answers become one row; all keeps vote shares, or one row per answer."
    )
    ties: Literal["keep", "drop"] = setting(
        "drop", "An exact tie becomes a row with probability 0.5, or no row."
    )
    labels_from: Literal["acceptable", "rating", "pairs"] = setting(
        "acceptable", "unpaired: where good and bad come from."
    )
    neutral: Literal["true", "false", "drop"] = setting(
        "drop", "stepwise: what a neutral step becomes; drop leaves its row out."
    )
    names: bool = setting(False, "raw and ratings: write annotators' real names instead of numbers.")
    gold: bool = setting(True, "Also write gold items.")


class FeedbackStatusSettings(StoreSettings):
    """Show how much of the work in a store is done, by project."""

    project: str = setting("", "Show only this project, and its annotators; empty shows all.")


class FeedbackBackupSettings(StoreSettings):
    """Copy a store (SQLite) as it is at one moment, verify the copy, and write its hash beside it."""

    out: Path = setting(..., "File to write; it must not be there yet. Its hash goes to OUT.sha256.")


class FeedbackDeleteSettings(StoreSettings):
    """Hide a project from everybody, in the web app, from commands and from trainers; everything in it is kept."""

    project: str = setting(..., "Project to hide.")


class FeedbackRestoreSettings(StoreSettings):
    """Bring a deleted project back as it was."""

    project: str = setting(..., "Project to bring back.")


class FeedbackPurgeSettings(StoreSettings):
    """Delete a deleted project for good: prompts, responses, answers, history. Nothing brings it back but a backup."""

    project: str = setting(..., "Deleted project to purge.")
    confirm: str = setting(..., "The project's name once more.")


class FeedbackDoctorSettings(StoreSettings):
    """Check that everything in a store fits together; changes nothing unless told to."""

    repair: bool = setting(False, "Recount the answers of items whose count is wrong.")


class RewardSettings(TrainSettings, DataSettings, FeedbackSettings):
    """Train a reward model on comparisons (Bradley-Terry)."""

    out: Path = setting(
        Path("runs/reward"), "Run folder; the same command with the same settings resumes it."
    )
    data: str = setting("store:main", "Comparisons: store:PROJECT, a file, a glob, or hub:OWNER/NAME.")
    model: str = setting(
        "runs/sft", "Run folder, checkpoint or hub model whose body the reward model starts from."
    )
    batch_size: int = setting(64, "Pairs per step.", unit="pairs", ge=1)
    learning_rate: float = setting(9e-6, "Peak learning rate of AdamW.", gt=0)
    schedule: Literal["constant", "linear", "cosine"] = setting("cosine", "Learning rate after the warm-up.")
    label_smoothing: float = setting(
        0.0, "Probability that a preference is wrong, mixed into the labels.", ge=0, lt=0.5
    )
    center_coef: float = setting(
        0.01, "Weight of the squared sum of a pair's scores, which centres them.", ge=0
    )
    margin_coef: float = setting(
        0.0, "Score difference that a margin of 1 asks for: times the row's margin, off its scores.", ge=0
    )
    heldout_share: float = setting(
        0.1,
        "Share of the prompts held out for evaluation when there is no eval_data.",
        unit="share",
        ge=0,
        lt=1,
    )


class RLSettings(TrainSettings, DroppingSettings, LoraSettings):
    """What every on-policy command has."""

    model: str = setting("runs/sft", "Run folder, checkpoint or hub model to start from; also the reference.")
    reward_model: str = setting("runs/reward", "Run folder or checkpoint of the reward model.")
    prompts: str = setting(..., "Prompts to practise on: a file, a glob, or hub:OWNER/NAME.")
    eval_prompts: str = setting("", "Prompts for evaluation; empty skips it.")
    max_eval_prompts: int = setting(128, "Use only so many evaluation prompts.", unit="prompts", ge=1)
    batch_size: int = setting(64, "Prompts per step.", unit="prompts", ge=1)
    samples: int = setting(1, "Responses per prompt and step.", unit="responses", ge=1)
    max_new_tokens: int = setting(128, "Longest response.", unit="tokens", ge=1)
    max_prompt_length: int = setting(512, "Longer prompts are left out, and counted.", unit="tokens", ge=1)
    temperature: float = setting(1.0, "Sampling temperature; all log-probabilities are taken at it.", gt=0)
    kl_coef: float = setting(
        0.05, "Weight of the KL to the reference, in the reward.", unit="score per nat", ge=0
    )
    missing_eos_score: float = setting(
        -1.0, "Score of a response without an end, in standard deviations of the reward model's scores."
    )


class PPOSettings(RLSettings):
    """Optimise the policy against the reward model with PPO and a critic."""

    out: Path = setting(Path("runs/ppo"), "Run folder; the same command with the same settings resumes it.")
    learning_rate: float = setting(3e-6, "Peak learning rate of AdamW, policy and critic.", gt=0)
    adam_epsilon: float = setting(1e-5, "AdamW's epsilon.", gt=0)
    epochs: float = setting(1.0, "Passes over the prompts.", unit="epochs", gt=0)
    micro_batch_tokens: int = setting(
        8192,
        "Tokens per forward pass; changes memory and speed, never a gradient. The first pass over rollouts that fit into one "
        "is made only once.",
        unit="tokens",
        ge=1,
    )
    ppo_epochs: int = setting(4, "Passes over each step's rollouts.", unit="epochs", ge=1)
    minibatches: int = setting(1, "Updates per pass.", unit="updates", ge=1)
    clip_low: float = setting(0.2, "The ratio is clipped at 1 - clip_low.", gt=0, lt=1)
    clip_high: float = setting(0.2, "The ratio is clipped at 1 + clip_high.", gt=0)
    value_clip: float = setting(
        0.2, "Values may move so far from the old ones before they are clipped.", gt=0
    )
    value_coef: float = setting(0.1, "Weight of the value loss.", ge=0)
    entropy_coef: float = setting(0.0, "Weight of the entropy bonus.", ge=0)
    gamma: float = setting(1.0, "Discount.", ge=0, le=1)
    gae_lambda: float = setting(0.95, "Lambda of generalised advantage estimation.", ge=0, le=1)
    whiten_rewards: bool = setting(False, "Scale token rewards to unit variance before the advantages.")
    kl_target: float = setting(
        0.0, "Adapt kl_coef towards this KL per response; 0 keeps it fixed.", unit="nats", ge=0
    )
    kl_horizon: float = setting(10000.0, "How slowly kl_coef adapts.", unit="episodes", gt=0)
    max_approx_kl: float = setting(
        0.03,
        "End a step's passes early when the policy has moved further than this.",
        unit="nats per token",
        gt=0,
    )


class DPOSettings(TrainSettings, DataSettings, FeedbackSettings, LoraSettings):
    """Optimise the policy on comparisons directly (DPO, sigmoid loss)."""

    out: Path = setting(Path("runs/dpo"), "Run folder; the same command with the same settings resumes it.")
    data: str = setting("store:main", "Comparisons: store:PROJECT, a file, a glob, or hub:OWNER/NAME.")
    model: str = setting("runs/sft", "Run folder, checkpoint or hub model to start from; also the reference.")
    batch_size: int = setting(32, "Pairs per step.", unit="pairs", ge=1)
    learning_rate: float = setting(1e-6, "Peak learning rate of AdamW.", gt=0)
    beta: float = setting(0.1, "How strongly the policy is held to the reference.", gt=0)
    label_smoothing: float = setting(
        0.0, "Probability that a preference is wrong (conservative DPO).", ge=0, lt=0.5
    )


class EvalSettings(RunSettings, DroppingSettings, DeviceSettings):
    """Measure checkpoints on held-out prompts: gold score, win rate, KL, length, diversity."""

    out: Path = setting(Path("runs/eval"), "Run folder; the same command with the same settings resumes it.")
    models: list[str] = setting(
        ..., "Checkpoints to evaluate: run folders or hub names, each optionally as name=path."
    )
    baseline: str = setting("", "Name of the model that the others are compared with; empty = the first.")
    reference: str = setting(
        "", "Name or path of the model that the KL is measured to; empty = the baseline."
    )
    prompts: str = setting(..., "Held-out prompts: a file with the columns prompt, task and reference.")
    max_prompts: int = setting(
        300, "At most so many prompts, drawn by seed in equal shares per task; 0 = all.", unit="prompts", ge=0
    )
    max_new_tokens: int = setting(128, "Longest response.", unit="tokens", ge=1)
    temperature: float = setting(1.0, "Sampling temperature; 0 takes the likeliest token.", ge=0)
    documents: str = setting("", "Held-out text for loss, perplexity and bits per byte; empty skips them.")
    max_documents: int = setting(200, "At most so many held-out documents; 0 = all.", unit="documents", ge=0)
    similar_length: float = setting(
        0.1,
        "Two responses are of similar length when they differ by at most this share of the longer.",
        unit="share",
        ge=0,
        le=1,
    )
    resamples: int = setting(10000, "Bootstrap resamples behind each interval.", ge=100)
    max_tokens: int = setting(8192, "Most tokens in one forward pass.", unit="tokens", ge=1)


class ReportSettings(RunSettings):
    """Write one self-contained HTML page about a set of runs."""

    out: Path = setting(Path("runs/report"), "Folder that receives report.html and results.json.")
    runs: list[str] = setting(["runs"], "Run folders to report on, or folders that hold run folders.")
    title: str = setting("Training report", "Title at the top of the page.")
    samples: int = setting(
        6,
        "Held-out prompts shown with each model's response, drawn by seed in equal shares per task.",
        unit="prompts",
        ge=0,
    )


class RunPipelineSettings(Settings):
    """Run the stages of a pipeline file; a stage whose inputs and settings are unchanged is skipped."""

    stages: list[dict[str, Any]] = setting(
        ..., "The stages in order: each has `command` and that command's settings."
    )
    out: Path = setting(Path("runs/pipeline"), "Folder of the pipeline: each stage's run folder is below it.")
    seed: int = setting(0, "Seed of every stage that does not set its own.", ge=0)
    split_seed: int = setting(0, "Which prompts are held out, in every stage that does not say.", ge=0)


class RunsSettings(Settings):
    """List the runs below a folder."""

    root: Path = setting(Path("runs"), "Folder in which run folders are looked for.")


class DemoSettings(Settings):
    """The whole loop in the embedded world, from an untrained model to one that people prefer."""

    out: Path = setting(Path("runs/demo"), "Folder of the demo: each stage's run folder is below it.")
    seed: int = setting(0, "Seed of everything random.", ge=0)
