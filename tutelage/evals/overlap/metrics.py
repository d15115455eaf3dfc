"""The overlap metrics that were asked for, computed for outputs with their references."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from tutelage.evals.overlap import bleu, meteor, rouge
from tutelage.evals.overlap.sums import DIFFERENCE, Sums
from tutelage.evals.rows import OVERALL, Row
from tutelage.settings.groups import OverlapSettings

Texts = Sequence[str]
Metric = Callable[[Texts, Sequence[Texts]], Sums]
"""(outputs, the references of each, at least one) -> sums"""


class Metrics:
    """The metrics, loaded once for all outputs, encoders on `device`; `say` tells the user what should not be overlooked."""

    def __init__(self, asked: OverlapSettings, say: Callable[[str], None], device: str = "cpu") -> None:
        made: dict[str, Callable[[], Metric]] = {
            "bleu": lambda: bleu.sums,
            "rouge": lambda: partial(rouge.sums, stemmer=asked.rouge_stemmer),
            "meteor": lambda: self._meteor(asked.wordnet),
            "bertscore": lambda: _bertscore(asked, device),
        }
        self._say = say
        self._metrics = {name: made[name]() for name in asked.overlap}

    def of(self, name: str, outputs: Texts, references: Sequence[Texts]) -> list[Sums]:
        """The sums of each metric; `name`: whose outputs they are, for people.  Every output has a reference."""
        if not outputs:
            return []
        self._warn(name, outputs, references)
        return [
            replace(found, about=f"{found.about}|{_references(references)}")
            for found in (metric(outputs, references) for metric in self._metrics.values())
        ]

    def _meteor(self, wordnet: str) -> Metric:
        found = meteor.Meteor(wordnet)
        if found.name != "meteor":
            self._say(
                "METEOR: there is no WordNet here, so words match by themselves and by their stems only (meteor_nosyn): "
                "install Debian's wordnet-base and wordnet-sense-index, or name its folder with wordnet=."
            )
        return found

    def _warn(self, name: str, outputs: Texts, references: Sequence[Texts]) -> None:
        unread = rouge.unread(outputs), rouge.unread([text for known in references for text in known])
        if "rouge" in self._metrics and any(unread):
            self._say(
                f"{name}: {unread[0]} outputs and {unread[1]} references have no ASCII letter or digit: ROUGE reads them as "
                "empty and gives 0."
            )


def _bertscore(asked: OverlapSettings, device: str) -> Metric:
    from tutelage.evals.overlap.bertscore import BertScore  # torch, for this metric alone

    return BertScore(asked.bertscore_model, asked.bertscore_layer, device)


def _references(references: Sequence[Texts]) -> str:
    counts = {len(known) for known in references}
    return f"nrefs:{counts.pop() if len(counts) == 1 else 'var'}"


def signatures(rows: Sequence[Row]) -> list[str]:
    """For people: the signatures of all outputs together, one line for the metrics that share one."""
    names: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.signature and row.task == OVERALL and not row.metric.endswith(DIFFERENCE):
            names.setdefault(row.signature.partition("|")[2], {})[row.metric] = None
    return [f"{', '.join(metrics)}: {about}" for about, metrics in names.items()]
