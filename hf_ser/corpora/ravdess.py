"""RAVDESS (Livingstone and Russo 2018): 24 actors, eight emotions, 1,440 clips of speech."""

import re
from pathlib import Path

from hf_ser.corpora.about import About
from hf_ser.corpora.rows import FEMALE, MALE, Row, audio_files, require_rows, stem

NAME = "ravdess"
LOOKED_FOR = (
    "names such as Actor_01/03-01-06-01-02-01-12.wav (modality-channel-emotion-intensity-statement-repetition-actor)"
)
ABOUT = About(
    name="RAVDESS (Ryerson Audio-Visual Database of Emotional Speech and Song)",
    licence="CC BY-NC-SA 4.0: attribution, no commercial use, share alike",
    licence_id="cc-by-nc-sa-4.0",
    language="en",
    speech="acted speech: two sentences of neutral content, each said in every emotion, mostly at two intensities",
    acted=True,
    labels="asked for",
    text="fixed",
    speakers="24 professional actors (12 women and 12 men, 21 to 33 years old) with a North American accent",
    homepage="https://doi.org/10.5281/zenodo.1188976",
    citation="""@article{livingstone2018ravdess,
  title = {The {Ryerson} Audio-Visual Database of Emotional Speech and Song ({RAVDESS}): A dynamic, multimodal set of
           facial and vocal expressions in {North American English}},
  author = {Livingstone, Steven R. and Russo, Frank A.},
  journal = {PLoS ONE},
  volume = {13},
  number = {5},
  pages = {e0196391},
  year = {2018},
  doi = {10.1371/journal.pone.0196391}
}""",
)

FIELDS = re.compile(r"(?P<modality>0[123])-(?P<channel>0[12])-(?P<emotion>0[1-8])-(?P<intensity>0[12])"
                    r"-(?P<statement>0[12])-(?P<repetition>0[12])-(?P<actor>\d\d)")  # fmt: skip
EMOTION_OF_CODE = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
INTENSITY_OF_CODE = {"01": "normal", "02": "strong"}
STATEMENT_OF_CODE = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
SPEECH, VIDEO_ONLY = "01", "02"


def read(root: Path) -> list[Row]:
    """
    The speech clips of RAVDESS below `root`. Song is left out, and so is video without sound; where the same
    performance lies there both from the audio (03) and from the audio-video archive (01), the audio one is taken.

    Raises:
        CorpusError: if there is no such folder, or no clip of RAVDESS in it.
    """
    files = audio_files(root, NAME)
    performances: dict[str, tuple[str, Row]] = {}
    copies: list[Row] = []
    for path in files:
        fields = FIELDS.fullmatch(path.stem)
        if fields is None or fields["channel"] != SPEECH or fields["modality"] == VIDEO_ONLY:
            continue
        row = Row(
            path=str(root / path),
            name=stem(path),
            emotion=EMOTION_OF_CODE[fields["emotion"]],
            speaker=fields["actor"],
            gender=MALE if int(fields["actor"]) % 2 else FEMALE,
            performance=path.stem[3:],
            extras={
                "intensity": INTENSITY_OF_CODE[fields["intensity"]],
                "statement": STATEMENT_OF_CODE[fields["statement"]],
            },
        )
        performance = path.stem[3:]
        modality, _taken = performances.get(performance, ("", row))
        if modality == fields["modality"]:
            copies.append(row)  # the same name in two folders: told apart by their audio, later
        elif fields["modality"] > modality:
            performances[performance] = (fields["modality"], row)
    rows = [row for _, row in performances.values()] + copies
    return require_rows(rows, files, root, NAME, LOOKED_FOR)
