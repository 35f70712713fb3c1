"""Parts of small studies of MLPs on digits."""

DIGITS = """
[data.low]
source = "sklearn:digits?classes=0-4&per_class=40"
[data.high]
source = "sklearn:digits?classes=5-9&per_class=40"
"""
HOW = """
[training]
recipe = "one-cycle"
epochs = 3
[scan]
ood = ["high"]
probes = ["ridge"]
"""
TWO = """
[[networks]]
model = "zoo:mlp"
id = "low"
arguments = { depth = [3, 4], width = 16 }
"""
