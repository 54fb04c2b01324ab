"""SERTrainer takes what `datasets.load_dataset` gives: parts with labels and names of their own."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Value, concatenate_datasets, load_from_disk
from peft import LoraConfig
from small_files import contents

import hf_ser
from hf_ser.audio import Augmentation, read_mono
from hf_ser.clips import as_clips
from hf_ser.corpora import CorpusError
from hf_ser.splits import SplitError
from hf_ser.training import SERConfig, SERTrainer


@pytest.fixture
def train(tiny_hubert: Path, tmp_path: Path) -> Callable[..., SERTrainer]:
    def train(
        clips: Dataset,
        validation: Dataset | None = None,
        method: Any = "probe",
        augmentation: Augmentation | None = None,
        resume: str | bool = False,
        **words: Any,
    ) -> SERTrainer:
        args = SERConfig(str(tmp_path / "own"), num_train_epochs=1, bf16=False, disable_tqdm=True, **words)
        trainer = SERTrainer(tiny_hubert, args, clips, validation, method, augmentation=augmentation)
        trainer.train(resume)
        return trainer

    return train


@pytest.fixture
def own(small_parts: DatasetDict) -> Dataset:
    clips = concatenate_datasets([small_parts["train"], small_parts["test"]])
    columns = {"audio": clips["audio"][:], "speaker": clips["speaker"][:], "label": clips["label"][:]}
    made = Dataset.from_dict(columns, split="train").cast_column("audio", Audio(decode=False))
    return made.cast_column("label", clips.features["label"])


@pytest.mark.parametrize("names", [["Angry", "Happy", "Sad"], ["anger", "happiness", "sadness"], ["ang", "hap", "sad"]])
def test_labels_are_known_by_their_other_names(own: Dataset, names: list[str]) -> None:
    """Trap: clips of emotions in another spelling were left out without a word."""
    clips = as_clips(own.cast_column("label", ClassLabel(names=names)))
    assert clips.features["label"].names == ["angry", "happy", "sad"]
    assert clips["label"][:] == own["label"][:]
    with pytest.raises(CorpusError, match="label: found anger, angry and sad, of which several name the same"):
        as_clips(own.cast_column("label", ClassLabel(names=["anger", "angry", "sad"])))


def test_a_row_without_audio_is_excluded_and_no_other(own: Dataset) -> None:
    """Trap: it ended in a TypeError after all tables were read."""
    columns = {name: 3 * own[name][:] for name in ("audio", "speaker", "label")}  # copies are no reason to stop
    columns["audio"][:2] = [None, {"bytes": None, "path": None}]
    rows = Dataset.from_dict(columns).cast_column("audio", Audio(decode=False))
    clips = as_clips(rows.cast_column("label", own.features["label"]))
    assert len(clips) == len(as_clips(own))
    unusable = [one for one in clips.info.excluded if one.reason != "duplicate"]
    assert [(one.reason, one.detail) for one in unusable] == [("unreadable", "there is neither a path nor content")] * 2


def test_audio_may_be_behind_columns_of_another_table(own: Dataset, tmp_path: Path) -> None:
    """Trap: datasets forgot how many rows a table on disk has whose columns are removed."""
    own.select_columns(["audio"]).save_to_disk(tmp_path)
    clips = as_clips(concatenate_datasets([own.select_columns(["speaker", "label"]), load_from_disk(tmp_path)], axis=1))
    assert clips["samples_hash"][:] == as_clips(own)["samples_hash"][:]


def test_labels_of_other_parts_are_numbered_as_those_that_train(own: Dataset, train: Callable[..., SERTrainer]) -> None:
    """Trap: the numbers of another dataset's labels were taken for the model's."""
    parts = own.train_test_split(0.4, seed=0)
    trainer = train(parts["train"])
    expected = trainer.evaluate(parts["test"])["eval_confusion_matrix"]
    labels = parts["test"]["label"][:]

    def relabelled(labels: list[Any], feature: Any, rows: list[int]) -> Dataset:
        return (
            parts["test"].remove_columns("label").add_column("label", labels).cast_column("label", feature).select(rows)
        )

    turned = relabelled(
        [2 - label for label in labels], ClassLabel(names=["sad", "happy", "angry"]), [*range(len(labels))]
    )
    assert trainer.evaluate(turned, metric_key_prefix="turned")["turned_confusion_matrix"] == expected
    words = [["angry", "", "sad"][label] for label in labels]
    without = relabelled(words, Value("string"), [i for i, word in enumerate(words) if word])
    matrix = trainer.evaluate(without, metric_key_prefix="without")["without_confusion_matrix"]
    assert matrix == [expected[0], [0, 0, 0], expected[2]]
    sad = without.filter(lambda word: word == "sad", input_columns="label")
    matrix = trainer.evaluate(sad, metric_key_prefix="sad")["sad_confusion_matrix"]
    assert matrix == [[0, 0, 0], [0, 0, 0], expected[2]]
    with pytest.raises(CorpusError, match="emotions: found clips of sad alone, expected two emotions at least"):
        train(sad)
    with pytest.raises(
        CorpusError, match="label: found clips of calm, expected emotions of the model alone: angry, happy and"
    ):
        trainer.evaluate(relabelled(["calm", "sad"] * (len(labels) // 2), Value("string"), [0, 1]))


def test_parts_are_told_apart_by_their_clips(own: Dataset, train: Callable[..., SERTrainer], tmp_path: Path) -> None:
    """Trap: `train_test_split` calls all parts train, so that clips of several parts had the same names."""
    halves = own.train_test_split(0.5, seed=0)
    quarters = halves["test"].train_test_split(0.5, seed=0)
    trainer = train(halves["train"], quarters["train"])
    of_test = trainer.evaluate(quarters["test"])
    trainer.evaluate(quarters["train"])
    of_train = trainer.evaluate(halves["train"])  # to look at, and no part of the results
    trainer.save_model()
    results = trainer.create_model_card()
    assert results.metrics.keys() == {"validation", "test"}
    assert results.test["confusion_matrix"] == of_test["eval_confusion_matrix"] != of_train["eval_confusion_matrix"]
    assert results.command is None
    assert "```bash" not in (tmp_path / "own/README.md").read_text(encoding="utf-8")


def test_an_earlier_run_in_the_folder_is_neither_mixed_with_this_one_nor_lost(
    own: Dataset, train: Callable[..., SERTrainer], tmp_path: Path
) -> None:
    """Trap: an earlier run's adapter, card and checkpoints were taken for this one's."""
    parts = own.train_test_split(0.4, seed=0)
    trainer = train(parts["train"], method="lora_qkv", save_strategy="no")
    trainer.evaluate(parts["test"])
    trainer.save_model()
    trainer.create_model_card()
    with pytest.raises(FileExistsError, match="holds a finished run. Choose another folder, or overwrite_output_dir"):
        train(parts["train"])
    assert (tmp_path / "own/adapter").exists()
    again = train(parts["train"], overwrite_output_dir=True)
    assert not (tmp_path / "own/results.json").exists()
    again.save_model()
    assert not (tmp_path / "own/adapter").exists()


@pytest.fixture
def interrupted(own: Dataset, train: Callable[..., SERTrainer], tmp_path: Path) -> tuple[Dataset, Path]:
    """A run that ended without results, and the clips that it was trained on."""
    clips = own.train_test_split(0.4, seed=0)["train"]
    train(clips, method="lora_classifier", weight_decay=0.1)
    return clips, tmp_path / "own"


def test_a_run_is_not_resumed_with_other_arguments_clips_or_labels(
    interrupted: tuple[Dataset, Path], train: Callable[..., SERTrainer]
) -> None:
    """Trap: the results stated the new arguments for the whole run."""
    clips, folder = interrupted
    before = contents(folder)
    changed: list[tuple[dict[str, Any], str]] = [
        ({"balance": "none"}, r"\n  balance: found 'logits', given 'none'\n"),
        (
            {"learning_rate": 0.5, "weight_decay": 0.0},
            r"\n  learning_rate: found None, given 0.5\n  weight_decay: found 0.1, given 0.0\n",
        ),
        ({"method": "lora_qkv"}, r"\n  method: found 'lora_classifier', given 'lora_qkv'\n"),
        ({"method": LoraConfig(r=2)}, r"\n  method: found 'lora_classifier', given 'lora'\n"),
        ({"augmentation": Augmentation(noise_probability=0.5)}, r"\n  noise_probability: found 0.0, given 0.5\n"),
    ]
    for changes, message in changed:
        with pytest.raises(ValueError, match=rf"(?s)^{folder} holds a run with other arguments .*{message}"):
            train(clips, resume=True, **{"method": "lora_classifier", "weight_decay": 0.1, **changes})
        assert contents(folder) == before
    given = {"method": "lora_classifier", "weight_decay": 0.1, "resume": str(max(folder.glob("checkpoint-*")))}
    with pytest.raises(SplitError, match=r"not those that the run began with \(1 in train differ"):
        train(clips.select(range(len(clips) - 1)), **given)
    label = clips.features["label"]
    turned = clips.map(lambda clip: {"label": label.str2int("sad" if clip["label"] == 0 else "angry")})
    with pytest.raises(SplitError, match=r"\(their emotions differ"):
        train(turned, **given)
    with pytest.raises(
        ValueError, match=r"\n  labels: found \['angry', 'happy', 'sad'\], given \['sad', 'happy', 'angry'\]"
    ):
        train(clips.cast_column("label", ClassLabel(names=["sad", "happy", "angry"])), **given)
    with pytest.raises(FileNotFoundError, match="resume_from_checkpoint: there is no checkpoint in '.*checkpoint-0'"):
        train(clips, **{**given, "resume": str(folder / "checkpoint-0")})


def test_a_resumed_run_says_so_and_by_which_version_it_was_started(
    interrupted: tuple[Dataset, Path], own: Dataset, train: Callable[..., SERTrainer]
) -> None:
    clips, folder = interrupted
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**run, "hf_ser": "0.0.1", "corpora": ["of the command line"]}))
    for _ in range(2):
        trainer = train(clips, method="lora_classifier", weight_decay=0.1, resume=True)
    trainer.evaluate(own.train_test_split(0.4, seed=0)["test"])
    results = trainer.results()
    assert results.training.resumed_from == max(folder.glob("checkpoint-*")).name
    assert [warning for warning in results.warnings if "started with hf_ser 0.0.1 and resumed with" in warning]
    assert json.loads((folder / "run.json").read_text())["corpora"] == ["of the command line"]


def test_a_model_stays_where_the_next_one_cannot_be_saved_and_else_is_replaced(
    own: Dataset, train: Callable[..., SERTrainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: on a full disk the earlier model was deleted, and the new one was not there."""
    saved, trainer = tmp_path / "saved", train(own)
    trainer.save_model(str(saved))
    before = contents(saved)
    assert "model.safetensors" in before

    def save_pretrained(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(trainer.processing_class), "save_pretrained", save_pretrained)
        with pytest.raises(OSError, match="No space left"):
            trainer.save_model(str(saved))
    assert contents(saved) == before
    assert not [*saved.glob(".unsaved*")]
    train(own, method="lora_qkv", save_format="adapter").save_model(str(saved))
    assert "adapter_model.safetensors" in contents(saved)
    assert "model.safetensors" not in contents(saved)


