"""The tables that need no training: parameters by configurations alone, clips by the names of files."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import torch
from transformers import HubertConfig, HubertForSequenceClassification, PretrainedConfig

from hf_ser.corpora import CorpusError, labelled_by, read
from hf_ser.modeling import SERForAudioClassification, SERModelConfig
from hf_ser.papers.figures import load_figures
from hf_ser.papers.tables import NOT_COUNTED, Ours
from hf_ser.tuning.counts import PEFT_SER_ENCODERS, counts_by_method

#: The corpora of HuBERT-SER's Table 2 and of PEFT-SER's Table III, by the names that they have there.
HUBERT_SER_CORPORA = {"CREMA-D": "crema_d", "RAVDESS": "ravdess", "SAVEE": "savee", "TESS": "tess"}
PEFT_SER_CORPORA = {
    "IEMOCAP": "iemocap",
    "CREMA-D": "crema_d_votes",
    "MSP-Improv": "msp_improv",
    "MSP-Podcast": "msp_podcast",
}
#: superb/hubert-large-superb-er by the values of its published configuration, with the eight emotions of HuBERT-SER.
HUBERT_LARGE_SUPERB = HubertConfig(
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


def hubert_ser_1(corpora: Sequence[str]) -> Ours:
    """HuBERT-SER's Table 1: the parameters of HuBERT Large with the head, so that they add up."""
    with torch.device("meta"):
        model = HubertForSequenceClassification(HUBERT_LARGE_SUPERB)
    front, encoder = model.hubert.feature_extractor, model.hubert.encoder
    convolutions = [_count(layer.conv) for layer in front.conv_layers]
    values = {
        "HubertFeatureEncoder": _count(front),
        "Conv1d (Layer 0)": convolutions[0],
        "Conv1d (Layers 1-4)": sum(convolutions[1:5]),
        "Conv1d (Layers 5-6)": sum(convolutions[5:]),
        "FeatureProjection": _count(model.hubert.feature_projection),
        "HubertEncoderStableLayerNorm": _count(encoder),
        "Projector": _count(model.projector),
        "Classifier": _count(model.classifier),
        "Total Parameters": _count(model),
    }
    table = load_figures()["hubert_ser/1"]
    cells = {(table.row(name), 0): f"{value:,}" for name, value in values.items()}
    cells[table.row("HubertEncoderLayerStableLayerNorm"), 0] = f"{_count(encoder.layers[0]):,} (each)"
    return Ours(
        {"ours": cells},
        more_rows=[
            ("in the feature encoder: layer norms", f"{_count(front) - sum(convolutions):,}"),
            ("in the encoder: positional convolution", f"{_count(encoder.pos_conv_embed):,}"),
            ("in the encoder: layer norm", f"{_count(encoder.layer_norm):,}"),
            ("embedding of masked frames", f"{model.hubert.masked_spec_embed.numel():,}"),
            ("weights of the layers", f"{model.layer_weights.numel():,}"),
        ],
    )


def hubert_ser_2(corpora: Sequence[str]) -> Ours:
    """HuBERT-SER's Table 2: clips by emotion and corpus, of the corpora that are given."""
    counts, missing = count(corpora, HUBERT_SER_CORPORA)
    table = load_figures()["hubert_ser/2"]
    cells = {
        (i, 0): f"{counts[HUBERT_SER_CORPORA[str(source)]][str(emotion).lower()]:,}"
        for i, (emotion, source, _) in enumerate(table.rows)
        if HUBERT_SER_CORPORA[str(source)] in counts
    }
    others = [
        f"{source} has {n} clips of {emotion}, for which the paper has no line"
        for source, name in HUBERT_SER_CORPORA.items()
        for emotion, n in counts.get(name, Counter()).items()
        if (emotion.capitalize(), source) not in {row[:2] for row in table.rows}
    ]
    everything = sum(sum(corpus.values()) for corpus in counts.values())
    more = [("all that are given", f"{everything:,}")] if counts else []
    return Ours({"ours": cells}, NOT_COUNTED, more, missing, others)


def peft_ser_ii(corpora: Sequence[str]) -> Ours:
    """PEFT-SER's Table II: the encoders, by their published configurations."""
    table = load_figures()["peft_ser/II"]
    cells: dict[tuple[int, int], str] = {}
    for name, config in PEFT_SER_ENCODERS.items():
        whisper = config.model_type == "whisper"
        values = (
            "Mel Spec" if whisper else "Raw Wave",
            str(config.num_hidden_layers),
            str(config.hidden_size),
            f"{encoder_parameters(config) / 1e6:.2f}M",
        )
        cells |= {(table.row(name), k): value for k, value in enumerate(values)}
    return Ours({"ours": cells})


