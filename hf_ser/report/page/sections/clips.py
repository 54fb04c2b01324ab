"""On which clips the figures were taken."""

from collections.abc import Mapping
from typing import Any

from hf_ser.report.page.blocks import Facts, Paragraph, Section, Table
from hf_ser.report.page.cells import count, label
from hf_ser.report.page.reading import part
from hf_ser.report.page.words import NOT_HERE, duration_text


def clips_section(report: Mapping[str, Any]) -> Section:
    clips = part(report, "clips")
    if not clips:
        return Section("clips", "Clips", [Paragraph(NOT_HERE)])
    rows = [("part", clips.get("part")), ("split", clips.get("split"))]
    rows += [(name, f"{clips[name]:,}") for name in ("number", "speakers") if clips.get(name) is not None]
    rows += [("duration", duration_text(clips["seconds"]))] if clips.get("seconds") is not None else []
    rows += [("heard", f"the first {clips['max_seconds']:g} s of each clip")] if clips.get("max_seconds") else []
    blocks: list[Any] = [Facts([(name, str(value)) for name, value in rows if value])]
    for key, name, caption in (
        ("corpora", "corpus", "Clips by corpus"),
        ("emotions", "emotion", "Clips by emotion"),
        ("set_aside", "reason", "Clips that were set aside"),
        ("left_out", "emotion", "Clips that were left out: the model does not know their emotion"),
    ):
        if table := part(clips, key):
            blocks.append(Table(caption, [name, "clips"], [[label(group), count(n)] for group, n in table.items()]))
    return Section("clips", "Clips", blocks)
