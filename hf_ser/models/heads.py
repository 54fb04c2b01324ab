"""The heads that classify the output of an encoder."""

import torch
from torch import nn
from transformers import PreTrainedModel

#: `linear` is one linear layer on statistics of all layers, which starts as a solved probe; `stock` is transformers' own
#: (project, average over time, classify); `batchnorm` normalises and drops out before the last layer, as HuBERT-SER does in
#: training (section 1); `conv` is PEFT-SER's (section III), see `hf_ser.modeling`.
HEADS = ("linear", "stock", "batchnorm", "conv")


class StandardisedLinear(nn.Module):
    """
    The projection of a `linear` head: it standardises each feature, then projects.

    The mean and the scale of each feature are statistics of the training part. They condition the gradient: an encoder's
    features differ in scale by orders of magnitude. All of it is one affine map, so a trained one becomes a plain linear layer,
    see [`fold_training_layers`].

    What folds into a stock model of transformers, and what does not:

    - A scale for each layer folds into the weights of the sum over the layers.
    - A scale and a mean for each feature of that sum fold into this projection.
    - A scale for each feature of each layer, and the standard deviation over time, have no place there. The `linear` head has
      them where the package's own model class is needed anyway (Whisper).

    Args:
        linear (`nn.Linear`): The projection, of standardised features.
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
        return self.linear((features - self.mean) / self.scale)

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The plain linear layer with the same outputs."""
        weight = self.linear.weight.double() / self.scale.double()
        plain = nn.Linear(self.linear.in_features, self.linear.out_features).to(self.linear.weight)
        plain.weight.copy_(weight)
        plain.bias.copy_(self.linear.bias.double() - weight @ self.mean.double())
        return plain


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

    In evaluation this is an affine map: a trained one becomes a plain linear layer, see [`fold_training_layers`], and the saved
    checkpoint opens in plain transformers.

    Args:
        classifier (`nn.Linear`): The last linear layer.
        dropout (`float`): The probability of dropping a feature in training.
    """

    def __init__(self, classifier: nn.Linear, dropout: float) -> None:
        super().__init__()
        self.batch_norm = nn.BatchNorm1d(classifier.in_features)
        self.dropout = nn.Dropout(dropout)
        self.out_proj = classifier

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """`(batch, projected)` to `(batch, emotions)`."""
        if self.training and len(pooled) == 1:  # one clip has no variance: it is normalised as in evaluation
            norm = self.batch_norm
            normalised = nn.functional.batch_norm(
                pooled, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
            )
        else:
            normalised = self.batch_norm(pooled)
        return self.out_proj(self.dropout(normalised))

    @staticmethod
    @torch.no_grad()
    def affine(norm: nn.BatchNorm1d) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch norm in evaluation: the scale and the shift of each feature, both `(projected,)` in float64."""
        assert norm.running_mean is not None and norm.running_var is not None  # noqa: PT018 - it is created with statistics
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        return scale, norm.bias.double() - norm.running_mean.double() * scale

    def folded(self) -> nn.Linear:
        """The linear layer with the same outputs in evaluation."""
        linear = self.out_proj
        scale, shift = self.affine(self.batch_norm)
        with torch.no_grad():
            plain = nn.Linear(linear.in_features, linear.out_features).to(linear.weight)
            plain.weight.copy_(linear.weight.double() * scale)
            plain.bias.copy_(linear.bias.double() + linear.weight.double() @ shift)
        return plain


def fold_training_layers(model: PreTrainedModel) -> PreTrainedModel:
    """Replaces the layers that a head has for training alone by plain ones with the same outputs, in place."""
    if isinstance(model.classifier, BatchNormClassifier):
        model.classifier = model.classifier.folded()
    if isinstance(model.projector, StandardisedLinear):
        model.projector = model.projector.folded()
    return model