def test_it_predicts_what_the_saved_model_predicts(train: Callable[..., SERTrainer], own: Dataset) -> None:
    """Trap: `predict` of transformers' Trainer took no clips."""
    trainer = train(own.select(range(0, len(own), 2)))
    clips = own.select(range(1, len(own), 2))
    found, labels, metrics = trainer.predict(clips)
    assert "test" not in trainer.metrics
    assert labels.tolist() == clips["label"][:]
    assert metrics["test_accuracy"] == pytest.approx(np.mean(found.argmax(axis=1) == labels))
    evaluated = trainer.evaluate(clips, metric_key_prefix="test")
    assert metrics == evaluated
    trainer.save_model()
    samples = [{"raw": read_mono(audio), "sampling_rate": 16_000} for audio in clips["audio"][:]]
    rows = hf_ser.pipeline(trainer.args.output_dir)(samples)
    best = hf_ser.pipeline(trainer.args.output_dir, top_k=1)(samples)
    assert best == [of[:1] for of in rows]
    expected = [{row["label"]: row["score"] for row in of} for of in rows]
    np.testing.assert_allclose(found, [[of[name] for name in trainer.emotions] for of in expected], atol=1e-5)
    with pytest.raises(CorpusError, match="found a DatasetDict, expected a datasets.Dataset"):
        trainer.predict(DatasetDict(test=clips))


