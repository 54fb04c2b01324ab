"""Bottleneck adapters, after the feed-forward of every layer or beside it (PEFT-SER, section II-C), as a PEFT tuner."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN

from hf_ser.modeling.families import EncoderFamily
from hf_ser.tuning.layer_tuner import LayerTuner, LayerTunerConfig, TunedLayer

PLACEMENTS = ("sequential", "parallel")


@dataclass
class BottleneckConfig(LayerTunerConfig):
    """
    Bottleneck adapters (PEFT-SER, section II-C): a projection down, a non-linearity, a projection up, in every layer of the
    encoder. With the defaults an encoder of 12 layers with 768 features gets the 2.37 M parameters of the paper's table IV.

    Args:
        bottleneck_size (`int`, *optional*, defaults to 128): Features between the two projections (section V-A).
        placement (`str`, *optional*, defaults to `"sequential"`): `sequential`: on the output of the feed-forward, the
            paper's "Adapter". `parallel`: beside the feed-forward and the layer norm in front of it, its "Parallel Adapter".
            [`BottleneckLayer`] has the equations.
        scale (`float`, *optional*, defaults to 0.1): The factor of the adapter's output.
        dropout (`float`, *optional*, defaults to 0.1): Dropout after the non-linearity, in training.
        non_linearity (`str`, *optional*, defaults to `"relu"`): A name of transformers' `ACT2FN`.
        target_modules, exclude_modules, modules_to_save: See [`LayerTunerConfig`]; the targets are
            feed-forwards, or their last linear layers.

    Raises:
        ValueError: if a value is out of its range.
    """

    bottleneck_size: int = 128
    placement: str = "sequential"
    scale: float = 0.1
    dropout: float = 0.1
    non_linearity: str = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "BOTTLENECK"
        if self.placement not in PLACEMENTS:
            raise ValueError(f"placement={self.placement!r}: expected one of {', '.join(PLACEMENTS)}")
        if self.non_linearity not in ACT2FN:
            raise ValueError(f"non_linearity={self.non_linearity!r}: expected one of {', '.join(ACT2FN)}")


class BottleneckLayer(TunedLayer):
    """
    The feed-forward F of an encoder layer with an adapter A(h) = scale * up(dropout(relu(down(h)))) (PEFT-SER, section II-C
    and equation 1). Both projections have a bias. The projection up starts at zero, so that the adapted encoder starts as
    the original one.

    sequential, "connects the adapter to the output of the feed-forward layers": with h = F(x) this returns h + A(h). The
    input is added once, as in equation 1; the layer then adds its own residual.

    parallel, "parallel components to feed-forward and layer-norm modules": with N the layer norm in front of F and z the
    input of N, this returns F(N(z)) + A(z). Read literally the adapter bridges both modules, so that its input is not
    normalised. In encoders that normalise first (Whisper, HuBERT Large) N is the norm of the feed-forward and z the
    residual; in those that normalise last (Wav2Vec2 Base, WavLM Base+) N is the norm that ends the attention's half, z its
    input, and the sum meets the layer's last norm as before. z is not added to A(z): the layer has its residual already.

    `base_layer` is the feed-forward, or its last linear layer, with an output of `(batch, frames, hidden)`; `layer_norm` is N.
    """

    _cast_input_dtype: Any  # PEFT's own, which mypy does not see behind nn.Module

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")
    other_param_names = ("bottleneck_activation", "bottleneck_dropout", "placement", "scale")

    def __init__(
        self, base_layer: nn.Module, adapter_name: str, config: BottleneckConfig, layer_norm: nn.Module | None
    ) -> None:
        super().__init__(base_layer, adapter_name)
        # Two flat dictionaries, not one of pairs: PEFT expects the adapter's name as the last but one part of a key.
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self.bottleneck_activation = nn.ModuleDict()
        self.bottleneck_dropout = nn.ModuleDict()
        self.placement: dict[str, str] = {}
        self.scale: dict[str, float] = {}
        self._entering: torch.Tensor | None = None
        self._hook: Any = None
        self.update_layer(adapter_name, config, layer_norm)

    def update_layer(self, adapter_name: str, config: BottleneckConfig, layer_norm: nn.Module | None) -> None:
        """Adds an adapter."""
        hidden = [m for m in self.get_base_layer().modules() if isinstance(m, nn.Linear)][-1].out_features
        down, up = nn.Linear(hidden, config.bottleneck_size), nn.Linear(config.bottleneck_size, hidden)
        for zero in (down.bias, up.weight, up.bias):
            nn.init.zeros_(zero)
        self.bottleneck_down[adapter_name] = down
        self.bottleneck_up[adapter_name] = up
        self.bottleneck_activation[adapter_name] = ACT2FN[config.non_linearity]
        self.bottleneck_dropout[adapter_name] = nn.Dropout(config.dropout)
        self.placement[adapter_name] = config.placement
        self.scale[adapter_name] = config.scale
        if layer_norm is not None and self._hook is None:
            self._hook = layer_norm.register_forward_pre_hook(self._keep_input)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _keep_input(self, layer_norm: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        """Keeps the layer norm's input until the feed-forward behind it is called."""
        if any(self.placement[name] == "parallel" for name in self.active()):
            self._entering = args[0]

    def forward(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """`(batch, frames, features)` to `(batch, frames, hidden)`."""
        result = output = self.base_layer(hidden, *args, **kwargs)
        entering, self._entering = self._entering, None
        for name in self.active():
            taken = entering if self.placement[name] == "parallel" else output
            assert taken is not None  # the layer norm comes before its feed-forward
            down, up = self.bottleneck_down[name], self.bottleneck_up[name]
            narrow = self.bottleneck_activation[name](down(self._cast_input_dtype(taken, down.weight.dtype)))
            result = result + (self.scale[name] * up(self.bottleneck_dropout[name](narrow))).to(result.dtype)
        return result

    def unload_and_optionally_merge_module(self, **merging: Any) -> nn.Module:
        """The feed-forward as it was; [`BottleneckModel`] has refused to merge before."""
        if self._hook is not None:
            self._hook.remove()
        return self.get_base_layer()


class BottleneckModel(LayerTuner):
    """
    Puts bottleneck adapters into a model (PEFT-SER, section II-C); see [`LayerTuner`] for the arguments, and
    [`~hf_ser.tuning.combined.CombinedModel`] for an example.
    """

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer
    _unmergeable = "a bottleneck adapter is not linear"

    def _default_targets(self, family: EncoderFamily) -> str:
        """The last feed-forward of every layer."""
        return rf"{family.layers}\.{family.adapted}"

    def _beside(self, parent: nn.Module, config: Any) -> tuple[nn.Module | None]:
        """The layer norm in front of the feed-forward, for a parallel adapter."""
        if config.placement == "sequential":
            return (None,)
        family, encoder = self._known_encoder()
        return (parent.get_submodule(family.feed_forward_norm(encoder)),)
