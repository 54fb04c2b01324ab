"""An exported model answers as the model that it was made of, whatever it is and whatever a clip is batched with."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AudioClassificationPipeline

import hf_ser
from hf_ser.export import load_exported
from hf_ser.export.files import check_folder
from hf_ser.export.graph import ClassifierGraph, MaskedGroupNorm, ValidFrames, write_graph
from hf_ser.export.run import export
from hf_ser.inference import predict
from hf_ser.modeling import ClipGroupNorm
from hf_ser.models import load_model
from hf_ser.tuning import Tuning, save_adapter, tune

#: Every family, norm and head, with the HuBERT of `exported` and the adapted Wav2Vec2: tracing takes long.
KINDS = ("wavlm-group-conv", "whisper-none-conv", "data2vec-layer-stock", "wav2vec2bert-none-conv")
#: Of one frame, of less than the traced ones, of more.
SECONDS = (0.036, 0.7, 2.0, 9.5)


def clips() -> Iterator[dict[str, object]]:
    rng = np.random.default_rng(0)
    for i, seconds in enumerate(SECONDS):
        yield {"array": 0.1 * rng.standard_normal(round(16_000 * seconds)), "sampling_rate": 16_000, "path": f"{i}"}


def answers(classifier: AudioClassificationPipeline, batch_seconds: float) -> np.ndarray:
    """`(clips, emotions)`."""
    said = list(predict(classifier, list(clips()), batch_seconds=batch_seconds, progress=False))
    assert [prediction.problem for prediction in said] == [None] * len(SECONDS)
    return np.array([list(prediction.probabilities.values()) for prediction in said])


def assert_same(model: Path, exported: Path) -> None:
    alone = answers(hf_ser.load(model, device="cpu"), 1e-3)
    assert np.ptp(alone, axis=0).max() > 1e-2, "the clips are too much alike to tell anything"
    classifier = load_exported(exported)
    np.testing.assert_allclose(answers(classifier, 1e-3), alone, atol=2e-5)
    np.testing.assert_allclose(answers(classifier, 60), alone, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_it_answers_as_the_model_alone_and_in_a_padded_batch(
    kind: str, classifiers: Callable[[str], Path], tmp_path: Path
) -> None:
    model = classifiers(kind)
    export(model, tmp_path / "exported")
    assert_same(model, tmp_path / "exported")
    check_folder(tmp_path / "exported", overwrite=True)  # there is nothing in it that no export leaves


def test_group_norm_and_a_stock_head(hubert: Path, exported: Path) -> None:
    assert_same(hubert, exported)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[ClassifierGraph]:
    """What would be traced, and is not."""
    found: list[ClassifierGraph] = []

    def trace(graph: ClassifierGraph, *args: object, **kwargs: object) -> SimpleNamespace:
        found.append(graph)
        return SimpleNamespace(save=lambda path: None)

    monkeypatch.setattr(torch.onnx, "export", trace)
    return found


def save_trained_adapter(method: str, encoder: Path, folder: Path) -> Path:
    torch.manual_seed(0)
    loaded = load_model(str(encoder), ("angry", "happy", "neutral", "sad"))
    loaded.model.classifier.weight.data *= 30
    tuned = tune(loaded, Tuning(method=method))
    for name, parameter in tuned.model.named_parameters():
        if parameter.requires_grad and "classifier" not in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    save_adapter(tuned.model, tuned.new, folder, str(encoder))
    loaded.model.config.save_pretrained(folder)
    loaded.feature_extractor.save_pretrained(folder)
    return folder


def test_adapters_that_cannot_be_merged_are_in_the_graph(encoders: Callable[..., Path], tmp_path: Path) -> None:
    model = save_trained_adapter("adapter+prompt", encoders("wav2vec2", "layer"), tmp_path / "adapter")
    export(model, tmp_path / "exported")
    assert_same(model, tmp_path / "exported")


def test_a_lora_is_merged(group_norm_hubert: Path, graphs: list[ClassifierGraph], tmp_path: Path) -> None:
    classifier = hf_ser.load(save_trained_adapter("lora_qkv", group_norm_hubert, tmp_path / "adapter"), device="cpu")
    write_graph(classifier, tmp_path / "model.onnx")
    assert any("lora" in name for name in classifier.model.state_dict())
    assert not any("lora" in name for name in graphs[0].state_dict())
    values, mask = torch.randn(2, 8000), torch.ones(2, 8000, dtype=torch.int64)
    with torch.no_grad():
        expected = classifier.model(values, attention_mask=mask).logits
        torch.testing.assert_close(graphs[0](values, mask), expected, atol=1e-4, rtol=1e-4)


def test_the_model_stays_as_it_is(hubert: Path, graphs: list[ClassifierGraph], tmp_path: Path) -> None:
    classifier = hf_ser.load(hubert, device="cpu")
    before = answers(classifier, 60)
    write_graph(classifier, tmp_path / "model.onnx")
    assert any(isinstance(module, MaskedGroupNorm) for module in graphs[0].modules())
    np.testing.assert_array_equal(answers(classifier, 60), before)


def test_other_families_are_refused(tmp_path: Path) -> None:
    config = SimpleNamespace(model_type="audio-spectrogram-transformer")
    with pytest.raises(ValueError, match=r"is a audio-spectrogram-transformer; what can be exported is .*hubert"):
        write_graph(SimpleNamespace(model=SimpleNamespace(config=config)), tmp_path / "model.onnx")


@settings(deadline=None, max_examples=30)
@given(lengths=st.lists(st.integers(2, 40), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_the_norm_of_the_graph_hears_the_valid_frames_alone(lengths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    stock = nn.GroupNorm(5, 5)
    nn.init.normal_(stock.weight)
    nn.init.normal_(stock.bias)
    hidden = 3 * torch.randn(len(lengths), 5, max(lengths)) + torch.randn(1, 5, 1)
    valid = ValidFrames()
    valid.frames = torch.tensor(lengths)
    found = MaskedGroupNorm(stock, valid)(hidden)
    stock.__class__ = ClipGroupNorm
    stock.frames = lengths
    expected = stock(hidden)
    for clip, length in enumerate(lengths):
        torch.testing.assert_close(found[clip, :, :length], expected[clip, :, :length], atol=1e-4, rtol=1e-4)
