"""What the speed benchmark compares, on which clips, and its baseline: transformers and PEFT without this package."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import soundfile
import torch
import transformers
from peft import LoraConfig, get_peft_model
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import HubertConfig, PretrainedConfig, WhisperConfig

from hf_ser.audio import SAMPLING_RATE, prepare
from hf_ser.audio.decode import resample
from hf_ser.command_line import option
from hf_ser.corpora import CorpusError, read_corpora
from hf_ser.machine import processors
from hf_ser.modeling.families import encoder_config, minimum_samples
from hf_ser.modeling.load import load_config, resolve_checkpoint

Result = dict[str, Any]

#: Encoders with random weights: they cost what the published ones do. No layers are left out at random (layerdrop 0).
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
TINY = {"d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536}
DECODER = {"decoder_layers": 1, "decoder_attention_heads": 6, "decoder_ffn_dim": 64}
SHAPES: dict[str, PretrainedConfig] = {
    "hubert-base": HubertConfig(layerdrop=0.0),
    "hubert-large": HubertConfig(**LARGE, **LAYER_NORM, layerdrop=0.0),
    "whisper-tiny": WhisperConfig(**TINY, **DECODER),
}
#: The methods, and the modules that the baseline's LoRA adapts.
METHODS: dict[str, tuple[str, ...]] = {
    "full": (),
    "lora_qkv": ("q_proj", "k_proj", "v_proj"),
    "lora_ff": ("fc1", "fc2", "intermediate_dense", "output_dense"),
    "lora_classifier": ("classifier",),
    "frozen": (),
}
#: The variants of training. Each has the optimisations of all variants before it.
VARIANTS = {
    "baseline": "transformers' Trainer: files decoded at every access, float32",
    "bfloat16": "the same in bfloat16, where the hardware has it",
    "prepared": "clips from the corpus that was decoded once",
    "trainer": "this package's model and Trainer: frozen modules in eval mode and without a graph",
    "attention": "attention as plain matrix products in bfloat16 or with dropout, on a CPU",
    "micro_batches": "a batch in micro-batches of similar lengths, with less padding",
    "memory": "the allocator keeps freed memory, on a CPU",
    "cache": "the outputs of the frozen layers are kept between epochs",
    "defaults": "SERTrainer with its defaults: linear head solved as a probe, augmentation, frozen convolutions",
}
BASELINE, HALF_BASELINE, DEFAULTS = "baseline", "bfloat16", "defaults"
#: Sampling rate in Hz, format and share of the synthetic clips: CREMA-D (half of it as FLAC), TESS, RAVDESS, SAVEE by size.
KINDS = (
    (16_000, "wav", 0.31),
    (16_000, "flac", 0.30),
    (24_000, "wav", 0.23),
    (48_000, "wav", 0.12),
    (44_100, "wav", 0.04),
)


@dataclass(frozen=True)
class Settings:
    """The arguments of a benchmark."""

    model: str = option(
        "hubert-base", help=f"encoder: a folder, a name on the Hub, or random weights: {', '.join(SHAPES)}"
    )
    methods: list[str] = option([], help="by default those of the paper with this encoder", choices=METHODS)
    variants: list[str] = option([*VARIANTS], help="; ".join(map(": ".join, VARIANTS.items())), choices=VARIANTS)
    others: list[str] = option(
        ["inference", "probe"], help="what is measured besides training", choices=["inference", "probe"]
    )
    corpora: list[str] = option([], help="NAME=PATH; by default synthetic clips")
    clips: int = option(32, help="clips that are predicted, and clips of the synthetic corpus")
    batch_sizes: list[int] = option([4], help="clips in a training batch; of several sizes the fastest counts")
    steps: int = option(4, help="training steps in an epoch, of the largest batches")
    warm_up: int = option(1, help="training steps before the measurement, at least 1")
    least_seconds: float = option(2.0, help="seconds that are measured at least, in whole epochs")
    most_seconds: float = option(
        600.0, help="seconds after which a measurement ends, within an epoch and without larger batches"
    )
    rounds: int = option(3, help="how often each measurement is taken")
    epochs: int = option(50, help="epochs of the extrapolated run")
    threads: int = option(processors(), help="threads of a process on the CPU")
    workers: int = option(0, help="processes that load the batches, on both sides")
    seed: int = option(0, help="seed of clips, weights and order")
    output: str = option("benchmark", help="the folder of the results")

    def __post_init__(self) -> None:
        if self.clips < self.training_clips:
            raise ValueError(f"clips={self.clips}: expected at least steps * batch_sizes, {self.training_clips}")
        if BASELINE not in self.variants:
            raise ValueError(f"variants={self.variants}: expected {BASELINE} among them, for comparison")

    @property
    def training_clips(self) -> int:
        """The clips of an epoch."""
        return self.steps * max(self.batch_sizes)


# Clips


def write_clips(folder: Path, clips: int, seed: int = 0) -> str:
    """Writes synthetic clips with the rates, formats and lengths of the usual corpora, and returns `manifest=PATH`."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    kinds = rng.choice(len(KINDS), size=clips, p=[share for *_, share in KINDS])
    kinds[: len(KINDS)] = np.arange(len(KINDS))[:clips]  # each kind at least once
    lengths = np.clip(2.8 * np.exp(0.35 * rng.standard_normal(clips)), 1.5, 7.0)
    rows = []
    for i, (kind, length) in enumerate(zip(rng.permutation(kinds), lengths, strict=True)):
        rate, suffix, _ = KINDS[kind]
        seconds, pitch = np.arange(round(length * rate)) / rate, rng.uniform(90, 250)
        tone = sum(np.sin(2 * np.pi * k * pitch * seconds) / k for k in range(1, 12))
        samples = 0.1 * (1.2 + np.sin(8 * np.pi * seconds)) * (tone + 0.1 * rng.standard_normal(len(seconds)))
        soundfile.write(folder / f"{i:05d}.{suffix}", samples, rate, subtype="PCM_16")
        rows.append([f"{i:05d}.{suffix}", ("angry", "happy", "neutral", "sad")[i % 4], f"s{i % 10}"])
    pd.DataFrame(rows, columns=["path", "emotion", "speaker"]).to_csv(folder / "clips.csv", index=False)
    return f"manifest={folder / 'clips.csv'}"


