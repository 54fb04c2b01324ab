"""
The other side: audio classification with transformers, PEFT and nothing else, as transformers' example script does it.

Clips are decoded and resampled whenever they are asked for (`set_transform`), extracted one by one, padded to the longest of
a random batch by `DataCollatorWithPadding`, and trained on in float32. Two things differ from the example, and cost nothing: it
decodes with soundfile in place of torchcodec, and the order of the clips is fixed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import soundfile
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AudioClassificationPipeline,
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    SequenceFeatureExtractor,
    Trainer,
)

from hf_ser.audio import SAMPLING_RATE
from hf_ser.audio.decode import Waveform, resample
from hf_ser.benchmark.variants import Method

#: What an undecoded `Audio` column holds, to a waveform `(samples,)` at 16 kHz.
Read = Callable[[dict[str, Any]], Waveform]


def read_file(audio: dict[str, Any]) -> Waveform:
    """Decodes a file of any rate, and resamples it."""
    source = audio["path"] if audio["bytes"] is None else BytesIO(audio["bytes"])
    samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
    return resample(samples.mean(axis=1), rate)


def read_prepared(audio: dict[str, Any]) -> Waveform:
    """Reads a clip of the prepared corpus, which is at 16 kHz already."""
    waveform: Waveform = soundfile.read(BytesIO(audio["bytes"]), dtype="float32")[0]
    return waveform


@dataclass(frozen=True)
class Transform:
    """The features of some rows. No function within a function: worker processes that are spawned could not be given it."""

    extractor: SequenceFeatureExtractor
    read: Read

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        name = self.extractor.model_input_names[0]
        waveforms = [self.read(audio) for audio in batch["audio"]]
        return {name: list(self.extractor(waveforms, sampling_rate=SAMPLING_RATE)[name]), "labels": batch["label"]}


def dataset(rows: Dataset, extractor: SequenceFeatureExtractor, read: Read) -> Dataset:
    """`rows` with `audio` and `label`, whose features are extracted as they are asked for."""
    return rows.with_transform(Transform(extractor, read))


def load(
    model: str, emotions: Sequence[str], method: Method, lora_dropout: float = 0.05
) -> tuple[torch.nn.Module, SequenceFeatureExtractor]:
    """The model with what `method` trains, and its feature extractor."""
    config = AutoConfig.from_pretrained(
        model,
        id2label=dict(enumerate(emotions)),
        label2id={emotion: i for i, emotion in enumerate(emotions)},
        use_weighted_layer_sum=method.weighted,
    )
    whisper = config.model_type == "whisper"
    # The same work for both: neither leaves out layers at random, and neither masks.
    config.apply_spec_augment = False
    setattr(config, "encoder_layerdrop" if whisper else "layerdrop", 0.0)
    network = AutoModelForAudioClassification.from_pretrained(model, config=config, dtype=torch.float32)
    extractor = AutoFeatureExtractor.from_pretrained(model, return_attention_mask=not whisper)
    if method.tuning.get("freeze_feature_encoder"):
        network.freeze_feature_encoder()
    if method.targets:
        present = {name.rpartition(".")[2] for name, _ in network.named_modules()}
        whole = ["projector", "classifier"] if method.whole_head else None
        targets = [name for name in method.targets if name in present]
        network = get_peft_model(
            network,
            LoraConfig(r=8, lora_alpha=16, lora_dropout=lora_dropout, target_modules=targets, modules_to_save=whole),
        )
    elif not method.whole_encoder:
        network.freeze_encoder() if whisper else network.freeze_base_model()
    return network, extractor


class OrderedTrainer(Trainer):
    """transformers' `Trainer`, which takes the clips in a given order in every epoch, so that all variants have the same."""

    order: Sequence[int] = ()

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.order


def predict(classifier: AudioClassificationPipeline, rows: Dataset, batch_size: int) -> int:
    """Classifies the files of `rows`, and says how many there were."""

    def waveforms() -> Iterator[dict[str, Any]]:
        for row in rows:
            yield {"array": read_file(row["audio"]), "sampling_rate": SAMPLING_RATE}

    return sum(1 for _ in classifier(waveforms(), batch_size=batch_size))
