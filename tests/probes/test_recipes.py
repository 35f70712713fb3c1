import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import planted

from tunnelscope.errors import RequestError
from tunnelscope.probes import fit_probe, load_probe, probe
from tunnelscope.probes import recipes as recipes_module
from tunnelscope.probes.heldout import heldout_rows
from tunnelscope.probes.recipes import HARUN2024, HARUN2024_CODE, HARUN2024_VIT, MASARCZYK2023
from tunnelscope.randomness import named_generator

RECIPES = ["masarczyk2023", "harun2024", "harun2024-vit", "harun2024-code"]


def plain_loop(features, labels, classes, recipe, seed, epochs=30):
    """The same training as one would write it with torch.nn and autograd."""
    layer = torch.nn.Linear(features.shape[1], classes)
    draws = named_generator(seed, "probe weights")
    if recipe.startswith("harun2024"):
        torch.nn.init.normal_(layer.weight, 0, 0.01, generator=draws)
        torch.nn.init.zeros_(layer.bias)
        rate, decay, batch = {
            "harun2024": (1e-3, 0, 128),
            "harun2024-code": (1e-3, 0, 256),
            "harun2024-vit": (1e-2, 1e-4, 512),
        }[recipe]
        optimiser, smoothing = torch.optim.AdamW(layer.parameters(), lr=rate, weight_decay=decay), 0.1
    else:
        torch.nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=draws)
        bound = 1 / math.sqrt(features.shape[1])
        torch.nn.init.uniform_(layer.bias, -bound, bound, generator=draws)
        optimiser, batch, smoothing = torch.optim.Adam(layer.parameters(), lr=1e-3), 512, 0.0
    loss = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
    order = named_generator(seed, "probe batches")
    drawn = torch.randperm(len(features), generator=order)
    for epoch in range(epochs):
        if epoch and recipe != "harun2024-code":
            drawn = torch.randperm(len(features), generator=order)
        for rows in drawn.split(batch):
            optimiser.zero_grad()
            loss(layer(features[rows]), labels[rows]).backward()
            optimiser.step()
    return layer


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_equals_a_plain_loop(recipe):
    features, labels = planted(n=700, d=20, spread=0.5, dtype=torch.float32)
    probe = fit_probe(features, labels, protocol=recipe, seed=5)
    layer = plain_loop(features, labels, 4, recipe, seed=5)
    assert torch.allclose(probe.weights, layer.weight.detach(), atol=1e-4)
    assert torch.allclose(probe.bias, layer.bias.detach(), atol=1e-4)
    assert (probe.predict(features) == layer(features).argmax(dim=1)).double().mean() > 0.995
    assert probe.protocol == f"{recipe}/v1"


@pytest.mark.parametrize("recipe", RECIPES)
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
    assert (HARUN2024_VIT.learning_rate, HARUN2024_VIT.weight_decay, HARUN2024_VIT.batch) == (1e-2, 1e-4, 512)
    assert (HARUN2024_CODE.batch, HARUN2024_CODE.is_reshuffled) == (256, False)
    for recipe in (MASARCZYK2023, HARUN2024, HARUN2024_CODE):
        assert (recipe.learning_rate, recipe.weight_decay, recipe.epochs) == (1e-3, 0.0, 30)


def test_a_training_that_overflows_is_not_called_converged():
    features, labels = planted(n=100, d=5, dtype=torch.float64)
    probe = fit_probe(features * 1e200, labels, protocol="harun2024")
    assert not probe.converged


