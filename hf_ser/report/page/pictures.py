"""The pictures of [`~hf_ser.report.plots.draw`], inside the page."""

import base64
import mimetypes
from collections.abc import Mapping
from pathlib import Path

from hf_ser.report.page.blocks import Picture

#: Pictures, what is under them, and what is said to those who do not see them.
PICTURES = {
    "confusion_matrix": ("Recognised emotions by true emotion, in per cent of each row and as clips.", "the table below"),
    "recall": ("Recall of each emotion with its interval; the dashed line is their mean, the UAR.", "the table below"),
    "reliability": ("How often the model is right, against how sure it is, and how many clips are that sure.",
                    "the table below"),
    "speakers": ("UAR of each speaker, by corpus and gender; the short lines are the groups' means.", "the table below"),
    "robustness": ("UAR against the signal-to-noise ratio with intervals, and under other conditions, beside the clean clips.",
                   "the table below"),
    "latency": ("Time for one clip against its length: median and 95th percentile.", "the table below"),
}  # fmt: skip


def picture(name: str, pictures: Mapping[str, Path]) -> list[Picture]:
    """The picture inside the page, if there is one."""
    if name not in pictures:
        return []
    caption, told = PICTURES[name]
    kind = mimetypes.guess_type(pictures[name].name)[0] or "image/png"
    data = base64.b64encode(pictures[name].read_bytes()).decode("ascii")
    return [Picture(caption, f"{caption} The figures are in {told}.", f"data:{kind};base64,{data}")]
