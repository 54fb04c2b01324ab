"""Models and records of unknown origin: nothing of them is executed, nothing outside their folder is read, and errors are clear."""

import contextlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, constants
from safetensors.torch import load_file
from small_files import change
from tiny_models import save_model

import hf_ser
from hf_ser.corpora import CorpusError
from hf_ser.corpora.entries import load_entry
from hf_ser.hub import HubError, checkpoints
from hf_ser.modeling import load_model
from hf_ser.results import RunResults
from hf_ser.splits import SplitError
from hf_ser.splits.files import SavedSplit, hashed

EXAMPLE = Path(__file__).parents[2] / "model_cards/hubert-mini-ravdess-full"


class Payload:
    """What creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


OPENINGS: list[Callable[[Path], Any]] = [hf_ser.pipeline, lambda folder: load_model(str(folder), ("happy", "sad"))]


@pytest.fixture
def model(tiny_hubert: Path, tmp_path: Path) -> Path:
    """A classifier, untrained."""
    return save_model(tiny_hubert, tmp_path / "model", ("happy", "sad"))


@pytest.fixture
def executed(tmp_path: Path) -> Path:
    """A file that is there once foreign code was executed."""
    return tmp_path / "executed"


def test_a_pickle_is_not_opened_or_as_tensors_alone(model: Path, executed: Path) -> None:
    (model / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "adapter_model.bin"):
        torch.save({"classifier.weight": Payload(executed)}, model / name)
    with pytest.raises(FileNotFoundError, match=r"has neither model\.safetensors nor adapter_model\.safetensors"):
        hf_ser.pipeline(model)
    with pytest.raises(ValueError, match=r"model: its pickle has more than tensors"):
        load_model(str(model), ("happy", "sad"))
    assert not executed.exists()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_code_beside_a_model_is_not_executed(
    model: Path, executed: Path, monkeypatch: pytest.MonkeyPatch, known: bool, file: str
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # whoever is asked says yes
    (model / "evil.py").write_text(f"import pathlib\npathlib.Path({str(executed)!r}).touch()\nclass Evil: pass\n")
    names = ("AutoConfig", "AutoModelForAudioClassification", "AutoModel", "AutoFeatureExtractor")
    change(model / file, auto_map=dict.fromkeys(names, "evil.Evil"))
    if known:
        assert hf_ser.pipeline(model).emotions == ("happy", "sad")
    else:
        change(model / file, model_type="evil", architectures=["Evil"], feature_extractor_type="Evil")
        for opening in OPENINGS if file == "config.json" else OPENINGS[:1]:
            with pytest.raises(ValueError, match=rf"{model}.*brings code of its own, which is not executed"):
                opening(model)
    assert not executed.exists()


@pytest.mark.parametrize(
    ("size", "header"),
    [((1 << 63) - 1, b""), (90_000_000, b"{"), (2, b"[]"), (0, b""), (None, b""),
     (80, b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'.ljust(80)),
     (80, b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[18446744073709551615,3]}}'.ljust(80))],
)  # fmt: skip
def test_a_forged_header(model: Path, size: int | None, header: bytes) -> None:
    (model / "model.safetensors").write_bytes((b"" if size is None else struct.pack("<Q", size)) + header)
    for opening, says in zip(
        OPENINGS, [r"are damaged or incomplete .*download it again", "of .* cannot be loaded"], strict=True
    ):
        with pytest.raises(ValueError, match=rf"weights {says}"):
            opening(model)


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "{absolute}", "sub/../../outside.safetensors", 3, "evil.bin"]
)
def test_an_index_names_files_beside_it(model: Path, name: Any) -> None:
    weights, inside, outside = (
        model / "model.safetensors",
        model / "model-00001-of-00001.safetensors",
        model.parent / "outside.safetensors",
    )
    (model / "sub").mkdir()
    for path in (inside, outside, model / "evil.bin"):
        path.write_bytes(weights.read_bytes())
    keys = load_file(weights).keys()
    weights.unlink()
    for place in (inside.name, name.format(absolute=outside) if isinstance(name, str) else name):
        content = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(keys, place)}
        (model / "model.safetensors.index.json").write_text(json.dumps(content))
        for opening in OPENINGS:
            if place == inside.name:
                opening(model)
            else:
                with pytest.raises(
                    ValueError, match=r"index\.json: found .*expected a weight_map to \.safetensors files"
                ):
                    opening(model)


@pytest.mark.parametrize(
    "value", [5, "x", None, [], [1], {}, {"x": 5}, -1.5, True, [[[]]], {"../..": "/etc/passwd"}], ids=str
)
def test_records_of_wrong_types(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "results.json"
    good: dict[str, Any] = {"name": "speaker", "settings": {}, "shared_speakers": [], "emotions": {},
                            "parts": {"train": ["a"], "validation": ["b"], "test": ["../../c"]}}  # fmt: skip
    for content in (value, *(good | {key: value} for key in good), good | {"parts": good["parts"] | {"train": value}}):
        path.write_text(json.dumps(content))
        try:
            saved = SavedSplit.read(path)
        except SplitError as error:
            assert str(path) in str(error)  # noqa: PT017
        else:  # it is a split, and can be used as one
            hashed(saved.content)
            assert saved.count(["a"]) in (0, 1)
            assert isinstance(saved.settings, dict)
    good = json.loads((EXAMPLE / "results.json").read_text())
    for content in (value, *(good | {key: value} for key in good if key != "version")):
        path.write_text(json.dumps(content))
        try:
            assert isinstance(RunResults.read(tmp_path).metrics, dict)
        except ValueError as error:
            assert ": not as hf_ser writes it" in str(error)  # noqa: PT017


@pytest.mark.parametrize("text", ["[" * 100_000, "\0", "1" * 5000, '{"parts": NaN}', '"\\ud800"'])
def test_records_that_are_no_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(SplitError, match=r"no splits\.json"):
        SavedSplit.read(tmp_path / "results.json")
    with pytest.raises(ValueError, match="not as hf_ser writes it"):
        RunResults.read(tmp_path)


@pytest.mark.parametrize("tag", ["object/apply:pathlib.Path.touch", "object:pathlib.Path", "name:os.system"])
def test_yaml_makes_no_objects(tmp_path: Path, executed: Path, tag: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"pattern: !!python/{tag} ['{executed}']\n")
    with pytest.raises(CorpusError, match=r"mine\.yaml.* cannot be read as YAML: could not determine a constructor"):
        load_entry(tmp_path / "mine.yaml")
    assert not executed.exists()


@pytest.mark.parametrize(
    "fault",
    [
        {"seconds": 1},
        {"after_bytes": 5000},
        {"after_bytes": 5000, "reset": True},
        {"claims": 100},
        {"claims": 1 << 62},
    ],
    ids=str,
)
def test_a_download_that_fails_leaves_nothing_that_is_read(
    hub: Any, model: Path, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]
) -> None:
    HfApi().create_repo("lab/ser")
    HfApi().upload_folder(repo_id="lab/ser", folder_path=model)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    hub.fail("GET", "model.safetensors", times=1000, **fault)
    says = "a downloaded file has another size than the Hub says" if fault == {"claims": 100} else "no connection to"
    with pytest.raises(HubError, match=f"lab/ser: {says}"):
        hf_ser.pipeline("lab/ser")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises((HubError, FileNotFoundError), match=r"not in the cache|has neither model\.safetensors"):
        hf_ser.pipeline("lab/ser")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.faults.clear()
    assert hf_ser.pipeline("lab/ser")({"array": np.ones(800, np.float32), "sampling_rate": 16_000})


@pytest.mark.parametrize("trained", [False, True])
def test_weights_with_another_hash_than_the_hub_says_are_refused(
    hub: Any, model: Path, make_dataset: Callable[..., Any], tmp_path: Path, trained: bool
) -> None:
    """The Hub's client compares sizes alone."""
    folder, file = Path(shutil.copytree(model, tmp_path / "there")), "model.safetensors"
    if trained:  # of an encoder a pickle is opened, too
        file = "pytorch_model.bin"
        torch.save(load_file(folder / "model.safetensors"), folder / file)
        (folder / "model.safetensors").unlink()
    HfApi().create_repo("lab/ser")
    HfApi().upload_folder(repo_id="lab/ser", folder_path=folder)
    hub.fail("GET", f"resolve/{HfApi().model_info('lab/ser').sha}/{file}", other_bytes=True)

    def use() -> None:
        if trained:
            hf_ser.SERTrainer("lab/ser", hf_ser.SERConfig(tmp_path / "run"), make_dataset(label=["happy", "sad"]))
        else:
            hf_ser.pipeline("lab/ser")

    for _ in range(2):  # again, from the cache
        with pytest.raises(HubError, match=rf"lab/ser: .*{file}' .* SHA-256 is \w{{64}}, expected \w{{64}}.* Delete"):
            use()
    next(path for path in Path(constants.HF_HUB_CACHE).rglob(file)).resolve().unlink()
    use()


