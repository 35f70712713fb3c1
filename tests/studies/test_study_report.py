"""What a study shows of its scans: their warnings, and of several probes the first."""

import os
from pathlib import Path

import pandas as pd
import pytest
from small_studies import DIGITS

from tunnelscope.report.study import probe_note, warning_rows, with_first_probes
from tunnelscope.report.words import UNKNOWN
from tunnelscope.studies.driver import run_study
from tunnelscope.studies.state import State, deserted
from tunnelscope.studies.units import Unit

TWO_PROBES = """
[training]
recipe = "one-cycle"
epochs = 1
[scan]
ood = ["high"]
probes = ["ridge", "knn"]
max_samples = 100
[[networks]]
model = "zoo:mlp"
id = "low"
arguments = { depth = [2, 3], width = 8 }
"""


def entry(name: str, warnings: list[str], probes: tuple[str, ...] = ("ridge", "knn"), done: int = 2) -> dict:
    states = {"train": "done"} | {f"scan {probe}": "done" for probe in probes}
    scans = {probe: f"results/scan-{probe}" for probe in probes[len(probes) - done :]}
    return {"network": name, "states": states, "scans": scans, "warnings": warnings}


def test_a_warning_stands_once_with_how_many_networks_it_is_of() -> None:
    told = {"networks": [entry("a", ["few rows", "at chance"]), entry("b", ["few rows"])]}
    assert warning_rows(told) == [("2 networks", "few rows"), ("a", "at chance")]


def test_networks_without_their_first_probe_are_not_shown_with_another() -> None:
    told = {"networks": [entry("a", []), entry("b", [], done=1)]}
    frame = pd.DataFrame({"run": ["a", "b", "c"], "value": [1.0, 2.0, 3.0]})
    assert with_first_probes(told, frame)["run"].tolist() == ["a", "c"]
    assert "(ridge)" in probe_note(told)
    assert probe_note({"networks": [entry("a", [], ("exact",), 1)]}) == ""


def test_a_study_says_what_its_scans_warn_of_and_keeps_to_its_first_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tunnelscope
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.toml").write_text(f'name = "two"\n{DIGITS}{TWO_PROBES}')
    whole = tunnelscope("study", "run", "study.toml", "--executor", "here")
    assert whole.code == 0
    assert "Of several probes the first is shown (ridge)" in whole.err
    assert "warning: 2 networks: low: no test split" in whole.err
    folder = Path("runs/two")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "no test split" in page
    assert "Of several probes the first is shown" in page
    shown = {line.split()[0]: line.split()[-1] for line in whole.out.splitlines()[1:]}
    lost = next(folder.glob("results/scan-*/report.html"))  # of ridge or of knn
    lost.unlink()
    told = tunnelscope("study", "collect", folder)
    assert told.code == 1
    assert f"{lost.parent} is not as it was made (report.html)" in told.err.replace("\n", " ")
    for line in told.out.splitlines()[1:]:
        name, *_, r = line.split()
        assert r in (shown[name], UNKNOWN), "the number of another probe"


def test_a_study_that_nobody_is_at_says_so(tmp_path: Path, tunnelscope) -> None:
    state = State(tmp_path)
    state.create({"study": "s"})
    state.declare([Unit("a", "train", "net"), Unit("b", "train", "net2")], frozenset())
    state.lease(f"{os.uname().nodename} 1 1")  # of another machine, as far as this one knows
    assert deserted(state.statuses()) == []
    assert "nobody" not in tunnelscope("study", "status", tmp_path).err
    from tunnelscope.studies import state as states

    state.lease(f"{states.machine()} 999999999 12.00")
    assert [one.unit.key for one in deserted(state.statuses())] == ["b"]
    assert "the workers of 1 are gone" in tunnelscope("study", "status", tmp_path).err
    state.finish(Unit("a", "train", "net"), 1.0)
    assert "nobody is at it any more" in tunnelscope("study", "status", tmp_path).err


def test_the_time_left_follows_from_what_is_done_in_this_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.toml").write_text(f'name = "two"\n{DIGITS}{TWO_PROBES}'.replace(', "knn"', ""))
    told: list[tuple[int, int]] = []

    def note(stage: str, done: int, total: int) -> None:
        if stage == "trainings and scans":
            told.append((done, total))

    run_study("study.toml", executor="here", only="*depth=2", progress=note)
    assert told[-1] == (2, 2)
    told.clear()
    run_study("study.toml", executor="here", progress=note)
    assert told[-1] == (2, 2)  # of four
