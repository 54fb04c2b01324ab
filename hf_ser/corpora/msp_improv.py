"""MSP-Improv (Busso et al. 2017): twelve actors in six sessions of two, improvised, read and natural speech, 8,438 turns."""

import logging
import re
from pathlib import Path

from hf_ser.corpora.about import About
from hf_ser.corpora.rows import FEMALE, MALE, CorpusError, Row, audio_files

logger = logging.getLogger(__name__)

NAME = "msp_improv"
#: The corpus spells it so; some have corrected it.
EVALUATIONS = ("Evalution.txt", "Evaluation.txt")
ABOUT = About(
    name="MSP-Improv (an acted corpus of dyadic interactions)",
    licence="by agreement with the University of Texas at Dallas, for research; not to be passed on",
    licence_id=None,
    language="en",
    speech="acted dialogues of two that lead to twenty fixed sentences, the same sentences read, and what was said between the "
    "recordings; the label is what most of at least five crowd workers perceived",
    acted=True,
    labels="perceived",
    text="free",
    speakers="twelve actors (six women and six men), students in Texas, in six sessions, a woman and a man in each",
    homepage="https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Improv.html",
    citation="""@article{busso2017mspimprov,
  title = {{MSP-IMPROV}: An acted corpus of dyadic interactions to study emotion perception},
  author = {Busso, Carlos and Parthasarathy, Srinivas and Burmania, Alec and AbdelWahab, Mohammed and Sadoughi, Najmeh and
            Provost, Emily Mower},
  journal = {IEEE Transactions on Affective Computing},
  volume = {8},
  number = {1},
  pages = {67--80},
  year = {2017},
  doi = {10.1109/TAFFC.2016.2515617}
}""",
)

# A clip's first line; its raters' lines follow. The films are called UTD-..., the audio files MSP-...
LABEL = re.compile(
    r"(?:UTD|MSP)-(?P<clip>IMPROV-(?P<statement>S\d\d)[AHNS]-(?P<speaker>(?P<gender>[FM])0(?P<session>[1-6]))"
    r"-(?P<condition>[PRST])-[FM]{2}\d+)\.(?:avi|wav)\s*;\s*(?P<emotion>[A-Z])\s*(?:;.*)?",
    re.IGNORECASE,
)
EMOTION_OF_CODE = {
    "A": "angry",
    "H": "happy",
    "N": "neutral",
    "O": "other",
    "S": "sad",
    "X": "no_agreement",
}
CONDITION_OF_CODE = {"P": "natural", "R": "read", "S": "improvised", "T": "target"}


def read(root: Path) -> list[Row]:
    """
    The turns of MSP-Improv in all four recording conditions, with the emotion that its raters agreed on (PEFT-SER,
    section IV). Turns without agreement and of other emotions keep a word of their own, so that a run that chooses its
    emotions says how many it left out.

    A clip is called `MSP-IMPROV-S01A-F01-P-FM01`: sentence and the emotion aimed at, who talks (a woman or man, and the
    session), the condition (P natural, T the target sentence in its dialogue, R read, S the rest of that dialogue), and
    the dialogue's roles with the turn's number. Its label may call it `UTD-IMPROV-...avi`.

    Args:
        root (`Path`):
            The folder of `Evalution.txt` (or `Evaluation.txt`), with the audio anywhere below it
            (`Audio/session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav`).

    Raises:
        CorpusError: if there is no such folder, evaluation or audio, a line is malformed or labels a clip again.
    """
    if not root.is_dir():
        raise CorpusError(f"{NAME}: there is no folder {str(root)!r}. Give the folder with {EVALUATIONS[0]} and Audio.")
    evaluation = next((root / name for name in EVALUATIONS if (root / name).is_file()), None)
    if evaluation is None:
        inside = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
        raise CorpusError(
            f"{NAME}: no {' or '.join(EVALUATIONS)} in {str(root)!r}, which holds {inside}. Give the folder "
            "with that file and Audio."
        )
    files = audio_files(root, NAME)
    audio = {path.stem.upper().partition("-")[2]: root / path for path in files if "-IMPROV-" in path.stem.upper()}
    if not audio:
        raise CorpusError(
            f"{NAME}: no audio below {str(root)!r}. Looked for Audio/session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav and its "
            f"like; found {len(files)} other audio files."
        )
    rows: list[Row] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(evaluation.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.upper().startswith(("UTD-", "MSP-")):  # a rater's line, a gap
            continue
        label = LABEL.fullmatch(line.strip())
        if label is None:
            raise CorpusError(
                f"{NAME}: {evaluation}, line {number}: {line!r} is no label; expected a line such as "
                "'UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:2.8; V:3.2; D:3.0 ; N:4.4;'"
            )
        clip, code = label["clip"].upper(), label["emotion"].upper()
        if clip in line_of:
            raise CorpusError(
                f"{NAME}: {evaluation}, line {number}: MSP-{clip} has a label already, in line {line_of[clip]}"
            )
        line_of[clip] = number
        session, condition = f"session{label['session']}", label["condition"].upper()
        expected = root / "Audio" / session / clip.split("-")[1] / condition / f"MSP-{clip}.wav"
        rows.append(
            Row(
                path=str(audio.pop(clip, expected)),
                name=f"MSP-{clip}",
                emotion=EMOTION_OF_CODE.get(code, code.lower()),
                speaker=label["speaker"].upper(),
                gender=FEMALE if label["gender"].upper() == "F" else MALE,
                session=session,
                extras={"condition": CONDITION_OF_CODE[condition], "statement": label["statement"].upper()},
            )
        )
    if not rows:
        raise CorpusError(f"{NAME}: {evaluation} holds no label; expected lines that begin with UTD-IMPROV-")
    if audio:
        logger.warning("%s: %d audio files have no label, for instance MSP-%s", NAME, len(audio), min(audio))
    return rows
