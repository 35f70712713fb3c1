"""Items of the 2024 paper that need trained networks: by resolution, augmentation, classes and φ."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from tunnelscope.models import load_network
from tunnelscope.reproduce.found import Figure, Found, line_rows, point_row, points_figure
from tunnelscope.reproduce.harun2024.networks import (
    AS_PAPER,
    NEGLIGIBLE,
    WEAK,
    Curves,
    Levels,
    Networks,
    Reading,
    differing,
)
from tunnelscope.reproduce.ledger import UNKNOWN
from tunnelscope.reproduce.verdicts import Estimate, Test, above, at_least, below

Statistic = Callable[[Curves], float]
PLAIN, AUGMENTED = {"augmentation": "none"}, {"augmentation": "resized-crop-flip"}
FIRST = {"resolution": 32, "id": "cifar100"}  # what most questions are asked of
WHOLE = {"classes": None, "per_class": None}
VGGM11, VGGM17 = {"model": "vggm11"}, {"model": "vggm17"}
DAGGER, RESNET34, VIT = {"model": "vggm11_dagger"}, {"model": "resnet34"}, {"model": "vit_t_plus"}
LOW, HIGH = {"resolution": 32}, {"resolution": 64}
TITLES = {
    "vggm11": "VGGm-11",
    "vggm17": "VGGm-17",
    "vggm11_dagger": "VGGm†-11",
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "vit_t": "ViT-T",
    "vit_t_plus": "ViT-T+",
}
SETS = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "caltech101": "photos",
    "cifar100-coarse": "CIFAR-100, 20 coarse labels",
}
KEPT = 95  # percent of the best ID accuracy that the last layer of a network with a tunnel has
BEFORE_LAST = 7  # layer of VGGm-11 after which Figure 4 shows its representation to be compressed
PARAMETERS = {  # printed, in millions; by network at 100 classes
    "vggm11": "9.46",
    "vggm17": "20.08",
    "resnet18": "11.22",
    "resnet34": "21.33",
    "vit_t": "5.61",
    "vit_t_plus": "8.39",
}
HALTING = 18_625  # parameters a block that the released ViTs hold and never call
AS_BUILT, WITH_DEAD = "as the network is", "with the halting layers of the released code, which nothing calls"
OTHERS = "the published ones are of other networks: wider, on ten times the images"
T_SNE = "not redone: the picture's settings are not known to us, and no number follows from it"


def r(curves: Curves) -> float:
    """Mean r over OOD sets, in percent."""
    return curves.r


def id_kept(curves: Curves) -> float:
    """The last layer's ID accuracy over the best layer's, in percent."""
    return curves.id_kept


def peak(curves: Curves) -> float:
    """Number of the last layer before the tunnel."""
    return curves.peak


def of_learnt(curves: Sequence[Curves], statistic: Callable[[Curves], float]) -> list[float | None]:
    """A statistic of each network; None of one that has not learnt its task."""
    return [statistic(one) if one.has_learnt else None for one in curves]


def prepared(networks: Networks, named: Mapping[str, Levels]) -> Found:
    """Train and scan all networks that an item needs in one go."""
    networks.made([cell for levels in named.values() for cell in networks.chosen(**levels)])
    return Found(networks.seeds)


def retained(found: Found, networks: Networks, named: Mapping[str, Levels]) -> None:
    """Put down r of networks, by reading, and what they keep of their ID accuracy."""
    for reading in networks.readings:
        for name, levels in named.items():
            curves, models = networks.curves(reading, **levels), {levels["model"]}
            spread = networks.spread(reading, r, models)
            found.cell(f"{name}: r, %", of_learnt(curves, r), reading.words, "mean over OOD sets", spread)
            if not reading.kept:  # of ID accuracy there is one curve of exact probes
                spread, told = networks.spread(reading, id_kept, models), reading.words.partition(";")[0]
                words = f"{name}: ID accuracy kept, %"
                found.cell(words, of_learnt(curves, id_kept), told, "last layer over the best", spread)


def judged(
    found: Found,
    networks: Networks,
    words: str,
    levels: Levels,
    statistic: Statistic,
    test: Test,
    reading: Reading,
    published: str = UNKNOWN,
    told: str = "",
    less: Levels | None = None,
) -> None:
    """Judge a statistic of networks under a reading.

    Args:
        told: the reading in other words.
        less: levels of other networks, whose statistic is taken off seed by seed.
    """
    if less is None:
        values = of_learnt(networks.curves(reading, **levels), statistic)
        models, terms = {levels["model"]}, 1
    else:
        values = differing(networks, reading, less, levels, statistic)
        models, terms = {levels["model"], less["model"]}, 2
    spread = networks.spread(reading, statistic, models, is_paired=less is not None)
    found.claim(words, values, test, told or reading.words, published, spread=spread, terms=terms)


def compared(
    found: Found,
    networks: Networks,
    words: str,
    one: Levels,
    other: Levels,
    shared: Levels,
    published: str,
) -> None:
    """Judge whether r is larger at a level than at another, by reading."""
    for reading in networks.readings:
        less, levels = {**shared, **one}, {**shared, **other}
        judged(found, networks, words, levels, r, above(0), reading, published, less=less)


def by_resolution(
    figure: str, model: Levels, augmentation: Levels, published: str
) -> Callable[[Networks], Found]:
    """Figures 21 to 24: a network at the lowest and the highest resolution at hand."""

    def item(networks: Networks) -> Found:
        shared = {**model, **augmentation, "id": "cifar100", **WHOLE}
        name = TITLES[model["model"]]
        named = {f"{name} at {one['resolution']}²": {**shared, **one} for one in (LOW, HIGH)}
        found = prepared(networks, named)
        words = f"H5 {name}: r at 64² less at 32², points"
        compared(found, networks, words, LOW, HIGH, shared, published)
        retained(found, networks, named)
        found.figures[figure] = curves_figure(networks, named)
        return found

    return item


fig21 = by_resolution("fig21", VGGM17, PLAIN, "46.15, 66.92, 68.98, 63.83 at 32² to 224²")
fig22 = by_resolution("fig22", VGGM17, AUGMENTED, "66.00, 73.72, 81.05, 89.06 at 32² to 224²")
fig23 = by_resolution("fig23", VIT, PLAIN, "91.98, 54.22, 56.29, 55.30 at 32² to 224²: they fall")
fig24 = by_resolution("fig24", VIT, AUGMENTED, "94.56, 92.55, 94.06, 93.05 at 32² to 224²: they fall")


def fig1(networks: Networks) -> Found:
    """VGGm-17 without augmentation at two resolutions, and where each rule finds its tunnel."""
    shared = {**VGGM17, **PLAIN, "id": "cifar100", **WHOLE}
    named = {f"VGGm-17 at {one['resolution']}²": {**shared, **one} for one in (LOW, HIGH)}
    found = prepared(networks, named)
    words = "H5 VGGm-17: r at 64² less at 32², points"
    compared(found, networks, words, LOW, HIGH, shared, "46.15 at 32², 63.83 at 224²")
    words = "H19 VGGm-17 at 32²: layer by the rule of 95 % of ID accuracy less that of the OOD maximum"
    for reading in networks.readings:
        if reading.kept:
            continue  # no r in it
        curves = networks.curves(reading, **shared, **LOW)
        # where ID accuracy falls as well, the first layer within 95 % of the last one's tells of no tunnel
        values = [one.start - one.peak if one.has_learnt and one.id_kept >= KEPT else None for one in curves]
        found.claim(words, values, above(0), reading.words, "14 and 9")
    retained(found, networks, named)
    found.figures["fig1"] = curves_figure(networks, named)
    return found


def fig3(networks: Networks) -> Found:
    """ResNet-34 at 32² and ViT-T+ at 64² with and without augmentation: where the tunnel starts."""
    both = ({**RESNET34, **LOW, "id": "cifar100"}, {**VIT, **HIGH, "id": "cifar100"})
    named = {
        f"{TITLES[one['model']]} at {one['resolution']}², {told}": {**one, **levels}
        for one in both
        for told, levels in (("without", PLAIN), ("with", AUGMENTED))
    }
    found = prepared(networks, named)
    published = (("14 and 22", "38.52 and 68.55"), ("11 and 15, at 224²", "55.30 and 93.05, at 224²"))
    for one, (layers, percent) in zip(both, published, strict=True):
        name = f"{TITLES[one['model']]} at {one['resolution']}²"
        words = f"H4 {name}: last layer before the tunnel with augmentation less without"
        for reading in networks.readings:
            if not reading.kept:
                less, levels = {**one, **PLAIN}, {**one, **AUGMENTED}
                judged(found, networks, words, levels, peak, above(0), reading, layers, less=less)
        words = f"H4 {name}: r with augmentation less without, points"
        compared(found, networks, words, PLAIN, AUGMENTED, one, percent)
    retained(found, networks, named)
    found.figures["fig3"] = curves_figure(networks, named)
    return found


def fig4(networks: Networks) -> Found:
    """VGGm-11 on photos at two resolutions: whether its last layers compress classes."""
    shared = {**VGGM11, **PLAIN, "id": "caltech101"}
    named = {f"photos at {one['resolution']}²": {**shared, **one} for one in (LOW, HIGH)}
    found = prepared(networks, named)
    reading = networks.readings[0]
    words = f"H21 variance within over between classes, last layer over layer {BEFORE_LAST}"
    told = "the ratio of traces on training rows, our measure; photos at 32² and 64²"
    low, high = {**shared, **LOW}, {**shared, **HIGH}
    judged(found, networks, f"{words}, at 32²", low, compression, below(1), reading, told=told)
    words = f"{words}, at 64² less at 32²"
    judged(found, networks, words, high, compression, above(0), reading, told=told, less=low)
    words = "H5 VGGm-11 on photos: r at 64² less at 32², points"
    compared(found, networks, words, LOW, HIGH, shared, "78.63 at 32², 85.70 at 224²")
    found.not_comparable("t-SNE of the layers", T_SNE)
    retained(found, networks, named)
    rows = []
    for panel, levels in named.items():
        curves = networks.curves(reading, **levels)
        ratio = [one.within / one.between for one in curves]
        rows += line_rows(panel, "within over between classes", curves[0].numbers, ratio)
    found.figures["fig4"] = Figure(pd.DataFrame(rows), "layer", "variance", log=True)
    return found


def compression(curves: Curves) -> float:
    """Variance within over between classes at the last layer, over the same before the last three."""
    ratio = curves.within / curves.between
    return float(ratio[-1] / ratio[BEFORE_LAST - 1])


def fig5(networks: Networks) -> Found:
    """VGGm-11 beside VGGm†-11, which lacks the first two pools."""
    settings = (
        (PLAIN, "without", "67.35", "93.10"),
        (AUGMENTED, "with", "79.49", "92.70"),
    )  # r on CIFAR-100
    named = {
        f"{TITLES[model['model']]}, {told} augmentation": {**model, **levels, **FIRST, **WHOLE}
        for levels, told, *_ in settings
        for model in (VGGM11, DAGGER)
    }
    found = prepared(networks, named)
    for levels, told, plain, published in settings:
        shared = {**levels, **FIRST, **WHOLE}
        words = f"H6 r of VGGm†-11 (φ = 1) less r of VGGm-11 (φ = 0.5), {told} augmentation, points"
        compared(found, networks, words, VGGM11, DAGGER, shared, f"{plain} to {published}")
        for reading in networks.readings:
            words = f"H6 r of VGGm†-11 {told} augmentation, %: its tunnel is weak at most"
            judged(found, networks, words, {**shared, **DAGGER}, r, at_least(WEAK), reading, published)
    retained(found, networks, named)
    found.figures["fig5"] = curves_figure(networks, named)
    return found


def of_classes(count: int, images: int) -> Levels:
    """VGGm-11 on the first classes of CIFAR-100 with so many images of each."""
    return {**VGGM11, **PLAIN, **FIRST, "classes": count, "per_class": images}


def of_images(images: int | None) -> Levels:
    """VGGm-11 on all classes of CIFAR-100 with so many images of each; None: all that are at hand."""
    return {**VGGM11, **PLAIN, **FIRST, "classes": None, "per_class": images}


CLASSES = {count: of_classes(count, 1000 // count) for count in (10, 20, 50)} | {100: of_images(10)}
IMAGES = {images: of_images(images) for images in (10, 25, 50)}
COARSE, FINE = {**VGGM11, **PLAIN, **LOW, "id": "cifar100-coarse"}, of_images(None)


# 100 classes with 10 images of each stand on both sides: where more images raise r the lead is three times
# their r, less that of 10 classes, less twice that of 50 images; where they lower it, it varies less.
LEAD_TERMS = 3**2 + 1 + 2**2


def classes_lead(classes: float | None, images: float | None) -> float | None:
    """By how much more classes move r than twice what images do; None where one of the two is not known."""
    return None if classes is None or images is None else classes - 2 * abs(images)


BY_CLASSES = {f"{count} classes, 1,000 images": levels for count, levels in CLASSES.items()}
BY_IMAGES = {f"100 classes, {images} images of each": levels for images, levels in IMAGES.items()}


def fig6(networks: Networks) -> Found:
    """VGGm-11 by the number of classes and of images of each."""
    labels = {"20 coarse labels, 5,000 images": COARSE, "100 fine labels, 5,000 images": FINE}
    named = BY_CLASSES | labels | BY_IMAGES
    found = prepared(networks, named)
    published = "24.07, 64.73, 74.01 on 10, 50 and 100 classes, 10,000 images"
    words = "H10 r on 100 less r on 10 classes, 1,000 images, points"
    compared(found, networks, words, CLASSES[10], CLASSES[100], {}, published)
    words = "H10 r on 100 fine less r on 20 coarse labels of 5,000 images, points"
    compared(found, networks, words, COARSE, FINE, {}, "not asked")
    words = "H10 change of r from 10 to 100 classes, less twice that from 10 to 50 images a class, points"
    published = "74.01, 69.72, 72.70, 70.65 with 100, 200, 500 and 700 images a class"
    for reading in networks.readings:
        classes = differing(networks, reading, CLASSES[10], CLASSES[100], r)
        images = differing(networks, reading, IMAGES[10], IMAGES[50], r)
        lead = list(map(classes_lead, classes, images))
        spread = networks.spread(reading, r, {"vggm11"}, is_paired=True)
        found.claim(words, lead, above(0), reading.words, published, spread=spread, terms=LEAD_TERMS)
    retained(found, networks, named)
    found.figures["fig6"] = curves_figure(networks, named)
    return found


def fig14(networks: Networks) -> Found:
    """VGGm-11 with augmentation by the set it was trained on."""
    named = {
        f"trained on {SETS[name]}": {**VGGM11, **AUGMENTED, **LOW, **WHOLE, "id": name}
        for name in ("cifar10", "cifar100")
    }
    found = prepared(networks, named)
    by_set(found, networks, VGGM11, AUGMENTED, "38.53 on CIFAR-10, 79.49 on CIFAR-100")
    retained(found, networks, named)
    found.figures["fig14"] = curves_figure(networks, named)
    return found


def by_set(found: Found, networks: Networks, model: Levels, augmentation: Levels, published: str) -> None:
    """H10 by ID set, on the OOD sets that both networks are read on."""
    shared = {**model, **augmentation, **LOW, **WHOLE}
    both = [name for name in networks.declared.scan.ood if name not in ("cifar10", "cifar100")]
    words = f"H10 {TITLES[model['model']]}: r trained on CIFAR-100 less on CIFAR-10, points"
    retained_on_both = lambda one: one.r_on([name for name in both if name in one.ood])  # noqa: E731
    ten, hundred = {**shared, "id": "cifar10"}, {**shared, "id": "cifar100"}
    for reading in networks.readings:
        told = f"{reading.words}; OOD sets that both are read on"
        judged(
            found, networks, words, hundred, retained_on_both, above(0), reading, published, told, less=ten
        )


def fig15(networks: Networks) -> Found:
    """OOD accuracy at the last layer by classes and by images."""
    found = prepared(networks, BY_CLASSES | BY_IMAGES)
    rows = []
    for reading in networks.readings:
        if reading.kept:
            continue  # accuracies are the same in both readings of exact probes
        told = reading.words.partition(";")[0]
        for named in (BY_CLASSES, BY_IMAGES):
            (first, low), *_, (last, high) = named.items()
            words = f"H15 mean OOD accuracy, {last}, less {first}, points"
            judged(found, networks, words, high, last_accuracy, above(0), reading, told=told, less=low)
            for name, levels in named.items():
                curves = networks.curves(reading, **levels)
                values = of_learnt(curves, last_accuracy)
                spread = networks.spread(reading, last_accuracy, {levels["model"]})
                words = f"{name}: OOD accuracy at the last layer, %"
                found.cell(words, values, told, spread=spread)
                every = [last_accuracy(one) for one in curves]
                rows.append(point_row(told, name, Estimate(float(np.mean(every)), min(every), max(every))))
    found.figures["fig15"] = points_figure(rows, "mean OOD accuracy, %")
    return found


def last_accuracy(curves: Curves) -> float:
    """Mean accuracy over OOD sets at the last layer, in percent."""
    return 100 * float(np.mean([one[-1] for one in curves.ood.values()]))


PRINTED_R = {  # mean r without augmentation at 32²
    ("vggm11", "cifar10"): "33.1",
    ("vggm11", "cifar100"): "67.4",
    ("vggm17", "cifar10"): "25.5",
    ("vggm17", "cifar100"): "45.4",
}


def fig16(networks: Networks) -> Found:
    """VGGm-11 and VGGm-17 without augmentation by ID set: all have tunnels."""
    named = {
        f"{TITLES[model]} trained on {SETS[name]}": {"model": model, **PLAIN, **LOW, **WHOLE, "id": name}
        for model, name in PRINTED_R
    }
    found = prepared(networks, named)
    for (title, levels), published in zip(named.items(), PRINTED_R.values(), strict=True):
        for reading in networks.readings:
            words = f"H18 {title}: r, %"
            judged(found, networks, words, levels, r, below(NEGLIGIBLE), reading, published)
    for model, published in ((VGGM11, "33.1, 67.4"), (VGGM17, "25.5, 45.4")):
        by_set(found, networks, model, PLAIN, published)
    found.figures["fig16"] = curves_figure(networks, named)
    return found


def fig25(networks: Networks) -> Found:
    """VGGm-17 at two resolutions: accuracies and numerical rank."""
    shared = {**VGGM17, **PLAIN, "id": "cifar100", **WHOLE}
    found = prepared(networks, {"at 32²": {**shared, **LOW}, "at 64²": {**shared, **HIGH}})
    reading = networks.readings[1]
    told = f"{reading.words.partition(';')[0]}; rank at 1e-3 on ID test rows"
    words = "H20 VGGm-17: last layer's rank over the largest of any layer, at 32²"
    low, high = {**shared, **LOW}, {**shared, **HIGH}
    judged(found, networks, words, low, rank_left, below(0.5), reading, told=told)
    words = "H20 VGGm-17: last layer's rank over the largest of any layer, at 64² less at 32²"
    judged(found, networks, words, high, rank_left, above(0), reading, told=told, less=low)
    rows = []
    for size in (LOW, HIGH):
        curves = networks.curves(reading, **shared, **size)
        panel, numbers = f"VGGm-17 at {size['resolution']}²", curves[0].numbers
        rows += line_rows(panel, "ID accuracy", numbers, [100 * one.id for one in curves])
        ood = [100 * np.mean(list(one.ood.values()), axis=0) for one in curves]
        rows += line_rows(panel, "mean OOD accuracy", numbers, ood)
        ranks = [100 * one.ranks / one.ranks.max() for one in curves]
        rows += line_rows(panel, "rank (1e-3), % of its largest", numbers, ranks)
    found.figures["fig25"] = Figure(pd.DataFrame(rows), "layer", "%")
    return found


def rank_left(curves: Curves) -> float:
    """The last layer's numerical rank over the largest of any layer."""
    return float(curves.ranks[-1] / curves.ranks.max())


