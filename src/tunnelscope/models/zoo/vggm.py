"""VGGm-11 and VGGm-17, the VGGs of Harun et al. 2024 (arXiv:2405.15018), and their † versions.

The convolutions of VGG-13 and VGG-19 and one linear layer; the paper counts it in the names. † leaves out the
first two halvings, which on 32×32 images keeps larger maps to the end. VGGm-11 on 32×32 images, where every
convolution is 3×3 with a bias, followed by batch norm and ReLU, and M halves the map:

                                     VGGm-11                        VGGm†-11
    images                           (3, 32, 32)                    (3, 32, 32)
    features: 64, 64                 M (64, 16, 16)                 (64, 32, 32)
              128, 128               M (128, 8, 8)                  (128, 32, 32)
              256, 256               M (256, 4, 4)                M (256, 16, 16)
              512, 512               M (512, 2, 2)                M (512, 8, 8)
              512, 512               M (512, 1, 1)                M (512, 4, 4)
    avgpool to 1×1, flatten          (512,)                         (512,)
    classifier                       (classes,)                     (classes,)

VGGm-17 has four convolutions in each of the last three stages. The paper probes every convolution: 10 and 16
layers (`--layers convs`), named as there (`features.0`, `features.3`, `features.7` …).
"""

from functools import partial

from torch import Tensor, nn

from tunnelscope.errors import RequestError
from tunnelscope.models.zoo.vgg import STAGE_CHANNELS, VGG13, VGG19, convolutions, scaled

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, whose subset the paper trains on; on CIFAR it takes CIFAR's
STD = (0.229, 0.224, 0.225)


class VGGm(nn.Module):
    """Five stages of convolutions in `features`, pooling to one pixel, a linear `classifier`."""

    def __init__(self, features: nn.Sequential, width: int, classes: int) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(width, classes)
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (batch, classes), of images (batch, channels, height, width)."""
        maps = self.features(images)  # (batch, 512, height / 32, width / 32), † height / 8, width / 8
        features = self.flatten(self.avgpool(maps))  # (batch, 512)
        return self.classifier(features)


def initialise(module: nn.Module) -> None:
    """Draw convolutions as He et al. 2015 do over the outputs, the classifier as Glorot and Bengio 2010 do.

    Biases are drawn as PyTorch does; batch norm starts at scale 1, shift 0. So does the paper's code.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)


def vggm(
    convs: tuple[int, ...],
    unpooled: int,
    *,
    image_shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    width: float = 1.0,
) -> VGGm:
    """Build a VGGm whose stages have `convs` convolutions; the first `unpooled` of them keep the map's size.

    Args:
        width: multiplies all channels.

    Raises:
        RequestError: width is 0 or less.
    """
    if width <= 0:
        raise RequestError(f"zoo:vggm needs a width above 0, got width={width}")
    features = convolutions(image_shape[0], convs, width, batch_norm=True, unpooled=unpooled)
    return VGGm(features, scaled(STAGE_CHANNELS[-1], width), classes)


vggm11 = partial(vggm, VGG13, 0)
vggm17 = partial(vggm, VGG19, 0)
vggm11_dagger = partial(vggm, VGG13, 2)
vggm17_dagger = partial(vggm, VGG19, 2)
