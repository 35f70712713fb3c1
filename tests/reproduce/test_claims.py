"""Every claim on planted curves: of a tunnel, of none, and of a network that has learnt nothing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tunnelscope.reproduce.found import Found
from tunnelscope.reproduce.masarczyk2023 import claims, continual, figures
from tunnelscope.reproduce.masarczyk2023.statistics import Curves
from tunnelscope.reproduce.verdicts import AGREES, DISAGREES, NOT_COMPARABLE

LAYERS = np.arange(1, 13)
RANK = np.array([40, 60, 80, 100, 90, 60, 40, 30, 20, 14, 11, 10.0])


def tunnelled() -> Curves:
    """Twelve layers of a network whose tunnel starts after layer 5, as the paper describes one."""
    rising = np.array([0.3, 0.4, 0.45, 0.5, 0.58, 0.59, 0.59, 0.59, 0.6, 0.6, 0.6, 0.6])
    falling = np.array([0.3, 0.4, 0.45, 0.5, 0.52, 0.5, 0.45, 0.4, 0.35, 0.33, 0.31, 0.3])
    distance = np.abs(LAYERS[:, None] - LAYERS)
    inside = (LAYERS[:, None] > 5) & (LAYERS > 5)
    return Curves(
        numbers=LAYERS,
        id=rising,
        ood=np.stack([falling, falling]),
        ranks=dict.fromkeys(("1e-2", "1e-3", "1e-4"), RANK),
        ood_ranks=np.stack([RANK, RANK]),
        within=np.exp(-0.2 * LAYERS),
        between=np.exp(0.1 * LAYERS),
        cka=np.where(inside, 0.99**distance, 0.5**distance),
        attainable=np.full(12, 100.0),
        own=0.61,
        classes=10,
    )


def unlearnt() -> Curves:
    """The same network untrained: every curve only falls, and its rank hardly."""
    fading = np.linspace(0.35, 0.2, 12)
    flat = np.linspace(50, 40, 12)
    ranks = dict.fromkeys(("1e-2", "1e-3", "1e-4"), flat)
    cka = 0.7 ** np.abs(LAYERS[:, None] - LAYERS)
    one = replace(tunnelled(), id=fading, ood=np.stack([fading, fading]), ranks=ranks, own=0.1)
    return replace(one, ood_ranks=np.stack([flat, flat]), cka=cka, within=np.ones(12), between=np.ones(12))


def idle() -> Curves:
    """The same curves of a network that is said to have learnt: what its control cannot tell from it."""
    return replace(unlearnt(), own=0.61)


def growing() -> Curves:
    """No tunnel: all curves rise to the end."""
    rising = np.linspace(0.2, 0.8, 12)
    return replace(tunnelled(), id=rising, ood=np.stack([rising, rising]), own=0.8)


def verdicts(judge, one: Curves, control: Curves | None = None) -> dict[str, list[str]]:
    found = Found((0, 1))
    judge(found, "mlp", "reading", [replace(one, control=control)] * 2)
    told: dict[str, list[str]] = {}
    for row in found.rows:
        if row.test:
            told.setdefault(row.claim.partition(":")[2].strip(), []).append(row.verdict)
    return told


def every(told: dict[str, list[str]]) -> set[str]:
    return {verdict for verdicts_of_one in told.values() for verdict in verdicts_of_one}


def test_saturation() -> None:
    assert every(verdicts(claims.saturation, tunnelled(), unlearnt())) == {AGREES}
    none = verdicts(claims.saturation, growing(), unlearnt())
    assert none["layers of the tunnel (95 % of the last probe)"] == [DISAGREES]
    assert none["ID accuracy gained from the start on, points a layer"] == [NOT_COMPARABLE]
    control = verdicts(claims.saturation, idle(), unlearnt())
    assert control["last layer's ID accuracy less the best of any layer untrained, points"] == [DISAGREES]


def test_start() -> None:
    told = verdicts(claims.starting_layer, tunnelled())
    assert told == {"layer after which the tunnel starts": [AGREES] * 3}
    assert verdicts(claims.starting_layer, growing()) == {
        "layer after which the tunnel starts": [DISAGREES] * 3
    }


def test_rank() -> None:
    assert every(verdicts(claims.rank_collapse, tunnelled(), unlearnt())) == {AGREES}
    assert every(verdicts(claims.rank_collapse, idle(), unlearnt())) == {DISAGREES}
    none = verdicts(claims.rank_collapse, growing(), unlearnt())
    assert none.pop("last layer's rank over the untrained network's there") == [AGREES]
    assert every(none) == {NOT_COMPARABLE}
    found = Found((0,))
    claims.rank_of_classes(found, "mlp", "reading", [tunnelled()], 10)
    assert [row.ours for row in found.rows] == [12.5] * 3
    assert {row.verdict for row in found.rows} == {AGREES}


def test_spike_of_a_resnet() -> None:
    numbers = np.arange(1, 34, 2)
    ranks = np.linspace(400, 50, 17)
    flat, spiked = (
        replace(
            tunnelled(),
            numbers=numbers,
            ranks=dict.fromkeys(("1e-2", "1e-3", "1e-4"), rank),
            attainable=np.full(17, 1000.0),
        )
        for rank in (ranks, np.where(numbers == 29, 500, ranks))
    )
    for curves, verdict in ((flat, DISAGREES), (spiked, AGREES)):
        found = Found((0,))
        claims.resnet_rank(found, "reading", [curves])
        assert {row.verdict for row in found.rows if "layer 29" in row.claim} == {verdict}
        assert {row.verdict for row in found.rows if "least rank" in row.claim} == {AGREES}


def test_ood() -> None:
    told = verdicts(claims.ood, tunnelled(), unlearnt())
    assert told["layers from the tunnel's start to the best OOD layer"] == [AGREES]
    assert told["OOD accuracy retained at the last layer"] == [AGREES]
    none = verdicts(claims.ood, growing(), unlearnt())
    assert none["layers from the tunnel's start to the best OOD layer"] == [NOT_COMPARABLE]
    assert none["OOD accuracy retained at the last layer"] == [DISAGREES]
    assert none["OOD accuracy retained, less the same untrained"] == [DISAGREES]
    control = verdicts(claims.ood, idle(), unlearnt())
    assert control["OOD accuracy retained at the last layer"] == [
        AGREES
    ]  # which is why the next row is there
    assert control["OOD accuracy retained, less the same untrained"] == [DISAGREES]


def test_variances() -> None:
    assert every(verdicts(claims.variances, tunnelled(), unlearnt())) == {AGREES}
    turned = replace(tunnelled(), within=tunnelled().between, between=tunnelled().within)
    assert every(verdicts(claims.variances, turned, unlearnt())) == {DISAGREES}


def test_similarity() -> None:
    assert every(verdicts(claims.similarity, tunnelled(), unlearnt())) == {AGREES}
    assert every(verdicts(claims.similarity, idle(), unlearnt())) <= {DISAGREES, NOT_COMPARABLE}


@pytest.mark.parametrize(
    "judge",
    [
        claims.saturation,
        claims.starting_layer,
        claims.rank_collapse,
        claims.ood,
        claims.variances,
        claims.similarity,
    ],
)
def test_nothing_is_judged_on_a_network_that_has_not_learnt(judge) -> None:
    idler = replace(tunnelled(), own=0.18)
    assert every(verdicts(judge, idler, unlearnt())) == {NOT_COMPARABLE}
    found = Found((0, 1))
    claims.accuracy(found, "MLP", [tunnelled(), idler])
    assert found.rows[0].note.startswith("seeds 1 have not learnt")


def test_a_narrow_layer_has_no_low_rank_for_that() -> None:
    narrow = replace(tunnelled(), attainable=RANK)
    told = verdicts(claims.rank_collapse, narrow)
    shares = "last layer's rank over that at the start, both as shares of the attainable rank"
    assert told[shares] == [DISAGREES]
    assert told["last layer's rank over that where the tunnel starts"] == [AGREES] * 3


def history(tunnel: float, extractor: float) -> pd.DataFrame:
    """Changes of thirteen weights (the last is the classifier's, which moves most) over forty steps."""
    return pd.DataFrame(
        {
            "run": f"step-{step:07d}",
            "place": place,
            "value": 9.0 if place == 13 else tunnel if place > 5 else extractor,
        }
        for step in range(1, 41)
        for place in range(1, 14)
    )


def test_quiet_layers() -> None:
    assert figures.quiet_ratio(history(0.1, 0.2), tunnelled()) == pytest.approx(0.5)
    assert figures.quiet_ratio(history(0.3, 0.2), tunnelled()) == pytest.approx(1.5)
    assert figures.quiet_ratio(history(0.1, 0.2), growing()) is None


def test_ranks_by_step() -> None:
    rows = [
        {
            "quantity": "numerical_rank",
            "layer_index": layer,
            "role": "id",
            "run": f"step-{step:07d}",
            "value": 10.0 * layer + step,
        }
        for step in (75, 0)
        for layer in (2, 1)
    ]
    told = figures.rank_history(pd.DataFrame(rows))
    assert told.index.tolist() == [0, 75]
    assert told.loc[75].tolist() == [85, 95]


def test_what_is_lost_by_a_swap() -> None:
    cells = {"a": 60.0, "b": 70.0, "chance": 22.0}
    assert continual.difference(cells, "a", "b") == -10
    assert continual.difference(cells, "a", "chance") is None  # there is nothing to lose
    assert continual.difference(cells, "a", "missing") is None
