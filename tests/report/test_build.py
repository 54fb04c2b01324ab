"""A report on real runs of a tiny model: what it is taken on, what it says, and what it does where little is known."""

import importlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile
import transformers
from evaluate import evaluator

import hf_ser
from hf_ser import splits
from hf_ser.audio import read_mono
from hf_ser.audio.distort import Condition
from hf_ser.corpora import CorpusError, synthetic
from hf_ser.report import (
    Model,
    ModelEmotions,
    ReportOptions,
    answers,
    build,
    check_folder,
    load_clips,
    open_model,
    save,
)
from hf_ser.report.build import sample
from hf_ser.splits import SplitError
from hf_ser.training import finetune, parse_arguments

reports = importlib.import_module("hf_ser.report.build")  # hf_ser.report.build is the function
QUICK = ReportOptions(robustness=False, cost=False, leakage=False, resamples=50, progress=False)


@pytest.fixture(scope="module")
def run(speech: Path, tiny_hubert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "run"
    words = ["--corpora", f"synthetic={speech}", "--model", str(tiny_hubert), "--method", "lora_classifier", "--num_train_epochs",
             "2", "--disable_tqdm", "True", "--emotions", "angry", "sad", "happy", "calm=sad", "--learning_rate", "1e-2",
             "--output_dir", str(folder), "--max_seconds", "0.8"]  # fmt: skip
    finetune(parse_arguments(words))
    return folder


@pytest.fixture
def model(run: Path) -> Model:
    return open_model(hf_ser.load(run), "run", run)


def report_on(model: Model, corpora: list[str], options: ReportOptions = QUICK, **given: Any) -> dict[str, Any]:
    other = given.pop("other", None)
    return build(model, load_clips(corpora, model.emotions, model.records, **given), options, other=other)


class TestWhatItIsTakenOn:
    def test_by_default_the_test_part_with_the_figures_of_the_run(self, model: Model, run: Path, speech: Path) -> None:
        report = report_on(model, [f"synthetic={speech}"])
        results = json.loads((run / "results.json").read_text())
        assert (report["clips"]["part"], report["clips"]["split"]) == ("test", "speaker")
        assert report["clips"]["left_out"]
        overall, test = report["quality"]["overall"], results["metrics"]["test"]
        assert overall["confusion_matrix"] == test["confusion_matrix"]
        for name in ("uar", "accuracy", "f1_weighted", "f1_macro", "eer"):
            assert overall[name] == pytest.approx(test[name], abs=1e-6)
        assert sum(figures["clips"] for figures in report["quality"]["speakers"].values()) == test["clips"]
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
            assert ("intervals" in group) == (group["clips"] >= 10)
        json.dumps(report, allow_nan=False)

    def test_a_published_split_with_hashes_says_the_same(
        self, model: Model, run: Path, speech: Path, tmp_path: Path
    ) -> None:
        copy = Path(shutil.copytree(run, tmp_path / "published"))
        saved = json.loads((copy / "splits.json").read_text())
        (copy / "splits.json").write_text(json.dumps(splits.hashed(saved)))
        published = open_model(hf_ser.load(copy), "published", copy)
        found, expected = (report_on(m, [f"synthetic={speech}"]) for m in (published, model))
        assert found["quality"] == expected["quality"]

    def test_evaluates_own_evaluator_finds_the_same_accuracy(
        self, model: Model, speech: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # evaluate 0.4.6 asks whether the pipeline is of a class that transformers 5 has no more.
        monkeypatch.setattr(transformers, "TFPreTrainedModel", type("Absent", (), {}), raising=False)
        clips = load_clips([f"synthetic={speech}"], model.emotions, model.records, part="all")
        names = [model.emotions.names[label] for label in clips.labels]
        waves = [read_mono(clip["audio"]).tolist() for clip in clips.clips]
        data = datasets.Dataset.from_dict({"file": waves, "label": names})
        accuracy = hf_ser.evaluation.metrics.Accuracy()
        label_mapping = {emotion: k for k, emotion in enumerate(model.emotions.names)}
        data = data.map(lambda row: {"label": label_mapping[row["label"]]}).with_format("numpy")
        theirs = evaluator("audio-classification").compute(
            model_or_pipeline=model.classifier,
            data=data,
            metric=accuracy,
            input_column="file",
            label_mapping=label_mapping,
        )
        whole = ReportOptions(**{**vars(QUICK), "max_seconds": 60.0})
        ours = report_on(model, [f"synthetic={speech}"], whole, part="all")
        assert ours["quality"]["overall"]["accuracy"] == pytest.approx(theirs["accuracy"], abs=1e-9)
        assert any("has learned from" in note for note in ours["notes"])

    @pytest.mark.parametrize(
        ("cutting", "heard"),
        [
            (["--segment_length", "0.6"], "Heard in segments, whose probabilities are averaged: {} of over 0.6 s."),
            (
                ["--segment_length", "0.6", "--segment_overlap", "0.25", "--max_seconds", "1.3"],
                "Heard in segments, with 0.25 s in common, whose probabilities are averaged: {} of over 0.6 s.",
            ),
        ],
    )
    def test_clips_are_cut_as_in_training(
        self, cutting: list[str], heard: str, speech: Path, tiny_hubert: Path, tmp_path: Path
    ) -> None:
        words = ["--corpora", f"synthetic={speech}", "--model", str(tiny_hubert), "--method", "head", "--num_train_epochs", "1",
                 "--disable_tqdm", "True", *cutting, "--output_dir", str(tmp_path / "run"), "--learning_rate", "1e-2"]  # fmt: skip
        test = finetune(parse_arguments(words))["metrics"]["test"]
        model = open_model(hf_ser.load(tmp_path / "run"), "run", tmp_path / "run")
        report = report_on(model, [f"synthetic={speech}"])
        overall = report["quality"]["overall"]
        assert overall["confusion_matrix"] == test["confusion_matrix"]
        assert overall["eer"] == pytest.approx(test["eer"], abs=1e-6)
        assert heard.format(f"{test['clips']} clips") in report["notes"]

    def test_a_long_clip_is_heard_whole_if_the_models_own_run_did(
        self, model: Model, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reports, "LONGEST", 1.5)
        synthetic.make(tmp_path / "long", speakers=1, clips_per_emotion=1, seed=5)
        for path in (tmp_path / "long").rglob("*.wav"):
            samples, rate = soundfile.read(path)
            soundfile.write(path, np.tile(samples, 3), rate)
        corpora = [f"manifest={manifest(tmp_path / 'long', tmp_path)}"]
        whole = replace(QUICK, max_seconds=60.0)
        stranger = open_model(hf_ser.load(run), "stranger", None)
        ours, theirs = (report_on(one, corpora, whole) for one in (model, stranger))
        assert not any("segments" in note for note in ours["notes"])
        assert any("Heard in segments" in note and "of over 1.5 s" in note for note in theirs["notes"])
        assert ours["quality"]["overall"]["log_loss"] != theirs["quality"]["overall"]["log_loss"]

    def test_another_corpus_is_new_to_it(self, model: Model, tmp_path: Path) -> None:
        synthetic.make(tmp_path / "other", speakers=2, clips_per_emotion=1, seed=77)
        report = report_on(model, [f"manifest={manifest(tmp_path / 'other', tmp_path)}"])
        assert report["clips"]["part"] == "all"
        assert any("None of these clips is in the model's splits.json" in note for note in report["notes"])
        options = ReportOptions(**{**vars(QUICK), "leakage": True})
        looked = report_on(model, [f"manifest={tmp_path / 'clips.csv'}"], options)
        assert "not among these corpora" in looked["leakage"]["reason"]

    def test_a_model_of_somebody_else_is_tested_on_everything(self, run: Path, speech: Path) -> None:
        stranger = open_model(hf_ser.load(run), "stranger", None)
        report = report_on(stranger, [f"synthetic={speech}"])
        assert report["clips"]["part"] == "all"
        assert any("brings no splits.json" in note for note in report["notes"])
        with pytest.raises(SplitError, match="brings no splits.json"):
            load_clips([f"synthetic={speech}"], stranger.emotions, stranger.records, part="test")

    def test_the_part_that_chose_the_model_is_said_to_be_too_good(self, model: Model, speech: Path) -> None:
        report = report_on(model, [f"synthetic={speech}"], part="validation")
        assert any("chose the model" in note for note in report["notes"])

    def test_a_part_whose_clips_are_not_there(self, model: Model, tmp_path: Path) -> None:
        synthetic.make(tmp_path / "other", speakers=2, clips_per_emotion=1, seed=77)
        with pytest.raises(SplitError, match="no clip of the model's test part is in the corpora"):
            load_clips(
                [f"manifest={manifest(tmp_path / 'other', tmp_path)}"], model.emotions, model.records, part="test"
            )


def manifest(folder: Path, where: Path, keep: Callable[[str], bool] = lambda name: True, speakers: bool = True) -> Path:
    """The clips of a synthetic corpus as a manifest."""
    rows = ["path,emotion" + (",speaker" if speakers else "")]
    for path in sorted(folder.rglob("*.wav")):
        emotion = next(
            e for e in ("angry", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise") if e in path.stem
        )
        if keep(emotion):
            rows.append(f"{path},{emotion}" + (f",{path.stem.split('_')[0]}" if speakers else ""))
    file = where / "clips.csv"
    file.write_text("\n".join(rows) + "\n")
    return file


class TestWhereLittleIsKnown:
    def test_no_speakers_and_no_genders(self, model: Model, speech: Path, tmp_path: Path) -> None:
        report = report_on(model, [f"manifest={manifest(speech, tmp_path, speakers=False)}"])
        assert report["clips"]["speakers"] is None
        assert report["quality"]["intervals"]["speakers"] is None
        assert report["quality"]["speakers"] == report["quality"]["genders"] == {}
        assert report["fairness"]["demographic_parity"] is None
        assert any(note.startswith("Fairness: the speakers' genders are not known") for note in report["notes"])

    def test_one_emotion_alone(self, model: Model, speech: Path, tmp_path: Path) -> None:
        report = report_on(model, [f"manifest={manifest(speech, tmp_path, lambda emotion: emotion == 'sad')}"])
        assert report["quality"]["overall"]["eer"] is None
        assert any("No clip is of angry, happy" in note for note in report["notes"])
        assert any("All clips are sad" in note for note in report["notes"])
        json.dumps(report, allow_nan=False)

    def test_no_emotion_of_the_model(self, model: Model, speech: Path, tmp_path: Path) -> None:
        path = manifest(speech, tmp_path, lambda emotion: emotion == "disgust")
        with pytest.raises(CorpusError, match=r"no clip has an emotion that the model tells \(angry, happy, sad\)"):
            load_clips([f"manifest={path}"], model.emotions, model.records)

    def test_answers_that_are_no_numbers(self, model: Model, speech: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        model.classifier.model.classifier.weight.data.fill_(float("nan"))
        with pytest.raises(ValueError, match="not finite"):
            report_on(model, [f"synthetic={speech}"])


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
            (["LABEL_0", "LABEL_1"], {}, "calls an output 'LABEL_0', which is no emotion"),
            (["sad", "happy"], {"joy": "happy"}, "the model has no 'joy'; its labels are sad, happy"),
            (["sad", "happy"], {"happy": "sad"}, "all outputs stand for sad"),
        ],
    )
    def test_what_is_refused(self, outputs: list[str], given: dict[str, str], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            ModelEmotions.of(outputs, given)


class TestFurtherParts:
    def test_leakage_is_found(self, model: Model, speech: Path, run: Path, tmp_path: Path) -> None:
        """Clips of train come back under other names, as clips that the split does not know."""
        table = json.loads((run / "splits.json").read_text())
        options = ReportOptions(**{**vars(QUICK), "leakage": True})
        honest = report_on(model, [f"synthetic={speech}"], options)
        assert honest["leakage"]["reason"] is None
        assert honest["leakage"]["speakers"] == []
        train = [speech / f"{name.removeprefix('synthetic/')}.wav" for name in table["parts"]["train"]]
        test = [speech / f"{name.removeprefix('synthetic/')}.wav" for name in table["parts"]["test"]]
        copy = Path(shutil.copytree(speech, tmp_path / "speech"))
        samples, rate = soundfile.read(train[0])
        soundfile.write(copy / test[0].relative_to(speech), 0.5 * samples[200:], rate, subtype="FLOAT")
        leaking = report_on(model, [f"synthetic={copy}"], options)
        pairs = {(found["clip"], found["train_clip"]) for found in leaking["leakage"]["duplicates"]}
        assert (table["parts"]["test"][0], table["parts"]["train"][0]) in pairs

    def test_what_it_has_learned_from_may_not_be_there(
        self, model: Model, speech: Path, tmp_path: Path, run: Path
    ) -> None:
        options = ReportOptions(**{**vars(QUICK), "leakage": True})
        stranger = open_model(model.classifier, "stranger", None)
        report = report_on(stranger, [f"synthetic={speech}"], options)
        assert report["leakage"]["speakers"] is None
        assert "not known" in report["leakage"]["reason"]

    def test_robustness_starts_from_the_clean_clips_and_goes_on_after_an_interruption(
        self, model: Model, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conditions = [Condition("clean"), Condition("white noise", 0, "dB SNR"), Condition("babble", 5, "dB SNR")]
        options = ReportOptions(**{**vars(QUICK), "robustness": True, "conditions": conditions, "robustness_clips": 7,
                                   "keep": tmp_path / "answers"})  # fmt: skip
        asked: list[str] = []
        original = answers.predict

        def dying(classifier: Any, source: Any, **given: Any) -> Any:
            asked.append("once")
            if len(asked) == 3:
                raise KeyboardInterrupt
            return original(classifier, source, **given)

        monkeypatch.setattr(answers, "predict", dying)
        with pytest.raises(KeyboardInterrupt):
            report_on(model, [f"synthetic={speech}"], options)
        report = report_on(model, [f"synthetic={speech}"], options)
        assert len(asked) == 4  # the clips as they are, and the first noise, were kept
        clean, noise, babble = report["robustness"]["conditions"]
        assert report["robustness"]["clips"] == clean["clips"] == noise["clips"] == babble["clips"] == 7
        assert clean["difference"] == 0
        monkeypatch.setattr(answers, "predict", original)
        anew = report_on(model, [f"synthetic={speech}"], ReportOptions(**{**vars(options), "keep": None}))
        assert anew["robustness"] == report["robustness"]

    def test_two_models_on_the_same_clips(self, model: Model, speech: Path, run: Path) -> None:
        other = open_model(hf_ser.load(run), "other", run)
        generator = np.random.default_rng(0)
        other.classifier.model.classifier.weight.data += 3 * np.float32(generator.normal(size=(3, 24)))
        report = report_on(model, [f"synthetic={speech}"], other=other)
        found = report["comparison"]
        alone = report_on(other, [f"synthetic={speech}"])
        assert found["difference"]["uar"] == pytest.approx(
            report["quality"]["overall"]["uar"] - alone["quality"]["overall"]["uar"]
        )
        assert sum(found["mcnemar"][k] for k in ("both", "only_first", "only_second", "neither")) == found["number"]
        same = report_on(model, [f"synthetic={speech}"], other=model)["comparison"]
        assert same["mcnemar"]["p"] == 1
        fewer = open_model(hf_ser.load(run), "fewer", run, {"angry": "sad"})
        with pytest.raises(ValueError, match="fewer tells happy, sad apart, and run angry, happy, sad"):
            report_on(model, [f"synthetic={speech}"], other=fewer)

    def test_it_is_written_whole(self, model: Model, speech: Path, tmp_path: Path) -> None:
        report = report_on(model, [f"synthetic={speech}"])
        (tmp_path / "r" / "report-answers").mkdir(parents=True)
        save(report, tmp_path / "r")
        assert json.loads((tmp_path / "r" / "report.json").read_text()) == report
        assert "</html>" in (tmp_path / "r" / "report.html").read_text()
        assert (tmp_path / "r" / "report" / "confusion_matrix.png").stat().st_size > 1000
        assert not (tmp_path / "r" / "report-answers").exists()

    def test_what_is_not_a_report_is_left_alone(self, model: Model, speech: Path, tmp_path: Path) -> None:
        (tmp_path / "report").mkdir()
        (tmp_path / "report" / "thesis.tex").write_text("mine")
        with pytest.raises(FileExistsError, match="holds report, which no report has left there"):
            check_folder(tmp_path, overwrite=True)
        (tmp_path / "report.json").write_text("{}")
        check_folder(tmp_path, overwrite=True)
        save(report_on(model, [f"synthetic={speech}"]), tmp_path)
        assert (tmp_path / "report" / "thesis.tex").read_text() == "mine"


def test_a_sample_keeps_the_shares_of_the_emotions() -> None:
    labels = np.repeat([0, 1, 2], [500, 300, 200])
    chosen = sample(labels, 100, 0)
    assert len(set(chosen.tolist())) == 100
    np.testing.assert_allclose(np.bincount(labels[chosen]), [50, 30, 20], atol=1)
    assert sample(labels, 100, 0).tolist() == chosen.tolist() != sample(labels, 100, 1).tolist()
    assert sample(labels, 5000, 0).tolist() == list(range(1000))
