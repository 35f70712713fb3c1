"""The recipes of the papers, and learning rates beside PyTorch's own schedulers."""

import math

import pytest
import torch
from torch.optim import lr_scheduler

from tunnelscope.errors import RequestError
from tunnelscope.training.recipe import RECIPES, Recipe, recipe_named


def rates(recipe: Recipe, steps: int) -> list[float]:
    return [recipe.rate_at(step, steps) for step in range(recipe.epochs * steps)]


def theirs(make, count: int, each: int = 1, rate: float = 0.1) -> list[float]:
    """Rates that a scheduler of PyTorch gives, stepped after every `each` steps."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=rate)
    scheduler = make(optimizer)
    told = []
    for step in range(count):
        told.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % each == 0 and step + 1 < count:
            scheduler.step()
    return told


def test_one_cycle_is_pytorchs():
    recipe = Recipe("sgd", 0.02, 7, schedule="one-cycle")
    wanted = theirs(
        lambda own: lr_scheduler.OneCycleLR(own, 0.02, total_steps=70, cycle_momentum=False), 70, rate=0.02
    )
    assert rates(recipe, 10) == pytest.approx(wanted, rel=1e-9)


def test_milestones_are_pytorchs():
    recipe = RECIPES["masarczyk2023/resnet"]
    wanted = theirs(lambda own: lr_scheduler.MultiStepLR(own, [82, 123]), 164 * 2, each=2)
    assert rates(recipe, 2) == pytest.approx(wanted, rel=1e-9)


def test_cosine_after_a_linear_warmup_is_pytorchs():
    recipe = RECIPES["harun2024/resnet"]

    def make(own):
        rise = lr_scheduler.LinearLR(own, start_factor=0.01, total_iters=5)
        fall = lr_scheduler.CosineAnnealingLR(own, T_max=95)
        return lr_scheduler.SequentialLR(own, [rise, fall], milestones=[5])

    wanted = theirs(make, 300, each=3, rate=0.01)
    assert rates(recipe, 3) == pytest.approx(wanted, rel=1e-6)


def test_vit_warms_up_from_a_millionth_and_ends_near_a_hundred_thousandth():
    recipe = RECIPES["harun2024/vit"]
    told = rates(recipe, 1)
    assert told[0] == pytest.approx(1e-6)
    assert max(told) == told[5]  # timm's cosine has gone on during the warm-up
    cosine = [1e-5 + (8e-4 - 1e-5) * (1 + math.cos(math.pi * epoch / 100)) / 2 for epoch in range(5, 100)]
    assert told[5:] == pytest.approx(cosine)
    assert 1e-5 < told[-1] < 1.1e-5


@pytest.mark.parametrize(
    ("network", "paper", "name"),
    [
        ("mlp", "masarczyk2023", "masarczyk2023/mlp"),
        ("vgg19", "masarczyk2023", "masarczyk2023/vgg"),
        ("cifar_resnet56", "masarczyk2023", "masarczyk2023/resnet"),
        ("resnet34", "harun2024", "harun2024/resnet"),
        ("vggm11", "harun2024", "harun2024/vggm"),
        ("vgg19", "harun2024", "harun2024/vggm"),
        ("vit_t", "harun2024", "harun2024/vit"),
    ],
)
def test_a_papers_name_is_its_recipe_for_the_network(network, paper, name):
    assert recipe_named(paper, network) == RECIPES[name]


def test_augmented_trainings_of_2024_have_the_papers_epochs():
    changes = {"augmentation": "resized-crop-flip"}
    assert recipe_named("harun2024", "vggm11", changes).epochs == 70
    assert recipe_named("harun2024", "vggm11_dagger", changes).epochs == 70
    assert recipe_named("harun2024", "vggm17", changes).epochs == 100
    assert recipe_named("harun2024", "vit_t", changes).epochs == 40
    assert recipe_named("harun2024", "vggm11", changes | {"epochs": 3}).epochs == 3
    assert recipe_named("masarczyk2023", "vgg19", changes).epochs == 160


def test_fewer_epochs_keep_the_milestones_shares():
    recipe = recipe_named("masarczyk2023", "vgg19", {"epochs": 4})
    assert rates(recipe, 1) == pytest.approx([0.1, 0.1, 0.01, 0.001])


@pytest.mark.parametrize(
    ("name", "network", "changes", "said"),
    [
        ("one-cycel", "mlp", {}, "nearest: one-cycle"),
        ("masarczyk2023", "vit_t", {}, "name one of another network: masarczyk2023/mlp"),
        ("one-cycle", "mlp", {"rate": -1.0}, "rate must be above 0, got -1"),
        ("one-cycle", "mlp", {"rate": math.inf}, "rate must be above 0, got inf"),
        ("one-cycle", "mlp", {"augmentation": "crop"}, "nearest: crop-flip"),
        ("one-cycle", "mlp", {"rat": 1.0}, "nearest: rate"),
        ("one-cycle", "mlp", {"momentum": 1.0}, "momentum must be from 0 to below 1"),
    ],
)
def test_what_is_no_recipe_is_refused(name, network, changes, said):
    with pytest.raises(RequestError, match=said):
        recipe_named(name, network, changes)
