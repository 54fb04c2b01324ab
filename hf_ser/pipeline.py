"""`hf_ser.pipeline`: the emotions of clips of any length, rate and number of channels, one or many, and over time."""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import closing
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm
from transformers import ASTFeatureExtractor, AudioClassificationPipeline, BatchFeature

from hf_ser.audio import SAMPLING_RATE, AudioError, cut
from hf_ser.audio.decode import SILENCE, Waveform
from hf_ser.hub.loading import load
from hf_ser.hub.reference import FixedLengthFeatureExtractor
from hf_ser.inference.clips import (
    SOURCES,
    Clip,
    Prediction,
    ReadClip,
    Source,
    clips_of,
    find_clips,
    is_one_clip,
    read,
    read_pools,
    start_threads,
)
from hf_ser.inference.onnx import ExportedModel, is_exported, open_exported
from hf_ser.inference.precision import set_precision
from hf_ser.inference.timelines import Timeline
from hf_ser.machine import loading_processes
from hf_ser.memory import BATCH_SECONDS, FittingParts, kind_of
from hf_ser.modeling import dimensions_of
from hf_ser.modeling.families import (
    FAMILIES,
    encoder_config,
    filterbank_samples,
    maximum_samples,
    minimum_samples,
    needs_thirty_seconds,
)
from hf_ser.modeling.replicas import Replicas
from hf_ser.wording import visible

#: So many batches' worth of seconds are read before they are sorted by length.
POOL_BATCHES = 16
#: Cuts a waveform `(samples,)` into segments.
Segmenter = Callable[[Waveform], list[Waveform]]


def pipeline(
    model: str | Path,
    *,
    precision: str = "float32",
    base: str | None = None,
    device: str | torch.device | None = None,
    top_k: int | None = None,
    **hub: Any,
) -> "SERPipeline":
    """
    Opens a model: a checkpoint, an adapter on its base model, or an exported model.

    ```python
    recogniser = hf_ser.pipeline("user/wavlm-emotion")
    recogniser("interview.wav")  # [{"label": "happy", "score": 0.81}, ...]
    for segment in recogniser.timeline("interview.wav"):
        print(segment.start, segment.stop, segment.emotion)
    ```

    Args:
        model (`str` or `Path`): A run's, adapter's or exported model's folder, or a name on the Hub (`user/name`).
        precision (`str`, defaults to `"float32"`): `float32`, `bfloat16`, or `int8` on a CPU; see
            [`~hf_ser.inference.precision.set_precision`]. An exported model has the precision of its export.
        base (`str`, *optional*): Where an adapter's base model is, if not where the adapter states.
        device (`str` or `torch.device`, *optional*): Where it runs, by default on a GPU if there is one.
        top_k (`int`, *optional*): How many emotions of each clip a call returns, by default all.
        **hub: `revision`, `subfolder`, `token`, `cache_dir` and `local_files_only`, see [`~hf_ser.hub.load`].

    Raises:
        FileNotFoundError: if a folder holds no model.
        HubError: if the Hub does not give the model.
        ValueError: if a file is damaged, a weight would be random, several emotions of the model may be right at once,
            the device does not exist, or an argument does not fit the model.
    """
    if is_exported(model):
        device = None if str(device) == "cpu" else device
        if given := [name for name, value in {"base": base, "device": device, **hub}.items() if value is not None]:
            raise ValueError(f"{given[0]}: {str(model)!r} is an exported model, which is complete and runs on the CPU")
        if precision != "float32":
            raise ValueError(f"precision: {str(model)!r} is an exported model; its precision was chosen at its export")
        exported, extractor = open_exported(model)
        return SERPipeline(model=exported, feature_extractor=extractor, device="cpu", top_k=top_k)
    opened, extractor = load(model, base=base, **hub)
    try:
        return SERPipeline(model=opened, feature_extractor=extractor, device=device, top_k=top_k, precision=precision)
    except (RuntimeError, AssertionError) as error:
        if device is None:
            raise
        raise ValueError(f"device={str(device)!r}: the model cannot run there: {str(error).splitlines()[0]}") from error


