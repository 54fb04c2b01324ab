"""What is kept, what is refused and what is left alone."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from other_processes import fork
from small_files import write_clip
from tiny_models import save_model

import hf_ser
from hf_ser.export import check_comparison, chosen_clips, compare, export, summary, synthetic_clips


def test_what_differs_too_much_is_not_kept(hubert: Path, traced: None, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"\(int8\) is not kept: a predicted value differs by .* the tolerance is 1e-09"
    ):
        export(hubert, tmp_path / "exported", int8=True, tolerance=1e-9)
    assert list(tmp_path.iterdir()) == []


def test_another_models_graph_is_not_kept_and_what_was_there_stays(
    classifiers: Callable[[str], Path], hubert: Path, traced: None, tmp_path: Path
) -> None:
    export(hubert, tmp_path / "exported")
    before = (tmp_path / "exported" / "export.json").read_text()
    with pytest.raises(ValueError, match="is not kept"):
        export(classifiers("hubert-layer-stock"), tmp_path / "exported", overwrite=True)
    assert (tmp_path / "exported" / "export.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]


def test_what_a_killed_export_has_left_is_removed(
    hubert: Path, copy_graph: Callable[..., object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output = tmp_path / "exported [1]"  # no pattern of names

    def killed() -> None:
        torch.set_num_threads(1)  # OpenMP's threads are the parent's
        export(hubert, output)

    monkeypatch.setattr("hf_ser.export.write_graph", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    assert fork(2, killed) == [-signal.SIGKILL] * 2
    assert {path.name[0] for path in tmp_path.iterdir()} == {"."}
    (tmp_path / ".exported [1]-of-another").mkdir()
    monkeypatch.setattr("hf_ser.export.write_graph", copy_graph)
    export(hubert, output)
    assert {path.name for path in tmp_path.iterdir()} == {"exported [1]", ".exported [1]-of-another"}


def test_two_exports_to_one_folder_do_not_disturb_each_other(
    hubert: Path, copy_graph: Callable[..., object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second begins and ends while the first traces."""

    def trace_first(recogniser: object, path: Path) -> None:
        monkeypatch.setattr("hf_ser.export.write_graph", copy_graph)
        export(hubert, tmp_path / "exported", overwrite=True)
        copy_graph(recogniser, path)

    monkeypatch.setattr("hf_ser.export.write_graph", trace_first)
    export(hubert, tmp_path / "exported", int8=True, overwrite=True)
    assert hf_ser.pipeline(tmp_path / "exported").model.precision == "int8"
    shutil.rmtree(tmp_path / "exported")
    monkeypatch.setattr("hf_ser.export.write_graph", trace_first)
    with pytest.raises(FileExistsError, match="has an exported model. Choose another folder, or overwrite it"):
        export(hubert, tmp_path / "exported", int8=True)
    assert hf_ser.pipeline(tmp_path / "exported").model.precision == "float32"
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]


def test_an_export_is_replaced_only_if_it_is_asked_for(hubert: Path, traced: None, tmp_path: Path) -> None:
    export(hubert, tmp_path)
    with pytest.raises(FileExistsError, match=r"has an exported model. Choose another folder, or overwrite it"):
        export(hubert, tmp_path)
    export(hubert, tmp_path, int8=True, overwrite=True)
    assert not (tmp_path / "model.onnx").exists()
    assert hf_ser.pipeline(tmp_path).model.precision == "int8"


def test_other_things_are_never_replaced(tmp_path: Path) -> None:
    """Before the model is opened: there is none."""
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"has thesis.tex, which is not of an export"):
        export("no model", tmp_path, overwrite=True)
    with pytest.raises(NotADirectoryError, match="is a file; name a folder"):
        export("no model", tmp_path / "thesis.tex", overwrite=True)


@pytest.mark.parametrize("folder", [".", ".."])
def test_a_folder_without_a_name_is_refused(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(ValueError, match="give it by its name"):
        export("no model", folder)


def test_the_users_own_clips_are_compared_too(hubert: Path, traced: None, speech: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "clips" / "a.wav")
    clips, corpora = [str(tmp_path / "clips")], [f"synthetic={speech}"]
    record = export(hubert, tmp_path / "exported", clips=clips, corpora=corpora, most=5)
    found = record["comparison"]
    assert found["clips"] == 8 + 5
    assert found["of"] == "8 synthetic, 5 of synthetic, files"
    assert str(tmp_path) not in (tmp_path / "exported" / "export.json").read_text()
    assert json.loads((tmp_path / "exported" / "export.json").read_text()) == record
    assert summary(record).startswith("hubert-group-stock in float32, ")


@pytest.mark.parametrize("emotions", [("happy", "sad"), ()])
def test_dimensions_are_compared_too(emotions: tuple[str, ...], tiny_hubert: Path, tmp_path: Path) -> None:
    folder = save_model(tiny_hubert, tmp_path / "model", emotions, ("arousal",))
    model, other = (hf_ser.pipeline(folder, device="cpu") for _ in range(2))
    other.model.classifier.bias.data[-1] += 0.25  # outputs are the emotions, and then the dimension
    found = compare(model, other, synthetic_clips(2))
    assert found["alone"] == pytest.approx(0.25, abs=1e-5)
    assert found["batch"] == pytest.approx(0.25, abs=1e-3)
    assert found.get("equal") == (1 if emotions else None)
    decisions = "; 100.0% of 2 decisions are the same" if emotions else ""
    with pytest.raises(
        ValueError, match=rf"differs by 0.25 .* in a padded batch{decisions}\), the tolerance is 0.0001"
    ):
        check_comparison(found, "float32", 1e-4)
    record = {
        "model": "m",
        "precision": "float32",
        "size": 1e6,
        "tolerance": 0.3,
        "comparison": found | {"of": "clips"},
    }
    assert summary(record).endswith(f"(tolerance: 0.3){decisions}")


def test_clips_that_cannot_be_used_are_left_out(exported: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    recogniser = hf_ser.pipeline(exported)
    clips = [*synthetic_clips(2), *chosen_clips([str(tmp_path)], [], 9)]
    assert compare(recogniser, recogniser, clips)["clips"] == 2
    with pytest.raises(ValueError, match="none of the 1 clips can be used; the first: silent"):
        compare(recogniser, recogniser, clips[2:])


def test_arguments_are_checked_first(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tolerance: expected a difference between 0 and 1, found 2"):
        export("no model", tmp_path, tolerance=2)
    with pytest.raises(ValueError, match="most: must be at least 1 clip, found 0"):
        export("no model", tmp_path, most=0)


def test_what_is_not_installed_is_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hf_ser.export.PACKAGES", ("onnxruntime", "no_such_package"))
    with pytest.raises(ModuleNotFoundError, match=r"needs no_such_package; .* pip install 'hf_ser\[export\]'"):
        export("no model", tmp_path)


def test_a_graph_that_gives_no_numbers_is_not_kept(
    hubert: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx
    from onnx import numpy_helper

    def broken(classifier: object, path: Path) -> None:
        graph = onnx.load(exported / "model.onnx")
        weight = next(weight for weight in graph.graph.initializer if weight.name.endswith("classifier.weight"))
        weight.CopyFrom(numpy_helper.from_array(np.full(tuple(weight.dims), np.nan, np.float32), weight.name))
        onnx.save(graph, path)

    monkeypatch.setattr("hf_ser.export.write_graph", broken)
    with pytest.raises(ValueError, match="is not kept"):
        export(hubert, tmp_path / "exported")
