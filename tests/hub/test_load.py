"""What cannot be opened says so; nothing opens with a random head."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import hf_ser
from hf_ser.models import load_model
from hf_ser.tuning import Tuning, save_adapter, tune


@pytest.fixture
def adapter(tiny_hubert: Path, tmp_path: Path) -> Path:
    loaded = load_model(str(tiny_hubert), ("happy", "sad"))
    tuned = tune(loaded, Tuning(method="lora_qkv"))
    save_adapter(tuned.model, tuned.new, tmp_path / "adapter", base=str(tiny_hubert))
    tuned.model.config.save_pretrained(tmp_path / "adapter")
    loaded.feature_extractor.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_a_ready_pipeline_with_the_emotions_names(adapter: Path) -> None:
    answers = hf_ser.load(adapter)({"array": torch.randn(16_000).numpy(), "sampling_rate": 16_000})
    assert {answer["label"] for answer in answers} == {"happy", "sad"}
    assert sum(answer["score"] for answer in answers) == pytest.approx(1)


def test_the_base_model_may_be_elsewhere(adapter: Path, tiny_hubert: Path, tmp_path: Path) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(
        json.dumps({**config, "base_model_name_or_path": str(tmp_path / "gone")})
    )
    with pytest.raises(FileNotFoundError, match=r"is an adapter for '.*gone', which cannot be loaded.*Pass base="):
        hf_ser.load(adapter)
    assert hf_ser.load(adapter, base=str(tiny_hubert)).model.config.num_labels == 2


def test_what_would_be_ignored_is_refused(adapter: Path, tiny_hubert: Path, tmp_path: Path) -> None:
    """Whoever asks for it would take it for what was used."""
    with pytest.raises(
        ValueError, match=r"--revision: '.*adapter' is a folder here; a revision is of a model on the Hub"
    ):
        hf_ser.load(adapter, revision="v2")
    loaded = load_model(str(tiny_hubert), ("happy", "sad"))
    loaded.model.save_pretrained(tmp_path / "whole")
    loaded.feature_extractor.save_pretrained(tmp_path / "whole")
    with pytest.raises(ValueError, match=r"--base: '.*whole' is a whole checkpoint, not an adapter"):
        hf_ser.load(tmp_path / "whole", base=str(tiny_hubert))
    assert hf_ser.load(tmp_path / "whole").model.config.num_labels == 2


def test_an_adapter_that_lacks_its_head_is_refused(adapter: Path) -> None:
    """Trap: a head that is saved nowhere would be random."""
    weights = load_file(adapter / "adapter_model.safetensors")
    kept = {key: tensor for key, tensor in weights.items() if "projector" not in key}
    save_file(kept, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"has projector.bias, projector.weight: the model would\s+answer at random"):
        hf_ser.load(adapter)


def test_an_encoder_without_a_head_is_refused(tiny_hubert: Path) -> None:
    with pytest.raises(ValueError, match="without a trained head"):
        hf_ser.load(tiny_hubert)


def test_folders_that_are_no_model(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no folder, and no name on the Hub either"):
        hf_ser.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="is no folder, and no name on the Hub either"):
        hf_ser.load("runs/demo/adapter")
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        hf_ser.load(tmp_path)
    shutil.copytree(adapter, tmp_path / "empty", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor adapter_model\.safetensors"):
        hf_ser.load(tmp_path / "empty")


def test_damaged_weights_are_named(adapter: Path, tiny_hubert: Path) -> None:
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="its weights are damaged or incomplete"):
        hf_ser.load(adapter)


def test_an_adapter_and_a_configuration_that_do_not_belong_together(adapter: Path) -> None:
    """Trap: with ignore_mismatched_sizes a head of another size is drawn at random."""
    config = json.loads((adapter / "config.json").read_text())
    config["id2label"] = {str(i): name for i, name in enumerate(("angry", "happy", "sad"))}
    config["label2id"] = {name: i for i, name in enumerate(("angry", "happy", "sad"))}
    (adapter / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="does not fit its config.json or its base model"):
        hf_ser.load(adapter)


def test_a_checkpoint_and_a_configuration_that_do_not_belong_together(tiny_hubert: Path, tmp_path: Path) -> None:
    loaded = load_model(str(tiny_hubert), ("happy", "sad"))
    loaded.model.save_pretrained(tmp_path)
    loaded.feature_extractor.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"] = {"0": "angry", "1": "happy", "2": "sad"}
    config["label2id"] = {"angry": 0, "happy": 1, "sad": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"has no weights for classifier\.bias, classifier\.weight"):
        hf_ser.load(tmp_path)


def test_a_loaded_group_norm_model_answers_alike_alone_and_in_a_batch(group_norm_hubert: Path, tmp_path: Path) -> None:
    loaded = load_model(str(group_norm_hubert), ("happy", "sad"))
    loaded.model.save_pretrained(tmp_path)
    loaded.feature_extractor.save_pretrained(tmp_path)
    classifier = hf_ser.load(tmp_path)
    waves = [torch.randn(n).numpy() for n in (3000, 16_000)]
    alone = [classifier(wave) for wave in waves]
    together = classifier(waves, batch_size=2)
    for one, other in zip(alone, together, strict=True):
        scores = {answer["label"]: answer["score"] for answer in other}
        for answer in one:
            assert scores[answer["label"]] == pytest.approx(answer["score"], abs=1e-4)


def test_a_model_without_names_for_its_emotions_says_so(
    tiny_hubert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = load_model(str(tiny_hubert), ("LABEL_0", "LABEL_1"))
    loaded.model.save_pretrained(tmp_path)
    loaded.feature_extractor.save_pretrained(tmp_path)
    with caplog.at_level("WARNING", "hf_ser"):
        hf_ser.load(tmp_path)
    assert "does not name its emotions" in caplog.text
