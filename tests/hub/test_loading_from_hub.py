"""Models open by their names on the Hub, or say why they do not."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import HfApi, constants
from transformers import AudioClassificationPipeline, pipeline

import hf_ser
from hf_ser.hub import HubError, push

Run = Callable[[str], Path]
WAVE = np.sin(np.arange(12_000) / 7).astype(np.float32)


def answers(classifier: AudioClassificationPipeline) -> dict[str, float]:
    return {answer["label"]: answer["score"] for answer in classifier({"array": WAVE, "sampling_rate": 16_000})}


@pytest.fixture
def published(hub: Any, run: Run) -> Path:
    """A run that is published as lab/ser."""
    folder = run("full")
    push(folder, "lab/ser")
    hub.requests.clear()
    return folder


@pytest.fixture
def adapter(hub: Any, run: Run, tiny_hubert: Path) -> Path:
    """A run that is published as lab/adapter, on lab/base."""
    HfApi().create_repo("lab/base")
    HfApi().upload_folder(repo_id="lab/base", folder_path=tiny_hubert)
    folder = run("adapter")
    push(folder, "lab/adapter", base_model="lab/base")
    hub.requests.clear()
    return folder


def test_only_what_a_model_is_opened_from_is_downloaded(hub: Any, published: Path) -> None:
    assert answers(hf_ser.load("lab/ser")) == pytest.approx(answers(hf_ser.load(published)), abs=1e-6)
    fetched = {path.rpartition("/")[2] for method, path in hub.requests if method == "GET" and "/resolve/" in path}
    assert fetched <= {"config.json", "preprocessor_config.json", "model.safetensors"}


def test_by_branch_and_commit(hub: Any, published: Path, run: Run) -> None:
    commit = HfApi().model_info("lab/ser").sha
    other = run("merged")
    push(other, "lab/ser", overwrite=True)
    HfApi().create_tag("lab/ser", tag="v2")
    assert answers(hf_ser.load("lab/ser", revision=commit)) == pytest.approx(answers(hf_ser.load(published)), abs=1e-6)
    assert answers(hf_ser.load("lab/ser", revision="v2")) == pytest.approx(answers(hf_ser.load(other)), abs=1e-6)


def test_offline_from_the_cache(hub: Any, published: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [answers(hf_ser.load(name)) for name in ("lab/ser", "lab/adapter")]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert [answers(hf_ser.load(name)) for name in ("lab/ser", "lab/adapter")] == expected
    assert answers(pipeline("audio-classification", model="lab/ser")) == pytest.approx(expected[0], abs=1e-6)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert answers(hf_ser.load("lab/ser", local_files_only=True)) == expected[0]
    assert hub.requests == []


def test_without_the_hub_what_is_in_the_cache_opens_still(hub: Any, published: Path) -> None:
    expected = answers(hf_ser.load("lab/ser"))
    hub.close()
    assert answers(hf_ser.load("lab/ser")) == expected


def test_into_a_cache_of_ones_own(hub: Any, published: Path, tmp_path: Path) -> None:
    hf_ser.load("lab/ser", cache_dir=tmp_path / "cache")
    assert (tmp_path / "cache" / "models--lab--ser").is_dir()


class TestFailing:
    def test_a_repository_that_is_not_there(self, hub: Any) -> None:
        with pytest.raises(HubError, match=r"lab/none is not on the Hub, or it is private.*hf auth login"):
            hf_ser.load("lab/none")

    def test_a_private_one_without_a_token(self, hub: Any, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        HfApi().update_repo_settings("lab/ser", private=True)
        monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(
            HubError, match="lab/ser is not on the Hub, or it is private and your token does not open it"
        ):
            hf_ser.load("lab/ser")
        assert answers(hf_ser.load("lab/ser", token=hub.token))

    def test_a_wrong_token(self, hub: Any, published: Path) -> None:
        with pytest.raises(HubError, match="lab/ser: the Hub does not know your token"):
            hf_ser.load("lab/ser", token="hf_wrong")

    def test_a_revision_that_is_not_there(self, hub: Any, published: Path) -> None:
        with pytest.raises(HubError, match="lab/ser has no branch, tag or commit 'v9'"):
            hf_ser.load("lab/ser", revision="v9")

    def test_a_subfolder_that_is_not_there(self, hub: Any, published: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"'lab/ser/adapter' is no model: it has no config\.json"):
            hf_ser.load("lab/ser", subfolder="adapter")

    def test_no_network(self, hub: Any) -> None:
        hub.close()
        with pytest.raises(HubError, match=r"no connection to http://127\.0\.0\.1:\d+ .*Check the network"):
            hf_ser.load("lab/ser")

    def test_offline_and_not_in_the_cache(self, hub: Any, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(HubError, match="lab/ser is not in the cache .* HF_HUB_OFFLINE forbids to download it"):
            hf_ser.load("lab/ser")

    def test_a_download_that_is_cut_once_goes_on(self, hub: Any, published: Path) -> None:
        hub.fail("GET", "model.safetensors", after_bytes=5000, reset=True)
        assert answers(hf_ser.load("lab/ser")) == pytest.approx(answers(hf_ser.load(published)), abs=1e-6)

    def test_a_download_that_is_always_cut_is_no_model(self, hub: Any, published: Path) -> None:
        hub.fail("GET", "model.safetensors", after_bytes=5000, reset=True, times=1000)
        with pytest.raises(HubError, match="lab/ser: no connection to"):
            hf_ser.load("lab/ser")
        hub.faults.clear()
        assert answers(hf_ser.load("lab/ser"))

    def test_a_download_that_was_interrupted_is_no_model_offline(
        self, hub: Any, published: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.fail("GET", "model.safetensors", after_bytes=5000, reset=True, times=1000)
        with pytest.raises(HubError):
            hf_ser.load("lab/ser")
        hub.faults.clear()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises((HubError, FileNotFoundError), match=r"not in the cache|holds neither model\.safetensors"):
            hf_ser.load("lab/ser")

    def test_a_full_disk(self, hub: Any, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*args: Any, **kwargs: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
        with pytest.raises(HubError, match=r"lab/ser: the disk is full. Make room in .*hub.*set HF_HOME"):
            hf_ser.load("lab/ser")

    def test_a_repository_with_a_pickle_alone(self, hub: Any, published: Path, tmp_path: Path) -> None:
        HfApi().upload_file(path_or_fileobj=b"\x80", path_in_repo="pytorch_model.bin", repo_id="lab/ser")
        HfApi().delete_file("model.safetensors", repo_id="lab/ser")
        with pytest.raises(FileNotFoundError, match=r"A pickle \(pytorch_model\.bin\) is not opened"):
            hf_ser.load("lab/ser")

    def test_an_adapter_whose_base_is_gone(self, hub: Any, adapter: Path, tiny_hubert: Path) -> None:
        HfApi().delete_repo("lab/base")
        with pytest.raises(
            HubError, match=r"'lab/adapter' is an adapter for 'lab/base', which cannot be loaded.*base="
        ) as raised:
            hf_ser.load("lab/adapter")
        assert "lab/base is not on the Hub" in str(raised.value)
        expected = answers(hf_ser.load(adapter))
        assert answers(hf_ser.load("lab/adapter", base=str(tiny_hubert))) == pytest.approx(expected, abs=1e-5)

    def test_an_adapter_for_another_base(
        self, hub: Any, adapter: Path, make_hubert: Callable[..., Path], tmp_path: Path
    ) -> None:
        with pytest.raises(
            ValueError, match=r"does not fit|was trained on other weights|has no weights|answer at random"
        ):
            hf_ser.load("lab/adapter", base=str(make_hubert(tmp_path / "wide", hidden_size=48)))

    def test_a_base_that_has_changed_since(self, hub: Any, adapter: Path, tiny_hubert: Path, tmp_path: Path) -> None:
        import torch
        from transformers import HubertModel

        changed = HubertModel.from_pretrained(tiny_hubert, dtype=torch.float32)
        with torch.no_grad():
            changed.encoder.layers[1].final_layer_norm.bias.add_(0.5)
        changed.push_to_hub("lab/base")
        with pytest.raises(ValueError, match="was trained on other weights than those of 'lab/base'"):
            hf_ser.load("lab/adapter")

    def test_a_checkpoint_with_other_labels_than_its_configuration(
        self, hub: Any, published: Path, tmp_path: Path
    ) -> None:
        config = json.loads((published / "config.json").read_text())
        names = ("angry", "calm", "happy", "sad")
        config |= {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        HfApi().upload_file(path_or_fileobj=tmp_path / "config.json", path_in_repo="config.json", repo_id="lab/ser")
        with pytest.raises(ValueError, match=r"'lab/ser' has no weights for classifier\.bias, classifier\.weight"):
            hf_ser.load("lab/ser")


def test_a_user_with_nothing_but_transformers(
    hub: Any, published: Path, python: Callable[..., Any], tmp_path: Path
) -> None:
    """The pipeline by name, in a new process that has not imported this package."""
    np.save(tmp_path / "wave.npy", WAVE)
    code = f"""
import json, sys
import numpy as np
from transformers import pipeline
classifier = pipeline("audio-classification", model="lab/ser")
assert not any(name.startswith("hf_ser") for name in sys.modules)
print("FOUND", json.dumps(classifier({{"array": np.load({str(tmp_path / "wave.npy")!r}), "sampling_rate": 16_000}})))
"""
    done = python("-c", code, **hub.environment)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("FOUND"))[5:])
    expected = answers(hf_ser.load(published))
    assert {answer["label"]: answer["score"] for answer in found} == pytest.approx(expected, abs=1e-6)


def test_a_local_copy_of_a_repository_is_a_run_that_opens(hub: Any, published: Path, tmp_path: Path) -> None:
    from huggingface_hub import snapshot_download

    folder = snapshot_download("lab/ser", local_dir=tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / ".cache", ignore_errors=True)
    assert answers(hf_ser.load(folder)) == pytest.approx(answers(hf_ser.load(published)), abs=1e-6)
