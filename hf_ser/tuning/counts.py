"""How many parameters train, from a configuration alone: no weights are needed, and no memory for them."""

import torch
from transformers import PretrainedConfig, Wav2Vec2Config, WavLMConfig, WhisperConfig

from hf_ser.modeling import SERForAudioClassification, SERModelConfig
from hf_ser.models import Loaded
from hf_ser.tuning.methods import Tuning, apply, parameter_counts

#: The encoders of PEFT-SER (Table II), by the values of their published configurations. (Its Table II gives Whisper Base 8
#: layers and Whisper Tiny 376 features; they have 6 and 384.)
PEFT_SER_ENCODERS: dict[str, PretrainedConfig] = {
    "Whisper Tiny": WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536),
    "Whisper Base": WhisperConfig(d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048),
    "Whisper Small": WhisperConfig(d_model=768, encoder_layers=12, encoder_attention_heads=12, encoder_ffn_dim=3072),
    "W2V 2.0 Base": Wav2Vec2Config(),
    "WavLM Base+": WavLMConfig(),
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
        config = SERModelConfig(encoder=encoder, head=head, num_labels=emotions)
        loaded = Loaded(SERForAudioClassification(config), None, ())
        model = apply(loaded, tuning)
    trainable, _ = parameter_counts(model)
    inside = sum(p.numel() for p in loaded.model.base_model.parameters() if p.requires_grad)
    return inside, trainable - inside


def counts_by_method() -> dict[tuple[str, str], int]:
    """
    The parameters that train in each of PEFT-SER's encoders, or are added to it, with each of its methods (its Table IV); with
    `head` those of the head, which is not counted elsewhere. `lora_ff, one matrix` has one of the feed-forward's two.
    """
    found = {}
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
            found[name, label] = inside or head
    return found
