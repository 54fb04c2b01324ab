"""What is kept, what is refused and what is left alone."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hf_ser.export import ExportSettings, export, load_exported, run, summary
from hf_ser.export.comparison import answers, chosen_clips, compare, made_up_clips


def test_what_differs_too_much_is_not_kept(hubert: Path, exported: Path, traced: None, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\(int8\) is not kept: a probability differs by .* --tolerance allows 1e-09"):
        export(hubert, tmp_path / "exported", ExportSettings(int8=True, tolerance=1e-9))
    assert list(tmp_path.iterdir()) == []


def test_another_models_graph_is_not_kept_and_what_was_there_stays(
    classifiers: Callable[[str], Path], hubert: Path, traced: None, tmp_path: Path
) -> None:
    export(hubert, tmp_path / "exported")
    before = (tmp_path / "exported" / "export.json").read_text()
    with pytest.raises(ValueError, match="is not kept"):
        export(classifiers("hubert-layer-stock"), tmp_path / "exported", ExportSettings(overwrite=True))
    assert (tmp_path / "exported" / "export.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]


def test_an_export_is_replaced_only_if_it_is_asked_for(hubert: Path, traced: None, tmp_path: Path) -> None:
    export(hubert, tmp_path)
    with pytest.raises(FileExistsError, match=r"holds an exported model. Choose another folder, or --overwrite"):
        export(hubert, tmp_path)
    export(hubert, tmp_path, ExportSettings(int8=True, overwrite=True))
    assert not (tmp_path / "model.onnx").exists()
    assert load_exported(tmp_path).model.one_by_one


def test_other_things_are_never_replaced(tmp_path: Path) -> None:
    """Before the model is opened: there is none."""
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"holds thesis.tex, which no export has left there"):
        export("no model", tmp_path, ExportSettings(overwrite=True))
    with pytest.raises(NotADirectoryError, match="is a file; name a folder"):
        export("no model", tmp_path / "thesis.tex", ExportSettings(overwrite=True))


def test_what_lies_beside_an_export_is_not_replaced_with_it(tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("which clips it gets wrong")
    with pytest.raises(FileExistsError, match=r"holds notes.txt, which no export has left there"):
        export("no model", tmp_path, ExportSettings(overwrite=True))


@pytest.mark.parametrize("folder", [".", ".."])
def test_a_folder_without_a_name_is_refused(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(ValueError, match="give it by its name"):
        export("no model", folder)


def test_the_users_own_clips_are_compared_too(
    hubert: Path, traced: None, speech: Path, write_clip: Callable[..., Path], tmp_path: Path
) -> None:
    write_clip(tmp_path / "clips" / "a.wav")
    settings = ExportSettings(clips=(str(tmp_path / "clips"),), corpora=(f"synthetic={speech}",), most=5)
    found = export(hubert, tmp_path / "exported", settings)["comparison"]
    assert found["clips"] == 8 + 5
    assert found["of"] == "8 made up, 5 of synthetic, files"
    assert str(tmp_path) not in (tmp_path / "exported" / "export.json").read_text()


def test_the_same_clips_are_chosen_each_time(speech: Path) -> None:
    def names(most: int) -> list[str]:
        return [clip.name for clip in chosen_clips([], [f"synthetic={speech}"], most)]

    assert names(7) == names(7)
    assert len(set(names(7))) == 7
    assert len(names(1000)) == 6 * 8 * 2


def test_made_up_clips_are_of_one_to_seven_seconds() -> None:
    lengths = [len(clip.read()) / 16_000 for clip in made_up_clips()]
    assert lengths[0] == 1
    assert lengths[-1] == 7


def test_clips_that_cannot_be_used_are_left_out(exported: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    classifier = load_exported(exported)
    clips = [*made_up_clips(2), *chosen_clips([str(tmp_path)], [], 9)]
    assert compare(answers(classifier, clips), classifier, clips).clips == 2
    with pytest.raises(ValueError, match="none of the 1 clips can be used; the first: silent"):
        compare(answers(classifier, clips[2:]), classifier, clips[2:])


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="--tolerance: 2 is no difference of probabilities; give one between 0 and 1"):
        ExportSettings(tolerance=2)
    with pytest.raises(ValueError, match="--most: must be at least 1 clip, found 0"):
        ExportSettings(most=0)


def test_what_is_not_installed_is_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "PACKAGES", ("onnxruntime", "no_such_package"))
    with pytest.raises(ModuleNotFoundError, match=r"needs no_such_package; .* pip install 'hf_ser\[export\]'"):
        export("no model", tmp_path)


def test_the_benchmark_compares_all_of_them(hubert: Path, traced: None, tmp_path: Path) -> None:
    record = export(hubert, tmp_path / "exported", ExportSettings(int8=True, benchmark=True))
    assert list(record["seconds"]) == ["torch float32", "onnx float32", "onnx int8"]
    assert min(record["seconds"].values()) > 0
    assert json.loads((tmp_path / "exported" / "export.json").read_text()) == record
    printed = summary(record)
    assert printed.splitlines()[0].startswith("hubert-group-stock in int8, ")
    assert "  torch float32 " in printed
    assert "1.00 x" in printed


def test_a_graph_that_gives_no_numbers_is_not_kept(hubert: Path, exported: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    def broken(classifier: object, path: Path) -> None:
        graph = onnx.load(exported / "model.onnx")
        weight = next(weight for weight in graph.graph.initializer if weight.name.endswith("classifier.weight"))
        weight.CopyFrom(numpy_helper.from_array(np.full(tuple(weight.dims), np.nan, np.float32), weight.name))
        onnx.save(graph, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "write_graph", broken)
        with pytest.raises(ValueError, match="is not kept"):
            export(hubert, tmp_path / "exported")