def test_predictions_of_dimensions(train: Callable[..., SERTrainer], own: Dataset) -> None:
    values = np.linspace(0, 1, len(own), dtype=np.float32)
    clips = own.remove_columns("label").add_column("arousal", values.tolist())
    trainer = train(clips, targets=["arousal"])
    found, truth, metrics = trainer.predict(clips, metric_key_prefix="own")
    assert found.shape == truth.shape == (len(own), 1)
    np.testing.assert_allclose(truth[:, 0], values)
    assert metrics["own_clips"] == len(own)


def test_a_clip_without_a_label_is_excluded(own: Dataset) -> None:
    """Trap: a label that is missing among texts was an emotion without a name."""
    names = own.features["label"].names
    words = [names[label] for label in own["label"][:]]
    words[7] = None
    found = as_clips(own.remove_columns("label").add_column("emotion", words))
    assert found.features["label"].names == sorted(names)
    assert len(found) == len(own) - 1
    assert [(clip.reason, clip.detail) for clip in found.info.excluded] == [("unknown emotion", "none is given")]


def test_the_names_of_emotions_are_those_of_the_column_with_the_emotion(own: Dataset) -> None:
    """Trap: they were those of a column `label`, whatever that is, and for shares of votes in alphabetical order."""
    backwards = ClassLabel(names=own.features["label"].names[::-1])
    words = [own.features["label"].int2str(label) for label in own["label"][:]]
    clips = own.remove_columns("label").add_column("emotion", words).cast_column("emotion", backwards)
    shares = [[1.0, 0.0, 0.0]] * len(clips)
    found = as_clips(clips.add_column("emotion_distribution", shares))
    assert found.features["label"].names == backwards.names
    assert [backwards.names[label] for label in found["label"][:]] == words
    other = clips.add_column("label", [0] * len(clips)).cast_column("label", ClassLabel(names=["loud", "quiet"]))
    assert as_clips(other).features["label"].names == backwards.names


