"""What a split is like, and what its parts share: of the splits made here, and of EmoBox's published folds."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from hf_ser.audio import Fingerprint, fingerprints, near_duplicates, prepare
from hf_ser.clips import column, emotion_column, names_of, without_audio
from hf_ser.corpora import CorpusError, read
from hf_ser.splits.making import SplitError, official_folds, official_split
from hf_ser.targets import emotions_of
from hf_ser.wording import counted

logger = logging.getLogger(__name__)


def speakers_of(clips: Dataset) -> set[str]:
    """The known speakers of some clips."""
    return set(column(clips, "speaker").counts())


def shared_speakers(parts: Mapping[str, Dataset], part: str = "test") -> list[str]:
    """The speakers that are both in train and in `part`, from the clips and not from the kind of the split."""
    return sorted(speakers_of(parts["train"]) & speakers_of(parts[part]))


def describe(parts: Mapping[str, Dataset]) -> dict[str, Any]:
    """The split in numbers: for each part its clips, speakers and emotions, and the speakers that train and others share."""
    made = next(iter(parts.values())).info.split
    return {
        "name": "given",
        **made,
        "parts": {
            part: {
                "clips": len(clips),
                "speakers": len(speakers_of(clips)),
                "clips_without_speaker": column(clips, "speaker").unknown,
                "emotions": emotion_column(clips).counts(),
            }
            for part, clips in parts.items()
        },
        **{
            f"speakers_shared_by_train_and_{part}": len(shared_speakers(parts, part)) if part in parts else None
            for part in {"test": None, "validation": None, **parts}
            if part != "train"
        },
    }


def check(parts: Mapping[str, Dataset]) -> list[str]:
    """
    The warnings for a reader of the metrics, each a sentence: emotions that a part lacks, speakers that train shares with another
    part, and clips whose speaker is unknown.

    Raises:
        SplitError: if train lacks an emotion: a model cannot learn it, and its metrics would mean nothing.
    """
    warnings = []
    name = parts["train"].info.split.get("name", "given")
    classified = "emotion" in parts["train"].info.targets
    for part, clips in parts.items() if classified else ():
        present = emotion_column(clips).counts()
        if absent := [emotion for emotion in emotions_of(clips) if emotion not in present]:
            if part == "train":
                raise SplitError(
                    f"{name} split: train has no clip of {', '.join(absent)}. Leave it out, merge it into another, or choose "
                    "another split or seed."
                )
            warnings.append(f"{part} has no clip of {', '.join(absent)}: metrics on it say nothing about that.")
    for part in sorted(parts):
        if part != "train" and (shared := shared_speakers(parts, part)):
            warnings.append(
                f"{counted(len(shared), 'speaker is', 'speakers are')} in both train and {part}: metrics on {part} say nothing "
                "about a new speaker."
            )
    if unknown := sum(column(clips, "speaker").unknown for clips in parts.values()):
        warnings.append(f"{counted(unknown, 'clip')} without a known speaker: whether parts share speakers is unknown.")
    return warnings


@dataclass(frozen=True)
class SharedByParts:
    """
    What train and validation of a fold share with its test part.

    Args:
        corpus (`str`): The corpus.
        fold (`int`): The fold, from 1.
        folds (`int`): The number of folds.
        train, test (`int`): The number of clips; train includes validation.
        test_speakers (`int`): Known speakers of the test part.
        speakers (`int`): Those of them who are in train.
        unknown (`int`): Clips of unknown speakers, in any part, whose speakers may be shared.
        clips (`int`): Clips that are in two parts of the fold.
        test_sentences, sentences (`int`, *optional*): Sentences of the test part, and those of them that are in train; none if
            the names of the clips do not contain them.
        recordings (`int`, *optional*): Test clips whose recording is in train, identical or an altered copy; none if the audio
            is not compared.
    """

    corpus: str
    fold: int
    folds: int
    train: int
    test: int
    test_speakers: int
    speakers: int
    unknown: int
    clips: int
    test_sentences: int | None
    sentences: int | None
    recordings: int | None

    @property
    def remedy(self) -> dict[str, Any]:
        """The arguments of a speaker-independent split of about the same sizes; none if no speaker is shared."""
        if not self.speakers:
            return {}
        if self.folds > 1:
            return {"split": "kfold", "folds": self.folds}
        return {"split": "speaker", "test_size": round(self.test / (self.train + self.test), 2)}


def audit_emobox(root: Path, *, decode: bool = False) -> Iterator[SharedByParts]:
    """
    Audits the folds of every corpus in EmoBox's repository.

    Args:
        root (`Path`): The repository, or one of its folders `data/<corpus>`.
        decode (`bool`, defaults to `False`): Whether to compare the recordings, too, for which the audio must exist.

    Raises:
        CorpusError: if there is no such corpus, or one cannot be read.
    """
    folders = sorted(path.parent for path in root.glob("data/*/fold_1")) or [root]
    for folder in folders:
        try:
            (rows,) = read(f"emobox={folder}")
        except CorpusError as error:
            if len(folders) == 1:
                raise
            logger.warning("%s is not audited: %s", folder.name, error)
            continue
        clips = without_audio(rows)
        prints = _fingerprints(rows) if decode else {}
        for fold in range(official_folds(clips)):
            try:
                parts = official_split(clips, fold)
            except SplitError as error:  # a file of the fold is missing
                logger.warning("%s, fold %d is not audited: %s", folder.name, fold + 1, error)
                continue
            yield _shared(parts, rows, fold + 1, _recordings(parts, prints) if decode else None)


def _shared(parts: DatasetDict, rows: Dataset, fold: int, recordings: int | None) -> SharedByParts:
    train = [clips for part, clips in parts.items() if part != "test"]
    known = {name for clips in train for name in speakers_of(clips)}
    trained = {sentence for clips in train for sentence in column(clips, "statement").counts()}
    tested = set(column(parts["test"], "statement").counts())
    return SharedByParts(
        corpus=rows[0]["corpus"],
        fold=fold,
        folds=official_folds(rows),
        train=sum(map(len, train)),
        test=len(parts["test"]),
        test_speakers=len(speakers_of(parts["test"])),
        speakers=len(known & speakers_of(parts["test"])),
        unknown=sum(column(clips, "speaker").unknown for clips in parts.values()),
        clips=sum("+" in (part or "") for part in rows[f"fold_{fold}"]),
        test_sentences=len(tested) or None,
        sentences=len(trained & tested) if tested else None,
        recordings=recordings,
    )


def _fingerprints(rows: Dataset) -> dict[str, Fingerprint]:
    """The fingerprints of the usable clips, by their names."""
    prepared = prepare([rows])
    usable = prepared.select([i for i, problem in enumerate(prepared["problem"][:]) if not problem])
    return dict(zip(names_of(usable), fingerprints(usable, of=f"of {rows[0]['corpus']}"), strict=True))


def _recordings(parts: DatasetDict, prints: Mapping[str, Fingerprint]) -> int:
    test, train = (
        [prints[name] for clips in some for name in names_of(clips) if name in prints]
        for some in ([parts["test"]], [parts["train"], parts["validation"]])
    )
    return len({j for _, j, _ in near_duplicates(train, test)})
