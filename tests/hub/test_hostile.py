"""Models and records of unknown origin: nothing of them is executed, nothing outside their folder is read, and errors are clear."""

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, constants
from safetensors.torch import load_file, save_file

import hf_ser
from hf_ser.corpora import CorpusError
from hf_ser.corpora.entries import load_entry
from hf_ser.hub import HubError
from hf_ser.models import load_model
from hf_ser.results import RunResults
from hf_ser.splits import SplitError
from hf_ser.splits.files import SavedSplit

EXAMPLE = Path(__file__).parents[2] / "model_cards/hubert-mini-ravdess-full"


class Payload:
    """What creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def model(tiny_hubert: Path, tmp_path: Path) -> Path:
    """A classifier, untrained."""
    loaded = load_model(str(tiny_hubert), ("happy", "sad"))
    loaded.model.save_pretrained(tmp_path / "model")
    loaded.feature_extractor.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def executed(tmp_path: Path) -> Path:
    """A file that is there once foreign code was executed."""
    return tmp_path / "executed"


def change(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


class TestCode:
    @pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_model.bin", "training_args.bin"])
    def test_a_pickle_is_not_opened(self, model: Path, executed: Path, name: str) -> None:
        (model / "model.safetensors").unlink()
        torch.save({"classifier.weight": Payload(executed)}, model / name)
        with pytest.raises(FileNotFoundError, match=r"has neither model\.safetensors nor adapter_model\.safetensors"):
            hf_ser.pipeline(model)
        assert not executed.exists()

    @pytest.mark.parametrize("save", [torch.save, lambda found, path: path.write_bytes(pickle.dumps(found))])
    def test_the_pickle_of_a_base_model_is_read_as_tensors_alone(
        self, tiny_hubert: Path, executed: Path, tmp_path: Path, save: Callable[[Any, Path], object]
    ) -> None:
        base = tmp_path / "base"
        base.mkdir()
        for name in ("config.json", "preprocessor_config.json"):
            (base / name).write_bytes((tiny_hubert / name).read_bytes())
        save({"encoder.weight": Payload(executed)}, base / "pytorch_model.bin")
        with pytest.raises((ValueError, OSError), match=r"base: its pickle has more than tensors"):
            load_model(str(base), ("happy", "sad"))
        assert not executed.exists()

    @pytest.mark.parametrize("kind", ["hubert", "evil"])
    @pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
    def test_code_beside_a_model_is_not_executed(
        self, model: Path, executed: Path, monkeypatch: pytest.MonkeyPatch, kind: str, file: str
    ) -> None:
        monkeypatch.setattr("builtins.input", lambda *_: "y")  # whoever is asked says yes
        (model / "evil.py").write_text(f"import pathlib\npathlib.Path({str(executed)!r}).touch()\nclass Evil: pass\n")
        names = ("AutoConfig", "AutoModelForAudioClassification", "AutoModel", "AutoFeatureExtractor")
        change(model / file, auto_map=dict.fromkeys(names, "evil.Evil"))
        if kind == "evil":
            change(model / file, model_type="evil", architectures=["Evil"], feature_extractor_type="Evil")
            with pytest.raises(ValueError, match=rf"{model}.*brings code of its own, which is not executed"):
                hf_ser.pipeline(model)
            if file == "config.json":
                with pytest.raises(ValueError, match="model="):
                    load_model(str(model), ("happy", "sad"))
        else:
            assert hf_ser.pipeline(model).emotions == ("happy", "sad")
        assert not executed.exists()


class TestWeights:
    @pytest.mark.parametrize(
        "header",
        [
            struct.pack("<Q", (1 << 63) - 1),
            struct.pack("<Q", 90_000_000) + b"{",
            struct.pack("<Q", 2) + b"[]",
            struct.pack("<Q", 0),
            b"",
            struct.pack("<Q", 80) + b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'.ljust(80),
            struct.pack("<Q", 80) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[18446744073709551615,3]}}'.ljust(80),
        ],
    )  # fmt: skip
    def test_a_forged_header(self, model: Path, header: bytes) -> None:
        (model / "model.safetensors").write_bytes(header)
        with pytest.raises(ValueError, match=r"model': its weights are damaged or incomplete .*download it again"):
            hf_ser.pipeline(model)

    @pytest.mark.parametrize(
        "name", ["../outside.safetensors", "{absolute}", "sub/../../outside.safetensors", 3, "evil.bin"]
    )
    def test_an_index_that_names_files_outside(self, model: Path, name: Any) -> None:
        weights = load_file(model / "model.safetensors")
        outside = model.parent / "outside.safetensors"
        save_file(weights, outside, metadata={"format": "pt"})
        (model / "sub").mkdir()
        torch.save(weights, model / "evil.bin")
        (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
        place = name.format(absolute=outside) if isinstance(name, str) else name
        index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(weights, place)}
        (model / "model.safetensors.index.json").write_text(json.dumps(index))
        for opening in (hf_ser.pipeline, lambda folder: load_model(str(folder), ("happy", "sad"))):
            with pytest.raises(
                ValueError,
                match=r"index\.json: found .*expected a weight_map to \.safetensors files beside it",
            ):
                opening(model)

    def test_an_index_of_files_inside_opens(self, model: Path) -> None:
        weights = load_file(model / "model.safetensors")
        (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
        index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "model-00001-of-00001.safetensors")}
        (model / "model.safetensors.index.json").write_text(json.dumps(index))
        assert hf_ser.pipeline(model).emotions == ("happy", "sad")


WRONG: list[Any] = [5, "x", None, [], [1], {}, {"x": 5}, -1.5, True, [[[]]], {"../..": "/etc/passwd"}]


class TestRecords:
    @pytest.mark.parametrize("value", WRONG, ids=str)
    def test_a_split_of_wrong_types(self, tmp_path: Path, value: Any) -> None:
        good: dict[str, Any] = {"name": "speaker", "settings": {}, "shared_speakers": [], "emotions": {},
                                "parts": {"train": ["a"], "validation": ["b"], "test": ["../../c"]}}  # fmt: skip
        path = tmp_path / "splits.json"
        spoiled = [
            value,
            {},
            *(good | {key: value} for key in good),
            good | {"parts": good["parts"] | {"train": value}},
        ]
        for content in spoiled:
            path.write_text(json.dumps(content))
            try:
                saved = SavedSplit.read(path)
            except SplitError as error:
                assert str(path) in str(error)  # noqa: PT017
            else:  # it is a split, and can be used as one
                hf_ser.splits.hashed(saved.content)
                assert saved.count(["a"]) in (0, 1)
                assert isinstance(saved.settings, dict)

    @pytest.mark.parametrize("text", ["[" * 100_000, "\0", "1" * 5000, '{"parts": NaN}', '"\\ud800"'])
    def test_a_split_that_is_no_json(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "splits.json").write_text(text)
        with pytest.raises(SplitError, match=r"no splits\.json"):
            SavedSplit.read(tmp_path / "splits.json")

    @pytest.mark.parametrize("value", WRONG, ids=str)
    def test_results_of_wrong_types(self, tmp_path: Path, value: Any) -> None:
        good = json.loads((EXAMPLE / "results.json").read_text())
        spoiled = [value, *(good | {key: value} for key in good if key != "version")]
        for content in spoiled:
            (tmp_path / "results.json").write_text(json.dumps(content))
            try:
                results = RunResults.read(tmp_path)
            except ValueError as error:
                assert ": not as hf_ser writes it" in str(error)  # noqa: PT017
            else:
                assert isinstance(results.metrics, dict)
                assert isinstance(results.corpora, dict)

    def test_results_that_nest_too_deeply(self, tmp_path: Path) -> None:
        (tmp_path / "results.json").write_text("[" * 100_000)
        with pytest.raises(ValueError, match="no JSON"):
            RunResults.read(tmp_path)

    @pytest.mark.parametrize(
        "tag", ["!!python/object/apply:pathlib.Path.touch", "!!python/object:pathlib.Path", "!!python/name:os.system"]
    )
    def test_yaml_makes_no_objects(self, tmp_path: Path, executed: Path, tag: str) -> None:
        (tmp_path / "mine.yaml").write_text(f"pattern: {tag} ['{executed}']\n")
        with pytest.raises(
            CorpusError, match=r"mine\.yaml.* cannot be read as YAML: could not determine a constructor"
        ):
            load_entry(tmp_path / "mine.yaml")
        assert not executed.exists()


class TestServers:
    @pytest.fixture
    def published(self, hub: Any, model: Path) -> str:
        HfApi().create_repo("lab/ser")
        HfApi().upload_folder(repo_id="lab/ser", folder_path=model)
        return "lab/ser"

    @pytest.mark.parametrize(
        ("fault", "says"),
        [
            ({"seconds": 3}, "lab/ser: no connection to|lab/ser: .*timed out"),
            ({"after_bytes": 5000}, "lab/ser: no connection to"),
            ({"claims": 100}, "lab/ser: a downloaded file has another size than the Hub says"),
            ({"claims": 10_000_000}, "lab/ser: no connection to"),
            ({"claims": 1 << 62}, "lab/ser: no connection to"),
        ],
    )
    def test_a_download_that_fails_leaves_nothing_that_is_read(
        self, hub: Any, published: str, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any], says: str
    ) -> None:
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
        hub.fail("GET", "model.safetensors", times=1000, **fault)
        with pytest.raises(OSError, match=says):
            hf_ser.pipeline(published)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises((HubError, FileNotFoundError), match=r"not in the cache|has neither model\.safetensors"):
            hf_ser.pipeline(published)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        hub.faults.clear()
        assert hf_ser.pipeline(published)({"array": np.ones(800, np.float32), "sampling_rate": 16_000})
