"""The overlap of what models answered in `eval` with the reference texts of the prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from tutelage.evals.overlap import habits
from tutelage.evals.overlap.beside import Measured, rows
from tutelage.evals.overlap.metrics import Metrics
from tutelage.evals.overlap.references import texts_of
from tutelage.evals.rows import Row
from tutelage.parallel import World
from tutelage.records import Response
from tutelage.runs import Run
from tutelage.settings.evals import EvalSettings
from tutelage.worlds.world import faultless

BESIDE = ("words", "repetition")  # the other habits are measured of all responses anyway


class Comparing:
    """Compares answers with the prompts' reference texts.  What it needs is loaded at once, before any model answers."""

    def __init__(self, settings: EvalSettings, world: World, run: Run) -> None:
        self._settings, self._run = settings, run
        say = partial(run.console.print, markup=False, highlight=False)
        self._metrics = Metrics(settings, say, str(world.device))

    def rows(self, models: Mapping[str, Sequence[Response]], baseline: str) -> list[Row]:
        """The rows of every model, and its paired differences to the baseline; how many prompts have no reference is said.

        All models answered the same prompts once, in the same order.  No rows where no metric is asked for.
        """
        if not self._settings.overlap:
            return []
        prompts = [response.prompt for response in models[baseline]]
        own = [faultless(prompt) for prompt in prompts]
        references = [texts or texts_of(p.reference) for texts, p in zip(own, prompts, strict=True)]
        compared = [i for i, texts in enumerate(references) if texts]
        self._run.note(without_reference=len(prompts) - len(compared))
        self._say_which(len(prompts), len(compared), sum(map(bool, own)))
        known = [references[i] for i in compared]
        found = {}
        for name, responses in models.items():
            texts = [response.text for response in responses]
            described = habits.sums(texts, [p.text() for p in prompts], [None for _ in prompts])
            parts = [(one, list(range(len(prompts)))) for one in described if one.measures[0].name in BESIDE]
            parts += [(one, compared) for one in self._metrics.of(name, [texts[i] for i in compared], known)]
            found[name] = Measured([p.id for p in prompts], [p.task for p in prompts], parts)
        return rows(found, baseline, seed=self._settings.seed, resamples=self._settings.resamples)

    def _say_which(self, prompts: int, compared: int, own: int) -> None:
        asked, say = ", ".join(self._settings.overlap), partial(self._run.console.print, highlight=False)
        if own:
            say(f"{own} prompts of the embedded world: compared with its own responses without a fault.")
        if none := prompts - compared:
            left = f"{asked} over the other {compared}" if compared else f"no {asked}"
            say(f"{none} of {prompts} prompts have no reference text: {left}.")
