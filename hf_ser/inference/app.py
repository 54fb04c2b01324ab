"""A web page that says which emotions a model hears in a recording. It needs Gradio: `pip install 'hf_ser[demo]'`."""

import html
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from transformers import AudioClassificationPipeline

from hf_ser import records
from hf_ser.audio import SAMPLING_RATE, AudioError, read_mono
from hf_ser.hub.card import about, chance, shared_speakers, speakers
from hf_ser.inference import Timeline, plot_timeline, predict, save, timeline
from hf_ser.inference.batches import emotions_of
from hf_ser.inference.sources import printable

#: Recordings of more seconds get a timeline, too, of windows so long.
WINDOW = 3.0
#: From one window to the next, in seconds: the first, or more where there would be more windows than this.
HOP, WINDOWS = 0.5, 120
#: No segment of the timeline is shorter, in seconds.
SEGMENT = 1.0
#: What the page takes, in seconds.
SHORTEST, LONGEST = 0.3, 300.0
#: What it lets anyone upload. Five minutes of 48 kHz stereo in 24 bit are 86 MB.
MAX_FILE_SIZE = "90mb"
#: The picture's dots per inch: sharp on a screen with two pixels to the point.
DPI = 180
#: The files to download.
EXPORTS = {".csv": "CSV", ".TextGrid": "TextGrid (Praat)"}
#: Recordings are deleted when they are so old, in seconds.
KEPT = 3600

LIMITS = (
    "The model compares a voice with the recordings that it learnt from. **It cannot read what people feel**, and is often "
    "wrong, most of all about other speakers, languages, rooms and microphones. Do not judge anyone by it."
)
NO_TIMELINE = [gr.Column(visible=False), None, None, *(None for _ in EXPORTS)]
CSS = """
/* On a narrow screen the picture is moved, not shrunk until nobody can read it. */
#plot .matplotlib { display: block; overflow-x: auto; }
#plot img { display: block; width: 100%; min-width: 700px; max-width: none; border-radius: 4px; }
/* Its background is white, and its colours have names: in the dark it is dimmed. */
.dark #plot img { filter: brightness(0.85); }
"""


@dataclass(frozen=True)
class Heard:
    """
    What the model hears in a recording.

    Args:
        waveform (`np.ndarray` of shape `(samples,)`): The recording at 16 kHz.
        probabilities (`dict[str, float]`): Each emotion's probability in the whole recording; they add up to 1.
        timeline (`Timeline`, *optional*): How they change, where the recording is longer than a window.
    """

    waveform: np.ndarray
    probabilities: dict[str, float]
    timeline: Timeline | None


def hear(classifier: AudioClassificationPipeline, path: str | Path) -> Heard:
    """
    What `classifier` hears in a file.

    Raises:
        AudioError: if the file cannot be decoded, or is silent, shorter than 0.3 s or longer than 5 minutes.
    """
    waveform = read_mono(str(path), longest=LONGEST)
    length = len(waveform) / SAMPLING_RATE
    if length < SHORTEST:
        raise AudioError("too short", f"it lasts {length:.2f} s, and this page takes {SHORTEST} s at least")
    recording = {"array": waveform, "sampling_rate": SAMPLING_RATE}
    (answer,) = predict(classifier, recording, progress=False)
    if answer.problem is not None:
        reason, _, detail = answer.problem.partition(": ")
        raise AudioError(reason, detail)
    if length <= WINDOW:
        return Heard(waveform, answer.probabilities, None)
    hop = min(max(HOP, length / WINDOWS), WINDOW)
    return Heard(waveform, answer.probabilities, timeline(classifier, recording, window=WINDOW, hop=hop))


