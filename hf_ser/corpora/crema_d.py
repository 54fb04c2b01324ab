"""CREMA-D (Cao et al. 2014): 91 actors, six emotions, 7,442 clips."""

import csv
import logging
import re
from dataclasses import replace
from pathlib import Path

from hf_ser.corpora.about import About
from hf_ser.corpora.rows import FEMALE, MALE, CorpusError, Row, audio_files, require_rows, stem

logger = logging.getLogger(__name__)

NAME = "crema_d"
LOOKED_FOR = "names such as AudioWAV/1001_DFA_ANG_XX.wav (actor_sentence_emotion_level)"
ABOUT = About(
    name="CREMA-D (Crowd-sourced Emotional Multimodal Actors Dataset)",
    licence="Open Database License (ODbL) 1.0: attribution, share alike",
    licence_id="odbl",
    language="en",
    speech="acted speech: twelve fixed sentences, said in six emotions; the label is the emotion that the actor was asked for",
    acted=True,
    labels="asked for",
    text="fixed",
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

#: The same clips, labelled by those who saw and heard them: a corpus of its own, so that no figure is taken for the other's.
VOTES_NAME = "crema_d_votes"
VOTES_ABOUT = replace(
    ABOUT,
    name=ABOUT.name.replace("CREMA-D", "CREMA-D by votes"),
    speech="acted speech: twelve fixed sentences, said in six emotions; the label is the emotion that most of those perceived "
    "who saw and heard the clip",
    labels="perceived",
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
EMOTION_OF_VOTE = {
    "A": "angry",
    "D": "disgust",
    "F": "fear",
    "H": "happy",
    "N": "neutral",
    "S": "sad",
}
VOTE_TABLE = "summaryTable.csv"
VOTE_COLUMNS = ("FileName", "MultiModalVote")
#: It has a vote, and no sound.
EMPTY = "1076_MTI_SAD_XX"


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


def read_votes(root: Path) -> list[Row]:
    """
    The clips of CREMA-D below `root`, with the emotion that most viewers saw and heard in them (PEFT-SER's Table III).

    The votes are `MultiModalVote` in `processedResults/summaryTable.csv`, found as the actors' table is. A tie, such as
    `A:N`, is no agreement and keeps that word, so that a run that chooses its emotions says how many it left out. The
    column `intended` has the emotion that the actor was asked for.

    Raises:
        CorpusError: if there is no such folder, no clip of CREMA-D in it, no table of votes, or a malformed one.
    """
    rows = read(root)
    table = _find_table(root, VOTE_TABLE)
    if table is None:
        raise CorpusError(
            f"{VOTES_NAME}: no {VOTE_TABLE} at, below or beside {str(root)!r}. The corpus has it in processedResults: put that "
            "folder there. Without it only the emotions that the actors were asked for can be read, as crema_d."
        )
    votes = _votes(table)
    voted = []
    for row in rows:
        clip = Path(row.path).stem.upper()
        if clip != EMPTY:
            vote = votes.get(clip, "")
            emotion = "no_agreement" if ":" in vote else EMOTION_OF_VOTE.get(vote, vote.lower())
            voted.append(replace(row, emotion=emotion, extras={**row.extras, "intended": row.emotion}))
    return voted


def _votes(table: Path) -> dict[str, str]:
    votes: dict[str, str] = {}
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if missing := [column for column in VOTE_COLUMNS if column not in (reader.fieldnames or [])]:
            raise CorpusError(
                f"{VOTES_NAME}: {table} has no column {', '.join(missing)}; found {', '.join(reader.fieldnames or ['nothing'])}"
            )
        for line in reader:
            clip, vote = ((line[column] or "").strip().upper() for column in VOTE_COLUMNS)
            if not clip or not vote:
                raise CorpusError(f"{VOTES_NAME}: {table}, line {reader.line_num}: no file name or no vote")
            if votes.setdefault(clip, vote) != vote:
                raise CorpusError(
                    f"{VOTES_NAME}: {table}, line {reader.line_num}: {clip} has the vote {vote}, and {votes[clip]} above"
                )
    return votes


def _find_table(root: Path, name: str) -> Path | None:
    beside = [root.parent / name, root.parent / "processedResults" / name]
    return next((path for path in [*sorted(root.rglob(name)), *beside] if path.is_file()), None)


def _gender_of_actor(root: Path) -> dict[str, str]:
    table = _find_table(root, ACTOR_TABLE)
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
