"""SAVEE (Haq and Jackson 2009): four men, seven emotions, 480 clips."""

import re
from pathlib import Path

from hf_ser.corpora.about import About
from hf_ser.corpora.rows import MALE, Row, audio_files, require_rows, stem

NAME = "savee"
LOOKED_FOR = "names such as DC/a01.wav or DC_a01.wav (speaker, emotion, number)"
ABOUT = About(
    name="SAVEE (Surrey Audio-Visual Expressed Emotion)",
    licence="free for research, on registration",
    licence_id=None,
    language="en",
    speech="acted speech: sentences from TIMIT, 15 for each emotion and 30 neutral ones; three are said in every emotion",
    acted=True,
    labels="asked for",
    text="read",
    speakers="four men (27 to 31 years old), native speakers of British English",
    homepage="http://kahlan.eps.surrey.ac.uk/savee/",
    citation="""@inproceedings{haq2009savee,
  title = {Speaker-dependent audio-visual emotion recognition},
  author = {Haq, Sanaul and Jackson, Philip J. B.},
  booktitle = {Proceedings of the International Conference on Auditory-Visual Speech Processing (AVSP)},
  pages = {53--58},
  year = {2009}
}""",
)

# The last folder and the name, or the name alone: DC/a01, DC_a01.
FIELDS = re.compile(r"(?:.*/)?(?P<speaker>DC|JE|JK|KL)[/_](?P<emotion>sa|su|a|d|f|h|n)(?P<number>\d\d)", re.IGNORECASE)
EMOTION_OF_CODE = {
    "a": "angry",
    "d": "disgust",
    "f": "fear",
    "h": "happy",
    "n": "neutral",
    "sa": "sad",
    "su": "surprise",
}


def read(root: Path) -> list[Row]:
    """
    The clips of SAVEE below `root`, in a folder per speaker or with the speaker in the name.

    Raises:
        CorpusError: if there is no such folder, or no clip of SAVEE in it.
    """
    files = audio_files(root, NAME)
    rows = []
    for path in files:
        # A folder of one speaker may itself be `root`.
        if fields := FIELDS.fullmatch(stem(Path(root.resolve().name) / path)):
            rows.append(
                Row(
                    path=str(root / path),
                    name=stem(path),
                    emotion=EMOTION_OF_CODE[fields["emotion"].lower()],
                    speaker=fields["speaker"].upper(),
                    gender=MALE,
                    performance="".join(fields.groups()).upper(),
                )
            )
    return require_rows(rows, files, root, NAME, LOOKED_FOR)
