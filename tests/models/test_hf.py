"""Models of transformers: loaded whole or refused in one line, and read as the library itself reads them."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import tunnelscope as ts
from tunnelscope.errors import MachineError, RequestError
from tunnelscope.models import load_network
from tunnelscope.recording import make_recorder, recorder_for

transformers = pytest.importorskip("transformers")

from tiny_transformers import (  # noqa: E402
    IMAGE_KINDS,
    TEXT_KINDS,
    save_model,
    save_text_encoder,
    save_tokenizer,
)

from tunnelscope.data import as_split  # noqa: E402

TEXTS = [
    "who wrote hamlet ?",
    "what is the capital of france ?",
    "how many ?",
    "who is the capital of hamlet ?",
    "what ?",
    "what is the capital of the france of the hamlet of the capital ?",  # is cut off
    "how many capital ?",
    "france",
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A tiny BERT with its tokenizer; tests copy what they damage."""
    return save_text_encoder(tmp_path_factory.mktemp("hf") / "tiny-bert")


@pytest.fixture
def damaged(encoder, tmp_path):
    """A copy of the tiny BERT to be damaged."""
    return shutil.copytree(encoder, tmp_path / "damaged")


def padded_features(folder, texts):
    """Every layer's mean over tokens as transformers gives it for one padded batch, by hand."""
    module = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=12, return_tensors="pt")
    given = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        layers = module(**given, output_hidden_states=True).hidden_states
    mask = batch["attention_mask"][..., None].float()
    return [((layer * mask).sum(1) / mask.sum(1)) for layer in layers]


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_text_features_are_those_of_a_padded_batch_with_padding_left_out(kind, tmp_path):
    folder = save_text_encoder(tmp_path / kind, kind)
    recorder = recorder_for(f"hf:{folder}", as_split(TEXTS))
    features = recorder.record(as_split(TEXTS)).features
    assert [point.kind for point in recorder.points] == ["block"] * 3
    assert list(features) == ["input", *(point.name for point in recorder.points)]
    expected = padded_features(folder, TEXTS)
    for values, wanted in zip(features.values(), expected, strict=True):
        torch.testing.assert_close(values, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", ["mean", "cls", "last"])
def test_other_texts_in_a_batch_change_no_features(encoder, pool):
    name = f"hf:{encoder}"
    together = ts.record(name, TEXTS, pool=pool)
    for index, text in enumerate(TEXTS):
        for layer, alone in ts.record(name, [text], pool=pool).items():
            torch.testing.assert_close(together[layer][index], alone[0], rtol=1e-4, atol=1e-5)


def test_cls_and_last_take_the_first_and_the_last_token(encoder):
    text = TEXTS[0]
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    module = transformers.AutoModel.from_pretrained(encoder).eval()
    with torch.no_grad():
        tokens = module(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
    for pool, wanted in (("cls", tokens[0]), ("last", tokens[-1]), ("mean", tokens.mean(dim=0))):
        features = ts.record(f"hf:{encoder}", [text], pool=pool)["encoder.layer.2"][0]
        torch.testing.assert_close(features, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_vision_models_read_what_the_library_reads(kind, tmp_path):
    folder = save_model(tmp_path / kind, kind, "AutoModelForImageClassification", num_labels=4)
    size = 32 if kind in ("convnext", "resnet") else 16
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    recorder = recorder_for(f"hf:{folder}?size={size}", as_split(images))
    recorded = recorder.record(as_split(images))
    module = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        wanted = module(images).logits
    torch.testing.assert_close(recorded.logits, wanted, rtol=1e-4, atol=1e-5)
    blocks = {"convnext": 5, "resnet": 5, "swin": 4}.get(kind, 3)
    assert sum(point.kind == "block" for point in recorder.points) == blocks
    assert len(recorder.points) == blocks + 1  # and the stem
    prefix = {"vit": 1, "dinov2": 1, "dinov2_with_registers": 5}.get(kind, 0)
    assert recorder.points[-1].prefix_tokens == prefix


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("vit", {"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}},
         "RGB 16×16 (bilinear), mean 0.5, 0.5, 0.5, std 0.5, 0.5, 0.5"),
        ("dinov2", {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 20},
                    "crop_size": {"height": 16, "width": 16}, "image_mean": [0.4, 0.5, 0.6],
                    "image_std": [0.1, 0.2, 0.3], "resample": 3},
         "RGB 16×16 (bicubic, crop 0.8), mean 0.4, 0.5, 0.6, std 0.1, 0.2, 0.3"),
        ("convnext", {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32},
                      "crop_pct": 0.8, "do_normalize": False},
         "RGB 32×32 (bicubic, crop 0.8), mean 0, 0, 0, std 1, 1, 1"),
    ],
)  # fmt: skip
def test_the_image_processor_gives_the_preprocessing(kind, settings, words, tmp_path):
    folder = save_model(tmp_path / kind, kind)
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    network = load_network(f"hf:{folder}")
    assert network.preprocessing.describe() == words
    assert any("squashes images" in line for line in network.warnings) == (kind == "vit")
    said = load_network(f"hf:{folder}?mean=0.1&size=16", weights="random").preprocessing
    assert (said.mean, said.size) == ((0.1,) * 3, (16, 16))


