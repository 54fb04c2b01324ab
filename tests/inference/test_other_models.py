"""Models that transformers has and this package does not train have the probabilities of transformers' pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    ASTFeatureExtractor,
    AutoConfig,
    AutoModelForAudioClassification,
    SequenceFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
    pipeline,
)

import hf_ser
from hf_ser.pipeline import SERPipeline

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 37}
CONVOLUTIONS = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
                "classifier_proj_size": 24}  # fmt: skip
LABELS = {"id2label": {0: "neu", 1: "hap", 2: "ang", 3: "sad"}}
WHISPER = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 37, "decoder_layers": 1,
           "decoder_attention_heads": 2, "decoder_ffn_dim": 37}  # fmt: skip
WAVES = Wav2Vec2FeatureExtractor(return_attention_mask=False, do_normalize=True)
#: Families of transformers: sizes of a tiny model, and its feature extractor.
KINDS: dict[str, tuple[dict[str, Any], SequenceFeatureExtractor]] = {
    "wav2vec2-conformer": ({**SIZES, **CONVOLUTIONS}, WAVES),
    "sew": ({**SIZES, **CONVOLUTIONS, "conv_dim": [16] * 13}, WAVES),
    "whisper": (WHISPER, WhisperFeatureExtractor()),
    "audio-spectrogram-transformer": (SIZES, ASTFeatureExtractor()),
}


def save(kind: str, folder: Path) -> Path:
    """A random model whose predictions differ from clip to clip."""
    torch.manual_seed(0)
    sizes, extractor = KINDS[kind]
    model = AutoModelForAudioClassification.from_config(AutoConfig.for_model(kind, **sizes, **LABELS))
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            torch.nn.init.orthogonal_(weight, gain=1.0 if name.startswith("classifier") else 2.0)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


def clips() -> list[dict[str, Any]]:
    """Noises of several lengths, levels and colours."""
    found = []
    for seed, seconds in enumerate([1.0, 0.3, 2.1, 0.75]):
        rng = np.random.default_rng(seed)
        noise = np.convolve(rng.standard_normal(round(16_000 * seconds)), rng.uniform(-1, 1, 1 + 3 * seed), "same")
        found.append({"array": (0.1 * noise).astype(np.float32), "sampling_rate": 16_000})
    return found


def answers(recogniser: SERPipeline, sources: Any, **options: Any) -> list[dict[str, float]]:
    return [{row["label"]: row["score"] for row in rows} for rows in recogniser(sources, **options)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_as_the_plain_pipeline_alone_and_beside_others(kind: str, tmp_path: Path) -> None:
    """Padding changes the outputs of many of these, and transformers' Whisper takes 30 s."""
    model = save(kind, tmp_path)
    plain = pipeline("audio-classification", model=str(model), top_k=None)
    expected = [{row["label"]: row["score"] for row in plain(dict(clip))} for clip in clips()]
    assert np.ptp([list(dict(sorted(row.items())).values()) for row in expected], axis=0).max() > 0.005
    for found, reference in zip(answers(hf_ser.pipeline(model), clips(), batch_seconds=100.0), expected, strict=True):
        assert found == pytest.approx(reference, abs=1e-5)


@pytest.mark.parametrize("kind", ["whisper", "audio-spectrogram-transformer"])
def test_a_clip_that_is_longer_than_the_models_input_counts_to_its_end(kind: str, tmp_path: Path) -> None:
    classifier = hf_ser.pipeline(save(kind, tmp_path))
    rng = np.random.default_rng(0)
    clip = (0.1 * rng.standard_normal(31 * 16_000)).astype(np.float32)
    (reference,) = answers(classifier, [clip], longest=60.0)
    clip[-16_000:] = 0.3 * np.sin(np.arange(16_000))
    (found,) = answers(classifier, [clip], longest=60.0)
    assert max(abs(found[emotion] - reference[emotion]) for emotion in found) > 1e-5


def test_in_a_batch_of_whisper_each_clip_counts_as_30_seconds(tmp_path: Path) -> None:
    """However short it is: else a batch for a GPU would be of hours."""
    classifier = hf_ser.pipeline(save("whisper", tmp_path))
    waves = [clip["array"] for clip in clips()]
    sizes = [len(batch) for batch, _ in classifier.classify(waves, batch_seconds=60.0)]
    assert sizes == [2, 2]
    assert [len(batch) for batch, _ in classifier.classify(waves, batch_seconds=8.0)] == [1] * 4


@pytest.mark.parametrize(("kind", "most"), [("whisper", "30"), ("audio-spectrogram-transformer", "10.255")])
def test_a_window_may_not_be_longer_than_the_models_input(kind: str, most: str, tmp_path: Path) -> None:
    classifier = hf_ser.pipeline(save(kind, tmp_path))
    with pytest.raises(ValueError, match=f"window: the model takes {most} s at most, found 31"):
        classifier.timeline({"array": np.ones(16_000, np.float32), "sampling_rate": 16_000}, window=31.0, hop=1.0)
