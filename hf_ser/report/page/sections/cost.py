"""What it takes: time, memory, operations, disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_ser.report.page.blocks import Cell, Facts, Paragraph, Section, Table
from hf_ser.report.page.cells import count, milliseconds
from hf_ser.report.page.pictures import picture
from hf_ser.report.page.reading import part
from hf_ser.report.page.words import NOT_HERE, bytes_text
from hf_ser.wording import counted


def cost_section(report: Mapping[str, Any], pictures: Mapping[str, Path]) -> Section:
    cost = part(report, "cost")
    if not cost:
        return Section("cost", "Cost", [Paragraph(NOT_HERE)])
    device, flow, memory, parameters, flops, size = (
        part(cost, key) for key in ("device", "throughput", "memory", "parameters", "flops", "size")
    )
    rows: list[tuple[str, str]] = []
    if device:
        rows.append(("device", f"{device['name']}, {counted(device['threads'], 'thread')}, {device['dtype']}"))
        rows.append(("machine", f"{counted(device['processors'], 'processor')}, {device['load']:.2f} of them busy in the "
                                f"minute before, with this report or else; torch {device['torch']}"))  # fmt: skip
    if flow:
        clips = (
            f"{flow['clips']:,} clips of {flow['shortest']:g} to {flow['longest']:g} s, {flow['seconds']:,.1f} s in all"
        )
        wall = f"{counted(flow['passes'], 'time')} in {flow['wall_seconds']:,.2f} s"
        rows.append(("throughput", f"{flow['speech_per_second']:,.1f} s of speech per second ({clips}, {wall}, batches of "
                                   f"{flow['batch_seconds']:g} s)"))  # fmt: skip
    if memory:
        before = f"; {bytes_text(memory['before_bytes'])} before" if memory.get("before_bytes") is not None else ""
        rows.append(("peak memory", f"{bytes_text(memory['peak_bytes'])}{before} ({memory['of']})"))
    if parameters:
        adapter = f", {parameters['adapter']:,} of them its adapter's" if parameters.get("adapter") else ""
        rows.append(("parameters", f"{parameters['total']:,}{adapter}"))
    if flops:
        rows.append(("operations", f"{flops['per_second'] / 1e9:,.3g} GFLOP per second of speech, {flops['total'] / 1e9:,.3g} "
                                   f"GFLOP for a clip of {flops['seconds']:g} s ({flops['counted']})"))  # fmt: skip
    rows += [
        (name, bytes_text(size[key]))
        for key, name in (("model_bytes", "model on disk"), ("adapter_bytes", "adapter on disk"))
        if size.get(key)
    ]
    blocks: list[Any] = [Facts(rows)]
    if cost.get("latency"):
        blocks += [*picture("latency", pictures), latency_table(report)]
    return Section("cost", "Cost", blocks)


def latency_table(report: Mapping[str, Any]) -> Table:
    rows = [
        [Cell(f"{entry['seconds']:g} s", float(entry["seconds"])), milliseconds(entry["median_ms"]),
         milliseconds(entry["p95_ms"]), count(entry["runs"])]
        for entry in report["cost"]["latency"]
    ]  # fmt: skip
    return Table(
        "Latency: one clip, from its waveform to its probabilities",
        ["length", "median", "95th percentile", "runs"],
        rows,
    )
