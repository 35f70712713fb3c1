import math

import pytest
import torch
from planted import planted

from tunnelscope.probes import fit_probe
from tunnelscope.probes.heldout import heldout_rows
from tunnelscope.probes.recipes import HARUN2024, MASARCZYK2023
from tunnelscope.randomness import named_generator


def plain_loop(features, labels, classes, recipe, seed):
    """The same training as one would write it with torch.nn and autograd."""
    layer = torch.nn.Linear(features.shape[1], classes)
    draws = named_generator(seed, "probe weights")
    if recipe == "harun2024":
        torch.nn.init.normal_(layer.weight, 0, 0.01, generator=draws)
        torch.nn.init.zeros_(layer.bias)
        optimiser, batch, smoothing = torch.optim.AdamW(layer.parameters(), lr=1e-3, weight_decay=0), 128, 0.1
    else:
        torch.nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=draws)
        bound = 1 / math.sqrt(features.shape[1])
        torch.nn.init.uniform_(layer.bias, -bound, bound, generator=draws)
        optimiser, batch, smoothing = torch.optim.Adam(layer.parameters(), lr=1e-3), 512, 0.0
    loss = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
    order = named_generator(seed, "probe batches")
    for _ in range(30):
        for rows in torch.randperm(len(features), generator=order).split(batch):
            optimiser.zero_grad()
            loss(layer(features[rows]), labels[rows]).backward()
            optimiser.step()
    return layer


@pytest.mark.parametrize("recipe", ["masarczyk2023", "harun2024"])
def test_a_recipe_equals_a_plain_loop(recipe):
    features, labels = planted(n=700, d=20, spread=0.5, dtype=torch.float32)
    probe = fit_probe(features, labels, protocol=recipe, seed=5)
    layer = plain_loop(features, labels, 4, recipe, seed=5)
    assert torch.allclose(probe.weights, layer.weight.detach(), atol=1e-4)
    assert torch.allclose(probe.bias, layer.bias.detach(), atol=1e-4)
    assert (probe.predict(features) == layer(features).argmax(dim=1)).double().mean() > 0.995
    assert probe.protocol == f"{recipe}/v1"


@pytest.mark.parametrize("recipe", ["masarczyk2023", "harun2024"])
def test_the_held_out_accuracy_is_that_of_the_same_training_without_the_held_out_rows(recipe):
    features, labels = planted(n=400, d=10, spread=0.5, dtype=torch.float32)
    probe = fit_probe(features, labels, protocol=recipe, seed=2)
    fit, heldout = heldout_rows(labels, 2)
    layer = plain_loop(features[fit], labels[fit], 4, recipe, seed=2)
    right = layer(features[heldout]).argmax(dim=1) == labels[heldout]
    assert probe.heldout_accuracy == pytest.approx(float(right.double().mean()), abs=0.03)
    assert probe.n_train == 400


def test_recipes_read_raw_features():
    features, labels = planted(n=300, d=5, dtype=torch.float32)
    probe = fit_probe(features, labels, protocol="harun2024")
    assert torch.equal(probe.mean, torch.zeros(5, dtype=torch.float64))
    assert torch.equal(probe.scale, torch.ones(5, dtype=torch.float64))


def test_the_settings_are_those_of_the_papers():
    assert (MASARCZYK2023.optimiser, MASARCZYK2023.batch, MASARCZYK2023.label_smoothing) == ("adam", 512, 0.0)
    assert (HARUN2024.optimiser, HARUN2024.batch, HARUN2024.label_smoothing) == ("adamw", 128, 0.1)
    for recipe in (MASARCZYK2023, HARUN2024):
        assert (recipe.learning_rate, recipe.weight_decay, recipe.epochs) == (1e-3, 0.0, 30)


def test_a_training_that_overflows_is_not_called_converged():
    features, labels = planted(n=100, d=5, dtype=torch.float64)
    probe = fit_probe(features * 1e200, labels, protocol="harun2024")
    assert not probe.converged
