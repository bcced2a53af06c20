"""The supervisor: its restarts, and when it gives up."""

import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from streamscore import cli
from streamscore.errors import RefusedError, ServerError
from streamscore.launch import submit, supervisor
from streamscore.system import failpoints


def jobs(*scripts):
    """Return a function that starts Python scripts in turn, repeating the last one, and the list of started jobs."""
    started = []

    def start():
        script = scripts[min(len(started), len(scripts) - 1)]
        started.append(script)
        return subprocess.Popen([sys.executable, "-c", script])

    return start, started


def run(*scripts, most=5):
    """Supervise scripts without delays; return the exit code and the number of starts."""
    start, started = jobs(*scripts)
    return supervisor.supervise(start, most, first_delay=0.01), len(started)


def test_orderly_end_is_the_end():
    """A job that ends with code 0 is not restarted."""
    assert run("") == (0, 1)


@pytest.mark.parametrize("code", [1, 2, 3, 4, 6, 9, 10])
def test_fault_that_would_only_repeat_is_the_end(code):
    """A permanent fault is not restarted."""
    assert run(f"exit({code})") == (code, 1)


@pytest.mark.parametrize("code", [50, 52])
def test_jvm_without_memory_is_the_end_and_is_told(caplog, code):
    """A JVM without memory is not restarted, with a message."""
    assert run(f"exit({code})") == (code, 1)
    assert f"code {code}: it is out of memory" in caplog.text


@pytest.mark.parametrize("death", ["exit(5)", "exit(7)", "exit(137)", "import os; os.kill(os.getpid(), 9)"])
def test_fault_that_may_pass_is_tried_again(death):
    """A transient fault and a kill are restarted."""
    assert run(death, death, "") == (0, 3)


def test_job_that_keeps_dying_is_given_up():
    """After too many failures the supervisor ends with the last exit code."""
    assert run("exit(7)", most=3) == (7, 4)
    assert run("import os; os.kill(os.getpid(), 9)", most=1) == (137, 2)


def test_delays_grow(monkeypatch):
    """Delays double up to a limit."""
    waited = []

    class Impatient(threading.Event):
        def wait(self, timeout=None):
            waited.append(timeout)
            return False

    # Not `Event.wait` itself, which every starting thread uses, also Spark's.
    monkeypatch.setattr(supervisor, "threading", SimpleNamespace(Event=Impatient))
    start, _ = jobs("exit(7)")
    supervisor.supervise(start, 8)

    assert waited == [1, 2, 4, 8, 16, 32, 60, 60]


def test_healthy_run_resets_the_count(monkeypatch):
    """A healthy run resets the count of failures."""
    monkeypatch.setattr(supervisor, "HEALTHY_SECONDS", -1.0)

    assert run("exit(7)", "exit(7)", "exit(7)", "exit(7)", "", most=1) == (0, 5)


@pytest.fixture
def hangup():
    """SIGHUP as a terminal has it: below nohup it is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_is_passed_on_and_ends_the_supervision(tmp_path, number):
    """A signal, also SIGHUP of a closed terminal, is passed to the job, which is not restarted."""
    ready = tmp_path / "ready"
    script = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); "
        f"open({str(ready)!r}, 'w').close(); time.sleep(60)"
    )
    start, started = jobs(script)

    def ask():
        while not ready.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    threading.Thread(target=ask).start()

    assert supervisor.supervise(start, 5) == 7
    assert len(started) == 1


def test_signal_that_comes_while_the_job_starts_is_not_lost():
    """A signal during the start of a job is passed to it afterwards."""

    def start():
        os.kill(os.getpid(), signal.SIGTERM)
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

    began = time.monotonic()
    assert supervisor.supervise(start, 5) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 30


def test_server_that_is_away_at_the_start_is_waited_for(monkeypatch):
    """An unreachable server is waited for at the start, as after a reboot; a refusal is permanent."""

    def check(error):
        raise error

    monkeypatch.setattr(submit, "prepare", lambda _: {})
    monkeypatch.setattr(submit, "start", lambda *_: subprocess.Popen([sys.executable, "-c", ""]))
    settings = SimpleNamespace(config=SimpleNamespace(stream=SimpleNamespace(max_restarts=1)))
    away, refused = (
        SimpleNamespace(NAME="a job", parse=lambda _: settings, check=lambda _, error=error: check(error))
        for error in (ServerError("away"), RefusedError("refused"))
    )

    assert cli._supervise(away, []) == 0
    with pytest.raises(RefusedError):
        cli._supervise(refused, [])


@pytest.mark.parametrize(
    "environment",
    [{"STREAMSCORE_FAULT": "entry:raise:1"}, {"STREAMSCORE_FAULT": "entry:raise:1", "STREAMSCORE_TEST_FAULTS": "0"}],
)
def test_faults_on_purpose_are_inert_without_the_test_flag(monkeypatch, environment):
    """Failpoints need the test flag."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    failpoints.arm(1)
    failpoints.reach("entry")


def test_armed_fault_strikes_at_its_moment_only(monkeypatch):
    """A failpoint strikes once, at the given pass of its point."""
    monkeypatch.setenv("STREAMSCORE_TEST_FAULTS", "1")
    monkeypatch.setenv("STREAMSCORE_FAULT", "index:raise:2")
    failpoints.arm(1)
    failpoints.reach("index")
    failpoints.reach("entry")
    with pytest.raises(RuntimeError, match="a fault on purpose at index"):
        failpoints.reach("index")
    failpoints.reach("index")
    monkeypatch.delenv("STREAMSCORE_FAULT")
    failpoints.arm(1)
