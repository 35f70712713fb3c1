"""The plan says what a scan takes before it takes it, and keeps it within what may be taken."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import tunnelscope as ts
from tunnelscope import scanning
from tunnelscope.errors import MachineError, RequestError
from tunnelscope.memory import available, give_back, peak, read_size, resident, size
from tunnelscope.metrics.costs import cka_bytes, metrics_bytes
from tunnelscope.planning import Plan, fit_to, probing_bytes

MB = 2**20
SMALL, DIGITS = "zoo:mlp?depth=3&width=16", "sklearn:digits"


def planned(train=1000, test=500, widths=(64, 128), recording=80 * MB, batch_size=64, **others):
    named = {f"layer{number}": width for number, width in enumerate(widths)}
    return Plan(
        sets={"one": (train, test, 10)},
        widths=named,
        base=400 * MB,
        recording=recording,
        probing=max(probing_bytes(train, test, width, 10) for width in widths),
        comparing=cka_bytes(test, list(widths)),
        disk=4 * (train + test) * sum(widths),
        seconds=1.0,
        batch_size=batch_size,
        cka_rows=test,
        **others,
    )


@settings(max_examples=200, deadline=None)
@given(
    train=st.integers(20, 100_000),
    test=st.integers(20, 50_000),
    widths=st.lists(st.integers(1, 4096), min_size=1, max_size=40),
    recording=st.integers(0, 4000).map(lambda count: count * MB),
    budget=st.integers(100, 20_000).map(lambda count: count * MB),
    in_memory=st.booleans(),
)
def test_a_plan_keeps_its_budget_or_names_the_least_that_would_do(
    train, test, widths, recording, budget, in_memory
):
    plan = planned(train, test, tuple(widths), recording, in_memory=in_memory)
    if plan.least > budget:
        with pytest.raises(MachineError) as raised:
            fit_to(plan, budget)
        assert size(plan.least) in str(raised.value)
        return
    fitted = fit_to(plan, budget)
    assert fitted.memory <= budget or fitted.cka_rows == 4 or fitted.batch_size == 1
    assert fitted.cka_rows <= plan.cka_rows
    if plan.memory <= budget:
        assert fitted == plan


def test_what_fits_is_left_as_it_is_and_what_does_not_gets_smaller():
    plan = planned(recording=2000 * MB)
    assert fit_to(plan, 4000 * MB) == plan
    smaller = fit_to(plan, 1000 * MB)
    assert smaller.batch_size < plan.batch_size
    assert smaller.memory <= 1000 * MB
    wide = fit_to(planned(test=50_000, widths=(2048,) * 30, train=2000), 2500 * MB)
    assert wide.cka_rows < 50_000
    assert wide.memory <= 2500 * MB


@pytest.mark.parametrize(
    ("text", "count"),
    [("4GB", 2**32), ("500MB", 500 * MB), ("1.5 gb", 3 * 2**29), ("2GiB", 2**31), ("77", 77)],
)
def test_sizes_are_read_as_they_are_written(text, count):
    assert read_size(text) == count


@pytest.mark.parametrize("text", ["much", "4 gigs", "-1GB", "", "GB"])
def test_no_size_is_refused(text):
    with pytest.raises(RequestError, match="is no size; write it as 4GB or 500MB"):
        read_size(text)


def test_the_process_knows_its_memory():
    assert 50 * MB < resident() <= peak() + MB
    assert available() is None or available() > 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back when asked")
def test_freed_memory_goes_back_to_the_system():
    held = [torch.ones(16_000) for _ in range(3000)]  # 64 KB each, from the heap
    kept, held = held[::100], None
    before = resident()
    give_back()
    assert resident() < before - 100 * MB
    assert len(kept) == 30


def test_the_plan_knows_the_classes():
    few, many = (probing_bytes(4000, 1000, 1024, classes) for classes in (10, 1000))
    assert many > few + 300 * MB  # the solver's steps, the shares of rows, the metrics' class means


METRICS_PEAK = """
import torch
from tunnelscope.memory import forget_peak, peak, resident
from tunnelscope.metrics import layer_metrics
def metrics(test, train, width, classes):
    labels = torch.arange(train) % classes
    layer_metrics(torch.randn(test, width), torch.randn(train, width), labels,
                  torch.randn(classes, width).double(), torch.randn(classes).double())
