"""The model of a report: its emotions and dimensions, the records of its run, and its predictions, which are kept on disk."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset

from hf_ser import records
from hf_ser.audio import SAMPLING_RATE, cut, read_segment
from hf_ser.audio.decode import Waveform
from hf_ser.audio.distort import Condition, clip_seed, distort
from hf_ser.clips import names_of
from hf_ser.emotions import DIMENSIONS, EMOTION, canonical
from hf_ser.inference.clips import Clip, Prediction
from hf_ser.inference.onnx import ExportedModel
from hf_ser.inference.precision import Int8Linear
from hf_ser.inference.processes import share_out
from hf_ser.modeling.families import encoder_config, minimum_samples
from hf_ser.pipeline import SERPipeline
from hf_ser.records import SPLITS
from hf_ser.report.options import ReportOptions
from hf_ser.results import RunResults
from hf_ser.splits import SavedSplit
from hf_ser.wording import listed

#: Longer clips, in seconds, are cut into segments, unless the model's own run has them: memory grows with the square of the
#: length, and few models were trained on such long clips.
LONGEST = 30.0
#: Clips that are added up to a babble.
BABBLE_VOICES = 6
CLEAN = Condition("clean")
#: The names of files with kept predictions begin with this.
KEPT = "predictions-"


@dataclass(frozen=True)
class ModelEmotions:
    """
    The outputs of a model, and their emotions.

    Args:
        names (`tuple[str, ...]`): The emotions, in alphabetical order; none for a model of dimensions alone.
        of_output (`tuple[int, ...]`): For each output, the index of its emotion in `names`; several may share one.
        renamed (`dict[str, str]`): The outputs whose labels differ from their emotions.
    """

    names: tuple[str, ...]
    of_output: tuple[int, ...]
    renamed: dict[str, str]

    @classmethod
    def of(cls, outputs: Sequence[str], label_map: Mapping[str, str] | None = None) -> "ModelEmotions":
        """
        Args:
            outputs (`Sequence[str]`): The labels of the model.
            label_map (`dict[str, str]`, *optional*): Emotions of some labels: `{"LABEL_0": "neutral"}`. Common spellings
                (`hap`, `anger`) need none.

        Raises:
            ValueError: if `label_map` has a label that the model lacks, a label is a mere number, or all labels share one
                emotion.
        """
        given = dict(label_map or {})
        if unknown := sorted(set(given) - set(outputs)):
            raise ValueError(f"label_map={given}: the model has no {unknown[0]!r}; its labels are {', '.join(outputs)}")
        meant = {output: canonical(given.get(output, output)) for output in outputs}
        if nameless := [output for output, emotion in meant.items() if emotion.startswith("label_")]:
            raise ValueError(
                f"label_map={given}: the label {nameless[0]!r} is no emotion; map every label to one, for instance "
                f"{nameless[0]}=neutral (all labels: {', '.join(outputs)})"
            )
        names = tuple(sorted(set(meant.values())))
        if len(names) == 1:
            raise ValueError(f"label_map={given}: all labels are {names[0]}; expected at least two emotions")
        renamed = {output: emotion for output, emotion in meant.items() if output != emotion}
        return cls(names, tuple(names.index(meant[output]) for output in outputs), renamed)

    def probabilities(self, outputs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """From `(clips, outputs)` to `(clips, emotions)`: outputs that share an emotion are added."""
        found = np.zeros((len(self.names), len(outputs)))
        np.add.at(found, list(self.of_output), outputs.T)
        return found.T


@dataclass(frozen=True)
class Chunking:
    """
    The way in which clips are cut. The probabilities of a clip are the mean of those of its segments.

    Args:
        max_seconds (`float`, *optional*): Longer clips are first shortened to this many seconds.
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
        probabilities (`np.ndarray` of shape `(clips, emotions)`): NaN for a clip with a problem.
        values (`np.ndarray` of shape `(clips, dimensions)`): Likewise.
        problems (`dict[int, str]`): The reason why there is no prediction, by the clip's index.
    """

    probabilities: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    problems: dict[int, str]

    @classmethod
    def read(cls, path: Path) -> "Predictions":
        """The predictions that [`save`] wrote."""
        with np.load(path, allow_pickle=False) as kept:
            problems = {int(i): str(reason) for i, reason in zip(kept["places"], kept["reasons"], strict=True)}
            return cls(kept["probabilities"], kept["values"], problems)

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The indices of the clips with a prediction."""
        return np.setdiff1d(np.arange(len(self.probabilities)), np.array(list(self.problems), dtype=np.int64))

    def save(self, path: Path) -> None:
        """Writes them as `.npz`, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        places = np.array(list(self.problems), dtype=np.int64)
        reasons = np.array(list(self.problems.values()), dtype=str)
        part = path.with_suffix(".part.npz")
        np.savez(part, probabilities=self.probabilities, values=self.values, places=places, reasons=reasons)
        part.rename(path)


@dataclass(frozen=True)
class Model:
    """
    The model of a report.

    Args:
        classifier (`SERPipeline`): The model, from `hf_ser.pipeline`.
        name (`str`): Its name in the report.
        emotions (`ModelEmotions`): The emotions of its outputs.
        dimensions (`tuple[str, ...]`): Its dimensions, in the order of [`~hf_ser.emotions.DIMENSIONS`].
        results (`RunResults`, *optional*): The results of its run.
        split (`SavedSplit`, *optional*): The split of its run.
        folder (`Path`, *optional*): The folder of its files.
    """

    classifier: SERPipeline
    name: str
    emotions: ModelEmotions
    dimensions: tuple[str, ...]
    results: RunResults | None = None
    split: SavedSplit | None = None
    folder: Path | None = None

    @cached_property
    def key(self) -> str:
        """A hash of its weights, which identifies its kept predictions."""
        digest, model = hashlib.blake2b(digest_size=8), self.classifier.model
        if isinstance(model, ExportedModel):
            for file in sorted(model.graph.parent.glob(f"{model.graph.name}*")):  # and its data
                digest.update(file.read_bytes())
        state = dict(model.state_dict())
        for name, module in model.named_modules():
            if isinstance(module, Int8Linear):
                state[f"{name}.weight"] = module.packed.to_dense()
        for name, values in sorted(state.items()):
            digest.update(f"{name} {tuple(values.shape)} {values.dtype}".encode())
            digest.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    @property
    def targets(self) -> Mapping[str, float]:
        """The targets of its training and their weights; one emotion if they are unknown."""
        return self.results.targets if self.results else {EMOTION: 1.0}

    @property
    def shortest(self) -> float:
        """The shortest clip that its encoder takes, in seconds."""
        return minimum_samples(self.classifier.model.config) / SAMPLING_RATE

    def describe(self) -> dict[str, Any]:
        """The report's part on the model."""
        results = self.results
        return {
            "name": self.name,
            "base_model": results and results.base_model,
            "method": results and results.method,
            "model_type": encoder_config(self.classifier.model.config).model_type,
            "precision": self.classifier.precision,
            "emotions": list(self.emotions.names),
            **({"dimensions": list(self.dimensions)} if self.dimensions else {}),
            "label_map": self.emotions.renamed or None,
        }

    def chunking(self, clips: Dataset, max_seconds: float | None) -> Chunking:
        """
        How clips are cut for it: as in its own run, and clips that are not of its run into segments of at most 30 s.

        Raises:
            ValueError: if `max_seconds` is too short for its encoder.
        """
        if max_seconds is not None and max_seconds < self.shortest:
            raise ValueError(f"max_seconds={max_seconds:g}: {self.name} needs {self.shortest:g} s")
        own = self.results.training.arguments if self.results else {}
        most = self.classifier.longest_input
        known = self.split is not None and self.split.count(names_of(clips)) > 0
        return Chunking(
            max_seconds=max_seconds or own.get("max_seconds"),
            segment_length=own.get("segment_length"),
            segment_overlap=own.get("segment_overlap") or 0.0,
            longest=most if known else min(most, LONGEST),
        )

    def predict(
        self, clips: Dataset, chunking: Chunking, options: ReportOptions, condition: Condition = CLEAN
    ) -> Predictions:
        """
        Predicts every clip under a condition.

        Args:
            clips (`datasets.Dataset`): Prepared clips with `audio`, `samples_hash`, `clip`, `duration` and `speaker`.
            chunking (`Chunking`): `max_seconds` cuts clips before they are distorted, the rest afterwards.
            options (`ReportOptions`): `seed`, from which with the clip's name the noise of each clip is drawn; `batch_seconds`,
                `keep`, `progress` and `processes`.
            condition (`Condition`, *optional*): The distortion, by default none.

        Raises:
            ConnectionError: if another process ended.
            ValueError: if the outputs for a clip are not finite.
        """
        names, clean = names_of(clips), condition == CLEAN
        seed, keep, processes = 0 if clean else options.seed, options.keep, options.processes
        identity = [self.key, self.emotions.names, self.emotions.of_output, self.dimensions, names, clips["samples_hash"][:],
                    condition.name, seed, astuple(chunking)]  # fmt: skip
        path = keep / f"{KEPT}{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]}.npz" if keep else None
        kept = Predictions.read(path) if path is not None and path.is_file() and not processes.rank else None
        if (kept := processes.all_gather(kept)[0]) is not None:
            return kept
        read = _reader(clips, condition, seed, chunking.max_seconds)
        shares = share_out(range(len(names)), clips["duration"][:], processes.count)
        mine = shares[processes.rank]
        predictions = self.classifier.predict(
            (Clip(names[i], partial(read, i)) for i in mine),
            batch_seconds=options.batch_seconds,
            progress=options.progress and clean,
            longest=chunking.longest,
            segmenter=chunking.segments if chunking.segment_length else None,
        )
        outputs = np.full((len(names), len(self.emotions.of_output) + len(self.dimensions)), np.nan)
        problems: dict[int, str] = {}
        for share, (found, reasons) in zip(shares, processes.all_gather(self._outputs(predictions)), strict=True):
            outputs[share] = found
            problems |= {share[place]: reason for place, reason in reasons.items()}
        probabilities, values = np.split(outputs, [len(self.emotions.of_output)], axis=1)
        together = Predictions(self.emotions.probabilities(probabilities), values, dict(sorted(problems.items())))
        if path is not None and not processes.rank:
            together.save(path)
        return together

    def _outputs(self, predictions: Iterable[Prediction]) -> tuple[npt.NDArray[np.float64], dict[int, str]]:
        """The outputs `(clips, outputs)`, NaN for a clip with a problem; and the problems by the index of the clip."""
        count = len(self.emotions.of_output) + len(self.dimensions)
        outputs, problems = list[list[float]](), dict[int, str]()
        for place, prediction in enumerate(predictions):
            if prediction.problem is not None:
                problems[place] = prediction.problem
                outputs.append([math.nan] * count)
                continue
            values = [*prediction.probabilities.values(), *map(prediction.dimensions.__getitem__, self.dimensions)]
            if not np.isfinite(values).all():
                kind = "probabilities" if self.emotions.names else "values"
                raise ValueError(
                    f"{self.name}: its {kind} for {prediction.name} are not finite: {values}. Its weights are damaged or "
                    "overflow, or its training has diverged"
                )
            outputs.append(values)
        return np.array(outputs, dtype=np.float64).reshape(-1, count), problems


