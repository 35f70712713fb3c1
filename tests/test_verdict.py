"""The verdict claims a tunnel only where the intervals carry it, and says the layer to take."""

from tunnelscope.verdict import next_step, verdict

LAYERS = [{"name": name, "index": index} for index, name in enumerate("abcd", start=1)]


def reading(r, low, high):
    return {"retained": {"value": r, "low": low, "high": high}, "is_beyond_noise": high < 1}


def tunnel(ood, band="strong", **own):
    start = {"start_95": "b", "start_95_interval": ["b", "c"], "length": 2, "reason": None}
    return start | {"ood": ood, "band": band} | own


def best(**layers):
    return {key: {"layer": layer} for key, layer in layers.items()}


def test_two_sentences_with_start_interval_r_and_layer():
    text = verdict(tunnel({"pets": reading(0.7, 0.65, 0.75)}), best(pets="b"), LAYERS)
    assert "by b (layer 2 of 4, 95 % interval 2 to 3)" in text
    assert "the 2 layers after it add at most 5 %" in text
    assert "70.0 % [65.0–75.0] on pets (take b): a strong tunnel, beyond the sampling error" in text
    assert text.count(". ") == 1


def test_a_fall_inside_its_interval_is_no_tunnel():
    text = verdict(tunnel({"pets": reading(0.97, 0.94, 1.01)}, "negligible"), best(pets="b"), LAYERS)
    assert "no tunnel beyond the sampling error" in text


def test_falls_on_some_sets_are_counted():
    ood = {"pets": reading(0.7, 0.65, 0.75), "cars": reading(0.99, 0.97, 1.02)}
    text = verdict(tunnel(ood, "medium"), best(pets="b", cars="d"), LAYERS)
    assert "on 1 of 2 sets beyond the sampling error" in text
    assert "on cars (take the last layer)" in text


def test_no_tunnel_at_all_when_the_last_layer_is_the_start():
    own = {"start_95": "d", "start_95_interval": ["d", "d"], "length": 0}
    text = verdict(tunnel({"pets": reading(1.0, 1.0, 1.0)}, "negligible", **own), best(pets="d"), LAYERS)
    assert "up to the last layer, d (layer 4 of 4" in text


def test_without_an_id_set_the_reason_stands_in_the_first_sentence():
    own = {"start_95": None, "start_95_interval": None, "length": None, "reason": "no ID set was given"}
    text = verdict(tunnel({"pets": reading(0.9, 0.85, 0.95)}, "weak", **own), best(pets="c"), LAYERS)
    assert text.startswith(
        "Where the representation stops being built is not known here: no ID set was given."
    )


def test_next_step_keeps_weights_and_pooling():
    lines = next_step("timm:resnet18", "mine.safetensors", "layer3.1", "avg")
    assert len(lines) == 3
    assert lines[1] == 'network = ts.load_network("timm:resnet18", weights="mine.safetensors")'
    assert 'layers="layer3.1", pool="avg")["layer3.1"]' in lines[2]
    assert next_step(None, None, "a", "auto")[1].startswith("network = model")


def test_next_step_keeps_the_seed():
    lines = next_step("zoo:mlp", "random", "a", "flatten", seed=5)
    assert lines[1].endswith('weights="random", seed=5)')
    assert 'pool="flatten", seed=5)' in lines[2]


def test_the_strength_is_that_of_the_sets_that_can_be_read():
    ood = {"pets": reading(0.98, 0.97, 0.99), "cars": reading(0.5, 0.3, 0.8)}
    text = verdict(tunnel(ood, "strong"), best(pets="b", cars="a"), LAYERS, at_chance=["cars"])
    assert "a negligible tunnel, beyond" in text


def test_an_unsure_choice_says_how_often_it_is_made():
    layers = {"pets": {"layer": "b", "choice_share": 0.41}, "cars": {"layer": "d", "choice_share": 0.97}}
    ood = {"pets": reading(0.9, 0.85, 0.95), "cars": reading(1.0, 0.99, 1.0)}
    text = verdict(tunnel(ood, "weak"), layers, LAYERS)
    assert "(take b, chosen in 41 % of resamples)" in text
    assert "(take the last layer):" in text


def test_nothing_is_claimed_at_chance():
    ood = {"pets": reading(0.7, 0.65, 0.75), "cars": reading(0.5, 0.3, 0.8)}
    text = verdict(tunnel(ood), best(pets="b", cars="a"), LAYERS, at_chance=["cars"])
    assert "cars (take" not in text
    assert "the probes on cars are at chance" in text
    text = verdict(tunnel(ood), best(pets="b", cars="a"), LAYERS, at_chance=["cars", "pets"])
    assert "cannot be read: the probes on cars and pets are at chance" in text
    text = verdict(tunnel(ood), best(pets="b", cars="a"), LAYERS, at_chance=["own"])
    assert text.startswith("On its own data the probes are at chance")


def test_an_untrained_network_is_called_so():
    text = verdict(tunnel({}), {}, LAYERS, weights="random (seed 0)")
    assert "this untrained network has built" in text