def test_a_checkpoint_with_another_hash_than_the_hub_says_does_not_replace_the_one_here(
    hub: Any, tmp_path: Path
) -> None:
    for name in ("run.json", "splits.json", "checkpoint-9/optimizer.pt"):
        (tmp_path / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / name).write_text("{}")
    HfApi().create_repo("lab/ser")
    HfApi().create_branch("lab/ser", branch="checkpoints")
    HfApi().upload_folder(repo_id="lab/ser", folder_path=tmp_path / "there", revision="checkpoints")
    (tmp_path / "run").mkdir()
    for name, digits in (("optimizer.pt", 64), ("run.json", 40)):
        hub.fail("GET", name, other_bytes=True)
        with pytest.raises(
            HubError, match=rf"lab/ser: .*{name} has the hash \w{{{digits}}}, expected .* was deleted. Try"
        ):
            checkpoints.download("lab/ser", None, tmp_path / "run", None)
        assert not list((tmp_path / "run").iterdir())
    checkpoints.download("lab/ser", None, tmp_path / "run", None)
    assert (tmp_path / "run/checkpoint-9/optimizer.pt").read_text() == "{}"


@pytest.mark.parametrize("name", ["../../../../outside", "model/../../../../../../outside", "/outside", "model\\..\\x"])
def test_a_file_name_in_a_repository_leads_nowhere_else(hub: Any, model: Path, tmp_path: Path, name: str) -> None:
    HfApi().create_repo("lab/ser")
    HfApi().upload_folder(repo_id="lab/ser", folder_path=model)
    home = Path(hub.environment["HF_HOME"])
    files = hub.repositories["models", "lab/ser"].commit("main").files
    for inner in ("", "model"):  # patterns match with any path
        files[f"{inner}{name}.safetensors"] = files["model.safetensors"]
    before = set(home.parent.rglob("*")) | set(tmp_path.rglob("*"))
    with contextlib.suppress(HubError, ValueError):
        hf_ser.pipeline("lab/ser")
    assert {
        path for path in {*home.parent.rglob("*"), *tmp_path.rglob("*")} - before if home not in path.parents
    } == set()
    assert not list(home.glob("outside*"))
