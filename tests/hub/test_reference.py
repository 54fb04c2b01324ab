"""
Reference models of other layouts have the outputs of their published formulas, written here in plain PyTorch on transformers'
own encoders. The models are tiny and random, with the names and the structure of the real ones.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

import hf_ser
from hf_ser.modeling.families import maximum_samples, needs_thirty_seconds

SIZES = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 40, "conv_dim": [16] * 7,
         "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "num_labels": 3}  # fmt: skip
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
WHISPER = {"d_model": 64, "encoder_layers": 4, "encoder_attention_heads": 1, "encoder_ffn_dim": 40, "decoder_layers": 1,
           "decoder_attention_heads": 1, "decoder_ffn_dim": 40, "max_source_positions": 750, "vocab_size": 100, "pad_token_id": 0,
           "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 0}  # fmt: skip
WIDTH, RANK = 24, 4
EMOTIONS = ["angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise", "other"]
DIMENSIONS = ["arousal", "valence", "dominance"]
Truth = Callable[[np.ndarray], torch.Tensor]


def clips() -> list[np.ndarray]:
    """Tones in noise, of several lengths, levels and pitches. The third is no whole number of mel frames."""
    rng = np.random.default_rng(0)
    return [
        (level * (np.sin(np.arange(n) * pitch) + 0.1 * rng.standard_normal(n))).astype(np.float32)
        for level, n, pitch in ((0.1, 16_000, 0.05), (0.4, 6_000, 0.9), (0.02, 27_345, 2.5))
    ]


def spread(model: nn.Module, gain: float = 1.5) -> nn.Module:
    """Random weights, such that the outputs differ from clip to clip."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=gain / np.sqrt(parameter[0].numel()))
        elif parameter.requires_grad:
            nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.2)
    return model.eval()


