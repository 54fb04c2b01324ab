"""The heads that classify the output of an encoder."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

#: `linear` is one linear layer on statistics of all layers, which starts as a solved probe; `stock` is transformers' own
#: (project, average over time, classify); `batchnorm` normalises and drops out before the last layer, as HuBERT-SER does in
#: training (section 1); `conv` is PEFT-SER's (section III), see `hf_ser.modeling`.
HEADS = ("linear", "stock", "batchnorm", "conv")


class StandardisedLinear(nn.Module):
    """
    The projection of a `linear` head: it standardises each feature, then projects.

    The mean and the scale of each feature are statistics of the training part. They condition the gradient, because the scales of
    an encoder's features differ by orders of magnitude. All of it is one affine map: after training it becomes a plain linear
    layer, see [`fold_training_layers`].

    Parts of it fit into a stock model of transformers:

    - A scale for each layer becomes part of the weights of the sum over the layers.
    - A scale and a mean for each feature of that sum become part of this projection.
    - A scale for each feature of each layer, and the standard deviation over time, do not fit. The `linear` head has them only
      if the package's own model class is needed anyway (Whisper).
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.register_buffer("mean", torch.zeros(linear.in_features))
        self.register_buffer("scale", torch.ones(linear.in_features))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(..., features)` to `(..., emotions)`."""
        # FSDP and DeepSpeed have no autocast: their weights are in 16 bits, and the statistics are not.
        return self.linear(((features - self.mean) / self.scale).to(self.linear.weight.dtype))

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The plain linear layer with the same outputs."""
        weight = self.linear.weight.double() / self.scale.double()
        return _linear(weight, self.linear.bias.double() - weight @ self.mean.double(), like=self.linear)


def start_linear_head(model: PreTrainedModel) -> None:
    """
    Prepares a `linear` head for its probe, in place: the projection is standardised and projects to the emotions, and the
    classifier behind it is the identity.
    """
    model.projector = StandardisedLinear(model.projector).to(model.device)
    nn.init.zeros_(model.projector.linear.weight)
    nn.init.zeros_(model.projector.linear.bias)
    nn.init.eye_(model.classifier.weight)
    nn.init.zeros_(model.classifier.bias)


class BatchNormClassifier(nn.Module):
    """
    Batch normalisation and dropout before the last linear layer.

    In evaluation this is an affine map. After training it becomes a plain linear layer, see [`fold_training_layers`], so that the
    saved checkpoint opens in plain transformers.
    """

    def __init__(self, classifier: nn.Linear, dropout: float) -> None:
        super().__init__()
        self.batch_norm = nn.BatchNorm1d(classifier.in_features)
        self.dropout = nn.Dropout(dropout)
        self.out_proj = classifier

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """`(batch, projected)` to `(batch, emotions)`."""
        norm = self.batch_norm
        assert norm.running_mean is not None
        kind = norm.running_mean.dtype  # the same as that of the weights, except with FSDP in 16 bits
        normalised = nn.functional.batch_norm(
            pooled.to(kind),
            norm.running_mean,
            norm.running_var,
            norm.weight.to(kind),
            norm.bias.to(kind),
            training=self.training and len(pooled) > 1,  # one clip has no variance: it is normalised as in evaluation
            eps=norm.eps,
        )
        return self.out_proj(self.dropout(normalised.to(self.out_proj.weight.dtype)))

    @staticmethod
    @torch.no_grad()
    def affine(norm: nn.BatchNorm1d) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch norm in evaluation: the scale and the shift of each feature, both `(projected,)` in float64."""
        assert norm.running_mean is not None and norm.running_var is not None  # noqa: PT018 - it is created with statistics
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        return scale, norm.bias.double() - norm.running_mean.double() * scale

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The linear layer with the same outputs in evaluation."""
        scale, shift = self.affine(self.batch_norm)
        weight = self.out_proj.weight.double()
        return _linear(weight * scale, self.out_proj.bias.double() + weight @ shift, like=self.out_proj)


def set_outputs(config: PretrainedConfig, emotions: Sequence[str], dimensions: Sequence[str]) -> None:
    """
    Writes a model's outputs into its configuration: the emotions, of which one is true, then the dimensions, from 0 to 1.
    """
    names = (*emotions, *dimensions)
    config.id2label, config.label2id = dict(enumerate(names)), {name: i for i, name in enumerate(names)}
    config.problem_type = None if emotions else "regression"
    vars(config).pop("dimensions", None)
    if dimensions:
        config.dimensions = list(dimensions)


@torch.no_grad()
def start_dimensions(model: PreTrainedModel) -> None:
    """
    Initialises the outputs of a new head for dimensions with the middle of their range, in place. Far from the labels CCC is flat
    and has nearly no gradient.
    """
    if number := len(dimensions_of(model.config)):
        model.classifier.weight[-number:] = 0.0
        model.classifier.bias[-number:] = 0.5


def dimensions_of(config: PretrainedConfig) -> tuple[str, ...]:
    """The dimensions among a model's outputs. A saved model may have them in a layer of its own, see [`split_outputs`]."""
    return tuple(getattr(config, "dimensions", None) or ())


def beside(config: PretrainedConfig) -> tuple[str, ...]:
    """The dimensions that a saved model has in a layer of its own."""
    return tuple(name for name in dimensions_of(config) if name not in config.id2label.values())


def split_outputs(model: PreTrainedModel) -> PreTrainedModel:
    """
    Separates the dimensions of a model from its emotions, if it has both, in place. Plain transformers opens the saved model as a
    classifier of emotions, and ignores the layer `dimensions`. [`join_outputs`] puts them together again.
    """
    dimensions = dimensions_of(model.config)
    names = list(model.config.id2label.values())
    emotions = [name for name in names if name not in dimensions]
    if dimensions and emotions:
        joint, n = model.classifier, len(emotions)
        model.classifier = _linear(joint.weight[:n], joint.bias[:n], like=joint)
        model.dimensions = _linear(joint.weight[n:], joint.bias[n:], like=joint)
        set_outputs(model.config, emotions, ())
        model.config.dimensions = list(dimensions)
        model.num_labels = len(emotions)
    return model


def join_outputs(model: PreTrainedModel) -> PreTrainedModel:
    """Adds the dimensions that a model has in a layer of their own to its `logits`, after the emotions, in place."""
    if dimensions := beside(model.config):
        first, second = model.classifier, model.dimensions
        del model.dimensions
        weight, bias = torch.cat([first.weight, second.weight]), torch.cat([first.bias, second.bias])
        model.classifier = _linear(weight, bias, like=first)
        set_outputs(model.config, list(model.config.id2label.values()), dimensions)
        model.num_labels = model.config.num_labels
    return model


def with_dimensions(kind: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The class `kind` with the layer `dimensions` that [`split_outputs`] leaves beside the classifier."""

    class Model(kind):
        def __init__(self, config: PretrainedConfig, *args: Any) -> None:
            super().__init__(config, *args)
            self.dimensions = nn.Linear(self.classifier.in_features, len(beside(config)))

    return Model


def _linear(weight: torch.Tensor, bias: torch.Tensor, like: nn.Linear) -> nn.Linear:
    """A linear layer with copies of weights, in the type and on the device of another layer."""
    found = nn.Linear(like.in_features, len(weight)).to(like.weight)
    found.load_state_dict({"weight": weight, "bias": bias})
    return found


def fold_training_layers(model: PreTrainedModel) -> PreTrainedModel:
    """Replaces the layers that a head has only for training by plain ones with the same outputs, in place."""
    if isinstance(model.classifier, BatchNormClassifier):
        model.classifier = model.classifier.folded()
    if isinstance(model.projector, StandardisedLinear):
        model.projector = model.projector.folded()
    return model
