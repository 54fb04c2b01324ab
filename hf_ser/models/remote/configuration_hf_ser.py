"""
What a speech classifier is made of.

This file goes to the Hub with a model: it imports nothing but transformers.
"""

from typing import Any

from transformers import AutoConfig, PretrainedConfig


class SpeechClassifierConfig(PretrainedConfig):
    """
    An encoder and the head on it.

    Args:
        encoder (`PretrainedConfig` or `dict`, *optional*): Of HuBERT, Wav2Vec2, WavLM, Whisper or another encoder of audio;
            by default a HuBERT Base. Its layerdrop becomes 0: whole layers left out at random fail with distributed
            training and with gradient checkpointing.
        head (`str`, *optional*, defaults to `"conv"`): `"conv"` is PEFT-SER's (section III): a learned average of all
            layers, three pointwise convolutions, the mean over time, two linear layers. `"stock"` is transformers' own:
            one projection, the mean over time, one linear layer. `"linear"` projects the mean and the standard deviation
            over time of every layer, and of what enters the first, to the emotions; one linear layer follows.
        conv_size (`int`, *optional*, defaults to 256): The features of the convolutions of `"conv"`, and of its first
            linear layer.
        head_dropout (`float`, *optional*, defaults to 0.1): The dropout between those convolutions, in training.
        classifier_proj_size (`int`, *optional*, defaults to 256): The features of the projection of `"stock"`.
        use_weighted_layer_sum (`bool`, *optional*): Whether the head sees a learned average of all layers and not the last.
            Always true of `"conv"`, and false of `"linear"`; of `"stock"` only if asked for.
        **kwargs: For `PretrainedConfig`: `id2label`, `label2id` and the like.

    Raises:
        ValueError: if `head` is unknown.
    """

    model_type = "hf_ser"
    sub_configs = {"encoder": AutoConfig}  # noqa: RUF012 - as transformers declares it

    def __init__(
        self,
        encoder: PretrainedConfig | dict[str, Any] | None = None,
        head: str = "conv",
        conv_size: int = 256,
        head_dropout: float = 0.1,
        classifier_proj_size: int = 256,
        use_weighted_layer_sum: bool | None = None,
        **kwargs: Any,
    ) -> None:
        if head not in ("conv", "stock", "linear"):
            raise ValueError(f"head: {head!r} is none of conv, stock, linear")
        if isinstance(encoder, PretrainedConfig):
            self.encoder = encoder
        else:
            settings = dict(encoder or {})
            self.encoder = AutoConfig.for_model(settings.pop("model_type", "hubert"), **settings)
        setattr(self.encoder, "encoder_layerdrop" if self.encoder.model_type == "whisper" else "layerdrop", 0.0)
        self.head = head
        self.conv_size = conv_size
        self.head_dropout = head_dropout
        self.classifier_proj_size = classifier_proj_size
        self.use_weighted_layer_sum = head == "conv" or (head == "stock" and bool(use_weighted_layer_sum))
        super().__init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        """The features of a frame, as they leave the encoder."""
        return self.encoder.hidden_size

    @property
    def num_hidden_layers(self) -> int:
        """The transformer layers of the encoder."""
        return self.encoder.num_hidden_layers

    def to_dict(self) -> dict[str, Any]:
        """
        What `config.json` holds: of the encoder neither where it was loaded from, nor what an old head of it told apart, nor a
        type of its own.
        """
        settings = super().to_dict()
        for name in ("_name_or_path", "id2label", "label2id", "dtype"):
            settings["encoder"].pop(name, None)
        return settings

    def minimum_samples(self, frames: int = 1) -> int:
        """
        The samples at 16 kHz that a clip needs for `frames` frames.

        The convolutions of HuBERT and its kin need 400 for the first frame. Whisper's pad at both ends, so that one sample is
        enough; each further frame takes two steps of its spectrogram, 320 samples. A frame of Wav2Vec2-BERT is two spectra of
        25 ms, every 10 ms.
        """
        if self.encoder.model_type == "whisper":
            return (frames - 1) * 320 + 1
        if self.encoder.model_type == "wav2vec2-bert":
            return 400 + 160 * (2 * frames - 1)
        samples = frames
        for kernel, stride in zip(reversed(self.encoder.conv_kernel), reversed(self.encoder.conv_stride), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples
