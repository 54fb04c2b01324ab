"""The predictions of a model on the clips of a report, clean and distorted. They are kept on disk: a report can be resumed."""

import csv
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset
from transformers import AudioClassificationPipeline

from hf_ser.audio import SAMPLING_RATE, cut, read_segment
from hf_ser.audio.decode import Waveform
from hf_ser.audio.distort import Condition, clip_seed, distort
from hf_ser.clips import column, emotion_column, names_of
from hf_ser.export import ExportedModel
from hf_ser.inference.clips import Clip
from hf_ser.inference.precision import Int8Linear
from hf_ser.report.clips import ModelEmotions

#: Clips that are added up to a babble.
VOICES = 6
CLEAN = Condition("clean")
#: The file of some predictions begins with this.
KEPT = "predictions-"


@dataclass(frozen=True)
class Chunking:
    """
    How clips are cut; the probabilities of a clip are the mean of those of its segments.

    Args:
        max_seconds (`float`, *optional*): Longer clips are cut to so many seconds first.
        segment_length (`float`, *optional*): The length of the segments in seconds, as in training, see `hf_ser.audio.cut`.
        segment_overlap (`float`, defaults to 0): The seconds that neighbouring segments share.
        longest (`float`, defaults to infinity): Without `segment_length`, clips of more seconds are cut, see
            [`~hf_ser.pipeline.SERPipeline.predict`].
    """

    max_seconds: float | None = None
    segment_length: float | None = None
    segment_overlap: float = 0.0
    longest: float = math.inf

    def segments(self, waveform: Waveform) -> list[Waveform]:
        """The segments of a waveform `(samples,)`, as in training."""
        segments = cut([len(waveform)], self.segment_length, self.segment_overlap)
        return [waveform[start:stop] for start, stop in zip(segments.start, segments.stop, strict=True)]


