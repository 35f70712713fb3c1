"""All checkpoints of a training scanned in one go: how the tunnel forms, layer by step."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from tunnelscope.checkpoints import read_settings, saved_steps, step_name
from tunnelscope.data import DataSet
from tunnelscope.errors import RequestError
from tunnelscope.files import check_writable, write_json, write_whole
from tunnelscope.keeping import record_both
from tunnelscope.metrics import unbiased_cka
from tunnelscope.models import Network, load_network
from tunnelscope.models.weights import load_weights
from tunnelscope.pixels import decoded
from tunnelscope.recording import StageProgress, recorder_for
from tunnelscope.results import Scan, make_table
from tunnelscope.scanning import load_sets, scan, trained_on
from tunnelscope.store import Store

if TYPE_CHECKING:
    import pandas as pd

KIND = "checkpoints"
CHANGE_PROTOCOL = "weights between checkpoints/v1"
CKA_PROTOCOL = "unbiased linear CKA to the last checkpoint/v1"


@dataclass(frozen=True, repr=False)
class OverTraining:
    """Scans of a training's checkpoints.

    `run` is one JSON object (`checkpoints`: a reading for each step), `frame` one results table, in which the
    column `run` holds the step (`step-0000075`).
    """

    run: dict[str, Any]
    frame: "pd.DataFrame" = field(repr=False)
    folder: Path | None = None

    def __repr__(self) -> str:
        return f"<OverTraining of {self.run['model']}: {len(self.run['checkpoints'])} checkpoints>"

    @property
    def verdict(self) -> str:
        """When the tunnel formed, in words."""
        return self.run["verdict"]

    def table(self) -> "pd.DataFrame":
        """The results table of all checkpoints, one row a value."""
        return self.frame.copy()

    def report(self, path: str | Path) -> Path:
        """Write heat maps of layer by step, one HTML file that needs no network, and return its path."""
        from tunnelscope.report.over_training import write_over_training

        write_over_training(self.frame, self.run, Path(path))
        return Path(path)

    def save(self, folder: str | Path) -> Path:
        """Write results.parquet and run.json into a folder, each file whole or not at all."""
        folder = Path(folder)
        write_whole(folder / "results.parquet", lambda path: self.frame.to_parquet(path, index=False))
        write_json(folder / "run.json", self.run)
        return folder


def load_over_training(folder: str | Path) -> OverTraining:
    """Read back what `scan_checkpoints` wrote.

    Raises:
        RequestError: there is nothing of that kind in the folder.
    """
    import pandas as pd

    folder = Path(folder)
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        if run.get("kind") != KIND:
            raise ValueError("another kind of results")
        return OverTraining(run, pd.read_parquet(folder / "results.parquet"), folder)
    except (OSError, ValueError, AttributeError) as error:
        raise RequestError(
            f"{folder} holds no scan of checkpoints ({error}); `tunnelscope scan --checkpoints` makes one"
        ) from error


def scan_checkpoints(
    folder: str | Path,
    *,
    id: Any = None,
    ood: Any = (),
    out: str | Path | None = None,
    steps: Sequence[int] | None = None,
    max_samples: int | None = None,
    label: str | None = None,
    image: str | None = None,
    workers: int = 2,
    cache: bool = True,
    seed: int = 0,
    command: str | None = None,
    progress: StageProgress | None = None,
    announce: Callable[[str], None] | None = None,
    **settings: Any,
) -> OverTraining:
    """Scan every checkpoint of a training; images are decoded once.

    Args:
        folder: of a training that `ts.train` wrote.
        id: the data it was trained on; by default what the training was given, read as it was.
        ood: other data, as for `ts.scan`.
        out: folder for results.parquet, run.json and report.html.
        steps: checkpoints to scan; all by default.
        settings: the other arguments of `ts.scan` (`layers`, `pool`, `probe`, `tolerance`, …).

    Raises:
        RequestError: the folder holds no training or no such step, or as in `ts.scan`.
        MachineError: the images do not fit into memory, or as in `ts.scan`.
    """
    folder, say = Path(folder), announce or (lambda line: None)
    notify = progress or (lambda stage, done, total: None)
    told, chosen = _training(folder, steps)
    if out is not None:
        check_writable(Path(out))
    if id is None:
        id = trained_on(
            told["settings"], label=label, image=image, max_samples=max_samples, announce=announce
        )
    sets = load_sets(id, ood, label=label, image=image, max_samples=max_samples, seed=seed, announce=announce)
    saved = saved_steps(folder)
    last = _network(told, saved[max(saved)])
    sets = [decoded(dataset, last.preprocessing, workers, notify) for dataset in sets]
    common = {"max_samples": None, "workers": workers, "cache": cache, "seed": seed, **settings}
    final = _test_features(last, sets, common)
    scans: dict[int, Scan] = {}
    similar: dict[int, dict[str, float]] = {}
    for number, (step, path) in enumerate(chosen.items(), start=1):
        say(f"checkpoint {number} of {len(chosen)}: after step {step}")
        network = _network(told, path)
        scans[step] = scan(
            network, id=sets[0], ood=sets[1:], progress=_staged(notify, number, len(chosen)), **common
        )
        features = _test_features(network, sets, common)
        similar[step] = {layer: _cka(features[layer], final[layer]) for layer in final}
    own = [row for step, one in scans.items() for row in _similarity_rows(step, one, similar[step])]
    own += _change_rows(last, chosen)
    result = together(
        scans,
        own,
        command or "ts.scan_checkpoints",
        training=told["settings"],
        steps_per_epoch=(told.get("result") or {}).get("steps_per_epoch"),
        paths=chosen,
    )
    if out is None:
        return result
    result = replace(result, folder=Path(out))
    result.save(Path(out))
    result.report(Path(out) / "report.html")
    return result


def _training(folder: Path, steps: Sequence[int] | None) -> tuple[dict[str, Any], dict[int, Path]]:
    told, saved = read_settings(folder), saved_steps(folder)
    if told is None or not saved:
        raise RequestError(
            f"{folder} holds no training with checkpoints; `tunnelscope train … --out {folder}` makes one"
        )
    missing = sorted(set(steps or ()) - saved.keys())
    if missing:
        there = ", ".join(map(str, saved))
        raise RequestError(f"{folder} has no checkpoint of step {missing[0]}; there are {there}")
    return told, {step: path for step, path in saved.items() if steps is None or step in steps}


def _network(told: Mapping[str, Any], path: Path) -> Network:
    settings = told["settings"]
    return load_network(settings["model"], weights=path, classes=len(settings["classes"]))


def _test_features(network: Network, sets: Sequence[DataSet], common: Mapping[str, Any]) -> dict[str, Tensor]:
    """Features of the ID set's test rows, from the store where there is one."""
    reading = {key: common[key] for key in ("layers", "pool", "device", "precision") if key in common}
    splits = (one.train for one in sets)
    recorder = recorder_for(network, *splits, seed=common["seed"], workers=common["workers"], **reading)
    dataset = sets[0]
    names = [point.name for point in recorder.points]
    if common["cache"]:
        features = record_both(recorder, dataset, logits=False, store=Store())[1].features
    else:
        features = recorder.record(dataset.test, lambda _: None, dataset.key, logits=False).features
    return {name: features[name] for name in names}


