"""The table of commands: name -> module and settings, imported when used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from tutelage.settings.base import Settings, nearest
from tutelage.settings.groups import Source


class Command(NamedTuple):
    """A command: its name of one word or two, the function that does it as MODULE or MODULE:FUNCTION (`main` unless said;
    it takes the settings and a console, or settings, world and run), the class of its settings (below
    `tutelage.settings`), and one line of help."""

    name: str
    does: str
    settings: str
    help: str
    group: str

    @property
    def page(self) -> str:
        """The name of its page in docs/commands, without the ending."""
        return self.name.replace(" ", "-")


COMMANDS = (
    Command(
        "world",
        "tutelage.worlds.write",
        "worlds.WorldSettings",
        "Write the embedded world as plain files.",
        "Data and first models",
    ),
    Command(
        "data",
        "tutelage.inspect.command",
        "inspect.DataCommandSettings",
        "Say what a file holds, and what seems wrong in it.",
        "Data and first models",
    ),
    Command(
        "pretrain",
        "tutelage.train.pretrain",
        "train.PretrainSettings",
        "Train a language model on text.",
        "Data and first models",
    ),
    Command(
        "sft",
        "tutelage.train.sft",
        "train.SFTSettings",
        "Fine-tune a model on demonstrations.",
        "Data and first models",
    ),
    Command(
        "sample",
        "tutelage.rollout.sample",
        "rollout.SampleSettings",
        "Let a model answer prompts, into the store.",
        "Feedback",
    ),
    Command(
        "label",
        "tutelage.feedback.commands.label",
        "feedback.LabelSettings",
        "Let annotators vote on pairs of responses.",
        "Feedback",
    ),
    Command(
        "assist",
        "tutelage.feedback.commands.assist",
        "feedback.AssistSettings",
        "Let an assistant tell people what it finds.",
        "Feedback",
    ),
    Command(
        "serve",
        "tutelage.web.serve",
        "web.ServeSettings",
        "Serve the web app in which people give feedback.",
        "Feedback",
    ),
    Command(
        "refine",
        "tutelage.refine.command",
        "refine.RefineSettings",
        "Refine solutions step by step until they are sound.",
        "Feedback",
    ),
    Command(
        "revise",
        "tutelage.rollout.revise",
        "rollout.ReviseSettings",
        "Let a model criticise and revise responses.",
        "Feedback",
    ),
    Command(
        "judge serve",
        "tutelage.web.judge_serve",
        "web.JudgeServeSettings",
        "Stand in for an LLM judge, offline.",
        "Feedback",
    ),
    Command(
        "judge cost",
        "tutelage.feedback.commands.judge_cost",
        "feedback.JudgeCostSettings",
        "Say what an LLM judge has cost and would cost.",
        "Feedback",
    ),
    Command(
        "judge calibration",
        "tutelage.feedback.commands.judge_calibration",
        "feedback.JudgeCalibrationSettings",
        "Set a judge beside people on the same pairs.",
        "Feedback",
    ),
    Command(
        "feedback import",
        "tutelage.feedback.commands.importing",
        "feedback.FeedbackImportSettings",
        "Take a file of prompts, responses, votes or scores.",
        "Feedback",
    ),
    Command(
        "feedback export",
        "tutelage.feedback.commands.exporting",
        "feedback.FeedbackExportSettings",
        "Write answers as a file that trainers read.",
        "Feedback",
    ),
    Command(
        "feedback status",
        "tutelage.feedback.commands.status",
        "feedback.FeedbackStatusSettings",
        "Show how far the work in a store is.",
        "Feedback",
    ),
    Command(
        "feedback backup",
        "tutelage.feedback.commands.upkeep:backup",
        "feedback.FeedbackBackupSettings",
        "Copy a store that is in use, and verify the copy.",
        "Feedback",
    ),
    Command(
        "feedback restore-backup",
        "tutelage.feedback.commands.upkeep:restore_backup",
        "feedback.FeedbackRestoreBackupSettings",
        "Put a backup in a store's place.",
        "Feedback",
    ),
    Command(
        "feedback delete",
        "tutelage.feedback.commands.projects:delete",
        "feedback.FeedbackDeleteSettings",
        "Hide a project; everything in it is kept.",
        "Feedback",
    ),
    Command(
        "feedback undelete",
        "tutelage.feedback.commands.projects:undelete",
        "feedback.FeedbackUndeleteSettings",
        "Bring a deleted project back.",
        "Feedback",
    ),
    Command(
        "feedback purge",
        "tutelage.feedback.commands.projects:purge",
        "feedback.FeedbackPurgeSettings",
        "Delete a deleted project for good.",
        "Feedback",
    ),
    Command(
        "feedback admin",
        "tutelage.feedback.commands.upkeep:admin",
        "feedback.FeedbackAdminSettings",
        "Let an administrator in, by a link that works once.",
        "Feedback",
    ),
    Command(
        "feedback doctor",
        "tutelage.feedback.commands.upkeep:doctor",
        "feedback.FeedbackDoctorSettings",
        "Check that everything in a store fits together.",
        "Feedback",
    ),
    Command(
        "reward",
        "tutelage.train.reward",
        "reward.RewardSettings",
        "Train a reward model on comparisons.",
        "Learning from feedback",
    ),
    Command(
        "adapt",
        "tutelage.train.adapt",
        "adapt.AdaptSettings",
        "Fit a reward model to a new group, from few labels.",
        "Learning from feedback",
    ),
    Command(
        "mark",
        "tutelage.rollout.mark",
        "rollout.MarkSettings",
        "Mark steps of solutions by rollouts.",
        "Learning from feedback",
    ),
    Command(
        "process",
        "tutelage.train.process",
        "reward.ProcessSettings",
        "Train a process reward model on marked steps.",
        "Learning from feedback",
    ),
    Command(
        "ppo",
        "tutelage.train.ppo",
        "rl.PPOSettings",
        "Optimise a policy against a reward model.",
        "Learning from feedback",
    ),
    Command(
        "reinforce",
        "tutelage.train.reinforce",
        "rl.ReinforceSettings",
        "Optimise a policy without a critic (RLOO, GRPO).",
        "Learning from feedback",
    ),
    Command(
        "select",
        "tutelage.rollout.rejection",
        "rollout.SelectSettings",
        "Keep a model's best responses as demonstrations.",
        "Learning from feedback",
    ),
    Command(
        "raft",
        "tutelage.train.raft",
        "rl.RaftSettings",
        "Fine-tune a policy on its own best responses.",
        "Learning from feedback",
    ),
    Command(
        "dpo",
        "tutelage.train.preference",
        "preference.DPOSettings",
        "Optimise a policy on comparisons directly.",
        "Learning from feedback",
    ),
    Command(
        "online-dpo",
        "tutelage.train.online",
        "rl.OnlineDPOSettings",
        "Optimise a policy on pairs of its own responses.",
        "Learning from feedback",
    ),
    Command(
        "distill",
        "tutelage.train.distill",
        "distill.DistillSettings",
        "Teach a model to write as another one does.",
        "Learning from feedback",
    ),
    Command(
        "kto",
        "tutelage.train.kto",
        "preference.KTOSettings",
        "Optimise a policy on good and bad responses.",
        "Learning from feedback",
    ),
    Command(
        "irl",
        "tutelage.train.irl",
        "irl.IRLSettings",
        "Learn a reward from demonstrations.",
        "Learning from feedback",
    ),
    Command(
        "contrast",
        "tutelage.train.contrast",
        "irl.ContrastSettings",
        "Set own responses against demonstrations: pairs.",
        "Learning from feedback",
    ),
    Command(
        "soup",
        "tutelage.train.soup",
        "soup.SoupSettings",
        "Average the weights of models of one start.",
        "Learning from feedback",
    ),
    Command(
        "eval",
        "tutelage.evals.evaluate",
        "evals.EvalSettings",
        "Measure models on held-out prompts.",
        "Results",
    ),
    Command(
        "eval overopt",
        "tutelage.evals.overopt",
        "evals.OveroptSettings",
        "Draw proxy and gold reward against KL.",
        "Results",
    ),
    Command(
        "eval front",
        "tutelage.evals.front.command",
        "front.FrontSettings",
        "Measure models by several rewards, and their front.",
        "Results",
    ),
    Command(
        "eval groups",
        "tutelage.train.group_curves",
        "adapt.GroupsSettings",
        "Measure reward models on groups that are new.",
        "Results",
    ),
    Command(
        "eval methods",
        "tutelage.evals.methods",
        "evals.MethodsSettings",
        "Put methods side by side, over several runs.",
        "Results",
    ),
    Command(
        "eval outputs",
        "tutelage.evals.outputs.command",
        "evals.OutputsSettings",
        "Measure outputs from anywhere against references.",
        "Results",
    ),
    Command(
        "eval pairs",
        "tutelage.evals.pairs.command",
        "evals.PairsSettings",
        "Measure a judge on right and wrong responses.",
        "Results",
    ),
    Command(
        "eval steps",
        "tutelage.evals.steps.command",
        "evals.StepsSettings",
        "Measure a process model on first wrong steps.",
        "Results",
    ),
    Command(
        "eval verdicts",
        "tutelage.feedback.verdicts.command",
        "evals.VerdictsSettings",
        "Win rates from a judge's stored verdicts.",
        "Results",
    ),
    Command(
        "eval honesty",
        "tutelage.evals.honesty.command",
        "honesty.HonestySettings",
        "Measure who answers what it does not know.",
        "Results",
    ),
    Command(
        "eval reasoning",
        "tutelage.refine.reasoning.command",
        "reasoning.ReasoningSettings",
        "Measure reasoning by step, before and after.",
        "Results",
    ),
    Command(
        "eval task",
        "tutelage.evals.task",
        "evals.TaskSettings",
        "Write prompts as a task of inspect-ai.",
        "Results",
    ),
    Command(
        "report",
        "tutelage.evals.report",
        "evals.ReportSettings",
        "Write one HTML page about runs.",
        "Results",
    ),
    Command(
        "run",
        "tutelage.pipeline",
        "pipeline.RunPipelineSettings",
        "Run a pipeline's stages; finished ones are skipped.",
        "All together",
    ),
    Command(
        "study",
        "tutelage.study.study",
        "pipeline.StudySettings",
        "Run a grid of settings, and report on it.",
        "All together",
    ),
    Command("runs", "tutelage.evals.table", "evals.RunsSettings", "Show a table of runs.", "All together"),
    Command(
        "doctor",
        "tutelage.doctor.command",
        "doctor.DoctorSettings",
        "Check what a run stands on, before it starts.",
        "All together",
    ),
    Command(
        "demo",
        "tutelage.demo",
        "pipeline.DemoSettings",
        "The whole loop in the embedded world, in minutes.",
        "All together",
    ),
    Command(
        "demo refine",
        "tutelage.demo:refine",
        "pipeline.DemoRefineSettings",
        "Steps marked, rewritten and learnt, in minutes.",
        "All together",
    ),
)


def function(command: Command) -> Callable[..., Any]:
    """Import what does a command."""
    module, _, name = command.does.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name or "main")
    return found


def settings_class(command: Command) -> type[Settings]:
    """Import the class of a command's settings (and nothing that needs torch)."""
    module, _, name = command.settings.partition(".")
    found: type[Settings] = getattr(import_module(f"tutelage.settings.{module}"), name)
    return found


