"""The papers' networks, each a page of its own: one line here makes a new file `zoo:NAME`."""

from tunnelscope.models.zoo import cifar_resnet, mlp, resnet, vgg, vggm, vit
from tunnelscope.models.zoo.entry import ZooEntry

__all__ = ["ZOO", "ZooEntry"]

ZOO: dict[str, ZooEntry] = {
    "mlp": ZooEntry(mlp.mlp, mean=(0.5,), std=(0.5,)),
    "vgg11": ZooEntry(vgg.vgg11, vgg.MEAN, vgg.STD, smallest=32),
    "vgg13": ZooEntry(vgg.vgg13, vgg.MEAN, vgg.STD, smallest=32),
    "vgg16": ZooEntry(vgg.vgg16, vgg.MEAN, vgg.STD, smallest=32),
    "vgg19": ZooEntry(vgg.vgg19, vgg.MEAN, vgg.STD, smallest=32),
    "vggm11": ZooEntry(vggm.vggm11, vggm.MEAN, vggm.STD, smallest=32),
    "vggm17": ZooEntry(vggm.vggm17, vggm.MEAN, vggm.STD, smallest=32),
    "vggm11_dagger": ZooEntry(vggm.vggm11_dagger, vggm.MEAN, vggm.STD, smallest=8),
    "vggm17_dagger": ZooEntry(vggm.vggm17_dagger, vggm.MEAN, vggm.STD, smallest=8),
    "resnet18": ZooEntry(resnet.resnet18, resnet.MEAN, resnet.STD),
    "resnet34": ZooEntry(resnet.resnet34, resnet.MEAN, resnet.STD),
    "cifar_resnet20": ZooEntry(cifar_resnet.cifar_resnet20, cifar_resnet.MEAN, cifar_resnet.STD),
    "cifar_resnet32": ZooEntry(cifar_resnet.cifar_resnet32, cifar_resnet.MEAN, cifar_resnet.STD),
    "cifar_resnet44": ZooEntry(cifar_resnet.cifar_resnet44, cifar_resnet.MEAN, cifar_resnet.STD),
    "cifar_resnet56": ZooEntry(cifar_resnet.cifar_resnet56, cifar_resnet.MEAN, cifar_resnet.STD),
    "cifar_resnet110": ZooEntry(cifar_resnet.cifar_resnet110, cifar_resnet.MEAN, cifar_resnet.STD),
    "vit_t": ZooEntry(vit.vit_t, vit.MEAN, vit.STD, smallest=8, multiple=8),
    "vit_t_plus": ZooEntry(vit.vit_t_plus, vit.MEAN, vit.STD, smallest=8, multiple=8),
}
