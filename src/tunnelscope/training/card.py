"""The model card beside trained weights: what they are, how they came about, how to use them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunnelscope.files import write_whole
from tunnelscope.models import Network


def write_card(path: Path, network: Network, told: Mapping[str, Any]) -> None:
    """Write a card in Markdown from what `train.json` tells."""
    settings, result = told["settings"], told["result"]
    recipe = settings["recipe"]
    kept = "best on held-out training images" if recipe["keep"] == "best" else "last"
    rows = {
        "Network": f"`{settings['model']}`, {network.parameters:,} parameters",
        "Data": f"`{settings['data']}`, {len(settings['classes'])} classes",
        "Images": f"{settings['train_rows']:,} to train on, {settings['test_rows']:,} to test",
        "Fingerprints of the data": f"`{settings['images'][:16]}`, `{settings['test_images'][:16]}` (test)",
        "Test accuracy": f"{result['accuracy']:.4f}",
        "Weights": f"after step {result['step']:,} of {result['steps']:,} ({kept})",
        "Start": settings["start"],
        "Seed": settings["seed"],
        "Numbers": settings["precision"],
        "Pixels": f"mean {settings['mean']}, std {settings['std']}" if "mean" in settings else "",
        "Time": f"{result['seconds']:,.0f} s, {result['images_per_second']:,.0f} images a second "
        f"({result['device']}, {result['threads']} threads, {result['processes']} processes)",
        "Command": f"`{told['command']}`" if told["command"] else "from Python",
    }
    rows |= {
        f"Recipe: {key}": value for key, value in recipe.items() if key != "source" and value not in ("", [])
    }
    lines = [f"# {network.name}, trained by tunnelscope", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in rows.items() if value != ""]
    if recipe["source"]:
        lines += ["", f"Recipe: {recipe['source']}."]
    if network.loadable:
        call = f'ts.load_network("{settings["model"]}", weights="model.safetensors")'
        lines += ["", "```python", "import tunnelscope as ts", "", f"network = {call}.module", "```"]
    write_whole(path, lambda partial: partial.write_text("\n".join([*lines, ""]), encoding="utf-8"))
