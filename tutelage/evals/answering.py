"""One model after the other answers the held-out prompts: what it answers, and what can be said of that by itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from tutelage.data.encoding import Unusable
from tutelage.data.template import encode_prompts
from tutelage.evals import acts, diversity, drift, language, scored, text
from tutelage.evals.acts import act_of, control_ids
from tutelage.evals.entrants import Entrant
from tutelage.evals.rows import OVERALL, Row
from tutelage.evals.samples import stratified
from tutelage.evals.spent import Spent
from tutelage.judges.build import WORLD
from tutelage.judges.judge import Judge, checked, first_of_each
from tutelage.models.loading import (
    fit_embeddings,
    load_policy,
    load_tokenizer,
    load_untrained,
    same_tokenizer,
)
from tutelage.models.policy import PolicyModule
from tutelage.ops.best_of_n import kl_bound, kl_estimate
from tutelage.parallel import World
from tutelage.records import Document, Prompt, Response, Score
from tutelage.rollout.drawing import choosing_judge
from tutelage.rollout.few_shot import FewShot, Shots
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.rollout.remote.build import fixed
from tutelage.rollout.select import BestOf
from tutelage.rollout.writer import Writer
from tutelage.runs import Bar, Run
from tutelage.settings.evals import EvalSettings as Settings
from tutelage.settings.ways import Way, way_of

CHUNK = 128  # prompts between two movements of the progress bar; no response depends on it


@dataclass(frozen=True)
class Answers:
    """A model's responses to the prompts, in their order, and what each does (`acts.ACTS`); scores are empty where the judge
    does not apply."""

    responses: list[Response]
    scores: list[Score]
    acts: list[str]


@dataclass(frozen=True)
class Loaded:
    """A checkpoint that answers, and what it has drawn so far.

    path: with how it answers before it (`settings.ways`).  shots: the examples that it is shown, if any.
    """

    path: str
    model: PolicyModule
    tokenizer: PreTrainedTokenizerBase
    generator: Writer
    spent: Spent
    shots: Shots | None = None


class Answering:
    """Puts the same prompts to every model.

    reference: the checkpoint that the KL is measured to.  judge: it scores the answers; a mix measures the units of its parts
    on the answers of the first model, which is the baseline.
    """

    def __init__(
        self,
        settings: Settings,
        prompts: list[Prompt],
        documents: Sequence[Document],
        reference: str,
        judge: Judge,
        world: World,
        run: Run,
    ) -> None:
        self.spent: list[Spent] = []
        self._settings, self._prompts, self._documents = settings, prompts, documents
        self._reference, self._judge, self._world, self._run = reference, judge, world, run
        self._units_known = isinstance(settings.judge, str)  # who judges alone compares in any unit
        self._seed, self._resamples = settings.seed, settings.resamples

    def each_of(
        self, path: str, entrants: Sequence[Entrant], bar: Bar, shots: Shots | None = None
    ) -> Iterator[tuple[Entrant, Answers, list[Row]]]:
        """Every entrant of one checkpoint with its answers, and the rows that need nobody else's answers.

        shots: examples that it is shown.
        """
        loaded = self._load(path, entrants[0].model, shots)
        chooser = self._judge  # which is asked nothing where every response that is drawn is one
        if any(entrant.n > 1 for entrant in entrants):
            chooser = choosing_judge(self._settings, loaded.generator, self._prompts, self._world, self._run)
        for entrant in entrants:
            best = BestOf(loaded.generator, chooser, entrant.n)
            answers = self._answers(entrant, best, control_ids(loaded.tokenizer), bar)
            rows = self._described(entrant.name, answers)
            if self._settings.sizes:
                rows += cost_rows(entrant, best)
            if entrant.n > 1:
                rows += self._of_the_best(entrant, best, loaded)
            else:
                rows += self._of_the_model(entrant.name, answers, loaded)
            yield entrant, answers, rows

    def _load(self, path: str, name: str, shots: Shots | None) -> Loaded:
        way = way_of(path)
        model = policy_of(way, self._world, self._seed)
        tokenizer = load_tokenizer(way.path)
        spent = Spent(model)
        self.spent.append(spent)
        servers = self._settings.servers_of(name)
        plain: Writer
        if servers:
            plain = fixed(self._settings, servers, way.path, tokenizer, self._world, spent)
        else:
            memory = self._settings.memory_mib
            options: dict[str, Any] = {"dtype": self._world.dtype, "memory_mib": memory, "progress": spent}
            plain = LocalGenerator(model, tokenizer, **options)
        generator = FewShot(shots, plain) if shots else plain
        return Loaded(path, model, tokenizer, generator, spent, shots)

    def _answers(self, entrant: Entrant, best: BestOf, control: set[int], bar: Bar) -> Answers:
        sampling = Sampling(self._settings.max_new_tokens, self._settings.temperature, seed=self._seed)
        responses: list[Response] = []
        for start in range(0, len(self._prompts), CHUNK):
            chunk = self._prompts[start : start + CHUNK]
            responses += best.generate(chunk, sampling)
            bar.advance(len(chunk), status=entrant.name)
        if not self._units_known:
            self._measure_units(responses)
        does = [act_of(response, control) for response in responses]
        if self._judge.pairwise:
            return Answers(responses, [], does)
        scores = [score for score in checked(self._judge, responses) if score is not None]
        return Answers(responses, scores if len(scores) == len(responses) else [], does)

    def _measure_units(self, responses: Sequence[Response]) -> None:
        """A mix adds up what its parts say, in units that these responses give where nobody knows them."""
        self._units_known = True

        def first() -> list[Response]:
            return first_of_each(responses, [response.prompt.task for response in responses])

        if said := self._judge.calibrate(first):
            self._run.console.print(said)

    def _described(self, name: str, answers: Answers) -> list[Row]:
        metric = "gold" if self._settings.judge == WORLD else "score"
        seeded = {"seed": self._seed, "resamples": self._resamples}
        rows = (
            scored.evaluate(name, answers.responses, answers.scores, metric, **seeded)
            if answers.scores
            else []
        )
        rows += text.evaluate(name, answers.responses, **seeded)
        return rows + acts.evaluate(name, answers.responses, answers.acts)

    def _of_the_model(self, name: str, answers: Answers, loaded: Loaded) -> list[Row]:
        """What is measured on a model that answers once: entropy, how its responses differ, KL, held-out loss."""
        seeded = {"seed": self._seed, "resamples": self._resamples}
        drawn = self._samples(loaded.generator, answers.responses)
        rows = diversity.entropy_rows(name, drawn, **seeded)
        if self._settings.diversity_samples:
            siblings = loaded.generator.generate(self._few(), self._several())
            rows += diversity.sibling_rows(name, siblings, **seeded) + self._valid(name, siblings)
        ratios = self._log_ratios(loaded, drawn)
        if ratios is not None:
            rows += drift.evaluate(name, ratios, drawn, **seeded)
        if self._documents and not loaded.shots:  # behind examples it reads documents as it does without
            limit = self._settings.max_tokens
            losses = language.losses(
                loaded.model, loaded.tokenizer, self._documents, self._world, max_tokens=limit
            )
            rows += language.evaluate(name, losses, **seeded)
        return rows

    def _of_the_best(self, entrant: Entrant, best: BestOf, loaded: Loaded) -> list[Row]:
        """What is measured on the best of n: the bound of its KL, and where a few prompts are answered several times, how these
        answers differ and the KL itself.

        log (best of n / reference) = log (best of n / model) + log (model / reference).  The mean of the first is
        estimated from the scores of all candidates to a prompt (`kl_estimate`), the second is that of the answers.
        """
        seeded = {"seed": self._seed, "resamples": self._resamples}
        rows = [Row(entrant.name, "kl_bound", OVERALL, kl_bound(entrant.n), unit="nats")]
        if not self._settings.diversity_samples:
            return rows
        found = best.choose(self._few(), self._several())
        answers = [one.response for one in found]
        rows += diversity.sibling_rows(entrant.name, answers, **seeded)
        rows += self._valid(entrant.name, answers, drawn=False)
        ratios = self._log_ratios(loaded, answers)
        if ratios is None:
            return rows
        values: dict[str, list[float]] = defaultdict(list)
        for one in found:
            values[one.response.prompt.id] += one.values
        chosen = {prompt: kl_estimate(torch.tensor(given), entrant.n) for prompt, given in values.items()}
        ratios = ratios + np.array([chosen[answer.prompt.id] for answer in answers])
        return rows + drift.evaluate(entrant.name, ratios, answers, **seeded)

    def _valid(self, name: str, siblings: Sequence[Response], drawn: bool = True) -> list[Row]:
        """Which of several responses to a prompt are valid, and how these differ; [] where that is not asked for."""
        least = self._settings.valid_from
        if least is None:
            return []
        said = zip(siblings, checked(self._judge, siblings), strict=True)
        judged = [(response, score) for response, score in said if score is not None]
        if not judged:
            return []
        responses, scores = zip(*judged, strict=True)
        seeded = {"seed": self._seed, "resamples": self._resamples}
        return diversity.valid_rows(name, responses, scores, least, drawn=drawn, **seeded)

    def _few(self) -> list[Prompt]:
        """The prompts that are answered several times."""
        asked = stratified([p.task for p in self._prompts], self._settings.diversity_prompts, self._seed)
        return [self._prompts[i] for i in asked]

    def _several(self) -> Sampling:
        settings = self._settings
        return Sampling(
            settings.max_new_tokens, settings.temperature or 1.0, settings.diversity_samples, self._seed
        )

    def _samples(self, generator: Writer, responses: Sequence[Response]) -> Sequence[Response]:
        """Responses drawn from the model, for what describes its distribution: a greedy response is no sample of one."""
        if self._settings.temperature:
            return responses
        asked = [response.prompt for response in responses]
        return generator.generate(asked, Sampling(self._settings.max_new_tokens, seed=self._seed))

    def _log_ratios(self, loaded: Loaded, samples: Sequence[Response]) -> np.ndarray | None:
        """log model - log reference of each response, 0 for the reference itself; None where the reference cannot read the
        model's tokens: any number would come out."""
        if loaded.path == self._reference:
            return np.zeros(len(samples))
        if not same_tokenizer(loaded.tokenizer, load_tokenizer(self._reference)):
            return None
        read = self._without_shots(loaded, samples)
        if read is None:
            return None
        reference = policy_of(Way(self._reference), self._world, self._seed)
        fit_embeddings(reference, loaded.tokenizer)  # as in training, where the model got rows for new tokens
        known = reference.host.get_input_embeddings().weight.shape[0]
        if any(token >= known for sample in samples for token in sample.ids):
            return None
        return drift.log_ratios(
            loaded.model,
            reference,
            samples,
            self._world,
            temperature=self._settings.temperature or 1.0,
            max_tokens=self._settings.max_tokens,
            read=read,
        )

    def _without_shots(self, loaded: Loaded, samples: Sequence[Response]) -> Sequence[Response] | None:
        """The samples as the reference reads them, which is shown no examples; None where their end is text, for the reference
        has a token for it."""
        if not loaded.shots:
            return samples
        if any(loaded.shots.end_of(sample.prompt) for sample in samples):
            return None
        found = encode_prompts(loaded.tokenizer, [sample.prompt for sample in samples])
        assert not any(isinstance(ids, Unusable) for ids in found), "behind examples the template took them"
        return [replace(sample, prompt_ids=tuple(ids)) for sample, ids in zip(samples, found, strict=True)]  # type: ignore[arg-type]


def policy_of(way: Way, world: World, seed: int) -> PolicyModule:
    """The model that answers, which learns nothing here.  seed: of the weights of one that is untrained."""
    options: dict[str, Any] = {"dtype": world.dtype, "device": world.device}
    model = (
        load_untrained(way.path, seed=seed, **options) if way.untrained else load_policy(way.path, **options)
    )
    return model.requires_grad_(False)


def cost_rows(entrant: Entrant, best: BestOf) -> list[Row]:
    """What one answer took, candidates that were not chosen included: tokens, and seconds of drawing and choosing."""
    spent = best.spent
    each = (("tokens_per_answer", spent.tokens, "tokens"), ("seconds_per_answer", spent.seconds, "s"))
    return [
        Row(entrant.name, metric, OVERALL, total / spent.answers, n=spent.answers, unit=unit)
        for metric, total, unit in each
    ]