@dataclass(frozen=True)
class Predictions:
    """
    The predictions of a model.

    Args:
        probabilities (`np.ndarray` of shape `(clips, emotions)`): Of each clip; NaN where there is a problem.
        problems (`dict[int, str]`): Why there is no prediction, by the clip's index.
    """

    probabilities: npt.NDArray[np.float64]
    problems: dict[int, str]

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The indices of the clips with a prediction."""
        return np.array([i for i in range(len(self.probabilities)) if i not in self.problems], dtype=np.int64)


def save_predictions(
    path: Path, table: Dataset, probabilities: npt.NDArray[np.float64], emotions: Sequence[str]
) -> None:
    """
    Writes CSV: clip, corpus, speaker, gender, emotion, predicted, and the probability of each emotion. The metrics of a report
    can be computed from it.
    """
    columns = (
        names_of(table),
        column(table, "corpus"),
        column(table, "speaker"),
        column(table, "gender"),
        emotion_column(table),
    )
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["clip", "corpus", "speaker", "gender", "emotion", "predicted", *emotions])
        for *row, values in zip(*columns, probabilities, strict=True):
            lines.writerow([*row, emotions[int(np.argmax(values))], *(f"{value:.6f}" for value in values)])


def model_key(classifier: AudioClassificationPipeline) -> str:
    """A hash of a model's weights, which tells its kept predictions from those of other models."""
    digest = hashlib.blake2b(digest_size=8)
    if isinstance(classifier.model, ExportedModel):
        for file in sorted(classifier.model.graph.parent.glob(f"{classifier.model.graph.name}*")):  # and its data
            digest.update(file.read_bytes())
    state = dict(classifier.model.state_dict())
    for name, module in classifier.model.named_modules():
        if isinstance(module, Int8Linear):  # its weights are no parameters
            weight, _ = module.packed.unpack()
            state |= {f"{name}.weight": weight.int_repr(), f"{name}.scales": weight.q_per_channel_scales()}
    for name, values in sorted(state.items()):
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}".encode())
        digest.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def predict_clips(
    classifier: AudioClassificationPipeline,
    emotions: ModelEmotions,
    clips: Dataset,
    condition: Condition = CLEAN,
    *,
    key: str,
    seed: int = 0,
    chunking: Chunking,
    batch_seconds: float | None = None,
    keep: Path | None = None,
    progress: bool = True,
) -> Predictions:
    """
    Predicts every clip under a condition.

    Args:
        classifier (`AudioClassificationPipeline`): The model, from `hf_ser.pipeline`.
        emotions (`ModelEmotions`): The emotions of its outputs.
        clips (`datasets.Dataset`): Prepared clips with `audio`, `samples_hash`, `clip`, `duration` and `speaker`.
        condition (`Condition`, *optional*): The distortion, by default none.
        key (`str`): The hash of the model, from [`model_key`].
        seed (`int`, defaults to 0): Decides the noise of each clip, together with the clip's name.
        chunking (`Chunking`): `max_seconds` cuts clips before they are distorted, the rest afterwards.
        batch_seconds (`float`, *optional*): See [`~hf_ser.pipeline.SERPipeline.predict`].
        keep (`Path`, *optional*): A folder for predictions, which are not computed again.
        progress (`bool`, defaults to `True`): Whether to show a progress bar.

    Raises:
        ValueError: if the probabilities of a clip are not finite.
    """
    names = clips["clip"][:]
    identity = [
        key,
        emotions.names,
        emotions.of_output,
        names,
        clips["samples_hash"][:],
        condition.name,
        seed,
        astuple(chunking),
    ]
    path = keep / f"{KEPT}{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]}.npz" if keep else None
    if path is not None and path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            problems = {int(i): str(reason) for i, reason in zip(kept["places"], kept["reasons"], strict=True)}
            return Predictions(kept["probabilities"], problems)
    probabilities = np.full((len(names), len(emotions.names)), np.nan)
    problems = {}
    source = _distorted(clips, condition, seed, chunking.max_seconds)
    cutting = {"cut": chunking.segments} if chunking.segment_length else {"longest": chunking.longest}
    predictions = classifier.predict(source, batch_seconds=batch_seconds, progress=progress, **cutting)
    for i, prediction in enumerate(predictions):
        if prediction.problem is not None:
            problems[i] = prediction.problem
            continue
        outputs = np.array([list(prediction.probabilities.values())])
        if not np.isfinite(outputs).all():
            raise ValueError(
                f"its probabilities for {names[i]} are not finite: {outputs[0].tolist()}. Its weights are damaged or "
                "overflow, or its training has diverged"
            )
        probabilities[i] = emotions.probabilities(outputs)[0]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        places = np.array(list(problems), dtype=np.int64)
        np.savez(part, probabilities=probabilities, places=places, reasons=np.array(list(problems.values()), dtype=str))
        part.rename(path)  # no file is ever half written
    return Predictions(probabilities, problems)


def _distorted(clips: Dataset, condition: Condition, seed: int, max_seconds: float | None) -> Iterator[Clip]:
    names, durations = clips["clip"][:], clips["duration"][:]
    voices = _voices(clips["speaker"][:], seed) if condition.kind == "babble" else None
    stops = [round(min(seconds, max_seconds or seconds) * SAMPLING_RATE) for seconds in durations]

    def read(i: int) -> Waveform:
        return read_segment(clips[i]["audio"], 0, stops[i])

    def read_distorted(i: int) -> Waveform:
        if condition == CLEAN:
            return read(i)
        babble = [read(int(other)) for other in voices[i]] if voices is not None else []
        return distort(read(i), condition, clip_seed(seed, names[i]), babble)

    for i, name in enumerate(names):
        yield Clip(name, partial(read_distorted, i))


def _voices(speakers: Sequence[str | None], seed: int) -> npt.NDArray[np.int64]:
    """`(clips, voices)`: for each clip others to babble behind it, of other speakers where there are any."""
    rng = np.random.default_rng(seed)
    names = np.array([speaker or "" for speaker in speakers])
    others_of = {speaker: np.flatnonzero(names != speaker) for speaker in set(names.tolist()) - {""}}
    chosen = []
    for i, name in enumerate(names.tolist()):
        others = others_of.get(name, np.zeros(0, dtype=np.int64))
        chosen.append(rng.choice(others if len(others) else np.flatnonzero(np.arange(len(names)) != i), VOICES))
    return np.array(chosen)
