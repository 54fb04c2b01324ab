"""From files to 16 kHz waveforms. The only package that imports torchaudio, so that it can be replaced in one place."""

from hf_ser.audio.augment import Augmentation
from hf_ser.audio.decode import SAMPLING_RATE, AudioError, read_mono, read_segment
from hf_ser.audio.preparation import prepare
from hf_ser.audio.segment import Segments, cut
from hf_ser.audio.similarity import Fingerprint, fingerprints, near_duplicates

__all__ = ["SAMPLING_RATE", "AudioError", "Augmentation", "Segments", "cut", "prepare", "read_mono", "read_segment"]
__all__ += ["Fingerprint", "fingerprints", "near_duplicates"]
