"""Whole cards, read as a visitor and as the Hub would read them."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from huggingface_hub import EvalResult, ModelCard

from hf_ser.corpora import ABOUT
from hf_ser.evaluation.bootstrap import intervals
from hf_ser.hub.card import CORPORA_LICENCES, SERModelCardData, make_card, template, write_card
from hf_ser.hub.card import methods as methods_in_words
from hf_ser.hub.card.figures import SHORT_METRICS
from hf_ser.hub.card.words import duration, table
from hf_ser.models import load_model
from hf_ser.tuning import METHODS, Tuning, save_adapter, tune

EMOTIONS = ["angry", "happy", "sad"]
MATRIX = [[30, 6, 4], [10, 25, 5], [0, 8, 32]]
Results = dict[str, Any]


def metrics(speakers: int = 12) -> Results:
    labels = np.repeat(range(3), 40)
    predicted = np.concatenate([np.repeat(range(3), row) for row in MATRIX])
    probabilities = 0.6 * np.eye(3)[predicted] + 0.4 * np.random.default_rng(0).dirichlet([1, 1, 1], 120)
    return {
        "clips": 120,
        "accuracy": 0.725,
        "f1_weighted": 0.7234,
        "f1_macro": 0.7211,
        "uar": 0.725,
        "eer": 0.1987,
        "confusion_matrix": MATRIX,
        "recall": {"angry": 0.75, "happy": 0.625, "sad": 0.8},
        "intervals": intervals(probabilities, labels, [f"s{i % speakers}" for i in range(120)], resamples=50),
    }


def part(clips: int, speakers: int) -> Results:
    return {
        "clips": clips,
        "speakers": speakers,
        "clips_without_speaker": 0,
        "emotions": dict.fromkeys(EMOTIONS, clips // 3),
    }


def run(**changes: Any) -> Results:
    """The results of a run with everything in them: full fine-tuning of HuBERT Large on RAVDESS."""
    return copy.deepcopy(
        {
            "base_model": "facebook/hubert-large-ll60k",
            "base_model_on_hub": True,
            "model_type": "hubert",
            "method": "full",
            "head": "stock",
            "emotions": EMOTIONS,
            "merged_emotions": {"calm": "sad"},
            "corpora": {"ravdess": {"clips": 600, "speakers": 24, "hours": 0.612}},
            "set_aside": {"ravdess": {"duplicate": 1, "unreadable": 2}},
            "left_out": {"fear": 192, "disgust": 0},
            "split": {
                "name": "speaker",
                "seed": 42,
                "parts": {"train": part(360, 9), "validation": part(120, 3), "test": part(120, 12)},
                "speakers_shared_by_train_and_test": 0,
                "speakers_shared_by_train_and_validation": 0,
            },
            "warnings": [],
            "metrics": {"validation": metrics(), "test": metrics()},
            "evaluated_in": "float32",
            "kept": {"by": "uar on validation", "value": 0.7312, "step": 900, "epoch": 9.0},
            "parameters": {"trainable": 315_702_920, "total": 315_703_944},
            "segments": {"length": 6.0, "overlap": 1.0},
            "training": {
                "epochs": 10.0,
                "steps": 1000,
                "clips_per_step": 16,
                "processes": 2,
                "seconds": 3725.4,
                "seconds_in_all": 4000.0,
                "precision": "bfloat16",
                "energy_kwh": 0.4567,
                "arguments": {
                    "learning_rate": 3e-5,
                    "class_weights": True,
                    "report_to": [],
                    "debug": [],
                    "use_cpu": True,
                    "betas": [0.9, 0.98],
                },
                "defaults": {"weight_decay": 0.0, "optim": "adamw_torch", "hub_token": None, "seed": 42},
            },
            "history": [
                {"epoch": 1.0, "loss": 1.1, "eval_loss": 1.0, "eval_uar": 0.5, "eval_eer": None, "learning_rate": 3e-5},
                {"epoch": 2.0, "loss": 0.9, "eval_loss": float("nan"), "eval_uar": 0.6, "learning_rate": 1e-5},
            ],
            "peak_memory_bytes": {"process": 4_000_000_000, "gpu": 12_300_000_000},
            "seeds": {"training": 42, "split": 42},
            "environment": {
                "python": "3.11.7",
                "packages": {"hf_ser": "0.1.0", "torch": "2.11.0"},
                "device": "NVIDIA H100 80GB HBM3",
                "threads": 8,
            },
            "command": "accelerate launch scripts/finetune.py --corpora ravdess=ravdess",
            **changes,
        }
    )


def least() -> Results:
    """The least that a card can be made of."""
    return {
        "emotions": EMOTIONS,
        "method": "full",
        "metrics": {"test": {"uar": 0.725, "accuracy": 0.725}},
        "split": {"name": "speaker", "parts": {"test": {"clips": 120}}},
    }


def shared_speakers() -> Results:
    results = run(warnings=["12 speakers are in both train and test: figures on test say nothing about a new speaker."])
    results["split"] |= {"name": "random", "speakers_shared_by_train_and_test": 12}
    return results


def unknown_speakers() -> Results:
    results = run(corpora={"calls | 2024": {"clips": 600, "speakers": 0, "hours": 0.6}})
    for entry in results["split"]["parts"].values():
        entry |= {"speakers": 0, "clips_without_speaker": entry["clips"]}
    results["metrics"]["test"]["intervals"] = intervals(np.eye(3)[[0, 1, 2]], np.arange(3), None, resamples=5)
    return results


def several_corpora() -> Results:
    corpora = {name: {"clips": 100, "speakers": 4, "hours": 0.1} for name in ("crema_d", "ravdess", "savee", "tess")}
    return run(method="lora_qkv", corpora=corpora)


def no_figures() -> Results:
    """A test part of one emotion: no EER, no intervals of it."""
    results = run()
    results["metrics"]["test"] |= {"eer": None, "recall": {"angry": 0.75, "happy": None, "sad": None}}
    results["metrics"]["test"]["confusion_matrix"] = [[30, 6, 4], [0, 0, 0], [0, 0, 0]]
    results["metrics"]["test"]["intervals"]["clips"]["eer"] = None
    results["metrics"]["test"]["intervals"]["speakers"]["eer"] = None
    return results


def local_base() -> Results:
    return run(base_model="hubert-mini", base_model_on_hub=False)


def fold() -> Results:
    results = run(method="lora_classifier", segments={"length": None, "overlap": 0.0})
    results["split"] = {**results["split"], "name": "kfold", "by": "speaker", "fold": 0, "folds": 5}
    return results


def report() -> Results:
    """The report of `run()`, with everything in it."""
    worse = [("white noise", "20 dB SNR", 0.7), ("white noise", "0 dB SNR", 0.41), ("babble", "20 dB SNR", 0.66),
             ("babble", "0 dB SNR", 0.3777), ("telephone band", "", 0.725)]  # fmt: skip
    conditions = [{"kind": "clean", "name": "clean", "clips": 90, "uar": 0.7251, "interval": None, "difference": 0.0}]
    conditions += [
        {"kind": kind, "name": f"{kind}, {level}".rstrip(", "), "clips": 90, "uar": uar, "interval": [uar - 0.1, uar],
         "difference": uar - 0.7251}
        for kind, level, uar in worse
    ]  # fmt: skip
    return {
        "model": {"name": "hubert-large-ser", "method": "full", "emotions": EMOTIONS, "model_type": "hubert"},
        "made": {
            "at": "2025-03-04T05:06:07Z",
            "command": "python scripts/evaluate.py hubert-large-ser --corpora ravdess=ravdess --compare wav2vec2-ser",
            "device": "CPU (some processor)",
        },
        "clips": {"part": "test", "split": "speaker", "number": 120, "speakers": 12, "seconds": 300.0},
        "quality": {
            "overall": {"clips": 120, "uar": 0.725, "ece": 0.0456, "log_loss": 0.98765},
            "genders": {"female": {"clips": 64, "uar": 0.7654}, "male": {"clips": 56, "uar": 0.6789}},
            "speakers": {"ravdess_03": {"clips": 120, "uar": 0.725}},
        },
        "fairness": {"demographic_parity": 0.0812, "equality_of_odds": 0.1357, "reason": None},
        "robustness": {"seed": 0, "clips": 90, "of": 120, "conditions": conditions},
        "cost": {
            "device": {"kind": "cpu", "name": "CPU (some processor)", "threads": 2, "processors": 4, "load": 1.37,
                       "torch": "2.11.0", "dtype": "float32"},
            "latency": [{"seconds": s, "runs": 20, "median_ms": 21.7 * s, "p95_ms": 426.3 * s} for s in (1, 3, 10)],
            "throughput": {"speech_per_second": 83.42},
            "parameters": {"total": 315_703_944, "adapter": None},
            "flops": {"per_second": 1039.4e9, "counted": "matrix products and convolutions"},
        },
        "leakage": {
            "speakers": ["ravdess_03"],
            "duplicates": [
                {"clip": "ravdess/a", "train_clip": "ravdess/b", "similarity": 1.0, "exact": True},
                {"clip": "ravdess/a", "train_clip": "ravdess/c", "similarity": 0.98, "exact": False},
                {"clip": "ravdess/d", "train_clip": "ravdess/b", "similarity": 0.98, "exact": False},
            ],
            "reason": None,
        },
        "comparison": {
            "other": "wav2vec2-ser", "level": 0.95,
            "first": {"uar": 0.6929, "eer": 0.211}, "second": {"uar": 0.725, "eer": 0.1987},
            "difference": {"uar": 0.0321, "eer": -0.0123},
            "clips": {"uar": {"interval": [-0.0101, 0.0543], "p": 0.1}, "eer": {"interval": [-0.03, 0.0059], "p": 0.2}},
            "speakers": {"uar": {"interval": [-0.0277, 0.0712], "p": 0.3}, "eer": None},
            "mcnemar": {"both": 71, "only_first": 9, "only_second": 16, "neither": 24, "p": 0.0501},
        },
        "notes": ["wav2vec2-ser has learned from 3 of these clips: the comparison favours it.", "Another note."],
    }  # fmt: skip


def little_report() -> Results:
    """A report in which little is known and less was asked for."""
    return report() | {
        "made": {"at": None, "command": None},
        "quality": {"overall": {"clips": 120, "uar": 0.725, "ece": 0.0456, "log_loss": 0.98765}, "genders": {},
                    "speakers": {}},
        "fairness": {"demographic_parity": None, "equality_of_odds": None, "reason": "the genders are not known"},
        "robustness": None,
        "cost": None,
        "leakage": {"speakers": None, "duplicates": None, "reason": "it is not known"},
        "comparison": None,
        "notes": [],
    }  # fmt: skip


CARDS: dict[str, tuple[Results, dict[str, Any]]] = {
    "full": (run(), {"model_id": "someone/hubert-large-ser"}),
    "given": (
        run(),
        {"model_id": "someone/hubert-large-ser", "license": "mit", "language": ["en", "fr"], "tags": ["mine"]},
    ),
    "merged LoRA": (run(method="lora_qkv"), {"merged": True, "model_id": "someone/hubert-large-ser"}),
    "adapter alone": (run(method="lora_qkv"), {"adapter": True, "model_id": "someone/hubert-large-ser"}),
    "adapter alone, local": (run(method="lora_classifier"), {"adapter": True, "files": ()}),
    "random split": (shared_speakers(), {}),
    "unknown speakers": (unknown_speakers(), {}),
    "several corpora": (several_corpora(), {"merged": True}),
    "no figures": (no_figures(), {}),
    "local base": (local_base(), {}),
    "fold": (fold(), {}),
    "synthetic": (
        run(corpora={"synthetic": {"clips": 600, "speakers": 24, "hours": 0.2}}, base_model="hubert-tiny-random"),
        {},
    ),
    "from the Hub": (run(corpora={"emodb": {"clips": 9, "hub_dataset": "someone/emodb"}}), {}),
    "least": (least(), {}),
    "least, adapter": (least(), {"adapter": True, "files": ()}),
    "report": (run(), {"model_id": "someone/hubert-large-ser", "report": report()}),
    "report, adapter": (run(method="lora_qkv"), {"adapter": True, "report": report(), "files": ()}),
    "little report": (run(), {"report": little_report()}),
}


@pytest.fixture(params=CARDS)
def card(request: pytest.FixtureRequest) -> str:
    results, given = CARDS[request.param]
    return render(results, **given)


def render(results: Results, **given: Any) -> str:
    return str(make_card(SERModelCardData.from_results(results, **given)))


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


def tables(card: str) -> Iterator[list[str]]:
    for block in re.split(r"\n\n+", prose(card)):
        if block.startswith("|"):
            yield block.splitlines()


class TestEveryCard:
    def test_no_section_is_blank(self, card: str) -> None:
        lines = [line for line in prose(card).splitlines() if line.strip()]
        for line, after in zip(lines, [*lines[1:], "# the end"], strict=True):
            assert not (line.startswith("#") and after.startswith("#")), line
            assert not (line.endswith(":") and after.startswith("#")), line
            assert not (line.endswith("</summary>") and after == "</details>"), line

    def test_nothing_of_python_is_in_the_text(self, card: str) -> None:
        assert not re.search(r"\b(None|nan|NaN|Undefined|inf)\b|\{\}|\[\]|\{\{|\{%|%\}|dict_", prose(card))
        assert "\n\n\n" not in card
        assert not re.search(r"[ \t]+\n", body(card)), "trailing blanks"

    def test_no_sentence_is_broken(self, card: str) -> None:
        text = re.sub(r"^\|.*\n", "", prose(card), flags=re.MULTILINE)  # without the tables
        assert not re.search(r" [.,;:!]( |\n|$)|\.\.(?!\.)|,,|\( | \)|\(\)|  \S", text.replace("...", "")), text
        assert card.endswith("\n")

    def test_tables_are_well_formed(self, card: str) -> None:
        found = list(tables(card))
        assert found
        for lines in found:
            assert re.fullmatch(r"\|( -+:? \|)+", lines[1])
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
            assert len(widths) == 1, lines
            assert len(lines) > 2, "a table without rows"
            assert all(line.startswith("| ") and line.endswith(" |") for line in lines)

    def test_the_metadata_are_valid(self, card: str, tmp_path: Path) -> None:
        (tmp_path / "README.md").write_text(card, encoding="utf-8")
        data = ModelCard.load(tmp_path / "README.md").data
        assert data.pipeline_tag == "audio-classification"
        assert data.library_name in ("transformers", "peft")
        assert {"speech-emotion-recognition", "hf_ser"} <= set(data.tags)
        assert len(set(data.tags)) == len(data.tags)
        assert not any(value in (None, [], {}, "") for value in metadata(card).values())
        if data.license == "other":
            assert re.fullmatch(r"[a-z0-9.-]+", metadata(card)["license_name"])

    def test_the_code_compiles(self, card: str) -> None:
        blocks = code_blocks(card)
        assert blocks
        for block in blocks:
            compile(block, "card", "exec")
            assert '"speech.wav"' in block or "hf_ser.load" in block

    def test_it_says_what_it_is_not_for(self, card: str) -> None:
        for word in ("hiring", "policing", "border control", "diagnose", "at work or at school", "AI Act"):
            assert word in card

    def test_citations_are_whole(self, card: str) -> None:
        blocks = code_blocks(card, "bibtex")
        assert blocks
        keys = [re.match(r"@\w+\{(\w+),", block) for block in blocks]
        assert all(keys)
        assert len({key.group(1) for key in keys if key}) == len(blocks), "cited twice"
        assert all(block.count("{") == block.count("}") for block in blocks)


class TestFigures:
    def test_they_are_those_of_the_results(self) -> None:
        results = run()
        card = render(results)
        test = results["metrics"]["test"]
        for name, key in (("UAR", "uar"), ("Accuracy", "accuracy"), ("F1, weighted", "f1_weighted"), ("EER", "eer")):
            edges = [
                f"{100 * low:.1f} to {100 * high:.1f} %"
                for low, high in (test["intervals"]["clips"][key], test["intervals"]["speakers"][key])
            ]
            row = rf"\| {name}[^|]*\| {100 * test[key]:.1f} % \| {edges[0]} \| {edges[1]} \|"
            assert re.search(row, card), name
        assert "| Metric | Test | 95 % interval, by clip | 95 % interval, by speaker |" in card
        assert "| happy | 120 | 40 | 62.5 % | angry (25.0 %) |" in card
        assert "| angry | 120 | 40 | 75.0 % | happy (15.0 %) |" in card
        assert "| **happy** | 10 | 25 | 5 |" in card
        assert "Guessing each of its 3 emotions equally often has 33.3 % UAR; always answering" in card
        low = test["intervals"]["speakers"]["uar"][0]
        assert (
            f"**72.5 % UAR**, the mean of the emotions' recalls (95 % interval, by speaker: {100 * low:.1f} to" in card
        )

    def test_the_models_index_comes_back(self, tmp_path: Path) -> None:
        results = run()
        (tmp_path / "README.md").write_text(render(results, model_id="someone/hubert-large-ser"), encoding="utf-8")
        data = ModelCard.load(tmp_path / "README.md").data
        assert data.model_name == "hubert-large-ser"
        found = data.eval_results
        assert found is not None
        test = results["metrics"]["test"]
        assert {(one.metric_name, one.metric_value) for one in found} == {
            (f"Test {name} (speaker split)", test[key]) for key, name in SHORT_METRICS.items()
        }
        assert {one.dataset_name for one in found} == {"RAVDESS (speaker split, no speaker in both train and test)"}
        assert {(one.dataset_type, one.dataset_config, one.dataset_split) for one in found} == {
            ("ravdess", "speaker", "test")
        }
        assert all(isinstance(one, EvalResult) and one.task_type == "audio-classification" for one in found)

    def test_a_random_split_shows_in_the_hubs_table(self) -> None:
        index = metadata(render(shared_speakers()))["model-index"][0]["results"][0]
        assert index["dataset"]["name"] == "RAVDESS (random split, 12 speakers in both train and test)"
        assert all("random split" in metric["name"] for metric in index["metrics"])

    def test_where_it_cannot_be_told_nothing_is_said_of_shared_speakers(self) -> None:
        card = render(unknown_speakers())
        assert metadata(card)["model-index"][0]["results"][0]["dataset"]["name"] == "calls | 2024 (speaker split)"
        assert "600 clips have no known speaker" in card
        assert "who are not in its training data" not in card
        assert "There is no interval by speaker: the clips' speakers are not known." in card
        assert "by speaker |" not in card

    def test_what_has_no_figure_is_left_out(self) -> None:
        card = render(no_figures())
        assert "| EER" not in card
        assert "| happy | 120 | 0 | - |" in card
        assert [metric["type"] for metric in metadata(card)["model-index"][0]["results"][0]["metrics"]].count(
            "eer"
        ) == 0

    def test_a_figure_without_an_interval(self) -> None:
        results = run()
        results["metrics"]["test"]["intervals"]["clips"]["eer"] = None
        assert re.search(r"\| EER [^|]*\| 19\.9 % \| - \| [\d.]+ to [\d.]+ % \|", render(results))


def section(card: str, heading: str = "## What else was measured") -> str:
    """A section of the card, with those below it."""
    level = heading.partition(" ")[0]
    return re.split(rf"^#{{1,{len(level)}}} ", card.split(f"{heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


class TestReport:
    def test_it_comes_after_the_evaluation(self) -> None:
        headings = re.findall("^## (.*)$", render(run(), report=report()), flags=re.MULTILINE)
        assert headings.index("What else was measured") == headings.index("How it was evaluated") + 1

    def test_what_made_it_and_when(self) -> None:
        made = report()["made"]
        told = section(render(run(), report=report()))
        assert f"It was made on 2025-03-04 by `{made['command']}`." in told
        assert "The 120 clips of the test part, looked at more closely." in told

    def test_genders(self) -> None:
        told = section(render(run(), report=report()), "### By gender")
        assert "| female | 64 | 76.5 % |" in told
        assert "| male | 56 | 67.9 % |" in told
        assert "- Demographic parity: 8.1 %." in told
        assert "- Equality of odds: 13.6 %." in told

    def test_one_gender(self) -> None:
        one = report()
        del one["quality"]["genders"]["male"]
        one["fairness"] = {"demographic_parity": None, "equality_of_odds": None, "reason": "all clips are female"}
        told = section(render(run(), report=one), "### By gender")
        assert "| female | 64 | 76.5 % |" in told
        assert "- All clips are female." in told
        assert "parity" not in told

    def test_robustness(self) -> None:
        told = section(render(run(), report=report()), "### In noise and otherwise distorted")
        assert "on 90 of the 120 clips" in told
        brief, every = told.split("<details>")
        assert "| clean | 72.5 % | - |" in brief
        assert "| babble, 0 dB SNR | 37.8 % | -34.7 |" in brief
        assert "| telephone band | 72.5 % | 0.0 |" in brief
        assert "20 dB" not in brief, "of each kind the worst"
        for row in ("white noise, 20 dB SNR | 70.0 % | -2.5", "white noise, 0 dB SNR | 41.0 % | -31.5"):
            assert f"| {row} |" in every

    def test_robustness_on_all_clips_under_one_condition_of_each_kind(self) -> None:
        some = report()
        some["robustness"] |= {"clips": 120}
        some["robustness"]["conditions"] = some["robustness"]["conditions"][:2]
        told = section(render(run(), report=some), "### In noise and otherwise distorted")
        assert "on all 120 clips" in told
        assert "<details>" not in told
        assert "does most harm" not in told

    def test_calibration(self) -> None:
        told = section(render(run(), report=report()), "### How far its probabilities can be believed")
        assert "Expected calibration error (ECE): 4.6 %" in told
        assert "Log loss: 0.988 nats" in told

    def test_cost(self) -> None:
        told = section(render(run(), report=report()), "### What it costs to use")
        for words in (
            "- Device: CPU (some processor), 2 threads, float32; 1.4 of 4 processors busy in the minute before",
            "of 3 s, alone, from its waveform to its probabilities: 65.1 ms (median of 20 runs; 95th percentile 1,279 ms)",
            "- Speech in a second, in batches: 83.4 s",
            "- Parameters: 315,703,944\n",
            "- Operations: 1,039 GFLOP for a second of speech (matrix products and convolutions)",
        ):
            assert words in told
        assert "merged" not in told

    def test_an_adapter_that_was_merged_when_its_cost_was_measured(self) -> None:
        card = render(run(method="lora_qkv"), adapter=True, report=report())
        assert "with the adapter merged into it" in section(card, "### What it costs to use")
        beside = report()
        beside["cost"]["parameters"]["adapter"] = 1234
        told = section(render(run(method="lora_qkv"), adapter=True, report=beside), "### What it costs to use")
        assert "merged" not in told
        assert "- Parameters: 315,703,944, 1,234 of them its adapter's" in told

    def test_leakage_in_numbers_alone(self) -> None:
        card = render(run(), report=report())
        told = section(card, "### What the test part shares with what it learned from")
        assert "- Speakers shared with train and validation: 1\n" in told
        assert "or nearly the same: 2, 1 of them sample for sample" in told
        assert "ravdess_03" not in card
        assert "ravdess/" not in card

    def test_no_leakage(self) -> None:
        none = report() | {"leakage": {"speakers": [], "duplicates": [], "reason": None}}
        told = section(render(run(), report=none), "### What the test part shares with what it learned from")
        assert "- Speakers shared with train and validation: 0\n" in told
        assert told.rstrip().endswith("nearly the same: 0")

    def test_comparison(self) -> None:
        told = section(render(run(), report=report()), "### Compared with `wav2vec2-ser`")
        assert (
            "| Metric | This model | `wav2vec2-ser` | Points | 95 % interval, by clip | 95 % interval, by speaker |"
            in told
        )
        assert "| 72.5 % | 69.3 % | +3.2 | -1.0 to +5.4 | -2.8 to +7.1 |" in told
        assert "| 19.9 % | 21.1 % | -1.2 | -3.0 to +0.6 | - |" in told
        assert "Of 120 clips, both have 71 right, this model alone 16, `wav2vec2-ser` alone 9" in told
        assert "p = 0.0501)." in told
        assert "has learned from 3 of these clips" in told
        assert "Another note" not in told

    def test_only_what_the_report_has(self) -> None:
        told = section(render(run(), report=little_report()))
        assert re.findall("^### .*$", told, flags=re.MULTILINE) == ["### How far its probabilities can be believed"]
        assert "It was made" not in told

    def test_what_was_measured_is_no_limitation(self) -> None:
        def limits(report: Results | None) -> str:
            return section(render(run(), report=report), "## Limitations")

        everything = "Noise, music, several people at once, telephones and other microphones were not tested."
        for nothing in (None, little_report()):
            assert "was not measured, nor whether it serves women and men alike." in limits(nothing)
            assert everything in limits(nothing)
        told = limits(report())
        assert "ways of speaking was not measured." in told
        assert "women and men" not in told
        assert "Music, several people at once and other microphones were not tested." in told
        one = report() | {"fairness": little_report()["fairness"]}
        one["robustness"]["conditions"] = one["robustness"]["conditions"][:2]  # clean, and in noise
        assert "nor whether it serves women and men alike" in limits(one)
        assert "Music, several people at once, telephones and other microphones were not tested." in limits(one)

    def test_the_metadata_stay_as_they_are(self) -> None:
        assert metadata(render(run(), report=report())) == metadata(render(run()))

    def test_without_a_report_nothing_of_it_is_there(self) -> None:
        card = render(run())
        for word in ("report.json", "report/", "What else", "Latency", "parity"):
            assert word not in card

    def test_its_pictures_are_shown_where_they_are(self) -> None:
        shown = re.compile(r"^!\[.*\]\((report/.*)\)$", flags=re.MULTILINE)
        card = render(run(), report=report(), files=("report/robustness.png", "report/reliability.png"))
        assert shown.findall(card) == ["report/robustness.png", "report/reliability.png"]
        assert shown.findall(render(run(), report=report(), files=("report/reliability.png",))) == [
            "report/reliability.png"
        ]
        assert shown.findall(render(run(), files=("report/robustness.png", "report/reliability.png"))) == []


class TestHonesty:
    def test_warnings_are_seen_before_any_figure_table(self) -> None:
        card = render(shared_speakers())
        warning = (
            "> [!WARNING]\n> 12 speakers are in both train and test: figures on test say nothing about a new speaker."
        )
        assert card.count(warning) == 1
        assert card.index(warning) < card.index("## Results")
        assert "12 speakers, all of whom it was trained on" in card
        assert "with other speakers of whom it learned, too" in card

    def test_shared_speakers_are_warned_of_even_where_the_run_did_not(self) -> None:
        results = shared_speakers()
        results["warnings"] = ["test has no clip of sad: figures on it say nothing about that."]
        card = render(results)
        assert card.count("> [!WARNING]") == 2
        assert "> 12 speakers are in both train and test" in card
        results["split"]["speakers_shared_by_train_and_validation"] = 1
        card = render(results)
        assert card.count("> [!WARNING]") == 3
        warning = "1 speaker is in both train and validation: figures on validation say nothing about a new speaker."
        assert f"> {warning}" in card
        results["warnings"].append(warning)
        assert render(results).count(warning) == 1

    def test_no_speaker_is_shared(self) -> None:
        card = render(run())
        assert "[!WARNING]" not in card
        assert "On 120 clips of 12 speakers who are not in its training data" in card
        assert "Speakers shared by train and test: 0." in card
        results = run()
        results["split"]["parts"]["test"]["speakers"] = 1
        assert "On 120 clips of 1 speaker who is not in its training data" in render(results)

    @pytest.mark.parametrize(
        ("split", "words"),
        [
            ({"name": "speaker"}, "whole speakers go into one part each"),
            (
                {"name": "random", "speakers_shared_by_train_and_test": 3},
                "the same voices are in train and test, and the figures say nothing about a new speaker",
            ),
            ({"name": "random"}, "no speaker came into both train and test"),
            (
                {"name": "random", "speakers_shared_by_train_and_test": None},
                "whether the same voices are in train and test cannot be told",
            ),
            ({"name": "kfold", "by": "session", "fold": 1, "folds": 5}, "fold 2 of 5, PEFT-SER's folds by session"),
            ({"name": "official"}, "the parts that the corpus itself defines"),
            ({"name": "file", "made_as": "random"}, "whoever speaks.*read from the splits.json of an earlier run"),
            ({"name": "new"}, "a \\*\\*`new` split\\*\\*\\."),
        ],
    )
    def test_the_split_is_told_in_words(self, split: Results, words: str) -> None:
        results = run()
        results["split"] |= split
        card = render(results)
        assert f"**`{split['name']}` split**" in card
        assert re.search(words, card)

    def test_what_was_kept_left_out_merged_and_set_aside(self) -> None:
        card = render(run())
        assert "The weights of epoch 9 of 10 were kept, the best by UAR on validation (73.1 %)." in card
        assert "*calm* counts as *sad*." in card
        assert "left out: 192 of *fear*." in card
        assert "set aside before the split: 1 duplicate and 2 unreadable in RAVDESS." in card
        assert "taken in float32" in card
        assert "segments of 6 s, each 1 s into the next" in card

    def test_figures_of_the_beginning_of_each_clip_are_said_to_be_that(self) -> None:
        results = run()
        sentence = (
            "The metrics were measured on the first 4.5 s of each clip; the published model receives whole clips."
        )
        assert "the published model receives whole clips" not in render(results)
        results["training"]["arguments"]["max_seconds"] = 4.5
        assert sentence in render(results)

    @pytest.mark.parametrize(
        ("kept", "words"),
        [
            ({"by": "last", "value": None, "epoch": 10.0}, "The weights of the last epoch (epoch 10 of 10) were kept"),
            ({"by": "loss on validation", "value": 0.8123, "epoch": 3.0}, "the best by loss on validation (0.812)"),
            ({"by": "eer on validation", "value": 0.2, "epoch": 3.0}, "the best by EER on validation (20.0 %)"),
        ],
    )
    def test_how_it_was_kept(self, kept: Results, words: str) -> None:
        assert words in render(run(kept=kept))

    def test_the_corpora_say_what_may_be_done_with_them(self) -> None:
        card = render(several_corpora())
        for name in ("crema_d", "ravdess", "savee", "tess"):
            assert ABOUT[name].licence in card
            assert ABOUT[name].speech in card
        assert "The speakers of CREMA-D, RAVDESS, SAVEE and TESS were asked to show an emotion" in card

    def test_a_synthetic_corpus_says_nothing_about_people(self) -> None:
        card = render(run(corpora={"synthetic": {"clips": 600, "speakers": 24, "hours": 0.2}}))
        assert "babble that a computer made" in card
        assert "**Acted emotions.**" not in card
        assert "language" not in metadata(card)

    def test_whose_the_labels_are(self) -> None:
        def limits(*corpora: str) -> str:
            return render(run(corpora={name: {"clips": 100, "speakers": 4} for name in corpora}))

        asked = "The speakers of RAVDESS were asked to show an emotion, and the labels say which one was asked for."
        perceived = "The speakers of CREMA-D by votes and IEMOCAP acted; the labels say which emotion most of those perceived who"
        both = limits("crema_d_votes", "iemocap", "ravdess")
        assert asked in both
        assert perceived in both
        assert "The model tells which one was asked for" not in both
        podcast = limits("msp_podcast")
        assert (
            "**Perceived emotions.** The labels of MSP-Podcast say which emotion most of those perceived who" in podcast
        )
        assert "Acted emotions" not in podcast
        assert "babble" not in podcast
        assert "how emotions are acted in speech" not in podcast
        assert "how emotions are acted in speech" in limits("ravdess", "iemocap")
        assert "how emotions are acted in speech" not in limits("ravdess", "mine")
        assert "how emotions are acted in speech" not in limits("ravdess", "synthetic")

    def test_what_was_said_in_the_clips(self) -> None:
        def limits(*corpora: str) -> str:
            return render(run(corpora={name: {"clips": 100, "speakers": 4} for name in corpora}))

        fixed = "**English, fixed sentences.** It was fine-tuned on nothing else. Other languages, free speech and conversations"
        assert fixed in limits("ravdess", "tess")
        assert "heard nothing else" not in limits("ravdess")
        read = limits("ravdess", "savee")
        assert "**English, read sentences.** It was fine-tuned on nothing else." in read
        assert "In SAVEE the words are not the same in every emotion: part of what it learned may be words." in read
        free = limits("msp_podcast")
        assert "**English.** It was fine-tuned on nothing else. Other languages were not tested." in free
        assert "Noise, music" not in free
        assert "Recordings other than those of its corpora were not tested" in free
        assert "Noise, music, several people at once" in read
        unknown = limits("ravdess", "mine")
        assert "English" not in unknown.split("## Limitations")[1].split("## What")[0]
        assert "Recordings other than those of its corpora were not tested" in unknown
        assert "Noise, music" not in unknown

    def test_clips_of_unknown_speakers_are_not_counted_as_those_of_known_ones(self) -> None:
        results = run()
        results["split"]["parts"]["test"] |= {"speakers": 4, "clips_without_speaker": 20}
        results["split"]["parts"]["train"] |= {"clips_without_speaker": 1}
        results["corpora"]["ravdess"]["clips_without_speaker"] = 21
        card = render(results)
        assert "On 120 clips (100 of 4 known speakers, 20 of unknown ones), it reaches" in card
        assert "**9 known voices.** It learned from 9 known speakers (and 1 clip of unknown ones)" in card
        assert "was tested on 4 known speakers (and 20 clips of unknown ones)." in card
        assert "| train | 360 | 9 | 1 |" in card
        assert "| Part | Clips | Known speakers | Clips of unknown speakers |" in card
        assert "| 600 | 24 known |" in card
        results["split"]["speakers_shared_by_train_and_test"] = 3
        assert "(100 of 4 known speakers, 3 of whom it was trained on, 20 of unknown ones)" in render(results)
        results["split"]["parts"]["test"]["speakers"] = 0
        results["split"]["speakers_shared_by_train_and_test"] = 0
        card = render(results)
        assert "On 120 clips of unknown speakers, it reaches" in card
        assert "was tested on 120 clips" not in card

    @pytest.mark.parametrize(
        "entry", [{"read_as": "dataset"}, {"read_as": "manifest"}, {"hub_dataset": "someone/synthetic"}]
    )
    @pytest.mark.parametrize("name", ["synthetic", "ravdess"])
    def test_a_corpus_is_known_only_where_its_own_reader_read_it(self, name: str, entry: Results) -> None:
        corpora = {name: {"clips": 600, "speakers": 24, **entry}}
        card = render(run(corpora=corpora, set_aside={name: {"unreadable": 2}}))
        assert "license" not in metadata(card)
        assert "language" not in metadata(card)
        for told in (
            ABOUT[name].licence,
            ABOUT[name].speech,
            ABOUT[name].name,
            "babble",
            "Acted",
            "livingstone",
            "RAVDESS",
        ):
            assert told not in card
        assert f"2 unreadable in {name}." in card
        own = render(run(corpora={name: {"clips": 600, "speakers": 24, "read_as": name}}))
        assert ABOUT[name].licence in own

    def test_what_the_split_leaves_out(self) -> None:
        card = render(run(left_out_by_split={"ravdess": 1200}))
        assert "Clips that are in no part of the split: 1,200 of RAVDESS." in card
        assert "in no part of the split" not in render(run())

    def test_a_base_model_from_a_folder(self) -> None:
        card = render(local_base())
        assert "base_model" not in metadata(card)
        assert "a local folder called `hubert-mini`; where that comes from is not recorded here" in card
        assert "huggingface.co/hubert-mini" not in card
        told = render(local_base(), base_model="someone/hubert-mini")
        assert metadata(told)["base_model"] == "someone/hubert-mini"
        assert "local folder" not in told
        results = local_base() | {"method": "lora_qkv"}
        merged = render(results, merged=True, model_id="someone/model")
        assert "its base model, `hubert-mini`,\nwhich was a local folder: whoever has it passes `base=`" in merged
        assert "not on the Hub" not in merged
        tiny = render(results | {"base_model": "hubert-tiny-random"}, merged=True, model_id="someone/model")
        assert 'hf_ser.load("someone/model", subfolder="adapter")\n' in tiny
        assert "local folder" not in tiny

    @pytest.mark.parametrize(
        ("results", "words"),
        [
            ({"padding_changes_answers": False}, "hold at every `batch_size` of the pipeline."),
            ({"padding_changes_answers": True}, "computes the group norm of the first layer over the padding, too"),
            (
                {"padding_changes_answers": True, "model_type": "data2vec-audio"},
                "computes the positional convolutions over the padding, too",
            ),
            ({"padding_changes_answers": False, "model_type": "whisper"}, "Leave the pipeline's `batch_size` at 1"),
        ],
    )
    def test_what_holds_at_which_batch_size(self, results: Results, words: str) -> None:
        card = " ".join(render(run(**results)).split())
        assert words in card
        assert card.count("`batch_size` ") + card.count("`batch_size`.") + card.count("`batch_size=1`") <= 2

    def test_older_results_do_not_say_what_holds_at_which_batch_size(self) -> None:
        assert "batch_size" not in prose(render(run()))

    def test_no_path_from_the_root(self) -> None:
        results = run(
            base_model="/home/someone/models/hubert",
            command="scripts/finetune.py --corpora ravdess=/data/RAVDESS --output_dir ~/runs/a --config scripts/a.yaml "
            "--model '/home/some one/hubert'",
        )
        del results["base_model_on_hub"]
        results["training"]["arguments"] |= {"splits": "/home/someone/splits.json"}
        card = render(results)
        assert "/home" not in card
        assert "--corpora ravdess=RAVDESS --output_dir a --config scripts/a.yaml" in card


class TestMetadata:
    def test_a_full_run(self) -> None:
        found = metadata(render(run(), model_id="someone/hubert-large-ser"))
        found.pop("model-index")
        assert found == {
            "language": ["en"],
            "license": "cc-by-nc-sa-4.0",
            "library_name": "transformers",
            "pipeline_tag": "audio-classification",
            "base_model": "facebook/hubert-large-ll60k",
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

    def test_an_adapter(self) -> None:
        found = metadata(render(run(method="lora_qkv"), adapter=True))
        assert (found["library_name"], found["base_model_relation"]) == ("peft", "adapter")
        assert {"lora", "lora_qkv"} <= set(found["tags"])

    @pytest.mark.parametrize("method", ["lora_qkv+lora_ff", "lora_qkv"])
    def test_loras_are_merged_alone_and_combined(self, method: str) -> None:
        assert not methods_in_words.unmerged(run(method=method))

    @pytest.mark.parametrize(
        "method", [*methods_in_words.UNMERGED, "adapter+prompt", "prompt+ia3", "ia3+lora_ff", "lora_ff+ia3"]
    )
    def test_an_adapter_that_peft_does_not_know(self, method: str, tmp_path: Path) -> None:
        write_card(run(method=method), tmp_path, model_id="someone/model")
        card = (tmp_path / "README.md").read_text(encoding="utf-8")
        assert metadata(card)["library_name"] == "peft"
        assert "This is an adapter with its classification head" in card
        assert ("LoRA" in card) == ("lora" in method)
        assert "With transformers and peft alone" not in card
        assert 'hf_ser.load("someone/model")' in card

    def test_what_the_user_gives_wins(self) -> None:
        found = metadata(render(run(), license="mit", language="fr", tags=["mine", "speech"]))
        assert (found["license"], found["language"]) == ("mit", "fr")
        assert found["tags"].count("speech") == 1
        assert "mine" in found["tags"]
        assert "were given no licence of their own" not in render(run(), license="mit")

    @pytest.mark.parametrize(
        ("corpora", "expected"),
        [
            (["ravdess"], {"license": "cc-by-nc-sa-4.0"}),
            (["tess"], {"license": "cc-by-nc-nd-4.0"}),
            (["ravdess", "crema_d"], {"license": "other", "license_name": CORPORA_LICENCES}),
            (
                ["savee"],
                {"license": "other", "license_name": CORPORA_LICENCES, "license_link": ABOUT["savee"].homepage},
            ),
            (["mine"], {}),
            (["ravdess", "mine"], {}),
            ([], {}),
        ],
    )
    def test_the_licence_follows_from_the_corpora(self, corpora: list[str], expected: dict[str, str]) -> None:
        found = metadata(render(run(corpora={name: {"clips": 1} for name in corpora})))
        assert {key: value for key, value in found.items() if key.startswith("license")} == expected

    def test_the_metrics_are_those_that_are_there(self) -> None:
        assert metadata(render(least()))["metrics"] == ["accuracy", "recall"]
        assert metadata(render(no_figures()))["metrics"] == ["accuracy", "f1", "recall"]

    def test_data_sets_on_the_hub(self) -> None:
        card = render(run(corpora={"emodb": {"clips": 535, "hub_dataset": "someone/emodb"}}))
        assert metadata(card)["datasets"] == ["someone/emodb"]
        assert metadata(card)["model-index"][0]["results"][0]["dataset"]["type"] == "someone/emodb"
        assert "[someone/emodb](https://huggingface.co/datasets/someone/emodb)" in card

    def test_results_that_are_none(self) -> None:
        with pytest.raises(ValueError, match=r"they lack emotions, metrics, split"):
            SERModelCardData.from_results({"method": "full"})
        with pytest.raises(ValueError, match=r"they lack metrics.test, split.parts"):
            SERModelCardData.from_results({**least(), "metrics": {"validation": {}}, "split": {"name": "random"}})


class TestTraining:
    def test_hyperparameters(self) -> None:
        card = render(run())
        chosen, others = re.findall(r"(?:^- `.*\n)+", card, flags=re.MULTILINE)
        assert "- `learning_rate`: 3e-05\n" in chosen
        assert "- `betas`: 0.9, 0.98\n" in chosen
        assert others == "- `weight_decay`: 0\n- `optim`: adamw_torch\n- `seed`: 42\n"
        for told in ("report_to", "use_cpu", "hub_token"):
            assert told not in card

    @pytest.mark.parametrize(
        ("training", "told"),
        [
            ({"processes": 2, "machines": 1, "parallelism": "FSDP 2"}, ", 2 processes (FSDP 2)\n"),
            ({"processes": 16, "machines": 2, "parallelism": "DDP"}, ", 16 processes on 2 machines (DDP)\n"),
            ({"processes": 1, "machines": 1, "parallelism": None}, "\n"),
        ],
    )
    def test_who_shared_it(self, training: dict[str, Any], told: str) -> None:
        results = run()
        results["training"] |= training
        assert f"- Hardware: NVIDIA H100 80GB HBM3{told}" in render(results)

    def test_what_it_took(self) -> None:
        card = render(run())
        assert "- Hardware: NVIDIA H100 80GB HBM3, 2 processes\n" in card
        assert "- Time: 1 h 2 min for 10 epochs, 1,000 steps" in card
        assert "- Steps: 16 clips in a step, in bfloat16" in card
        assert "- Seeds: 42 (training) and 42 (split)" in card
        assert "- Peak memory: 4.0 GB in the process and 12.3 GB on the GPU" in card
        assert "- Energy, measured: 0.457 kWh" in card
        assert "Trained: 315,702,920 of 315,703,944 parameters (over 99.9 %)" in card
        assert "Versions: Python 3.11.7, hf_ser 0.1.0, torch 2.11.0." in card

    def test_what_a_resumed_run_took(self) -> None:
        results = run()
        results["training"]["resumed_from"] = "checkpoint-300"
        card = render(results)
        assert "- Time: 1 h 2 min since it went on from checkpoint-300; 10 epochs, 1,000 steps in all" in card
        assert (
            "- Peak memory, since it went on from checkpoint-300: 4.0 GB in the process and 12.3 GB on the GPU" in card
        )
        assert "- Energy, measured since it went on from checkpoint-300: 0.457 kWh" in card

    def test_the_epochs(self) -> None:
        assert "| 1 | 3e-05 | 1.1000 | 1.0000 | 50.0 % |\n| 2 | 1e-05 | 0.9000 |  | 60.0 % |" in render(run())

    def test_every_method_has_words(self) -> None:
        assert methods_in_words.METHODS.keys() >= set(METHODS)
        assert "by the method `another`" in render(run(method="another"))
        assert "with trained embeddings before every layer; the head is trained as a whole" in render(
            run(method="prompt")
        )
        frozen = run()
        frozen["training"]["arguments"]["freeze_feature_encoder"] = True
        assert "but those of the convolutional feature encoder" in render(frozen)
        aimed = run(method="lora_qkv")
        aimed["training"]["arguments"]["lora_target_modules"] = ["intermediate_dense", "output_dense"]
        card = render(aimed)
        assert "with LoRA on `intermediate_dense` and `output_dense`; the head is trained as a whole" in card
        assert "(LoRA on `intermediate_dense` and `output_dense`)" in card
        assert "query, key" not in card
        aimed["method"] = "lora_classifier"
        assert "with LoRA on `intermediate_dense` and `output_dense`; all else stays as it was loaded" in render(aimed)

    def test_combined_methods_have_the_words_of_each(self) -> None:
        card = render(run(method="adapter+prompt+lora_ff"))
        assert "(adapters, embedding prompts and LoRA on the feed-forward)" in card
        assert (
            "with a bottleneck adapter after the feed-forward of every layer, with trained embeddings before every layer and "
            "with LoRA on both matrices of every layer's feed-forward; the head is trained as a whole"
        ) in card
        assert {"adapter", "prompt", "lora_ff"} <= set(metadata(card)["tags"])
        assert not any("+" in tag for tag in metadata(card)["tags"])
        card = render(run(method="lora_qkv+lora_classifier"))
        assert "value projections, and with LoRA on the last layer; the layers of the head under it stay as" in card

    def test_the_batch_norm_of_a_head_trains_with_its_lora(self) -> None:
        card = render(run(method="lora_classifier", head="batchnorm"))
        assert (
            "with LoRA on the last layer, and by training the batch norm before it; the encoder stays as it was" in card
        )
        assert "alone" not in card.split("fine-tuned on")[1].split("\n")[0]

    def test_a_weighted_sum_of_layers_is_told(self) -> None:
        for method in METHODS:
            told = "; the weights of the sum over the encoder's layers that the head is given are trained, too."
            assert (told in render(run(method=method, weighted_layer_sum=True))) is (method != "lora_classifier")
            assert told not in render(run(method=method, weighted_layer_sum=False))
        old = run()
        old["training"]["arguments"]["weighted_layer_sum"] = True
        assert "the weights of the sum over the encoder's layers" in render(old)

    def test_who_is_cited(self) -> None:
        def keys(results: Results) -> list[str]:
            return re.findall(r"^@\w+\{(\w+),", render(results), flags=re.MULTILINE)

        assert keys(run()) == ["livingstone2018ravdess", "hsu2021hubert", "hubertser"]
        assert keys(run(method="lora_qkv", model_type="wavlm"))[1:] == ["chen2022wavlm", "hubertser", "hu2021lora"]
        assert keys(fold())[2:] == ["hubertser", "feng2023peftser", "hu2021lora"]
        assert keys(run(method="prompt"))[2:] == ["feng2023peftser"]
        assert keys(run(method="lora_ff"))[2:] == ["feng2023peftser", "hu2021lora"]


class TestTables:
    def test_pipes_and_line_breaks_do_not_break_them(self) -> None:
        assert table(["a|b", "c"], [["x\ny", 1000]]) == "| a\\|b | c |\n| --- | ---: |\n| x y | 1,000 |"

    def test_an_empty_column_is_left_out(self) -> None:
        assert table(["a", "b", "c"], [["x", None, 1], ["y", "", 2]]).splitlines()[0] == "| a | c |"

    def test_none_without_rows(self) -> None:
        assert table(["a"], []) == ""


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.5, "0.5 s"), (59.4, "59.4 s"), (59.9, "1 min 0 s"), (626.1, "10 min 26 s"), (7260, "2 h 1 min")]
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


class TestWriting:
    def test_what_is_in_the_folder_decides(self, tmp_path: Path) -> None:
        results = run(method="lora_qkv")
        for name in ("config.json", "confusion_matrix.png", "splits.json"):
            (tmp_path / name).touch()
        (tmp_path / "adapter").mkdir()
        write_card(results, tmp_path)
        card = (tmp_path / "README.md").read_text(encoding="utf-8")
        assert "](confusion_matrix.png)" in card
        assert "training_curves.png" not in card
        assert "splits.json" in card
        assert "set_aside.csv" not in card
        assert f'hf_ser.load("{tmp_path.name}/adapter")' in card
        (tmp_path / "adapter_config.json").touch()
        (tmp_path / "adapter").rmdir()
        write_card(results, tmp_path, model_id="someone/model")
        card = (tmp_path / "README.md").read_text(encoding="utf-8")
        assert 'hf_ser.load("someone/model")' in card
        assert "library_name: peft" in card

    def test_of_results_alone(self, tmp_path: Path) -> None:
        results = run(method="lora_qkv")
        write_card(results, tmp_path, model_id="someone/model")
        assert 'hf_ser.load("someone/model", subfolder="adapter")' in (tmp_path / "README.md").read_text()
        results["training"]["arguments"]["save_format"] = "adapter"
        write_card(results, tmp_path)
        assert "library_name: peft" in (tmp_path / "README.md").read_text()

    def test_results_that_went_through_json(self, tmp_path: Path) -> None:
        results = json.loads(json.dumps(several_corpora()))
        write_card(results, tmp_path)
        assert body(render(several_corpora(), folder=tmp_path.name, files=(), merged=True)) == body(
            (tmp_path / "README.md").read_text(encoding="utf-8")
        )

    def test_the_report_beside_it(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / "report.json").write_text(json.dumps(report()))
        (tmp_path / "report").mkdir()
        (tmp_path / "report" / "robustness.png").touch()
        write_card(run(), tmp_path)
        card = (tmp_path / "README.md").read_text(encoding="utf-8")
        assert card == render(run(), report=report(), files=("report/robustness.png",), folder=tmp_path.name)
        assert "What else was measured" in card
        assert "](report/robustness.png)" in card
        assert "](report/reliability.png)" not in card
        assert not caplog.records

    def test_the_report_of_another_run(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        write_card(run(), tmp_path)
        before = (tmp_path / "README.md").read_bytes()
        other = report()
        other["quality"]["overall"]["uar"] = 0.75
        (tmp_path / "report.json").write_text(json.dumps(other))
        write_card(run(), tmp_path)
        assert (tmp_path / "README.md").read_bytes() == before
        assert "report.json is left out: its UAR is 75.00 %, and the run's 72.50 %" in caplog.text

    def test_the_template_is_found(self) -> None:
        assert "## How to use it" in template()


def run_blocks(card: str, count: int) -> None:
    blocks = code_blocks(card)
    assert len(blocks) == count
    for block in blocks:
        exec(compile(block, "card", "exec"), {"__name__": "__main__"})


class TestItsCode:
    """The code of a card runs as it is printed, beside the model's folder and any `speech.wav`."""

    @pytest.fixture(autouse=True)
    def working_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        samples = 0.1 * np.random.default_rng(0).standard_normal((3 * 44_100, 2))
        soundfile.write("speech.wav", samples, 44_100)  # another rate, two channels

    @pytest.mark.parametrize("adapter_alone", [False, True])
    def test_of_a_lora(self, adapter_alone: bool, tiny_hubert: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = Path("my model")
        loaded = load_model(str(tiny_hubert), tuple(EMOTIONS))
        tuned = tune(loaded, Tuning(method="lora_qkv"))
        adapter = folder if adapter_alone else folder / "adapter"
        save_adapter(tuned.model, tuned.new, adapter, base=str(tiny_hubert))
        tuned.model.config.save_pretrained(adapter)
        loaded.feature_extractor.save_pretrained(adapter)
        if not adapter_alone:
            tuned.model.merge_and_unload().save_pretrained(folder)
            loaded.feature_extractor.save_pretrained(folder)
        # The base model is not on the Hub, so that transformers and peft alone could not find it.
        write_card(run(method="lora_qkv") | {"base_model": "tiny", "base_model_on_hub": False}, folder)
        run_blocks((folder / "README.md").read_text(encoding="utf-8"), 2 if adapter_alone else 4)
        printed = capsys.readouterr().out
        for emotion in EMOTIONS:
            assert re.search(rf"^{emotion}: 0\.\d\d$", printed, flags=re.MULTILINE)
        assert re.search(rf"^0(\.0)? [\d.]+ ({'|'.join(EMOTIONS)}|silence)$", printed, flags=re.MULTILINE)