def test_square_images_look_as_the_image_processor_makes_them(tmp_path):
    from tunnelscope.data import preprocess

    folder = save_model(tmp_path / "dinov2", "dinov2")
    settings = {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 90}, "resample": 3}
    settings["crop_size"] = {"height": 72, "width": 72}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    pixels = np.random.default_rng(0).integers(0, 256, (120, 120, 3), dtype=np.uint8)
    ours = preprocess(Image.fromarray(pixels), load_network(f"hf:{folder}").preprocessing)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    theirs = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"][0]
    assert (ours - theirs).abs().max() < 0.05  # their resize is torchvision's on tensors: a grey level or two


def test_a_scan_of_texts_names_texts_and_starts_at_the_embeddings(encoder, tmp_path):
    labels = [0, 1, 2, 0, 1, 2, 0, 1] * 6
    lines = []
    result = ts.scan(
        f"hf:{encoder}", ood={"train": (TEXTS * 6, labels)}, out=tmp_path / "run", announce=lines.append
    )
    table = result.table()
    first = table[(table.layer_index == 0) & (table.quantity == "probe_accuracy")].iloc[0]
    assert (first.layer, first.read_point, first.pool) == ("input", "embedding", "mean tokens")
    assert any("training and 10 test texts" in line for line in lines)
    run = result.json()
    assert run["model"]["preprocessing"] == {"max_length": 12, "vocabulary": 17}
    assert any("texts are longer than 12 tokens and cut off there" in line for line in run["warnings"])
    assert "texts, layers=" in run["next_step"]["arrays"][2]


def test_a_fine_tuned_classifier_gives_the_networks_own_accuracy(tmp_path):
    auto = "AutoModelForSequenceClassification"
    folder = save_tokenizer(save_model(tmp_path / "tuned", "bert", auto, num_labels=3))
    labels = [0, 1, 2, 0, 1, 2, 0, 1] * 6
    run = ts.scan(f"hf:{folder}", id={"train": (TEXTS * 6, labels)}).json()
    assert [layer["name"] for layer in run["layers"]] == [f"bert.encoder.layer.{index}" for index in range(3)]
    assert run["network_accuracy"]["value"] is not None


def test_layers_of_a_folder_with_nothing_but_its_configuration(encoder, tmp_path, tunnelscope):
    (tmp_path / "config.json").write_text((encoder / "config.json").read_text())
    ended = tunnelscope("layers", f"hf:{tmp_path}?num_hidden_layers=2&max_position_embeddings=64", "--json")
    assert ended.code == 0
    layers = ended.json["layers"]
    assert [(layer["name"], layer["shape"]) for layer in layers] == [
        ("encoder.layer.0", [16, 16]),
        ("encoder.layer.1", [16, 16]),
    ]
    # one block of 16 tokens, a multiply-add twice: 4 projections, 2 of the MLP, attention's 2 products
    block = 2 * 16 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 2 * 16 * 16 * 16
    assert [layer["flops"] for layer in layers] == [block, 2 * block]


