"""Whole cards, read as a visitor and as the Hub would read them."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from hf_ser.corpora import ABOUT
from hf_ser.hub.card import make_card, read_report, text, write_card
from hf_ser.results import RunResults
from hf_ser.tuning import METHODS

EXAMPLE = Path(__file__).parents[2] / "model_cards/hubert-mini-ravdess-full"
RESULTS, REPORT = (json.loads((EXAMPLE / name).read_text(encoding="utf-8")) for name in ("results.json", "report.json"))
Results = dict[str, Any]


def run(**changes: Any) -> Results:
    """The results of the example, with a probe, intervals by speakers, and `changes`."""
    results = copy.deepcopy(RESULTS)
    test = results["metrics"]["test"]
    test["intervals"]["speakers"] = {
        name: [low - 0.02, high] for name, (low, high) in test["intervals"]["clips"].items()
    }
    results["probe"] = {"C": 0.01, "test": {**copy.deepcopy(test), "uar": 0.5}}
    return results | {"base_model": "facebook/hubert-base", "base_model_on_hub": True, **copy.deepcopy(changes)}


def changed(of: Results, path: str, to: Any) -> Results:
    """A copy of `of` with another value at a path such as `split.parts.test`."""
    found = inside = copy.deepcopy(of)
    *keys, last = path.split(".")
    for key in keys:
        inside = inside[key]
    inside[last] = to
    return found


def corpora(*names: str, **entry: Any) -> Results:
    return {
        name: {"clips": 100, "speakers": 4, "clips_without_speaker": 0, "hours": 0.1, "read_as": name, **entry}
        for name in names
    }


def shared_speakers() -> Results:
    results = changed(run(), "split.speakers_shared_by_train_and_test", 4)
    return changed(results, "split.name", "random")


def unknown_speakers() -> Results:
    results = run(corpora=corpora("calls | 2024", read_as="manifest", speakers=0))
    for part in results["split"]["parts"].values():
        part |= {"speakers": 0, "clips_without_speaker": part["clips"]}
    results["metrics"]["test"]["intervals"] |= {
        "speakers": None,
        "speakers_reason": "the clips' speakers are not known",
    }
    return results


def little_known() -> Results:
    """A test part of one emotion, too few clips for an interval, and no probe."""
    results = run(probe={})
    matrix = [[30, 6, *[0] * 6], *[[0] * 8] * 7]
    results["metrics"]["test"] |= {"eer": None, "confusion_matrix": matrix}
    results["metrics"]["test"]["intervals"] |= {"clips": None, "speakers": None}
    return results


def local_base(**changes: Any) -> Results:
    return run(base_model="hubert-mini", base_model_on_hub=False, **changes)


CARDS: dict[str, tuple[Results, dict[str, Any]]] = {
    "full": (run(), {"model_id": "someone/ser"}),
    "given": (run(), {"model_id": "someone/ser", "license": "mit", "language": ["en", "fr"], "tags": ["mine"]}),
    "merged": (run(method="lora_qkv"), {"merged": True, "model_id": "someone/ser"}),
    "merged, local base": (local_base(method="lora_qkv"), {"merged": True}),
    "adapter": (run(method="lora_qkv"), {"adapter": True, "model_id": "someone/ser", "report": REPORT}),
    "unmerged": (run(method="adapter+prompt"), {"adapter": True, "files": ()}),
    "probe": (run(method="probe"), {}),
    "random split": (shared_speakers(), {}),
    "unknown speakers": (unknown_speakers(), {}),
    "several corpora": (
        run(method="lora_qkv", corpora=corpora("crema_d", "ravdess", "savee", "tess")),
        {"merged": True},
    ),
    "little known": (little_known(), {}),
    "synthetic": (run(corpora=corpora("synthetic"), base_model="hubert-tiny-random", base_model_on_hub=False), {}),
    "from the Hub": (run(corpora=corpora("emodb", read_as="dataset", hub_dataset="someone/emodb")), {}),
    "code": (run(remote_code=True, model_type="whisper"), {}),
    "report": (run(), {"model_id": "someone/ser", "report": REPORT}),
}


@pytest.fixture(params=CARDS)
def card(request: pytest.FixtureRequest) -> str:
    results, given = CARDS[request.param]
    return render(results, **given)


def render(results: Results, **given: Any) -> str:
    return str(make_card(RunResults.from_dict(results), **given))


def body(card: str) -> str:
    return card.split("\n---\n", 1)[1]


def metadata(card: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(card.removeprefix("---\n").split("\n---\n", 1)[0])
    return loaded


def prose(card: str) -> str:
    """The card with a word in place of its code."""
    return re.sub(r"^```.*?^```$", "(code)", body(card), flags=re.MULTILINE | re.DOTALL)


def code_blocks(card: str, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", card, flags=re.MULTILINE | re.DOTALL)


def section(card: str, heading: str) -> str:
    return re.split(r"^##", card.split(f"{heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


class TestEveryCard:
    def test_it_is_short_and_has_one_snippet(self, card: str) -> None:
        assert len(card.splitlines()) <= 200
        (snippet,) = code_blocks(card)
        compile(snippet, "card", "exec")

    def test_no_section_is_blank_and_no_sentence_broken(self, card: str) -> None:
        lines = [line for line in prose(card).splitlines() if line.strip()]
        for line, after in zip(lines, [*lines[1:], "# the end"], strict=True):
            assert not (after.startswith("#") and line.endswith(":")), line
            assert not (after.startswith("##") and line.startswith("#") and not after.startswith("###")), line
        assert not re.search(r"\b(None|nan|NaN|Undefined|inf)\b|\{\}|\[\]|\{\{|\{%|%\}|dict_", prose(card))
        assert not re.search(r"\n\n\n|[ \t]+\n", body(card))
        text = re.sub(r"^\|.*\n", "", prose(card), flags=re.MULTILINE)  # without the tables
        assert not re.search(r" [.,;:!]( |\n|$)|\.\.(?!\.)|,,|\( | \)|\(\)|  \S", text.replace("...", "")), text

    def test_the_table_is_well_formed(self, card: str) -> None:
        lines = [line for line in prose(card).splitlines() if line.startswith("|")]
        assert re.fullmatch(r"\|( -+:? \|)+", lines[1])
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
        assert len(lines) > 5

    def test_the_metadata_are_valid(self, card: str, tmp_path: Path) -> None:
        (tmp_path / "README.md").write_text(card, encoding="utf-8")
        data = ModelCard.load(tmp_path / "README.md").data
        assert data.pipeline_tag == "audio-classification"
        assert data.library_name in ("transformers", "peft")
        assert len(set(data.tags)) == len(data.tags)
        assert not any(value in (None, [], {}, "") for value in metadata(card).values())
        if data.license == "other":
            assert re.fullmatch(r"[a-z0-9.-]+", metadata(card)["license_name"])

    def test_it_says_what_it_is_not_for_and_whom_to_cite(self, card: str) -> None:
        for word in ("hiring", "policing", "border control", "diagnose", "at work or at school", "AI Act"):
            assert word in card
        (block,) = code_blocks(card, "bibtex")
        keys = re.findall(r"^@\w+\{(\w+),", block, flags=re.MULTILINE)
        assert keys
        assert len(set(keys)) == len(keys)
        assert block.count("{") == block.count("}")


class TestMetrics:
    def test_the_table_has_the_model_beside_its_probe_with_intervals(self) -> None:
        results = run()
        card, test = render(results), results["metrics"]["test"]
        assert "| metric | model | 95 % interval by speakers | probe | probe, 95 % interval by speakers |" in card
        for name, key in (("accuracy", "accuracy"), ("weighted F1", "f1_weighted"), ("EER", "eer")):
            low, high = test["intervals"]["speakers"][key]
            cells = f"{100 * test[key]:.1f} % | {100 * low:.1f} to {100 * high:.1f} %"
            assert f"| {name} | {cells} | {cells} |" in card
        del results["probe"]["test"]["intervals"]
        assert "| metric | model | 95 % interval by speakers | probe |\n" in render(results)
        assert re.search(r"\| UAR \| 58.8 % \|.*\| 50.0 % \|", card)
        assert "The model has 8.8 points more UAR." in card
        assert (
            "**58.8 % UAR** (unweighted average recall; 95 % interval by speakers: 50.7 to 65.2 %) on 239 clips" in card
        )
        assert "chance is 12.5 %, and the most frequent emotion is 13.4 % of the clips" in card

    def test_what_is_not_known_is_left_out(self) -> None:
        card = render(little_known())
        assert "| metric | value |\n" in card
        assert "| EER" not in card
        assert "interval" not in section(card, "## Results")
        assert "Recall by emotion: angry 83.3 %." in card
        assert "eer" not in metadata(card)["metrics"]

    def test_the_models_index(self, tmp_path: Path) -> None:
        results = run()
        (tmp_path / "README.md").write_text(render(results, model_id="someone/ser"), encoding="utf-8")
        data = ModelCard.load(tmp_path / "README.md").data
        assert data.model_name == "ser"
        test, names = results["metrics"]["test"], {"uar": "UAR", "accuracy": "accuracy", "f1_weighted": "weighted F1",
                                                   "f1_macro": "macro F1", "eer": "EER"}  # fmt: skip
        assert {(one.metric_name, one.metric_value) for one in data.eval_results} == {
            (f"Test {name} (speaker split)", round(test[key], 4)) for key, name in names.items()
        }
        assert {
            (one.task_type, one.dataset_name, one.dataset_type, one.dataset_config, one.dataset_split)
            for one in data.eval_results
        } == {
            (
                "audio-classification",
                "RAVDESS (speaker split, no speaker in both train and test)",
                "ravdess",
                "speaker",
                "test",
            )
        }

    def test_the_models_index_says_whether_speakers_are_shared(self) -> None:
        def data_set(results: Results) -> str:
            return str(metadata(render(results))["model-index"][0]["results"][0]["dataset"]["name"])

        assert data_set(shared_speakers()) == "RAVDESS (random split, 4 speakers in both train and test)"
        assert data_set(unknown_speakers()) == "calls | 2024 (speaker split)"


class TestTestPartWithoutEmotions:
    def results(self, **test: Any) -> Results:
        """A run for emotions and arousal."""
        targets = {"emotion": 1.0, "arousal": 1.0}
        metrics = RESULTS["metrics"] | {"test": {"clips": 36, **test}}
        found = run(targets=targets, probe={"C": 0.01, "penalty of arousal": 1.0, "test": {"clips": 36, **test}})
        return found | {"metrics": copy.deepcopy(metrics)}

    def test_ccc_stands_for_the_model(self) -> None:
        edges = {"clips": {"ccc": [0.4, 0.6], "mae": [0.1, 0.2]}, "speakers": None, "speakers_reason": "2 speakers"}
        drawn = {"level": 0.95, "resamples": 1000, **edges}
        arousal = {"clips": 36, "ccc": 0.512, "ccc_by_speaker": 0.4, "mae": 0.1, "intervals": drawn}
        results = self.results(ccc=0.512, dimensions={"arousal": arousal})
        card = render(changed(results, "metrics.test_other", results["metrics"]["test"]))
        assert "**CCC of 0.512** (concordance correlation coefficient, mean of arousal) on 36 clips" in card
        assert "The model has the same CCC." in card
        assert re.search(r"\| arousal \| +36 \| +0.512 \| +0.400 to 0.600", card)
        assert re.search(r"\| test_other \| arousal \| +36 \| +0.512 \| +0.400 to 0.600", card)
        assert not re.search("UAR\\*\\*|Recall by emotion", card)
        two = changed(
            results,
            "metrics.test_other",
            results["metrics"]["test"] | {"dimensions": {"arousal": arousal, "valence": arousal}},
        )
        assert not re.search(r"\| test_other \| +36 \| +0.512 \| +0.400 to 0.600", render(two))

    def test_without_any_label_no_metric_is_claimed(self) -> None:
        card = render(self.results())
        assert "It was tested on 36 clips" in card
        assert not re.search("UAR\\*\\*|CCC of|Recall by emotion", card)


class TestReport:
    def test_the_card_has_it_in_brief(self) -> None:
        found = section(render(run(), report=REPORT), "### Fairness, robustness, cost and leakage")
        assert f"It was made on 2026-11-30 by `{REPORT['made']['command']}`." in found
        for words in ("UAR by gender: female 64.1 %, male 53.5 %.", "Equality of odds between the genders: 44.1 %",
                      "17.9 % under the worst of 33 conditions, babble, 0 dB SNR", "A clip of 3 s takes 57.9 ms",
                      "0 shared speakers, 0 clips that are the same or nearly the same",
                      "](report/robustness.png)", "](report/reliability.png)"):  # fmt: skip
            assert words in found
        assert "](report/reliability.png)" not in render(run(), report=REPORT, files=("report/robustness.png",))
        for word in ("report.json", "report/", "parity"):
            assert word not in render(run())
        assert metadata(render(run(), report=REPORT)) == metadata(render(run()))

    def test_leakage_is_an_alarm_without_names(self) -> None:
        pair = {"clip": "ravdess/07-a", "train_clip": "ravdess/07-b", "similarity": 1.0, "exact": True}
        leaking = changed(REPORT, "leakage", {"speakers": ["ravdess_03"], "duplicates": [pair], "reason": None})
        card = render(run(), report=leaking)
        assert (
            "**Leakage: 1 speaker of these clips was in training, too. The metrics say nothing about new speakers.**"
            in card
        )
        assert "**Leakage: 1 clip was in training, too, or nearly the same. The metrics are too good.**" in card
        assert "ravdess_03" not in card
        assert "ravdess/07" not in card

    def test_unknown_speakers_are_not_none_that_are_shared(self) -> None:
        some = {"speakers": None, "duplicates": [], "reason": "some clips, here or in training, have no known speaker"}
        card = render(run(), report=changed(REPORT, "leakage", some))
        assert (
            "those of train and validation: shared speakers unknown, 0 clips that are the same or nearly the same."
            in card
        )

    def test_what_was_measured_is_no_limitation(self) -> None:
        def limits(report: Results | None) -> str:
            return section(render(run(), report=report), "## Limitations and uses")

        unfair = changed(changed(REPORT, "fairness.equality_of_odds", None), "robustness", None)
        for nothing in (None, unfair):
            assert "nor whether it treats women and men alike." in limits(nothing)
            assert "Not tested: noise, telephones, music, several people at once and other microphones." in limits(
                nothing
            )
        assert "women and men" not in limits(REPORT)
        assert "Not tested: music, several people at once and other microphones." in limits(REPORT)

    @pytest.mark.parametrize(
        ("path", "value", "why"),
        [
            ("clips", None, "it is not a report"),
            ("model", {"name": "foreign"}, "it cannot be read .KeyError: 'precision'"),
            ("model.precision", "int8", "its metrics are of the model in int8"),
            ("clips.part", "all", r"not the test part of the run's own split \(part: all\)"),
            ("clips.number", 59, "it has 59 clips, and the run's test part 239"),
            ("quality.overall.uar", 0.1234, "its UAR is 12.3 %, and the run's 58.8 %"),
            ("quality.overall.uar", REPORT["quality"]["overall"]["uar"] + 0.0011, "its UAR is"),
            ("quality.overall.uar", REPORT["quality"]["overall"]["uar"] + 0.0009, None),  # rounded differently
        ],
    )
    def test_the_report_of_another_run_is_left_out(
        self, path: str, value: Any, why: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        results = RunResults.from_dict(run())
        assert read_report(tmp_path, results) is None
        assert not caplog.records
        (tmp_path / "report.json").write_text(json.dumps(changed(REPORT, path, value)))
        assert (read_report(tmp_path, results) is None) == (why is not None)
        assert re.search(f"report.json is left out: .*{why}" if why else "^$", caplog.text)

    def test_no_path_of_this_machine(self, tmp_path: Path) -> None:
        command = "python scripts/evaluate.py /home/jdoe/runs/ser --corpora a=/data/b/RAVDESS"
        (tmp_path / "report.json").write_text(json.dumps(changed(REPORT, "made.command", command)))
        write_card(RunResults.from_dict(run()), tmp_path)
        assert "by `python scripts/evaluate.py ser --corpora a=RAVDESS`." in (tmp_path / "README.md").read_text(
            encoding="utf-8"
        )


class TestTruthfulness:
    def test_shared_speakers_are_warned_of_before_any_table(self) -> None:
        results = shared_speakers()
        warning = "4 speakers are in both train and test: metrics on test say nothing about a new speaker."
        results["warnings"] = [warning, "The training loss did not fall: 1.1 at first, 1.2 at the end."]
        card = render(results)
        assert re.findall(r"> \[!WARNING\]\n> (.*)", card) == results["warnings"]
        assert card.index(warning) < card.index("## Results")
        assert "239 clips of 4 speakers, all of whom it was trained on" in card
        assert "resamples of speakers with all of their clips, who are in training, too." in card

    def test_no_speaker_is_shared(self) -> None:
        card = render(run())
        for words in ("[!WARNING]", "receives whole clips", "the probe was kept"):
            assert words not in card
        assert "239 clips of 4 speakers who are not in its training data" in card
        assert "Speakers shared by train and test: 0." in card

    def test_unknown_speakers(self) -> None:
        card = render(unknown_speakers())
        assert "on 239 clips of unknown speakers." in card
        assert "The speakers of 1,079 clips are unknown; whether parts share them is unknown." in card
        assert "not in its training data" not in card
        assert "There is none by speakers: the clips' speakers are not known." in card
        some = render(changed(run(), "split.parts.test.clips_without_speaker", 20))
        assert "239 clips of 4 known speakers (and 20 clips of unknown ones)." in some
        assert "Speakers shared by train and test" not in some
        assert "Speakers shared by train and validation: 0." in some

    def test_unknown_speakers_of_a_further_test_part(self) -> None:
        results = run()
        for part, shared, unknown in (("test2", 0, 20), ("test3", 3, 0)):
            results["metrics"][part] = results["metrics"]["test"]
            results["split"]["parts"][part] = results["split"]["parts"]["test"] | {"clips_without_speaker": unknown}
            results["split"][f"speakers_shared_by_train_and_{part}"] = shared
        assert re.findall(r"train and (test\d): (\d+)\.", render(results)) == [("test3", "3")]

    @pytest.mark.parametrize(
        ("results", "words"),
        [
            # The split
            *((changed(run(), "split", RESULTS["split"] | split), [f"**`{split['name']}` split**: ", words]) for split, words in [
                ({"name": "speaker"}, "every speaker is in one part only (speaker-independent); seed 42."),
                ({"name": "random", "speakers_shared_by_train_and_test": 3}, "the metrics say nothing about a new speaker"),
                ({"name": "random"}, "here train and test share no speaker"),
                ({"name": "random", "speakers_shared_by_train_and_test": None}, "whether train and test share speakers is unknown"),
                ({"name": "kfold", "by": "session", "fold": 1, "folds": 5}, "fold 2 of 5, PEFT-SER's folds by session"),
                ({"name": "official"}, "the parts that the corpus defines"),
                ({"name": "file", "made_as": "official"}, "corpus defines; read from the splits.json of an earlier run"),
            ]),
            # The clips
            (run(merged_emotions={"calm": "sad"}, left_out={"fear": 192, "disgust": 0}, left_out_by_split={"ravdess": 1200},
                 excluded={"ravdess": {"duplicate": 1, "unreadable": 2}, "tess": {"silent": 3}}),
             ["*calm* counts as *sad*.", "left out: 192 of *fear*.", "Clips in no part of the split: 1,200 of RAVDESS.",
              "Excluded clips: 1 duplicate and 2 unreadable in RAVDESS; 3 silent in tess."]),
            (changed(run(segments={"length": 6.0, "overlap": 1.0}), "training.arguments.max_seconds", 4.5),
             ["The metrics were measured on the first 4.5 s of each clip; the published model receives whole clips.",
              "segments of 6 s that overlap by 1 s"]),
            # The weights
            *((run(kept=kept), [words]) for kept, words in [
                ({"by": "uar on validation", "value": 0.7312, "epoch": 2.0}, "epoch 2 of 3, the best by UAR on validation (73.1 %)"),
                ({"by": "loss on validation", "value": 0.8123, "epoch": 3.0}, "the best by loss on validation (0.812)"),
                ({"by": "last", "value": None, "epoch": 3.0}, "Kept: the weights of the last of 3 epochs."),
                ({"by": "last", "value": None, "epoch": 3.0, "averaged_steps": 9}, "after each of the last 9 steps"),
                ({"by": "last", "epoch": 3.0, "interpolation": 0.25, "validation_scores": [0.1, 0.2]}, "the point at 25.0 % of the way"),
                ({"by": "last", "epoch": 3.0, "interpolation": 0.0, "validation_scores": [0.6, 0.5]},
                 "worse on validation, so the probe was kept."),
            ]),
            # The batch size
            (run(padding_changes_answers=False), ["hold at every `batch_size` of the pipeline, 1 or 8."]),
            (run(padding_changes_answers=True), ["at `batch_size=1`, the default. In a padded batch (`batch_size=8`)",
                                                 "the group norm of the first layer over the padding"]),
            (run(padding_changes_answers=True, model_type="data2vec-audio"), ["the positional convolutions over the padding"]),
            (run(padding_changes_answers=False, model_type="whisper"), ["Leave the pipeline's `batch_size` at 1"]),
            # Rare emotions
            *((changed(run(), f"training.{kind}.balance", balance), [f"Its probabilities are not calibrated{words}."])
              for kind, balance, words in [
                  ("defaults", "logits", ", and suppose that the emotions are equally frequent"),
                  ("arguments", "weights", ", and suppose that the emotions are equally frequent"),
                  ("arguments", "none", "")]),
            (changed(run(), "training.energy_kwh", 0.01234), [" and 0.012 kWh (CodeCarbon)"]),
            # The code that it brings
            (run(remote_code=True, model_type="whisper"), ["runs the code in this repository (`*_ser.py`)"]),
        ],
    )  # fmt: skip
    def test_what_it_says(self, results: Results, words: list[str]) -> None:
        card = " ".join(render(results).split())
        assert all(each in card for each in words)

    def test_whose_labels_and_which_speech(self) -> None:
        def limits(*names: str) -> str:
            return section(render(run(corpora=corpora(*names))), "## Limitations and uses")

        both = limits("iemocap", "ravdess", "savee")
        assert "The speakers of RAVDESS and SAVEE were asked to show an emotion, which is the label." in both
        assert "The labels of IEMOCAP are the emotions that most raters perceived." in both
        assert "In IEMOCAP and SAVEE the words differ between emotions" in both
        assert "**English.** Other languages were not tested, nor free speech and conversations." in limits(
            "ravdess", "tess"
        )
        assert "**English.** Other languages were not tested.\n" in limits("msp_podcast")
        synthetic = limits("synthetic", "ravdess")
        assert "synthetic" in synthetic.lower()
        assert "say nothing about people" in synthetic
        assert "English" not in synthetic

    @pytest.mark.parametrize(
        "entry", [{"read_as": "manifest"}, {"read_as": "dataset", "hub_dataset": "someone/ravdess"}]
    )
    def test_a_corpus_is_known_only_if_its_own_reader_read_it(self, entry: Results) -> None:
        card = render(run(corpora=corpora("ravdess", **entry)))
        assert not {"license", "language"} & set(metadata(card))
        for words in (ABOUT["ravdess"].licence, ABOUT["ravdess"].speakers, "livingstone", "Acted"):
            assert words not in card
            assert words in render(run())

    def test_a_base_model_from_a_folder(self) -> None:
        card = render(local_base(method="lora_qkv"), merged=True)
        assert "base_model" not in metadata(card)
        assert (
            "local folder called `hubert-mini`; its origin is not recorded. To open the adapter, pass the folder as `base=`."
            in card
        )
        given = render(local_base(), base_model="someone/hubert-mini")
        assert metadata(given)["base_model"] == "someone/hubert-mini"
        assert "local folder" not in given


class TestMetadata:
    def test_a_full_run(self) -> None:
        found = metadata(render(run(), model_id="someone/ser"))
        found.pop("model-index")
        assert found == {
            "language": ["en"],
            "license": "cc-by-nc-sa-4.0",
            "library_name": "transformers",
            "pipeline_tag": "audio-classification",
            "base_model": "facebook/hubert-base",
            "base_model_relation": "finetune",
            "metrics": ["accuracy", "f1", "recall", "eer"],
            "tags": [
                "speech-emotion-recognition",
                "emotion-recognition",
                "speech",
                "hf_ser",
                "hubert",
                "full",
                "ravdess",
            ],
        }

    @pytest.mark.parametrize("method", ["lora_qkv", "adapter+prompt"])
    def test_an_adapter(self, method: str) -> None:
        found = metadata(render(run(method=method), adapter=True))
        assert (found["library_name"], found["base_model_relation"]) == ("peft", "adapter")
        assert set(method.split("+")) <= set(found["tags"])
        assert ("lora" in found["tags"]) == ("lora" in method)

    def test_what_is_given_wins(self) -> None:
        card = render(run(), license="mit", language="fr", tags=["mine", "speech"])
        found = metadata(card)
        assert (found["license"], found["language"], found["tags"][-1]) == ("mit", "fr", "mine")
        assert "no licence of their own" not in card

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (["ravdess"], {"license": "cc-by-nc-sa-4.0"}),
            (["ravdess", "crema_d"], {"license": "other", "license_name": "licences-of-the-corpora"}),
            (
                ["savee"],
                {
                    "license": "other",
                    "license_name": "licences-of-the-corpora",
                    "license_link": ABOUT["savee"].homepage,
                },
            ),
            (["ravdess", "mine"], {}),
        ],
    )
    def test_the_licence_follows_from_the_corpora(self, names: list[str], expected: dict[str, str]) -> None:
        found = metadata(render(run(corpora=corpora(*names))))
        assert {key: value for key, value in found.items() if key.startswith("license")} == expected

    def test_data_sets_on_the_hub(self) -> None:
        card = render(run(corpora=corpora("emodb", read_as="dataset", hub_dataset="someone/emodb")))
        assert metadata(card)["datasets"] == ["someone/emodb"]
        assert metadata(card)["model-index"][0]["results"][0]["dataset"]["type"] == "someone/emodb"
        assert "[someone/emodb](https://huggingface.co/datasets/someone/emodb)" in card


class TestTraining:
    def test_in_brief(self) -> None:
        results = run(method="full", parameters={"trainable": 315_702_920, "total": 315_703_944})
        results["training"] |= {"processes": 16, "machines": 2, "parallelism": "DDP", "resumed_from": "checkpoint-300"}
        card = section(render(results), "## Training")
        assert (
            "315,702,920 of 315,703,944 parameters (over 99.9 %). 3 epochs, 135 steps of 16 clips, in bfloat16" in card
        )
        assert "took 3.3 min since checkpoint-300 on CPU (AMD EPYC), 16 processes on 2 machines (DDP)." in card
        assert "`learning_rate`: 5e-05" in card
        assert "use_cpu" not in card
        assert f"```bash\n{results['command']}\n```" in card

    def test_every_method_has_words(self) -> None:
        assert text.METHODS.keys() >= set(METHODS)
        assert "Method: adapters after the feed-forward layers and `another`." in render(run(method="adapter+another"))
        aimed = changed(
            run(method="lora_qkv"), "training.arguments.lora_target_modules", ["intermediate_dense", "output_dense"]
        )
        assert "(LoRA on `intermediate_dense` and `output_dense`)" in render(aimed)

    def test_who_is_cited(self) -> None:
        def keys(**changes: Any) -> list[str]:
            return re.findall(r"^@\w+\{(\w+),", render(run(**changes)), flags=re.MULTILINE)

        fold = {**RESULTS["split"], "name": "kfold", "fold": 0, "folds": 5}
        assert keys() == ["livingstone2018ravdess", "hsu2021hubert", "hubertser"]
        assert keys(method="lora_qkv", model_type="wavlm")[1:] == ["chen2022wavlm", "hubertser", "hu2021lora"]
        assert keys(method="lora_classifier", split=fold)[2:] == ["hubertser", "feng2023peftser", "hu2021lora"]
        assert keys(method="lora_ff")[2:] == ["feng2023peftser", "hu2021lora"]


class TestFolder:
    @pytest.fixture
    def card(self, tmp_path: Path) -> Callable[..., str]:
        def write(results: Results, **given: Any) -> str:
            write_card(RunResults.from_dict(results), tmp_path, **given)
            return (tmp_path / "README.md").read_text(encoding="utf-8")

        return write

    def test_the_card_depends_on_what_is_in_it(self, card: Callable[..., str], tmp_path: Path) -> None:
        results = run(method="lora_qkv")
        for name in ("config.json", "confusion_matrix.png", "splits.json"):
            (tmp_path / name).touch()
        (tmp_path / "adapter").mkdir()
        found = card(results)
        assert "](confusion_matrix.png)" in found
        assert "training_curves.png" not in found
        assert "the part of each clip in `splits.json`" in found
        assert f'hf_ser.pipeline("{tmp_path.name}/adapter")' in found
        (tmp_path / "adapter_config.json").touch()
        (tmp_path / "adapter").rmdir()
        assert "library_name: peft" in card(results)

    def test_of_results_alone(self, card: Callable[..., str]) -> None:
        results = run(method="lora_qkv")
        assert 'hf_ser.pipeline("someone/ser", revision="b", subfolder="adapter")' in card(
            results, model_id="someone/ser", revision="b"
        )
        assert "library_name: peft" in card(changed(results, "training.arguments.save_format", "adapter"))

    @pytest.mark.parametrize("method", [*text.UNMERGED, "adapter+prompt", "ia3+lora_ff"])
    def test_an_adapter_that_cannot_be_merged(self, method: str, card: Callable[..., str]) -> None:
        found = card(run(method=method), model_id="someone/ser")
        assert "This is an adapter with its classification head" in found
        assert 'hf_ser.pipeline("someone/ser")' in found
        assert "library_name: transformers" in card(run(method="lora_qkv+lora_ff"))
