"""What the model can do on all clips."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_ser.report.page.blocks import Paragraph, Section, Table
from hf_ser.report.page.cells import count, decimal, interval_cell, label, percent
from hf_ser.report.page.pictures import picture
from hf_ser.report.page.reading import emotion_names, interval_level, part
from hf_ser.report.page.words import METRICS, NOT_HERE
from hf_ser.wording import counted


def quality_section(report: Mapping[str, Any], pictures: Mapping[str, Path]) -> Section:
    quality = part(report, "quality")
    overall = part(quality, "overall")
    if not overall:
        return Section("quality", "Quality", [Paragraph(NOT_HERE)])
    intervals = part(quality, "intervals")
    blocks: list[Any] = [
        Paragraph(
            "UAR, the unweighted average recall, is the mean of the emotions' recalls: each counts alike, however many clips "
            "it has. EER is the equal error rate of one emotion against the others, ECE the expected calibration error. Of "
            "EER, ECE and log loss the lower is the better."
        ),
        metrics_table(report),
    ]
    if intervals.get("resamples"):
        told = (
            f"Intervals: percentile bootstrap of {intervals['resamples']:,} resamples of clips, or of whole speakers."
        )
        if intervals.get("speakers_reason"):
            told += f" None by speaker: {intervals['speakers_reason']}."
        blocks.append(Paragraph(told))
    blocks += [*picture("recall", pictures), emotions_table(report)]
    blocks += picture("confusion_matrix", pictures)
    if overall.get("confusion_matrix"):
        blocks.append(confusion_table("Clips by true and recognised emotion", overall, emotion_names(report)))
    if bins := quality.get("reliability"):
        blocks += picture("reliability", pictures)
        rows = [[percent(entry.get("confidence")), percent(entry.get("accuracy")), count(entry.get("clips"))]
                for entry in bins]  # fmt: skip
        blocks.append(Table("Reliability: how sure the model is, and how often it is right then",
                            ["mean probability of what is recognised", "right", "clips"], rows))  # fmt: skip
    return Section("quality", "Quality", blocks)


def metrics_table(report: Mapping[str, Any]) -> Table:
    quality = report["quality"]
    overall, intervals = quality["overall"], part(quality, "intervals")
    rows = []
    for key, (name, share) in METRICS.items():
        value = percent(overall.get(key)) if share else decimal(overall.get(key))
        drawn = (interval_cell(part(intervals, by).get(key), share=share) for by in ("clips", "speakers"))
        rows.append([label(name), value, *drawn])
    level = interval_level(report)
    caption = f"All {counted(overall['clips'], 'clip')}" if overall.get("clips") is not None else "All clips"
    return Table(caption, ["figure", "value", f"{level} interval by clips", f"{level} interval by speakers"], rows)


def emotions_table(report: Mapping[str, Any]) -> Table:
    quality = report["quality"]
    overall, intervals = quality["overall"], part(quality, "recall_intervals")
    eer_intervals = part(quality, "eer_by_emotion_intervals")
    recall, eer, matrix = part(overall, "recall"), part(overall, "eer_by_emotion"), overall.get("confusion_matrix")
    rows = []
    for k, emotion in enumerate(emotion_names(report)):
        clips, said = (sum(matrix[k]), sum(row[k] for row in matrix)) if matrix else (None, None)
        precision = matrix[k][k] / said if matrix and said else None
        rows.append([label(emotion), count(clips), percent(recall.get(emotion)), interval_cell(intervals.get(emotion)),
                     percent(precision), percent(eer.get(emotion)), interval_cell(eer_intervals.get(emotion))])  # fmt: skip
    level = f"{interval_level(report)} interval"
    return Table("By emotion", ["emotion", "clips", "recall", level, "precision", "EER", level], rows)


def confusion_table(caption: str, figures: Mapping[str, Any], emotions: Sequence[str]) -> Table:
    rows = [
        [label(emotion), *map(count, row)] for emotion, row in zip(emotions, figures["confusion_matrix"], strict=True)
    ]
    return Table(caption, ["true emotion", *(f"as {emotion}" for emotion in emotions)], rows)
