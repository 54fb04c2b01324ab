"""An exported model predicts what the model predicts that it was made from, whatever a clip is batched with."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_models import save_adapted, shallow

import hf_ser
from hf_ser.export import ClassifierGraph, check_folder, export, write_graph
from hf_ser.pipeline import SERPipeline

#: Every family, norm and head, with the HuBERT of `exported` and the adapted Wav2Vec2: tracing takes long.
KINDS = ("wavlm-group-conv", "whisper-none-conv", "data2vec-layer-stock", "wav2vec2bert-none-conv")
EMOTIONS = ("angry", "happy", "neutral", "sad")
#: Of one frame, of less than the traced ones, of more.
SECONDS = (0.036, 0.7, 2.0, 9.5)


def clips() -> Iterator[dict[str, object]]:
    rng = np.random.default_rng(0)
    for i, seconds in enumerate(SECONDS):
        yield {"array": 0.1 * rng.standard_normal(round(16_000 * seconds)), "sampling_rate": 16_000, "path": f"{i}"}


def answers(recogniser: SERPipeline, batch_size: int) -> np.ndarray:
    """`(clips, emotions)`."""
    found = list(recogniser.predict(list(clips()), batch_size=batch_size))
    assert [prediction.problem for prediction in found] == [None] * len(SECONDS)
    return np.array([list(prediction.probabilities.values()) for prediction in found])


def assert_same(model: Path, exported: Path) -> None:
    torch.set_num_threads(2)
    alone = answers(hf_ser.pipeline(model, device="cpu"), 1)
    assert np.ptp(alone, axis=0).max() > 1e-2, "the clips are too alike for the test"
    recogniser = hf_ser.pipeline(exported)
    for batch_size in (1, len(SECONDS)):
        np.testing.assert_allclose(answers(recogniser, batch_size), alone, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_it_predicts_as_the_model_alone_and_in_a_padded_batch(
    kind: str, classifiers: Callable[[str], Path], tmp_path: Path
) -> None:
    model = classifiers(kind)
    export(model, tmp_path / "exported")
    assert_same(model, tmp_path / "exported")
    check_folder(tmp_path / "exported", overwrite=True)  # all its files are of an export


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


def test_adapters_that_cannot_be_merged_are_in_the_graph(encoders: Callable[..., Path], tmp_path: Path) -> None:
    encoder = shallow(encoders("wav2vec2", "layer"), tmp_path / "encoder")
    model = save_adapted(encoder, tmp_path / "adapter", "adapter+prompt", EMOTIONS, trained=True)
    export(model, tmp_path / "exported")
    assert_same(model, tmp_path / "exported")


def test_a_lora_is_merged(group_norm_hubert: Path, graphs: list[ClassifierGraph], tmp_path: Path) -> None:
    folder = save_adapted(group_norm_hubert, tmp_path / "adapter", "lora_qkv", EMOTIONS, trained=True)
    classifier = hf_ser.pipeline(folder, device="cpu")
    write_graph(classifier, tmp_path / "model.onnx")
    assert any("lora" in name for name in classifier.model.state_dict())
    assert not any("lora" in name for name in graphs[0].state_dict())
    values, mask = torch.randn(2, 8000), torch.ones(2, 8000, dtype=torch.int64)
    with torch.no_grad():
        expected = classifier.model(values, attention_mask=mask).logits
        torch.testing.assert_close(graphs[0](values, mask), expected, atol=1e-4, rtol=1e-4)


def test_the_model_stays_as_it_is(hubert: Path, graphs: list[ClassifierGraph], tmp_path: Path) -> None:
    classifier = hf_ser.pipeline(hubert, device="cpu")
    before = answers(classifier, 4)
    write_graph(classifier, tmp_path / "model.onnx")
    np.testing.assert_array_equal(answers(classifier, 4), before)


def test_other_families_are_refused(tmp_path: Path) -> None:
    config = SimpleNamespace(model_type="audio-spectrogram-transformer")
    with pytest.raises(ValueError, match=r"found 'audio-spectrogram-transformer', expected one of .*hubert"):
        write_graph(SimpleNamespace(model=SimpleNamespace(config=config)), tmp_path / "model.onnx")