def several(widths, n=500, classes=4, seed=0):
    """Layers of these widths over the same rows and labels."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=draws)
    layers = {}
    for place, width in enumerate(widths):
        means = torch.randn(classes, width, generator=draws)
        layers[f"layer{place}"] = means[labels] + torch.randn(n, width, generator=draws)
    return layers, labels


def assert_as_alone(layers, labels, recipe, seed=0):
    together = probe(layers, labels, protocol=recipe, seed=seed)
    assert list(together) == list(layers)
    fit, heldout = heldout_rows(labels, seed)
    for name, features in layers.items():
        alone = plain_loop(features, labels, int(labels.max()) + 1, recipe, seed)
        torch.testing.assert_close(together[name].weights, alone.weight.detach(), rtol=0, atol=1e-4)
        torch.testing.assert_close(together[name].bias, alone.bias.detach(), rtol=0, atol=1e-4)
        logits = alone(features).detach()
        assert (together[name].predict(features) == logits.argmax(dim=1)).double().mean() > 0.995
        loss = torch.nn.functional.cross_entropy(logits, labels)
        assert together[name].scores(features, labels).loss == pytest.approx(float(loss), rel=1e-4, abs=1e-5)
        judge = plain_loop(features[fit], labels[fit], int(labels.max()) + 1, recipe, seed)
        right = judge(features[heldout]).argmax(dim=1) == labels[heldout]
        assert (together[name].heldout_right == right).double().mean() > 0.97
        assert (together[name].layer, together[name].n_train) == (name, len(labels))


@pytest.mark.parametrize("recipe", RECIPES)
def test_layers_side_by_side_equal_each_alone_in_torch_optim(recipe):
    assert_as_alone(*several([6, 20, 6, 20, 6, 9]), recipe, seed=3)


def test_large_steps_and_full_stacks_equal_each_alone(monkeypatch):
    layers, labels = several([6, 6, 6, 20])
    stacked = []
    train = recipes_module.train
    monkeypatch.setattr(recipes_module, "train", lambda x, *a: stacked.append(x.shape[1]) or train(x, *a))
    monkeypatch.setattr(recipes_module, "STACK_ELEMENTS", 2 * 6 * len(labels))
    assert_as_alone(layers, labels, "harun2024")
    assert stacked == [2, 2, 1, 1, 1, 1]  # judged and fitted: two, one, and the wide one
    monkeypatch.setattr(recipes_module, "WORTH_STACKING", 1)
    assert_as_alone(layers, labels, "masarczyk2023")
    assert stacked[6:] == [1] * 8


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1e-4, 1.0, 1e4]), st.booleans(), st.sampled_from([30, 129]))
def test_awkward_layers_side_by_side_equal_each_alone(seed, scale, far, n):
    layers, labels = several([40, 40, 40], n=n, seed=seed)
    layers["layer0"][:, :20] = 0.1  # constant
    layers["layer1"] = scale * layers["layer1"]
    layers["layer1"][:, 20:] = layers["layer1"][:, :20]  # twice the same
    if far:
        layers["layer2"] = layers["layer2"] + 1e4
    together = probe(layers, labels, protocol="harun2024", seed=seed)
    for name, features in layers.items():
        alone = fit_probe(features, labels, protocol="harun2024", seed=seed)
        torch.testing.assert_close(together[name].weights, alone.weights, rtol=0, atol=1e-4)


def test_one_layer_that_overflows_leaves_its_neighbours_alone():
    layers, labels = several([5, 5])
    layers = {name: layer.double() for name, layer in layers.items()}
    layers["layer0"] *= 1e200
    together = probe(layers, labels, protocol="harun2024")
    assert not together["layer0"].converged
    alone = fit_probe(layers["layer1"], labels, protocol="harun2024")
    torch.testing.assert_close(together["layer1"].weights, alone.weights, rtol=0, atol=1e-6)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_best_test_accuracy_is_that_of_the_best_epoch_and_changes_nothing_else(recipe):
    layers, labels = several([8, 8, 30])
    names = list(layers)
    test = ({name: layers[name][400:] for name in names}, labels[400:])
    train = ({name: layers[name][:400] for name in names}, labels[:400])
    read = probe(*train, test=test, protocol=recipe, seed=1)
    unread = probe(*train, protocol=recipe, seed=1)
    for name in names:
        epochs = []
        for last in range(1, 31):
            layer = plain_loop(
                *(part[name] if i == 0 else part for i, part in enumerate(train)), 4, recipe, 1, last
            )
            right = layer(test[0][name]).argmax(dim=1) == test[1]
            epochs.append(float(right.double().mean()))
        assert read[name].best_test_accuracy == pytest.approx(max(epochs), abs=0.011)  # a row
        assert read[name].best_test_accuracy >= read[name].accuracy
        assert read[name].accuracy == pytest.approx(epochs[-1], abs=0.011)
        assert torch.equal(read[name].weights, unread[name].weights)
        assert unread[name].best_test_accuracy is None
    single = probe(train[0]["layer2"], train[1], test=(test[0]["layer2"], test[1]), protocol=recipe, seed=1)
    assert single.best_test_accuracy == read["layer2"].best_test_accuracy
    assert probe(train[0]["layer2"], train[1], test=(test[0]["layer2"], test[1])).best_test_accuracy is None


def test_the_best_test_accuracy_is_saved_with_the_probe(tmp_path):
    layers, labels = several([8])
    fitted = fit_probe(layers["layer0"], labels, protocol="harun2024", test=(layers["layer0"], labels))
    fitted.save(tmp_path / "probe.safetensors")
    assert load_probe(tmp_path / "probe.safetensors").best_test_accuracy == fitted.best_test_accuracy > 0.5


def test_groups_stay_together_in_the_held_out_rows_of_layers_side_by_side():
    layers, labels = several([6, 6, 30], n=300)
    groups = torch.arange(300) // 5
    together = probe(layers, labels, protocol="harun2024", groups=groups)
    fit, heldout = heldout_rows(labels, 0, groups=groups)
    assert not set(groups[fit].tolist()) & set(groups[heldout].tolist())
    for name, features in layers.items():
        judge = plain_loop(features[fit], labels[fit], 4, "harun2024", 0)
        right = judge(features[heldout]).argmax(dim=1) == labels[heldout]
        assert len(together[name].heldout_right) == len(heldout)
        assert (together[name].heldout_right == right).double().mean() > 0.95


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_penalty_is_refused_for_several_layers_as_for_one(recipe):
    layers, labels = several([6, 6])
    for features in (layers, layers["layer0"]):
        with pytest.raises(RequestError, match=f"protocol {recipe}/v1 has no penalty"):
            probe(features, labels, protocol=recipe, penalty=1.0)