def load_clips(settings: Settings, work: Path) -> datasets.Dataset:
    """
    Draws `settings.clips` clips from the corpora; decodes what is not prepared yet.

    Returns:
        Rows with `file` (undecoded), `audio` (prepared, 16 kHz), `label`, `duration` (s) and `samples_hash`, in random order.

    Raises:
        CorpusError: if the corpora have too few usable files.
    """
    corpora = read_corpora(settings.corpora)
    prepared = prepare(corpora, cache=work / "prepared", workers=settings.threads)
    files = datasets.concatenate_datasets(corpora).select_columns(["audio"]).rename_column("audio", "file")
    shortest = minimum_samples(load_config(settings.model)) / SAMPLING_RATE
    columns = zip(files["file"], prepared["problem"][:], prepared["duration"][:], strict=True)
    usable = [i for i, (file, problem, s) in enumerate(columns) if file["path"] and not problem and s >= shortest]
    if len(usable) < settings.clips:
        raise CorpusError(
            f"corpora: expected clips={settings.clips} usable files, found {len(usable)}; give fewer clips"
        )
    chosen = np.random.default_rng(settings.seed).permutation(usable)[: settings.clips].tolist()
    names = [prepared["emotion"][i] or "unknown" for i in chosen]
    features = datasets.Features({"label": datasets.ClassLabel(names=sorted(set(names)))})
    labels = datasets.Dataset.from_dict({"label": names}, features=features)
    rows = prepared.select_columns(["audio", "duration", "samples_hash"])
    return datasets.concatenate_datasets([files.select(chosen), rows.select(chosen), labels], axis=1)


# The baseline: transformers, PEFT and nothing else


def read(audio: Result) -> np.ndarray:
    """Decodes a file or a prepared clip: `(samples,)` at 16 kHz."""
    source = audio["path"] if audio["bytes"] is None else BytesIO(audio["bytes"])
    samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
    return resample(samples.mean(axis=1), rate)


