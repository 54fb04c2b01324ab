"""What train and test share in a split that others published."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, DatasetDict
from tqdm import tqdm

from hf_ser.audio import Fingerprint, fingerprint, near_duplicates, prepare
from hf_ser.audio.decode import read_mono
from hf_ser.clips import column, names_of, without_audio
from hf_ser.corpora import CorpusError, read
from hf_ser.splits.describing import speakers_of
from hf_ser.splits.making import SplitError, official_folds, official_split

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SharedByParts:
    """
    What the training and validation part of a fold share with its test part.

    Args:
        corpus (`str`): The corpus.
        fold (`int`): The fold, from 1.
        folds (`int`): How many the corpus has.
        train, test (`int`): Clips.
        test_speakers (`int`): Known speakers of the test part.
        speakers (`int`): Those of them who are in training.
        unknown (`int`): Clips of unknown speakers, in any part: whether they are shared is unknown.
        clips (`int`): Clips that the fold has in two parts.
        test_sentences, sentences (`int`, *optional*): Sentences of the test part, and those of them that are in training; none
            where the names of the clips do not say them.
        recordings (`int`, *optional*): Test clips whose recording is in training, the very same or an altered copy; none where
            the audio is not compared.
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
    def remedy(self) -> str | None:
        """The arguments of a speaker-independent split of about the same sizes; none if no speaker is shared."""
        if not self.speakers:
            return None
        if self.folds > 1:
            return f"--split kfold --folds {self.folds}"
        return f"--split speaker --test_size {self.test / (self.train + self.test):.2f}"


def audit_emobox(root: Path, *, decode: bool = False) -> Iterator[SharedByParts]:
    """
    Audits the folds of every corpus in EmoBox's repository.

    Args:
        root (`Path`): The repository, or one of its folders `data/<corpus>`.
        decode (`bool`, defaults to `False`): Whether to compare the recordings, too. Their audio must be there.

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
    """The fingerprints of the clips that can be used, by their names."""
    prepared = prepare([rows])
    usable = [i for i, problem in enumerate(prepared["problem"][:]) if not problem]
    return {
        clip["clip"]: fingerprint(read_mono(clip["audio"]))
        for clip in tqdm(prepared.select(usable), desc=f"{rows[0]['corpus']}: recordings", unit=" clips", leave=False)
    }


def _recordings(parts: DatasetDict, prints: Mapping[str, Fingerprint]) -> int:
    test, train = (
        [prints[name] for clips in some for name in names_of(clips) if name in prints]
        for some in ([parts["test"]], [parts["train"], parts["validation"]])
    )
    return len({j for _, j, _ in near_duplicates(train, test)})
