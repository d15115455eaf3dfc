"""Rewards that are formulas: pure functions of a response, its text or its number of tokens.

Each is easy to exploit on its own (Flesch by short words, keywords by a list of them): use them beside another judge, with a
KL term, or as a gate.  docs/rewards.md says what each measures.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import regex

from tutelage.judges.judge import Judge
from tutelage.records import Response, Score
from tutelage.settings.base import Settings
from tutelage.settings.rules import (
    JsonOptions,
    KeywordsOptions,
    LengthOptions,
    OverlongOptions,
    RegexOptions,
    RepetitionOptions,
)

Rule = Callable[[Response], Score | None]

WORD = re.compile(r"\w+(?:['’]\w+|(?<=[0-9])[.,][0-9]+)*")  # it's, 3.50
SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？]")
VOWELS = re.compile(r"[aeiouy]+")


class Formula(Judge):
    """A judge that scores every response on its own, by a rule."""

    def __init__(self, name: str, rule: Rule) -> None:
        self.name, self._rule = name, rule

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return [self._rule(response) for response in responses]


def formula(name: str, options: Settings) -> Judge:
    """The formula of this name (`formula:flesch`) with its options (`settings/rules.py`).

    Raises ValueError when a pattern or a JSON schema is none.
    """
    return Formula(name, MAKERS[name](options))


# ---- Flesch ------------------------------------------------------------------------------------------------------------


def reading_ease(text: str) -> float | None:
    """Flesch reading ease (Flesch 1948): 206.835 - 1.015 words/sentences - 84.6 syllables/words; None without a sentence.

    About 0 (very hard) to 100 (very easy), not clipped: short words and sentences go beyond.  A sentence ends with . ! ? or …
    before white space or the end; words behind the last end count as words, but are no sentence.
    """
    words = WORD.findall(text)
    sentences = len(SENTENCE_END.findall(text))
    if not words or not sentences:
        return None
    syllables = sum(map(syllables_in, words))
    return 206.835 - 1.015 * len(words) / sentences - 84.6 * syllables / len(words)


def syllables_in(word: str) -> int:
    """Syllables of an English word by rule: its groups of vowels (aeiouy), less a silent e at its end, but at least 1.

    The e at the end sounds after a consonant and l ("table").  Accents are left out of account.
    """
    plain = unicodedata.normalize("NFKD", word.lower())
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    groups = len(VOWELS.findall(plain))
    silent = re.search(r"[^aeiouy]e$", plain) and not re.search(r"[^aeiouy]le$", plain)
    return max(groups - bool(silent), 1)


def _flesch(options: Settings) -> Rule:
    def rule(response: Response) -> Score:
        ease = reading_ease(response.text)
        if ease is None:
            return Score(0.0)
        return Score(min(max(ease, 0.0), 100.0) / 100, {"reading_ease": ease})

    return rule


# ---- length ------------------------------------------------------------------------------------------------------------


def length_of(response: Response) -> int:
    """Generated tokens, the end token among them; words where only the text is known."""
    return len(response.ids) or len(response.text.split())


def _length(options: LengthOptions) -> Rule:
    target = options.target
    return lambda response: Score(-abs(length_of(response) - target) / target)


def _overlong(options: OverlongOptions) -> Rule:
    """DAPO (Yu et al. 2025, arXiv 2503.14476, equation 13): 0 up to limit - margin, then down a line to -1 at limit."""
    limit = options.limit
    margin = limit / 5 if options.margin is None else options.margin

    def rule(response: Response) -> Score:
        over = length_of(response) - (limit - margin)
        if over <= 0:
            return Score(0.0)
        return Score(-min(over / margin, 1.0) if margin else -1.0)

    return rule


# ---- words -------------------------------------------------------------------------------------------------------------


def _repetition(options: RepetitionOptions) -> Rule:
    n = options.n

    def rule(response: Response) -> Score:
        words = WORD.findall(response.text.lower())
        grams = list(zip(*(words[start:] for start in range(n)), strict=False))
        return Score(len(set(grams)) / len(grams) - 1 if grams else 0.0)

    return rule


def _keywords(options: KeywordsOptions) -> Rule:
    def rule(response: Response) -> Score | None:
        wanted = options.keywords or _wanted(response)
        if not wanted:
            return None
        text = response.text.casefold()
        return Score(sum(_has(text, word.casefold()) for word in wanted) / len(wanted))

    return rule


def _wanted(response: Response) -> list[str]:
    """The prompt's own keywords: a list of texts, or one text; [] where it has none."""
    given = (response.prompt.reference or {}).get("keywords")
    words = [given] if isinstance(given, str) else given if isinstance(given, list | tuple) else []
    return list(dict.fromkeys(word for word in words if isinstance(word, str) and word.strip()))


def _has(text: str, word: str) -> bool:
    """Whether the word stands in the text as a whole; where words are not set apart by spaces (Chinese), at all."""
    return bool(re.search(rf"(?<![^\W{CJK}]){re.escape(word.strip())}(?![^\W{CJK}])", text))


CJK = "\u3040-\u30ff\u3400-\u9fff"  # letters of Japanese and Chinese


# ---- form --------------------------------------------------------------------------------------------------------------


def _regex(options: RegexOptions) -> Rule:
    try:
        pattern = regex.compile(options.pattern)
    except regex.error as error:
        raise ValueError(f"pattern {options.pattern!r} is no regular expression: {error}.") from None
    match = pattern.fullmatch if options.match == "full" else pattern.search

    def rule(response: Response) -> Score:
        try:
            return Score(float(match(response.text, timeout=options.seconds) is not None), {"in_time": 1.0})
        except TimeoutError:  # it backtracks without end
            return Score(0.0, {"in_time": 0.0})

    return rule


def _json(options: JsonOptions) -> Rule:
    fits = _schema_check(options.json_schema)

    def rule(response: Response) -> Score:
        try:
            value = json.loads(response.text, parse_constant=_no_json)
        except (ValueError, RecursionError):
            return Score(0.0, {"parses": 0.0})
        return Score(float(fits(value)), {"parses": 1.0})

    return rule


def _no_json(constant: str) -> NoReturn:
    """NaN and Infinity are no JSON, though Python reads them."""
    raise ValueError(constant)


def _schema_check(schema: dict[str, Any] | str) -> Callable[[Any], bool]:
    """Whether a value fits a schema.  Patterns in it run without backtracking, and nothing is fetched."""
    import jsonschema_rs

    given: Any = schema
    where = "json_schema"
    if isinstance(schema, str):
        where = f"json_schema ({schema})"
        try:
            given = json.loads(Path(schema).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{where} cannot be read: {error}.") from None
    try:
        linear = jsonschema_rs.RegexOptions()
        validator = jsonschema_rs.validator_for(given, pattern_options=linear, offline=True)
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise ValueError(f"{where} is no JSON schema: {str(error).splitlines()[0]}.") from None

    def fits(value: Any) -> bool:
        try:
            return bool(validator.is_valid(value))
        except (ValueError, RecursionError):  # nested too deep to be looked through
            return False

    return fits


MAKERS: Mapping[str, Callable[[Any], Rule]] = {
    "formula:flesch": _flesch,
    "formula:length": _length,
    "formula:overlong": _overlong,
    "formula:repetition": _repetition,
    "formula:keywords": _keywords,
    "formula:regex": _regex,
    "formula:json": _json,
}
