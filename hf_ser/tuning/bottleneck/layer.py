"""A feed-forward with bottleneck adapters."""

from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers.activations import ACT2FN

from hf_ser.tuning.bottleneck.config import BottleneckConfig


class BottleneckLayer(nn.Module, BaseTunerLayer):
    """
    The feed-forward F of an encoder layer with an adapter A(h) = scale * up(dropout(relu(down(h)))) (PEFT-SER, section II-C
    and equation 1). Both projections have a bias. The projection up starts at zero, so that the adapted encoder starts as
    the one it adapts.

    sequential, "connects the adapter to the output of the feed-forward layers": with h = F(x) this returns h + A(h). The
    input is added once, as in equation 1; the layer then adds its own residual.

    parallel, "parallel components to feed-forward and layer-norm modules": with N the layer norm in front of F and z what
    enters N, this returns F(N(z)) + A(z). Read literally the adapter bridges both modules, so it sees what has not been
    normalised. In encoders that normalise first (Whisper, HuBERT Large) N is the norm of the feed-forward and z the
    residual; in those that normalise last (Wav2Vec2 Base, WavLM Base+) N is the norm that ends the attention's half, z its
    input, and the sum meets the layer's last norm as before. z is not added to A(z): the layer has its residual already.

    Args:
        base_layer (`nn.Module`): The feed-forward, or its last linear layer: `(batch, frames, hidden)` comes out of it.
        adapter_name (`str`): The first adapter.
        config (`BottleneckConfig`): What it is like.
        layer_norm (`nn.Module`, *optional*): N, for `parallel`.
    """

    # PEFT's own, which mypy does not see behind nn.Module.
    active_adapters: Any
    get_base_layer: Any
    set_adapter: Any
    _cast_input_dtype: Any
    _move_adapter_to_device_of_base_layer: Any

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")
    other_param_names = ("bottleneck_activation", "bottleneck_dropout", "placement", "scale")

    def __init__(
        self, base_layer: nn.Module, adapter_name: str, config: BottleneckConfig, layer_norm: nn.Module | None
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        # Two flat dictionaries, not one of pairs: PEFT takes the adapter's name out of a key's last but one place.
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self.bottleneck_activation = nn.ModuleDict()
        self.bottleneck_dropout = nn.ModuleDict()
        self.placement: dict[str, str] = {}
        self.scale: dict[str, float] = {}
        self._entering: torch.Tensor | None = None
        self._noting: Any = None
        self._active_adapter = adapter_name
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
        if config.placement == "parallel" and self._noting is None:
            assert layer_norm is not None
            self._noting = layer_norm.register_forward_pre_hook(self._note)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _get_base_layer_device_and_dtype(self, base_layer: nn.Module) -> tuple[torch.device, torch.dtype]:
        # PEFT looks for a weight, which a whole feed-forward does not have.
        parameter = next(base_layer.parameters())
        return parameter.device, parameter.dtype

    def _adapters(self) -> list[str]:
        """The adapters that are at work."""
        return [] if self.disable_adapters else [name for name in self.active_adapters if name in self.bottleneck_down]

    def _note(self, layer_norm: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        """Keeps what enters the layer norm until the feed-forward behind it is called."""
        if any(self.placement[name] == "parallel" for name in self._adapters()):
            self._entering = args[0]

    def forward(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """`(batch, frames, features)` to `(batch, frames, hidden)`."""
        result = output = self.base_layer(hidden, *args, **kwargs)
        entering, self._entering = self._entering, None
        for name in self._adapters():
            seen = entering if self.placement[name] == "parallel" else output
            if seen is None:
                raise RuntimeError(
                    f"adapter {name!r} is parallel, but its layer norm was not called before its feed-forward: check "
                    "`layer_norm`, and use one process per device, not nn.DataParallel"
                )
            down, up = self.bottleneck_down[name], self.bottleneck_up[name]
            narrow = self.bottleneck_activation[name](down(self._cast_input_dtype(seen, down.weight.dtype)))
            result = result + (self.scale[name] * up(self.bottleneck_dropout[name](narrow))).to(result.dtype)
        return result

    def unload_and_optionally_merge_module(
        self, merge: bool, safe_merge: bool, adapter_names: list[str] | None
    ) -> nn.Module:
        """The feed-forward as it was; [`BottleneckModel`] has refused to merge before."""
        if self._noting is not None:
            self._noting.remove()
        return self.get_base_layer()

    def __repr__(self) -> str:
        return "bottleneck." + super().__repr__()