def _cka(one: Tensor, other: Tensor) -> float:
    return float(unbiased_cka([one, other])[0, 1])


def _staged(notify: StageProgress, number: int, count: int) -> StageProgress:
    return lambda stage, done, total: notify(f"checkpoint {number}/{count}, {stage}", done, total)


def together(
    scans: Mapping[int, Scan],
    rows: Sequence[Mapping[str, Any]],
    command: str,
    *,
    training: Mapping[str, Any] | None = None,
    steps_per_epoch: int | None = None,
    paths: Mapping[int, Path] | None = None,
) -> OverTraining:
    """Put scans of one network after several steps into one table and one object.

    Args:
        scans: by step, ascending.
        rows: of the results table that only the history shows.
        command: for the record.
        training: settings of the training, where they are known.
        steps_per_epoch: where it is known.
        paths: of the weights by step, where they are kept.
    """
    import pandas as pd

    frames = [scan.frame.assign(run=step_name(step)) for step, scan in scans.items()]
    table = pd.concat([*frames, make_table(map(dict, rows))] if rows else frames, ignore_index=True)
    last = scans[max(scans)].run
    run = {
        "kind": KIND,
        "tunnelscope": last["tunnelscope"],
        "command": command,
        "model": last["model"]["name"],
        "training": training,
        "layers": last["layers"],
        "data": last["data"],
        "checkpoints": [
            {
                "step": step,
                "epoch": step / steps_per_epoch if steps_per_epoch else None,
                "weights": str(paths[step]) if paths else None,
                "network_accuracy": scan.run["network_accuracy"],
                "tunnel": scan.tunnel,
                "best_layer": scan.run["best_layer"],
                "warnings": scan.run["warnings"],
            }
            for step, scan in scans.items()
        ],
        "warnings": last["warnings"],  # a network at its start is no cause for alarm
    }
    return OverTraining(run | {"verdict": _verdict(run)}, table)