def test_random_weights_follow_the_seed(encoder):
    names = [load_network(f"hf:{encoder}", weights="random", seed=seed).fingerprint for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]
    assert load_network(f"hf:{encoder}").fingerprint not in names


def test_weights_come_from_a_file_or_from_shards_too(encoder, damaged):
    whole = load_network(f"hf:{encoder}").fingerprint
    file = encoder / "model.safetensors"
    assert load_network(f"hf:{encoder}", weights=str(file)).fingerprint == whole
    state = load_file(file)
    halves = [dict(list(state.items())[::2]), dict(list(state.items())[1::2])]
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for name, half in zip(names, halves, strict=True):
        save_file(half, damaged / name)
    index = {key: name for name, half in zip(names, halves, strict=True) for key in half}
    (damaged / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (damaged / "model.safetensors").unlink()
    assert load_network(f"hf:{damaged}").fingerprint == whole
    (damaged / names[1]).unlink()
    with pytest.raises(RequestError, match=r"lacks model-00002-of-00002\.safetensors, which .* lists"):
        load_network(f"hf:{damaged}")


def test_names_of_older_checkpoints_find_their_modules(tmp_path):
    folder = save_model(tmp_path / "vit", "vit")
    state = load_file(folder / "model.safetensors")
    assert any(key.startswith("encoder.layer.0.attention.attention.query") for key in state)
    module = transformers.AutoModel.from_pretrained(folder).eval()
    images = torch.randn(2, 3, 16, 16)
    network = load_network(f"hf:{folder}", weights=str(folder / "model.safetensors"))
    torch.testing.assert_close(network.module(images)[0], module(images)[0])


def test_weights_that_do_not_fit_are_named(damaged, encoder):
    file = damaged / "model.safetensors"
    state = load_file(file)
    key = "encoder.layer.1.output.dense.weight"
    save_file({name: tensor for name, tensor in state.items() if name != key}, file)
    with pytest.raises(RequestError, match=f"does not fit BertModel: 1 missing: {key}"):
        load_network(f"hf:{damaged}")
    save_file(state | {key: state[key][:, :8].contiguous()}, file)
    with pytest.raises(RequestError, match=f"1 of another shape: {key}"):
        load_network(f"hf:{damaged}")
    save_file(state | {"lm_head.weight": torch.zeros(2)}, file)
    network = load_network(f"hf:{damaged}")
    assert network.warnings == (f"hf:{damaged}: 1 tensors of the weights are not used: lm_head.weight",)


def test_a_broken_safetensors_file_is_named(damaged):
    file = damaged / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RequestError, match=r"model\.safetensors is cut off: its header needs"):
        load_network(f"hf:{damaged}")


def test_pickles_are_not_opened(damaged, monkeypatch):
    state = load_file(damaged / "model.safetensors")
    (damaged / "model.safetensors").unlink()
    torch.save(state, damaged / "pytorch_model.bin")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))
    with pytest.raises(
        RequestError, match=r"no model\.safetensors: it has pytorch_model\.bin, which can run"
    ):
        load_network(f"hf:{damaged}")


def test_code_in_a_folder_is_not_run(damaged):
    config = json.loads((damaged / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.C", "AutoModel": "mine.M"}}
    (damaged / "config.json").write_text(json.dumps(config))
    (damaged / "mine.py").write_text(f"open({str(damaged / 'ran')!r}, 'w')\nclass C: pass\nclass M: pass\n")
    with pytest.raises(RequestError, match=r"config\.json is no configuration that transformers knows"):
        load_network(f"hf:{damaged}")
    assert not (damaged / "ran").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "config.json").unlink(), "holds no config.json, but: model.safetensors"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is no configuration that"),
        (lambda folder: shutil.rmtree(folder), "damaged does not exist; give hf:FOLDER"),
    ],
)
def test_a_folder_that_is_no_model_is_named(damaged, change, words):
    change(damaged)
    with pytest.raises(RequestError, match=words):
        load_network(f"hf:{damaged}")


