"""The report as one HTML page."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from hf_ser.report.page.blocks import Items, Paragraph, Section
from hf_ser.report.page.cautions import warnings
from hf_ser.report.page.headline import answers, main_figure, subtitle, tiles, title
from hf_ser.report.page.pictures import PICTURES
from hf_ser.report.page.sections.clips import clips_section
from hf_ser.report.page.sections.comparison import comparison_section
from hf_ser.report.page.sections.cost import cost_section
from hf_ser.report.page.sections.fairness import fairness_section
from hf_ser.report.page.sections.groups import groups_section
from hf_ser.report.page.sections.leakage import leakage_section
from hf_ser.report.page.sections.model import model_section
from hf_ser.report.page.sections.quality import quality_section
from hf_ser.report.page.sections.robustness import robustness_section

TEMPLATE = "page.html.jinja"


def page(report: Mapping[str, Any], pictures: Mapping[str, Path]) -> str:
    """
    One HTML page that needs no other file and asks nothing of the network.

    Args:
        report (`dict`): The report; parts may be missing. Its `comparison` is what
            [`~hf_ser.evaluation.paired.compare`] returns for the other model, the first, and this one, the second.
        pictures (`dict[str, Path]`): Some of `PICTURES`, as [`~hf_ser.report.plots.draw`] returns them.

    Raises:
        ValueError: if there is no place for a picture.
    """
    if strangers := sorted(set(pictures) - set(PICTURES)):
        raise ValueError(f"pictures: there is no place for {', '.join(strangers)}; there is for {', '.join(PICTURES)}")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(files("hf_ser.report.page").joinpath(TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        title=title(report),
        subtitle=subtitle(report),
        main=main_figure(report),
        tiles=tiles(report),
        answers=answers(report),
        warnings=warnings(report),
        sections=[
            model_section(report),
            clips_section(report),
            quality_section(report, pictures),
            groups_section(report, pictures),
            comparison_section(report),
            fairness_section(report),
            robustness_section(report, pictures),
            cost_section(report, pictures),
            leakage_section(report),
            Section("notes", "Notes", [Items(report["notes"])] if report.get("notes") else [Paragraph("None.")]),
        ],
    )
