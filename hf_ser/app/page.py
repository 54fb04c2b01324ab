"""The page: a recording's emotions, and for a longer recording its timeline."""

import html
import math
import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

from hf_ser import records
from hf_ser.audio import SAMPLING_RATE, AudioError, read_mono
from hf_ser.hub import fetch_records
from hf_ser.inference.clips import printable
from hf_ser.inference.files import save
from hf_ser.inference.plots import plot_plane, plot_timeline
from hf_ser.pipeline import SERPipeline, pipeline
from hf_ser.rendering.blocks import METRICS
from hf_ser.results import RunResults
from hf_ser.wording import counted, listed, visible

#: Longer recordings get a timeline: the seconds of a window, the largest number of windows, the seconds of the shortest segment.
WINDOW, WINDOWS, SEGMENT = 3.0, 120, 1.0
#: The longest recording that is accepted, in seconds, and the largest file: five minutes of 48 kHz stereo in 24 bit are 86 MB.
LONGEST, LARGEST = 300.0, "90 MB"
#: The number of users that may wait for results. One recording is computed at a time.
WAITING = 100
#: Recordings are deleted after this many seconds.
KEPT = 3600
LIMITS = (
    "The model compares a voice with the recordings that it was trained on. **It cannot read what people feel**, and is often "
    "wrong, most of all about other speakers, languages, rooms and microphones. Do not judge anyone by it."
)


def make_page(
    model: str,
    *,
    base: str | None = None,
    revision: str | None = None,
    title: str | None = None,
    examples: str | Path | None = None,
) -> gr.Interface:
    """
    The page of a model, which [`launch`] opens.

    Args:
        model, base, revision: See [`~hf_ser.pipeline.pipeline`].
        title (`str`, *optional*): The page's heading, by default the model's name.
        examples (`str` or `Path`, *optional*): A folder of clips to try the model with.
    """
    recogniser = pipeline(model, base=base, revision=revision)
    clips = [[str(path)] for path in sorted(Path(examples).iterdir())] if examples else None
    folder = tempfile.TemporaryDirectory(prefix="hf_ser-")  # for the files to download

    def predict(path: str | None) -> list[Any]:
        nonlocal folder
        folder.cleanup()  # Gradio has copied its files
        folder = tempfile.TemporaryDirectory(prefix="hf_ser-")
        return _predict(recogniser, path, Path(folder.name))

    recording = gr.Audio(
        label=f"Speech, up to {LONGEST / 60:.0f} minutes and {LARGEST}", type="filepath", elem_id="recording"
    )
    outputs = [
        gr.Label(label="The model's probabilities", elem_id="probabilities"),
        gr.Plot(label=f"Windows of {WINDOW:g} s, each by itself", elem_id="plot"),
        gr.Dataframe(headers=["start, s", "stop, s", "emotion", "probability"], label="Segments", elem_id="segments"),
        gr.File(label="Segments to download", elem_id="files"),
    ]
    if recogniser.dimensions:
        outputs.append(gr.Plot(label="Valence and arousal, and the windows' path through them", elem_id="plane"))
    page = gr.Interface(
        predict,
        recording,
        outputs,
        title=html.escape(title or Path(model).name),
        description=(recogniser.emotions and _escaped(f"Does the voice sound {listed(recogniser.emotions, 'or')}?"))
        or None,
        article=f"{LIMITS}\n\n{_escaped(describe(model, revision))}",
        examples=clips,
        cache_examples=False,
        flagging_mode="never",
        analytics_enabled=False,
        delete_cache=(KEPT, KEPT),
        api_name="predict",
    )
    with page:  # the results of one recording are not shown beside another
        recording.change(lambda: [None] * len(outputs), None, outputs, show_progress="hidden", api_visibility="private")
    return page


def launch(page: gr.Interface, **options: Any) -> None:
    """Opens a page. It loads nothing from other servers, shares no link, and keeps no recording for long."""
    fonts = {"font": ("system-ui", "sans-serif"), "font_mono": ("ui-monospace", "monospace")}
    page.queue(max_size=WAITING, default_concurrency_limit=1)
    page.launch(theme=gr.themes.Default(**fonts), max_file_size=LARGEST.replace(" ", ""), share=False, **options)


def describe(model: str, revision: str | None = None) -> str:
    """The training and the test of the model, in Markdown, from the `results.json` of its run."""
    folder = Path(model).expanduser()
    name = f"`{folder.resolve().name}`" if folder.is_dir() else f"[{model}](https://huggingface.co/{model})"
    try:
        results = RunResults.read(records.run_of(folder) or fetch_records(model, revision=revision))
        test, shared = results.test, results.shared_speakers()
        shown = {key: test[key] for key in (results.main_metric, "accuracy") if test.get(key) is not None}
        metrics = ", ".join(f"{METRICS[key][0]} {METRICS[key][1](value).text}" for key, value in shown.items())
        clips = counted(test["clips"], "clip")
    except (OSError, ValueError, LookupError, TypeError):  # of unknown origin
        return f"**Model:** {name}. Without a run's `results.json`: what it was trained and tested on is not known."
    speakers = "speakers not known" if shared is None else f"speakers who were in training: {shared}"
    return (
        f"**Model:** {name}, `{Path(results.base_model).name}` fine-tuned (`{results.method}`) on "
        f"{', '.join(results.corpora)}. **Test:** {metrics or 'no metric'} on {clips} ({speakers})."
    )


def _predict(recogniser: SERPipeline, path: str | None, folder: Path) -> list[Any]:
    """The page's outputs for a recording: probabilities, and for a longer one plot, table and files in `folder`."""
    if path is None:
        raise _error("There is no recording yet: record or upload one first.")
    try:
        waveform = read_mono(path, longest=LONGEST)
        recording = {"array": waveform, "sampling_rate": SAMPLING_RATE}
        probabilities = {row["label"]: row["score"] for row in recogniser(recording)}
    except AudioError as error:
        raise _error(f"{printable(Path(path).name)} is {error.reason}: {error.detail}.") from error
    length = len(waveform) / SAMPLING_RATE
    dimensions = {name: probabilities.pop(name) for name in recogniser.dimensions}
    shown = probabilities or dimensions
    timeline = None
    if length > WINDOW:
        hop = min(max(0.5, length / WINDOWS), WINDOW)
        timeline = recogniser.timeline(recording, window=WINDOW, hop=hop, minimum=SEGMENT)
    plane = [plot_plane(dimensions, timeline)] if recogniser.dimensions else []
    if timeline is None:
        return [shown, None, None, None, *plane]
    files = [folder / f"{printable(Path(path).stem)}{suffix}" for suffix in (".csv", ".TextGrid")]
    for file in files:
        save(timeline.segments, file)
    rows = [[f"{s.start:.2f}", f"{s.stop:.2f}", s.emotion, _per_cent(s.probability)] for s in timeline]
    return [shown, plot_timeline(waveform, timeline), rows, list(map(str, files)), *plane]


def _escaped(text: str) -> str:
    """Markdown in which no name is HTML or begins a line."""
    return visible(text).replace("<", "&lt;")


def _error(message: str) -> gr.Error:
    # Gradio shows the message as HTML, and it may contain the name of a file.
    return gr.Error(html.escape(message), duration=60, print_exception=False)


def _per_cent(probability: float) -> str:
    return "" if math.isnan(probability) else f"{100 * probability:.0f} %"
