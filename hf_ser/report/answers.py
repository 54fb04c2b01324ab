"""What a model answers on the clips of a report, as they are and distorted; kept on disk, so that a report can go on."""

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
from hf_ser.export import ExportedModel
from hf_ser.inference.clips import Clip
from hf_ser.inference.precision import Int8Linear
from hf_ser.report.clips import ModelEmotions
from hf_ser.splits import Clips

#: Clips that are added up to a babble.
VOICES = 6
CLEAN = Condition("clean")
#: How the names of files with answers begin.
KEPT = "answers-"


@dataclass(frozen=True)
class Hearing:
    """
    How much of a clip a model hears, and in which pieces; the answers to them are averaged.

    Args:
        max_seconds (`float`, *optional*): Of longer clips only the beginning is heard.
        segment_length (`float`, *optional*): Longer clips are cut into segments of so many seconds,
        segment_overlap (`float`, defaults to 0): with so many seconds of the one before in each: see `hf_ser.audio.cut`.
        longest (`float`, defaults to infinity): Where there is no `segment_length`, clips of more seconds are cut, see
            [`~hf_ser.pipeline.SERPipeline.predict`].
    """

    max_seconds: float | None = None
    segment_length: float | None = None
    segment_overlap: float = 0.0
    longest: float = math.inf

    def segments(self, waveform: Waveform) -> list[Waveform]:
        """The segments of a waveform `(samples,)`, as in training."""
        pieces = cut([len(waveform)], self.segment_length, self.segment_overlap)
        return [waveform[start:stop] for start, stop in zip(pieces.start, pieces.stop, strict=True)]


@dataclass(frozen=True)
class Answers:
    """
    What a model answers.

    Args:
        probabilities (`np.ndarray` of shape `(clips, emotions)`): Of each clip; NaN where there is a problem.
        problems (`dict[int, str]`): Why there is no answer, by the clip's place.
    """

    probabilities: npt.NDArray[np.float64]
    problems: dict[int, str]


@dataclass(frozen=True)
class Answered:
    """
    The clips that a report's figures are of, and what the model says of each: the figures can be computed again from it.

    Args:
        table (`Clips`): What is known of them.
        probabilities (`np.ndarray` of shape `(clips, emotions)`): Of each emotion.
        emotions (`tuple[str, ...]`): The model's, in their order.
    """

    table: Clips
    probabilities: npt.NDArray[np.float64]
    emotions: tuple[str, ...]

    def write(self, path: Path) -> None:
        """Writes CSV: clip, corpus, speaker, gender, emotion, recognised, and the probability of each emotion."""
        table = self.table
        known = (table.names, table.corpora, table.speakers, table.genders, table.labels)
        with path.open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            lines.writerow(["clip", "corpus", "speaker", "gender", "emotion", "recognised", *self.emotions])
            for *told, values in zip(*known, self.probabilities, strict=True):
                recognised = self.emotions[int(np.argmax(values))]
                lines.writerow([*told, recognised, *(f"{value:.6f}" for value in values)])


WHOLE = Hearing()


def model_key(classifier: AudioClassificationPipeline) -> str:
    """Tells models apart by their weights: answers that are kept are those of this very model."""
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
        digest.update(
            values.detach().cpu().contiguous().view(torch.uint8).numpy() if values.ndim else str(values).encode()
        )
    return digest.hexdigest()


