"""MSP-Podcast (Lotfian and Busso 2019): speech from podcasts, not acted, with an official split; it grows by releases."""

import csv
import logging
from collections import Counter
from pathlib import Path

from hf_ser.corpora.about import About
from hf_ser.corpora.rows import FEMALE, MALE, CorpusError, Row, audio_files

logger = logging.getLogger(__name__)

NAME = "msp_podcast"
#: Older releases spell it concensus.
TABLES = ("labels_consensus.csv", "labels_concensus.csv")
COLUMNS = ("FileName", "EmoClass", "SpkrID", "Gender", "Split_Set")
ABOUT = About(
    name="MSP-Podcast",
    licence="by agreement with the University of Texas at Dallas, for research; not to be passed on",
    licence_id=None,
    language="en",
    speech="turns cut from podcasts, not acted; the label is what most of at least five crowd workers perceived",
    acted=False,
    labels="perceived",
    text="free",
    speakers="hundreds to thousands of people, by release; how many a run heard is counted from its clips",
    homepage="https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html",
    citation="""@article{lotfian2019msppodcast,
  title = {Building Naturalistic Emotionally Balanced Speech Corpus by Retrieving Emotional Speech from Existing Podcast
           Recordings},
  author = {Lotfian, Reza and Busso, Carlos},
  journal = {IEEE Transactions on Affective Computing},
  volume = {10},
  number = {4},
  pages = {471--483},
  year = {2019},
  doi = {10.1109/TAFFC.2017.2736999}
}""",
)

EMOTION_OF_CODE = {
    "A": "angry",
    "C": "contempt",
    "D": "disgust",
    "F": "fear",
    "H": "happy",
    "N": "neutral",
    "O": "other",
    "S": "sad",
    "U": "surprise",
    "X": "no_agreement",
}
#: What stands in place of an emotion where nobody knows who speaks: such a clip may have its speaker in another part.
UNKNOWN_SPEAKER = "unknown_speaker"
GENDER_OF_WORD = {"female": FEMALE, "male": MALE}
SPLIT_OF_WORD = {"train": "train", "validation": "validation", "development": "validation", "test1": "test"}


def read(root: Path) -> list[Row]:
    """
    The turns of MSP-Podcast that its table labels, with the official split (PEFT-SER, section IV): Train, Validation
    (Development in later releases) and Test1; those of Test2 and Test3 are in no part.

    Clips whose speaker is unknown are left out, as PEFT-SER does: their emotion is the word `unknown_speaker`, which no
    run asks for, so that its report counts them among what it left out. Turns without agreement, contempt and others
    keep a word of their own likewise.

    Args:
        root (`Path`):
            The release's folder, with `Labels/labels_consensus.csv` (older: `labels_concensus.csv`) and `Audios` (or
            `Audio`), or the one above it.

    Raises:
        CorpusError: if there is no such folder, table or audio, the table lacks a column, or one of its lines is malformed
            or labels a clip again.
    """
    if not root.is_dir():
        raise CorpusError(f"{NAME}: there is no folder {str(root)!r}. Give the folder that holds Labels and Audios.")
    places = [folder / "Labels" / name for folder in [root, *sorted(root.glob("*/"))] for name in TABLES]
    table = next((path for path in [*places, *(root / name for name in TABLES)] if path.is_file()), None)
    if table is None:
        inside = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
        raise CorpusError(
            f"{NAME}: no Labels/{' or Labels/'.join(TABLES)} in {str(root)!r}, which holds {inside}. Give the release's folder."
        )
    base = table.parent.parent if table.parent.name == "Labels" else table.parent
    folder = next((base / name for name in ("Audios", "Audio") if (base / name).is_dir()), None)
    audio = {path.stem: folder / path for path in audio_files(folder, NAME)} if folder else {}
    if folder is None or not audio:
        raise CorpusError(
            f"{NAME}: no audio in {str(base / 'Audios')!r}. Looked for names such as MSP-PODCAST_0001_0008.wav."
        )
    rows: list[Row] = []
    line_of: dict[str, int] = {}
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if missing := [column for column in COLUMNS if column not in (reader.fieldnames or [])]:
            raise CorpusError(
                f"{NAME}: {table} has no column {', '.join(missing)}; found {', '.join(reader.fieldnames or ['nothing'])}"
            )
        for line in reader:
            if None in line or not all(line[column] for column in COLUMNS):
                found = ",".join(str(value) for value in line.values() if value is not None)
                raise CorpusError(
                    f"{NAME}: {table}, line {reader.line_num}: {found!r} does not fit the columns "
                    f"{', '.join(reader.fieldnames or [])}"
                )
            clip, code, speaker, gender, part = (line[column].strip() for column in COLUMNS)
            name = Path(clip).stem
            if name in line_of:
                raise CorpusError(
                    f"{NAME}: {table}, line {reader.line_num}: {clip} has a label already, in line {line_of[name]}"
                )
            line_of[name] = reader.line_num
            known = speaker.lower() != "unknown"
            rows.append(
                Row(
                    path=str(audio.pop(name, folder / clip)),
                    name=name,
                    emotion=EMOTION_OF_CODE.get(code.upper(), code.lower()) if known else UNKNOWN_SPEAKER,
                    speaker=speaker if known else None,
                    gender=GENDER_OF_WORD.get(gender.lower()),
                    split=SPLIT_OF_WORD.get(part.lower()),
                    extras={"split_set": part},
                )
            )
    if not rows:
        raise CorpusError(f"{NAME}: {table} lists no clip")
    if unknown := Counter(row.extras["split_set"] for row in rows if row.speaker is None):
        told = ", ".join(f"{count} of {part}" for part, count in sorted(unknown.items()))
        logger.warning(
            "%s: %d of %d clips have an unknown speaker and are left out, as %s: %s",
            NAME, unknown.total(), len(rows), UNKNOWN_SPEAKER, told,
        )  # fmt: skip
    if audio:
        logger.warning("%s: %d audio files have no label, for instance %s", NAME, len(audio), min(audio))
    return rows
