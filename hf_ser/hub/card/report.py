"""The report of a run, `report.json`, which `scripts/evaluate.py` writes into the run's folder."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_ser import records
from hf_ser.hub.privacy import without_paths
from hf_ser.records import REPORT
from hf_ser.rendering.blocks import METRICS
from hf_ser.rendering.tables import CARD_PICTURES
from hf_ser.results import RunResults

logger = logging.getLogger(__name__)

#: The report's plots that the card shows, by name.
PICTURES = {name: f"report/{name}.png" for name in CARD_PICTURES}
#: How far the report's UAR or CCC may lie from the run's: another device and other batches round differently.
TOLERANCE = 1e-3


def read_report(folder: Path, results: RunResults) -> dict[str, Any] | None:
    """
    The report in a run's folder, without paths of this machine. `None` if there is none; and, with a warning, if it is not
    one of this run's test part.
    """
    path = folder / REPORT
    if not path.is_file():
        return None
    try:
        report = records.read(path)
        reason = why_another(report, results)
    except ValueError as error:
        reason = f"it cannot be read ({error})"
    if reason:
        logger.warning("%s is left out: %s", path, reason)
        return None
    return dict(without_paths(report))


def why_another(report: Mapping[str, Any], results: RunResults) -> str | None:
    """The reason why a report is not one of this run's test part; `None` if it is."""
    if not report.get("clips") or not report.get("quality"):
        return "it is no report of scripts/evaluate.py"
    if (precision := report["model"]["precision"]) != "float32":
        return f"its metrics are of the model in {precision}"
    clips, test = report["clips"], results.test
    if clips["part"] != "test":
        return f"its clips are not the test part of the run's own split (part: {clips['part']})"
    if clips["number"] != test["clips"]:
        return f"it has {clips['number']} clips, and the run's test part {test['clips']}"
    main = results.main_metric
    form, ours = METRICS[main][1], test.get(main)
    theirs = report["quality"]["overall"].get(main)
    if (theirs is None) != (ours is None) or (ours is not None and abs(theirs - ours) > TOLERANCE):
        found = f"{form(theirs).text}, and the run's {form(ours).text}"
        return f"its {main.upper()} is {found}: it is of another model, or of other clips"
    return None