def answer(
    classifier: AudioClassificationPipeline,
    emotions: ModelEmotions,
    clips: Dataset,
    condition: Condition = CLEAN,
    *,
    seed: int = 0,
    hearing: Hearing = WHOLE,
    batch_seconds: float | None = None,
    keep: Path | None = None,
    key: str | None = None,
    progress: bool = True,
) -> Answers:
    """
    Asks a model about every clip under a condition.

    Args:
        classifier (`AudioClassificationPipeline`): What `hf_ser.load` returns.
        emotions (`ModelEmotions`): What its outputs mean.
        clips (`datasets.Dataset`): Prepared clips with `audio`, `samples_hash`, `clip`, `duration` and `speaker`.
        condition (`Condition`, *optional*): What is done to them; by default nothing.
        seed (`int`, defaults to 0): Decides the noise of each clip, with the clip's name.
        hearing (`Hearing`, *optional*): What is heard of a clip, by default all of it: the beginning before it is distorted,
            segments of what is distorted.
        batch_seconds (`float`, *optional*): See [`~hf_ser.pipeline.SERPipeline.predict`].
        keep (`Path`, *optional*): A folder where answers are kept, and looked for first.
        key (`str`, *optional*): What [`model_key`] says of the model.
        progress (`bool`, defaults to `True`): Whether to show a progress bar.

    Raises:
        ValueError: if a clip's probabilities are not finite.
    """
    names = clips["clip"][:]
    told = [
        key or model_key(classifier),
        emotions.names,
        emotions.of_output,
        names,
        clips["samples_hash"][:],
        condition.name,
        seed,
        astuple(hearing),
    ]
    asked = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
    path = keep / f"{KEPT}{asked}.npz" if keep else None
    if path is not None and path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            return Answers(
                kept["probabilities"], {int(k): str(v) for k, v in zip(kept["places"], kept["why"], strict=True)}
            )
    probabilities = np.full((len(names), len(emotions.names)), np.nan)
    problems: dict[int, str] = {}
    source = _distorted(clips, condition, seed, hearing.max_seconds)
    pieces = {"cut": hearing.segments} if hearing.segment_length else {"longest": hearing.longest}
    said_of = classifier.predict(source, batch_seconds=batch_seconds, progress=progress, **pieces)
    for place, said in enumerate(said_of):
        if said.problem is not None:
            problems[place] = said.problem
        else:
            outputs = np.array([list(said.probabilities.values())])
            probabilities[place] = emotions.probabilities(outputs)[0]
            if not np.isfinite(probabilities[place]).all():
                raise ValueError(
                    f"its probabilities for {names[place]} are not finite: {outputs[0].tolist()}. Its weights are damaged or "
                    "overflow, or its training has diverged; nothing can be said of such a model"
                )
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        places = np.array(list(problems), dtype=np.int64)
        np.savez(part, probabilities=probabilities, places=places, why=np.array(list(problems.values()), dtype=str))
        part.rename(path)  # a file that is there is whole
    return Answers(probabilities, problems)


def _distorted(clips: Dataset, condition: Condition, seed: int, max_seconds: float | None) -> Iterator[Clip]:
    names, durations = clips["clip"][:], clips["duration"][:]
    voices = _voices(clips["speaker"][:], seed) if condition.kind == "babble" else None
    stops = [round(min(seconds, max_seconds or seconds) * SAMPLING_RATE) for seconds in durations]

    def read(place: int) -> Waveform:
        return read_segment(clips[place]["audio"], 0, stops[place])

    def read_distorted(place: int) -> Waveform:
        waveform = read(place)
        if condition == CLEAN:
            return waveform
        babble = [read(int(other)) for other in voices[place]] if voices is not None else []
        return distort(waveform, condition, clip_seed(seed, names[place]), babble)

    for place, name in enumerate(names):
        yield Clip(name, partial(read_distorted, place))


# Every clip gets voices, whatever the others are, so that answers do not depend on the order in which they are asked for.
def _voices(speakers: Sequence[str | None], seed: int) -> npt.NDArray[np.int64]:
    """`(clips, voices)`: for each clip others to babble behind it, of other speakers where there are any."""
    rng = np.random.default_rng(seed)
    everyone = np.arange(len(speakers))
    of_speaker: dict[str | None, npt.NDArray[np.int64]] = {
        speaker: np.array([i for i, other in enumerate(speakers) if other != speaker], dtype=np.int64)
        for speaker in set(speakers)
    }
    chosen = []
    for place, speaker in enumerate(speakers):
        others = (
            of_speaker[speaker] if speaker is not None and len(of_speaker[speaker]) else everyone[everyone != place]
        )
        chosen.append(rng.choice(others if len(others) else everyone, VOICES))
    return np.array(chosen)
