"""What is doubtful of a table: variables that cannot be told apart, stand for a network, or do not vary."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from tunnelscope.variables.observations import Observations
from tunnelscope.variables.slopes import Design, varying

COLLINEAR = 0.8  # rank correlation from which two variables are said not to be told apart
MOST_NAMED = 4  # groups of twins


def warnings_of(given: Observations, design: Design) -> list[str]:
    """A line for each, with what to do."""
    return [*constants(given), *collinear(given, design), *disguised(given), *alike(given)]


def constants(given: Observations) -> Iterator[str]:
    """Variables that do not vary."""
    fixed = [name for name in given.variables if name not in varying(given)]
    if fixed:
        yield f"{', '.join(fixed)}: the same in all networks; nothing can be said of it"


def collinear(given: Observations, design: Design) -> Iterator[str]:
    """Pairs of variables of which one tells the other, or nearly."""
    _, first = np.unique(given.frame["network"].to_numpy(), return_index=True)
    for one, other in combinations(range(len(design.variables)), 2):
        a, b = design.codes[first, one], design.codes[first, other]
        if np.ptp(a) == 0 or np.ptp(b) == 0:
            continue
        names = f"{design.variables[one]} and {design.variables[other]}"
        determined = _determines(a, b) or _determines(b, a)
        found: Any = stats.spearmanr(a, b)
        together = abs(float(found.statistic))
        if determined or together >= COLLINEAR:
            how = "one determines the other" if determined else f"rank correlation {together:.2f}"
            yield f"{names} hardly vary apart ({how}): which of the two gets an effect is chance"


def _determines(one: np.ndarray, other: np.ndarray) -> bool:
    return all(len(np.unique(other[one == level])) == 1 for level in np.unique(one))


def disguised(given: Observations) -> Iterator[str]:
    """Variables with a level for each network, or nearly."""
    networks = given.frame.drop_duplicates("network")
    for name in varying(given):
        levels = networks[name].nunique()
        if len(networks) > 3 and levels >= 0.9 * len(networks):
            yield (
                f"{name} has {levels} levels in {len(networks)} networks: it is a network's identity in "
                "disguise, and explains whatever a network does; leave it out"
            )


def alike(given: Observations) -> Iterator[str]:
    """Networks that no variable tells apart; where each has as many twins they are replicates, and meant."""
    networks = given.frame.drop_duplicates("network")
    groups = networks.groupby(list(given.variables), sort=False)["network"].apply(list)
    if groups.map(len).nunique() == 1:
        return
    if len(twins := groups[groups.map(len) > 1]):
        told = [" = ".join(names) for names in twins]
        more = f"; and {len(told) - MOST_NAMED} more" if len(told) > MOST_NAMED else ""
        yield f"no variable tells these networks apart: {'; '.join(told[:MOST_NAMED])}{more}"
