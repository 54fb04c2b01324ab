"""The model card of a run: `template.md`, filled from `results.json` and `report.json`."""

from hf_ser.hub.card.card import PICTURES, make_card, read_report, write_card

__all__ = ["PICTURES", "make_card", "read_report", "write_card"]
