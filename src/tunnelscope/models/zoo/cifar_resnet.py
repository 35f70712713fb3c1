"""The CIFAR ResNets of He et al. 2016 (arXiv:1512.03385, section 4.2), shortcuts of option A.

Names and shapes are those of github.com/akamaster/pytorch_resnet_cifar10, so its weights load as they are.
A network of depth 6n + 2 holds 3 stages of n blocks; ResNet-56 has n = 9:

    images                                  (3, 32, 32)
    conv1 3×3, bn1, relu                    (16, 32, 32)    the stem
    layer1.0 … layer1.8                     (16, 32, 32)
    layer2.0 … layer2.8                     (32, 16, 16)    layer2.0 has stride 2
    layer3.0 … layer3.8                     (64, 8, 8)      layer3.0 has stride 2
    avgpool, flatten                        (64,)
    linear                                  (classes,)
"""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class PaddedShortcut(nn.Module):
    """Option A: take every second pixel and pad the new channels with zeros, half before, half after."""

    def __init__(self, new_channels: int) -> None:
        super().__init__()
        self.before = new_channels // 2
        self.after = new_channels - self.before

    def forward(self, maps: Tensor) -> Tensor:
        """Return (batch, channels + new, height / 2, width / 2)."""
        return F.pad(maps[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut; the block's output is read after the last ReLU."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity() if inputs == channels else PaddedShortcut(channels - inputs)
        self.relu2 = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """Return (batch, channels, height / stride, width / stride)."""
        residual = self.relu1(self.bn1(self.conv1(maps)))
        residual = self.bn2(self.conv2(residual))
        return self.relu2(residual + self.shortcut(maps))


class CifarResNet(nn.Module):
    """A stem, three stages of basic blocks with 16, 32 and 64 channels, and a linear classifier."""

    def __init__(self, blocks: int, channels: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = stage(16, 16, blocks, stride=1)
        self.layer2 = stage(16, 32, blocks, stride=2)
        self.layer3 = stage(32, 64, blocks, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(64, classes)
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (batch, classes), of images (batch, channels, height, width)."""
        maps = self.relu(self.bn1(self.conv1(images)))
        maps = self.layer3(self.layer2(self.layer1(maps)))
        features = self.flatten(self.avgpool(maps))  # (batch, 64)
        return self.linear(features)


def stage(inputs: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    """Return `blocks` basic blocks, of which the first has the stride and changes the channels."""
    first = BasicBlock(inputs, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))


def initialise(module: nn.Module) -> None:
    """Draw weights as He et al. 2015 (arXiv:1502.01852) do; batch norm starts at scale 1, shift 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)


def cifar_resnet(
    blocks: int, *, image_shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10
) -> CifarResNet:
    """Build the ResNet of depth 6 · blocks + 2; images of any size go through it."""
    return CifarResNet(blocks, image_shape[0], classes)


cifar_resnet20 = partial(cifar_resnet, 3)
cifar_resnet32 = partial(cifar_resnet, 5)
cifar_resnet44 = partial(cifar_resnet, 7)
cifar_resnet56 = partial(cifar_resnet, 9)
cifar_resnet110 = partial(cifar_resnet, 18)
