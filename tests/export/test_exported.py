"""The files of an export, and how it opens."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import hf_ser


def noise(*seconds: float) -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    return [{"array": 0.1 * rng.standard_normal(round(16_000 * s)), "sampling_rate": 16_000} for s in seconds]


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copied"))


def test_the_files(exported: Path, exported_int8: Path) -> None:
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


def test_it_opens_in_the_pipeline(exported: Path) -> None:
    recogniser = hf_ser.pipeline(exported, device="cpu")
    (clip,) = noise(3)
    (predicted,) = recogniser.predict(clip)
    assert {row["label"]: row["score"] for row in recogniser(clip)} == pytest.approx(predicted.probabilities)
    assert recogniser.timeline(clip, window=1.0, hop=1.0).probabilities.shape == (3, 4)
    for options in ({"precision": "int8"}, {"base": "user/base"}, {"device": "cuda:0"}):
        (name,) = options
        with pytest.raises(ValueError, match=f"^{name}: .* is an exported model"):
            hf_ser.pipeline(exported, **options)


def test_without_a_mask_all_of_the_input_is_the_clips(exported: Path) -> None:
    model = hf_ser.pipeline(exported).model
    values = torch.randn(2, 8000)
    torch.testing.assert_close(model(values).logits, model(values, torch.ones(2, 8000, dtype=torch.int32)).logits)
    with pytest.raises(ValueError, match="input_values is missing"):
        model(input_features=torch.zeros(1, 8, 100))


def test_in_int8_a_clip_has_the_same_probabilities_in_any_batch(exported_int8: Path) -> None:
    recogniser = hf_ser.pipeline(exported_int8)
    clips = noise(1, 5, 2.5)
    alone = [next(recogniser.predict([clip])).probabilities for clip in clips]
    assert [prediction.probabilities for prediction in recogniser.predict(clips, batch_seconds=60)] == alone


@pytest.mark.parametrize("name", ["model.onnx", "config.json", "preprocessor_config.json"])
def test_a_file_that_is_missing_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {name}: copy it again, or export the model again"):
        hf_ser.pipeline(copied)


def test_damaged_files_are_named(copied: Path) -> None:
    (copied / "model.onnx").write_bytes((copied / "model.onnx").read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"model.onnx' cannot be opened"):
        hf_ser.pipeline(copied)
    (copied / "export.json").write_text('{"precision": "int3"}')
    with pytest.raises(ValueError, match=r"export.json' is damaged"):
        hf_ser.pipeline(copied)


def test_without_onnxruntime_it_says_what_to_install(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs onnxruntime; install it with pip install 'hf_ser\[export\]'"):
        hf_ser.pipeline(exported)
