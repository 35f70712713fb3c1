"""How good a layer is on training rows that its probe did not see, to choose a layer by.

One held-out tenth of a large training set tells layers apart to a point or two. Of a thousand rows it is a
hundred, whose sampling error (4 points) is larger than the difference between neighbouring layers; there
every training row is held out once.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tunnelscope.groups import even_parts
from tunnelscope.linalg.standardise import Standardisation
from tunnelscope.probes.heldout import heldout_rows
from tunnelscope.probes.knn import KnnProbe
from tunnelscope.probes.linear import LinearProbe, Probe
from tunnelscope.probes.protocols import RECIPES, fit_probe
from tunnelscope.probes.recipes import fit_recipes_among
from tunnelscope.probes.ridge import PROTOCOL as RIDGE
from tunnelscope.probes.ridge import predict_parts
from tunnelscope.probes.rows import Rows
from tunnelscope.probes.targets import TargetProbe, refit, target_credits
from tunnelscope.randomness import named_generator, numpy_generator

FEW_HELDOUT = 500  # held-out rows below which one part is too few to choose by
PARTS = 10
TOLERANCE = 0.03  # of the exact fits in here; their accuracies differ by a row or two from the optimum's


@dataclass(frozen=True, eq=False)
class ChoiceScores:
    """How a layer does on held-out training rows, the same for every layer.

    Attributes:
        credits: what each of them adds to the score, which is their mean (`probes.credits`): whether it is
            predicted right, (rows,) bool; float64 for other scores.
        loss: their mean cross-entropy, None for a probe without one.
        rows: their numbers among the training rows, ascending, int64.
        converged: whether each fit that they are judged by reached its tolerance, or stayed finite.
    """

    credits: Tensor
    loss: float | None
    rows: Tensor
    converged: bool = True

    @property
    def score(self) -> float | None:
        """The score of the rows, of classes the share that are right; None where no row could be held out."""
        return float(self.credits.double().mean()) if len(self.credits) else None


def choice_scores(
    features: Tensor,
    labels: Tensor,
    fitted: LinearProbe | KnnProbe | TargetProbe,
    groups: Tensor | None = None,
) -> ChoiceScores:
    """Judge a layer's probe on held-out training rows.

    They are the probe's own (`heldout_right`, `heldout_loss`) unless its held-out part has fewer than
    500 rows; then ten disjoint parts, each predicted by a probe of the same protocol and penalty fitted
    on the other nine. (Those of a ridge probe have one scaling, that of all rows.)

    Args:
        features: (n, d), the rows `fitted` was trained on.
        labels: (n,); of other tasks than classification (n, t).
        groups: as `fitted` was given them, (n,) int64: no group is learnt from and judged on.
    """
    if isinstance(fitted, TargetProbe):
        return _target_choice(features, labels, fitted, groups)
    if fitted.protocol in RECIPES and isinstance(fitted, LinearProbe) and not _one_part_is_enough(fitted):
        return recipe_choices({fitted.layer: features}, labels, {fitted.layer: fitted}, groups)[fitted.layer]
    judged = fitted.heldout_right
    if judged is None and fitted.penalty is None:
        return ChoiceScores(torch.zeros(0, dtype=torch.bool), None, torch.zeros(0, dtype=torch.int64))
    if _one_part_is_enough(fitted):
        rows = heldout_rows(labels, fitted.seed, groups=groups).heldout
        if judged is None:  # of an exact probe whose penalty was given: nothing was held out to choose it
            return _score(features, labels, _mask(rows, len(labels)), fitted)
        return ChoiceScores(judged, fitted.heldout_loss, rows)
    parts = stratified_parts(labels, fitted.seed, groups=groups)
    if fitted.protocol == RIDGE and isinstance(fitted, LinearProbe):
        return _joined(list(_ridge_scores(features, labels, parts, fitted)))
    return _joined([_score(features, labels, parts == part, fitted) for part in range(int(parts.max()) + 1)])


def recipe_choices(
    features: Mapping[str, Tensor],
    labels: Tensor,
    fitted: Mapping[str, LinearProbe],
    groups: Tensor | None = None,
) -> dict[str, ChoiceScores]:
    """Do as `choice_scores` for the probes of a paper's recipe, layers of equal width side by side.

    Args:
        features: layer → (n, d).
        fitted: layer → its probe; all of one recipe and seed.
    """
    first = next(iter(fitted.values()))
    if _one_part_is_enough(first):
        return {name: choice_scores(features[name], labels, probe, groups) for name, probe in fitted.items()}
    rows = {name: Rows(features[name], labels, probe.class_names) for name, probe in fitted.items()}
    parts = stratified_parts(labels, first.seed, groups=groups)
    scores: dict[str, list[ChoiceScores]] = {name: [] for name in fitted}
    for part in range(int(parts.max()) + 1):
        heldout = parts == part
        among, judged = (~heldout).nonzero().flatten(), heldout.nonzero().flatten()
        for name, judge in fit_recipes_among(rows, RECIPES[first.protocol], first.seed, among):
            scores[name].append(_judgement(judge, features[name][judged], labels[judged], judged))
    return {name: _joined(each) for name, each in scores.items()}


def _joined(scores: list[ChoiceScores]) -> ChoiceScores:
    """The scores of disjoint parts as one."""
    if not scores:
        return ChoiceScores(torch.zeros(0, dtype=torch.bool), None, torch.zeros(0, dtype=torch.int64))
    losses = [score.loss for score in scores if score.loss is not None]
    loss = sum(losses) / len(losses) if len(losses) == len(scores) else None
    rows, order = torch.cat([score.rows for score in scores]).sort()
    credits = torch.cat([score.credits for score in scores])[order]
    return ChoiceScores(credits, loss, rows, all(score.converged for score in scores))


def _target_choice(
    features: Tensor, labels: Tensor, fitted: TargetProbe, groups: Tensor | None
) -> ChoiceScores:
    """The same for numbers and for several labels: all held-out rows have one score together."""
    rows = torch.zeros(len(labels), dtype=torch.int64)  # nothing to stratify by
    if _one_part_is_enough(fitted):
        held = [heldout_rows(rows, fitted.seed, groups=groups).heldout]
    else:
        parts = stratified_parts(rows, fitted.seed, groups=groups)
        held = [(parts == part).nonzero().flatten() for part in range(int(parts.max()) + 1)]
    if not sum(map(len, held)):  # a single group, and a penalty that was given
        return ChoiceScores(features.new_zeros(0).double(), None, torch.zeros(0, dtype=torch.int64))
    predictions, converged = [], True
    for judged in held:
        is_fitted = ~_mask(judged, len(rows))
        part = refit(fitted, features[is_fitted], labels[is_fitted], _tolerance(fitted))
        predictions.append(part.predict(features[judged]))
        converged &= part.converged
    chosen, order = torch.cat(held).sort()
    credits = target_credits(torch.cat(predictions)[order], labels[chosen], fitted.score_name)
    return ChoiceScores(credits, None, chosen, converged)


def choice_protocol(fitted: LinearProbe | KnnProbe | TargetProbe, grouped: bool = False) -> str:
    """Name how `choice_scores` judges this probe's layer; fits in parts may be less exact than its own.

    Args:
        grouped: whether it was given groups.
    """
    whole = " of whole groups" if grouped else ""
    if _one_part_is_enough(fitted):
        return f"choice/v1, one part{whole}, with {fitted.protocol}"
    exactness = "" if fitted.tolerance is None else f", tolerance {_tolerance(fitted):g}"
    return f"choice/v1, {PARTS} parts{whole}, with {fitted.protocol}{exactness}"


def _one_part_is_enough(fitted: Probe) -> bool:
    is_judged = fitted.heldout_right is not None or fitted.penalty is not None
    if not is_judged and not isinstance(fitted, TargetProbe):
        return True
    return 0.1 * fitted.n_train >= FEW_HELDOUT


def _mask(rows: Tensor, count: int) -> Tensor:
    mask = torch.zeros(count, dtype=torch.bool)
    mask[rows] = True
    return mask


def _tolerance(fitted: Probe) -> float:
    return max(fitted.tolerance or 0.0, TOLERANCE)


def stratified_parts(labels: Tensor, seed: int, parts: int = PARTS, groups: Tensor | None = None) -> Tensor:
    """Number each row 0 … parts − 1 so that classes are spread evenly, (n,), int64.

    A class of one row stays out of every part (−1): held out, nothing would be left to learn it from. So does
    a group (see `even_parts`) without which a class would be in one part alone.
    """
    if groups is not None:
        drawn = numpy_generator(seed, "parts of whole groups")
        return torch.from_numpy(even_parts(labels.cpu().numpy(), groups.cpu().numpy(), parts, drawn))
    draws = named_generator(seed, "parts to choose a layer by")
    numbers = torch.full((len(labels),), -1)
    first = 0  # the next class goes on where the last one ended, so that parts have equal sizes
    for label in labels.unique():
        rows = (labels == label).nonzero().flatten()
        if len(rows) > 1:
            order = rows[torch.randperm(len(rows), generator=draws)]
            numbers[order] = (first + torch.arange(len(rows))) % parts
            first += len(rows)
    return numbers


def _score(features: Tensor, labels: Tensor, heldout: Tensor, fitted: LinearProbe | KnnProbe) -> ChoiceScores:
    probe = fit_probe(
        features[~heldout],
        labels[~heldout],
        protocol=fitted.protocol.partition(",")[0],  # a smoothing is named after it
        class_names=fitted.class_names,
        smoothing=fitted.smoothing if isinstance(fitted, LinearProbe) else 0.0,
        tolerance=_tolerance(fitted),
        penalty=fitted.penalty,
        seed=fitted.seed,
        layer=fitted.layer,
    )
    return _judgement(probe, features[heldout], labels[heldout], heldout.nonzero().flatten())


def _ridge_scores(
    features: Tensor, labels: Tensor, parts: Tensor, fitted: LinearProbe
) -> Iterator[ChoiceScores]:
    """The parts' scores from one decomposition of all rows."""
    assert fitted.penalty is not None
    rows = Rows(features, labels, fitted.class_names)
    scaling = Standardisation(fitted.mean, fitted.scale)
    for held, outputs in predict_parts(rows, parts, fitted.penalty, scaling):
        own = labels[held]
        loss = float(F.cross_entropy(outputs, own))
        yield ChoiceScores(outputs.argmax(dim=1) == own, loss if math.isfinite(loss) else None, held)


def _judgement(probe: Probe, features: Tensor, labels: Tensor, rows: Tensor) -> ChoiceScores:
    right = probe.predict(features) == labels
    return ChoiceScores(right, probe.scores(features, labels).loss, rows, probe.converged)
