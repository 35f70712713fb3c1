"""Studies: a family of networks, declared in a file, trained and scanned anywhere, gathered in one table."""

EXECUTORS = ("local", "here", "slurm", "dask")
CLUSTER_WORKERS = 16  # asked for by default where the machines are others'
