"""Run the benchmarks: `python -m benchmarks [--quick] [--only NAME …]`, from the repository's root.

Prints a table and writes benchmarks/results.json (`--quick`: smaller sizes, bars not judged, not written).
"""

import argparse
import datetime
import importlib
import json
import sys
import time
from pathlib import Path

from benchmarks.harness import Row, hardware

GROUPS = (
    "recording",
    "metrics",
    "probes",
    "sklearn_lbfgs",
    "recipes",
    "scan",
    "training",
    "studies",
    "memory",
    "growth",
    "costs",
    "start",
)
RESULTS = Path(__file__).with_name("results.json")


def main() -> int:
    """Run the groups asked for, print their rows as they come, write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the same rows at small sizes; bars not judged")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS, help="these groups alone")
    options = parser.parse_args()
    rows: dict[str, list[Row]] = {}
    for group in options.only:
        started = time.perf_counter()
        print(f"\n{group}", flush=True)
        rows[group] = []
        for row in importlib.import_module(f"benchmarks.{group}").rows(options.quick):
            rows[group].append(row)
            print(line(row, options.quick), flush=True)
        print(f"  ({time.perf_counter() - started:.0f} s)", file=sys.stderr, flush=True)
    if not options.quick:
        write(rows)
    return 0


def line(row: Row, quick: bool) -> str:
    """The row as one line of the table."""
    spread = f" [{row.spread[0]:.3g}, {row.spread[1]:.3g}]" if row.spread else ""
    bar = "" if row.bar is None else f"   bar {row.sense} {row.bar:g}"
    judged = "" if quick or row.holds is None else "   holds" if row.holds else "   FALLS SHORT"
    told = f"   {row.accuracy}" if row.accuracy else ""
    return f"  {row.what}: {row.value:.3g}{spread}{bar}{judged}{told}"


def write(rows: dict[str, list[Row]]) -> None:
    """Put the groups' rows in the place of those of an earlier run on this processor; all others stay."""
    date = datetime.date.today().isoformat()
    kept = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    about = {"date": date, "cpu": hardware()["cpu"]}
    fresh = [row.as_dict() | {"group": group} | about for group, told in rows.items() for row in told]
    kept = fresh + [row for row in kept if row["group"] not in rows or row["cpu"] != about["cpu"]]
    kept.sort(key=lambda row: GROUPS.index(row["group"]))
    told = {"hardware": hardware(), "date": date, "rows": kept}
    RESULTS.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
