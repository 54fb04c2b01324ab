"""The heads that classify what an encoder heard."""

import torch
from torch import nn
from transformers import PreTrainedModel

#: `stock` is transformers' own (project, average over time, classify); `batchnorm` normalises and drops out before the
#: last layer, as HuBERT-SER does in training (section 1); `conv` is PEFT-SER's (section III), see `hf_ser.models.remote`.
HEADS = ("stock", "batchnorm", "conv")


class BatchNormClassifier(nn.Module):
    """
    Batch normalisation and dropout before the last linear layer.

    In evaluation this is an affine map, so that a trained one becomes a plain linear layer, see [`fold_batch_norm`]: the
    saved checkpoint is a stock one and opens anywhere.

    Args:
        classifier (`nn.Linear`): The layer to put it before.
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
        """What a batch norm does in evaluation: the scale and the shift of each feature, both `(projected,)` in float64."""
        if norm.running_mean is None or norm.running_var is None:
            raise RuntimeError("the batch norm has kept no statistics: it cannot be folded")
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        return scale, norm.bias.double() - norm.running_mean.double() * scale

    def folded(self) -> nn.Linear:
        """The linear layer that gives the same answers in evaluation."""
        linear = self.out_proj
        scale, shift = self.affine(self.batch_norm)
        with torch.no_grad():
            plain = nn.Linear(linear.in_features, linear.out_features).to(linear.weight)
            plain.weight.copy_(linear.weight.double() * scale)
            plain.bias.copy_(linear.bias.double() + linear.weight.double() @ shift)
        return plain


def fold_batch_norm(model: PreTrainedModel) -> PreTrainedModel:
    """Turns a trained `batchnorm` head, if there is one, into the stock head that gives the same answers."""
    if isinstance(model.classifier, BatchNormClassifier):
        model.classifier = model.classifier.folded()
    return model
