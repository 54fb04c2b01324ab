"""Disks that are full or cannot be written: the error names the folder and what to do, and nothing unfinished is read later."""

import errno
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from other_processes import fork
from safetensors.torch import save_file
from small_files import write_clip
from transformers import Trainer, TrainerState

from hf_ser import records
from hf_ser.audio import prepare
from hf_ser.corpora import Row, to_dataset
from hf_ser.modeling import resolve_checkpoint
from hf_ser.training import SERConfig
from hf_ser.training.checkpoints import CheckpointingTrainer
from hf_ser.training.folder import last_checkpoint
from hf_ser.training.frozen.store import in_use

Mount = Callable[[str], None]
Script = Callable[..., "subprocess.CompletedProcess[str]"]
#: The last lines of a command whose libraries name no file.
FULL = r"^error: \[Errno 28\] No space left on device: free space where the command writes, and in .*\n\(HF_SER_DEBUG.*\n\Z"


@pytest.fixture
def rows(tmp_path: Path) -> Dataset:
    paths = [write_clip(tmp_path / f"a/{n}.wav", rate=8000) for n in range(20)]
    return to_dataset([Row(str(path), path.stem, "sad") for path in paths], "a")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_corpus_on_a_full_disk(disk: tuple[Path, Mount], rows: Dataset, tmp_path: Path, workers: int) -> None:
    folder, mount = disk
    with pytest.raises(
        OSError, match=rf"the cache folder '{folder}' cannot be written \(No space left.*HF_SER_CACHE"
    ) as error:
        prepare([rows], folder, workers)
    assert error.value.errno == errno.ENOSPC
    mount("remount,size=50m")
    expected = prepare([rows], tmp_path / "cache", 1)["samples_hash"][:]
    assert prepare([rows], folder, workers)["samples_hash"][:] == expected


def test_a_cache_that_cannot_be_written(
    disk: tuple[Path, Mount], rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, mount = disk
    mount("remount,ro")
    monkeypatch.setenv("HF_SER_CACHE", str(folder))
    says = rf"the cache folder '{folder}.*' cannot be written \(Read-only file system.*HF_SER_CACHE"
    with pytest.raises(OSError, match=says):
        prepare([rows])
    with pytest.raises(OSError, match=says):
        resolve_checkpoint("hubert-tiny-random")
    with pytest.raises(OSError, match=says), in_use(folder / "frozen" / "part"):
        pass


def test_a_run_whose_folder_cannot_be_written(
    disk: tuple[Path, Mount], run_script: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    folder, mount = disk
    mount("remount,ro")
    (tmp_path / "file").touch()
    words = ["--corpora", "ravdess=/nowhere", "--output_dir"]
    for place, why in (
        (folder, "Read-only file system"),
        (folder / "run", "Read-only"),
        (tmp_path / "file", "File exists"),
    ):
        for more in ((), ("--seeds", "1")):
            said = run_script("finetune", *words, place, *more).stderr
            assert said.startswith(f"error: output_dir: {str(place)!r} cannot be written ({why}"), said
            assert said.count("\n") == 2, said


def test_a_record_on_a_full_disk(disk: tuple[Path, Mount]) -> None:
    folder, _ = disk
    path = folder / "results.json"
    records.write(path, {"a": 1})
    with pytest.raises(OSError, match=rf"No space left on device: '{path}'"):
        records.write(path, {"a": "x" * 600_000})
    assert records.read(path) == {"a": 1}
    assert [file.name for file in folder.iterdir()] == ["results.json"]


@pytest.mark.parametrize("name", ["write_text", "rename"])
def test_a_corpus_whose_preparation_ends_at_its_last_steps(
    rows: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def end(path: Path, text: object, **_: object) -> None:
        if isinstance(text, str):
            path.write_bytes(text.encode()[:5])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, name, end)
        with pytest.raises(KeyboardInterrupt):
            prepare([rows], tmp_path / "cache", 1)
    assert prepare([rows], tmp_path / "cache", 1)["problem"][:] == [""] * 20


def test_an_unfinished_checkpoint_is_not_resumed(tmp_path: Path) -> None:
    for name, state in {
        "checkpoint-9": '{"global_step": 9}',
        "checkpoint-10": "",
        "checkpoint-11": None,
        "checkpoint-x": "{}",
    }.items():
        (tmp_path / name).mkdir()
        if state is not None:
            (tmp_path / name / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-9")
    assert last_checkpoint(tmp_path / "nowhere") is None


@pytest.mark.parametrize("save", [torch.save, lambda found, path: save_file(found, path)])
def test_a_checkpoint_on_a_full_disk(
    disk: tuple[Path, Mount], monkeypatch: pytest.MonkeyPatch, save: Callable[..., None]
) -> None:
    trainer = object.__new__(CheckpointingTrainer)
    trainer.args, trainer.state = SERConfig(str(disk[0]), report_to=[]), TrainerState()
    monkeypatch.setattr(Trainer, "_save_checkpoint", lambda *_: save({"a": torch.zeros(200_000)}, disk[0] / "weights"))
    with pytest.raises(
        OSError, match=rf"output_dir: the checkpoint in '{disk[0]}' is unfinished .* 0 MB of the disk are free"
    ):
        trainer._save_checkpoint(None, None)


def test_two_runs_prepare_a_corpus_at_once(rows: Dataset, tmp_path: Path) -> None:
    assert fork(2, lambda: prepare([rows], tmp_path / "cache", 1)) == [0, 0]
    assert len(list((tmp_path / "cache/corpora").glob("*/files.json"))) == 1
    assert prepare([rows], tmp_path / "cache", 1)["problem"][:] == [""] * 20


def fill(folder: Path, free: int) -> None:
    """Leaves so many bytes of a disk free."""
    found = os.statvfs(folder)
    (folder / "others").write_bytes(bytes(found.f_bavail * found.f_bsize - free))


@pytest.mark.parametrize("free", [0, 20_000])
def test_a_report_on_a_full_disk(
    disk: tuple[Path, Mount], model: Path, speech: Path, run_script: Script, free: int
) -> None:
    folder, mount = disk
    fill(folder, free)
    words = [model, "--corpora", f"synthetic={speech}", "--output", folder / "report", "--no_robustness", "--no_cost", "--no_leakage",
             "--resamples", "20"]  # fmt: skip
    done = run_script("evaluate", *words)
    assert done.returncode == 1
    assert re.search(FULL, done.stderr, re.MULTILINE), done.stderr
    assert not [path for path in (folder / "report").glob("*") if path.name in ("report.json", "report.html")]
    mount("remount,size=50m")
    assert run_script("evaluate", *words).returncode == 0
    assert (folder / "report/report.json").is_file()


def test_an_export_on_a_full_disk(
    disk: tuple[Path, Mount], model: Path, run_script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", reason="an export needs it: pip install 'hf_ser[export]'")
    monkeypatch.setattr("hf_ser.export.write_graph", lambda recogniser, path: path.write_bytes(bytes(600_000)))
    folder, _ = disk
    done = run_script("export", model, "--output", folder / "exported")
    assert done.returncode == 1
    assert re.search(FULL, done.stderr, re.MULTILINE), done.stderr
    assert not list(folder.iterdir())
