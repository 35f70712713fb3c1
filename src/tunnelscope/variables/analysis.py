"""`ts.effects`: the whole analysis of one table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunnelscope import __version__
from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.files import check_writable, write_json
from tunnelscope.variables import leaks, published
from tunnelscope.variables.cautions import warnings_of
from tunnelscope.variables.grouped import ceiling, foretold, grouped_r2
from tunnelscope.variables.mixed import mixed_slopes
from tunnelscope.variables.observations import Observations, of_frame, of_results, of_scans, read_table
from tunnelscope.variables.pairs import Pair, all_pairs, bands_of
from tunnelscope.variables.planner import Prediction, check_plan, error_of, predictions, read_plan
from tunnelscope.variables.slopes import (
    FEWEST_NETWORKS,
    RESAMPLES,
    Slopes,
    bootstrap,
    check_networks,
    design_of,
    scaled,
    seed_spread,
    slopes_of,
)

if TYPE_CHECKING:
    import pandas as pd

SEEDS = range(1, 4)  # of the model, beside 0
GAMMA = ("gamma", "overparam", "over-param", "γ", "parameters")  # how what follows from others is called


@dataclass(frozen=True, repr=False)
class Effects:
    """What a table says of its variables.

    Attributes:
        observations: the table.
        pairs: levels of a variable compared, networks matched by name.
        slopes: by target; empty of a table that has too few networks.
        intervals: of the slopes, by target and variable; empty without bootstrap.
        r2_grouped, r2_ceiling, mixed, seeds: by target.
        predictions: of the plan's networks.
        prediction_error: by target, how far off means over OOD sets of networks and of architectures are that
            the model was not shown: `network`, `architecture`, and `reach` of the predictions' intervals.
        bands: how many networks have which strength of tunnel.
        left_out: observations that were left out, as asked: `network`, `ood`, `reason`.
        warnings: a line for each.
    """

    observations: Observations
    pairs: list[Pair]
    slopes: dict[str, Slopes] = field(default_factory=dict)
    intervals: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    r2_grouped: dict[str, dict[str, float]] = field(default_factory=dict)
    r2_ceiling: dict[str, float] = field(default_factory=dict)
    mixed: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    seeds: dict[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    predictions: list[Prediction] = field(default_factory=list)
    prediction_error: dict[str, dict[str, float]] = field(default_factory=dict)
    bands: Mapping[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)

    def __repr__(self) -> str:
        given = self.observations
        return f"<Effects of {len(given.variables)} variables on {len(given.networks)} networks>"

    def shap(self) -> "pd.DataFrame":
        """SHAP values, one row each: target, variable, level, code (0 to 1), value."""
        import pandas as pd

        given, design = self.observations, design_of(self.observations)
        parts = [
            pd.DataFrame(
                {
                    "target": target,
                    "variable": name,
                    "level": given.frame[name].astype(str),
                    "code": scaled(design, place),
                    "value": one.values[:, place],
                }
            )
            for target, one in self.slopes.items()
            for place, name in enumerate(given.variables)
        ]
        columns = ["target", "variable", "level", "code", "value"]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)

    def save(self, folder: str | Path, command: str = "ts.effects", *, figures: bool = False) -> Path:
        """Write effects.json, pairs.csv, slopes.csv, their LaTeX, and report.html into a folder.

        Args:
            command: for the record.
            figures: whether every figure is also drawn as SVG and PDF, into `figures`.

        Raises:
            MachineError: it cannot be written.
        """
        from tunnelscope.report.effects import write_effects, write_effects_figures
        from tunnelscope.variables.files import write_tables

        folder, told = Path(folder), self.as_dict()
        check_writable(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "effects.json", told | {"command": command})
        write_tables(told, folder)
        given = told, self.observations.frame, self.shap()
        write_effects(*given, folder / "report.html", command)
        if figures:
            write_effects_figures(*given, folder / "figures")
        return folder

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "tunnelscope": __version__,
            "networks": len(self.observations.networks),
            "rows": len(self.observations.frame),
            "variables": list(self.observations.variables),
            "slopes": {target: one.slope for target, one in self.slopes.items()},
            "slopes_normalised": {target: one.normalised() for target, one in self.slopes.items()},
            "line_r2": {target: one.line_r2 for target, one in self.slopes.items()},
            "r2": {target: one.r2 for target, one in self.slopes.items()},
            "r2_grouped": self.r2_grouped,
            "r2_ceiling": self.r2_ceiling,
            "intervals": {
                target: {name: list(bounds) for name, bounds in told.items()}
                for target, told in self.intervals.items()
            },
            "seed_spread": {
                target: {name: list(bounds) for name, bounds in told.items()}
                for target, told in self.seeds.items()
            },
            "mixed": self.mixed,
            "pairs": [pair.as_dict() for pair in self.pairs],
            "bands": dict(self.bands),
            "left_out": self.left_out,
            "warnings": self.warnings,
            "predictions": [vars(one) for one in self.predictions],
            "prediction_error": self.prediction_error,
        }


def effects(
    table: "str | Path | pd.DataFrame | Observations | Sequence[str | Path]",
    *,
    variables: str | Path | None = None,
    probe: str | None = None,
    targets: Sequence[str] | None = None,
    slopes: bool | None = None,
    resamples: int = RESAMPLES,
    predict: "str | Path | Sequence[Mapping[str, Any]]" = (),
    without_leaks: bool = False,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Effects:
    """Say which variables of a table of networks move r, ρ and A, by how much and how surely.

    Args:
        table: the released table of Harun et al. 2024, a table with columns `network`, `ood`, `r`, `rho`, `A`
            and variables (a file or a frame), a folder with `results.parquet` and `variables.parquet`, or the
            folders of several scans.
        variables: of scans: a file with the column `network` and one a variable.
        probe: of a folder of results with several probes, whose r, ρ and A; the first's by default.
        targets: of r, rho, A; all that the table has by default.
        slopes: whether a model is fitted; by default where there are 8 networks or more.
        resamples: of networks, for the intervals of slopes; 0 for none.
        predict: networks to foretell, each a mapping of every variable to its level, or a TOML file of them
            ([[network]] tables).
        without_leaks: leave out observations whose OOD set shares classes with the network's own data, or of
            whose test images more than 0.1 % equal or nearly equal images it was trained on. Of tables that
            are no scans it needs a column `leakage`: why a row is to be left out, or empty.
        seed: of the resamples.
        progress: called with (stage, done, total).

    Raises:
        RequestError: a table that cannot be analysed, an unknown target or probe, slopes of fewer than 8
            networks, a table that does not tell what its OOD sets share with the networks' own data.
    """
    given = _observations(table, variables, probe)
    given = _with_targets(given, targets)
    given, left_out = leaks.without_leaks(given) if without_leaks else (given, [])
    is_file = isinstance(predict, (str, Path))
    plan = read_plan(predict) if is_file else predict
    check_plan(plan, given.variables, str(predict) if is_file else "the plan")
    notify = progress or (lambda stage, done, total: None)
    design = design_of(given)
    pairs = published.published_pairs(given) if is_released(given) else all_pairs(given, derived_of(given))
    warnings = [*given.notes, *leaks.lines_of(left_out, given), *warnings_of(given, design)]
    found = Effects(given, pairs, warnings=warnings, left_out=left_out)
    if "r" in given.targets:
        found.bands.update(bands_of(given))  # pyright: ignore[reportAttributeAccessIssue]
    if slopes is None:
        slopes = len(given.networks) >= FEWEST_NETWORKS
        if not (slopes or plan):
            found.warnings.append(
                f"{len(given.networks)} networks are too few for slopes; pairs alone are given"
            )
    if not (slopes or plan):
        return found
    check_networks(given)
    for place, target in enumerate(given.targets):
        notify("fitting models", place, len(given.targets))
        values = given.frame[target].to_numpy(float)
        found.slopes[target] = slopes_of(design, values)
        found.seeds[target] = seed_spread(design, values, SEEDS)
        predicted = foretold(given, design, target)
        found.r2_grouped[target] = grouped_r2(given, target, predicted)
        found.r2_ceiling[target] = ceiling(given, target)
        found.mixed[target] = mixed_slopes(given, design, target)
        found.prediction_error[target] = error_of(given, target, predicted)
    notify("fitting models", len(given.targets), len(given.targets))
    if plan:
        found.predictions.extend(predictions(given, design, plan, found.prediction_error))
    if resamples:
        report = lambda done: notify("resampling networks", done, resamples)  # noqa: E731
        found.intervals.update(bootstrap(given, design, resamples, seed, report))
    return found


def is_released(given: Observations) -> bool:
    """Whether a table is the released one with its networks named: then the paper's groups are known."""
    names = given.frame.get("id_set")
    return given.variables == published.VARIABLES and names is not None and bool((names != "").all())


def derived_of(given: Observations) -> list[str]:
    """Variables that follow from a network and its data, such as γ; pairs do not hold them equal."""
    return [name for name in given.variables if name.lower().startswith(GAMMA)]


def _observations(table: Any, variables: str | Path | None, probe: str | None) -> Observations:
    if probe is not None:
        if variables is not None:
            raise RequestError("a probe is chosen of a study's folder, which tells its variables itself")
        if isinstance(table, (str, Path)) and Path(table).is_dir():
            return of_results(Path(table), probe)
        raise RequestError("a probe is chosen only of a folder with results.parquet, such as a study's")
    if isinstance(table, (list, tuple)):
        return of_scans(table, variables)
    if variables is not None:
        raise RequestError("variables are told apart from the table only of scans; name their folders")
    if isinstance(table, Observations):
        return table
    if isinstance(table, (str, Path)):
        return read_table(table)
    return of_frame(table)


def _with_targets(given: Observations, targets: Sequence[str] | None) -> Observations:
    if targets is None:
        return given
    for target in targets:
        if target not in given.targets:
            raise unknown_name("target", target, given.targets)
    if not targets:
        raise RequestError("no target is named; there are r, rho and A")
    return replace(given, targets=tuple(targets))
