"""The figures on the test part, and how they came about."""

from hf_ser.hub.card.split import shared_speakers
from hf_ser.hub.card.words import Results, capital, known, percent, table
from hf_ser.wording import counted, listed, per_cent

#: The figures of a part, in the order of the card: key in `results.json`, name.
METRICS = {
    "uar": "UAR (unweighted average recall)",
    "accuracy": "Accuracy",
    "f1_weighted": "F1, weighted",
    "f1_macro": "F1, macro",
    "eer": "EER (equal error rate; lower is better)",
}
SHORT_METRICS = {
    "uar": "UAR",
    "accuracy": "accuracy",
    "f1_weighted": "weighted F1",
    "f1_macro": "macro F1",
    "eer": "EER",
}


def tested_on(results: Results) -> str:
    """The clips of the test part, whose they are, and how many of those were in training."""
    part = results["split"]["parts"]["test"]
    clips = results["metrics"]["test"].get("clips") or part.get("clips")
    number, unknown, shared = part.get("speakers"), part.get("clips_without_speaker"), shared_speakers(results)
    if not number:
        return counted(clips, "clip") + (" of unknown speakers" if unknown else "")
    trained_on = ""
    if shared:
        which = "all" if shared >= number else "one" if shared == 1 else shared
        trained_on = f", {which} of whom it was trained on"
    if unknown:
        whose = f"{clips - unknown:,} of {counted(number, 'known speaker')}{trained_on}"
        return f"{counted(clips, 'clip')} ({whose}, {unknown:,} of unknown ones)"
    new = f" who {'is' if number == 1 else 'are'} not in its training data" if shared == 0 else ""
    return f"{counted(clips, 'clip')} of {counted(number, 'speaker')}{new}{trained_on}"


def headline_interval(results: Results) -> str:
    """The UAR's interval: by speaker, which says more of other people, or else by clip."""
    intervals = results["metrics"]["test"].get("intervals") or {}
    for unit in ("speakers", "clips"):
        if edges := interval(results, unit, "uar"):
            return f" ({100 * intervals['level']:g} % interval, by {unit[:-1]}: {edges})"
    return ""


def guessing(results: Results) -> str:
    """What a model that knows nothing reaches: each emotion is right in one of as many guesses as there are emotions."""
    number = len(results["emotions"])
    return f"guessing each of its {number} emotions equally often has {percent(1 / number)} UAR"


def chance(results: Results) -> str:
    """What guessing reaches, and what the most frequent emotion."""
    matrix = results["metrics"]["test"].get("confusion_matrix")
    if not matrix:
        return f"{capital(guessing(results))}."
    clips = [sum(row) for row in matrix]
    return (
        f"{capital(guessing(results))}; always answering the most frequent emotion would be right for "
        f"{percent(max(clips) / sum(clips))} of the clips."
    )


def figures_table(results: Results) -> str:
    """Each metric on the test part, with its intervals."""
    test = results["metrics"]["test"]
    units = [unit for unit in ("clips", "speakers") if (test.get("intervals") or {}).get(unit)]
    probe = probe_metrics(results)
    rows = [
        [
            name,
            percent(test[key]),
            *(interval(results, unit, key) or "-" for unit in units),
            *([percent(probe.get(key)) or "-"] if probe else []),
        ]
        for key, name in METRICS.items()
        if test.get(key) is not None
    ]
    return table(["Metric", "Test", *intervals_head(results), *(["Probe"] if probe else [])], rows)


def probe_metrics(results: Results) -> Results:
    """The metrics of the probe on the test part; none where the model is the probe itself."""
    if results.get("method") == "probe":
        return {}
    return (results.get("probe") or {}).get("test") or {}


def probe_note(results: Results) -> str:
    """What the probe is, and what fine-tuning brought beside it."""
    probe = results.get("probe") or {}
    if results.get("method") == "probe":
        return (
            "The model is a probe: a logistic regression on statistics of the frozen encoder, solved on the training part "
            f"without gradient steps (L2 penalty of C={probe.get('C', 0):g}, by cross-validation over training speakers)."
        )
    there, here = probe_metrics(results).get("uar"), results["metrics"]["test"].get("uar")
    if there is None or here is None:
        return ""
    points = per_cent(here) - per_cent(there)
    brought = (
        f"{abs(points):.1f} points more" if points > 0 else f"{abs(points):.1f} points less" if points else "as much"
    )
    note = (
        "The probe is a logistic regression on the frozen encoder, solved on the same training part: what this encoder gives "
        f"without fine-tuning. The model has {brought} UAR on the same test clips."
    )
    if results["kept"].get("interpolation") == 0:
        note += " No step of the training was better on validation than the probe, so the probe was kept."
    return note


def intervals_head(results: Results) -> list[str]:
    """The heads of the columns for a metric's intervals."""
    intervals = results["metrics"]["test"].get("intervals") or {}
    level = f"{100 * intervals['level']:g} % interval" if "level" in intervals else ""
    return [f"{level}, by {unit}" for unit in ("clip", "speaker") if intervals.get(f"{unit}s")]


