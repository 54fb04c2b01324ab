"""The tables that need no training: parameters come from configurations, clips from the names of files."""

from collections import Counter
from collections.abc import Callable, Mapping

import torch
from published import TABLES, Cells
from torch import nn
from transformers import (
    HubertConfig,
    HubertForSequenceClassification,
    PretrainedConfig,
    Wav2Vec2Config,
    WavLMConfig,
    WhisperConfig,
)

from hf_ser.corpora import CorpusError, read
from hf_ser.modeling import Loaded, SERForAudioClassification, SERModelConfig
from hf_ser.tuning import Tuning, parameter_counts
from hf_ser.tuning.methods import apply

#: The corpora of HuBERT-SER's Table 2 and of PEFT-SER's Table III: the paper's name and this package's.
HUBERT_SER_CORPORA = {"CREMA-D": "crema_d", "RAVDESS": "ravdess", "SAVEE": "savee", "TESS": "tess"}
PEFT_SER_CORPORA = {
    "IEMOCAP": "iemocap",
    "CREMA-D": "crema_d_votes",
    "MSP-Improv": "msp_improv",
    "MSP-Podcast": "msp_podcast_known_speakers",
}
#: The published configurations of PEFT-SER's encoders. (Its Table II prints 8 layers for Whisper Base, 376 features for Tiny.)
ENCODERS: dict[str, PretrainedConfig] = {
    "Whisper Tiny": WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536),
    "Whisper Base": WhisperConfig(d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048),
    "Whisper Small": WhisperConfig(d_model=768, encoder_layers=12, encoder_attention_heads=12, encoder_ffn_dim=3072),
    "W2V 2.0 Base": Wav2Vec2Config(),
    "WavLM Base+": WavLMConfig(),
}

#: Corpora as given: PATH by NAME.
Corpora = Mapping[str, str]
Counts = tuple[Cells, list[str]]


def path_of(corpora: Corpora, name: str) -> str | None:
    """The path of a corpus; CREMA-D with its votes as labels is the same folder."""
    return corpora.get(name, corpora.get(name.removesuffix("_votes")))


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def hubert_ser_1(corpora: Corpora) -> Counts:
    """HuBERT-SER's Table 1: the parameters of superb/hubert-large-superb-er with eight emotions."""
    config = HubertConfig(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        conv_bias=True,
        use_weighted_layer_sum=True,
        num_labels=8,
    )
    with torch.device("meta"):
        model = HubertForSequenceClassification(config)
    front, encoder = model.hubert.feature_extractor, model.hubert.encoder
    convolutions = [parameters(layer.conv) for layer in front.conv_layers]
    values = {
        "HubertFeatureEncoder": parameters(front),
        "Conv1d (Layer 0)": convolutions[0],
        "Conv1d (Layers 1-4)": sum(convolutions[1:5]),
        "Conv1d (Layers 5-6)": sum(convolutions[5:]),
        "FeatureProjection": parameters(model.hubert.feature_projection),
        "HubertEncoderStableLayerNorm": parameters(encoder),
        "HubertEncoderLayerStableLayerNorm": parameters(encoder.layers[0]),
        "Projector": parameters(model.projector),
        "Classifier": parameters(model.classifier),
        "Total Parameters": parameters(model),
    }
    cells = {(TABLES["hubert_ser/1"].row(name), 0): f"{value:,}" for name, value in values.items()}
    others = {
        "layer norms of the feature encoder": parameters(front) - sum(convolutions),
        "positional convolution": parameters(encoder.pos_conv_embed),
        "last layer norm of the encoder": parameters(encoder.layer_norm),
        "embedding of masked frames": model.hubert.masked_spec_embed.numel(),
        "weights of the layers": model.layer_weights.numel(),
    }
    note = "Not listed in the paper: " + "; ".join(f"{name}, {value:,}" for name, value in others.items())
    return cells, [note]


