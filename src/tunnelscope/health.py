"""Health checks before numbers are believed: what was measured comes in, a line with what to do comes out.

A check that finds nothing gives None. Thresholds are those of docs/definitions.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunnelscope.tasks import score_words

SCALE_REFUSED = 10.0  # times too large or too small: the numbers would be another network's
SCALE_DOUBTED = 3.0  # times; data of another kind than the network's own stays below
PIXEL_SPREAD = 0.25  # standard deviation of natural images scaled to 0..1: CIFAR 0.25, ImageNet 0.28
FAR_UNDER_PROBE = 0.1  # of the last layer's probe: more than a classifier trained elsewhere loses
MOSTLY_DEAD = 0.9  # share of a layer's features; the demo's MLP has up to 0.17, a CIFAR ResNet-20 up to 0.13
SHOWN = 5  # classes named in a line
FEW_LIKE = 1e-3  # share of the test rows; fewer near-duplicates move an accuracy by less than 0.1 points


@dataclass(frozen=True)
class Doubt:
    """A line about the inputs; `refuses` where a scan ends unless `--accept-scale` was given."""

    line: str
    refuses: bool


def batch_norm_scale(
    factors: tuple[float, float, float], layer: str, key: str, preparation: str
) -> Doubt | None:
    """Judge the inputs by the first batch norm's input against its running statistics.

    A wrong scale moves all channels alike, unusual data (blurred, nearly plain) only some of them: judged
    is the channel at the tenth or ninetieth percentile that is nearer to 1.

    Args:
        factors: measured over running standard deviation, at the 10th, 50th and 90th percentile of channels.
        layer: name of the batch norm.
        preparation: the preprocessing in words; empty for ready inputs.
    """
    low, middle, high = factors
    factor = low if low > 1 else high if high < 1 else 1.0
    if not _is_off(factor, SCALE_DOUBTED):
        return None
    remedy = "normalise the ready inputs as in training"
    if preparation:
        remedy = f"set the preprocessing ({preparation}) as in training with ?mean=…&std=…"
    return _doubt(
        factor,
        f"{key}: what reaches the batch norm {layer!r} is {_times(middle)} than in training, so the inputs "
        f"have another scale than the network's own; {remedy}",
    )


def ready_scale(
    low: float, high: float, spread: float, mean: Sequence[float], std: Sequence[float], key: str
) -> Doubt | None:
    """Judge ready inputs by the spread that the network's preprocessing gives images.

    Args:
        low, high, spread: smallest and largest value of a batch, and its standard deviation.
        mean, std: of the preprocessing, a channel each, on pixels from 0 to 1.
    """
    bottom = min(-m / s for m, s in zip(mean, std, strict=True))
    top = max((1 - m) / s for m, s in zip(mean, std, strict=True))
    factor = spread * sum(std) / len(std) / PIXEL_SPREAD
    is_plain = low >= 0 and bottom < -0.1 and high <= 255 and (high <= 1 or high > 2 * top)
    if not is_plain and not _is_off(factor, SCALE_DOUBTED):
        return None
    looks = f"they look not normalised (0 to {1 if high <= 1 else 255})" if is_plain else "their scale is off"
    return _doubt(
        factor,
        f"{key} holds floats, taken as ready inputs, from {low:.3g} to {high:.3g}, and the network's "
        f"preprocessing gives {bottom:.2g} to {top:.2g}: {looks}; give images (uint8), or normalise them "
        f"with mean {_numbers(mean)} and std {_numbers(std)}",
    )


def own_accuracy(key: str, network: float | None, probe: float) -> str | None:
    """A network whose own classifier is far under the probe on its last layer."""
    if network is None or probe - network <= FAR_UNDER_PROBE:
        return None
    return (
        f"the network's own accuracy on {key} is {network:.1%}, that of a probe on its last layer "
        f"{probe:.1%}: other weights, another order of classes or another preprocessing than in training? "
        "check --weights, the class names and the preprocessing"
    )


def at_chance(
    key: str,
    places: tuple[str, str],
    scores: Mapping[str, float],
    lows: Mapping[str, float],
    read_on: tuple[int, str],
    chance: float,
    score_name: str = "accuracy",
) -> str | None:
    """Probes that are not surely better than guessing: the last layer's, or every layer's.

    Args:
        places: the layer to take, and the last one.
        scores, lows: on the test rows by these layers, and the lower ends of their 95 % intervals.
        read_on: how many test rows there are, and what they are.
        chance: the score of a probe that knows nothing.
        score_name: what the score is.
    """
    best, last = places
    count, kind = read_on
    if lows[last] > chance:
        return None
    guessing = f"chance ({score_words(score_name, chance)})"
    said = score_words(score_name, scores[last])
    what = "these classes" if score_name == "accuracy" else "what these labels need"
    if lows[best] > chance:
        return (
            f"{key}: the probe on the last layer, {last} ({said} of {count:,} test {kind}), is not surely "
            f"above {guessing}: the network has lost {what}, or there are too few training {kind}; take "
            f"{best}, or give more {kind}"
        )
    return (
        f"{key}: no layer's probe is surely above {guessing}, that on {best} has "
        f"{score_words(score_name, scores[best])} of {count:,} test {kind}: nothing follows from its curve; "
        f"check labels and preprocessing, or give more {kind}"
    )


def dead_features(key: str, shares: Mapping[str, float | None]) -> str | None:
    """Layers whose features hardly tell one example from another.

    Args:
        shares: of features with one value in all training rows, by layer.
    """
    dead = {name: share for name, share in shares.items() if share is not None and share > MOSTLY_DEAD}
    if not dead:
        return None
    worst = max(dead, key=dead.__getitem__)
    many = f"{len(dead)} layer{'s have' if len(dead) > 1 else ' has'}"
    return (
        f"{key}: {many} more than {MOSTLY_DEAD:.0%} constant features, the most {worst} ({dead[worst]:.1%}): "
        "dead units, or inputs without contrast; check the weights and the preprocessing, and do not read a "
        "tunnel from these layers"
    )


def overlap(
    key: str,
    kind: str,
    n_test: int,
    equal: tuple[int, str],
    like: tuple[int, str],
    accuracies: tuple[float, float | None],
) -> str | None:
    """Test rows that the probes were fitted on, or nearly.

    Args:
        kind: what the rows are, "images" or "texts".
        equal, like: how many test rows equal a training row, or only look like one; the first pair in words.
        accuracies: of the last layer's probe on all test rows, and without these (None when none are left).
    """
    same, near = _twins_in_words(kind, n_test, equal[0], like[0])
    found = []
    if same:
        found.append(f"{same} are training {kind} too (first: {equal[1]})")
    if near:
        found.append(f"{near} nearly equal a training image (first: {like[1]})")
    if not found:
        return None
    whole, rest = accuracies
    effect = "" if rest is None else f"the last layer's accuracy is {whole:.1%}, without them {rest:.1%}; "
    return f"{key}: {', and '.join(found)}; {effect}take them out of one split"


def _twins_in_words(kind: str, n_test: int, equal: int, like: int) -> tuple[str, str]:
    """How many test rows equal training rows, and how many only look like one; "" where none, or too few."""
    if not equal and like < FEW_LIKE * n_test:
        return "", ""
    same = f"{equal:,} of {n_test:,} test {kind}" if equal else ""
    near = f"{like:,} more" if equal else f"{like:,} of {n_test:,} test {kind}"
    return same, near if like else ""


def known_images(
    key: str, own: str, kind: str, n_test: int, equal: tuple[int, str], like: tuple[int, str]
) -> str | None:
    """Test rows of another set that are training rows of the network's own data, or nearly.

    Args:
        equal, like: how many equal a training row, or only look like one; the first pair in words.
    """
    same, near = _twins_in_words(kind, n_test, equal[0], like[0])
    found = []
    if same:
        found.append(f"{same} are training {kind} of {own}")
    if near:
        found.append(f"{near} nearly equal training {kind}{'' if same else f' of {own}'}")
    if not found:
        return None
    return (
        f"{key}: {' and '.join(found)}, the network's own data (first: {equal[1] or like[1]}): the network "
        "has seen them, so they say nothing about other data; take them out"
    )


def shared_classes(key: str, own: str, names: Sequence[str], count: int) -> str | None:
    """Classes of another set that the network was trained to tell apart.

    Args:
        names: of the classes that both have.
        count: of the other set's classes.
    """
    if not names:
        return None
    shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    many = "class is" if len(names) == 1 else "classes are"
    return (
        f"{key}: {len(names)} of {count} {many} in {own} too, the network's own data ({shown}): the network "
        "was taught them, so what it keeps of them says less about other data; choose others with ?classes="
    )


def _doubt(factor: float, line: str) -> Doubt:
    return Doubt(line, refuses=_is_off(factor, SCALE_REFUSED))


def _is_off(factor: float, times: float) -> bool:
    return factor >= times or factor <= 1 / times


def _times(factor: float) -> str:
    return f"{factor:.3g} times larger" if factor >= 1 else f"{1 / max(factor, 1e-12):.3g} times smaller"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