def extract(batch: dict[str, list[Any]], column: str, extractor: Any) -> dict[str, list[Any]]:
    """The features of some rows, clip by clip, as transformers' example has it."""
    name = extractor.model_input_names[0]
    waveforms = [read(audio) for audio in batch[column]]
    return {name: list(extractor(waveforms, sampling_rate=SAMPLING_RATE)[name]), "labels": batch["label"]}


def load_baseline(
    settings: Settings, emotions: Sequence[str], method: str, *, weighted: bool = False
) -> tuple[Any, Any]:
    """The stock model with the parameters of `method` trainable, and its feature extractor."""
    config = transformers.AutoConfig.from_pretrained(settings.model)
    whisper = config.model_type == "whisper"
    config.id2label = dict(enumerate(emotions))
    config.use_weighted_layer_sum, config.apply_spec_augment = weighted, False
    setattr(config, "encoder_layerdrop" if whisper else "layerdrop", 0.0)
    stock = transformers.AutoModelForAudioClassification
    model = stock.from_pretrained(settings.model, config=config, dtype=torch.float32)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(settings.model, return_attention_mask=not whisper)
    if METHODS[method]:
        present = {name.rpartition(".")[2] for name, _ in model.named_modules()}
        targets = sorted(present.intersection(METHODS[method]))
        head = None if method == "lora_classifier" else ["projector", "classifier"]
        lora = {"target_modules": targets, "modules_to_save": head, "lora_dropout": 0.05}
        return get_peft_model(model, LoraConfig(r=8, lora_alpha=16, **lora)), extractor
    if method == "frozen":
        model.freeze_encoder() if whisper else model.freeze_base_model()
    return model, extractor


def solve_with_scikit_learn(
    settings: Settings, clips: datasets.Dataset, train: int, device: torch.device, batch_size: int
) -> None:
    """
    A probe from files: transformers' encoder, and scikit-learn. The first `train` clips train, the others are tested. It reads
    one file after the other, as short scripts do.
    """
    model, extractor = load_baseline(settings, clips.features["label"].names, "full")
    encoder, name = model.base_model.eval().to(device), extractor.model_input_names[0]
    whisper = encoder.config.model_type == "whisper"
    found = []
    for first in range(0, len(clips), batch_size):
        waveforms = [read(file) for file in clips[first : first + batch_size]["audio"]]
        inputs = extractor(
            waveforms,
            sampling_rate=SAMPLING_RATE,
            padding="max_length" if whisper else True,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(device)
        with torch.no_grad():
            states = torch.stack(
                encoder(inputs[name], attention_mask=inputs["attention_mask"], output_hidden_states=True).hidden_states,
                1,
            )
        # Whisper's features have two frames for each of its states.
        frames = (
            (inputs["attention_mask"].sum(1) * states.shape[2] / inputs["attention_mask"].shape[1]).int().clamp(min=1)
        )
        found += [clip[:, :n].mean(dim=1).flatten().cpu() for clip, n in zip(states, frames.tolist(), strict=True)]
    features, labels = torch.stack(found).numpy(), np.array(clips["label"][:])
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    regression.fit(features[:train], labels[:train])
    recall_score(labels[train:], regression.predict(features[train:]), average="macro", zero_division=0)


def set_up(settings: Settings, work: Path) -> Settings:
    """Makes the encoder and the clips that are not given, and fills in the default methods."""
    model = resolve_checkpoint(settings.model)
    if config := SHAPES.get(model):
        transformers.set_seed(settings.seed)
        model = str(work / model)
        whisper = config.model_type == "whisper"
        (transformers.WhisperModel if whisper else transformers.HubertModel)(config).save_pretrained(model)
        extractor = transformers.WhisperFeatureExtractor if whisper else transformers.Wav2Vec2FeatureExtractor
        extractor(return_attention_mask=not whisper).save_pretrained(model)
    whisper = encoder_config(load_config(model)).model_type == "whisper"
    usual = ["lora_ff", "frozen"] if whisper else ["full", "lora_qkv", "lora_classifier", "frozen"]
    return dataclasses.replace(
        settings,
        model=model,
        corpora=settings.corpora or [write_clips(work / "clips", settings.clips, settings.seed)],
        methods=settings.methods or usual,
        variants=[name for name in VARIANTS if name in settings.variants],
    )
