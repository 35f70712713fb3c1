"""A study killed at random moments, its driver and its workers, ends with the table of one that was not."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from small_studies import THREE

from tunnelscope.studies.state import State, is_over

SIX = '[[networks]]\nmodel="zoo:mlp"\nid="low"\narguments={depth=[3, 4, 5], width=16}\nseed=[0, 1]\n'
GRID = "arguments={depth=[3, 4, 5], width=[8, 16]}\nseed=[0, 1, 2, 3]\n"
TWENTY_FOUR = f'[[networks]]\nmodel="zoo:mlp"\nid="low"\n{GRID}'


def start(file: Path, out: str, *more: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", "from tunnelscope.cli import main; main()", "study", "run", str(file)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([*command, "--out", out, "--workers", "2", *more], **quiet)


def finish(file: Path, out: str, *more: str) -> pd.DataFrame:
    assert start(file, out, *more).wait(600) == 0
    return pd.read_parquet(Path(out) / "results.parquet")


def workers_of(driver: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    try:
        return psutil.Process(driver.pid).children()
    except psutil.Error:
        return []


def awaited_workers(driver: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    deadline = time.monotonic() + 30
    while not (found := workers_of(driver)) and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def kill_at_random(file: Path, out: str, kills: int, seed: int, most: float) -> tuple[int, int]:
    """Kill a worker and the driver in turn, at random moments; return how often each of the two died."""
    draws = random.Random(seed)
    driver, deaths, workers = start(file, out), 0, 0
    for turn in range(kills):
        time.sleep(draws.uniform(0.2, most))
        if turn % 2:
            driver.kill()
            driver.wait()
            deaths += 1
            driver = start(file, out)
        elif victims := awaited_workers(driver):
            try:
                draws.choice(victims).send_signal(signal.SIGKILL)
                workers += 1
            except psutil.Error:
                continue
    driver.kill()
    driver.wait()
    return deaths, workers


def check_same(file: Path, plain: Path, kills: int, seed: int, most: float) -> None:
    drivers, workers = kill_at_random(file, "killed", kills, seed, most)
    assert drivers > 0
    assert workers > 0
    killed = finish(file, "killed")
    pd.testing.assert_frame_equal(killed, pd.read_parquet(plain / "results.parquet"))
    assert not killed.duplicated(["run", "layer", "layer_b", "dataset", "split", "quantity", "seed"]).any()
    variables = [pd.read_parquet(out / "variables.parquet") for out in (Path("killed"), plain)]
    pd.testing.assert_frame_equal(*variables)


def test_a_study_whose_worker_and_driver_were_killed_ends_the_same(write, by_two_workers):
    check_same(write(THREE), by_two_workers, kills=2, seed=1, most=6.0)


@pytest.mark.slow
def test_a_study_of_24_networks_killed_20_times_ends_the_same(write):
    file = write(TWENTY_FOUR)
    finish(file, "plain")
    check_same(file, Path("plain"), kills=20, seed=2, most=8.0)


@pytest.mark.slow
def test_two_drivers_on_one_folder_do_no_harm(write):
    file = write(SIX)
    first, second = start(file, "both"), start(file, "both")
    assert (first.wait(300), second.wait(300)) == (0, 0)
    pd.testing.assert_frame_equal(pd.read_parquet("both/results.parquet"), finish(file, "plain"))


def test_ctrl_c_ends_the_workers_and_says_how_to_go_on(write):
    file = write(SIX)
    command = [sys.executable, "-c", "from tunnelscope.cli import main; main()", "study", "run", str(file)]
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not workers_of(driver) and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = workers_of(driver)
    assert workers
    time.sleep(3)
    os.kill(driver.pid, signal.SIGINT)
    out, err = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "the same command goes on" in err
    assert out == ""
    assert not [one for one in workers if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
def test_workers_end_with_their_driver(write, monkeypatch):
    driver = start(write(SIX), "orphans")
    deadline = time.monotonic() + 60
    while not workers_of(driver) and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = workers_of(driver)
    driver.kill()
    driver.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert workers
    assert not alive
    assert not is_over(State(Path("orphans")).statuses())  # they ended for its sake, not for want of work
