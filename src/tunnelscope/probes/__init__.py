"""Linear probes: how well classes can be told apart in a layer's features.

`ProbeClassifier` is in `tunnelscope.probes.estimator`, so that scikit-learn is loaded only when asked for.
"""

from tunnelscope.probes.choice import choice_protocol, choice_scores
from tunnelscope.probes.heldout import heldout_rows
from tunnelscope.probes.intervals import wilson
from tunnelscope.probes.knn import KnnProbe
from tunnelscope.probes.linear import LinearProbe, Probe, Scores
from tunnelscope.probes.many import probe
from tunnelscope.probes.protocols import (
    PROTOCOLS,
    check_penalty,
    fit_probe,
    protocol_name,
    task_protocol,
)
from tunnelscope.probes.saving import load_probe

__all__ = [
    "PROTOCOLS",
    "KnnProbe",
    "LinearProbe",
    "Probe",
    "Scores",
    "check_penalty",
    "choice_protocol",
    "choice_scores",
    "fit_probe",
    "heldout_rows",
    "load_probe",
    "probe",
    "protocol_name",
    "task_protocol",
    "wilson",
]
