"""A plain multilayer perceptron, the network in which the tunnel is easiest to see.

Masarczyk et al. 2023 (arXiv:2305.19753) use 12 hidden ReLU layers of width 1024 on flattened CIFAR-10
images and a linear classifier after them.
"""

from collections import OrderedDict
from math import prod

from torch import Tensor, nn

from tunnelscope.errors import RequestError


class MLP(nn.Module):
    """Hidden layers `hidden.0`, `hidden.1`, … (each `linear`, then `relu`) and a linear `classifier`."""

    def __init__(self, inputs: int, depth: int, width: int, classes: int) -> None:
        super().__init__()
        widths = [inputs] + [width] * depth
        self.flatten = nn.Flatten()
        self.hidden = nn.Sequential(
            *(hidden_layer(widths[i], widths[i + 1]) for i in range(depth)),
        )
        self.classifier = nn.Linear(width, classes)
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (batch, classes), of images (batch, channels, height, width)."""
        pixels = self.flatten(images)  # (batch, channels · height · width)
        features = self.hidden(pixels)  # (batch, width)
        return self.classifier(features)


def hidden_layer(inputs: int, width: int) -> nn.Sequential:
    """Return one hidden layer, (batch, inputs) to (batch, width)."""
    return nn.Sequential(OrderedDict(linear=nn.Linear(inputs, width), relu=nn.ReLU()))


def initialise(module: nn.Module) -> None:
    """Draw a linear layer's weights as He et al. 2015 (arXiv:1502.01852) do for ReLU; biases are 0."""
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)


def mlp(
    *,
    image_shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    depth: int = 12,
    width: int = 1024,
) -> MLP:
    """Build an MLP of `depth` hidden layers, each of `width` units.

    Raises:
        RequestError: depth or width is below 1.
    """
    if depth < 1 or width < 1:
        raise RequestError(f"zoo:mlp needs depth and width of at least 1, got depth={depth}, width={width}")
    return MLP(prod(image_shape), depth, width, classes)
