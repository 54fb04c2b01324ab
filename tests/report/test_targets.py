"""Reports on models of dimensions alone, of emotions and dimensions, and of the raters' votes."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from formulas import concordance

import hf_ser
from hf_ser import SERConfig, SERTrainer, load_corpora, train_test_split
from hf_ser.audio.distort import Condition
from hf_ser.corpora import CorpusError
from hf_ser.hub.card import read_report
from hf_ser.rendering import cautions, console, page
from hf_ser.rendering.headline import answers, main_metric
from hf_ser.report import BuiltReport, Model, ReportOptions, build, load_clips, open_model, save
from hf_ser.report.plots import draw
from hf_ser.results import RunResults

NOISE = [Condition("clean"), Condition("white noise", 0), Condition("telephone band")]
QUICK = ReportOptions(robustness=False, cost=False, leakage=False, resamples=40, progress=False)
DIMENSIONS = ["arousal", "valence", "dominance"]


def probe(targets: list[str], speech: Path, encoder: Path, folder: Path) -> Path:
    """A run of a probe, which trains in a moment."""
    clips = load_corpora({"synthetic": speech}, targets=targets)
    parts = train_test_split(clips, by="speaker", test_size=0.4, validation_size=0.1, seed=1)
    args = SERConfig(output_dir=str(folder), targets=targets, disable_tqdm=True, report_to=[])
    trainer = SERTrainer(
        str(encoder), args, train_dataset=parts["train"], eval_dataset=parts["validation"], peft_config="probe"
    )
    trainer.train()
    trainer.evaluate(parts["test"])
    trainer.save_model()
    trainer.create_model_card()
    return folder


@pytest.fixture(scope="module")
def runs(speech: Path, tiny_hubert: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("targets")
    targets = {"dimensions": DIMENSIONS, "mixed": ["emotion", "arousal", "valence"], "votes": ["emotion_distribution"]}
    return {name: probe(of, speech, tiny_hubert, folder / name) for name, of in targets.items()}


@pytest.fixture(scope="module")
def models(runs: dict[str, Path]) -> dict[str, Model]:
    return {name: open_model(hf_ser.pipeline(run), name, run) for name, run in runs.items()}


def built(model: Model, corpora: list[str], options: ReportOptions = QUICK, **given: Any) -> BuiltReport:
    other = given.pop("other", None)
    clips = load_clips(corpora, model, **given)
    found = build(model, clips, options, other=other)
    json.dumps(found.report, allow_nan=False)
    return found


class TestDimensionsAlone:
    @pytest.fixture(scope="class")
    def found(self, models: dict[str, Model], speech: Path) -> BuiltReport:
        options = replace(QUICK, robustness=True, conditions=NOISE, robustness_clips=30, leakage=True)
        other = replace(models["dimensions"], name="itself")
        return built(models["dimensions"], [f"synthetic={speech}"], options, part="all", other=other)

    def test_the_metrics_come_out_of_the_predictions_of_the_clips(self, found: BuiltReport, tmp_path: Path) -> None:
        save(found, tmp_path)
        clips = pandas.read_csv(tmp_path / "report" / "clips.csv")
        assert "emotion" not in clips
        assert "predicted" not in clips
        overall = found.report["quality"]["overall"]
        assert list(overall["dimensions"]) == DIMENSIONS
        for name, metrics in overall["dimensions"].items():
            values, truth = clips[f"{name}_predicted"], clips[name]
            assert metrics["clips"] == len(clips) == 96
            assert metrics["ccc"] == pytest.approx(concordance(values, truth), abs=1e-4)
            assert metrics["mae"] == pytest.approx((values - truth).abs().mean(), abs=1e-5)
            own = [concordance(of[f"{name}_predicted"], of[name]) for _, of in clips.groupby("speaker")]
            assert metrics["ccc_by_speaker"] == pytest.approx(np.mean(own), abs=1e-4)
            low, high = metrics["intervals"]["clips"]["ccc"]
            assert low <= metrics["ccc"] <= high
            assert metrics["intervals"]["speakers"] is None  # six
            of_women = found.report["quality"]["genders"]["female"]["dimensions"][name]
            women = clips[clips.gender == "female"]
            assert of_women["ccc"] == pytest.approx(concordance(women[f"{name}_predicted"], women[name]), abs=1e-4)
            assert np.sum(metrics["histogram"]) == 96
        mean = np.mean([metrics["ccc"] for metrics in overall["dimensions"].values()])
        assert overall["ccc"] == pytest.approx(mean)
        low, high = found.report["quality"]["intervals"]["clips"]["ccc"]
        assert low <= mean <= high
        for speaker, metrics in found.report["quality"]["speakers"].items():
            assert metrics["gender"] == {"f": "female", "m": "male"}[speaker.removeprefix("synthetic_")[0]]

    def test_the_truth_is_that_of_the_corpus_from_0_to_1(self, found: BuiltReport, speech: Path) -> None:
        rated = load_corpora({"synthetic": speech}, targets=DIMENSIONS)
        labels = dict(zip(rated["clip"], rated["arousal"], strict=True))
        assert found.table["arousal"][:] == [labels[clip] for clip in found.table["clip"]]
        assert found.report["clips"]["agreement"]["synthetic"].keys() == set(DIMENSIONS)
        assert 0.5 < found.report["clips"]["agreement"]["synthetic"]["arousal"]["alpha"] < 1

    def test_it_is_on_the_page_and_the_console(self, found: BuiltReport, tmp_path: Path) -> None:
        report = found.report
        pictures = draw(report, tmp_path)
        assert pictures.keys() == {"dimensions", "speakers", "robustness"}
        html, text = page(report, pictures), console(report)
        ccc = f"{report['quality']['overall']['ccc']:.3f}"
        assert main_metric(report)["text"] == ccc
        assert f"<strong>{ccc}</strong>" in html
        assert f"CCC, mean of arousal, valence and dominance: {ccc}" in dict(answers(report))["What it can do"]
        for words in ("CCC by gender: female", "CCC of 6 speakers", "CCC by dimension: arousal", "Mean errors of the"):
            assert words in " ".join(text.split())
            assert words in html
        assert "By dimension" in text
        assert "raters&#39; alpha, synthetic" in html
        for output in (re.sub(r"base64,[A-Za-z0-9+/=]+", "", html), text):
            assert "CCC by condition" in output
            assert "UAR" not in output.replace(pictures["speakers"].name, "").replace("UAR (of dimensions alone", "")
            assert "nan" not in output.lower().split()
        assert all(len(line) <= 100 for line in text.splitlines())
        assert cautions(report)

    def test_robustness_and_fairness_are_those_of_the_dimensions(self, found: BuiltReport) -> None:
        clean, noise, telephone = found.report["robustness"]["conditions"]
        assert "uar" not in clean
        assert clean["ccc_difference"] == 0
        for entry in (noise, telephone):
            assert entry["ccc_difference"] == pytest.approx(entry["ccc"] - clean["ccc"])
            assert entry["ccc_interval"][0] <= entry["ccc_interval"][1]
        fair = found.report["fairness"]
        assert fair["equality_of_odds"] is None
        assert fair["reason"] is None
        arousal = fair["dimensions"]["arousal"]
        women, men = arousal["by_gender"]["female"], arousal["by_gender"]["male"]
        assert arousal["mean_error"] == pytest.approx(abs(women["mean_error"] - men["mean_error"]))
        of_women = found.report["quality"]["genders"]["female"]["dimensions"]["arousal"]
        assert women["ccc"] == pytest.approx(of_women["ccc"])

    def test_a_model_does_not_differ_from_itself(self, found: BuiltReport) -> None:
        comparison = found.report["comparison"]
        assert comparison["difference"] == {"ccc": 0}
        assert "mcnemar" not in comparison
        for of in comparison["dimensions"].values():
            assert of["difference"] == {"ccc": 0, "mae": 0}
            assert of["clips"] == {name: {"interval": [0, 0], "p": 1} for name in ("ccc", "mae")}


def test_the_report_of_a_run_has_its_metrics_and_the_card_takes_it(
    models: dict[str, Model], runs: dict[str, Path], speech: Path
) -> None:
    for name, model in models.items():
        found = built(model, [f"synthetic={speech}"])
        results = RunResults.read(runs[name])
        overall = found.report["quality"]["overall"]
        assert found.report["clips"]["part"] == "test"
        assert overall[results.main_metric] == pytest.approx(results.test[results.main_metric], abs=1e-5)
        for dimension in model.dimensions:
            for metric in ("ccc", "mae", "ccc_by_speaker"):
                theirs = results.test["dimensions"][dimension][metric]
                assert overall["dimensions"][dimension][metric] == pytest.approx(theirs, abs=1e-5)
        if name == "votes":
            for metric in ("kl", "js", "cosine"):
                theirs = results.test["distribution"][metric]
                assert overall["distribution"][metric] == pytest.approx(theirs, abs=1e-5)
        save(found, runs[name])
        assert read_report(runs[name], results)


class TestEmotionsAndDimensions:
    def test_both_are_measured(self, models: dict[str, Model], speech: Path, tmp_path: Path) -> None:
        options = replace(QUICK, robustness=True, conditions=NOISE, robustness_clips=30)
        found = built(models["mixed"], [f"synthetic={speech}"], options, part="all", other=models["dimensions"])
        report = found.report
        overall, intervals = report["quality"]["overall"], report["quality"]["intervals"]["clips"]
        assert {"uar", "ccc"} <= overall.keys() & intervals.keys()
        assert overall["distribution"]["clips"] == 96
        assert overall["distribution"]["intervals"]["clips"].keys() == {"kl", "js", "cosine"}
        noise = report["robustness"]["conditions"][1]
        assert {"uar", "interval", "difference", "ccc", "ccc_interval", "ccc_difference"} <= noise.keys()
        comparison = report["comparison"]
        assert list(comparison["dimensions"]) == ["arousal", "valence"]  # those of both
        assert comparison["difference"].keys() == {"ccc"}
        alone = built(models["dimensions"], [f"synthetic={speech}"], part="all").report["quality"]["overall"][
            "dimensions"
        ]
        ccc = overall["dimensions"]["arousal"]["ccc"] - alone["arousal"]["ccc"]
        assert comparison["dimensions"]["arousal"]["difference"]["ccc"] == pytest.approx(ccc)
        save(found, tmp_path)
        columns = pandas.read_csv(tmp_path / "report" / "clips.csv").columns
        assert {"emotion", "predicted", "arousal", "arousal_predicted", "valence_predicted"} <= set(columns)
        assert "dominance" not in columns
        text = console(report)
        assert "UAR and CCC by condition" in text
        assert "mean CCC  " in text
        assert all(len(line) <= 100 for line in text.splitlines())
        assert "Fairness between the genders" in (html := (tmp_path / "report.html").read_text())
        assert "Dimensions: differences between the genders" in html

    @pytest.mark.parametrize(("few", "main"), [("UAR", "clips"), ("CCC", "speakers")])
    def test_a_metric_of_too_few_speakers_has_its_interval_by_clips(
        self, few: str, main: str, models: dict[str, Model], manifest: Any
    ) -> None:
        """Of twelve speakers all have labels of one target, and six of the other."""

        def given(metric: str, place: int, value: Any) -> Any:
            return value if metric != few or place % 12 < 6 else ""

        corpus = manifest(
            speaker=lambda place, row: f"s{place % 12}",
            gender=None,
            emotion=lambda place, row: given("UAR", place, row["emotion"]),
            arousal=lambda place, row: given("CCC", place, place % 7 / 6),
        )
        report = built(models["mixed"], [corpus], other=replace(models["mixed"], name="itself")).report
        assert main_metric(report)["interval"].startswith(f"95 % interval by {main}: ")
        reason = f"No interval of {few} by speakers: 6 speakers, too few to draw from; at least 10 are needed."
        narrow = f"{reason} Intervals by clips are too narrow for new speakers."
        assert narrow in [caution.text for caution in cautions(report)]
        assert reason in report["notes"]
        html, text = page(report, {}), console(report)
        assert html.count(reason) == 4  # the caution, quality, the comparison, the notes
        for unit in ("clips", "speakers"):  # each metric has an interval in one of the two tables
            assert f"This model and itself, by {unit}" in text

    def test_models_with_distributions_alone_in_common(
        self, models: dict[str, Model], manifest: Any, tmp_path: Path
    ) -> None:
        """Trap: its page and its console ended in a KeyError."""
        corpus = manifest(
            emotion=None,
            votes=lambda place, row: ["angry:2 sad:1", "sad:3"][place % 2],
            arousal=lambda place, row: place % 7 / 6,
        )
        found = built(models["mixed"], [corpus], other=models["votes"])
        comparison = found.report["comparison"]
        assert comparison["distribution"]["difference"]
        assert comparison["difference"] == {}
        save(found, tmp_path)
        assert "Jensen-Shannon divergence" in console(found.report)

    def test_models_without_a_target_in_common(self, models: dict[str, Model], speech: Path) -> None:
        with pytest.raises(
            ValueError, match="compare=votes: it and dimensions have no emotions or dimensions in common"
        ):
            built(models["dimensions"], [f"synthetic={speech}"], other=models["votes"])


def test_dimensions_in_another_order(
    models: dict[str, Model], runs: dict[str, Path], speech: Path, tmp_path: Path
) -> None:
    """As audeering's model has them: the outputs are taken by their names."""
    copy = Path(shutil.copytree(runs["dimensions"], tmp_path / "run"))
    config = json.loads((copy / "config.json").read_text())
    order = ["arousal", "dominance", "valence"]
    config |= {"id2label": dict(enumerate(order)), "label2id": {name: place for place, name in enumerate(order)}}
    (copy / "config.json").write_text(json.dumps({**config, "dimensions": order}))
    model = open_model(hf_ser.pipeline(copy), "renamed", copy)
    assert model.dimensions == tuple(DIMENSIONS)
    ours, theirs = (built(one, [f"synthetic={speech}"]).evaluated for one in (models["dimensions"], model))
    np.testing.assert_allclose(theirs.values, ours.values[:, [0, 2, 1]], atol=1e-6)
    config["id2label"] = {"0": "arousal", "1": "age", "2": "valence"}
    label2id = {name: int(place) for place, name in config["id2label"].items()}
    (copy / "config.json").write_text(json.dumps({**config, "label2id": label2id, "dimensions": list(label2id)}))
    with pytest.raises(ValueError, match="renamed: its value 'age' is not known; expected some of arousal"):
        open_model(hf_ser.pipeline(copy), "renamed", copy)


