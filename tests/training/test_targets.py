"""Emotions, distributions and dimensions: trained together or alone, by every method, and opened anywhere."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from datasets import Audio, ClassLabel, Dataset
from formulas import concordance
from other_processes import python
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from tiny_models import save_model

import hf_ser
from hf_ser import SERConfig, SERTrainer, load_corpora, train_test_split
from hf_ser.audio import read_mono
from hf_ser.corpora import CorpusError
from hf_ser.results import RunResults
from hf_ser.training import finetune, parse_arguments

ALL = ["emotion", "emotion_distribution", "arousal", "valence", "dominance"]
DIMENSIONS = ["arousal", "valence", "dominance"]
#: A plain pipeline's outputs for three clips, of the models in several folders, one by one and in batches.
PLAIN = """
import json, sys
import soundfile
from transformers import pipeline

found = {}
for folder in sys.argv[1:]:
    clips = [{"array": samples, "sampling_rate": rate} for samples, rate in (soundfile.read(f"{folder}/{i}.wav") for i in range(3))]
    whisper = "whisper" in folder  # it brings code of its own, and its extractor does not pad
    classifier = pipeline("audio-classification", model=folder, top_k=None, trust_remote_code=whisper)
    found[folder] = [[{a["label"]: a["score"] for a in answer} for answer in classifier(clips, batch_size=size)]
                     for size in ((1,) if whisper else (1, 8))]
print("ANSWERS", json.dumps([found, "hf_ser" in sys.modules]))
"""


@pytest.fixture(scope="module")
def parts(speech: Path) -> Any:
    clips = load_corpora({"synthetic": speech}, ["angry", "sad", "happy"], targets=ALL)
    return train_test_split(clips, seed=1)


def train(parts: Any, folder: Path, model: Path, method: str | None, targets: list[str], **options: Any) -> SERTrainer:
    options = {"num_train_epochs": 1, "learning_rate": 1e-3, "disable_tqdm": True, "bf16": False, **options}
    args = SERConfig(output_dir=str(folder), targets=targets, **options)
    trainer = SERTrainer(model, args, parts["train"], parts["validation"], peft_config=method)
    trainer.train()
    trainer.evaluate(parts["test"])
    trainer.save_model()
    trainer.create_model_card()
    return trainer


def opened_values(folder: Path, clips: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and dimensions of the model in a folder."""
    found = list(
        hf_ser.pipeline(folder).predict([{"array": read_mono(row["audio"]), "sampling_rate": 16_000} for row in clips])
    )
    return tuple(
        np.array([list(getattr(one, name).values()) for one in found]) for name in ("probabilities", "dimensions")
    )  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("method", "options", "targets"),
    [
        ("probe", {}, DIMENSIONS),
        ("frozen", {}, ALL),
        ("lora_qkv", {"head": "conv"}, ALL),
        ("lora_classifier", {"head": "stock"}, DIMENSIONS),
        ("prompt", {"head": "stock"}, ALL),
        (None, {"head": "batchnorm"}, DIMENSIONS),
    ],
    ids=str,
)
def test_every_method_gives_what_its_saved_model_gives(
    parts: Any, tiny_hubert: Path, tmp_path: Path, method: str | None, options: dict[str, Any], targets: list[str]
) -> None:
    trainer = train(parts, tmp_path, tiny_hubert, method, targets, **options)
    clips = parts["test"]
    probabilities, values = opened_values(tmp_path, clips)
    truth = np.array([clips[name] for name in DIMENSIONS]).T
    found = trainer.metrics["test"]["dimensions"]
    assert list(found) == DIMENSIONS
    for k, name in enumerate(DIMENSIONS):
        assert found[name]["ccc"] == pytest.approx(concordance(values[:, k], truth[:, k]), abs=1e-3)
        assert found[name]["mae"] == pytest.approx(np.abs(values[:, k] - truth[:, k]).mean(), abs=1e-4)
    assert trainer.metrics["test"]["ccc"] == pytest.approx(np.mean([of["ccc"] for of in found.values()]))
    assert trainer.probe is not None
    assert "ccc" in trainer.probe["test"]
    results = RunResults.read(tmp_path)
    assert results.dimensions == tuple(DIMENSIONS)
    card = (tmp_path / "README.md").read_text()
    assert "CCC of valence" in card
    if targets == DIMENSIONS:
        assert not probabilities.size
        assert "uar" not in trainer.metrics["test"]
        assert not (tmp_path / "confusion_matrix.png").exists()
        return
    right = [
        row.argmax() == label for row, label in zip(probabilities, clips["label"], strict=True) if label is not None
    ]
    assert trainer.metrics["test"]["accuracy"] == pytest.approx(np.mean(right))
    rated = [i for i, shares in enumerate(clips["emotion_distribution"]) if shares is not None]
    shares, probabilities = np.array([clips["emotion_distribution"][i] for i in rated]), probabilities[rated]
    votes = trainer.metrics["test"]["distribution"]
    assert votes["kl"] == pytest.approx(entropy(shares, probabilities, axis=1).mean(), abs=1e-3)
    assert votes["js"] == pytest.approx((jensenshannon(shares, probabilities, axis=1) ** 2).mean(), abs=1e-3)


