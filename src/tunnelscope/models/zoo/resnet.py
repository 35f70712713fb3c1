"""ResNet-18 and ResNet-34 (He et al. 2016, arXiv:1512.03385), stem and skip connections by choice.

Names and shapes are torchvision's, so its weights load as they are (`stem=imagenet&classes=1000`). Masarczyk
et al. 2023 use them on CIFAR images with a 3×3 stem, as far as its re-implementations tell, Harun et al. 2024
the original 7×7 stem at every resolution. ResNet-34 holds 3, 4, 6 and 3 blocks, ResNet-18 two a stage; its
maps of 32×32 images under each stem:

                                          stem=cifar      stem=imagenet
    images                                (3, 32, 32)     (3, 32, 32)
    conv1 3×3; 7×7 stride 2, bn1, relu    (64, 32, 32)    (64, 16, 16)    the stem
    maxpool none; 3×3 stride 2            (64, 32, 32)    (64, 8, 8)
    layer1.0 … layer1.2                   (64, 32, 32)    (64, 8, 8)
    layer2.0 … layer2.3                   (128, 16, 16)   (128, 4, 4)     layer2.0 has stride 2
    layer3.0 … layer3.5                   (256, 8, 8)     (256, 2, 2)     layer3.0 has stride 2
    layer4.0 … layer4.2                   (512, 4, 4)     (512, 1, 1)     layer4.0 has stride 2
    avgpool, flatten                      (512,)          (512,)
    fc                                    (classes,)      (classes,)

The papers count the stem and the two 3×3 convolutions of each block, not the 1×1 shortcuts: 17 and 33 layers
(`--layers convs`).
"""

from functools import partial

from torch import Tensor, nn

from tunnelscope.errors import RequestError
from tunnelscope.models.zoo.vgg import scaled

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, as torchvision's weights expect
STD = (0.229, 0.224, 0.225)

STAGE_CHANNELS = (64, 128, 256, 512)
RESNET18 = (2, 2, 2, 2)  # blocks a stage
RESNET34 = (3, 4, 6, 3)
STEMS = ("cifar", "imagenet")


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, with `skip` beside a shortcut; the block's output is read after the last ReLU.

    Where the shape changes the shortcut is a strided 1×1 convolution (option B), else the input itself.
    """

    def __init__(self, inputs: int, channels: int, stride: int, skip: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = shortcut(inputs, channels, stride) if skip else None
        self.relu2 = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """Return (batch, channels, height / stride, width / stride)."""
        residual = self.relu1(self.bn1(self.conv1(maps)))
        residual = self.bn2(self.conv2(residual))
        if self.downsample is not None:
            residual = residual + self.downsample(maps)
        return self.relu2(residual)


def shortcut(inputs: int, channels: int, stride: int) -> nn.Module:
    """Return what carries a block's input to its sum."""
    if stride == 1 and inputs == channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels))


class ResNet(nn.Module):
    """A stem, four stages of basic blocks, and a linear classifier."""

    def __init__(
        self, channels: int, widths: list[int], blocks: tuple[int, ...], classes: int, stem: str, skip: bool
    ) -> None:
        super().__init__()
        if stem == "imagenet":
            self.conv1 = nn.Conv2d(channels, widths[0], 7, stride=2, padding=3, bias=False)
        else:
            self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem == "imagenet" else nn.Identity()
        self.layer1 = stage(widths[0], widths[0], blocks[0], 1, skip)
        self.layer2 = stage(widths[0], widths[1], blocks[1], 2, skip)
        self.layer3 = stage(widths[1], widths[2], blocks[2], 2, skip)
        self.layer4 = stage(widths[2], widths[3], blocks[3], 2, skip)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(widths[3], classes)
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (batch, classes), of images (batch, channels, height, width)."""
        maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        features = self.flatten(self.avgpool(maps))  # (batch, 512)
        return self.fc(features)


def stage(inputs: int, channels: int, blocks: int, stride: int, skip: bool) -> nn.Sequential:
    """Return `blocks` basic blocks, of which the first has the stride and changes the channels."""
    first = BasicBlock(inputs, channels, stride, skip)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1, skip) for _ in range(blocks - 1)))


def initialise(module: nn.Module) -> None:
    """Draw weights as He et al. 2015 do over the inputs; so does the 2024 paper's code."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")


def resnet(
    blocks: tuple[int, ...],
    *,
    image_shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    width: float = 1.0,
    stem: str = "cifar",
    skip: bool = True,
) -> ResNet:
    """Build a ResNet whose stages have `blocks` basic blocks; images of any size go through it.

    Args:
        width: multiplies all channels.
        stem: `cifar`, a 3×3 convolution that keeps the image's size (the default, for the zoo's images are
            small and `imagenet` leaves of 32×32 pixels one at the end), or `imagenet`, a 7×7 convolution of
            stride 2 and a 3×3 maximum of stride 2.
        skip: without, a block is its two convolutions alone and has no shortcut.

    Raises:
        RequestError: no such stem, or width is 0 or less.
    """
    if stem not in STEMS:
        raise RequestError(f"zoo:resnet takes stem=cifar or stem=imagenet, got stem={stem}")
    if width <= 0:
        raise RequestError(f"zoo:resnet needs a width above 0, got width={width}")
    widths = [scaled(channels, width) for channels in STAGE_CHANNELS]
    return ResNet(image_shape[0], widths, blocks, classes, stem, skip)


resnet18 = partial(resnet, RESNET18)
resnet34 = partial(resnet, RESNET34)