def describe(model: str, *, revision: str | None = None, token: str | None = None) -> str:
    """
    What model it is, on what kind of speech it was trained and how good it was on which test, in Markdown.

    All of it is taken from the `results.json` of the run; without one, that is said.

    Args:
        model (`str`): A run's folder, its `adapter/`, or a name on the Hub.
        revision (`str`, *optional*): A branch, tag or commit of a model on the Hub.
        token (`str`, *optional*): For a private model on the Hub, if not the one that is stored.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        name = f"`{folder.resolve().name}`"
        run = records.run_of(folder)
        file = run and run / records.RESULTS
    else:
        name = f"[{model}](https://huggingface.co/{model})"
        try:
            file = Path(hf_hub_download(model, records.RESULTS, revision=revision, token=token))
        except LocalEntryNotFoundError:  # offline, and it was not downloaded before
            return (
                f"**Model:** {name}. Its results.json could not be looked up on the Hub; it would say what speech it was "
                "trained on."
            )
        except EntryNotFoundError:
            file = None
    try:
        results = records.read_results(file) if file else None
    except ValueError:  # another tool's
        results = None
    if results is None:
        return (
            f"**Model:** {name}. It comes without a run's results.json, which would say what speech it was trained on."
        )
    return f"**Model:** {name}, {_trained(results)}\n\n{_figures(results)}"


def _trained(results: dict[str, Any]) -> str:
    base = results["base_model"]
    lines = [f"fine-tuned (`{results['method']}`) from `{base if base.count('/') == 1 else Path(base).name}` on"]
    for name, corpus in results["corpora"].items():
        if facts := about(corpus):
            lines.append(f"- {facts.name}. {facts.speech[0].upper()}{facts.speech[1:]}. Speakers: {facts.speakers}.")
        else:
            whose = speakers(corpus)
            lines.append(f"- {name}. {corpus['clips']:,} clips{f' of {whose}' if whose else ''}.")
    return "\n".join(lines)


def _figures(results: dict[str, Any]) -> str:
    test = results["metrics"]["test"]
    return (
        f"**Figures:** {100 * test['accuracy']:.0f} % of {test['clips']:,} test clips right, UAR {100 * test['uar']:.0f} % "
        f"({chance(results)}). {_speakers(results)}"
    )


def _speakers(results: dict[str, Any]) -> str:
    tested, shared = speakers(results["split"]["parts"]["test"]), shared_speakers(results)
    if not tested:
        return "Who speaks in the test is not known, and so not whether anyone of them was in training."
    if shared is None:
        heard = "whether any was in training cannot be told"
    elif shared:
        heard = f"{shared} of them were in training, so that this says little about anyone else"
    else:
        heard = "none was in training"
    return f"The test has {tested}; {heard}."


def make_app(
    classifier: AudioClassificationPipeline,
    *,
    title: str,
    description: str = "",
    examples: Sequence[str | Path] = (),
) -> gr.Blocks:
    """
    The page, which [`launch`] opens.

    Args:
        classifier (`AudioClassificationPipeline`): What `hf_ser.load` returns.
        title (`str`): The page's heading.
        description (`str`, *optional*): Markdown about the model, see [`describe`].
        examples (`Sequence[str | Path]`, *optional*): Clips to try the model with.
    """
    *emotions, last = emotions_of(classifier)
    folder = tempfile.TemporaryDirectory(prefix="hf_ser-")  # for the files to download; goes when the page does

    def answer(path: str | None) -> list[Any]:
        return _answer(classifier, path, Path(folder.name))

    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(KEPT, KEPT)) as page:
        gr.Markdown(
            f"# {title}\nRecord or upload speech. Does it sound {', '.join(emotions)} or {last}? The model guesses."
        )
        with gr.Row():
            with gr.Column():
                recording, button = _question(examples)
            with gr.Column():
                probabilities = gr.Label(label="The model's probabilities", elem_id="probabilities")
        with gr.Column(visible=False) as over_time:
            outputs = [probabilities, over_time, *_timeline()]
        gr.Markdown(f"{LIMITS}\n\n{description}")
        clicked = button.click(answer, recording, outputs, api_name="answer")
        # What is said of one recording must not stand beside another.
        nothing = [None, *NO_TIMELINE]
        recording.change(
            lambda: nothing,
            None,
            outputs,
            cancels=clicked,
            show_progress="hidden",
            api_visibility="private",
        )
    return page


def _question(examples: Sequence[str | Path]) -> tuple[gr.Audio, gr.Button]:
    """What the page takes: a recording, and the button that asks the model about it."""
    recording = gr.Audio(
        label=f"Speech, up to {LONGEST / 60:.0f} minutes",
        sources=["upload", "microphone"],
        type="filepath",
        buttons=["download"],
        elem_id="recording",
    )
    button = gr.Button("What does it sound like?", variant="primary")
    if examples:
        gr.Examples([[str(path)] for path in examples], recording, label="Clips to try", examples_per_page=8)
    return recording, button


def _timeline() -> list[Any]:
    """Where a longer recording's emotions over time are shown: plot, table, and the files to download."""
    gr.Markdown(f"### Over time\nThe model heard windows of {WINDOW:g} s, each by itself. Times are in seconds.")
    plot = gr.Plot(show_label=False, container=False, elem_id="plot")
    table = gr.Dataframe(
        headers=["start", "stop", "emotion", "probability"],
        label="Segments",
        column_widths=["18%", "18%", "28%", "36%"],
        interactive=False,
        elem_id="segments",
    )
    with gr.Row():
        downloads = [gr.DownloadButton(f"Download as {name}", size="sm") for name in EXPORTS.values()]
    return [plot, table, *downloads]


def _answer(classifier: AudioClassificationPipeline, path: str | None, folder: Path) -> list[Any]:
    """What the page shows of a recording: probabilities, and what [`_timeline`] has places for; files go into `folder`."""
    if path is None:
        raise _refusal("There is no recording yet: record or upload one first.")
    try:
        heard = hear(classifier, path)
    except AudioError as error:
        raise _refusal(f"{printable(Path(path).name)} is {error.reason}: {error.detail}.") from error
    if heard.timeline is None:
        return [heard.probabilities, *NO_TIMELINE]
    segments = heard.timeline.segments(SEGMENT)
    stem = printable(Path(path).stem)
    files = [Path(tempfile.mkdtemp(dir=folder)) / f"{stem}{suffix}" for suffix in EXPORTS]
    for file in files:
        save(segments, file)
    rows = [[f"{s.start:.2f}", f"{s.stop:.2f}", s.emotion, _per_cent(s.probability)] for s in segments]
    figure = plot_timeline(heard.waveform, heard.timeline, segments)
    figure.set_dpi(DPI)
    return [heard.probabilities, gr.Column(visible=True), figure, rows, *map(str, files)]


def launch(page: gr.Blocks, **settings: Any) -> None:
    """Opens a page of [`make_app`]: nothing is fetched from elsewhere, no link is shared, and no voice is kept for long."""
    page.launch(
        theme=gr.themes.Default(font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace")),
        css=CSS,
        max_file_size=MAX_FILE_SIZE,
        share=False,
        run_history=False,
        footer_links=["api", "gradio"],
        **settings,
    )


def _refusal(message: str) -> gr.Error:
    # Gradio shows the message as HTML, and there may be a file's name in it. Its own ten seconds are few for who looks elsewhere.
    return gr.Error(html.escape(message), duration=60, print_exception=False)


def _per_cent(probability: float) -> str:
    return "" if math.isnan(probability) else f"{100 * probability:.0f} %"
