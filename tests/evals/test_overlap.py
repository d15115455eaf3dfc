"""Overlap metrics against the libraries themselves, by hand, and their intervals in simulation."""

from __future__ import annotations

import math
import random
from pathlib import Path

import nltk
import numpy as np
import pytest
import sacrebleu
from nltk.translate.meteor_score import meteor_score
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

from tutelage import statistics
from tutelage.evals.overlap import bleu, habits, meteor, rouge, sums, wordnet
from tutelage.evals.overlap.metrics import Metrics, signatures
from tutelage.evals.overlap.references import texts_of
from tutelage.settings.evals import OutputsSettings

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "house",
    "sat",
    "ran",
    "quickly,",
    "and",
    "can't",
    "U.S.",
    "3.5",
    "(so)",
    "fine!",
]


def drawn(n: int, references: int, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """Outputs and references of 0 to 14 words; every reference has words."""
    chance = random.Random(seed)

    def text(least: int) -> str:
        return " ".join(chance.choices(WORDS, k=chance.randint(least, 14)))

    known = [[text(1) for _ in range(references)] for _ in range(n)]
    return [text(0) if chance.random() < 0.5 else f"{known[i][0]} {text(0)}" for i in range(n)], known


def values(found: sums.Sums) -> dict[str, float]:
    total = found.columns.sum(axis=0)
    return {measure.name: float(measure.of(total)) for measure in found.measures}


# ---- BLEU --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("references", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_bleu_is_sacrebleus(references: int, seed: int) -> None:
    outputs, known = drawn(60, references, seed)
    found = values(bleu.sums(outputs, known))
    streams = list(map(list, zip(*known, strict=True)))
    for order in range(1, 5):
        metric = BLEU(max_ngram_order=order, smooth_method="none", force=True)
        theirs = metric.corpus_score(outputs, streams)
        assert found[f"bleu_{order}"] == pytest.approx(theirs.score / 100, abs=1e-12)
        assert found[f"bleu_precision_{order}"] == pytest.approx(
            theirs.precisions[order - 1] / 100, abs=1e-12
        )
        parts = dict(part.split(":") for part in str(metric.get_signature()).split("|"))
        ours = bleu.sums(outputs, known).about
        assert f"sacrebleu:{parts['version']}|case:{parts['case']}" in ours
        assert ours.endswith(f"eff:{parts['eff']}|tok:{parts['tok']}|smooth:{parts['smooth']}")


def test_a_resample_of_bleu_is_sacrebleus_of_these_texts() -> None:
    outputs, known = drawn(30, 2)
    found = bleu.sums(outputs, known)
    chosen = np.random.default_rng(1).integers(0, 30, 30)
    again = values(found.only(chosen))["bleu_4"]
    texts, streams = [outputs[i] for i in chosen], [[known[i][k] for i in chosen] for k in range(2)]
    assert again == pytest.approx(
        sacrebleu.corpus_bleu(texts, streams, smooth_method="none").score / 100, abs=1e-12
    )


def test_bleu_by_hand() -> None:
    """5 of 7 words and 4 of 6 pairs are matched, 7 words against 6."""
    found = values(bleu.sums(["the the the cat sat on the"], [["the cat sat on the mat"]]))
    assert found["bleu_precision_1"] == pytest.approx(5 / 7)
    assert found["bleu_precision_2"] == pytest.approx(4 / 6)
    assert found["bleu_2"] == pytest.approx(math.sqrt(5 / 7 * 4 / 6))
    short = values(bleu.sums(["the cat"], [["the cat sat on the mat"]]))
    assert short["bleu_1"] == pytest.approx(math.exp(1 - 6 / 2)) and short["bleu_3"] == 0


@pytest.mark.parametrize("outputs", [[""], ["", "  "], ["word"]])
def test_bleu_of_nothing_is_zero(outputs: list[str]) -> None:
    assert set(values(bleu.sums(outputs, [["some other text here"]] * len(outputs))).values()) == {0.0}


# ---- ROUGE -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stemmer", [False, True])
def test_rouge_is_rouge_scores(stemmer: bool) -> None:
    outputs, known = drawn(40, 2)
    outputs[0], known[0][0] = "the cats sat\nthe dogs ran", "the dog ran\nthe cat sat"
    found = values(rouge.sums(outputs, known, stemmer=stemmer))
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=stemmer)
    for ours, theirs in rouge.KINDS.items():
        each = [
            max(scorer.score(text, output)[theirs].fmeasure for text in texts)
            for output, texts in zip(outputs, known, strict=True)
        ]
        assert found[ours] == pytest.approx(np.mean(each), abs=1e-12)
    assert found["rouge_lsum"] != found["rouge_l"]


