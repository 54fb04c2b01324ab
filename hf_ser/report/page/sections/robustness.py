"""What it can do in noise and otherwise distorted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_ser.report.page.blocks import Cell, Paragraph, Section, Table
from hf_ser.report.page.cells import count, interval_cell, percent, points
from hf_ser.report.page.pictures import picture
from hf_ser.report.page.reading import interval_level, part
from hf_ser.report.page.words import NOT_HERE
from hf_ser.wording import counted


def robustness_section(report: Mapping[str, Any], pictures: Mapping[str, Path]) -> Section:
    heading = ("robustness", "Robustness")
    robust = part(report, "robustness")
    if not robust:
        return Section(*heading, [Paragraph(NOT_HERE)])
    number = f": {counted(robust['clips'], 'clip')}" if robust.get("clips") is not None else ""
    number += f", drawn from {robust['of']:,}" if robust.get("of") and robust["of"] != robust.get("clips") else ""
    told = f"The same clips under each condition{number}"
    told += f"; noise and rooms drawn with the seed {robust['seed']}." if robust.get("seed") is not None else "."
    return Section(*heading, [Paragraph(told), *picture("robustness", pictures), conditions_table(report)])


def conditions_table(report: Mapping[str, Any]) -> Table:
    rows = []
    robust = part(report, "robustness")
    conditions = robust.get("conditions") or []
    # Where all of them are of the same clips, the line above says how many.
    alike = all(entry.get("clips") in (None, robust.get("clips")) for entry in conditions)
    for place, entry in enumerate(conditions):
        # Sorted in the order in which they are measured: by their names, 5 dB would come after 30.
        name = Cell(entry["name"], f"place {place:04d}")
        figures = (percent(entry.get("uar")), interval_cell(entry.get("interval")), points(entry.get("difference")))
        rows.append([name, *figures] if alike else [name, count(entry.get("clips")), *figures])
    columns = ["UAR", f"{interval_level(report)} interval", "points from clean"]
    return Table("UAR by condition", ["condition", *([] if alike else ["clips"]), *columns], rows)