def count(corpora: Corpora, wanted: Mapping[str, str]) -> tuple[dict[str, Counter[str]], list[str]]:
    """
    Counts the clips of each emotion, without copies of clips.

    Returns:
        The counts by the paper's name of a corpus, and a note for each corpus that is not given or cannot be read.
    """
    counts, notes = {}, []
    for label, name in wanted.items():
        path = path_of(corpora, name)
        if path is None:
            notes.append(f"not counted: {label} needs --corpora {name.removesuffix('_votes')}=FOLDER")
            continue
        try:
            (rows,) = read(f"{name}={path}")
        except CorpusError as error:
            notes.append(f"not counted: {label}: {error}")
            continue
        pairs = zip(rows["emotion"][:], rows["copy_of"][:], strict=True)
        counts[label] = Counter(emotion for emotion, copy_of in pairs if copy_of is None)
    return counts, notes


def hubert_ser_2(corpora: Corpora) -> Counts:
    """HuBERT-SER's Table 2: clips by emotion and corpus."""
    counts, notes = count(corpora, HUBERT_SER_CORPORA)
    cells = Cells()
    for i, (emotion, source, _) in enumerate(TABLES["hubert_ser/2"].rows):
        if source in counts:
            cells[i, 0] = f"{counts[source].pop(str(emotion).lower(), 0):,}"
    notes += [f"{source} has {n} clips of {emotion}; the paper has no such row."
              for source, found in counts.items() for emotion, n in found.items()]  # fmt: skip
    return cells, notes


def peft_ser_ii(corpora: Corpora) -> Counts:
    """PEFT-SER's Table II: the encoders."""
    cells: Cells = {}
    for i, config in enumerate(ENCODERS.values()):
        with torch.device("meta"):
            encoder = SERForAudioClassification(SERModelConfig(encoder=config)).base_model
        kind = "Mel Spec" if config.model_type == "whisper" else "Raw Wave"
        values = (kind, config.num_hidden_layers, config.hidden_size, f"{parameters(encoder) / 1e6:.2f}M")
        cells |= {(i, k): str(value) for k, value in enumerate(values)}
    return cells, []


def peft_ser_iii(corpora: Corpora) -> Counts:
    """PEFT-SER's Table III: clips of four emotions by corpus; CREMA-D's by votes."""
    counts, notes = count(corpora, PEFT_SER_CORPORA)
    table, cells = TABLES["peft_ser/III"], Cells()
    emotions = [column.lower() for column in table.columns[1:-1]]
    if len(counts) == len(PEFT_SER_CORPORA):
        counts["Total"] = sum(counts.values(), Counter())
    for label, found in counts.items():
        values = [found[emotion] for emotion in emotions]
        cells |= {(table.row(label), k): f"{value:,}" for k, value in enumerate([*values, sum(values)])}
    return cells, notes


def peft_ser_iv(corpora: Corpora) -> Counts:
    """PEFT-SER's Table IV: the parameters that train in an encoder, or are added to it, and those of the head."""
    cells: Cells = {}
    for i, config in enumerate(ENCODERS.values()):
        one = ["fc1"] if config.model_type == "whisper" else ["intermediate_dense"]
        for k, method in enumerate(("frozen", "adapter", "prompt", "lora_ff")):
            cells[i, k] = trainable(config, Tuning(method=method))
        cells[i, 3] += f" ({trainable(config, Tuning(method='lora_ff', lora_target_modules=one))})"
    return cells, ["A parallel adapter has as many parameters as an adapter."]


def trainable(encoder: PretrainedConfig, tuning: Tuning) -> str:
    """The parameters that `tuning` trains without those of the head, or if it trains nothing else those of the head."""
    with torch.device("meta"):
        config = SERModelConfig(encoder=encoder, head="conv", num_labels=4)
        loaded = Loaded(SERForAudioClassification(config), None, ())
        everything, _ = parameter_counts(apply(loaded, tuning))
    inside = sum(p.numel() for p in loaded.model.base_model.parameters() if p.requires_grad)
    return f"{(inside or everything) / 1e6:.2f} M"


#: The function that computes a table from the given corpora.
COUNTED: dict[str, Callable[[Corpora], Counts]] = {
    "hubert_ser/1": hubert_ser_1,
    "hubert_ser/2": hubert_ser_2,
    "peft_ser/II": peft_ser_ii,
    "peft_ser/III": peft_ser_iii,
    "peft_ser/IV": peft_ser_iv,
}
