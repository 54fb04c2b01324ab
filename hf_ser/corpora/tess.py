"""TESS (Pichora-Fuller and Dupuis 2020): two women, seven emotions, 200 words, 2,800 clips."""

import re
from pathlib import Path

from hf_ser.corpora.about import About
from hf_ser.corpora.rows import FEMALE, Row, audio_files, require_rows, stem

NAME = "tess"
LOOKED_FOR = "names such as OAF_back_angry.wav (speaker_word_emotion)"
ABOUT = About(
    name="TESS (Toronto Emotional Speech Set)",
    licence="CC BY-NC-ND 4.0: attribution, no commercial use, no derivatives",
    licence_id="cc-by-nc-nd-4.0",
    language="en",
    speech="acted speech: one carrier phrase (*Say the word ...*) with 200 words, each said in every emotion",
    acted=True,
    labels="asked for",
    text="fixed",
    speakers="two women (26 and 64 years old) from the Toronto area",
    homepage="https://doi.org/10.5683/SP2/E8H2MF",
    citation="""@misc{pichorafuller2020tess,
  title = {{Toronto} emotional speech set ({TESS})},
  author = {Pichora-Fuller, M. Kathleen and Dupuis, Kate},
  howpublished = {Borealis, the Canadian Dataverse Repository},
  year = {2020},
  doi = {10.5683/SP2/E8H2MF}
}""",
)

# The corpus itself spells one clip of OAF's OA_bite_neutral.
FIELDS = re.compile(r"(?P<speaker>OAF?|YAF)_(?P<word>[a-z]+)_(?P<emotion>[a-z]+)", re.IGNORECASE)
EMOTION_OF_CODE = {
    "angry": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happy",
    "neutral": "neutral",
    "ps": "surprise",
    "sad": "sad",
}


def read(root: Path) -> list[Row]:
    """
    The clips of TESS below `root`, in one folder or in one per speaker and emotion: only the file names count.

    Raises:
        CorpusError: if there is no such folder, or no clip of TESS in it.
    """
    files = audio_files(root, NAME)
    rows = []
    for path in files:
        if fields := FIELDS.fullmatch(path.stem):
            rows.append(
                Row(
                    path=str(root / path),
                    name=stem(path),
                    emotion=EMOTION_OF_CODE.get(fields["emotion"].lower(), fields["emotion"].lower()),
                    speaker="YAF" if fields["speaker"].upper() == "YAF" else "OAF",
                    gender=FEMALE,
                    performance=path.stem.upper(),
                    extras={"statement": fields["word"].lower()},
                )
            )
    return require_rows(rows, files, root, NAME, LOOKED_FOR)
