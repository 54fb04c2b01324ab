"""What an export leaves, and how it opens."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import HubertConfig, PretrainedConfig, Wav2Vec2BertConfig, WhisperConfig

from hf_ser.export import exported as exported_module
from hf_ser.export import is_exported, load_exported
from hf_ser.export.exported import ExportedModel
from hf_ser.inference import predict, timeline


def noise(*seconds: float) -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    return [{"array": 0.1 * rng.standard_normal(round(16_000 * s)), "sampling_rate": 16_000} for s in seconds]


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copied"))


def test_what_is_left(exported: Path, exported_int8: Path) -> None:
    assert {path.name for path in exported.iterdir()} == {
        "model.onnx", "config.json", "preprocessor_config.json", "export.json"}  # fmt: skip
    record = json.loads((exported / "export.json").read_text())
    assert record["model"] == "hubert-group-stock"
    assert record["precision"] == "float32"
    assert record["comparison"]["clips"] == 8
    assert max(record["comparison"]["alone"], record["comparison"]["batch"]) < record["tolerance"] == 1e-4
    assert {path.name for path in exported_int8.iterdir()} == {
        "model_int8.onnx", "config.json", "preprocessor_config.json", "export.json"}  # fmt: skip
    assert json.loads((exported_int8 / "export.json").read_text())["tolerance"] == 0.05
    assert (exported_int8 / "model_int8.onnx").stat().st_size < (exported / "model.onnx").stat().st_size


def test_it_goes_where_a_pipeline_goes(exported: Path) -> None:
    classifier = load_exported(exported, threads=1)
    waveform = noise(3)[0]["array"]
    (said,) = predict(classifier, noise(3))
    called = classifier({"array": waveform.astype(np.float32), "sampling_rate": 16_000})
    assert {answer["label"]: answer["score"] for answer in called} == pytest.approx(said.probabilities, abs=1e-6)
    assert timeline(classifier, noise(3)[0], window=1.0, hop=1.0).probabilities.shape == (3, 4)


def test_without_a_mask_all_of_it_is_the_clip(exported: Path) -> None:
    model = load_exported(exported).model
    values = torch.randn(2, 8000)
    torch.testing.assert_close(model(values).logits, model(values, torch.ones(2, 8000, dtype=torch.int32)).logits)


def test_in_int8_a_clip_gets_the_same_answer_in_any_batch(exported_int8: Path) -> None:
    classifier = load_exported(exported_int8)
    clips = noise(1, 5, 2.5)
    alone = [next(predict(classifier, [clip])).probabilities for clip in clips]
    together = [prediction.probabilities for prediction in predict(classifier, clips, batch_seconds=60)]
    assert together == alone


@pytest.mark.parametrize(
    ("config", "name", "shape"),
    [
        (HubertConfig(), "input_values", (2, 9)),
        (WhisperConfig(), "input_features", (2, 80, 9)),
        (Wav2Vec2BertConfig(), "input_features", (2, 9, 160)),
    ],
)
def test_one_by_one_clips_lose_their_padding_and_nothing_else(
    config: PretrainedConfig, name: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[dict[str, np.ndarray]] = []

    def run(names: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        heard.append(inputs)
        return [np.zeros((1, 4), dtype=np.float32)]

    session = SimpleNamespace(run=run, get_inputs=lambda: [SimpleNamespace(name=name), SimpleNamespace(name="mask")])
    monkeypatch.setattr(exported_module, "_open", lambda graph, threads: session)
    model = ExportedModel(Path("model.onnx"), config, one_by_one=True)
    values = torch.randn(*shape)
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, 5:] = 0
    assert model(**{name: values}, attention_mask=mask).logits.shape == (2, 4)
    short = values[1:, :5] if shape[1] == 9 else values[1:, :, :5]
    assert np.array_equal(heard[0][name], values[:1])
    assert np.array_equal(heard[1][name], short)
    heard.clear()
    model(**{name: values})
    assert [clip[name].shape[1:] for clip in heard] == [shape[1:]] * 2


def test_what_it_is_called_with(exported: Path) -> None:
    with pytest.raises(ValueError, match="input_values is missing"):
        load_exported(exported).model(input_features=torch.zeros(1, 8, 100))
    with pytest.raises(ValueError, match="threads: must be at least 1, found 0"):
        load_exported(exported, threads=0)


def test_what_is_no_exported_model(hubert: Path, exported: Path, tmp_path: Path) -> None:
    assert is_exported(exported)
    assert not is_exported(hubert)
    for folder in (hubert, tmp_path / "gone"):
        with pytest.raises(FileNotFoundError, match=r"no exported model: it has no export.json.*hf_ser.load"):
            load_exported(folder)


@pytest.mark.parametrize("name", ["model.onnx", "config.json", "preprocessor_config.json"])
def test_a_file_that_is_missing_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {name}: copy it again, or export the model anew"):
        load_exported(copied)


def test_damaged_files_are_named(copied: Path) -> None:
    (copied / "model.onnx").write_bytes((copied / "model.onnx").read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"model.onnx' cannot be opened"):
        load_exported(copied)
    (copied / "export.json").write_text('{"precision": "int3"}')
    with pytest.raises(ValueError, match=r"export.json' is damaged"):
        load_exported(copied)


def test_without_onnxruntime_it_says_what_to_install(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs onnxruntime; install it with pip install 'hf_ser\[export\]'"):
        load_exported(exported)