def test_a_plain_pipeline_gives_the_emotions_or_the_values(
    parts: Any, tiny_hubert: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    """All models in one new process, which takes seconds to start."""
    folders = []
    for name, model in (("hubert", tiny_hubert), ("whisper", tiny_whisper)):
        for emotions, dimension in ((("angry", "happy", "sad"), "arousal"), ((), "valence")):
            folders.append(save_model(model, tmp_path / f"{name}-{dimension}", emotions, (dimension,), gain=10))
            for i, row in enumerate(parts["test"].select(range(3))):
                soundfile.write(folders[-1] / f"{i}.wav", read_mono(row["audio"]), 16_000, subtype="FLOAT")
    done = python("-c", PLAIN, *folders)
    assert done.returncode == 0, done.stderr[-2000:]
    found, imported = json.loads(done.stdout.rpartition("ANSWERS")[2])
    assert not imported
    for folder in folders:
        own = list(hf_ser.pipeline(folder).predict([str(folder / f"{i}.wav") for i in range(3)]))
        for answers in found[str(folder)]:
            for answer, prediction in zip(answers, own, strict=True):
                # Whisper's features are large, and rounding with them.
                assert answer == pytest.approx(prediction.probabilities or prediction.dimensions, abs=1e-3)


def test_training_goes_on_from_a_model_with_dimensions(parts: Any, tiny_hubert: Path, tmp_path: Path) -> None:
    """Its head is kept, the layer beside the classifier included."""
    train(parts, tmp_path / "first", tiny_hubert, "full", ["emotion", "arousal"], head="stock")
    expected = opened_values(tmp_path / "first", parts["test"])
    args = SERConfig(output_dir=str(tmp_path / "second"), targets=["emotion", "arousal"], head="stock", bf16=False)
    trainer = SERTrainer(tmp_path / "first", args, parts["train"], parts["validation"])
    trainer.evaluate(parts["test"])
    trainer.save_model()
    for found, before in zip(opened_values(tmp_path / "second", parts["test"]), expected, strict=True):
        np.testing.assert_allclose(found, before, atol=1e-5)


def test_clips_lack_some_labels(parts: Any, tiny_hubert: Path, tmp_path: Path) -> None:
    """Corpora with and without dimensions train together."""
    rows = parts["train"].filter(lambda row: row["label"] is not None).select(range(24))
    sound = [{"bytes": row["audio"]["bytes"], "path": None} if row["audio"]["bytes"] else row["audio"] for row in rows]
    columns = {
        "audio": sound,
        "label": [row["label"] if i % 2 else None for i, row in enumerate(rows)],
        "arousal": [row["arousal"] if i % 3 or i % 2 == 0 else None for i, row in enumerate(rows)],
        "speaker": rows["speaker"][:],
    }
    clips = Dataset.from_dict(columns).cast_column("audio", Audio(decode=False)).cast_column("audio", Audio())
    clips = clips.cast_column("label", ClassLabel(names=["angry", "happy", "sad"]))
    args = SERConfig(
        output_dir=str(tmp_path), targets=["emotion", "arousal"], num_train_epochs=1, bf16=False, disable_tqdm=True
    )
    trainer = SERTrainer(tiny_hubert, args, clips, peft_config="probe")
    trainer.train()
    found = trainer.evaluate(clips)
    assert found["eval_dimensions"]["arousal"]["clips"] == 20
    assert sum(map(sum, found["eval_confusion_matrix"])) == 12


def test_a_target_that_no_clip_has_is_refused(parts: Any, tiny_hubert: Path, tmp_path: Path) -> None:
    without = parts["train"].remove_columns(["arousal"])
    args = SERConfig(output_dir=str(tmp_path), targets=["arousal"])
    with pytest.raises(CorpusError, match="no clip has arousal"):
        SERTrainer(tiny_hubert, args, without)


def test_constant_labels_give_no_figure(parts: Any, tiny_hubert: Path, tmp_path: Path) -> None:
    """CCC is undefined there: none in results, never NaN."""
    trainer = train(parts, tmp_path, tiny_hubert, "probe", ["emotion", "valence"])
    same = parts["test"].filter(lambda row: row["valence"] == parts["test"]["valence"][0])
    found = trainer.evaluate(same)["eval_dimensions"]["valence"]
    assert found["ccc"] is None
    assert found["mae"] is not None
    trainer.create_model_card()
    assert "NaN" not in (tmp_path / "results.json").read_text()


@pytest.mark.parametrize(
    ("targets", "balance"),
    [
        (["emotion", "arousal"], "logits"),
        (["emotion_distribution"], "none"),
        (["emotion", "emotion_distribution"], "none"),
        (["valence"], "none"),
    ],
)
def test_shares_of_votes_are_predicted_as_they_are(targets: list[str], balance: str) -> None:
    assert SERConfig(output_dir="run", targets=targets).balance == balance


def test_from_the_command_line(run_words: Callable[..., list[str]], speech: Path, tmp_path: Path) -> None:
    words = run_words(tmp_path / "run", "--method", "probe", "--targets", "arousal", "dominance=0.5")
    results = finetune(parse_arguments(words))
    assert results.targets == {"arousal": 1.0, "dominance": 0.5}
    assert results.emotions == []
    assert results.ranges == {"synthetic": {"arousal": [1, 7], "valence": [1, 7], "dominance": [1, 7]}}
    assert 0 < results.agreement["synthetic"]["arousal"]["alpha"] <= 1  # type: ignore[index]
    timeline = hf_ser.pipeline(tmp_path / "run").timeline(next(speech.rglob("*.wav")))
    assert timeline.dimensions == ("arousal", "dominance")
    assert [segment.emotion for segment in timeline] == ["speech"]
