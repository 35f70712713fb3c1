"""Networks of every kind come ready to be looked at, with their preprocessing, or are refused in one line."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tunnelscope.data.transforms import Preprocessing
from tunnelscope.errors import MachineError, RequestError
from tunnelscope.models.load import load_network
from tunnelscope.models.vision import import_timm, import_torchvision

GREY = (1, 8, 8)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Nothing is downloaded: both hubs answer as a machine without a network does."""
    import huggingface_hub.constants
    import torch.hub

    def unreachable(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


# --- what every network has in common


@pytest.mark.parametrize("name", ["zoo:mlp?depth=2&width=8", "timm:test_resnet", "torchvision:squeezenet1_1"])
def test_a_network_is_in_eval_mode_float32_and_out_of_training(name):
    network = load_network(name, weights="random")
    assert not any(module.training for module in network.module.modules())
    assert {parameter.dtype for parameter in network.module.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in network.module.parameters())
    assert network.weights == "random (seed 0)"
    assert network.warnings == (
        f"the weights of {name} are random (seed 0); --weights FILE loads trained ones",
    )


@pytest.mark.parametrize("name", ["zoo:vgg11?width=0.1", "timm:test_vit", "torchvision:squeezenet1_1"])
def test_random_weights_follow_the_seed_alone(name):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = load_network(name, weights="random", seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    again, other = (load_network(name, weights="random", seed=seed) for seed in (3, 4))
    assert same_weights(first.module, again.module)
    assert not same_weights(first.module, other.module)
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_the_fingerprint_sees_architecture_and_every_weight():
    network = load_network("zoo:mlp?depth=2&width=8")
    deeper = load_network("zoo:mlp?depth=3&width=8")
    moved = load_network("zoo:mlp?depth=2&width=8")
    moved.module.state_dict()["classifier.bias"][3] += 1e-7
    assert len({network.fingerprint, deeper.fingerprint, moved.fingerprint}) == 3
    assert re.fullmatch("[0-9a-f]{64}", network.fingerprint)


def test_the_fingerprint_ignores_where_functions_lie_in_memory():
    class Layer(nn.Module):
        def extra_repr(self):
            return f"function={object()!r}"

    assert load_network(Layer()).fingerprint == load_network(Layer()).fingerprint


# --- the zoo


def test_a_zoo_network_is_made_for_the_data():
    network = load_network("zoo:mlp?depth=12&width=16", image_shape=GREY, classes=5)
    assert network.preprocessing == Preprocessing(size=(8, 8), channels=1, mean=(0.5,), std=(0.5,))
    assert network.module(torch.zeros(1, 1, 8, 8)).shape == (1, 5)
    assert network.parameters == (64 + 1) * 16 + 11 * (16 + 1) * 16 + (16 + 1) * 5


def test_the_query_rules_over_the_data():
    network = load_network(
        "zoo:mlp?depth=1&classes=3&channels=3&size=4x6&mean=0", image_shape=GREY, classes=5
    )
    assert network.preprocessing == Preprocessing(size=(4, 6), mean=(0.0,) * 3, std=(0.5,) * 3)
    assert network.module(torch.zeros(1, 3, 4, 6)).shape == (1, 3)


def test_without_data_a_zoo_network_takes_cifar_images():
    network = load_network("zoo:cifar_resnet20")
    expected = Preprocessing(size=(32, 32), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert network.preprocessing == expected
    assert network.module(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_a_vgg_enlarges_small_images_and_says_so():
    network = load_network("zoo:vgg11?width=0.1", image_shape=GREY)
    assert network.preprocessing is not None
    assert network.preprocessing.size == (32, 32)
    assert len(network.preprocessing.mean) == 1
    assert "needs images of 32 pixels or more; they are enlarged to 32x32" in network.warnings[0]


def test_a_vit_enlarges_images_to_whole_patches_and_says_so():
    network = load_network("zoo:vit_t", image_shape=(3, 28, 32))
    assert network.preprocessing is not None
    assert network.preprocessing.size == (32, 32)
    assert "needs images of a multiple of 8 pixels; they are enlarged to 32x32" in network.warnings[0]
    assert network.module(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_a_word_and_a_switch_reach_the_constructor():
    network = load_network("zoo:resnet18?stem=imagenet&skip=false&width=0.125").module
    assert network.conv1.kernel_size == (7, 7)
    assert network.layer2[0].downsample is None
    assert load_network("zoo:resnet18?width=0.125").module.conv1.kernel_size == (3, 3)


@pytest.mark.parametrize("width", ["1e400", "1e17", "1e9"])
def test_a_network_too_large_for_the_machine_is_said_to_be(width):
    with pytest.raises(MachineError, match="is too large to be made on this machine") as error:
        load_network(f"zoo:vgg11?width={width}")
    assert len(str(error.value).splitlines()) == 1


def test_a_tuple_and_none_reach_the_constructor():
    network = load_network("zoo:vgg11?width=0.25&head=64,&batch_norm=false")
    assert [m.out_features for m in network.module.modules() if isinstance(m, nn.Linear)] == [16, 10]
    assert len(load_network("zoo:vgg11?width=0.25&head=none").module.classifier) == 1


# --- timm and torchvision


def test_timm_keeps_its_own_preprocessing():
    network = load_network("timm:test_vit", weights="random")
    assert network.preprocessing == Preprocessing(
        size=(160, 160), mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic", crop_pct=0.95
    )
    smaller = load_network("timm:test_vit?img_size=64&interpolation=bilinear", weights="random")
    assert smaller.preprocessing is not None
    assert (smaller.preprocessing.size, smaller.preprocessing.interpolation) == ((64, 64), "bilinear")
    assert smaller.module(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_a_timm_network_of_grey_images_is_shown_grey_images():
    network = load_network("timm:test_resnet?in_chans=1&num_classes=4", weights="random")
    assert network.preprocessing is not None
    assert network.preprocessing.channels == len(network.preprocessing.mean) == 1
    assert network.module(torch.zeros(1, 1, 32, 32)).shape == (1, 4)


@pytest.mark.parametrize(("choice", "resized"), [("IMAGENET1K_V1", 256), ("IMAGENET1K_V2", 232)])
def test_torchvision_preprocessing_belongs_to_the_weights(choice, resized):
    found = load_network(f"torchvision:resnet50?weights={choice}", weights="random").preprocessing
    transform = import_torchvision().models.get_model_weights("resnet50")[choice].transforms()
    assert found is not None
    assert found.size == (transform.crop_size[0],) * 2
    assert int(found.size[0] / found.crop_pct) == resized == transform.resize_size[0]
    assert (list(found.mean), list(found.std)) == (transform.mean, transform.std)
    assert found.interpolation == "bilinear"


def test_a_weights_file_is_loaded_and_named(tmp_path):
    trained = load_network("timm:test_resnet", weights="random", seed=9).module
    halved = {key: t.half() if t.is_floating_point() else t for key, t in trained.state_dict().items()}
    save_file(halved, tmp_path / "w.safetensors")
    network = load_network("timm:test_resnet", weights=str(tmp_path / "w.safetensors"))
    assert (network.weights, network.warnings) == ("w.safetensors", ())
    assert torch.equal(network.module.state_dict()["fc.weight"], halved["fc.weight"].float())


def test_a_pretrained_timm_network_with_another_classifier_says_it_is_untrained(monkeypatch):
    timm = import_timm()
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **arguments: create(name, **arguments))
    network = load_network("timm:test_resnet?num_classes=7")
    assert network.weights == "pretrained (r160_in1k)"
    assert "the classifier of 7 classes is untrained, drawn with seed 0" in network.warnings[0]
    assert load_network("timm:test_resnet").warnings == ()


# --- modules


def test_a_module_is_copied_and_left_as_it_is():
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).double()
    module.train()
    network = load_network(module, image_shape=GREY)
    assert (network.name, network.weights) == ("Sequential", "as given")
    assert network.preprocessing == Preprocessing(size=(8, 8), channels=1, mean=(0.0,), std=(1.0,))
    assert "not normalised; set ?mean=…&std=… or a `preprocessing` attribute" in network.warnings[0]
    assert module.training
    assert module[1].weight.requires_grad
    assert module[1].weight.dtype == torch.float64


def test_the_first_convolution_says_how_many_channels_the_images_have():
    network = load_network(nn.Sequential(nn.Conv2d(3, 4, 3)), image_shape=GREY)
    assert network.preprocessing is not None
    assert network.preprocessing.channels == 3


def test_a_module_may_carry_its_preprocessing():
    module = nn.Conv2d(3, 4, 3)
    module.preprocessing = {"mean": 0.5, "std": [0.1, 0.2, 0.3], "size": 24}
    expected = Preprocessing(size=(24, 24), mean=(0.5,) * 3, std=(0.1, 0.2, 0.3))
    assert (load_network(module).preprocessing, load_network(module).warnings) == (expected, ())
    module.preprocessing = expected
    assert load_network(module, image_shape=GREY).preprocessing == expected


def test_a_timm_module_keeps_its_preprocessing():
    network = load_network(import_timm().create_model("test_vit"))
    assert network.preprocessing == load_network("timm:test_vit", weights="random").preprocessing
    assert network.warnings == ()


def test_without_any_size_there_is_no_preprocessing():
    network = load_network(nn.Conv2d(3, 4, 3))
    assert network.preprocessing is None
    assert "the image size Conv2d takes is not known: set ?size=N or HxW" in network.warnings[-1]


def test_a_module_can_be_drawn_anew():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.MultiheadAttention(4, 2))
    first, again = (load_network(module, weights="random", seed=1) for _ in range(2))
    assert same_weights(first.module, again.module)
    assert not same_weights(first.module, module)
    assert not same_weights(first.module, load_network(module, weights="random", seed=2).module)
    assert (
        first.warnings[-1]
        == "the weights of Sequential are random (seed 1); --weights FILE loads trained ones"
    )


def test_a_wrapped_module_is_taken_out_of_its_wrapper():
    network = load_network(nn.DataParallel(torch.compile(nn.Linear(2, 2))))
    assert (network.name, list(network.module.state_dict())) == ("Linear", ["weight", "bias"])


# --- what is refused


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))


def carrying(preprocessing) -> nn.Module:
    module = nn.Conv2d(3, 4, 3)
    module.preprocessing = preprocessing
    return module


REFUSED = {
    "timm name": ("timm:resnet81", None, r"no timm network named 'resnet81'; nearest: resnet18"),
    "timm tag": (
        "timm:resnet18.a9_in1k",
        None,
        r"no pretrained tag of timm:resnet18 named 'a9_in1k'; nearest: a",
    ),
    "timm argument": (
        "timm:resnet18?dept=3",
        "random",
        r"timm cannot build 'timm:resnet18\?dept=3': .*unexpected keyword argument 'dept'$",
    ),
    "timm pretrained argument": (
        "timm:resnet18?pretrained=true",
        None,
        r"pretrained is no argument here; use --weights pretrained\|random",
    ),
    "timm channels": ("timm:test_resnet?mean=1,2", "random", r"mean has 2 numbers for 3 channels in 'timm:"),
    "torchvision name": (
        "torchvision:resnet81",
        None,
        r"no torchvision network named 'resnet81'; nearest: resnet18",
    ),
    "torchvision weights": (
        "torchvision:resnet18?weights=IMAGENET1K_V2",
        None,
        r"no weights of torchvision:resnet18 named 'IMAGENET1K_V2'; nearest: IMAGENET1K_V1",
    ),
    "torchvision argument": (
        "torchvision:resnet18?dept=3",
        "random",
        r"torchvision cannot build 'torchvision:resnet18\?dept=3': .*unexpected keyword argument 'dept'$",
    ),
    "torchvision classes": (
        "torchvision:resnet18?num_classes=3",
        None,
        r"torchvision cannot build .*'num_classes' expected value 1000 but got 3 instead",
    ),
    "zoo name": ("zoo:resnet56", None, r"no network of the zoo named 'resnet56'; nearest: .*cifar_resnet56"),
    "zoo argument": ("zoo:mlp?dept=3", None, r"no argument of zoo:mlp named 'dept'; nearest: depth"),
    "zoo fraction": ("zoo:mlp?depth=2.5", None, r"depth takes a value such as 12, got 2\.5"),
    "zoo switch": ("zoo:vgg11?batch_norm=2", None, r"batch_norm takes a value such as true, got 2"),
    "zoo head": ("zoo:vgg11?head=512", None, r"head takes a value such as 512,512, got 512"),
    "zoo head words": (
        "zoo:vgg11?head=a,b",
        None,
        r"head takes whole numbers such as 512,512, got \('a', 'b'\)",
    ),
    "zoo classes": ("zoo:mlp?classes=0", None, r"classes must be 1 or more, got 0"),
    "zoo channels": ("zoo:mlp?channels=4", None, r"channels is 1 \(grey\) or 3 \(RGB\), got 4"),
    "zoo size": ("zoo:vgg11?size=28", None, r"size must be 32 pixels or more, got 28x28; the next is 32x32"),
    "zoo patches": (
        "zoo:vit_t?size=32x36",
        None,
        r"size must be a multiple of 8 pixels, got 32x36; the next is 32x40",
    ),
    "zoo vit width": ("zoo:vit_t?width=0.01", None, r"needs a width of at least 0\.0625, got width=0\.01"),
    "zoo stem": ("zoo:resnet18?stem=cifr", None, r"takes stem=cifar or stem=imagenet, got stem=cifr"),
    "zoo stem number": ("zoo:resnet18?stem=7", None, r"takes stem=cifar or stem=imagenet, got stem=7"),
    "zoo skip": ("zoo:resnet34?skip=no", None, r"skip takes a value such as true, got 'no'"),
    "zoo convs": (
        "zoo:vgg16?convs=1,2",
        None,
        r"needs convs of 1 or more for 5 stages, such as 2,2,4,4,4, got \(1, 2\)",
    ),
    "zoo convs number": ("zoo:vgg16?convs=8", None, r"convs takes a value such as 2,2,3,3,3, got 8"),
    "zoo std": ("zoo:mlp?std=0", None, r"'zoo:mlp\?std=0': std must be above 0"),
    "zoo interpolation": (
        "zoo:mlp?interpolation=bicubik",
        None,
        r"no interpolation named 'bicubik'; nearest: bicubic",
    ),
    "weights word": (
        "zoo:mlp",
        "pretraind",
        r"no weights named 'pretraind'; nearest: pretrained, random\. Say pretrained",
    ),
    "no model": (3, None, r"a model is a name or a torch\.nn\.Module, got a int"),
    "no shape yet": (
        nn.LazyLinear(3),
        None,
        r"LazyLinear: parameter weight has no values yet; run one batch",
    ),
    "not redrawable": (Bare(), "random", r"Bare: the weights of layer Bare \(Bare\) cannot be drawn anew"),
    "carried key": (
        carrying({"maen": 0.5}),
        None,
        r"no preprocessing value named 'maen'; nearest: mean\. It was",
    ),
    "carried type": (
        carrying("imagenet"),
        None,
        r"the `preprocessing` attribute of Conv2d is a str; make it a dict",
    ),
    "carried mean": (
        carrying({"mean": "x"}),
        None,
        r"mean takes one number .* in the `preprocessing` attribute of",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_loaded_is_refused_in_one_line(case):
    model, weights, message = REFUSED[case]
    with pytest.raises(RequestError, match=message) as error:
        load_network(model, weights=weights, image_shape=None)
    assert len(str(error.value).splitlines()) == 1


NOT_TO_BE_HAD = {
    "timm offline": ("timm:resnet18", r"^the pretrained weights of timm:resnet18 cannot be had \("),
    "torchvision offline": (
        "torchvision:resnet18",
        r"^the pretrained weights of torchvision:resnet18 cannot be had \(Name or service not known\)",
    ),
    "timm without any": ("timm:botnet50ts_256", r"^timm has no pretrained weights of botnet50ts_256"),
}
NEVER_PRETRAINED = {
    "zoo": ("zoo:mlp", r"^there are no pretrained weights of zoo:mlp"),
    "file": ("net.py:build", r"^there are no pretrained weights of net.py:build"),
    "module": (nn.Linear(2, 2), r"^Linear is a module and holds its weights already; leave weights out"),
}


@pytest.mark.parametrize("case", NOT_TO_BE_HAD)
def test_pretrained_weights_that_cannot_be_had_name_the_other_ways(case, monkeypatch, tmp_path):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    model, message = NOT_TO_BE_HAD[case]
    with pytest.raises(MachineError, match=message + r".*--weights random\|FILE needs no download$"):
        load_network(model, weights="pretrained")


@pytest.mark.parametrize("case", NEVER_PRETRAINED)
def test_pretrained_weights_that_cannot_exist_are_no_fault_of_the_machine(case):
    model, message = NEVER_PRETRAINED[case]
    with pytest.raises(RequestError, match=message + r".*--weights random\|FILE needs no download$"):
        load_network(model, weights="pretrained")


def test_a_checkpoint_of_other_classes_says_what_to_give(tmp_path):
    path: Path = tmp_path / "w.safetensors"
    save_file(load_network("zoo:cifar_resnet20?classes=100").module.state_dict(), path)
    with pytest.raises(
        RequestError, match=r"linear\.bias is \(100,\) there, \(10,\) here.*such as .*\?classes=N"
    ):
        load_network("zoo:cifar_resnet20", weights=path)
    assert load_network("zoo:cifar_resnet20?classes=100", weights=path).weights == "w.safetensors"