def answering() -> tuple[str, ...]:
    """The commands that take prompts from a source, "NAME prompts=" where they may also do without."""
    found = ((command.name, settings_class(command).model_fields.get("prompts")) for command in COMMANDS)
    return tuple(
        name if field.is_required() else f"{name} prompts="
        for name, field in found
        if field is not None and field.annotation == Source
    )


def find(name: str) -> Command:
    """The command of that name.  Raises ValueError that gives the nearest name, or lists the commands there are."""
    for command in COMMANDS:
        if command.name == name:
            return command
    raise ValueError(unknown(name, [command.name for command in COMMANDS]))


def unknown(name: str, names: Sequence[str]) -> str:
    """The sentence about a command that is not among `names`; one word of a name of two is enough to find it."""
    if name in ("feedback restore", "restore"):
        return (
            f"there is no command '{name}': `feedback undelete` brings a deleted project back, and "
            "`feedback restore-backup` puts a backup in a store's place."
        )
    words = {word: n for n in names if " " in n for word in (n.split()[0], n.split()[1])}
    words |= {n.split()[0]: n.split()[0] for n in names}
    near = nearest(name, [*names, *words])
    hint = f"did you mean '{words.get(near, near)}'?" if near else f"the commands are {', '.join(names)}."
    return f"there is no command '{name}': {hint}"
