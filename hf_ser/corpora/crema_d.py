"""CREMA-D (Cao et al. 2014): 91 actors, six emotions, 7,442 clips."""

import csv
import logging
import re
from pathlib import Path

from hf_ser.corpora.about import About
from hf_ser.corpora.rows import FEMALE, MALE, Row, audio_files, require_rows, stem

logger = logging.getLogger(__name__)

NAME = "crema_d"
LOOKED_FOR = "names such as AudioWAV/1001_DFA_ANG_XX.wav (actor_sentence_emotion_level)"
ABOUT = About(
    name="CREMA-D (Crowd-sourced Emotional Multimodal Actors Dataset)",
    licence="Open Database License (ODbL) 1.0: attribution, share alike",
    licence_id="odbl",
    language="en",
    speech="acted speech: twelve fixed sentences, said in six emotions; the label is the emotion that the actor was asked for",
    speakers="91 actors (43 women and 48 men, 20 to 74 years old) of several races and ethnicities",
    homepage="https://github.com/CheyneyComputerScience/CREMA-D",
    citation="""@article{cao2014cremad,
  title = {{CREMA-D}: Crowd-sourced Emotional Multimodal Actors Dataset},
  author = {Cao, Houwei and Cooper, David G. and Keutmann, Michael K. and Gur, Ruben C. and Nenkova, Ani and
            Verma, Ragini},
  journal = {IEEE Transactions on Affective Computing},
  volume = {5},
  number = {4},
  pages = {377--390},
  year = {2014},
  doi = {10.1109/TAFFC.2014.2336244}
}""",
)

FIELDS = re.compile(r"(?P<actor>1\d{3})_(?P<sentence>[A-Z]{3})_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(?P<level>[A-Z]{1,2})",
                    re.IGNORECASE)  # fmt: skip
EMOTION_OF_CODE = {
    "ANG": "angry",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
LEVEL_OF_CODE = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified", "X": "unspecified"}
ACTOR_TABLE = "VideoDemographics.csv"


def read(root: Path) -> list[Row]:
    """
    The clips of CREMA-D below `root`, with the emotion that the actor was asked for (HuBERT-SER's Table 2).

    The actors' sex comes from `VideoDemographics.csv`, at or below `root` or in the folder above it; without that file
    it stays unknown, and the log says so.

    Raises:
        CorpusError: if there is no such folder, or no clip of CREMA-D in it.
    """
    files = audio_files(root, NAME)
    gender = _gender_of_actor(root)
    rows = []
    for path in files:
        if fields := FIELDS.fullmatch(path.stem):
            rows.append(
                Row(
                    path=str(root / path),
                    name=stem(path),
                    emotion=EMOTION_OF_CODE[fields["emotion"].upper()],
                    speaker=fields["actor"],
                    gender=gender.get(fields["actor"]),
                    performance=path.stem.upper(),  # the corpus comes as AudioWAV and as AudioMP3
                    extras={
                        "level": LEVEL_OF_CODE.get(fields["level"].upper(), "unspecified"),
                        "statement": fields["sentence"].upper(),
                    },
                )
            )
    return require_rows(rows, files, root, NAME, LOOKED_FOR)


def _gender_of_actor(root: Path) -> dict[str, str]:
    beside = [root.parent / ACTOR_TABLE]
    table = next((path for path in [*sorted(root.rglob(ACTOR_TABLE)), *beside] if path.is_file()), None)
    if table is None:
        logger.warning(
            "crema_d: no %s at, below or beside %s: the speakers' gender stays unknown. The table comes with the corpus.",
            ACTOR_TABLE,
            root,
        )
        return {}
    with table.open(newline="", encoding="utf-8-sig") as file:
        sex = {"Male": MALE, "Female": FEMALE}
        return {line["ActorID"]: sex[line["Sex"]] for line in csv.DictReader(file) if line["Sex"] in sex}
