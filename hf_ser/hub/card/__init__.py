"""The model card of a run: `template.md`, filled from `results.json` and `report.json`."""

from hf_ser.hub.card.card import CARD, make_card, write_card
from hf_ser.hub.card.report import PICTURES, read_report, why_another
from hf_ser.hub.card.text import about, chance, shared_speakers, speakers, split_kind

__all__ = [
    "CARD",
    "PICTURES",
    "about",
    "chance",
    "make_card",
    "read_report",
    "shared_speakers",
    "speakers",
    "split_kind",
    "why_another",
    "write_card",
]