def test_what_is_excluded_of_any_part_is_in_the_results(
    train: Callable[..., SERTrainer], own: Dataset, tmp_path: Path
) -> None:
    """Trap: only what the training clips were read with."""
    audio = own["audio"][:]
    audio[-1] = {"bytes": b"no sound", "path": "broken.wav"}
    columns = {"audio": audio, "speaker": own["speaker"][:], "label": own["label"][:]}
    validation = Dataset.from_dict(columns, split="validation").cast_column("audio", Audio(decode=False))
    trainer = train(own, validation.cast_column("label", own.features["label"]))
    trainer.evaluate(own, metric_key_prefix="test")
    trainer.save_model()
    results = trainer.create_model_card()
    (line,) = (tmp_path / "own" / "excluded.csv").read_text().splitlines()[1:]
    assert "unreadable" in line
    assert results.excluded == {"dataset": {"unreadable": 1}}


def test_normalised_predictions_of_votes_have_the_emotions_that_the_votes_have(
    train: Callable[..., SERTrainer], own: Dataset
) -> None:
    """Trap: they had the shares of the labels; without labels these were 0 / 0, and each prediction was the first emotion."""
    labels = np.array(own["label"][:])
    own = own.select([*np.flatnonzero(labels == 0), *np.flatnonzero(labels == 1)[:4], *np.flatnonzero(labels == 2)[:3]])
    shares = np.eye(3)[(np.array(own["label"][:]) + 1) % 3]  # votes for other emotions than the labels
    votes = own.add_column("emotion_distribution", shares.tolist())
    trainer = train(votes, targets=["emotion_distribution"], normalise_by="speaker")
    moved = own.cast_column("label", Value("int64")).map(lambda row: {"label": (row["label"] + 1) % 3})
    plain = train(moved.cast_column("label", own.features["label"]), balance="none", normalise_by="speaker")
    found, expected = (one.evaluate(one.clips["train"])["eval_normalised"] for one in (trainer, plain))
    assert found["confusion_matrix"] == expected["confusion_matrix"]