def _similarity_rows(step: int, scan: Scan, similar: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    data, count = scan.run["data"][0], len(scan.run["layers"])
    for layer in scan.run["layers"]:
        yield {
            "run": step_name(step),
            "model": scan.run["model"]["name"],
            "weights": step_name(step),
            "layer": layer["name"],
            "layer_index": layer["index"],
            "depth_fraction": layer["index"] / count,
            "dataset": data["key"],
            "role": data["role"],
            "split": "test",
            "quantity": "cka_to_last",
            "value": similar[layer["name"]],
            "protocol": CKA_PROTOCOL,
        }


def _change_rows(network: Network, paths: Mapping[int, Path]) -> Iterator[dict[str, Any]]:
    """How far each weight matrix moved since the checkpoint before: relative to its norm there, and RMS."""
    keys = [key for key, tensor in network.module.state_dict().items() if tensor.dim() > 1]  # in its order
    before: dict[str, Tensor] = {}
    for step, path in paths.items():
        state = load_weights(path)
        for key in keys if before else ():
            old = before[key].double()
            change, norm = float((state[key] - old).norm()), float(old.norm())
            about = {
                "run": step_name(step),
                "model": network.name,
                "weights": step_name(step),
                "layer": key.removesuffix(".weight"),
                "protocol": CHANGE_PROTOCOL,
            }
            yield about | {"quantity": "weight_change_relative", "value": change / norm if norm else None}
            yield about | {"quantity": "weight_change_rms", "value": change / old.numel() ** 0.5}
        before = state


def _verdict(run: Mapping[str, Any]) -> str:
    """Say where the tunnel starts after the last step, and since when it starts no later."""
    readings = [(one["step"], one["tunnel"]) for one in run["checkpoints"]]
    last_step, last = readings[-1]
    if last["start_95"] is None:
        return f"After step {last_step} no tunnel start is known: {last['reason']}."
    index = {layer["name"]: layer["index"] for layer in run["layers"]}
    end, count = index[last["start_95"]], len(run["layers"])
    since = last_step
    for step, tunnel in reversed(readings):
        if tunnel["start_95"] is None or index[tunnel["start_95"]] > end:
            break
        since = step
    tunnel = f"the tunnel starts after {last['start_95']} (layer {end} of {count})"
    if since == last_step:
        before = f"; after step {readings[-2][0]} it started later" if len(readings) > 1 else ""
        return f"After step {last_step} {tunnel}{before}."
    return f"After step {last_step} {tunnel}; it has started no later since step {since}."
