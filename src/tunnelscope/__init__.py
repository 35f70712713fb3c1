"""At which layer does a trained network stop building its representation?

`scan` answers it for one network and its data; `record` reads features, `probe` fits linear probes,
`load` opens a scan again. Each name is loaded when it is first used, so that `import tunnelscope`
costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "scan": "tunnelscope.scanning",
    "scan_features": "tunnelscope.probing",
    "scan_checkpoints": "tunnelscope.over_training",
    "record": "tunnelscope.recording",
    "load": "tunnelscope.results",
    "Scan": "tunnelscope.results",
    "compare": "tunnelscope.comparing",
    "Comparison": "tunnelscope.comparing",
    "plan": "tunnelscope.scanning",
    "probe": "tunnelscope.probes",
    "load_probe": "tunnelscope.probes",
    "LinearProbe": "tunnelscope.probes",
    "ProbeClassifier": "tunnelscope.probes.estimator",
    "load_data": "tunnelscope.data",
    "DataSet": "tunnelscope.data",
    "Preprocessing": "tunnelscope.data",
    "load_network": "tunnelscope.models",
    "train": "tunnelscope.training.run",
    "train_tasks": "tunnelscope.training.run",
    "Training": "tunnelscope.training.run",
    "Watch": "tunnelscope.training.watch",
    "run_study": "tunnelscope.studies.driver",
    "effects": "tunnelscope.variables.analysis",
    "reset": "tunnelscope.surgery.reset",
    "linearise": "tunnelscope.surgery.linearise",
    "Recipe": "tunnelscope.training.recipe",
    "Network": "tunnelscope.models",
    "TunnelscopeError": "tunnelscope.errors",
    "RequestError": "tunnelscope.errors",
    "MachineError": "tunnelscope.errors",
}

__all__ = [
    "Comparison",
    "DataSet",
    "LinearProbe",
    "MachineError",
    "Network",
    "Preprocessing",
    "ProbeClassifier",
    "Recipe",
    "RequestError",
    "Scan",
    "Training",
    "TunnelscopeError",
    "Watch",
    "compare",
    "effects",
    "linearise",
    "load",
    "load_data",
    "load_network",
    "load_probe",
    "plan",
    "probe",
    "record",
    "reset",
    "run_study",
    "scan",
    "scan_checkpoints",
    "scan_features",
    "train",
    "train_tasks",
]

if TYPE_CHECKING:
    from tunnelscope.comparing import Comparison, compare
    from tunnelscope.data import DataSet, Preprocessing, load_data
    from tunnelscope.errors import MachineError, RequestError, TunnelscopeError
    from tunnelscope.models import Network, load_network
    from tunnelscope.over_training import scan_checkpoints
    from tunnelscope.probes import LinearProbe, load_probe, probe
    from tunnelscope.probes.estimator import ProbeClassifier
    from tunnelscope.probing import scan_features
    from tunnelscope.recording import record
    from tunnelscope.results import Scan, load
    from tunnelscope.scanning import plan, scan
    from tunnelscope.studies.driver import run_study
    from tunnelscope.surgery.linearise import linearise
    from tunnelscope.surgery.reset import reset
    from tunnelscope.training.recipe import Recipe
    from tunnelscope.training.run import Training, train, train_tasks
    from tunnelscope.training.watch import Watch
    from tunnelscope.variables.analysis import effects


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'tunnelscope' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
