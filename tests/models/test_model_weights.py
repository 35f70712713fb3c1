"""Weights files of every form are read, fitted strictly, and refused with the reason."""

import struct
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from tunnelscope.errors import RequestError
from tunnelscope.models.fit import fit_weights
from tunnelscope.models.weights import load_weights


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), head=nn.Linear(4, 2)))


def saved(path: Path, content) -> Path:
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


def assert_same(found: dict, expected: dict) -> None:
    assert set(found) == set(expected)
    for key in expected:
        assert torch.equal(found[key], expected[key]), key


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pt", "safetensors-in-truth.pth"])
def test_a_state_dict_is_read_from_each_form(tmp_path, name):
    state = network().state_dict()
    path = tmp_path / name
    save_file(state, path) if "safetensors" in name else torch.save(state, path)
    assert_same(load_weights(path), state)


def test_the_format_before_torch_1_6_is_read(tmp_path):
    torch.save(network().state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_same(load_weights(tmp_path / "old.pth"), network().state_dict())


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict", "net"])
def test_a_state_dict_one_level_down_is_found(tmp_path, wrapper):
    state = network().state_dict()
    path = saved(tmp_path / "w.pth", {wrapper: state, "epoch": 3, "best": 0.9})
    assert_same(load_weights(path), state)


def test_the_model_is_preferred_to_its_average(tmp_path):
    state = network().state_dict()
    average = {key: torch.zeros_like(tensor) for key, tensor in state.items()}
    assert_same(load_weights(saved(tmp_path / "w.pth", {"ema": average, "model": state})), state)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_before_every_key_are_taken_away(tmp_path, prefix):
    state = network().state_dict()
    path = saved(tmp_path / "w.pth", {prefix + key: tensor for key, tensor in state.items()})
    assert_same(load_weights(path), state)


def test_a_prefix_before_some_keys_stays(tmp_path):
    path = saved(tmp_path / "w.pth", {"module.a": torch.ones(1), "b": torch.ones(1)})
    assert set(load_weights(path)) == {"module.a", "b"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_of_any_width_becomes_float32(tmp_path, dtype):
    state = {key: t.to(dtype) if t.is_floating_point() else t for key, t in network().state_dict().items()}
    found = load_weights(saved(tmp_path / "w.safetensors", state))
    assert {tensor.dtype for key, tensor in found.items() if "num_batches" not in key} == {torch.float32}
    assert found["norm.num_batches_tracked"].dtype == torch.int64
    assert torch.equal(found["head.weight"], state["head.weight"].float())


def test_every_tensor_arrives_and_counters_may_be_absent():
    trained = {key: torch.full_like(tensor, 3) for key, tensor in network().state_dict().items()}
    module = network()
    fit_weights(module, {key: t for key, t in trained.items() if "num_batches" not in key}, "w.pth")
    trained["norm.num_batches_tracked"] = torch.tensor(0)
    assert_same(module.state_dict(), trained)


class Opened:
    """What a hostile file would have run."""

    def __reduce__(self):
        return (Path.touch, (Path("opened-by-a-weights-file"),))


def changed(**changes) -> dict:
    state = {key: tensor.clone() for key, tensor in network().state_dict().items()}
    for key, value in changes.items():
        state.pop(key.replace("__", "."), None)
        if value is not None:
            state[key.replace("__", ".")] = value
    return state


MISFITS = {
    "missing": (changed(head__bias=None, head__weight=None), r"2 missing: head\.weight, head\.bias\. Give"),
    "unexpected": (changed(extra=torch.ones(1)), r"1 unexpected: extra\. Give"),
    "renamed": (
        changed(head__bias=None, heads__bias=torch.ones(2)),
        r"1 missing: head\.bias; 1 unexpected: heads\.bias \(nearest: head\.bias\)\. Give the weights",
    ),
    "many": (
        {f"layer{i}.weight": torch.ones(1) for i in range(5)},
        r"8 missing: conv\.weight, conv\.bias, norm\.weight, … 5 more; 5 unexpected: layer0\.weight, "
        r"layer1\.weight, layer2\.weight, … 2 more\. Give",
    ),
    "misshaped": (
        changed(head__weight=torch.ones(5, 4), head__bias=torch.ones(5)),
        r"head\.weight is \(5, 4\) there, \(2, 4\) here, head\.bias is \(5,\) there, \(2,\) here; give"
        r" the network its arguments from training, such as \?classes=N, \?num_classes=N",
    ),
    "integers": (
        changed(head__bias=torch.ones(2, dtype=torch.int8)),
        r"head\.bias is int8 there, float32 here; give weights in floating point",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_weights_of_another_network_are_refused_by_name_and_shape(case):
    state, message = MISFITS[case]
    module = network()
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    with pytest.raises(RequestError, match=rf"w\.pth does not fit Sequential: {message}"):
        fit_weights(module, state, "w.pth")
    assert_same(module.state_dict(), before)


BAD_FILES = {
    "empty": (b"", "is empty; copy or download it again"),
    "html": (
        b"\n<!DOCTYPE html><html>Sign in</html>",
        "is a web page, not weights; download the file itself",
    ),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "is a Git LFS pointer",
    ),
    "text": (b"not weights at all", r"is neither a safetensors file nor one of torch \(\.pth, \.pt\)"),
    "header cut off": (
        struct.pack("<Q", 5000) + b'{"a":',
        "is cut off: its header needs 5,008 bytes, it has 13",
    ),
    "header of nonsense": (struct.pack("<Q", 5) + b"{abc}", "is a damaged or cut-off safetensors file"),
    "zip of nothing": (
        b"PK\x03\x04" + bytes(100),
        "cannot be read as weights only: it is cut off or damaged",
    ),
    "pickle of nothing": (
        b"\x80\x02" + bytes(100),
        "cannot be read as weights only: it is cut off or damaged",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_file_that_holds_no_weights_is_refused_with_what_it_is(tmp_path, case, name):
    content, message = BAD_FILES[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=message) as error:
        load_weights(tmp_path / name)
    assert str(error.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_a_file_cut_off_anywhere_is_refused(tmp_path, name, share):
    path = saved(tmp_path / name, network().state_dict())
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(RequestError, match=r"cut.off"):
        load_weights(path)


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": network().state_dict(), "more": Opened()}, "w.pth")
    with pytest.raises(
        RequestError, match=r"would need code from the file to run; save it anew with torch\.save"
    ):
        load_weights("w.pth")
    assert [file.name for file in tmp_path.iterdir()] == ["w.pth"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "holds a list, not a state dict; save model.state_dict"),
        (torch.ones(1), "holds a Tensor, not a state dict"),
        ({"epoch": 3, "note": "none"}, "holds no state dict, but epoch, note; save model.state_dict"),
        ({}, "holds no state dict"),
        ({"a": {"x": torch.ones(1)}, "b": {"x": torch.ones(1)}}, "holds no state dict, but a, b"),
    ],
)
def test_a_torch_file_without_a_state_dict_is_refused(tmp_path, content, message):
    with pytest.raises(RequestError, match=message):
        load_weights(saved(tmp_path / "w.pth", content))


def test_a_name_that_is_no_file_gives_the_nearest(tmp_path):
    saved(tmp_path / "resnet20.safetensors", network().state_dict())
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        RequestError, match=r"no weights named '.*resnet02.safetensors'; nearest: .*resnet20\.safe"
    ):
        load_weights(tmp_path / "resnet02.safetensors")
    with pytest.raises(
        RequestError, match=r"there is: resnet20\.safetensors\. It is a folder; name a file in it"
    ):
        load_weights(tmp_path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x02}q\x00", struct.pack("<Q", 20) + b"{"]),
    rest=st.binary(max_size=200),
)
def test_random_bytes_are_refused_in_one_line(tmp_path, start, rest):
    path = tmp_path / "w.pth"
    path.write_bytes(start + rest)
    with pytest.raises(RequestError) as error:
        load_weights(path)
    assert len(str(error.value).splitlines()) == 1
