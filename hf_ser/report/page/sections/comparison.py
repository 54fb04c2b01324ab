"""The model beside another on the same clips."""

from collections.abc import Mapping, Sequence
from typing import Any

from hf_ser.report.page.blocks import Paragraph, Section, Table
from hf_ser.report.page.cells import count, label, p_value, percent, points, points_interval
from hf_ser.report.page.reading import part
from hf_ser.report.page.words import METRICS, NOT_HERE
from hf_ser.wording import counted


def comparison_section(report: Mapping[str, Any]) -> Section:
    heading = ("comparison", "Comparison")
    comparison = part(report, "comparison")
    if not comparison:
        return Section(*heading, [Paragraph(NOT_HERE)])
    other, clips, mcnemar = _other(comparison), _clips(comparison), part(comparison, "mcnemar")
    blocks: list[Any] = [
        Paragraph(
            f"With {other}, on the same {counted(clips, 'clip') if clips else 'clips'}. A difference is this model's figure "
            "less the other's, in points; where its interval excludes 0, it is unlikely to be chance."
        )
    ]
    blocks.append(_figures(comparison, f"This model and {other}", ("clips", "speakers")))
    for unit, one in (("clips", "clip"), ("speakers", "speaker")):
        if comparison.get(f"{unit}_reason"):
            blocks.append(Paragraph(f"No interval by {one}: {comparison[f'{unit}_reason']}."))
    if mcnemar:
        blocks.append(Table("Clips that the models have right", ["", f"{other} is right", f"{other} is wrong"], [
            [label("this model is right"), count(mcnemar.get("both")), count(mcnemar.get("only_second"))],
            [label("this model is wrong"), count(mcnemar.get("only_first")), count(mcnemar.get("neither"))],
        ]))  # fmt: skip
        blocks.append(Paragraph(f"McNemar's exact test, p: {p_value(mcnemar.get('p')).text}. It takes clips to be "
                                "independent, which those of one speaker are not."))  # fmt: skip
    return Section(*heading, blocks)


def in_brief(report: Mapping[str, Any]) -> Table:
    """The two models' figures for the console, with one interval: by speakers, if there is one."""
    comparison = part(report, "comparison")
    p = p_value(part(comparison, "mcnemar").get("p")).text
    caption = (
        f"This model and {_other(comparison)}, {counted(_clips(comparison), 'clip')}; McNemar's exact test, p: {p}"
    )
    return _figures(comparison, caption, ("speakers",) if comparison.get("speakers") else ("clips",))


def _figures(comparison: Mapping[str, Any], caption: str, units: Sequence[str]) -> Table:
    rows = []
    first, second, difference = (part(comparison, key) for key in ("first", "second", "difference"))
    for key, (name, _) in METRICS.items():
        if key in difference:
            row = [label(name), percent(second.get(key)), percent(first.get(key)), points(difference[key])]
            for unit in units:
                drawn = part(part(comparison, unit), key)
                row += [points_interval(drawn.get("interval")), p_value(drawn.get("p"))]
            rows.append(row)
    level = f"{100 * (comparison.get('level') or 0.95):g} %"
    columns = ["figure", "this model", _other(comparison), "difference"]
    return Table(
        caption, columns + [text for unit in units for text in (f"{level} interval by {unit}", f"p by {unit}")], rows
    )


def _other(comparison: Mapping[str, Any]) -> str:
    return str(comparison.get("other") or "the other model")


def _clips(comparison: Mapping[str, Any]) -> int:
    mcnemar = part(comparison, "mcnemar")
    return sum(mcnemar.get(key) or 0 for key in ("both", "only_first", "only_second", "neither"))
