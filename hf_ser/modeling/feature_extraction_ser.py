"""
Whisper's features of a clip, without 30 s of padding.

This file goes to the Hub with a model: it imports nothing but numpy and transformers.
"""

from typing import Any

import numpy as np
from transformers import BatchFeature, WhisperFeatureExtractor


class SERFeatureExtractor(WhisperFeatureExtractor):
    """
    Whisper's log-mel spectrogram of each clip, padded to the longest of the batch and not to 30 s.

    The features of a clip do not depend on the batch, and are the frames that the stock extractor computes, up to rounding: a
    frame begins every 160 samples, and what lies 8 below the loudest value counts as silence. Only the last frame of a clip of
    29.998 s or more differs: the stock extractor mirrors the end there, and this one always appends silence. Padding is 0, as
    Whisper's convolutions see it beyond the ends.

    The arguments are those of [`WhisperFeatureExtractor`].
    """

    def __init__(self, return_attention_mask: bool = True, **kwargs: Any) -> None:
        super().__init__(return_attention_mask=return_attention_mask, **kwargs)

    def __call__(
        self,
        raw_speech: np.ndarray | list[float] | list[np.ndarray] | list[list[float]],
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_tensors: str | None = None,
        return_attention_mask: bool | None = None,
        padding: bool | str = "longest",
        max_length: int | None = None,
        sampling_rate: int | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """
        Args:
            raw_speech (`np.ndarray` or a list of them): One clip `(samples,)`, or several.
            truncation (`bool`, *optional*, defaults to `False`): Whether clips are cut to `max_length`.
            pad_to_multiple_of (`int`, *optional*): The number of mel frames becomes a multiple of this.
            return_tensors (`str`, *optional*): `"pt"` or `"np"`.
            return_attention_mask (`bool`, *optional*): Whether there is a mask, by default as the extractor was created.
            padding (`bool` or `str`, *optional*, defaults to `"longest"`): `"longest"` or `True`: to the longest clip;
                `"max_length"`: to `max_length`, or to the longest clip if it is longer.
            max_length (`int`, *optional*): In samples, by default 30 s.
            sampling_rate (`int`, *optional*): Of the clips, in Hz.

        Returns:
            `input_features` `(batch, mel bins, mel frames)` float32 and `attention_mask` `(batch, mel frames)`.

        Raises:
            ValueError: if the sampling rate is not the model's, or a clip is empty or has several channels.
        """
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise ValueError(f"sampling_rate={sampling_rate}: expected {self.sampling_rate} Hz")
        if padding not in (True, "longest", "max_length"):
            raise ValueError(f"padding={padding!r}: expected longest or max_length")
        one = not len(raw_speech) or np.ndim(raw_speech[0]) == 0
        clips = [np.asarray(clip, dtype=np.float32) for clip in ([raw_speech] if one else raw_speech)]
        for clip in clips:
            if clip.ndim != 1 or not len(clip):
                raise ValueError(
                    f"raw_speech: found a clip of shape {clip.shape}, expected one channel with samples in it"
                )
        longest = self.n_samples if max_length is None else max_length
        features = [self._log_mel(clip[:longest] if truncation else clip) for clip in clips]
        frames = max(feature.shape[-1] for feature in features)
        if padding == "max_length":
            frames = max(frames, self._frames(longest))
        if pad_to_multiple_of:
            frames += -frames % pad_to_multiple_of
        padded = [np.pad(feature, ((0, 0), (0, frames - feature.shape[-1]))) for feature in features]
        batch = {"input_features": np.stack(padded)}
        if self.return_attention_mask if return_attention_mask is None else return_attention_mask:
            lengths = np.array([feature.shape[-1] for feature in features])
            batch["attention_mask"] = (np.arange(frames) < lengths[:, None]).astype(np.int64)
        return BatchFeature(batch, tensor_type=return_tensors)

    def _frames(self, samples: int) -> int:
        return -(-samples // self.hop_length)

    def _log_mel(self, clip: np.ndarray) -> np.ndarray:
        """`(samples,)` to `(mel bins, mel frames)`."""
        # As far as the last frame reaches that contains the clip's end, and half a window more for the mirror.
        log_mel = self._torch_extract_fbank_features(np.pad(clip, (0, self.n_fft + self.hop_length)))
        return log_mel[:, : self._frames(len(clip))]