def interval(results: Results, unit: str, metric: str) -> str:
    """`52.3 to 64.4 %`, by `clips` or `speakers`."""
    edges = ((results["metrics"]["test"].get("intervals") or {}).get(unit) or {}).get(metric)
    return f"{per_cent(edges[0]):.1f} to {per_cent(edges[1]):.1f} %" if edges else ""


def intervals_note(results: Results) -> str:
    """How the intervals were made, and why there is none by speaker."""
    intervals = results["metrics"]["test"].get("intervals") or {}
    if not intervals.get("clips"):
        return ""
    note = f"Intervals: percentile bootstrap, {intervals['resamples']:,} resamples. Drawing clips, they say how the figures "
    note += "would move with other recordings of the same speakers"
    shared = shared_speakers(results)
    if intervals.get("speakers"):
        others = "other speakers of whom it learned, too" if shared else "other speakers"
        return f"{note}; drawing speakers, each with all of their clips, with {others}."
    reason = intervals.get("speakers_reason")
    note += ". With other speakers they would move more."
    return note + (f" There is no interval by speaker: {reason}." if reason else "")


def emotions_table(results: Results) -> str:
    """For each emotion its clips in train and test, its recall, and what it is mostly taken for."""
    test = results["metrics"]["test"]
    emotions, matrix, parts = results["emotions"], test.get("confusion_matrix"), results["split"]["parts"]
    recall = test.get("recall") or {}
    rows = []
    for i, emotion in enumerate(emotions):
        clips, found, mistaken = parts.get("test", {}).get("emotions", {}).get(emotion), recall.get(emotion), ""
        if matrix:
            clips = sum(matrix[i])
            found = matrix[i][i] / clips if clips else None
            most = max(count for j, count in enumerate(matrix[i]) if j != i)
            others = [emotions[j] for j, count in enumerate(matrix[i]) if j != i and count == most > 0]
            if others:
                mistaken = f"{listed(others[:3], 'or')} ({percent(most / clips)}{' each' if len(others) > 1 else ''})"
        learned = parts.get("train", {}).get("emotions", {}).get(emotion)
        rows.append([emotion, learned, clips, percent(found) or "-", mistaken])
    if not any(row[2] is not None for row in rows):
        return ""
    return table(["Emotion", "Clips in train", "Clips in test", "Recall", "Mostly mistaken for"], rows, left=(0, 4))


def confusion_table(results: Results) -> str:
    """Clips by true (row) and recognised (column) emotion."""
    matrix = results["metrics"]["test"].get("confusion_matrix")
    if not matrix:
        return ""
    rows = [[f"**{emotion}**", *map(int, row)] for emotion, row in zip(results["emotions"], matrix, strict=True)]
    return table(["true ↓, recognised →", *results["emotions"]], rows)


def kept_note(results: Results) -> str:
    """Which weights were kept, and by what."""
    kept = results.get("kept") or {}
    if not kept.get("by"):
        return ""
    epochs = (results.get("training") or {}).get("epochs")
    epoch = f"epoch {kept['epoch']:g}" if known(kept.get("epoch")) else "training"
    of = f" of {epochs:g}" if known(epochs) and known(kept.get("epoch")) else ""
    metric, _, part = str(kept["by"]).partition(" on ")
    if not part:
        return f"{_last(kept)} ({epoch}{of}) were kept; no part was used to choose among epochs.{_between(kept)}"
    metric = metric.removeprefix("eval_")
    value = kept.get("value")
    figure = ""
    if known(value):
        figure = f" ({percent(value)})" if metric in METRICS else f" ({value:.3g})"
    return (
        f"The weights of {epoch}{of} were kept, the best by {SHORT_METRICS.get(metric, metric)} on {part}{figure}. The test "
        f"part had no say in that.{_between(kept)}"
    )


def _last(kept: Results) -> str:
    steps = kept.get("averaged_steps")
    return f"The mean of the weights after each of the last {steps} steps" if steps else "The weights of the last epoch"


def _between(kept: Results) -> str:
    share = kept.get("interpolation")
    if share is None:
        return ""
    tried = ", ".join(percent(value) for value in kept["validation_uar"])
    return (
        f" Of the points between the probe and these weights, the one at {percent(share)} of the way was kept, the "
        f"best by UAR on validation (at equal distances from the probe on: {tried})."
    )


def taken_note(results: Results) -> str:
    """In which precision and on which part of each clip the figures were taken."""
    sentences = []
    if precision := results.get("evaluated_in"):
        sentences.append(f"Figures are per clip and taken in {precision}, whatever the model was trained in.")
    if seconds := ((results.get("training") or {}).get("arguments") or {}).get("max_seconds"):
        sentences.append(
            f"The metrics were measured on the first {seconds:g} s of each clip; the published model receives whole clips."
        )
    segments = results.get("segments") or {}
    if length := segments.get("length"):
        overlap = f", each {segments['overlap']:g} s into the next" if segments.get("overlap") else ""
        sentences.append(
            f"Longer clips were cut into segments of {length:g} s{overlap}; a clip's probabilities are the mean of its "
            "segments'."
        )
    return " ".join(sentences)