def test_rouge_by_hand() -> None:
    """5 of 6 words are shared, and 3 of 5 pairs."""
    found = values(rouge.sums(["the cat sat on the mat"], [["the cat is on the mat"]]))
    assert found["rouge_1"] == pytest.approx(5 / 6) and found["rouge_2"] == pytest.approx(3 / 5)
    assert found["rouge_l"] == pytest.approx(5 / 6)


def test_rouge_reads_no_other_script() -> None:
    assert set(values(rouge.sums(["猫が座る"], [["猫が座る"]])).values()) == {0.0}
    assert rouge.unread(["猫が座る", "", "a 猫", "..."]) == 2


# ---- METEOR ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_wordnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """WordNet's own files, as Debian has them (no lexnames), with one synset: doctor, physician."""
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(nltk.data, "path", [])
    folder = tmp_path / "words"
    folder.mkdir()
    for name in wordnet.FILES:
        (folder / name).write_text("")
    (folder / "data.noun").write_text("00000000 18 n 02 doctor 0 physician 0 000 | who heals  \n")
    (folder / "data.adj").write_text("  1 This is WordNet 3.0 Copyright 2006  \n")
    lines = [f"{word} n 1 0 1 0 00000000  \n" for word in ("doctor", "physician")]
    (folder / "index.noun").write_text("".join(lines))
    return folder


def test_meteor_by_hand(small_wordnet: Path) -> None:
    """Three matches in one chunk with synonyms; without them two in two chunks."""
    texts = (["the doctor sat"], [["the physician sat", "no"]])
    found = meteor.Meteor(str(small_wordnet))
    assert values(found(*texts)) == {"meteor": pytest.approx(1 - 0.5 * (1 / 3) ** 3)}
    assert "|tok:treebank|wordnet:3.0|" in found(*texts).about
    without = meteor.Meteor()
    assert values(without(*texts)) == {"meteor_nosyn": pytest.approx(2 / 3 * (1 - 0.5))}
    assert "|wordnet:none|" in without(*texts).about


def test_meteor_is_nltks(small_wordnet: Path) -> None:
    outputs, known = drawn(20, 2)
    outputs[0], known[0][1] = "the doctors sat\nthe dogs ran", "A physician sat. The dog ran."
    found = meteor.Meteor(str(small_wordnet))
    theirs = [
        meteor_score([meteor.tokens(text) for text in texts], meteor.tokens(output), wordnet=found._wordnet)
        for output, texts in zip(outputs, known, strict=True)
    ]
    assert values(found(outputs, known))["meteor"] == pytest.approx(np.mean(theirs), abs=1e-12)
    assert found(outputs, known).columns[0, 0] == pytest.approx(theirs[0])


def test_without_wordnet_meteor_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(wordnet, "DEBIAN", tmp_path)
    monkeypatch.setattr(nltk.data, "path", [])
    said: list[str] = []
    asked = OutputsSettings(files=["a"], overlap=["meteor"])
    (found,) = Metrics(asked, said.append).of("m", ["a b"], [["a b"]])
    assert found.measures[0].name == "meteor_nosyn" and "there is no WordNet here" in said[0]
    with pytest.raises(
        ValueError, match=r"wordnet=.* has no corpora/wordnet, and of WordNet's own files cntlist.rev"
    ):
        wordnet.reader(str(tmp_path))


def test_debians_wordnet_is_found_and_copied_once(
    small_wordnet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wordnet, "DEBIAN", small_wordnet)
    assert meteor.Meteor().name == "meteor"
    place = wordnet.copied(small_wordnet)
    assert not any(path.is_symlink() for path in place.iterdir())
    assert (place / "lexnames").read_text().splitlines()[18] == "18\tnoun.person\t1"
    assert wordnet.copied(small_wordnet) == place and wordnet.reader(str(place)).synsets("doctor")


# ---- intervals and differences ----------------------------------------------------------------------------------------


def test_rows_do_not_depend_on_the_order_of_prompts() -> None:
    outputs, known = drawn(40, 1)
    prompts = [f"p{i // 2}" for i in range(40)]
    order = random.Random(1).sample(range(40), 40)
    seeded = {"seed": 3, "resamples": 200}
    one = sums.rows("m", "all", bleu.sums(outputs, known), prompts, **seeded)
    shuffled = bleu.sums([outputs[i] for i in order], [known[i] for i in order])
    other = sums.rows("m", "all", shuffled, [prompts[i] for i in order], **seeded)
    for a, b in zip(one, other, strict=True):
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), abs=1e-12)


def test_the_interval_covers_the_corpus_that_texts_are_drawn_from() -> None:
    """The truth is BLEU-2 of 800 prompts with two equal outputs each; samples are 60 of these prompts."""
    whole = bleu.sums(*drawn(800, 1, seed=5)).only(np.repeat(np.arange(800), 2))
    truth, chance = values(whole)["bleu_2"], np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        pairs = chance.choice(800, 60, replace=False)
        members = np.stack([2 * pairs, 2 * pairs + 1], 1).ravel()
        names = np.repeat(pairs, 2).astype(str).tolist()
        row = sums.rows("m", "all", whole.only(members), names, seed=seed, resamples=200)[1]
        hits += row.low <= truth <= row.high
    assert 0.88 <= hits / 200 <= 0.99


def test_a_paired_difference_is_narrower_and_exact() -> None:
    outputs, known = drawn(80, 1)
    worse = [text.replace("the", "that") for text in outputs]
    prompts = [str(i) for i in range(80)]
    a, b = bleu.sums(outputs, known), bleu.sums(worse, known)
    found = sums.difference_rows("m", "all", (b, prompts), (a, prompts), seed=0, resamples=500)
    alone = sums.rows("m", "all", b, prompts, seed=0, resamples=500)
    assert found[0].metric == "bleu_1_difference"
    assert found[0].value == pytest.approx(values(b)["bleu_1"] - values(a)["bleu_1"])
    assert found[0].high - found[0].low < alone[0].high - alone[0].low
    assert all(
        row.value == 0 and row.low is None
        for row in sums.difference_rows("m", "all", (a, prompts), (a, prompts), seed=0, resamples=100)
    )
    with pytest.raises(ValueError, match="different prompts"):
        sums.difference_rows("m", "all", (a, prompts), (b, ["x", *prompts[1:]]), seed=0, resamples=100)


def test_several_statistics_share_their_resamples() -> None:
    data = np.random.default_rng(0).random((50, 2))
    of = [lambda s: s[..., 0], lambda s: s[..., 0] / s[..., 1]]
    together = statistics.bootstrap_each(of, data, seed=4, resamples=300)
    assert together == [statistics.bootstrap_sums(one, data, seed=4, resamples=300) for one in of]


# ---- references, habits, signatures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ("a text", ("a text",)),
        (["one", "two", "one"], ("one", "two")),
        ({"answer": 12}, ("12",)),
        ({"summary": "s", "post": "p"}, ("s",)),
        ({"answers": ["x", " "]}, ("x",)),
        ([{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}], ("r",)),
        ({"kind": "answer", "facts": []}, ()),
        (" ", ()),
        (True, ()),
        (None, ()),
    ],
)
def test_reference_texts(given: object, texts: tuple[str, ...]) -> None:
    assert texts_of(given) == texts


def test_habits_by_hand() -> None:
    outputs, prompts = (
        ["a b c d a b c d", "say it in your own words"],
        ["x", "say it in your own words, please"],
    )
    found = {k: v for one in habits.sums(outputs, prompts, [True, False]) for k, v in values(one).items()}
    assert found == {"words": 7, "repetition": 1 / 8, "copy_rate": 3 / 8, "missing_eos": 0.5}
    assert [m.name for one in habits.sums(outputs, ["", "x"], [None, True]) for m in one.measures] == [
        "words",
        "repetition",
    ]


def test_signatures_say_what_a_number_is() -> None:
    said: list[str] = []
    asked = OutputsSettings(files=["a"], overlap=["bleu", "rouge"])
    outputs, known = drawn(5, 1)
    found = Metrics(asked, said.append).of("m", [*outputs, "猫"], [*known, ["cat", "a cat"]])
    rows = [row for one in found for row in sums.rows("m", "all", one, list("abcdef"), seed=7, resamples=100)]
    assert rows[0].signature.startswith(
        f"bleu_1|sacrebleu:{sacrebleu.__version__}|case:mixed|eff:no|tok:13a|smooth:none|"
    )
    assert rows[0].signature.endswith("|nrefs:var|n:6|bs:100|rs:7")
    assert rows[-1].signature == "rouge_lsum|rouge-score:0.1.2|tok:ascii|stem:no|f1|nrefs:var|n:6|bs:100|rs:7"
    assert [line.partition(": ")[0].split(", ")[0] for line in signatures(rows)] == ["bleu_1", "rouge_1"]
    assert said == [
        "m: 1 outputs and 0 references have no ASCII letter or digit: ROUGE reads them as empty and gives 0."
    ]
