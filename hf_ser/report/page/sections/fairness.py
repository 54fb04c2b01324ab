"""How far the answers depend on the speaker's gender."""

from collections.abc import Mapping
from typing import Any

from hf_ser.evaluation.fairness import FIGURES
from hf_ser.report.page.blocks import Cell, Paragraph, Section, Table
from hf_ser.report.page.cells import count, label, percent
from hf_ser.report.page.reading import part
from hf_ser.report.page.words import NOT_HERE


def fairness_section(report: Mapping[str, Any]) -> Section:
    heading = ("fairness", "Fairness")
    fairness = part(report, "fairness")
    if not fairness:
        return Section(*heading, [Paragraph(NOT_HERE)])
    chance = part(fairness, "by_chance")
    blocks: list[Any] = [
        Paragraph(
            "How far the answers depend on the speaker's gender: 0 is not at all. Demographic parity compares what is "
            "recognised, whatever the truth; equality of odds does so for the clips of each true emotion."
        ),
        Paragraph(
            "With the shares P of the clips of two genders g and h, demographic parity is ½ Σₖ |P(k | g) - P(k | h)|, the sum "
            "over the emotions k that are recognised; equality of odds is the mean over the true emotions j of "
            "½ Σₖ |P(k | g, j) - P(k | h, j)|. Of more genders the two farthest apart count."
        ),
        Table("Fairness between the genders", ["figure", "value", "by chance, median", "by chance, 95th percentile"], [
            [label(key.replace("_", " ")), percent(fairness.get(key)),
             *(percent(part(chance, key).get(one)) for one in ("median", "p95"))]
            for key in FIGURES
        ]),
    ]  # fmt: skip
    if any(part(chance, key) for key in FIGURES):
        blocks.append(
            Paragraph(
                f"By chance: if gender made no difference; it was dealt to the clips by lot, {chance.get('draws', 0):,} times. "
                "That single speakers differ, of whatever gender, makes more where they are few."
            )
        )
    rows = [[label(gender), count(number)] for gender, number in part(fairness, "clips").items()]
    rows += [[label("unknown"), count(fairness["unknown"])]] if fairness.get("unknown") else []
    if rows:
        blocks.append(Table("Clips of each gender", ["gender", "clips"], rows))
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
