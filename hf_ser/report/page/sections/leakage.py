"""What the clips share with those that the model has learned from."""

from collections.abc import Mapping
from typing import Any

from hf_ser.report.page.blocks import Paragraph, Section, Table
from hf_ser.report.page.cells import decimal, label
from hf_ser.report.page.reading import part


def leakage_section(report: Mapping[str, Any]) -> Section:
    leakage = part(report, "leakage")
    blocks: list[Any] = []
    speakers, duplicates = leakage.get("speakers"), leakage.get("duplicates")
    if speakers is not None:
        told = f"Speakers of these clips who were in training, too: {', '.join(speakers) or 'none'}."
        blocks.append(Paragraph(told))
    if duplicates:
        rows = [[label(entry["clip"]), label(entry["train_clip"]), decimal(entry.get("similarity"), 4),
                 label("the same" if entry.get("exact") else "nearly the same")] for entry in duplicates]  # fmt: skip
        blocks.append(
            Table("Clips that were in training, too", ["clip", "clip in training", "similarity", "which"], rows)
        )
    elif duplicates is not None:
        blocks.append(Paragraph("Clips that were in training, too, or nearly the same: none."))
    if speakers is None or duplicates is None:
        reason = f": {leakage['reason']}" if leakage.get("reason") else ""
        missing = " and ".join(name for name, found in (("speakers", speakers), ("clips", duplicates)) if found is None)
        blocks.append(Paragraph(f"Whether {missing} were in training, too, is not known{reason}."))
    elif leakage.get("reason"):
        blocks.append(Paragraph(f"{leakage['reason']}"))
    return Section("leakage", "Leakage", blocks)