def write(folder: Path, weights: dict[str, torch.Tensor], config: dict[str, Any]) -> Path:
    folder.mkdir()
    former = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, old in former.items():
        weights = {key.replace(new, old): tensor for key, tensor in weights.items()}
    save_file({key: tensor.detach().clone() for key, tensor in weights.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def dense_head(folder: Path, problem: str, *labels: str) -> tuple[Path, Truth]:
    names = {str(i): label for i, label in enumerate(labels)}
    config = Wav2Vec2Config(**SIZES, **LARGE)
    encoder, dense, out = spread(Wav2Vec2Model(config)), spread(nn.Linear(32, 32)), spread(nn.Linear(32, 3))
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    weights = {f"wav2vec2.{key}": tensor for key, tensor in encoder.state_dict().items()}
    weights |= {f"classifier.dense.{key}": tensor for key, tensor in dense.state_dict().items()}
    weights |= {f"classifier.out_proj.{key}": tensor for key, tensor in out.state_dict().items()}
    settings = {"architectures": ["Wav2Vec2ForSpeechClassification"], "problem_type": problem, "id2label": names,
                "label2id": {label: int(i) for i, label in names.items()}, "pooling_mode": "mean"}  # fmt: skip
    write(folder, weights, config.to_dict() | settings)
    extractor.save_pretrained(folder)

    def truth(clip: np.ndarray) -> torch.Tensor:
        hidden = encoder(extractor(clip, sampling_rate=16_000, return_tensors="pt").input_values).last_hidden_state
        return out(torch.tanh(dense(hidden.mean(dim=1))))[0]

    return folder, truth


def audeering(folder: Path) -> tuple[Path, Truth]:
    return dense_head(folder, "regression", "arousal", "dominance", "valence")


class LoraLinear(nn.Linear):
    """As in loralib: W x + b + B A x / rank."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features)
        self.load_state_dict(linear.state_dict())
        self.lora_A = nn.Parameter(torch.randn(RANK, linear.in_features))
        self.lora_B = nn.Parameter(torch.randn(linear.out_features, RANK))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + F.linear(F.linear(x, self.lora_A), self.lora_B) / RANK


def vox_heads(features: int, outputs: dict[str, int]) -> nn.ModuleDict:
    convolutions = nn.Sequential(
        nn.Conv1d(features, WIDTH, 1), nn.ReLU(), nn.Dropout(0.1),
        nn.Conv1d(WIDTH, WIDTH, 1), nn.ReLU(), nn.Dropout(0.1), nn.Conv1d(WIDTH, WIDTH, 1),
    )  # fmt: skip
    heads = {
        f"{name}_layer": nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, count))
        for name, count in outputs.items()
    }
    return spread(nn.ModuleDict({"model_seq": convolutions, **heads}), gain=1.0)  # type: ignore[return-value]


def vox_outputs(heads: nn.ModuleDict, frames: torch.Tensor, emotions: bool = True) -> torch.Tensor:
    """From the frames `(frames, features)` of one clip."""
    pooled = heads["model_seq"](frames.T[None]).mean(dim=2)[0]
    found = [heads["emotion_layer"](pooled)] if emotions else []
    return torch.cat(found + [torch.sigmoid(heads[f"{dimension}_layer"](pooled)) for dimension in DIMENSIONS])


def vox_config(**settings: Any) -> dict[str, Any]:
    return {"hidden_dim": WIDTH, "finetune_method": "finetune", "lora_rank": RANK, "freeze_params": True, "use_conv_output": True,
            "detailed_class_num": 17, "output_class_num": 9, **settings}  # fmt: skip


def vox_wavlm(
    folder: Path, kind: str = "wavlm_large", lora: bool = False, conv_output: bool = True, dimensional: bool = False
) -> tuple[Path, Truth]:
    large = kind == "wavlm_large"
    encoder: Any = spread(WavLMModel(WavLMConfig(**SIZES, **(LARGE if large else {}))))
    for layer in encoder.encoder.layers[3:] if lora else []:
        layer.feed_forward.intermediate_dense = LoraLinear(layer.feed_forward.intermediate_dense)
        layer.feed_forward.output_dense = LoraLinear(layer.feed_forward.output_dense)
    outputs = (
        dict.fromkeys(DIMENSIONS, 1)
        if dimensional
        else {"emotion": 9, "detailed_out": 17} | dict.fromkeys(DIMENSIONS, 1)
    )
    heads = vox_heads(32, outputs)
    mix = torch.randn(5 if conv_output else 4)
    weights = {f"backbone_model.{key}": tensor for key, tensor in encoder.state_dict().items()}
    weights |= heads.state_dict()
    config = vox_config(
        pretrain_model=kind, finetune_method="lora" if lora else "finetune", use_conv_output=conv_output
    )
    write(folder, weights | {"weights": mix}, config | ({"predict_gender": False} if dimensional else {}))

    def truth(clip: np.ndarray) -> torch.Tensor:
        if large:
            clip = (clip - clip.mean()) / np.sqrt(clip.var() + 1e-7)
        found = encoder(torch.from_numpy(clip)[None], output_hidden_states=True)
        layers = torch.stack([*found.hidden_states[:-1], found.last_hidden_state])[:, 0]
        layers = layers if conv_output else layers[1:]
        return vox_outputs(heads, (mix.softmax(0)[:, None, None] * layers).sum(0), not dimensional)

    return folder, truth


def vox_whisper(folder: Path, lora: bool = True, dimensional: bool = False, shared: bool = False) -> tuple[Path, Truth]:
    model: Any = spread(WhisperModel(WhisperConfig(**WHISPER)))
    for layer in model.encoder.layers[3:] if lora else []:
        layer.fc1, layer.fc2 = LoraLinear(layer.fc1), LoraLinear(layer.fc2)
    heads = vox_heads(64, {"emotion": 9, "detailed_out": 17} | dict.fromkeys(DIMENSIONS, 1))
    weights = {f"backbone_model.{key}": tensor for key, tensor in model.state_dict().items()} | dict(heads.state_dict())
    if not shared:  # the encoder's own are replaced by these before each forward pass
        weights["embed_positions"] = weights["backbone_model.encoder.embed_positions.weight"]
        weights["backbone_model.encoder.embed_positions.weight"] = torch.randn(750, 64)
    config = vox_config(pretrain_model="whisper_tiny", finetune_method="lora" if lora else "finetune")
    write(folder, weights | {"weights": torch.randn(5)}, config | ({"predict_gender": False} if dimensional else {}))
    extractor = WhisperFeatureExtractor(chunk_length=15)

    def truth(clip: np.ndarray) -> torch.Tensor:
        features = extractor(clip, sampling_rate=16_000, return_tensors="pt", max_length=15 * 16_000).input_features
        frames = model.encoder(features).last_hidden_state[0]
        return vox_outputs(heads, frames[: (len(clip) // 160 - 1) // 2 + 1], not dimensional)

    return folder, truth


LAYOUTS: dict[str, Callable[[Path], tuple[Path, Truth]]] = {
    "audeering": audeering,
    "wavlm large": vox_wavlm,
    "wavlm large, dimensions": lambda folder: vox_wavlm(folder, dimensional=True),
    "wavlm base, lora": lambda folder: vox_wavlm(folder, kind="wavlm", lora=True, conv_output=False),
    "whisper, lora": vox_whisper,
    "whisper, dimensions": lambda folder: vox_whisper(folder, lora=False, dimensional=True, shared=True),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_the_outputs_are_those_of_the_published_formula(layout: str, tmp_path: Path) -> None:
    """Alone, and in a padded batch."""
    torch.manual_seed(0)
    folder, truth = LAYOUTS[layout](tmp_path / "model")
    expected = torch.stack([truth(clip) for clip in clips()])
    assert (expected.amax(0) - expected.amin(0)).min() > 1e-3, "the outputs must differ from clip to clip"
    model, extractor = hf_ser.hub.load(folder)
    assert not model.training

    def logits(batch: list[np.ndarray]) -> torch.Tensor:
        return model(**extractor(batch, sampling_rate=16_000, padding=True, return_tensors="pt")).logits

    config = model.config
    labels = [config.id2label[i] for i in range(len(config.id2label))]
    dimensional = layout == "audeering" or "dimensions" in layout
    if layout == "audeering":
        assert labels == config.dimensions == ["arousal", "dominance", "valence"]
    else:
        assert labels == ([] if dimensional else EMOTIONS) + DIMENSIONS
        assert config.dimensions == DIMENSIONS
    assert config.problem_type == ("regression" if dimensional else None)
    torch.testing.assert_close(torch.cat([logits([clip]) for clip in clips()]), expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(logits(clips()), expected, atol=2e-5, rtol=1e-4)


def change(folder: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors")


class TestRefusals:
    @pytest.mark.parametrize(
        ("layout", "weight"),
        [("audeering", "wav2vec2.encoder.layer_norm.bias"), ("wavlm large", "model_seq.3.bias"),
         ("whisper, lora", "backbone_model.encoder.layers.1.fc1.bias")],
    )  # fmt: skip
    def test_a_missing_an_unknown_or_another_weight(self, layout: str, weight: str, tmp_path: Path) -> None:
        folder, _ = LAYOUTS[layout](tmp_path / "model")
        stored = load_file(folder / "model.safetensors")[weight]
        says = r"'.*model': its weights do not fit its config.json: 1 are missing, unknown or of another shape"
        change(folder, lambda weights: weights.update({weight: torch.zeros(7)}))
        with pytest.raises(ValueError, match=says):
            hf_ser.hub.load(folder)
        change(folder, lambda weights: weights.update({weight: stored, "adapter.weight": torch.zeros(7)}))
        with pytest.raises(ValueError, match=says + r", for instance adapter\.weight"):
            hf_ser.hub.load(folder)
        change(folder, lambda weights: [weights.pop("adapter.weight"), weights.pop(weight)])
        with pytest.raises(ValueError, match=says):
            hf_ser.hub.load(folder)

    def test_vox_profiles_other_models(self, tmp_path: Path) -> None:
        folder, _ = vox_wavlm(tmp_path / "model")
        stored = load_file(folder / "model.safetensors")
        accent = {key.replace("arousal", "accent"): tensor for key, tensor in stored.items()}
        change(folder, lambda weights: [weights.clear(), weights.update(accent)])
        with pytest.raises(
            ValueError, match="8 are missing, unknown .* for instance accent_layer.0.bias.* another task"
        ):
            hf_ser.hub.load(folder)
        heads = {key: tensor for key, tensor in stored.items() if not key.startswith("backbone_model")}
        change(folder, lambda weights: [weights.clear(), weights.update(heads)])
        with pytest.raises(ValueError, match="pretrain_model: found 'wavlm_large', but no weights encoder"):
            hf_ser.hub.load(folder)

    def test_emotions_of_unknown_names(self, tmp_path: Path) -> None:
        folder, _ = vox_wavlm(tmp_path / "model")
        four = {"emotion_layer.2.weight": torch.zeros(4, WIDTH), "emotion_layer.2.bias": torch.zeros(4)}
        change(folder, lambda weights: weights.update(four))
        with pytest.raises(ValueError, match=r"2 are .* of another shape, for instance classifier\.emotion\.2"):
            hf_ser.hub.load(folder)

    def test_another_pooling(self, tmp_path: Path) -> None:
        folder, _ = audeering(tmp_path / "model")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"pooling_mode": "max"}))
        with pytest.raises(ValueError, match="pooling_mode: found 'max', expected 'mean'"):
            hf_ser.hub.load(folder)

    def test_a_clip_that_is_longer_than_whisper_takes(self, tmp_path: Path) -> None:
        _, extractor = hf_ser.hub.load(vox_whisper(tmp_path / "model")[0])
        with pytest.raises(ValueError, match="found a clip of 16 s, expected at most 15 s"):
            extractor(np.zeros(256_000, np.float32), sampling_rate=16_000)


def test_whisper_takes_15_seconds_at_once(tmp_path: Path) -> None:
    """A name that ends with -dim is a model of dimensions, too."""
    folder, _ = vox_whisper(tmp_path / "whisper-msp-podcast-emotion-dim")
    config = hf_ser.hub.load(folder)[0].config
    assert list(config.id2label.values()) == DIMENSIONS
    assert maximum_samples(config) == 15 * 16_000
    assert not needs_thirty_seconds(config)


@torch.no_grad()
def test_a_dense_head_of_emotions_goes_through_the_pipeline(tmp_path: Path) -> None:
    """As many models on the Hub have it, with pooling_mode and Wav2Vec2ForSpeechClassification in their config.json."""
    torch.manual_seed(0)
    folder, truth = dense_head(tmp_path / "model", "single_label_classification", "anger", "neutral", "sadness")
    recogniser = hf_ser.pipeline(folder, device="cpu")
    for prediction, clip in zip(recogniser.predict(clips()), clips(), strict=True):
        expected = dict(zip(["anger", "neutral", "sadness"], truth(clip).softmax(-1).tolist(), strict=True))
        assert prediction.probabilities == pytest.approx(expected, abs=1e-5)


@torch.no_grad()
def test_by_its_name_on_the_hub(hub: Any, tmp_path: Path) -> None:
    """vox-profile's repositories have no preprocessor_config.json."""
    torch.manual_seed(0)
    folder, truth = vox_wavlm(tmp_path / "model", dimensional=True)
    HfApi().create_repo("lab/vox")
    HfApi().upload_folder(repo_id="lab/vox", folder_path=folder)
    model, extractor = hf_ser.hub.load("lab/vox")
    logits = model(**extractor(clips()[0], sampling_rate=16_000, return_tensors="pt")).logits
    torch.testing.assert_close(logits[0], truth(clips()[0]), atol=2e-5, rtol=1e-4)