def peft_ser_iii(corpora: Sequence[str]) -> Ours:
    """PEFT-SER's Table III: clips of four emotions by corpus, of the corpora that are given; CREMA-D's by votes."""
    counts, missing = count(corpora, PEFT_SER_CORPORA)
    table = load_figures()["peft_ser/III"]
    emotions = [column.lower() for column in table.columns[1:-1]]
    cells: dict[tuple[int, int], str] = {}
    for label, name in PEFT_SER_CORPORA.items():
        if name in counts:
            row = [counts[name][emotion] for emotion in emotions]
            cells |= {(table.row(label), k): f"{value:,}" for k, value in enumerate([*row, sum(row)])}
    if len(counts) == len(PEFT_SER_CORPORA):
        sums = [sum(corpus[emotion] for corpus in counts.values()) for emotion in emotions]
        cells |= {(table.row("Total"), k): f"{value:,}" for k, value in enumerate([*sums, sum(sums)])}
    return Ours({"ours": cells}, NOT_COUNTED, missing=missing)


def peft_ser_iv(corpora: Sequence[str]) -> Ours:
    """PEFT-SER's Table IV: the parameters that train, by encoder and method."""
    table = load_figures()["peft_ser/IV"]
    found = counts_by_method()
    cells: dict[tuple[int, int], str] = {}
    for name in PEFT_SER_ENCODERS:
        for k, method in enumerate(("head", "adapter", "prompt", "lora_ff")):
            cells[table.row(name), k] = _millions(found[name, method])
        cells[table.row(name), 3] += f" ({_millions(found[name, 'lora_ff, one matrix'])})"
    return Ours({"ours": cells}, notes=["A parallel adapter has as many parameters as an adapter."])


def parameters_beside_table_iv() -> list[tuple[str, str, int, str | None]]:
    """Encoder, method, the parameters that train, and what PEFT-SER's Table IV has in that place."""
    table = load_figures()["peft_ser/IV"]
    column = {"head": 1, "adapter": 2, "parallel_adapter": 2, "prompt": 3, "lora_ff": 4, "lora_ff, one matrix": 4}
    return [
        (encoder, method, parameters, table.rows[table.row(encoder)][column[method]])
        for (encoder, method), parameters in counts_by_method().items()
    ]


#: What computes a table, given the corpora as `NAME=PATH`.
COMPUTED: dict[str, Callable[[Sequence[str]], Ours]] = {
    "hubert_ser/1": hubert_ser_1,
    "hubert_ser/2": hubert_ser_2,
    "peft_ser/II": peft_ser_ii,
    "peft_ser/III": peft_ser_iii,
    "peft_ser/IV": peft_ser_iv,
}


def count(corpora: Sequence[str], wanted: Mapping[str, str]) -> tuple[dict[str, Counter[str]], list[str]]:
    """
    Clips by corpus and emotion, copies of clips left out.

    Args:
        corpora (`Sequence[str]`): The corpora that are given, as `NAME=PATH`.
        wanted (`dict[str, str]`): The names of those that a table has, by what it calls them.

    Returns:
        The counts of those that are given and can be read, and for each of the others what is missing.
    """
    counts: dict[str, Counter[str]] = {}
    missing = []
    for label, name in wanted.items():
        specification = given(corpora, name)
        if specification is None:
            missing.append(f"{label} needs --corpora {asked_for(name)}=FOLDER")
            continue
        try:
            (rows,) = read(specification)
        except CorpusError as error:
            missing.append(f"{label}: {error}")
            continue
        pairs = zip(rows["emotion"][:], rows["copy_of"][:], strict=True)
        counts[name] = Counter(emotion for emotion, copy_of in pairs if copy_of is None)
    return counts, missing


def given(corpora: Sequence[str], name: str) -> str | None:
    """What is given of a corpus, as `NAME=PATH`: CREMA-D by votes is CREMA-D with other labels."""
    for specification in corpora:
        own = specification.partition("=")[0]
        if own == name:
            return specification
        if own == asked_for(name):
            return labelled_by([specification], "multimodal_vote")[0]
    return None


def asked_for(name: str) -> str:
    """The name under which a corpus is given on the command line."""
    return name.removesuffix("_votes")


def encoder_parameters(config: PretrainedConfig) -> int:
    """The parameters of an encoder, without a head; of Whisper those of its encoder."""
    with torch.device("meta"):
        return _count(SERForAudioClassification(SERModelConfig(encoder=config)).base_model)


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:.2f} M"
