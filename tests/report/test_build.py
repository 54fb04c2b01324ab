"""A report on real runs of a tiny model: what it is taken on, what it says, and what it does where little is known."""

import importlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import soundfile
from sklearn.metrics import log_loss, recall_score

import hf_ser
from hf_ser.audio.distort import Condition
from hf_ser.corpora import CorpusError
from hf_ser.pipeline import SERPipeline
from hf_ser.rendering import console, page
from hf_ser.report import (
    BuiltReport,
    Model,
    ModelEmotions,
    ReportOptions,
    build,
    check_folder,
    load_clips,
    open_model,
    save,
)
from hf_ser.report.build import sample
from hf_ser.splits import SavedSplit, SplitError
from hf_ser.training import finetune, parse_arguments

models = importlib.import_module("hf_ser.report.model")
report_files = importlib.import_module("hf_ser.report.files")
QUICK = ReportOptions(robustness=False, cost=False, leakage=False, resamples=50, progress=False)


@pytest.fixture(scope="module")
def run(run_words: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "run"
    merged = ["--emotions", "angry", "sad", "happy", "calm=sad"]
    finetune(parse_arguments(run_words(folder, "--method", "lora_classifier", "--max_seconds", 0.8, *merged)))
    return folder


@pytest.fixture
def model(run: Path) -> Model:
    return open_model(hf_ser.pipeline(run), "run", run)


@pytest.fixture
def copy(speech: Path, tmp_path: Path) -> Path:
    """A copy of the small corpus, of the test's own."""
    return Path(shutil.copytree(speech, tmp_path / "speech"))


@pytest.fixture
def parts(run: Path) -> dict[str, list[str]]:
    """The names of the clips in each part of the run's split."""
    names: dict[str, list[str]] = json.loads((run / "splits.json").read_text())["parts"]
    return names


def file_of(name: str, folder: Path) -> Path:
    return folder / f"{name.removeprefix('synthetic/')}.wav"


def built(model: Model, corpora: list[str], options: ReportOptions = QUICK, **given: Any) -> BuiltReport:
    other = given.pop("other", None)
    return build(model, load_clips(corpora, model, **given), options, other=other)


def report_on(model: Model, corpora: list[str], options: ReportOptions = QUICK, **given: Any) -> dict[str, Any]:
    return built(model, corpora, options, **given).report


class TestWhatItIsTakenOn:
    def test_by_default_the_test_part_with_the_metrics_of_the_run(
        self, model: Model, run: Path, speech: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hf_ser.report.options.CLIPS_FOR_AN_INTERVAL", 6)
        report = report_on(model, [f"synthetic={speech}"])
        results = json.loads((run / "results.json").read_text())
        assert (report["clips"]["part"], report["clips"]["split"]) == ("test", "speaker")
        assert report["clips"]["other_emotions"]
        overall, test = report["quality"]["overall"], results["metrics"]["test"]
        assert overall["confusion_matrix"] == test["confusion_matrix"]
        for name in ("uar", "accuracy", "f1_weighted", "f1_macro", "eer"):
            assert overall[name] == pytest.approx(test[name], abs=1e-6)
        assert sum(metrics["clips"] for metrics in report["quality"]["speakers"].values()) == test["clips"]
        intervals = report["quality"]["intervals"]["clips"]
        for name in ("uar", "eer", "log_loss", "ece"):
            low, high = intervals[name]
            assert low <= high
        assert (
            set(report["quality"]["recall_intervals"])
            == set(report["quality"]["eer_by_emotion_intervals"])
            == set(overall["recall"])
        )
        for group in (*report["quality"]["speakers"].values(), *report["quality"]["corpora"].values()):
            assert ("intervals" in group) == (group["clips"] >= 6)
        json.dumps(report, allow_nan=False)

    def test_clips_are_cut_as_in_training(
        self, run_words: Callable[..., list[str]], speech: Path, tmp_path: Path
    ) -> None:
        cutting = ["--segment_length", "0.6", "--segment_overlap", "0.25", "--max_seconds", "1.3"]
        test = finetune(parse_arguments(run_words(tmp_path / "run", "--method", "frozen", *cutting))).test
        model = open_model(hf_ser.pipeline(tmp_path / "run"), "run", tmp_path / "run")
        report = report_on(model, [f"synthetic={speech}"])
        overall = report["quality"]["overall"]
        assert overall["confusion_matrix"] == test["confusion_matrix"]
        assert overall["eer"] == pytest.approx(test["eer"], abs=1e-6)
        how = "of over 0.6 s: cut into segments that overlap by 0.25 s, whose probabilities are averaged."
        assert f"{test['clips']} clips {how}" in report["notes"]

    def test_a_long_clip_is_taken_whole_if_the_models_own_run_did(
        self, model: Model, run: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, manifest: Any
    ) -> None:
        monkeypatch.setattr(models, "LONGEST", 1.5)
        for path in copy.rglob("*.wav"):
            samples, rate = soundfile.read(path)
            soundfile.write(path, np.tile(samples, 3), rate)
        whole = replace(QUICK, max_seconds=60.0)
        stranger = open_model(hf_ser.pipeline(run), "stranger", None)
        ours, theirs = (report_on(one, [f"synthetic={copy}"], whole, part="all") for one in (model, stranger))
        assert not any("segments" in note for note in ours["notes"])
        assert any("of over 1.5 s: cut into segments" in note for note in theirs["notes"])
        assert ours["quality"]["overall"]["log_loss"] != theirs["quality"]["overall"]["log_loss"]
        elsewhere = report_on(model, [manifest(copy)], whole)
        assert any("cut into segments" in note for note in elsewhere["notes"])

    def test_recordings_of_other_names_may_be_those_it_was_trained_on(self, model: Model, manifest: Any) -> None:
        """The names of the same clips are those of their corpus, and others in a manifest."""
        corpora = [manifest()]
        report = report_on(model, corpora, replace(QUICK, leakage=True), other=replace(model, name="itself"))
        assert report["clips"]["part"] == "all"
        of_other = "None of these clips is named in itself's splits.json; whether it was trained on them is unknown."
        assert of_other in report["notes"]
        unknown = "whether it was trained on the same recordings is unknown."
        assert f"None of these clips is named in the model's splits.json; {unknown}" in report["notes"]
        reason = "none of the clips that the model was trained on is found by its name in these corpora"
        assert report["leakage"] == {"speakers": None, "duplicates": None, "reason": reason}
        with pytest.raises(SplitError, match="the corpora have no clip of the model's test part"):
            load_clips(corpora, model, part="test")

    def test_a_model_of_somebody_else_is_tested_on_everything(self, run: Path, speech: Path) -> None:
        stranger = open_model(hf_ser.pipeline(run), "stranger", None)
        report = report_on(stranger, [f"synthetic={speech}"], replace(QUICK, leakage=True))
        assert report["clips"]["part"] == "all"
        assert report["leakage"]["speakers"] is None
        assert "not known" in report["leakage"]["reason"]
        assert any("has no splits.json" in note for note in report["notes"])
        with pytest.raises(SplitError, match="has no splits.json"):
            load_clips([f"synthetic={speech}"], stranger, part="test")

    def test_a_further_test_part_has_a_report_of_its_own(self, model: Model, speech: Path, tmp_path: Path) -> None:
        content = json.loads(json.dumps(model.split.content))
        moved = content["parts"]["test"][:3]
        content["parts"]["test"] = content["parts"]["test"][3:]
        content["parts"]["test2"] = moved
        (tmp_path / "splits.json").write_text(json.dumps(content))
        model = replace(model, split=SavedSplit.read(tmp_path / "splits.json"))
        clips = load_clips([f"synthetic={speech}"], model, part="test2")
        assert clips.part == "test2"
        assert sorted(clips.clips["clip"]) == sorted(moved)
        with pytest.raises(ValueError, match=r"part='test3': expected auto, all, validation, test or test2"):
            load_clips([f"synthetic={speech}"], model, part="test3")

    def test_the_part_that_chose_the_model_is_said_to_be_too_good(self, model: Model, speech: Path) -> None:
        report = report_on(model, [f"synthetic={speech}"], part="validation")
        assert any("selected the model" in note for note in report["notes"])


def noise(folder: Path, seconds: list[float]) -> Path:
    """Clips of noise, sad and happy in turns, as a manifest."""
    rng = np.random.default_rng(0)
    for n, length in enumerate(seconds):
        soundfile.write(folder / f"{n}.wav", rng.normal(size=round(16_000 * length)) / 9, 16_000)
    rows = [f"{n}.wav,{('sad', 'happy')[n % 2]}" for n in range(len(seconds))]
    (folder / "clips.csv").write_text("\n".join(["path,emotion", *rows]))
    return folder / "clips.csv"


class TestWhereLittleIsKnown:
    def test_a_clip_alone_has_no_interval_and_no_babble(self, model: Model, tmp_path: Path, manifest: Any) -> None:
        corpus, file = manifest(keep=lambda emotion: emotion == "angry"), tmp_path / "clips.csv"
        file.write_text("\n".join(file.read_text().splitlines()[:2]) + "\n")
        conditions = [Condition("clean"), Condition("white noise", 0), Condition("babble", 5)]
        options = replace(QUICK, robustness=True, conditions=conditions)
        found = built(model, [corpus], options)
        report = found.report
        assert report["clips"]["number"] == 1
        assert report["quality"]["intervals"]["clips"] is None
        assert [entry["kind"] for entry in report["robustness"]["conditions"]] == ["clean", "white noise"]
        assert all(entry["interval"] is None for entry in report["robustness"]["conditions"])
        assert "No interval by clips: 1 clip, too few to draw from; at least 10 are needed." in report["notes"]
        assert any("babble was not measured" in note for note in report["notes"])
        save(found, tmp_path / "r")
        assert "(no interval;" in (tmp_path / "r" / "report.html").read_text()

    def test_emotions_that_nobody_knows_are_left_out_as_others_are(self, model: Model, manifest: Any) -> None:
        others = {"fear": "boredom", "surprise": ""}
        corpora = [manifest(emotion=lambda place, row: others.get(row["emotion"], row["emotion"]))]
        with pytest.raises(CorpusError, match=r"12 of 96 clips cannot be used.*\n.*unknown emotion"):
            load_clips(corpora, model)
        clips = load_clips(corpora, model, max_excluded=0.2)
        assert clips.other_emotions == {"boredom": 12, "disgust": 12, "neutral": 12}
        assert [clip.reason for clip in clips.excluded] == ["unknown emotion"] * 12
        with pytest.raises(ValueError, match="emotions=.*: the model does not have 'glad'; it has angry, happy"):
            load_clips(corpora, model, merges={"fear": "glad"})

    @pytest.mark.parametrize("name", ["results.json", "splits.json"])
    def test_records_that_are_broken(self, name: str, run: Path, speech: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(run, tmp_path / "run"))
        (copy / name).write_text("{")
        with pytest.raises(ValueError, match=f"run/{name}"):
            report_on(open_model(hf_ser.pipeline(copy), "run", copy), [f"synthetic={speech}"])

    def test_no_speakers_and_no_genders(self, model: Model, manifest: Any) -> None:
        report = report_on(model, [manifest(speaker=None, gender=None)])
        assert report["clips"]["speakers"] is None
        assert report["quality"]["intervals"]["speakers"] is None
        assert report["quality"]["speakers"] == report["quality"]["genders"] == {}
        assert report["fairness"]["demographic_parity"] is None
        assert any(note.startswith("Fairness: the speakers' genders are not known") for note in report["notes"])

    def test_one_emotion_alone(self, model: Model, manifest: Any) -> None:
        report = report_on(model, [manifest(keep=lambda emotion: emotion == "sad")])
        assert report["quality"]["overall"]["eer"] is None
        assert any("No clip is of angry, happy" in note for note in report["notes"])
        assert any("All clips are sad" in note for note in report["notes"])
        json.dumps(report, allow_nan=False)

    def test_no_clip_that_can_be_used(self, model: Model, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "a.wav", np.full(160, 0.1, dtype=np.float32), 16_000)
        (tmp_path / "clips.csv").write_text("path,emotion\na.wav,sad\n")
        with pytest.raises(CorpusError, match=r"none of 1 clip can be used, for instance .*a: too short \(0.0100 s"):
            load_clips([f"manifest={tmp_path / 'clips.csv'}"], model, max_excluded=1)

    def test_clips_whose_beginning_is_silent(self, model: Model, tmp_path: Path) -> None:
        """They are excluded, and too many of them are no report."""
        file = noise(tmp_path, [1.0] * 4)
        silent, rate = soundfile.read(tmp_path / "0.wav")
        silent[:8000] = 0
        soundfile.write(tmp_path / "0.wav", silent, rate)
        options = replace(QUICK, max_seconds=0.4)
        with pytest.raises(CorpusError, match=r"1 of 4 clips cannot be used, more than max_excluded=0.05 allows"):
            report_on(model, [f"manifest={file}"], options)
        report = report_on(model, [f"manifest={file}"], options, max_excluded=0.5)
        assert (report["clips"]["number"], report["clips"]["excluded"]) == (3, {"silent": 1})
        assert any(note.startswith("1 clip cannot be predicted, for instance: silent") for note in report["notes"])
        with pytest.raises(ValueError, match=r"max_seconds=0.01: run needs 0.0\d+ s"):
            report_on(model, [f"manifest={file}"], replace(QUICK, max_seconds=0.01), max_excluded=0.5)

    def test_a_condition_under_which_fewer_clips_are_predicted(self, model: Model, tmp_path: Path) -> None:
        file = noise(tmp_path, [0.5, 0.5, model.shortest])
        conditions = [Condition("clean"), Condition("speed", 1.25)]
        report = report_on(model, [f"manifest={file}"], replace(QUICK, robustness=True, conditions=conditions))
        assert [entry["clips"] for entry in report["robustness"]["conditions"]] == [3, 2]
        (note,) = [note for note in report["notes"] if "not all can be predicted" in note]
        assert note.startswith("Of 3 clips not all can be predicted under speed, 1.25")
        assert "(2); their difference is" in note
        row = next(line for line in console(report).splitlines() if line.startswith("speed, 1.25"))
        assert re.split(r"  +", row)[1] == "2"


class TestModelEmotions:
    def test_common_spellings_need_no_map(self) -> None:
        found = ModelEmotions.of(["neu", "hap", "ang", "sad"])
        assert found.names == ("angry", "happy", "neutral", "sad")
        assert found.of_output == (2, 1, 0, 3)
        assert found.renamed == {"neu": "neutral", "hap": "happy", "ang": "angry"}

    def test_outputs_that_mean_the_same_are_added(self) -> None:
        found = ModelEmotions.of(["calm", "neutral", "sad"], {"calm": "neutral"})
        np.testing.assert_allclose(found.probabilities(np.array([[0.2, 0.3, 0.5]])), [[0.5, 0.5]])

    @pytest.mark.parametrize(
        ("outputs", "given", "message"),
        [
            (["LABEL_0", "LABEL_1"], {}, "the label 'LABEL_0' is no emotion"),
            (["sad", "happy"], {"joy": "happy"}, "the model has no 'joy'; its labels are sad, happy"),
            (["sad", "happy"], {"happy": "sad"}, "all labels are sad"),
        ],
    )
    def test_what_is_refused(self, outputs: list[str], given: dict[str, str], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            ModelEmotions.of(outputs, given)


class TestFurtherParts:
    def test_leakage_is_found(self, model: Model, speech: Path, copy: Path, parts: dict[str, list[str]]) -> None:
        """A clip of train comes back under the name of a tested one, at another level and cut."""
        options = replace(QUICK, leakage=True)
        honest = report_on(model, [f"synthetic={speech}"], options)
        assert honest["leakage"]["reason"] is None
        assert honest["leakage"]["speakers"] == []
        tested, trained = parts["test"][0], parts["train"][0]
        samples, rate = soundfile.read(file_of(trained, copy))
        soundfile.write(file_of(tested, copy), 0.5 * samples[200:], rate, subtype="FLOAT")
        leaking = report_on(model, [f"synthetic={copy}"], options)
        assert (tested, trained) in {(one["clip"], one["train_clip"]) for one in leaking["leakage"]["duplicates"]}

    @pytest.mark.parametrize("of", ["clips", "trained_on"])
    def test_speakers_in_training_are_unknown_where_a_clip_has_none(self, of: str, model: Model, speech: Path) -> None:
        clips = load_clips([f"synthetic={speech}"], model)
        first = getattr(clips, of)[0]["clip"]
        unnamed = getattr(clips, of).map(lambda row: {"speaker": None if row["clip"] == first else row["speaker"]})
        report = build(model, replace(clips, **{of: unnamed}), replace(QUICK, leakage=True)).report
        assert (report["leakage"]["speakers"], report["leakage"]["duplicates"]) == (None, [])
        html = page(report, {})
        reason = "some clips, here or in training, have no known speaker"
        assert f"<p>Whether these speakers were in training, too, is unknown: {reason}.</p>" in html
        assert "<p>Clips that were in training, too, or nearly the same: none.</p>" in html

    def test_a_copy_that_the_run_has_excluded_is_excluded_here(
        self, model: Model, copy: Path, parts: dict[str, list[str]]
    ) -> None:
        source = file_of(parts["test"][0], copy)
        again = source.with_name(source.name.replace("_01", "_77").replace("_02", "_77"))
        shutil.copyfile(source, again)
        clips = load_clips([f"synthetic={copy}"], model)
        assert [(clip.clip, clip.reason) for clip in clips.excluded] == [
            (f"synthetic/{again.relative_to(copy).with_suffix('')}", "duplicate")
        ]
        assert not any("splits.json lacks" in note for note in clips.notes)
        assert len(clips.clips) == len(parts["test"])

    @pytest.mark.parametrize("moved", [("train", "test"), ("test", "train")])
    def test_the_very_samples_of_a_clip_in_training_are_leakage_and_no_copy_to_be_excluded(
        self, moved: tuple[str, str], model: Model, copy: Path, parts: dict[str, list[str]]
    ) -> None:
        shutil.copyfile(*(file_of(parts[part][0], copy) for part in moved))
        report = report_on(model, [f"synthetic={copy}"], replace(QUICK, leakage=True))
        (found,) = (pair for pair in report["leakage"]["duplicates"] if pair["exact"])
        assert (found["clip"], found["train_clip"]) == (parts["test"][0], parts["train"][0])
        assert report["clips"]["number"] == len(parts["test"])
        assert report["clips"]["excluded"] == {}
        assert not any("splits.json" in note for note in report["notes"])

    def test_robustness_starts_from_the_clean_clips_and_goes_on_after_an_interruption(
        self, model: Model, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conditions = [Condition("clean"), Condition("white noise", 0), Condition("babble", 5)]
        some = replace(QUICK, robustness=True, conditions=conditions, robustness_clips=7)
        options = replace(some, keep=tmp_path / "answers")
        asked: list[str] = []
        original = SERPipeline.predict

        def dying(classifier: Any, source: Any, **given: Any) -> Any:
            asked.append("once")
            if len(asked) == 3:
                raise KeyboardInterrupt
            return original(classifier, source, **given)

        monkeypatch.setattr(SERPipeline, "predict", dying)
        with pytest.raises(KeyboardInterrupt):
            report_on(model, [f"synthetic={speech}"], options)
        report = report_on(model, [f"synthetic={speech}"], options)
        assert len(asked) == 4  # the clips as they are, and the first noise, were kept
        clean, noise, babble = report["robustness"]["conditions"]
        assert report["robustness"]["clips"] == clean["clips"] == noise["clips"] == babble["clips"] == 7
        assert clean["difference"] == 0
        monkeypatch.setattr(SERPipeline, "predict", original)
        anew = report_on(model, [f"synthetic={speech}"], some)
        assert anew["robustness"] == report["robustness"]

    def test_two_models_on_the_same_clips(self, model: Model, speech: Path, run: Path) -> None:
        other = open_model(hf_ser.pipeline(run), "other", run)
        generator = np.random.default_rng(0)
        other.classifier.model.classifier.weight.data += 3 * np.float32(generator.normal(size=(3, 3)))
        report = report_on(model, [f"synthetic={speech}"], other=other)
        found = report["comparison"]
        alone = report_on(other, [f"synthetic={speech}"])
        assert found["difference"]["uar"] == pytest.approx(
            report["quality"]["overall"]["uar"] - alone["quality"]["overall"]["uar"]
        )
        assert sum(found["mcnemar"][k] for k in ("both", "only_first", "only_second", "neither")) == found["number"]
        assert found["number"] < 10  # too few for an interval
        assert found["clips"] is None
        assert found["clips_reason"] == f"{found['number']} clips, too few to draw from; at least 10 are needed"
        many = report_on(model, [f"synthetic={speech}"], other=other, part="all")["comparison"]
        assert many["clips"]["uar"]["interval"]
        fewer = open_model(hf_ser.pipeline(run), "fewer", run, {"angry": "sad"})
        with pytest.raises(
            ValueError, match="compare=fewer: its emotions are happy, sad, and those of run angry, happy, sad"
        ):
            report_on(model, [f"synthetic={speech}"], other=fewer)

    def test_answers_are_those_of_the_audio_and_not_of_its_name(self, model: Model, copy: Path, tmp_path: Path) -> None:
        options = replace(QUICK, keep=tmp_path / "answers")
        before = report_on(model, [f"synthetic={copy}"], options)
        for path in copy.rglob("*.wav"):
            samples, rate = soundfile.read(path)
            soundfile.write(path, samples[::-1], rate)
        after = report_on(model, [f"synthetic={copy}"], options)
        assert after["quality"]["overall"]["log_loss"] != before["quality"]["overall"]["log_loss"]
        assert after["quality"] == report_on(model, [f"synthetic={copy}"])["quality"]

    def test_kept_answers_are_those_of_the_very_weights(self, run: Path) -> None:
        keys = set()
        for place in (None, 1, 77):
            model = open_model(hf_ser.pipeline(run), "run", run)
            if place is not None:
                model.classifier.model.projector.weight.data.view(-1)[place] *= -1
            keys.add(model.key)
        assert len(keys) == 3

    def test_a_model_without_numbers(self, model: Model, run: Path, speech: Path, tmp_path: Path) -> None:
        broken = open_model(hf_ser.pipeline(run), "broken", run)
        broken.classifier.model.classifier.bias.data[0] = np.nan
        options = replace(QUICK, keep=tmp_path / "answers")
        for first, other in ((broken, None), (model, broken)):
            with pytest.raises(ValueError, match="broken: its probabilities for synthetic/.* are not finite"):
                report_on(first, [f"synthetic={speech}"], options, other=other)
        assert len(list((tmp_path / "answers").iterdir())) == 1  # the good model's

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"max_seconds": -1.0}, "max_seconds=-1.0: expected a number of seconds, more than 0"),
            ({"max_seconds": float("nan")}, "max_seconds=.*: expected"),
            ({"batch_seconds": -1.0}, "batch_seconds=.*: expected"),
            ({"robustness_clips": 0}, "robustness_clips=0: expected at least 1"),
            ({"resamples": 0}, "resamples=0: expected at least 1"),
            ({"seed": -1}, "seed=-1: expected at least 0"),
        ],
    )
    def test_options_out_of_range(self, wrong: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            ReportOptions(**wrong)

    @pytest.mark.parametrize("dying", ["draw", "page"])
    def test_who_is_interrupted_while_it_is_written_goes_on(
        self, dying: str, model: Model, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: Any) -> Any:
            raise KeyboardInterrupt

        options = replace(QUICK, keep=tmp_path / "report-predictions")
        found = built(model, [f"synthetic={speech}"], options)
        with monkeypatch.context() as patch:
            patch.setattr(report_files.plots if dying == "draw" else report_files, dying, interrupted)
            with pytest.raises(KeyboardInterrupt):
                save(found, tmp_path)
        check_folder(tmp_path, overwrite=False)
        save(built(model, [f"synthetic={speech}"], options), tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "report.html", "report.json"]
        before = (tmp_path / "report.json").read_text()
        (tmp_path / "report" / "recall.png").touch()
        with monkeypatch.context() as patch:
            patch.setattr(report_files, "page", interrupted)
            with pytest.raises(KeyboardInterrupt):
                save(replace(found, report={**found.report, "notes": []}), tmp_path)
        assert (tmp_path / "report.json").read_text() == before
        assert (tmp_path / "report" / "recall.png").exists()

    def test_a_folder_that_cannot_be_made_is_told_before_anything_is_computed(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="output=.* cannot be made"):
            check_folder(tmp_path / "file" / "report", overwrite=False)

    def test_it_is_written_whole_and_its_metrics_can_be_computed_again_from_the_predictions(
        self, model: Model, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(report_files, "plots", importlib.import_module("hf_ser.report.plots"))
        found = built(model, [f"synthetic={speech}"])
        save(found, tmp_path)
        report = json.loads((tmp_path / "report.json").read_text())
        assert report == found.report
        assert "</html>" in (tmp_path / "report.html").read_text()
        assert (tmp_path / "report" / "confusion_matrix.png").stat().st_size > 1000
        assert not (tmp_path / "report-predictions").exists()
        clips = pandas.read_csv(tmp_path / "report" / "clips.csv", dtype={"speaker": str})
        names, overall = list(model.emotions.names), report["quality"]["overall"]
        assert (clips.predicted == clips[names].idxmax(axis=1)).all()
        assert recall_score(clips.emotion, clips.predicted, average="macro") == pytest.approx(overall["uar"])
        loss = log_loss(clips.emotion, clips[names], labels=names)
        assert loss == pytest.approx(overall["log_loss"], abs=1e-5)
        assert clips.groupby("speaker").size().to_dict() == {
            speaker: metrics["clips"] for speaker, metrics in report["quality"]["speakers"].items()
        }

    def test_what_is_not_a_report_is_left_alone(self, model: Model, speech: Path, tmp_path: Path) -> None:
        (tmp_path / "report").mkdir()
        (tmp_path / "report" / "thesis.tex").write_text("mine")
        with pytest.raises(FileExistsError, match="holds report, but no report"):
            check_folder(tmp_path, overwrite=True)
        (tmp_path / "report.json").write_text('{"title": "mine"}')
        with pytest.raises(FileExistsError, match=r"holds a report\.json that is no report"):
            check_folder(tmp_path, overwrite=True)
        (tmp_path / "report.json").write_text('{"quality": null}')
        check_folder(tmp_path, overwrite=True)
        (tmp_path / "report-predictions").mkdir()
        mine = [
            tmp_path / "report" / "thesis.tex",
            tmp_path / "report" / "own.png",
            tmp_path / "report-predictions" / "notes.txt",
        ]
        for path in mine:
            path.write_text("mine")
        (tmp_path / "report" / "robustness.png").write_text("an earlier report's")
        save(built(model, [f"synthetic={speech}"]), tmp_path)
        assert [path.read_text() for path in mine] == ["mine"] * 3
        assert not (tmp_path / "report" / "robustness.png").exists()


def test_a_sample_keeps_the_shares_of_the_emotions() -> None:
    labels = np.repeat([0, 1, 2], [500, 300, 200])
    chosen = sample(labels, 100, 0)
    assert len(set(chosen.tolist())) == 100
    np.testing.assert_allclose(np.bincount(labels[chosen]), [50, 30, 20], atol=1)
    assert sample(labels, 100, 0).tolist() == chosen.tolist() != sample(labels, 100, 1).tolist()
    assert sample(labels, 5000, 0).tolist() == list(range(1000))