class TestLabelsThatAreMissing:
    def test_a_clip_without_a_label_counts_for_the_others(self, models: dict[str, Model], manifest: Any) -> None:
        corpus = manifest(
            emotion=lambda place, row: "" if place % 4 == 0 else row["emotion"],
            arousal=lambda place, row: "" if place % 4 == 1 else 1 + 6 * (place % 7) / 6,
            valence=lambda place, row: 4,
        )
        report = built(models["mixed"], [corpus], dimension_range=[1, 7]).report
        overall = report["quality"]["overall"]
        assert report["clips"]["number"] == overall["clips"] == 96
        assert np.sum(overall["confusion_matrix"]) == overall["dimensions"]["arousal"]["clips"] == 72
        assert overall["dimensions"]["valence"]["clips"] == 96
        assert overall["dimensions"]["valence"]["ccc"] is None
        assert overall["dimensions"]["valence"]["mae"] is not None
        assert overall["ccc"] == overall["dimensions"]["arousal"]["ccc"]
        assert "All clips with a label of valence have the same: its CCC is undefined." in report["notes"]
        assert "Of 96 clips 72 have a label of arousal: its metrics are of these." in report["notes"]
        assert "CCC is undefined for a gender" in report["fairness"]["reason"]
        assert report["fairness"]["dimensions"]["valence"]["mean_error"] is not None
        assert "nan" not in console(report).lower().split()

    def test_an_undefined_ccc_alone(self, models: dict[str, Model], manifest: Any, tmp_path: Path) -> None:
        corpus = manifest(dominance=lambda place, row: 0.5)
        found = built(models["dimensions"], [corpus], replace(QUICK, robustness=True, conditions=NOISE))
        report = found.report
        assert report["quality"]["overall"]["ccc"] is None
        assert "No clip has a label of arousal: its metrics are missing." in report["notes"]
        assert "speakers" not in draw(report, tmp_path)
        assert "mean of dominance: –" in " ".join(console(report).split())

    def test_dimensions_that_the_corpora_lack(self, models: dict[str, Model], manifest: Any) -> None:
        corpus = manifest()
        with pytest.raises(CorpusError, match="no clip has arousal, valence or dominance; found angry, calm"):
            built(models["dimensions"], [corpus])
        report = built(models["mixed"], [corpus]).report
        assert report["quality"]["overall"].keys().isdisjoint({"ccc", "dimensions", "distribution"})
        assert page(report, {})

    def test_a_value_outside_the_scale(self, models: dict[str, Model], manifest: Any) -> None:
        corpus = manifest(arousal=lambda place, row: 3)
        with pytest.raises(CorpusError, match="arousal: found 3, expected 0 to 1"):
            built(models["mixed"], [corpus])
