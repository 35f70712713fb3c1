"""The page of figures has no number that the committed results do not have."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("benchmarks.page")


def test_the_tables_are_those_of_the_committed_results():
    from benchmarks.page import PAGE, filled

    results = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    page = PAGE.read_text(encoding="utf-8")
    assert page == filled(page, results)
    results["rows"][0]["value"] = 12345.0
    assert page != filled(page, results)