def test_a_misspelt_folder_names_the_nearest(damaged):
    with pytest.raises(RequestError, match=f"nearest: {damaged}; give hf:FOLDER"):
        load_network(f"hf:{damaged}d")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (
            "?num_hidden_layer=2",
            "no value of .*config.json named 'num_hidden_layer'; nearest: num_hidden_layers",
        ),
        ("?mean=0.5", "reads text; mean= is for images"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(encoder, query, words):
    with pytest.raises(RequestError, match=words):
        load_network(f"hf:{encoder}{query}", weights="random")


def test_a_folder_without_a_tokenizer_says_so_when_texts_come(tmp_path):
    folder = save_model(tmp_path / "bare", "bert")
    make_recorder(load_network(f"hf:{folder}"))  # its layers are listed all the same
    with pytest.raises(RequestError, match="holds no tokenizer"):
        ts.record(f"hf:{folder}", ["what ?"])


def test_texts_and_images_do_not_go_into_each_others_networks(encoder, tmp_path, tunnelscope):
    texts = {"train": (TEXTS, [0, 1] * 4)}
    with pytest.raises(RequestError, match=r"zoo:mlp reads images; arrays \(train\) holds text"):
        ts.scan("zoo:mlp", id=texts)
    ended = tunnelscope("scan", f"hf:{encoder}", "--ood", "sklearn:digits", "--out", tmp_path / "run")
    assert (ended.code, ended.out) == (2, "")
    assert f"hf:{encoder} reads text; digits holds images; give data that holds text" in ended.err
    with pytest.raises(RequestError, match="reads text; the data holds images"):
        ts.record(f"hf:{encoder}", torch.zeros(2, 3, 8, 8))
    with pytest.raises(RequestError, match="reads text; digits holds images"):
        ts.scan(f"hf:{encoder}", id=texts, ood="sklearn:digits")


def test_flatten_is_refused_where_texts_differ_in_length(encoder):
    with pytest.raises(RequestError, match="--pool flatten needs inputs of one shape"):
        ts.record(f"hf:{encoder}", TEXTS, pool="flatten")


def test_tokens_are_needed_to_take_one():
    with pytest.raises(
        RequestError, match=r"--pool cls: no layer of these 10 has a class token; use --pool mean"
    ):
        ts.record("zoo:cifar_resnet20", torch.randn(1, 3, 32, 32), pool="cls")


def test_the_missing_library_is_named(encoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(RequestError, match=r"needs the transformers library: pip install tunnelscope\[hf\]"):
        load_network(f"hf:{encoder}")


def test_a_hub_that_cannot_be_reached_is_a_fault_of_the_machine():
    with pytest.raises(MachineError, match=r"the files of hf:nobody/nothing cannot be had .* local folder"):
        load_network("hf:nobody/nothing")


def block_flops(tokens, width, inner):
    """Of one transformer layer by hand: four projections, two of the feed-forward part, two products."""
    return 2 * tokens * (4 * width**2 + 2 * width * inner) + 4 * tokens**2 * width


def test_a_layer_called_again_and_again_is_as_many_layers(tmp_path):
    recorder = make_recorder(load_network(f"hf:{save_text_encoder(tmp_path / 'shared', 'albert')}"))
    module = "encoder.albert_layer_groups.0.albert_layers.0"
    assert [point.name for point in recorder.points] == [f"{module}:{call}" for call in (1, 2, 3)]
    block, mapping = block_flops(12, 16, 32), 2 * 12 * 8 * 16  # embeddings of 8 to the layers' 16
    assert [point.flops for point in recorder.points] == [mapping + block * call for call in (1, 2, 3)]
    assert len({point.parameters for point in recorder.points}) == 1  # no layer less saves any


def test_flops_of_relative_positions_are_counted(tmp_path):
    """DeBERTa projects all its relative positions in every layer, however short the text is."""
    folder = save_text_encoder(tmp_path / "relative", "deberta-v2", max_position_embeddings=64)
    recorder = make_recorder(load_network(f"hf:{folder}"))
    places = 2 * 64
    relative = 2 * 2 * places * 16**2 + 2 * 2 * 12 * places * 16  # two projections, two products with tokens
    block = block_flops(12, 16, 32) + relative
    assert [point.flops for point in recorder.points] == [block, 2 * block, 3 * block]
    assert relative > 3 * block_flops(12, 16, 32)
