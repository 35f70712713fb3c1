"""The papers' networks, each a page of its own: one line here makes a new file `zoo:NAME`."""

from tunnelscope.models.zoo import cifar_resnet, mlp, vgg
from tunnelscope.models.zoo.entry import ZooEntry

__all__ = ["ZOO", "ZooEntry"]

ZOO: dict[str, ZooEntry] = {
    "mlp": ZooEntry(mlp.mlp, mean=(0.5,), std=(0.5,)),
    "vgg11": ZooEntry(vgg.vgg11, vgg.MEAN, vgg.STD, smallest=32),
    "vgg13": ZooEntry(vgg.vgg13, vgg.MEAN, vgg.STD, smallest=32),
    "vgg16": ZooEntry(vgg.vgg16, vgg.MEAN, vgg.STD, smallest=32),
    "vgg19": ZooEntry(vgg.vgg19, vgg.MEAN, vgg.STD, smallest=32),
    "cifar_resnet20": ZooEntry(cifar_resnet.cifar_resnet20, cifar_resnet.MEAN, cifar_resnet.STD),
    "cifar_resnet32": ZooEntry(cifar_resnet.cifar_resnet32, cifar_resnet.MEAN, cifar_resnet.STD),
    "cifar_resnet44": ZooEntry(cifar_resnet.cifar_resnet44, cifar_resnet.MEAN, cifar_resnet.STD),
    "cifar_resnet56": ZooEntry(cifar_resnet.cifar_resnet56, cifar_resnet.MEAN, cifar_resnet.STD),
    "cifar_resnet110": ZooEntry(cifar_resnet.cifar_resnet110, cifar_resnet.MEAN, cifar_resnet.STD),
}
