"""Waveforms through the model, in batches of like length."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from transformers import ASTFeatureExtractor, AudioClassificationPipeline, BatchFeature

from hf_ser.audio import SAMPLING_RATE
from hf_ser.audio.decode import Waveform
from hf_ser.encoders import FAMILIES, encoder_config, filterbank_samples, maximum_samples, needs_thirty_seconds

Probabilities = npt.NDArray[np.float64]


def emotions_of(classifier: AudioClassificationPipeline) -> tuple[str, ...]:
    """
    The model's emotions, in the order of its outputs.

    Raises:
        ValueError: if the model was not trained to choose one of several emotions, or two have the same name.
    """
    config = classifier.model.config
    if config.problem_type in ("regression", "multi_label_classification"):
        raise ValueError(
            f"the model's problem_type is {config.problem_type!r}: it gives no probabilities that add up to 1, which are "
            "needed here"
        )
    emotions = tuple(config.id2label[i] for i in sorted(config.id2label))
    if twice := [name for name, number in Counter(emotions).items() if number > 1]:
        raise ValueError(
            f"the model calls several of its outputs {twice[0]!r}: give each a name of its own in id2label of its config.json"
        )
    return emotions


def budget(classifier: AudioClassificationPipeline, batch_seconds: float | None) -> float:
    """
    The seconds of sound in a batch, padding included: those asked for, or 120 on a GPU and 8 on a CPU, where larger batches
    need more memory and are no faster.

    Raises:
        ValueError: if `batch_seconds` is not more than 0.
    """
    if batch_seconds is None:
        return 8.0 if classifier.device.type == "cpu" else 120.0
    if not batch_seconds > 0:  # nor NaN
        raise ValueError(f"batch_seconds: must be more than 0 s, found {batch_seconds}")
    if batch_seconds == math.inf:
        raise ValueError("batch_seconds: must be a number of seconds that memory can hold, found inf")
    return batch_seconds


def longest_heard(classifier: AudioClassificationPipeline) -> float:
    """The seconds that the model hears of a waveform: 30 for Whisper, some 10 for the Audio Spectrogram Transformer."""
    if isinstance(classifier.feature_extractor, ASTFeatureExtractor):
        return filterbank_samples(classifier.feature_extractor.max_length) / SAMPLING_RATE
    return maximum_samples(classifier.model.config) / SAMPLING_RATE


def classify(
    classifier: AudioClassificationPipeline, waveforms: Sequence[Waveform], batch_seconds: float
) -> Iterator[tuple[npt.NDArray[np.int64], Probabilities]]:
    """
    Runs the model over waveforms, longest first: what does not fit into memory fails at once.

    The attention mask keeps padding out of the answer, which is the same as for the waveform alone. An encoder that is none of
    [`~hf_ser.encoders.FAMILIES`] may hear padding all the same, and gets one waveform after the other.

    Args:
        classifier (`AudioClassificationPipeline`): What `hf_ser.load` returns.
        waveforms (`Sequence[np.ndarray]`): Each `(samples,)` at 16 kHz, not shorter than the encoder needs, and not longer than
            [`longest_heard`].
        batch_seconds (`float`): How many seconds a batch may hold, padding included; a longer waveform is a batch of one.

    Yields:
        For each batch the waveforms' indices `(batch,)` and their probabilities `(batch, emotions)`.
    """
    order = np.argsort([-len(waveform) for waveform in waveforms], kind="stable")
    config = classifier.model.config
    padded = encoder_config(config).model_type in FAMILIES
    least = maximum_samples(config) if needs_thirty_seconds(config) else 1
    first = 0
    while first < len(order):
        most = int(batch_seconds * SAMPLING_RATE // max(len(waveforms[order[first]]), least)) if padded else 1
        batch = order[first : first + max(most, 1)]
        yield batch, _forward(classifier, [waveforms[i] for i in batch])
        first += len(batch)


def extract(classifier: AudioClassificationPipeline, waveforms: Sequence[Waveform]) -> BatchFeature:
    """
    What the model hears of waveforms.

    Args:
        classifier (`AudioClassificationPipeline`): What `hf_ser.load` returns.
        waveforms (`Sequence[np.ndarray]`): Each `(samples,)` at 16 kHz.

    Returns:
        PyTorch's tensors, padded to the longest, with an `attention_mask`; for transformers' own Whisper, which takes nothing
        else, each in 30 s and without a mask.
    """
    whole = needs_thirty_seconds(classifier.model.config)
    inputs = classifier.feature_extractor(
        list(waveforms),
        sampling_rate=SAMPLING_RATE,
        padding="max_length" if whole else True,
        return_attention_mask=not whole,  # with it each clip is normalised by itself, without it with its padding
        return_tensors="pt",
    )
    if whole:
        inputs.pop("attention_mask", None)  # the extractor has one of samples all the same
    return inputs


@torch.inference_mode()
def _forward(classifier: AudioClassificationPipeline, waveforms: list[Waveform]) -> Probabilities:
    inputs = extract(classifier, waveforms)
    logits = classifier.model(**inputs.to(classifier.device)).logits  # (batch, emotions)
    return logits.cpu().double().softmax(dim=-1).numpy()
