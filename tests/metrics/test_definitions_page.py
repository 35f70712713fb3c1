from pathlib import Path

from tunnelscope.metrics import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "definitions.md"


def test_the_page_of_definitions_says_what_the_code_says():
    rows = {line.split("`")[1]: line for line in PAGE.read_text().splitlines() if line.startswith("| `")}
    for name, metric in METRICS.items():
        cells = [metric.definition, metric.unit, metric.direction, metric.edges, metric.source]
        expected = " | ".join(cell.replace("|", "\\|") for cell in cells)
        assert rows[name] == f"| `{name}` | {expected} |"