class SERPipeline(AudioClassificationPipeline):
    """
    transformers' pipeline for audio classification, for clips of any length, sampling rate and number of channels.

    A clip has the same probabilities alone as in any batch: the attention mask keeps padding out. A model that does not
    take a mask gets one clip at a time. `transformers.pipeline("audio-classification", ..., pipeline_class=SERPipeline)`
    opens it, too.

    Args:
        model (`PreTrainedModel`, `PeftModel` or `ExportedModel`): A classifier of emotions, a model of dimensions, or both.
        feature_extractor (`SequenceFeatureExtractor`): What makes its inputs of waveforms.
        precision (`str`, *optional*): See [`pipeline`]; by default the model stays as it is.
        **options: Of transformers' pipeline: `device`, `top_k` (by default all emotions).

    Raises:
        ValueError: if several emotions of the model may be right at once, two outputs have the same name, or
            `precision` does not fit the model.
    """

    def __init__(self, *args: Any, precision: str | None = None, **options: Any) -> None:
        super().__init__(*args, **{"task": "audio-classification", "top_k": None, **options})
        self.model.eval()
        if precision:
            set_precision(self.model, precision, self.device)
        #: The precision that the model computes in.
        self.precision: str = self.model.precision if isinstance(self.model, ExportedModel) else precision or "float32"
        self.in_fitting_parts = FittingParts(self.device)
        #: Threads that read clips and extract features ahead of a GPU. On a CPU, whose cores the model needs, one reads.
        self.reading_threads = loading_processes(self.device.type == "cuda")
        config = self.model.config
        if config.problem_type == "multi_label_classification":
            raise ValueError(
                f"the model's problem_type is {config.problem_type!r}; expected a model whose probabilities add up to 1, or "
                "'regression'"
            )
        outputs = tuple(visible(str(config.id2label[i])) for i in sorted(config.id2label))
        #: The model's dimensions, such as arousal, in the order of its outputs.
        self.dimensions: tuple[str, ...] = outputs if config.problem_type == "regression" else dimensions_of(config)
        #: The model's emotions, in the order of its outputs: the first ones.
        self.emotions: tuple[str, ...] = outputs[: len(outputs) - len(self.dimensions)]
        if twice := [name for name, number in Counter(outputs).items() if number > 1]:
            raise ValueError(
                f"several outputs of the model are called {twice[0]!r}: give each its own name in id2label of config.json"
            )
        #: Whether a batch has one segment: padding would change the probabilities of other models, and in int8 a layer's
        #: inputs have one scale for the whole batch.
        self.one_by_one = encoder_config(config).model_type not in FAMILIES or self.precision == "int8"

    def check_model_type(self, supported_models: Any) -> None:
        """Accepts any model: transformers has no list with adapters and exported models in it."""

    @property
    def longest_input(self) -> float:
        """The seconds that the model takes at once: 30 for Whisper, about 10 for the Audio Spectrogram Transformer."""
        if isinstance(self.feature_extractor, ASTFeatureExtractor):
            return filterbank_samples(self.feature_extractor.max_length) / SAMPLING_RATE
        return maximum_samples(self.model.config) / SAMPLING_RATE

    def __call__(self, inputs: Source | Iterable[Source], *, top_k: int | None = None, **options: Any) -> list[Any]:
        """
        The emotions of one clip, most probable first, or of each of several clips; then its dimensions, if the model has any.

        Args:
            inputs: A file, samples or the bytes of a file are one clip; a list, folder, pattern or `datasets.Dataset`
                several. See [`~hf_ser.inference.clips.find_clips`] for all that is accepted.
            top_k (`int`, *optional*): How many emotions of each clip, by default as many as it was opened with.
            **options: See [`predict`]: `batch_size`, `batch_seconds`, `longest`, `segmenter`, `progress`.

        Returns:
            `[{"label": ..., "score": ...}, ...]`, or a list of these. The score of a dimension is its value, about 0 to 1.

        Raises:
            AudioError: if a clip cannot be used. [`predict`] reports it and goes on.
            FileNotFoundError, ValueError: see [`predict`].
        """
        top_k = top_k or self._postprocess_params["top_k"]
        answers = []
        for prediction in self.predict(inputs, **options):
            if prediction.problem is not None:
                reason, _, detail = prediction.problem.partition(": ")
                raise AudioError(reason, f"{detail} ({prediction.name})")
            ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
            values = [*ranked[:top_k], *prediction.dimensions.items()]
            answers.append([{"score": score, "label": label} for label, score in values])
        return answers[0] if is_one_clip(inputs) else answers

    def predict(
        self,
        sources: Source | Iterable[Source],
        *,
        batch_size: int | None = None,
        batch_seconds: float | None = None,
        longest: float = 30.0,
        segmenter: Segmenter | None = None,
        progress: bool = False,
    ) -> Iterator[Prediction]:
        """
        Predictions for any number of clips, in the order of the sources and in memory that does not grow with their number.

        Clips of similar length share a batch. A clip that cannot be used is in the results, with the reason in `problem`.

        Args:
            sources: See [`~hf_ser.inference.clips.find_clips`]. They are looked up at once; those of an iterator one by one.
            batch_size (`int`, *optional*): Segments in a batch; by default as many as `batch_seconds` allows.
            batch_seconds (`float`, *optional*): Seconds of audio in a batch, padding included; see [`budget`]. Less needs less
                memory. On a CPU two batches are computed at once.
            longest (`float`, defaults to 30): A longer clip, in seconds, is cut into as few equal segments as are not longer,
                and has the mean of their probabilities, weighted by length; silent segments do not count. A model that takes
                less at once (Whisper) gets shorter segments.
            segmenter (`Callable`, *optional*): In place of `longest`: cuts a clip's waveform `(samples,)` into its segments.
            progress (`bool`, defaults to `False`): Whether to show a progress bar, if there is a terminal.

        Returns:
            An iterator over one [`Prediction`] for each clip.

        Raises:
            FileNotFoundError: if a file does not exist, or a folder or pattern has no audio files.
            ValueError: if an argument is out of range, or a source is of another kind.
        """
        if not longest >= 1:  # nor NaN
            raise ValueError(f"longest: must be at least 1 s, found {longest}")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size: must be at least 1, found {batch_size}")
        clips: Iterable[Clip]
        if isinstance(sources, (*SOURCES, Sequence)):
            clips = find_clips(sources)
        else:
            clips = chain.from_iterable(clips_of(source, place) for place, source in enumerate(sources))
        segmenter = segmenter or partial(_equally, longest=min(longest, self.longest_input))
        return self._predict(clips, self.budget(batch_seconds), batch_size, segmenter, progress)

    def _predict(
        self,
        clips: Iterable[Clip],
        batch_seconds: float,
        batch_size: int | None,
        segmenter: Segmenter,
        progress: bool,
    ) -> Iterator[Prediction]:
        total = len(clips) if isinstance(clips, list) else None
        shortest, samples = minimum_samples(self.model.config), POOL_BATCHES * batch_seconds * SAMPLING_RATE
        at_once = max(self.reading_threads, 1)
        waiting: deque[_Pool] = deque()  # whose predictions are not complete
        with (
            tqdm(total=total, unit=" clips", disable=None if progress else True) as bar,
            start_threads(at_once) as threads,
            closing(read_pools(iter(clips), shortest, samples, threads, at_once)) as pools,
            closing(Replicas(self.model, self.device, total)) as replicas,
        ):

            def batches() -> Iterator[_Batch | None]:
                for pool in pools:
                    if pool is None:
                        yield None
                        continue
                    waiting.append(_Pool(pool, segmenter, len(self.emotions) + len(self.dimensions)))
                    bar.update(int((waiting[-1].left == 0).sum()))
                    yield from self._batches(waiting[-1].segments, batch_seconds, batch_size, waiting[-1])

            for found in self._outputs(batches(), threads, replicas):
                if found is not None:
                    batch, outputs = found
                    bar.update(batch.pool.add(batch.places, outputs))
                while waiting and not waiting[0].left.any():
                    pool = waiting.popleft()
                    yield from map(self._prediction, pool.clips, pool.means.tolist())

    def _prediction(self, clip: ReadClip, outputs: list[float]) -> Prediction:
        seconds = len(clip.waveform) / SAMPLING_RATE
        if clip.problem is not None:
            return Prediction(clip.name, seconds, {}, " ".join(str(clip.problem).split()))
        found = dict(zip((*self.emotions, *self.dimensions), outputs, strict=True))
        dimensions = {name: found.pop(name) for name in self.dimensions}
        return Prediction(clip.name, seconds, found, None, dimensions)

    def timeline(
        self,
        recording: Source,
        *,
        window: float = 3.0,
        hop: float = 0.5,
        smoothing: float = 1.0,
        minimum: float = 0.0,
        batch_seconds: float | None = None,
        progress: bool = False,
    ) -> Timeline:
        """
        The emotions over the time of a recording of any length: the model takes windows, and a moving average their
        probabilities.

        Args:
            recording: One file, array or clip, see [`~hf_ser.inference.clips.find_clips`].
            window (`float`, defaults to 3): The length of a window in seconds. The last window ends with the recording; a
                shorter recording is one window.
            hop (`float`, defaults to 0.5): From one window's beginning to the next one's, in seconds.
            smoothing (`float`, defaults to 1): The width of a centred moving average over the probabilities, in seconds; 0
                for none. See [`Timeline.smoothed`].
            minimum (`float`, defaults to 0): Shorter segments, in seconds, join a neighbour; see [`Timeline.segments`].
            batch_seconds (`float`, *optional*): See [`predict`].
            progress (`bool`, defaults to `False`): Whether to show a progress bar, if there is a terminal.

        Returns:
            A [`Timeline`]: segments with `start`, `stop`, `emotion` and `probability`, and the windows that they come from, with
            the dimensions.
            Windows in which no sample reaches -80 dB of full scale do not go through the model: their probabilities are NaN
            and their emotion is `silence`.

        Raises:
            AudioError: if the recording cannot be decoded, is empty, too short for the encoder or not finite. A recording
                without any sound is one segment of silence.
            FileNotFoundError: if it does not exist.
            ValueError: if an argument is out of range, or there are several recordings.
        """
        shortest = minimum_samples(self.model.config)
        if not window * SAMPLING_RATE >= shortest:  # nor NaN
            raise ValueError(f"window: the encoder needs at least {shortest / SAMPLING_RATE} s, found {window}")
        if window > self.longest_input:
            raise ValueError(f"window: the model takes {self.longest_input:g} s at most, found {window}")
        if not 1 / SAMPLING_RATE <= hop <= window:
            raise ValueError(f"hop: must be more than 0 s and not more than the window ({window} s), found {hop}")
        for name, value in {"smoothing": smoothing, "minimum": minimum}.items():
            if not value >= 0:
                raise ValueError(f"{name}: must not be negative, found {value}")
        batch_seconds = self.budget(batch_seconds)
        clips = find_clips(recording)
        if len(clips) != 1:
            raise ValueError(f"recording: expected one recording, found {len(clips)}: {clips[0].name!r}, ...")
        clip = read(clips[0], shortest)
        if clip.problem is not None and clip.problem.reason != "silent":
            raise clip.problem

        waveform = clip.waveform
        windows = cut([len(waveform)], window, window - hop)
        views = [waveform[start:stop] for start, stop in zip(windows.start, windows.stop, strict=True)]
        sounding = [i for i, view in enumerate(views) if np.abs(view).max() >= SILENCE]
        outputs = np.full((len(views), len(self.emotions) + len(self.dimensions)), np.nan)
        with tqdm(total=len(sounding), unit=" windows", disable=None if progress else True) as bar:
            for batch, rows in self.classify([views[i] for i in sounding], batch_seconds):
                outputs[[sounding[i] for i in batch]] = rows
                bar.update(len(batch))
        start, stop = windows.start / SAMPLING_RATE, windows.stop / SAMPLING_RATE
        duration = len(waveform) / SAMPLING_RATE
        probabilities, values = np.split(outputs, [len(self.emotions)], axis=1)
        return Timeline(
            self.emotions, start, stop, probabilities, duration, smoothing, minimum, self.dimensions, values
        )

    def budget(self, batch_seconds: float | None) -> float:
        """
        The seconds of audio in a batch, padding included: `batch_seconds`, by default [`~hf_ser.memory.BATCH_SECONDS`].

        Raises:
            ValueError: if `batch_seconds` is not more than 0, or infinite.
        """
        if batch_seconds is None:
            return BATCH_SECONDS[kind_of(self.device)]
        if not 0 < batch_seconds < math.inf:  # nor NaN
            raise ValueError(f"batch_seconds: must be more than 0 s and finite, found {batch_seconds}")
        return batch_seconds

    def classify(
        self, waveforms: Sequence[Waveform], batch_seconds: float, batch_size: int | None = None
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
        """
        Runs the model on waveforms, longest first. Where the memory runs out, a batch is cut into smaller ones.

        Args:
            waveforms (`Sequence[np.ndarray]`): Each `(samples,)` at 16 kHz, not shorter than the encoder needs, and not longer
                than [`longest_input`].
            batch_seconds (`float`): Seconds of audio in a batch, padding included; a longer waveform is a batch of one.
            batch_size (`int`, *optional*): Waveforms in a batch, in place of `batch_seconds`.

        Yields:
            For each batch the waveforms' indices `(batch,)`, and the probabilities of the emotions with the values of the
            dimensions `(batch, emotions + dimensions)`.

        Raises:
            MemoryError: if one waveform alone does not fit into the memory of the device.
        """
        batches = self._batches(waveforms, batch_seconds, batch_size)
        with (
            start_threads(max(self.reading_threads, 1)) as threads,
            closing(Replicas(self.model, self.device, len(waveforms))) as replicas,
        ):
            for found in self._outputs(batches, threads, replicas):
                if found is not None:
                    yield found[0].places, found[1]

    def _batches(
        self, waveforms: Sequence[Waveform], batch_seconds: float, batch_size: int | None, pool: "_Pool | None" = None
    ) -> Iterator["_Batch"]:
        """Batches of waveforms, longest first. Each is formed when it is asked for: smaller, where the memory has run out."""
        order = np.argsort([-len(waveform) for waveform in waveforms], kind="stable")
        config = self.model.config
        fixed = needs_thirty_seconds(config) or isinstance(self.feature_extractor, FixedLengthFeatureExtractor)
        least = int(maximum_samples(config)) if fixed else 1  # what each waveform costs
        first = 0
        while first < len(order):
            width = max(len(waveforms[order[first]]), least)
            size = 1 if self.one_by_one else batch_size or int(batch_seconds * SAMPLING_RATE // width)
            places = order[first : first + max(int(min(size, self.in_fitting_parts.most / width)), 1)]
            yield _Batch(places, [waveforms[i] for i in places], width, pool)
            first += len(places)

    def _outputs(
        self, batches: Iterable["_Batch | None"], threads: Executor, replicas: Replicas
    ) -> Iterator["tuple[_Batch, npt.NDArray[np.float64]] | None"]:
        """
        The outputs `(batch, emotions + dimensions)` of each batch, in order. With `reading_threads`, these extract the features
        of the next batches, and the outputs of a batch are fetched when the next one is queued, so that a GPU always has work.
        On a CPU `replicas` compute several batches at once. A `None` comes before a batch that is not there yet; it is passed on
        after all outputs before it.
        """
        started: deque[tuple[_Batch, Callable[[], list[_Copy]]]] = deque()
        ahead = max(self.reading_threads, replicas.ahead)
        queued: deque[tuple[_Batch, list[_Copy]]] = deque()
        for batch in chain(batches, [None]):
            if batch is not None:
                features = partial(self._features, batch.waveforms)
                inputs = threads.submit(features).result if self.reading_threads else features
                started.append((batch, replicas.submit(partial(self._compute, batch, inputs))))
            while len(started) > (0 if batch is None else ahead):
                first, copies = started.popleft()
                queued.append((first, copies()))
                if len(queued) > 1:
                    yield self._fetch(*queued.popleft())
            while queued and (batch is None or not self.reading_threads):
                yield self._fetch(*queued.popleft())
            if batch is None:
                yield None

    def _features(self, waveforms: Sequence[Waveform]) -> BatchFeature:
        """The model's inputs for a batch, in memory that is copied to a GPU without waiting."""
        inputs = self.preprocess(waveforms)
        if self.device.type == "cuda":
            inputs.data = {name: values.pin_memory() for name, values in inputs.items()}
        return inputs

    def _compute(self, batch: "_Batch", features: Callable[[], BatchFeature], model: Any) -> "list[_Copy]":
        """Starts to compute the outputs of a batch, in parts that fit into the memory."""
        compute = partial(self._queue, model, batch.waveforms, features)
        return self.in_fitting_parts(compute, len(batch.places), batch.width)

    @torch.inference_mode()
    def _queue(
        self, model: Any, waveforms: Sequence[Waveform], features: Callable[[], BatchFeature], part: slice
    ) -> "_Copy":
        """Starts to compute the outputs for some of the waveforms of a batch."""
        whole = part == slice(0, len(waveforms))
        inputs = features() if whole else self._features(waveforms[part])  # padded to the longest of the part
        on_gpu = self.device.type == "cuda"
        logits = model(**inputs.to(self.device, non_blocking=on_gpu)).logits.to("cpu", non_blocking=on_gpu)
        return _Copy(logits, torch.cuda.current_stream(self.device).record_event() if on_gpu else None)

    def _fetch(self, batch: "_Batch", parts: Sequence["_Copy"]) -> "tuple[_Batch, npt.NDArray[np.float64]]":
        """Waits for the outputs of a batch, `(batch, emotions + dimensions)`."""
        for part in parts:
            if part.done is not None:
                part.done.synchronize()
        logits = torch.cat([part.logits for part in parts]).double()
        emotions, dimensions = logits.split([len(self.emotions), len(self.dimensions)], dim=-1)
        return batch, torch.cat([emotions.softmax(dim=-1), dimensions], dim=-1).numpy()

    def preprocess(self, waveforms: Sequence[Waveform]) -> BatchFeature:
        """
        The model's inputs for waveforms `(samples,)` at 16 kHz: PyTorch's tensors, padded to the longest, with an
        `attention_mask`. transformers' own Whisper needs inputs padded to 30 s, and takes no mask.
        """
        whole = needs_thirty_seconds(self.model.config)
        inputs = self.feature_extractor(
            list(waveforms),
            sampling_rate=SAMPLING_RATE,
            padding="max_length" if whole else True,
            return_attention_mask=not whole,  # with it each clip is normalised by itself, without it with its padding
            return_tensors="pt",
        )
        if whole:
            inputs.pop("attention_mask", None)  # the extractor returns one of samples all the same
        return inputs


class _Pool:
    """Clips that are sorted by length together: their segments, and the sums of their outputs, weighted by length."""

    def __init__(self, clips: Sequence[ReadClip], segmenter: Segmenter, outputs: int) -> None:
        segments = [segmenter(clip.waveform) if clip.problem is None else [] for clip in clips]
        self.clips, self.segments = clips, list(chain.from_iterable(segments))
        self.clip_of = np.repeat(np.arange(len(clips)), list(map(len, segments)))  # the clip of each segment
        self.samples = np.array(list(map(len, self.segments)), np.float64)
        #: The segments of each clip whose outputs are not there yet.
        self.left = np.bincount(self.clip_of, minlength=len(clips))
        self.sums = np.zeros((len(clips), outputs))

    def add(self, batch: npt.NDArray[np.int64], outputs: npt.NDArray[np.float64]) -> int:
        """Adds the outputs of some segments. Returns the number of clips that are complete by it."""
        clips = self.clip_of[batch]
        np.add.at(self.sums, clips, self.samples[batch, None] * outputs)
        np.subtract.at(self.left, clips, 1)
        return int((self.left[np.unique(clips)] == 0).sum())

    @property
    def means(self) -> npt.NDArray[np.float64]:
        """The mean outputs of each clip's segments, weighted by length: `(clips, outputs)`; 0 for a clip without segments."""
        return self.sums / np.bincount(self.clip_of, self.samples, len(self.clips)).clip(min=1)[:, None]


class _Batch(NamedTuple):
    """Waveforms that go through the model together: their `places` among all, and the samples that each of them costs."""

    places: npt.NDArray[np.int64]
    waveforms: list[Waveform]
    width: int
    pool: Any


class _Copy(NamedTuple):
    """Outputs that are copied from a GPU: they are there when `done` is."""

    logits: torch.Tensor
    done: torch.cuda.Event | None


def _equally(waveform: Waveform, longest: float) -> list[Waveform]:
    """Equal segments of at most `longest` seconds, without the silent ones: no moment counts twice."""
    count = 1 if math.isinf(longest) else math.ceil(len(waveform) / round(longest * SAMPLING_RATE))
    if count == 1:
        return [waveform]
    edges = np.linspace(0, len(waveform), count + 1).round().astype(int)
    segments = [waveform[start:stop] for start, stop in pairwise(edges)]
    return [segment for segment in segments if np.abs(segment).max() >= SILENCE]
