"""The state of a study: leases, deaths and failures, with many processes at it and no clock in common."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tunnelscope.errors import MachineError, RequestError
from tunnelscope.studies import state as states
from tunnelscope.studies.state import DONE, FAILED, RUNNING, WAITING, State, is_gone, is_over, this_owner
from tunnelscope.studies.units import Unit

A, B, C = (Unit("a", "train", "n"), Unit("b", "scan", "n", ("a",)), Unit("c", "scan", "m", ("b",)))


@pytest.fixture
def state(tmp_path: Path) -> State:
    made = State(tmp_path)
    made.create({"study": "s"})
    made.declare([A, B, C], frozenset())
    return made


def standing(state: State) -> dict[str, str]:
    return {status.unit.key: status.state for status in state.statuses()}


def test_a_unit_is_leased_once_and_after_what_it_needs(state):
    assert state.lease("x y 1") == A
    assert state.lease("x z 1") is None
    state.finish(A, 2.5)
    assert state.lease("x z 1") == B
    assert standing(state) == {"a": DONE, "b": RUNNING, "c": WAITING}
    assert state.statuses()[0].seconds == 2.5


def test_what_needs_a_failed_unit_fails_with_it(state):
    state.lease("x y 1")
    state.fail(A, "x y 1", "no such thing")
    assert standing(state) == dict.fromkeys("abc", FAILED)
    assert [status.error for status in state.statuses()] == ["no such thing", *["what it needs failed"] * 2]
    assert is_over(state.statuses())
    state.again(["a", "b", "c"])
    assert standing(state) == dict.fromkeys("abc", WAITING)


def test_a_unit_given_back_is_anybody_s(state):
    state.lease("x y 1")
    state.give_back(A, "x y 1")
    assert state.lease("x z 1") == A
    state.give_back(A, "x y 1")  # no longer its own
    assert standing(state)["a"] == RUNNING


def test_a_worker_that_died_here_is_found_out_at_once_and_the_third_death_fails_the_unit(state):
    code = "import sys; from pathlib import Path; from tunnelscope.studies.state import State, this_owner; "
    code += "State(Path(sys.argv[1])).lease(this_owner())"
    for death in (1, 2, 3):
        if death == 1:  # a process that was; then numbers that none has
            subprocess.run([sys.executable, "-c", code, str(state.folder)], check=True)
        else:
            state.lease(f"{states.machine()} 999999999 1.00")
        assert standing(state)["a"] == RUNNING
        [lost] = state.reclaim()
        assert lost.unit == A
        assert standing(state)["a"] == (FAILED if death == 3 else WAITING)
    assert "died 3 times" in state.statuses()[0].error


def test_deaths_with_their_driver_are_not_laid_to_the_unit(state):
    for _ in range(5):
        state.lease(f"{states.machine()} 999999999 1.00")
        state.reclaim(counts=False)
    assert standing(state)["a"] == WAITING


def test_a_beat_that_stands_still_is_judged_by_the_looker_s_own_clock(state, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(states.time, "monotonic", lambda: now[0])
    owner = "elsewhere@1 5 1.00"
    state.lease(owner)
    assert state.reclaim(lease=60) == []  # first seen
    now[0] += 59
    assert state.reclaim(lease=60) == []
    assert state.beat(A, owner)
    now[0] += 59
    assert state.reclaim(lease=60) == []  # it moved since
    now[0] += 61
    assert [lost.unit for lost in state.reclaim(lease=60)] == [A]
    assert not state.beat(A, owner)
    state.finish(A, 1.0)  # it was slow, not dead: its result is there
    assert standing(state)["a"] == DONE


def test_a_process_number_used_again_is_another_process():
    assert not is_gone(this_owner())
    assert is_gone(f"{states.machine()} {os.getpid()} 12.00")
    assert is_gone(f"{states.machine()} 999999999 12.00")
    assert not is_gone("another@1 999999999 12.00")


def lease_all(folder: str, taken: "multiprocessing.Queue[str]") -> None:
    state = State(Path(folder))
    while (unit := state.lease(this_owner())) is not None:
        taken.put(unit.key)
        state.finish(unit, 0.0)


def test_many_processes_lease_every_unit_once(tmp_path):
    state = State(tmp_path)
    state.create({"study": "s"})
    units = [Unit(f"u{number}", "train", "n") for number in range(60)]
    state.declare(units, frozenset())
    context = multiprocessing.get_context("spawn")
    taken = context.Queue()
    workers = [context.Process(target=lease_all, args=(str(tmp_path), taken)) for _ in range(3)]
    for worker in workers:
        worker.start()
    keys = [taken.get(timeout=60) for _ in units]
    for worker in workers:
        worker.join()
    assert sorted(keys) == sorted(unit.key for unit in units)
    assert taken.empty()


def test_an_edit_keeps_what_is_known(state):
    state.lease("x y 1")
    state.finish(A, 1.0)
    state.declare([A, Unit("d", "scan", "n", ("a",))], frozenset({"a"}))
    assert standing(state) == {"a": DONE, "d": WAITING}
    state.declare([A], frozenset())  # its result was removed
    assert standing(state) == {"a": WAITING}


def test_a_damaged_file_and_one_of_another_version(state):
    state.put("version", "99")
    with pytest.raises(RequestError, match="another version"):
        state.about()
    state.path.write_bytes(b"no database at all" * 100)
    with pytest.raises(RequestError, match="damaged"):
        state.statuses()


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(MachineError, match="cannot be read"):
        State(tmp_path / "none").statuses()
