"""Write docs/families.md: what `blocks` finds in one small network of each family of timm.

Run from the root of the repository: python docs/make_families.py
"""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tunnelscope.errors import RequestError
from tunnelscope.models import load_network
from tunnelscope.models.network import seeded
from tunnelscope.models.vision import import_timm
from tunnelscope.recording import Recorder, make_recorder

PAGE = Path(__file__).resolve().parent / "families.md"

# Models by the smallest image side they take, and whether the side is an argument of the constructor.
MODELS = {
    (32, False): """
    resnet10t resnet18 resnet50 resnetv2_18 resnetv2_50d_gn seresnet50 ecaresnet26t skresnet18
    resnest14d res2net50_14w_8s resnext50_32x4d legacy_seresnet18 regnetx_002 regnety_002
    densenet121 vgg11 vgg11_bn efficientnet_b0 efficientnetv2_rw_t mobilenetv2_035
    mobilenetv3_small_050 mobilenetv4_conv_small_035 mobilenetv4_hybrid_medium mnasnet_small
    semnasnet_075 spnasnet_100 fbnetc_100 lcnet_035 lcnetv2_small tinynet_e mixnet_s ghostnet_050
    hardcorenas_a rexnet_100 repghostnet_050 hgnetv2_b0 convnext_atto convnextv2_atto test_convnext
    poolformer_s12 caformer_s18 convformer_s18 pvt_v2_b0 crossvit_tiny_240 fastvit_t8
    edgenext_xx_small cs3darknet_s cspdarknet53 cspresnet50 darknet17 dla34 dla60 hrnet_w18_small
    legacy_xception xception41 dpn48b nf_regnet_b0 nfnet_l0 dm_nfnet_f0 selecsls42 legacy_senet154
    tresnet_m vovnet39a ese_vovnet19b_slim davit_tiny focalnet_tiny_srf inception_next_atto
    tiny_vit_5m_224 convmixer_768_32 efficientvit_b0 starnet_s050 mambaout_femto nextvit_small
    rdnet_tiny sam2_hiera_tiny nasnetalarge pnasnet5large shvit_s1 fasternet_t0 mobilenetv5_base
    iformer_t efficientvim_m1 lowformer_b0 cspnext_tiny
    """,
    (32, True): """
    regnetz_b16 test_vit vit_tiny_patch16_224 deit_tiny_patch16_224 deit_tiny_distilled_patch16_224
    deit3_small_patch16_224 beit_base_patch16_224 eva02_tiny_patch14_224
    vit_relpos_small_patch16_224 vit_tiny_r_s16_p8_224 vit_wee_patch16_reg1_gap_256
    swin_tiny_patch4_window7_224 swin_s3_tiny_224 swinv2_tiny_window8_256 swinv2_cr_tiny_224
    cait_xxs24_224 xcit_nano_12_p16_224 convit_tiny mixer_s32_224 resmlp_12_224 gmlp_ti16_224
    gmixer_12_224 twins_pcpvt_small twins_svt_small coat_lite_tiny coat_tiny levit_128s
    levit_conv_128s mobilevit_xxs mobilevitv2_050 efficientformerv2_s0 maxvit_rmlp_pico_rw_256
    coatnet_pico_rw_224 coatnext_nano_rw_224 nest_tiny repvgg_a0 mobileone_s0 gernet_s botnet26t_256
    lambda_resnet26t volo_d1_224 hiera_tiny_224 sequencer2d_s visformer_tiny pit_ti_224
    pit_ti_distilled_224 tnt_s_patch16_224 gcvit_xxtiny mvitv2_tiny efficientvit_m0 repvit_m0_9
    vitamin_small_224 samvit_base_patch16_224 swiftformer_xs naflexvit_base_patch16_gap
    """,
    (64, False): """
    ghostnetv2_100 csatv2
    """,
    (96, False): """
    inception_v3 inception_v4 inception_resnet_v2
    """,
    (224, True): """
    efficientformer_l1
    """,
    (256, True): """
    halonet26t
    """,
}

# What a person should know about layers that are not quite what the family's authors draw.
LIMITS = {
    "densenet121": "a dense layer gives its new channels only; own maps join all of a dense block",
    "rdnet_tiny": "dense stages are the layers, their dense layers are not",
    "hrnet_w18_small": "of the resolutions the finest is read; the head's branches are no chain (warned)",
    "crossvit_tiny_240": "of the two branches the one of small patches is read; two embeddings (warned)",
    "coat_tiny": "the parallel blocks at the end are read at their second scale",
    "nest_tiny": "tokens come block by block: 2×2 pooling averages over blocks and tokens",
    "dla34": "the roots that join a tree's blocks are layers, too",
    "dla60": "the roots that join a tree's blocks are layers, too",
    "tnt_s_patch16_224": "of pixels and patches the patches are read",
    "cspnext_tiny": "the layers of a stage's second branch are left out where they are beside the blocks",
    "csatv2": "own maps come after a stage's last norm",
    "pvt_v2_b0": "own maps come after a stage's norm",
    "gcvit_xxtiny": "the last own map comes after its stage's norm",
    "nasnetalarge": "every cell also sees the one before the last; own maps come after an activation",
    "pnasnet5large": "every cell also sees the one before the last; own maps come after an activation",
    "legacy_xception": "own maps lie inside the blocks, after an activation",
    "ghostnet_050": "the first own map comes before its norm",
    "ghostnetv2_100": "the first own map comes before its norm",
    "repghostnet_050": "the first own map comes before its norm",
    "dm_nfnet_f0": "the first and last own maps come before an activation",
    "nfnet_l0": "the first and last own maps come before an activation",
    "nf_regnet_b0": "the last own map comes before an activation",
    "vgg11": "the last own map comes after a pooling",
    "vgg11_bn": "the last own map comes after a pooling",
    "xception41": "own maps lie inside the blocks",
}
# Networks with a module of branches before the first block, which is their stem.
WHOLE_STEMS = ("csatv2", "fastvit_t8", "mobileone_s0", "naflexvit_base_patch16_gap", "repvgg_a0")
# How many of timm's own maps are at other places, for the reason in LIMITS.
OWN_ELSEWHERE = {
    **dict.fromkeys(("coat_tiny", "nfnet_l0", "dm_nfnet_f0"), 2),
    **dict.fromkeys(("crossvit_tiny_240", "csatv2"), 3),
    **dict.fromkeys(("densenet121", "nasnetalarge", "pnasnet5large"), 4),
    **dict.fromkeys(("pvt_v2_b0", "legacy_xception", "xception41"), 4),
    **dict.fromkeys(("gcvit_xxtiny", "nf_regnet_b0", "vgg11", "vgg11_bn"), 1),
    **dict.fromkeys(("ghostnet_050", "ghostnetv2_100", "repghostnet_050"), 1),
}
WARNED = ("crossvit_tiny_240", "hrnet_w18_small")


