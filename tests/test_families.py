"""Small networks of every family of timm are read with `blocks`: in order, finite, at their own stages."""

import importlib.util
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
SPEC = importlib.util.spec_from_file_location("make_families", ROOT / "docs" / "make_families.py")
make_families = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(make_families)

SAMPLE = (
    *("resnet10t", "vgg11_bn", "efficientnet_b0", "convnext_atto"),
    *("test_vit", "swin_tiny_patch4_window7_224", "ghostnet_050", "inception_v3"),
)
SIZES = {name: (side, given) for name, side, given in make_families.listed()}


@pytest.mark.parametrize(
    "name", [name if name in SAMPLE else pytest.param(name, marks=pytest.mark.slow) for name in sorted(SIZES)]
)
def test_a_family_is_read_at_its_blocks(name):
    row = make_families.look(name, *SIZES[name])
    assert not row.refused
    assert 5 <= len(row.names) <= 70
    assert "block" in row.kinds or row.family == "vgg"
    assert row.kinds[0] != "block" or name in make_families.WHOLE_STEMS
    for width, features in zip(row.widths, row.features, strict=True):
        assert features.shape == (2, width)
        assert torch.isfinite(features).all()
    assert sum(row.own) == len(row.own) - make_families.OWN_ELSEWHERE.get(name, 0)
    assert bool(row.warnings) == (name in make_families.WARNED)


def test_the_page_lists_every_model():
    text = (ROOT / "docs" / "families.md").read_text(encoding="utf-8")
    assert len(SIZES) >= 40
    for name, (side, _) in SIZES.items():
        assert f"| {name} | {side} |" in text
