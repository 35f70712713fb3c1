"""VGG (Simonyan and Zisserman 2015, arXiv:1409.1556) in its form for small images.

Masarczyk et al. 2023 use VGG-16 and VGG-19; the head of two hidden layers of 512 is that of their
re-implementations. VGG-19 on 32×32 images, where every convolution is 3×3 and is followed by batch norm
and ReLU, and M halves the map:

    images                                  (3, 32, 32)
    features: 64, 64, M                     (64, 16, 16)
              128, 128, M                   (128, 8, 8)
              256, 256, 256, 256, M         (256, 4, 4)
              512, 512, 512, 512, M         (512, 2, 2)
              512, 512, 512, 512, M         (512, 1, 1)
    avgpool to 1×1, flatten                 (512,)
    classifier: 512, ReLU, 512, ReLU        (512,)
                linear                      (classes,)

Its papers' sweeps of width and depth: `width=0.25` multiplies all channels, `convs=2,2,8,8,8` sets the
convolutions of each stage. How the papers made VGGs deeper or shallower is not known.
"""

from functools import partial

from torch import Tensor, nn

from tunnelscope.errors import RequestError

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)

STAGE_CHANNELS = (64, 128, 256, 512, 512)
VGG11 = (1, 1, 2, 2, 2)  # convolutions a stage
VGG13 = (2, 2, 2, 2, 2)
VGG16 = (2, 2, 3, 3, 3)
VGG19 = (2, 2, 4, 4, 4)


class VGG(nn.Module):
    """Five stages of convolutions in `features`, pooling to one pixel, linear layers in `classifier`."""

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = classifier
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (batch, classes), of images (batch, channels, height, width)."""
        maps = self.features(images)  # (batch, 512, height / 32, width / 32)
        features = self.flatten(self.avgpool(maps))  # (batch, 512)
        return self.classifier(features)


def convolutions(
    inputs: int, convs: tuple[int, ...], width: float, batch_norm: bool, unpooled: int = 0
) -> nn.Sequential:
    """Return the stages one after another: `convs` convolutions each, then a 2×2 maximum.

    The first `unpooled` stages have no maximum.
    """
    layers: list[nn.Module] = []
    for stage, channels in enumerate(STAGE_CHANNELS):
        for _ in range(convs[stage]):
            layers.append(nn.Conv2d(inputs, scaled(channels, width), 3, padding=1))
            inputs = scaled(channels, width)
            if batch_norm:
                layers.append(nn.BatchNorm2d(inputs))
            layers.append(nn.ReLU())
        if stage >= unpooled:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def linear_layers(inputs: int, head: tuple[int, ...], classes: int) -> nn.Sequential:
    """Return a hidden ReLU layer for each width of `head`, then the classifier."""
    layers: list[nn.Module] = []
    for width in head:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, classes))


def scaled(channels: int, width: float) -> int:
    """Return `width` times the channels, at least 1."""
    return max(1, round(channels * width))


def initialise(module: nn.Module) -> None:
    """Draw convolutions as He et al. 2015 do over the outputs, linear weights from N(0, 0.01²)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType]
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


def vgg(
    *,
    image_shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    width: float = 1.0,
    convs: tuple[int, ...] | None = VGG19,
    batch_norm: bool = True,
    head: tuple[int, ...] | None = (512, 512),
) -> VGG:
    """Build a VGG, each of its five stages with as many convolutions as `convs` says.

    Args:
        width: multiplies all channels, and the hidden widths of the head.
        convs: convolutions a stage, which makes it deeper or shallower than its name.
        batch_norm: batch norm between each convolution and its ReLU.
        head: widths of the hidden linear layers before the classifier; none for no such layer.

    Raises:
        RequestError: width or a width in head is 0 or less, or convs are not five of 1 or more.
    """
    if width <= 0 or any(hidden < 1 for hidden in head or ()):
        raise RequestError(f"zoo:vgg needs width and head widths above 0, got width={width}, head={head}")
    if convs is None or len(convs) != len(STAGE_CHANNELS) or min(convs) < 1:
        raise RequestError(f"zoo:vgg needs convs of 1 or more for 5 stages, such as 2,2,4,4,4, got {convs}")
    features = convolutions(image_shape[0], convs, width, batch_norm)
    hidden = tuple(scaled(units, width) for units in head or ())
    return VGG(features, linear_layers(scaled(STAGE_CHANNELS[-1], width), hidden, classes))


vgg11 = partial(vgg, convs=VGG11)
vgg13 = partial(vgg, convs=VGG13)
vgg16 = partial(vgg, convs=VGG16)
vgg19 = partial(vgg, convs=VGG19)
