"""The model card of a run: `template.md`, filled from `results.json` and `report.json`."""

from hf_ser.hub.card.card import CARD, make_card, write_card
from hf_ser.hub.card.report import PICTURES, read_report

__all__ = ["CARD", "PICTURES", "make_card", "read_report", "write_card"]
