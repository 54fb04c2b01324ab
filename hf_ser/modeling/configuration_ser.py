"""
The configuration of the package's own model class.

This file goes to the Hub with a model: it imports nothing but transformers.
"""

from typing import Any

from transformers import AutoConfig, PretrainedConfig


class SERModelConfig(PretrainedConfig):
    """
    An encoder and a classification head for emotions.

    Args:
        encoder (`PretrainedConfig` or `dict`, *optional*): The encoder's configuration, by default a HuBERT Base. Its
            layerdrop becomes 0: layers left out at random fail with distributed training and gradient checkpointing.
        head (`str`, *optional*, defaults to `"conv"`): `conv`, `stock` or `linear`, see [`SERForAudioClassification`].
        conv_size (`int`, *optional*, defaults to 256): The features of the convolutions of `conv`, and of its first
            linear layer.
        head_dropout (`float`, *optional*, defaults to 0.1): The dropout between those convolutions, in training.
        classifier_proj_size (`int`, *optional*, defaults to 256): The features of the projection of `stock` and `linear`.
        use_weighted_layer_sum (`bool`, *optional*): Whether `stock` takes a learned average of all layers, not the last one.
            `conv` always does, `linear` never does.
        **kwargs: For `PretrainedConfig`: `id2label`, `label2id` and the like.

    Raises:
        ValueError: if `head` is unknown.
    """

    model_type = "ser"
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
            raise ValueError(f"head={head!r}: expected conv, stock or linear")
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
        """The features of a frame at the encoder's output."""
        return self.encoder.hidden_size

    @property
    def num_hidden_layers(self) -> int:
        """The encoder's transformer layers."""
        return self.encoder.num_hidden_layers

    def to_dict(self) -> dict[str, Any]:
        """What `config.json` contains: nothing of where the encoder came from, nor the labels of its former head."""
        settings = super().to_dict()
        for name in ("_name_or_path", "id2label", "label2id", "dtype"):
            settings["encoder"].pop(name, None)
        return settings
