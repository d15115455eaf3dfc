"""BERTScore against what bert-score 0.3.13 gave for the same tiny encoder, by hand, and where it is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from tutelage.evals.overlap.bertscore import BertScore

VOCABULARY = "[PAD] [UNK] [CLS] [SEP] [MASK] the cat dog sat ran on mat away ##s ##ly quick . , house".split()  # noqa: SIM905
OUTPUTS = ["the cats sat on the mat.", "a dog", "quickly, the dog ran away", "", "mat"]
REFERENCES = [
    ["the cat sat on the mat.", "the dog ran"],
    ["the dog ran away"],
    ["the dog ran away quickly.", "the house"],
    ["the cat"],
    ["the mat sat on the dog, the house and the cats"],
]
# Precision, recall and F1 by bert_score.BERTScorer(model_type=FOLDER, num_layers=1 or 2, idf=False,
# rescale_with_baseline=False, use_fast_tokenizer=True) of bert-score 0.3.13, the empty output left out.
GOLDEN = {
    1: [
        [0.9967514, 0.9998177, 0.9982822],
        [0.9856145, 0.9926463, 0.9891180],
        [0.9930022, 0.9963694, 0.9946830],
        [0.7411303, 0.9085205, 0.8163328],
    ],
    2: [
        [0.9995624, 0.9998074, 0.9996848],
        [0.9962132, 0.9986319, 0.9974210],
        [0.9991163, 0.9990883, 0.9991023],
        [0.9864529, 0.9958719, 0.9911399],
    ],
}


def encoder(folder: Path) -> Path:
    """A BERT of two layers whose weights are written down by a formula, so that they are the same everywhere."""
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=16)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=16,
        attn_implementation="eager",
    )
    model = BertModel(config).eval()
    with torch.no_grad():
        for number, (name, weights) in enumerate(sorted(model.named_parameters())):
            places = torch.arange(weights.numel(), dtype=torch.float64)
            weights.copy_((torch.sin(places * 1.7 + number) * 0.6).reshape(weights.shape))
            if "LayerNorm.weight" in name:
                weights.fill_(1.0)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder(tmp_path_factory.mktemp("encoder"))


@pytest.mark.parametrize("layer", [1, 2])
def test_it_is_bert_scores(folder: Path, layer: int) -> None:
    found = BertScore(str(folder), layer)(OUTPUTS, REFERENCES)
    kept = [i for i, text in enumerate(OUTPUTS) if text]
    np.testing.assert_allclose(found.columns[kept, :3], GOLDEN[layer], atol=1e-6)
    assert not found.columns[3, :3].any()
    assert [measure.name for measure in found.measures] == [
        "bertscore_precision",
        "bertscore_recall",
        "bertscore",
    ]


def test_no_score_depends_on_the_other_texts(folder: Path) -> None:
    score = BertScore(str(folder), 2)
    together = score(OUTPUTS, REFERENCES).columns
    alone = np.concatenate([score([o], [r]).columns for o, r in zip(OUTPUTS, REFERENCES, strict=True)])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_text_matches_itself(folder: Path) -> None:
    found = BertScore(str(folder))(["the cat sat", " the cat sat "], [["the cat sat"]] * 2)
    np.testing.assert_allclose(found.columns[:, :3], 1, atol=1e-6)


def test_the_layer_is_the_usual_one_and_stands_in_the_signature(folder: Path) -> None:
    score = BertScore(str(folder))
    assert score.layer == 1 and "|layer:1|idf:no|rescaled:no|f1" in score.about
    assert f"model:{folder.name}@" in score.about
    with pytest.raises(ValueError, match=r"bertscore_layer=3, but .* has 2 layers: give one of 1 to 2"):
        BertScore(str(folder), 3)


def test_what_is_no_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"bertscore_model=.* cannot be loaded: .*: name an encoder"):
        BertScore(str(tmp_path))


def test_long_texts_are_cut_as_the_tokenizer_says(folder: Path) -> None:
    long = " ".join(["the dog ran away"] * 40)
    found = BertScore(str(folder), 2)([long], [[long + " house"]])
    np.testing.assert_allclose(found.columns[0, :3], 1, atol=1e-6)
