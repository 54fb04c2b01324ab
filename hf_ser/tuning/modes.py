"""What trains and what does not."""

from torch import nn


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """The trainable and all parameters of a model, without the copies that PEFT keeps of the modules it trains whole."""
    parameters = [(name, p) for name, p in model.named_parameters() if ".original_module." not in name]
    return sum(p.numel() for _, p in parameters if p.requires_grad), sum(p.numel() for _, p in parameters)


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """
    The largest modules in which no parameter trains. They belong in eval mode even in training: they would otherwise drop
    out and mask at random, and learn nothing from it. Modules without parameters (dropout, activations) go with the one
    that they are in.
    """
    if not any(p.requires_grad for p in model.parameters()):
        return [model]
    return [
        frozen
        for child in model.children()
        if any(True for _ in child.parameters())
        for frozen in frozen_modules(child)
    ]