def table11(networks: Networks) -> Found:
    """Parameters of the paper's networks, and ID accuracy of ours."""
    found = prepared(networks, groups(networks))
    for name, text in PARAMETERS.items():
        model = f"zoo:{name}?stem=imagenet" if name.startswith("resnet") else f"zoo:{name}"
        module = load_network(model, weights="random", classes=100).module
        count = sum(one.numel() for one in module.parameters())
        words = "H1 parameters of a network, millions"
        found.printed(words, count / 1e6, text, 0.01, f"{TITLES[name]}; {AS_BUILT}")
        if name.startswith("vit"):
            dead = HALTING * len(list(module.get_submodule("blocks").children()))
            found.printed(words, (count + dead) / 1e6, text, 0.01, f"{TITLES[name]}; {WITH_DEAD}")
    reading = networks.readings[0]
    for name, levels in groups(networks).items():
        values = [id_accuracy(one) for one in networks.curves(reading, **levels)]
        spread = networks.spread(reading, id_accuracy, {levels["model"]})
        found.cell(f"{name}: ID accuracy, %", values, "the network's own head", OTHERS, spread)
    return found


def id_accuracy(curves: Curves) -> float:
    """The network's own accuracy on the ID set, in percent."""
    return 100 * curves.own


def groups(networks: Networks) -> dict[str, Levels]:
    """All networks of the study by what they are, replicates together."""
    found: dict[str, Levels] = {}
    for cell in networks.cells:
        levels = {
            "model": str(cell.levels["model"]).removeprefix("zoo:"),
            "id": cell.id,
            "resolution": cell.levels["resolution"],
            "augmentation": cell.levels["training.augmentation"],
            "classes": cell.levels.get("classes"),
            "per_class": cell.levels.get("per_class"),
        }
        part = ""
        if levels["classes"]:
            part = f", {levels['classes']} classes, {levels['per_class']} images of each"
        elif levels["per_class"]:
            part = f", {levels['per_class']} images of each class"
        augmented = "aug" if levels["augmentation"] != "none" else "no aug"
        title = f"{TITLES[levels['model']]}, {SETS[cell.id]}{part}, {levels['resolution']}², {augmented}"
        found.setdefault(title, levels)
    return found


def curves_figure(networks: Networks, named: Mapping[str, Levels]) -> Figure:
    """Curves as shares of their maximum, as the paper draws them; a tunnel is shaded from its start."""
    reading = AS_PAPER if AS_PAPER in networks.readings else networks.readings[1]
    rows, shaded = [], {}
    for panel, levels in named.items():
        curves = networks.curves(reading, **levels)
        numbers = curves[0].numbers
        rows += line_rows(panel, "ID accuracy", numbers, [100 * one.id / one.id.max() for one in curves])
        ood = [100 * np.mean(list(one.normalised.values()), axis=0) for one in curves]
        rows += line_rows(panel, "mean OOD accuracy", numbers, ood)
        if all(one.has_learnt and one.r < NEGLIGIBLE for one in curves):
            shaded[panel] = (float(np.mean([one.peak for one in curves])), float(numbers[-1]))
    return Figure(pd.DataFrame(rows), "layer", "% of each curve's maximum", shaded=shaded)
