"""Features are found again where they are the same, and nowhere else."""

import copy
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset
from tiny_models import make_hubert

from hf_ser.audio import Augmentation, Segments, cut
from hf_ser.modeling import load_model
from hf_ser.modeling.load import Loaded
from hf_ser.training.dataset import SpeechDataset
from hf_ser.training.frozen.parts import part_key, segment_keys

EMOTIONS = ("angry", "sad")


def name_of(loaded: Loaded, part: str = "encoder", precision: str = "no") -> str:
    return part_key(loaded.model, part, loaded.feature_extractor, precision)


def nudge(loaded: Loaded, weight: str) -> None:
    with torch.no_grad():
        loaded.model.get_parameter(weight).view(-1)[0] += 1e-3


CHANGES: dict[str, Callable[[Loaded], Any]] = {
    "a weight": lambda loaded: nudge(loaded, "hubert.encoder.layers.1.final_layer_norm.bias"),
    "a weight of the convolutions": lambda loaded: nudge(loaded, "hubert.feature_extractor.conv_layers.0.conv.weight"),
    "a setting of the encoder": lambda loaded: loaded.model.config.update({"layer_norm_eps": 1e-3}),
    "a setting of the convolutions": lambda loaded: loaded.model.config.update({"feat_extract_activation": "relu"}),
    "feature extraction": lambda loaded: setattr(loaded.feature_extractor, "do_normalize", False),
    "the classifier": lambda loaded: nudge(loaded, "classifier.weight"),
    "the projector": lambda loaded: nudge(loaded, "projector.weight"),
    "the emotions": lambda loaded: loaded.model.config.update({"id2label": {0: "x", 1: "y"}}),
    "masks and dropout": lambda loaded: loaded.model.config.update({"apply_spec_augment": True, "mask_time_prob": 0.5, "hidden_dropout": 0.4}),
    "the embedding of masked frames": lambda loaded: nudge(loaded, "hubert.masked_spec_embed"),
}  # fmt: skip
OF_THE_ENCODER = list(CHANGES)[:5]
OF_THE_CONVOLUTIONS = [change for change in OF_THE_ENCODER if "convolutions" in change] + ["feature extraction"]


@pytest.mark.parametrize("change", CHANGES)
def test_another_frozen_part_has_another_key(tmp_path: Path, change: str) -> None:
    folder = make_hubert(tmp_path / "model")
    before, after = (load_model(str(folder), EMOTIONS) for _ in range(2))
    assert name_of(before) == name_of(after)  # though their classifiers are drawn at random
    CHANGES[change](after)
    assert (name_of(before) != name_of(after)) == (change in OF_THE_ENCODER)
    same = name_of(before, "feature_encoder") == name_of(after, "feature_encoder")
    assert same == (change not in OF_THE_CONVOLUTIONS)


def test_parts_heads_and_precisions_differ(tiny_hubert: Path) -> None:
    stock = load_model(str(tiny_hubert), EMOTIONS, weighted_layer_sum=True)
    conv = load_model(str(tiny_hubert), EMOTIONS, head="conv")  # which leaves out what enters the first layer
    names = [name_of(stock, part, precision) for part in ("encoder", "pooled") for precision in ("no", "bf16")]
    names += [name_of(stock, "layers"), name_of(conv, "layers")]
    assert len(set(names)) == len(names)


def test_tf32_is_another_precision(tiny_hubert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: transformers sets it in one way, and PyTorch then refuses to read it in the other."""
    loaded = load_model(str(tiny_hubert), EMOTIONS)
    without = name_of(loaded)
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends, "fp32_precision", "tf32")
        assert name_of(loaded) != without
    try:
        torch.backends.cudnn.conv.fp32_precision = "ieee"
        assert name_of(loaded) != without
    finally:
        torch.backends.cudnn.conv.fp32_precision = "tf32"


@pytest.fixture
def clips() -> Dataset:
    found = Dataset.from_dict({"samples_hash": ["first", "second", "third"], "label": [0, 1, 0]})
    return found.cast_column("label", ClassLabel(names=["angry", "sad"]))


def test_the_key_of_a_segment_covers_its_samples_and_its_place(clips: Dataset) -> None:
    segments = cut([16_000, 40_000, 16_000], 1.0)
    assert segments.clip.tolist() == [0, 1, 1, 1, 2]
    keys = segment_keys(SpeechDataset(clips, segments))
    assert len(set(keys)) == 5
    # In another fold, with other labels and another seed.
    some = Segments(segments.clip[3:] - 1, segments.start[3:], segments.stop[3:])
    others = clips.select([1, 2]).remove_columns("label").add_column("label", [2, 1])
    others = others.cast_column("label", ClassLabel(names=["calm", "fear", "happy"]))
    assert segment_keys(SpeechDataset(others, some, seed=9)) == keys[3:]


@pytest.mark.parametrize("package", ["hf_ser", "numpy", "scipy", "soundfile", "torchaudio"])
def test_the_key_of_an_augmented_view_covers_the_versions_that_made_it(
    clips: Dataset, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: views that a later version would draw otherwise were mixed with those that an earlier one had drawn."""
    segments, true = cut([16_000, 40_000, 16_000]), metadata.version
    plain = SpeechDataset(clips, segments)
    augmented = SpeechDataset(clips, segments, Augmentation(noise_probability=0.5))
    before = segment_keys(plain), segment_keys(augmented)
    monkeypatch.setattr(metadata, "version", lambda name: "0.0.1" if name == package else true(name))
    assert segment_keys(plain) == before[0]
    assert not {*segment_keys(augmented)} & {*before[1]}


def test_the_key_of_an_augmented_view_covers_all_that_is_drawn(clips: Dataset) -> None:
    segments = cut([16_000, 40_000, 16_000])
    usual = {"augmentation": Augmentation(noise_probability=0.5), "seed": 1}

    def keys(view: int = 0, **changes: Any) -> list[str]:
        return segment_keys(SpeechDataset(clips, segments, **{**usual, **changes}), view)

    assert keys() == keys(augmentation=copy.deepcopy(usual["augmentation"]))
    louder = Augmentation(noise_probability=0.5, noise_snr=[0.0, 30.0])
    others = [keys(1), keys(seed=2), keys(augmentation=louder), keys(augmentation=None)]
    assert len({key for found in (keys(), *others) for key in found}) == 15
    assert keys(1, augmentation=None) == keys(augmentation=None)  # nothing is drawn


@pytest.mark.parametrize(
    "augmentation", [Augmentation(mixup_alpha=1), Augmentation(distort_probability=1, distort_kinds=["babble"])]
)
def test_the_key_of_a_view_with_other_clips_covers_them(clips: Dataset, augmentation: Augmentation) -> None:
    segments = cut([16_000, 40_000, 16_000])
    before = segment_keys(SpeechDataset(clips, segments, augmentation))
    changed = clips.remove_columns("samples_hash").add_column("samples_hash", ["first", "second", "another"])
    after = segment_keys(SpeechDataset(changed, segments, augmentation))
    others = [SpeechDataset(clips, segments, augmentation).others(0, i) for i in range(3)]
    takes_third = [2 in (i, partner, *voices) for i, (partner, voices, _) in enumerate(others)]
    assert [a != b for a, b in zip(before, after, strict=True)] == takes_third
    assert takes_third[2]
