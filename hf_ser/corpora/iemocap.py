"""IEMOCAP (Busso et al. 2008): ten actors in five sessions of two, improvised and scripted dialogues, 10,039 turns."""

import logging
import re
from pathlib import Path

from hf_ser.corpora.about import About
from hf_ser.corpora.rows import FEMALE, MALE, CorpusError, Row, audio_files

logger = logging.getLogger(__name__)

NAME = "iemocap"
EVALUATIONS = "Session[1-5]/dialog/EmoEvaluation"
LOOKED_FOR = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt and its like, as in IEMOCAP_full_release"
ABOUT = About(
    name="IEMOCAP (Interactive Emotional Dyadic Motion Capture Database)",
    licence="by agreement with the University of Southern California, for research; not to be passed on",
    licence_id=None,
    language="en",
    speech="acted dialogues of two, improvised and from scripts; the label is what most of at least three annotators perceived",
    acted=True,
    labels="perceived",
    text="free",
    speakers="ten actors (five women and five men) in five sessions, a woman and a man in each",
    homepage="https://sail.usc.edu/iemocap/",
    citation="""@article{busso2008iemocap,
  title = {{IEMOCAP}: Interactive emotional dyadic motion capture database},
  author = {Busso, Carlos and Bulut, Murtaza and Lee, Chi-Chun and Kazemzadeh, Abe and Mower, Emily and Kim, Samuel and
            Chang, Jeannette N. and Lee, Sungbok and Narayanan, Shrikanth S.},
  journal = {Language Resources and Evaluation},
  volume = {42},
  number = {4},
  pages = {335--359},
  year = {2008},
  doi = {10.1007/s10579-008-9076-6}
}""",
)

# The turn's last part has the letter of who talks; the dialogue's F or M is who wears the markers.
LABEL = re.compile(
    r"\[\d+(?:\.\d+)? - \d+(?:\.\d+)?\]\s+"
    r"(?P<turn>(?P<dialog>Ses0(?P<session>[1-5])[FM]_(?P<kind>impro|script)\w*)_(?P<gender>[FM])\w+)\s+"
    r"(?P<emotion>[a-z]+)\s+\[[^,\]]+,[^,\]]+,[^,\]]+\]\s*",
    re.IGNORECASE,
)
EMOTION_OF_CODE = {
    "ang": "angry",
    "dis": "disgust",
    "exc": "happy",  # excitement: PEFT-SER and most others count it as happiness
    "fea": "fear",
    "fru": "frustrated",
    "hap": "happy",
    "neu": "neutral",
    "oth": "other",
    "sad": "sad",
    "sur": "surprise",
    "xxx": "no_agreement",
}
KIND_OF_CODE = {"impro": "improvised", "script": "scripted"}


def read(root: Path) -> list[Row]:
    """
    The turns of IEMOCAP with the emotion that its annotators agreed on (PEFT-SER, section IV). Excitement counts as
    happiness. Turns without agreement, frustration and others keep a word of their own, so that a run that chooses its
    emotions says how many it left out.

    Args:
        root (`Path`):
            The released folder, `IEMOCAP_full_release`, or the one above it: labels are in
            `SessionN/dialog/EmoEvaluation/DIALOG.txt`, audio in `SessionN/sentences/wav/DIALOG/TURN.wav`.

    Raises:
        CorpusError: if there is no such folder, evaluation or audio, a line is malformed or labels a turn again.
    """
    if not root.is_dir():
        raise CorpusError(f"{NAME}: there is no folder {str(root)!r}. Give the folder that holds Session1 to Session5.")
    base = next((folder for folder in [root, *sorted(root.glob("*/"))] if any(folder.glob(EVALUATIONS))), None)
    evaluations = sorted(path for path in base.glob(f"{EVALUATIONS}/*.txt") if path.name[0] != ".") if base else []
    if base is None or not evaluations:
        inside = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
        raise CorpusError(
            f"{NAME}: no evaluation of it below {str(root)!r}. Looked for {LOOKED_FOR}; the folder holds {inside}."
        )
    audio = {path.stem: base / path for path in audio_files(base, NAME) if "sentences" in path.parts}
    if not audio:
        raise CorpusError(f"{NAME}: no audio below {str(base)!r}. Looked for Session1/sentences/wav/DIALOG/TURN.wav.")
    rows: list[Row] = []
    found_at: dict[str, str] = {}
    excited = 0
    for path in evaluations:
        # Annotators' comments are in several encodings; labels are ASCII.
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            if not line.startswith("["):  # the header, annotators' lines, gaps
                continue
            place = f"{path}, line {number}"
            label = LABEL.fullmatch(line)
            if label is None:
                raise CorpusError(
                    f"{NAME}: {place}: {line!r} is no label; expected [start - end], turn, emotion and [v, a, d]"
                )
            turn, session = label["turn"], f"Session{label['session']}"
            if turn in found_at:
                raise CorpusError(f"{NAME}: {place}: {turn} has a label already, in {found_at[turn]}")
            found_at[turn] = place
            code = label["emotion"].lower()
            excited += code == "exc"
            expected = base / session / "sentences" / "wav" / label["dialog"] / f"{turn}.wav"
            rows.append(
                Row(
                    path=str(audio.pop(turn, expected)),
                    name=turn,
                    emotion=EMOTION_OF_CODE.get(code, code),
                    speaker=f"Ses0{label['session']}{label['gender'].upper()}",
                    gender=FEMALE if label["gender"].upper() == "F" else MALE,
                    session=session,
                    extras={"kind": KIND_OF_CODE[label["kind"].lower()]},
                )
            )
    if not rows:
        raise CorpusError(f"{NAME}: the {len(evaluations)} files such as {evaluations[0]} hold no label")
    if excited:
        logger.info("%s: %d turns of excitement (exc) count as happy", NAME, excited)
    if audio:
        logger.warning("%s: %d audio files have no label, for instance %s", NAME, len(audio), min(audio))
    return rows
