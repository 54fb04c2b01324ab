"""Any data set on the Hub, or saved on disk by `datasets`, that has an audio and a label column."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import (
    Audio,
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    List,
    Value,
    concatenate_datasets,
    load_dataset,
    load_from_disk,
)

from hf_ser.corpora.manifest import TARGET_COLUMNS, find_column, gender, is_split, split
from hf_ser.corpora.rows import CorpusError, Row, counted_votes, to_dataset
from hf_ser.emotions import DIMENSIONS, canonical
from hf_ser.wording import listed

NAME = "dataset"
#: How the types of dimensions begin, and the types of votes: words for each rater, or counts such as `angry:3 neutral:2`.
NUMBERS = ("flo", "int", "uin")
VOTES = (List(Value("string")), Value("string"))


def read(source: str) -> list[Dataset]:
    """
    The clips of a data set as rows (see `hf_ser.corpora.rows`), its audio undecoded: one `Dataset`, or, where its parts are
    corpora (CAMEO: `cafe`, `crema_d`, ...), one for each.

    Args:
        source (`str`):
            A folder that `save_to_disk` wrote, or a name on the Hub (`user/name`, or `user/name:configuration`). The
            emotion is the column `emotion` or `label`, a class label or text; speaker, gender, session, split, arousal, valence,
            dominance (numbers) and votes are taken where there is such a column, and the split else from the data set's own
            parts. Parts that are called otherwise than parts of a split (`train`, `dev`, `test1`, ...) are corpora.

    Raises:
        CorpusError: if the data set cannot be loaded or lacks an audio or a label column, or a text of votes does not count them
            as `angry:3 neutral:2` does.
    """
    parts = load_parts(source)
    found: dict[str, list[Dataset]] = {}
    for name, (corpus, part_name) in corpora_of(source, list(parts)).items():
        found.setdefault(corpus, []).append(rows_of(parts[name], corpus, part_name, source))
    return [concatenate_datasets(rows) for rows in found.values()]


def corpora_of(source: str, parts: Sequence[str | None]) -> dict[str | None, tuple[str, str | None]]:
    """For each part of a data set the corpus that its clips belong to, and the name of the part within it."""
    if len(parts) > 1 and not any(map(is_split, parts)):
        return {part: (str(part).lower(), None) for part in parts}
    return {part: (Path(source.partition(":")[0]).name.lower(), part) for part in parts}


def load_parts(source: str) -> dict[str | None, Dataset]:
    """
    The parts of a data set by their names, `None` where it has one without a name; see [`read`] for `source`.

    Raises:
        CorpusError: if it cannot be loaded.
    """
    source = str(Path(source).expanduser()) if source.startswith("~") else source
    name, _, configuration = source.partition(":")
    try:
        if Path(source).is_dir() and any(Path(source).glob("*dict.json")) | any(Path(source).glob("state.json")):
            loaded = load_from_disk(source)
        else:
            loaded = load_dataset(name, configuration or None)
    except Exception as error:  # the loader's errors are of many kinds; each ends the reading of this corpus
        raise CorpusError(f"dataset: {source!r} cannot be loaded, from disk or from the Hub: {error}") from error
    return dict(loaded) if isinstance(loaded, DatasetDict) else {None: loaded}


def rows_of(part: Dataset, corpus: str, part_name: str | None, source: str) -> Dataset:
    """
    The clips of one data set as rows, its audio undecoded.

    Raises:
        CorpusError: if it lacks an audio or a label column; the message calls it `source`.
    """
    audio = audio_column(part.features, source)
    sound = part.select_columns([audio])
    if audio != "audio":
        sound = sound.rename_column(audio, "audio")
    rows = concatenate_datasets([text_rows(part.remove_columns(audio), corpus, part_name), sound], axis=1)
    # Not before: datasets loses the number of rows of a table whose first columns were removed.
    return rows.cast_column("audio", Audio(decode=False))


def audio_column(features: Features, source: str) -> str:
    """
    The column that holds the audio.

    Raises:
        CorpusError: if there is none, or no column with the emotion.
    """
    audio = next((name for name, feature in features.items() if isinstance(feature, Audio)), None)
    others = [name for name in features if name != audio]
    if audio is None or not any(find_column(others, key) for key in TARGET_COLUMNS):
        raise CorpusError(
            f"dataset: {source!r} needs a column of type Audio and one called emotion or label; found "
            + listed((f"{name} ({type(feature).__name__})" for name, feature in features.items()), most=10)
        )
    return audio


def text_rows(part: Dataset, corpus: str, part_name: str | None) -> Dataset:
    """The clips of a part as rows without audio, from its columns other than audio."""

    def values(key: str, fits: Callable[[Any], bool]) -> list[Any]:
        column = find_column(part.column_names, key)
        # A column that is called act may be anything.
        return part[column][:] if column and fits(part.features[column]) else [None] * len(part)

    def words(key: str) -> list[str | None]:
        found = values(key, lambda kind: True)
        kind = part.features.get(find_column(part.column_names, key) or "")
        if isinstance(kind, ClassLabel):
            return [None if value is None or value < 0 else kind.int2str(value) for value in found]
        return [None if value is None else str(value) for value in found]

    prefix = f"{part_name}/" if part_name else ""
    keys = ("emotion", "speaker", "gender", "session", "split")
    dimensions = (
        values(name, lambda kind: isinstance(kind, Value) and kind.dtype[:3] in NUMBERS) for name in DIMENSIONS
    )
    votes = values("votes", lambda kind: kind in VOTES)
    lines = zip(*map(words, keys), zip(*dimensions, strict=True), votes, strict=True)
    rows = []
    for index, (emotion, speaker, sex, session, word, rated, voted) in enumerate(lines):
        name = f"{prefix}{index:07d}"
        rows.append(
            Row(
                path="",
                name=name,
                emotion=canonical(emotion or ""),
                speaker=speaker,
                gender=gender(sex),
                session=session,
                split=split(word) or split(part_name),
                dimensions={key: value for key, value in zip(DIMENSIONS, rated, strict=True) if value is not None},
                votes=list(map(canonical, voted))
                if isinstance(voted, list)
                else counted_votes(voted, f"{corpus}/{name}: votes"),
            )
        )
    return to_dataset(rows, corpus).remove_columns("audio")
