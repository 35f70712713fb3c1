"""How much of a layer is constant: features that tell no example from another."""

from torch import Tensor

from tunnelscope.metrics.metric import Family, Metric


def dead_features(features: Tensor) -> float:
    """Return the share of features that have the same value in every row, 0 to 1.

    Of a layer after ReLU these are the dead units.

    Args:
        features: (n, d), at least one row.
    """
    low, high = features.aminmax(dim=0)
    return float((low == high).double().mean())


FAMILY = Family(
    name="dead",
    metrics={
        "dead_features": Metric(
            title="Dead features",
            unit="share of features, 0 to 1",
            direction="higher means that more features are constant: they tell no example from another",
            definition="share of features with one value in all training rows",
            source="standard deviation 0, exactly; after ReLU the dead units",
            edges="always a value",
            split="train",
            protocol="dead_features/v1",
        ),
    },
    measure=lambda rows: {"dead_features": dead_features(rows.train)},
)