def open_model(
    classifier: SERPipeline,
    name: str,
    folder: Path | None,
    label_map: Mapping[str, str] | None = None,
    *,
    run: Path | None = None,
) -> Model:
    """
    A model for a report.

    Args:
        classifier, name, folder: See [`Model`].
        label_map (`dict[str, str]`, *optional*): See [`ModelEmotions.of`].
        run (`Path`, *optional*): The folder of its run, if that is another.

    Raises:
        ValueError: if the model has a value of another name than those of `hf_ser.emotions.DIMENSIONS`, or a record of its run is
            not as a run writes it; and see [`ModelEmotions.of`].
    """
    if unknown := sorted(set(classifier.dimensions) - set(DIMENSIONS)):
        raise ValueError(f"{name}: its value {unknown[0]!r} is not known; expected some of {listed(DIMENSIONS)}")
    place = run or folder
    written = records.run_of(place) if place else None
    return Model(
        classifier,
        name,
        ModelEmotions.of(classifier.emotions, label_map),
        tuple(dimension for dimension in DIMENSIONS if dimension in classifier.dimensions),
        RunResults.read(written) if written else None,
        SavedSplit.read(written / SPLITS) if written and (written / SPLITS).is_file() else None,
        folder,
    )


def _reader(clips: Dataset, condition: Condition, seed: int, max_seconds: float | None) -> Callable[[int], Waveform]:
    """Reads a clip by its index, cut to `max_seconds` and distorted."""
    names = names_of(clips)
    voices = _voices(clips["speaker"][:], seed) if condition.kind == "babble" else None
    stops = [round(min(seconds, max_seconds or seconds) * SAMPLING_RATE) for seconds in clips["duration"][:]]

    def read(i: int) -> Waveform:
        return read_segment(clips[i]["audio"], 0, stops[i])

    def read_distorted(i: int) -> Waveform:
        babble = [read(int(other)) for other in voices[i]] if voices is not None else []
        return distort(read(i), condition, clip_seed(seed, names[i]), babble)

    return read if condition == CLEAN else read_distorted


def _voices(speakers: Sequence[str | None], seed: int) -> npt.NDArray[np.int64]:
    """`(clips, voices)`: for each clip other clips for its babble, of other speakers if there are any."""
    rng = np.random.default_rng(seed)
    names = np.array([speaker or "" for speaker in speakers])
    others_of = {speaker: np.flatnonzero(names != speaker) for speaker in set(names.tolist()) - {""}}
    chosen = []
    for i, name in enumerate(names.tolist()):
        others = others_of.get(name, np.zeros(0, dtype=np.int64))
        chosen.append(rng.choice(others if len(others) else np.flatnonzero(np.arange(len(names)) != i), BABBLE_VOICES))
    return np.array(chosen)
