"""How far the answers depend on the speaker's gender."""

from collections.abc import Mapping
from typing import Any

from hf_ser.report.page.blocks import Cell, Paragraph, Section, Table
from hf_ser.report.page.cells import count, label, percent
from hf_ser.report.page.reading import part
from hf_ser.report.page.words import NOT_HERE


def fairness_section(report: Mapping[str, Any]) -> Section:
    heading = ("fairness", "Fairness")
    fairness = part(report, "fairness")
    if not fairness:
        return Section(*heading, [Paragraph(NOT_HERE)])
    blocks: list[Any] = [
        Paragraph(
            "How far the answers depend on the speaker's gender: 0 is not at all. Demographic parity compares what is "
            "recognised, whatever the truth; equality of odds does so for the clips of each true emotion."
        ),
        Table("Fairness between the genders", ["figure", "value"], [
            [label("demographic parity"), percent(fairness.get("demographic_parity"))],
            [label("equality of odds"), percent(fairness.get("equality_of_odds"))],
            *([label(f"clips, {gender}"), count(number)] for gender, number in part(fairness, "clips").items()),
            *([[label("clips, gender unknown"), count(fairness["unknown"])]] if fairness.get("unknown") else []),
        ]),
    ]  # fmt: skip
    if fairness.get("reason"):
        blocks.append(Paragraph(f"What is missing: {fairness['reason']}."))
    flat = {emotion: _flat(entry) for emotion, entry in part(fairness, "by_emotion").items()}
    if columns := list(dict.fromkeys(column for entry in flat.values() for column in entry)):
        rows = [[label(emotion), *(_rate(entry.get(column)) for column in columns)] for emotion, entry in flat.items()]
        blocks.append(Table("Genders by emotion", ["emotion", *columns], rows))
    return Section(*heading, blocks)


def _rate(value: Any) -> Cell:
    return count(value) if isinstance(value, int) else percent(value)


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Rates by gender, each under its own name: `selection rate, female`."""
    found: dict[str, Any] = {}
    for key, value in entry.items():
        name = str(key).replace("_", " ")
        if isinstance(value, Mapping):
            found |= {f"{name}, {inner}": item for inner, item in _flat(value).items()}
        else:
            found[name] = value
    return found