@dataclass(frozen=True)
class Row:
    """What was found in one network."""

    family: str
    model: str
    size: int
    names: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()
    features: tuple[Tensor, ...] = ()
    own: tuple[bool, ...] = ()  # for each of timm's own intermediates: whether it is a layer
    warnings: tuple[str, ...] = ()
    refused: str = ""
    seconds: float = 0.0


def listed() -> list[tuple[str, int, bool]]:
    """All models as (name, side, whether the side is given to the constructor)."""
    return [(name, side, given) for (side, given), names in MODELS.items() for name in names.split()]


def look(name: str, side: int, given: bool) -> Row:
    """Record two random images at the blocks of a network with random weights.

    Each layer is averaged over its positions, and compared with timm's own intermediate maps.
    """
    with seeded(0):
        module = import_timm().create_model(name, num_classes=10, **({"img_size": side} if given else {}))
    module.eval()
    family = type(module).__module__.rpartition(".")[2]
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()
    try:
        recorder = make_recorder(load_network(module), pool="avg", device="cpu", shape=(3, side, side))
        features = _features(recorder, images)
    except RequestError as error:
        return Row(family, name, side, refused=str(error))
    seconds = time.perf_counter() - start
    points = recorder.points
    return Row(
        family,
        name,
        side,
        tuple(point.name for point in points),
        tuple(point.kind for point in points),
        tuple(recorder.poolings[point.name].width for point in points),
        tuple(features.values()),
        tuple(_is_among(own, list(features.values())) for own in _intermediates(module, images)),
        recorder.warnings,
        seconds=seconds,
    )


def _features(recorder: Recorder, images: Tensor) -> dict[str, Tensor]:
    pooled = recorder._forward(images, whole=False)
    return {point.name: pooled[point.name] for point in recorder.points}


def _intermediates(module: nn.Module, images: Tensor) -> list[Tensor]:
    """timm's own maps, (n, C, H, W), averaged to (n, C); none where the network does not offer them."""
    if not hasattr(module, "forward_intermediates"):
        return []
    try:
        with torch.inference_mode():
            maps = module.forward_intermediates(images, intermediates_only=True)  # type: ignore[operator]
    except (AssertionError, TypeError, ValueError, RuntimeError):  # not at this size, or not as maps
        return []
    return [own.mean(dim=(2, 3)) for own in maps if isinstance(own, Tensor) and own.dim() == 4]


def _is_among(own: Tensor, features: list[Tensor]) -> bool:
    return any(
        layer.shape == own.shape and torch.allclose(layer, own, atol=1e-4 * float(own.abs().max()), rtol=1e-3)
        for layer in features
    )


def grouped(kinds: tuple[str, ...]) -> str:
    """The kinds in order, runs counted: `activation, 16 block`."""
    runs: list[list] = []
    for kind in kinds:
        if runs and runs[-1][1] == kind:
            runs[-1][0] += 1
        else:
            runs.append([1, kind])
    return ", ".join(kind if count == 1 else f"{count} {kind}" for count, kind in runs)


def page(rows: list[Row]) -> str:
    """The whole page."""
    read = [row for row in rows if not row.refused]
    families = {row.family for row in rows}
    lines = [
        "# Networks of every family",
        "",
        f"What `--layers blocks` finds in {len(rows)} networks of {len(families)} families of timm, with",
        f"random weights, at the smallest image each takes: {len(read)} read, "
        f"{len(rows) - len(read)} refused.",
        "Written by `python docs/make_families.py`.",
        "",
        "*own* counts the network's own intermediate maps (`forward_intermediates`) that are among the",
        "layers; *s* is seconds to find the layers and read two images on one thread.",
        "",
        "| family | model | side | layers | kinds | first | last | width | own | s | remark |",
        "|---|---|--:|--:|---|---|---|--:|---|--:|---|",
    ]
    for row in sorted(rows, key=lambda row: (row.family, row.model)):
        remark = LIMITS.get(row.model, "")
        if row.refused:
            cells = [row.family, row.model, row.size, 0, "", "", "", "", "", "", f"refused: {row.refused}"]
        else:
            own = f"{sum(row.own)}/{len(row.own)}" if row.own else ""
            cells = [row.family, row.model, row.size, len(row.names), grouped(row.kinds)]
            cells += [f"`{row.names[0]}`", f"`{row.names[-1]}`", row.widths[-1], own, f"{row.seconds:.1f}"]
            cells += [remark]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for name, side, given in listed():
        rows.append(look(name, side, given))
        row = rows[-1]
        print(name, len(row.names), row.refused, *row.warnings, flush=True)
    PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