metrics(60, 60, 16, 3)  # the libraries' first use
before = resident(); forget_peak(); metrics({test}, {train}, {width}, {classes}); print(peak() - before)
"""


@pytest.mark.parametrize(
    ("test", "train", "width", "classes"), [(6000, 300, 1024, 10), (200, 2000, 512, 1000)]
)
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is counted by Linux")
def test_metrics_keep_within_what_is_planned_for_them(test, train, width, classes):
    code = METRICS_PEAK.format(test=test, train=train, width=width, classes=classes)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    inputs = 4 * (test + train) * width + 8 * classes * width
    assert int(ended.stdout) <= 1.2 * (metrics_bytes(test, width, classes) + inputs)


def test_the_untrained_network_is_in_the_plan(tmp_path):
    weights = tmp_path / "other.safetensors"
    save_file(ts.load_network(SMALL, image_shape=(1, 8, 8), classes=10, seed=7).module.state_dict(), weights)
    options = {"id": DIGITS, "probe": "ridge", "weights": str(weights)}
    alone, both = (ts.plan(SMALL, control=control, **options) for control in (False, True))
    assert both.disk == 2 * alone.disk
    assert both.set_bytes == alone.set_bytes  # its features come when the first one's are freed
    assert (alone.as_dict()["control"], both.as_dict()["control"]) == (False, True)
    assert "× 2 networks" in both.describe()


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(tunnelscope, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNNELSCOPE_CACHE", str(tmp_path / "cache"))
    ended = tunnelscope("scan", SMALL, "--id", DIGITS, "--dry-run", "--json")
    assert ended.code == 0
    told = ended.json
    assert told["rows"] == 1797
    assert [layer["bytes"] for layer in told["layers"]] == [4 * 1797 * 16] * 3
    assert told["disk"] == 3 * 4 * 1797 * 16
    assert told["memory"] >= told["least_memory"] > 0
    assert list(tmp_path.iterdir()) == []
    table = tunnelscope("scan", SMALL, "--id", DIGITS, "--dry-run").out
    assert "hidden.0.relu" in table
    assert "on the disk" in table


def test_too_little_memory_names_the_least_that_would_do(tunnelscope, tmp_path):
    ended = tunnelscope("scan", SMALL, "--id", DIGITS, "--memory", "1MB", "--out", tmp_path / "run")
    assert (ended.code, ended.out) == (3, "")
    line = ended.err.strip().splitlines()[-1]
    assert "of memory at least, 1.0 MB is there (--memory)" in line


def test_a_small_budget_gives_the_same_answer():
    plain = ts.scan(SMALL, id=DIGITS, probe="ridge")
    plan = ts.plan(SMALL, id=DIGITS, probe="ridge")
    small = ts.scan(SMALL, id=DIGITS, probe="ridge", cache=False, memory=plan.memory + 50 * MB)
    assert small.tunnel == plain.tunnel
    assert small.run["plan"]["memory"] <= plan.memory + 50 * MB


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        ("zoo:mlp?depth=6", "--id", "sklearn:digits"),
        ("zoo:cifar_resnet20", "--weights", "random", "--id", "{data}/cifar10", "--max-samples", "1500"),
        ("timm:vit_tiny_patch16_224?img_size=96", "--weights", "random", "--ood", "{data}/clothing"),
    ],
)
def test_the_observed_peak_is_within_a_fifth_of_the_plan(model, real_data, tmp_path):
    words = [word.format(data=real_data) for word in model]
    command = [sys.executable, "-c", "from tunnelscope.cli import main; main()", "scan", *words]
    command += ["--out", str(tmp_path / "run"), "--json", "--no-cache"]
    ended = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=True)
    run = json.loads(ended.stdout)
    planned_mb = run["plan"]["memory"] / MB
    observed_mb = run["timings"]["peak_memory_mb"]
    assert planned_mb / 1.2 <= observed_mb <= 1.2 * planned_mb


@pytest.mark.parametrize("out", [True, False])
def test_features_too_large_for_memory_lie_beside_the_results(out, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNNELSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: pytest.fail("that may be memory"))
    monkeypatch.setattr(scanning, "fit_to", lambda plan, budget: replace(plan, in_memory=False))
    place = tmp_path / ("run" if out else "cache")
    seen, said = [], []

    def progress(stage, done, total):
        seen.extend(place.glob(".features-*.partial/features/*/*.npy"))

    folder = place if out else None
    settings = {"probe": "ridge", "max_samples": 120, "out": folder, "cache": False}
    scan = ts.scan(SMALL, id=DIGITS, **settings, progress=progress, announce=said.append)
    assert seen
    assert not list(place.glob(".features*"))
    lines = [line for line in said if "memory is too small" in line]
    assert len(lines) == 1
    assert f"they go to {place} (" in lines[0]
    plain = ts.scan(SMALL, id=DIGITS, probe="ridge", max_samples=120)
    assert scan.tunnel == plain.tunnel
