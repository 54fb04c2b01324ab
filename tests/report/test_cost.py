"""What a model costs: the numbers are plausible, and those that can be counted by hand are right."""

import json
from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import save_adapted, save_model

import hf_ser
from hf_ser.modeling import load_model
from hf_ser.pipeline import SERPipeline
from hf_ser.report import cost
from hf_ser.report.cost import count_flops, count_parameters, measure_cost, size_on_disk

EMOTIONS = ("angry", "happy", "sad")


@pytest.fixture(scope="module")
def folder(tiny_hubert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tiny_hubert, tmp_path_factory.mktemp("cost") / "model", EMOTIONS)


@pytest.fixture(scope="module")
def classifier(folder: Path) -> SERPipeline:
    return hf_ser.pipeline(folder, device="cpu")


@pytest.fixture(scope="module")
def measured(classifier: SERPipeline, folder: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "LEAST_WALL", 0.05)
        return measure_cost(classifier, folder=folder, seconds=(0.5, 2), runs=5, batch_seconds=6)


def test_what_is_measured(measured: dict[str, Any], classifier: SERPipeline) -> None:
    assert json.loads(json.dumps(measured, allow_nan=False)) == measured
    assert set(measured) == {"device", "latency", "throughput", "memory", "parameters", "flops", "size"}
    assert (measured["device"]["kind"], measured["device"]["dtype"]) == ("cpu", "float32")
    assert [(entry["seconds"], entry["runs"]) for entry in measured["latency"]] == [(0.5, 5), (2, 5)]
    assert all(0 < entry["median_ms"] <= entry["p95_ms"] for entry in measured["latency"])
    found = measured["throughput"]
    assert found["speech_per_second"] == pytest.approx(found["passes"] * found["seconds"] / found["wall_seconds"])
    assert found["seconds"] >= cost.LEAST_SECONDS
    assert found["shortest"] <= found["seconds"] / found["clips"] <= found["longest"]
    weights = sum(p.numel() * p.element_size() for p in classifier.model.parameters())
    assert measured["memory"]["peak_bytes"] >= max(weights, measured["memory"]["before_bytes"] or 0)
    assert "resident memory" in measured["memory"]["of"]


def test_memory_where_the_peak_cannot_be_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refuse)
    memory = cost.start_memory(torch.device("cpu"))()
    assert memory["peak_bytes"] > 1_000_000
    assert memory["before_bytes"] is None
    assert "since it was started" in memory["of"]


def test_parameters_and_files_of_a_checkpoint(measured: dict[str, Any], folder: Path) -> None:
    model = hf_ser.pipeline(folder).model
    assert measured["parameters"] == {"total": sum(p.numel() for p in model.parameters()), "adapter": None}
    names = ("config.json", "preprocessor_config.json", "model.safetensors")
    assert measured["size"] == {
        "model_bytes": sum((folder / name).stat().st_size for name in names),
        "adapter_bytes": None,
    }


def test_parameters_and_files_of_an_adapter(folder: Path, tiny_hubert: Path, tmp_path: Path) -> None:
    opened = hf_ser.pipeline(save_adapted(tiny_hubert, tmp_path / "adapter", "lora_qkv", EMOTIONS, lora_r=2)).model
    whole = hf_ser.pipeline(folder).model.num_parameters()
    lora = 2 * 3 * 2 * (32 + 32)  # layers, matrices, rank, in and out
    head = (32 + 1) * 24 + (24 + 1) * 3
    assert count_parameters(opened) == {"total": whole + lora, "adapter": lora + head}
    files = [tmp_path / "adapter" / name for name in ("adapter_config.json", "adapter_model.safetensors")]
    expected = {"model_bytes": None, "adapter_bytes": sum(file.stat().st_size for file in files)}
    assert size_on_disk(tmp_path) == expected
    assert size_on_disk(tmp_path / "adapter") == expected


def test_a_graph_beside_a_checkpoint_is_not_what_is_opened(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    (tmp_path / "model.onnx").write_bytes(b"x" * 1000)
    assert size_on_disk(tmp_path) == {"model_bytes": 100, "adapter_bytes": None}
    (tmp_path / "export.json").write_text("{}")
    assert size_on_disk(tmp_path) == {"model_bytes": 1002, "adapter_bytes": None}


class Known(torch.nn.Module):
    """A convolution, an attention and a linear layer, whose operations can be counted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(model_type="hubert")
        self.conv = torch.nn.Conv1d(1, 8, kernel_size=400, stride=320, bias=False)
        self.linear = torch.nn.Linear(8, 3)

    def forward(self, input_values: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.conv(input_values[:, None]).transpose(1, 2)[:, None]  # (batch, 1, frames, 8)
        mixed = torch.nn.functional.scaled_dot_product_attention(hidden, hidden, hidden)
        return self.linear(mixed[:, 0].mean(dim=1))


def test_operations_of_a_model_counted_by_hand(classifier: SERPipeline) -> None:
    known = copy(classifier)
    known.model = Known()
    found = count_flops(known, 2.0)
    frames = (32_000 - 400) // 320 + 1
    convolution = 2 * frames * 8 * 400
    attention = 2 * 2 * frames * frames * 8  # queries by keys, and weights by values
    assert found["total"] == convolution + attention + 2 * 8 * 3
    assert found["per_second"] == found["total"] / 2
    assert found["seconds"] == 2


def test_what_pytorch_does_not_know_in_int8_is_not_counted(tiny_hubert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "LEAST_SECONDS", 1.0)
    monkeypatch.setattr(cost, "LEAST_WALL", 0.01)
    torch.manual_seed(0)
    loaded = load_model(str(tiny_hubert), ("angry", "sad"))
    classifier = SERPipeline(loaded.model, feature_extractor=loaded.feature_extractor, device="cpu", precision="int8")
    found = measure_cost(classifier, seconds=(1,), runs=1, batch_seconds=1.0)
    assert found["parameters"] is found["flops"] is None
    assert found["device"]["dtype"] == "int8"


def test_batches_of_no_length(classifier: SERPipeline) -> None:
    with pytest.raises(ValueError, match="batch_seconds: must be more than 0 s"):
        measure_cost(classifier, batch_seconds=0)


def test_a_missing_folder_fails_before_anything_is_measured(classifier: SERPipeline, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"folder='.*gone': there is no such folder"):
        measure_cost(classifier, folder=tmp_path / "gone")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_a_gpu(folder: Path) -> None:
    found = measure_cost(hf_ser.pipeline(folder, device="cuda"), seconds=(1,), runs=3)
    assert found["device"]["kind"] == "cuda"
    assert found["device"]["name"] == torch.cuda.get_device_name()
    assert found["memory"]["peak_bytes"] > found["memory"]["before_bytes"] > 0
    assert "CUDA context" in found["memory"]["of"]
    assert found["size"] is None
