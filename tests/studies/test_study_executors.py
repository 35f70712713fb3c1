"""Workers of other schedulers: Dask for real, submitit on this machine, the script that Slurm is given."""

import os
import re
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from small_studies import THREE

from tunnelscope.errors import MachineError
from tunnelscope.studies.driver import run_study
from tunnelscope.studies.state import DONE, State

ONE = '[[networks]]\nmodel="zoo:mlp"\nid="low"\narguments={depth=3, width=16}\n'
GRID = '[[networks]]\nmodel="zoo:mlp"\nid="low"\narguments={depth=[3, 4, 5], width=16}\nseed=[0, 1]\n'
SBATCH = """#!/bin/sh
for last; do :; done
cp "$last" {folder}/script.sh
echo "Submitted batch job 4711"
"""


class Cluster:
    """A Dask scheduler and two workers, processes of their own."""

    def __init__(self, folder: Path):
        dask = [str(Path(sys.executable).parent / "dask")]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        file = folder / "scheduler.json"
        scheduler = [*dask, "scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
        self.scheduler = subprocess.Popen(scheduler, **quiet)
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.5)
        self.address = re.findall(r"tcp://[\d.:]+", file.read_text())[0]
        worker = [*dask, "worker", self.address, "--nthreads", "1", "--no-dashboard", "--no-nanny"]
        self.workers = [
            subprocess.Popen([*worker, "--local-directory", str(folder / f"dask-{number}")], **quiet)
            for number in range(2)
        ]

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path):
    pytest.importorskip("distributed")
    made = Cluster(tmp_path)
    yield made
    made.close()


def when_done(folder: Path, count: int, act, seconds: float = 120) -> threading.Thread:
    """Do something once so many units are done."""

    def wait() -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            state = State(folder)
            if state.is_there() and sum(one.state == DONE for one in state.statuses()) >= count:
                act()
                return
            time.sleep(0.2)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_dask_with_a_worker_killed_gives_the_same_table(write, cluster, by_two_workers, tmp_path):
    file = write(THREE)
    killing = when_done(tmp_path / "dask", 1, cluster.workers[0].kill)
    outcome = run_study(file, out=tmp_path / "dask", executor="dask", dask=cluster.address, workers=2)
    killing.join()
    assert cluster.workers[0].poll() is not None
    assert outcome.counts == {"done": 6}
    tables = [pd.read_parquet(folder / "results.parquet") for folder in (outcome.folder, by_two_workers)]
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.slow
def test_a_dask_scheduler_that_goes_away(write, cluster, tmp_path):
    file = write(GRID)
    going = when_done(tmp_path / "dask", 1, cluster.scheduler.kill)
    with pytest.raises(MachineError, match="went away"):
        run_study(file, out=tmp_path / "dask", executor="dask", dask=cluster.address, workers=2)
    going.join()
    cluster.close()
    assert run_study(file, out=tmp_path / "dask", workers=2).counts == {"done": 12}


def test_no_dask_scheduler(write, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    patient = distributed.Client
    monkeypatch.setattr(
        distributed, "Client", lambda address, timeout: patient(address, timeout=timeout / 10)
    )
    with pytest.raises(MachineError, match="no Dask scheduler answers at"):
        run_study(write(), out=tmp_path / "dask", executor="dask", dask="tcp://127.0.0.1:9")


@pytest.mark.slow
def test_submitit_on_this_machine_from_end_to_end(write, tmp_path):
    pytest.importorskip("submitit")
    slurm = '[slurm]\ncluster = "local"\ncpus = 1\n'
    outcome = run_study(write(GRID + slurm), out=tmp_path / "jobs", executor="slurm", workers=2)
    assert outcome.counts == {"done": 12}
    run_study(tmp_path / "study.toml", out=tmp_path / "plain", workers=2)
    tables = [pd.read_parquet(tmp_path / name / "results.parquet") for name in ("jobs", "plain")]
    pd.testing.assert_frame_equal(*tables)


def test_what_slurm_is_asked_for(write, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (
        ("sbatch", SBATCH.format(folder=tmp_path)),
        ("sacct", "#!/bin/sh\n"),
        ("scancel", "#!/bin/sh\n"),
        ("srun", "#!/bin/sh\n"),
    ):
        (tools / name).write_text(text)
        (tools / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    slurm = '[slurm]\npartition="gpu"\ntimeout_minutes=90\nmemory_gb=16\ncpus=4\ngpus=1\n'
    slurm += 'parameters={account="lab"}\n'
    file = write(ONE + slurm)
    folder = tmp_path / "jobs"

    def worked_elsewhere() -> None:
        while not (tmp_path / "script.sh").exists():
            time.sleep(0.1)
        from tunnelscope.studies.work import Worker

        Worker(folder).run()

    elsewhere = threading.Thread(target=worked_elsewhere)
    elsewhere.start()
    outcome = run_study(file, out=folder, executor="slurm", workers=3)
    elsewhere.join()
    assert outcome.counts == {"done": 2}
    script = (tmp_path / "script.sh").read_text()
    for asked in (
        "--array=0-2%3",
        "--time=90",
        "--mem=16GB",
        "--cpus-per-task=4",
        "--gpus-per-node=1",
        "--partition=gpu",
        "--account=lab",
        "--job-name=study-small",
        "--signal=USR2@",
    ):
        assert asked in script, asked


def test_a_job_that_runs_out_of_time_is_queued_again(tmp_path):
    pytest.importorskip("submitit")
    from tunnelscope.studies.jobs import Job

    job = Job(str(tmp_path), (), 1)
    again = job.checkpoint(2)
    assert again.function is job
    assert again.args == (2,)


def test_cores_are_shared_out(by_two_workers):
    told = [path.read_text() for path in by_two_workers.glob("results/scan-*/run.json")]
    threads = {int(found) for text in told for found in re.findall(r'"threads": (\d+)', text)}
    assert threads == {max(1, len(psutil.Process().cpu_affinity()) // 2)}
