"""How many parameters train, from a configuration alone: no weights are needed, and no memory for them."""

import torch
from transformers import PretrainedConfig, Wav2Vec2Config, WavLMConfig, WhisperConfig

from hf_ser.models import Loaded, SpeechClassifier
from hf_ser.models.remote import SpeechClassifierConfig
from hf_ser.tuning.methods import Tuning, apply
from hf_ser.tuning.modes import parameter_counts

#: The encoders of PEFT-SER (Table II), by the values of their published configurations. (Its Table II gives Whisper Base 8
#: layers and Whisper Tiny 376 features; they have 6 and 384.)
PEFT_SER_ENCODERS: dict[str, PretrainedConfig] = {
    "Whisper Tiny": WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536),
    "Whisper Base": WhisperConfig(d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048),
    "Whisper Small": WhisperConfig(d_model=768, encoder_layers=12, encoder_attention_heads=12, encoder_ffn_dim=3072),
    "W2V 2.0 Base": Wav2Vec2Config(),
    "WavLM Base+": WavLMConfig(),
}
#: PEFT-SER's Table IV, in millions; its head is to be added to the others.
PEFT_SER_TABLE_IV = {
    "Whisper Tiny": {"head": 0.3, "adapter": 0.40, "prompt": 0.01, "lora_ff": 0.06},
    "Whisper Base": {"head": 0.33, "adapter": 0.79, "prompt": 0.02, "lora_ff": 0.12},
    "Whisper Small": {"head": 0.4, "adapter": 2.37, "prompt": 0.05, "lora_ff": 0.37},
    "W2V 2.0 Base": {"head": 0.4, "adapter": 2.37, "prompt": 0.05, "lora_ff": 0.37},
    "WavLM Base+": {"head": 0.4, "adapter": 2.37, "prompt": 0.05, "lora_ff": 0.37},
}


def trained_parameters(
    encoder: PretrainedConfig, tuning: Tuning, *, head: str = "conv", emotions: int = 4
) -> tuple[int, int]:
    """
    Args:
        encoder (`PretrainedConfig`): The encoder's configuration.
        tuning (`Tuning`): How it is tuned.
        head (`str`, defaults to `"conv"`): The head, `conv` or `stock`.
        emotions (`int`, defaults to 4): How many emotions.

    Returns:
        The parameters that train in the encoder or are added to it, and those of the head.
    """
    with torch.device("meta"):
        config = SpeechClassifierConfig(encoder=encoder, head=head, num_labels=emotions)
        loaded = Loaded(SpeechClassifier(config), None, ())
        model = apply(loaded, tuning)
    trainable, _ = parameter_counts(model)
    inside = sum(p.numel() for p in loaded.model.base_model.parameters() if p.requires_grad)
    return inside, trainable - inside


def table_iv() -> list[dict[str, object]]:
    """PEFT-SER's Table IV beside the parameters that train here, for each encoder and method."""
    rows: list[dict[str, object]] = []
    for name, config in PEFT_SER_ENCODERS.items():
        one = ["fc1"] if config.model_type == "whisper" else ["intermediate_dense"]
        for label, tuning in {
            "head": Tuning(method="head"),
            "adapter": Tuning(method="adapter"),
            "parallel_adapter": Tuning(method="parallel_adapter"),
            "prompt": Tuning(method="prompt"),
            "lora_ff": Tuning(method="lora_ff"),
            "lora_ff, one matrix": Tuning(method="lora_ff", lora_target_modules=one),
        }.items():
            inside, head = trained_parameters(config, tuning)
            paper = PEFT_SER_TABLE_IV[name].get(label.replace("parallel_", "").partition(",")[0])
            rows.append({"encoder": name, "method": label, "parameters": inside or head, "paper": paper})
    return rows
