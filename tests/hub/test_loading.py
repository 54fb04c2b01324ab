"""Models open from a folder or from the Hub, or say why they do not; nothing opens with a random head."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, constants
from predictions import answers
from safetensors.torch import load_file, save_file
from small_files import change
from tiny_models import make_hubert, save_adapted, save_model
from transformers import HubertModel, pipeline

import hf_ser
from hf_ser.hub import HubError, push

Run = Callable[[str], Path]


def save(checkpoint: Path, folder: Path, emotions: tuple[str, ...] = ("happy", "sad")) -> Path:
    """A classifier on a checkpoint, untrained."""
    return save_model(checkpoint, folder, emotions)


@pytest.fixture
def published(hub: Any, run: Run) -> Path:
    """A run that is published as lab/ser."""
    folder = run("full")
    push(folder, "lab/ser")
    hub.requests.clear()
    return folder


class TestFolders:
    @pytest.fixture
    def adapter(self, tiny_hubert: Path, tmp_path: Path) -> Path:
        return save_adapted(tiny_hubert, tmp_path / "adapter", "lora_qkv", ("happy", "sad"))

    def test_arguments_without_effect_are_refused(self, adapter: Path, tiny_hubert: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"revision='v2': '.*adapter' is a local folder"):
            hf_ser.pipeline(adapter, revision="v2")
        whole = save(tiny_hubert, tmp_path / "whole")
        with pytest.raises(ValueError, match=r"base=.*: '.*whole' is a complete checkpoint"):
            hf_ser.pipeline(whole, base=str(tiny_hubert))
        assert set(answers(hf_ser.pipeline(whole))) == {"happy", "sad"}

    def test_folders_without_a_model(self, tiny_hubert: Path, tmp_path: Path) -> None:
        for name in (tmp_path / "nowhere", "runs/demo/adapter"):
            with pytest.raises(FileNotFoundError, match="neither an existing folder nor a name on the Hub"):
                hf_ser.pipeline(name)
        with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
            hf_ser.pipeline(tmp_path)
        with pytest.raises(ValueError, match="without a trained head"):
            hf_ser.pipeline(tiny_hubert)

    def test_a_base_model_that_is_gone(self, adapter: Path, tiny_hubert: Path, tmp_path: Path) -> None:
        expected = answers(hf_ser.pipeline(adapter))
        change(adapter / "adapter_config.json", base_model_name_or_path=str(tmp_path / "gone"))
        with pytest.raises(FileNotFoundError, match=r"is an adapter for '.*gone', which cannot be loaded.*Pass base="):
            hf_ser.pipeline(adapter)
        assert answers(hf_ser.pipeline(adapter, base=str(tiny_hubert))) == expected

    def test_an_adapter_without_its_head_is_refused(self, adapter: Path) -> None:
        """Trap: a head that is saved nowhere would be random."""
        weights = load_file(adapter / "adapter_model.safetensors")
        kept = {key: tensor for key, tensor in weights.items() if "projector" not in key}
        save_file(kept, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ValueError, match=r"has projector.bias, projector.weight, which would be\s+random"):
            hf_ser.pipeline(adapter)

    def test_damaged_weights_are_named(self, adapter: Path) -> None:
        weights = adapter / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        with pytest.raises(ValueError, match="its weights are damaged or incomplete"):
            hf_ser.pipeline(adapter)

    def test_weights_and_a_configuration_of_another_model(
        self, adapter: Path, tiny_hubert: Path, tmp_path: Path
    ) -> None:
        """Trap: with ignore_mismatched_sizes a head of another size is drawn at random."""
        names = ("angry", "happy", "sad")
        labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
        change(adapter / "config.json", **labels)
        with pytest.raises(ValueError, match="does not fit its config.json or its base model"):
            hf_ser.pipeline(adapter)
        change(save(tiny_hubert, tmp_path / "whole") / "config.json", **labels)
        with pytest.raises(ValueError, match=r"has no weights for classifier\.bias, classifier\.weight"):
            hf_ser.pipeline(tmp_path / "whole")

    def test_an_adapter_and_the_configuration_of_another(self, adapter: Path) -> None:
        change(adapter / "adapter_config.json", target_modules=["q_proj"])
        with pytest.raises(
            ValueError, match=r"adapter_config.json does not belong to its weights: .* for instance .*[kv]_proj"
        ):
            hf_ser.pipeline(adapter)

    def test_a_model_without_names_for_its_emotions_says_so(
        self, tiny_hubert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level("WARNING", "hf_ser"):
            hf_ser.pipeline(save(tiny_hubert, tmp_path, ("LABEL_0", "LABEL_1")))
        assert "does not name its emotions" in caplog.text


class TestTheHub:
    @pytest.fixture
    def adapter(self, hub: Any, run: Run, base: str) -> Path:
        """A run that is published as lab/adapter, on lab/base."""
        folder = run("adapter")
        push(folder, "lab/adapter", base_model=base)
        return folder

    def test_only_what_a_model_is_opened_from_is_downloaded(self, hub: Any, published: Path, tmp_path: Path) -> None:
        files = hub.repositories["models", "lab/ser"].commit("main").files
        files["model.fp32-00001-of-00002.safetensors"] = files["model.safetensors"]
        opened = hf_ser.pipeline("lab/ser", cache_dir=tmp_path / "cache")
        assert answers(opened) == pytest.approx(answers(hf_ser.pipeline(published)), abs=1e-6)
        assert (tmp_path / "cache" / "models--lab--ser").is_dir()
        fetched = {path.rpartition("/")[2] for method, path in hub.requests if method == "GET" and "/resolve/" in path}
        assert fetched == {"config.json", "preprocessor_config.json", "model.safetensors"}

    def test_by_branch_and_commit(self, hub: Any, published: Path, run: Run) -> None:
        commit = HfApi().model_info("lab/ser").sha
        other = run("merged")
        push(other, "lab/ser", overwrite=True)
        HfApi().create_branch("lab/ser", branch="v2")
        for revision, folder in ((commit, published), ("v2", other)):
            expected = answers(hf_ser.pipeline(folder))
            assert answers(hf_ser.pipeline("lab/ser", revision=revision)) == pytest.approx(expected, abs=1e-6)

    def test_from_the_cache(self, hub: Any, published: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = [answers(hf_ser.pipeline(name)) for name in ("lab/ser", "lab/adapter")]
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        hub.requests.clear()
        assert [answers(hf_ser.pipeline(name)) for name in ("lab/ser", "lab/adapter")] == expected
        assert answers(pipeline("audio-classification", model="lab/ser")) == pytest.approx(expected[0], abs=1e-6)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        assert answers(hf_ser.pipeline("lab/ser", local_files_only=True)) == expected[0]
        assert hub.requests == []
        hub.close()
        assert answers(hf_ser.pipeline("lab/ser")) == expected[0]

    @pytest.mark.parametrize(
        ("name", "options", "says"),
        [
            ("lab/none", {}, r"lab/none is not on the Hub, or it is private.*hf auth login"),
            ("lab/ser", {"token": "hf_wrong"}, "lab/ser: the Hub does not accept your token"),
            ("lab/ser", {"revision": "v9"}, "lab/ser has no branch, tag or commit 'v9'"),
            ("lab/ser", {"subfolder": "adapter"}, r"'lab/ser/adapter' is not a model: it has no config\.json"),
        ],
    )
    def test_a_model_that_is_not_there(
        self, hub: Any, published: Path, name: str, options: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(OSError, match=says):
            hf_ser.pipeline(name, **options)

    def test_no_connection(self, hub: Any, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(HubError, match="lab/ser is not in the cache .* HF_HUB_OFFLINE forbids to download it"):
            hf_ser.pipeline("lab/ser")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        hub.close()
        with pytest.raises(HubError, match=r"no connection to http://127\.0\.0\.1:\d+ .*Check the network"):
            hf_ser.pipeline("lab/ser")

    def test_a_full_disk(self, hub: Any, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*args: Any, **kwargs: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
        with pytest.raises(HubError, match=r"lab/ser: the disk is full. Free space in .*hub.*set HF_HOME"):
            hf_ser.pipeline("lab/ser")

    def test_a_base_model_that_is_gone_another_or_changed(
        self, hub: Any, adapter: Path, tiny_hubert: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(ValueError, match=r"does not fit|was trained on other weights|has no weights|random"):
            hf_ser.pipeline("lab/adapter", base=str(make_hubert(tmp_path / "wide", hidden_size=48)))
        changed = HubertModel.from_pretrained(tiny_hubert, dtype=torch.float32)
        with torch.no_grad():
            changed.encoder.layers[1].final_layer_norm.bias.add_(0.5)
        changed.push_to_hub("lab/base")
        with pytest.raises(ValueError, match="was trained on other weights than those of 'lab/base'"):
            hf_ser.pipeline("lab/adapter")
        HfApi().delete_repo("lab/base")
        shutil.rmtree(hub.environment["HF_HUB_CACHE"])
        says = r"'lab/adapter' is an adapter for 'lab/base', which cannot be loaded: lab/base is not on the Hub.*base="
        with pytest.raises(HubError, match=says):
            hf_ser.pipeline("lab/adapter")
