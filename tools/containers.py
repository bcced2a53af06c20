"""Build the image, run the compose file on a real engine, and check both. ``make containers`` calls this.

It uses a Compose project, an image, volumes, ports and passwords of its own. Where the base images cannot be pulled,
it makes stand-ins from Debian's packages and from what ``streamscore up`` has fetched: this needs root and debootstrap.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
STAND_INS = DOCKER / "stand-ins"
ARTIFACTS = ROOT / ".streamscore" / "artifacts"
WORK = ROOT / ".streamscore" / "containers"
NAME = "streamscore-check"
PORTS = (
    *("KAFKA_PORT", "ELASTICSEARCH_PORT", "KIBANA_PORT", "PAGE_PORT", "METRICS_PORT", "LABELS_METRICS_PORT"),
    *("PROMETHEUS_PORT", "ALERTMANAGER_PORT", "GRAFANA_PORT"),
)
SECRETS = ("ELASTIC_PASSWORD", "KIBANA_PASSWORD", "KIBANA_ENCRYPTION_KEY")
OURS = ("create", "kibana-import", "train", "seed", "score", "label", "page")
ONE_SHOT = ("create", "train")
WITHOUT_KIBANA = ("kafka", "elasticsearch", "create", "train", "seed", "score", "page")
PACE_SECONDS = 3.0
PATIENCE_SECONDS = 600.0
FEW_ROWS = 5000

COUNTS = """
import json, requests
from streamscore import config
from streamscore.clients import topic_records
settings = config.load("docker")
kafka, server = settings.kafka, settings.elasticsearch
topics = {"input": kafka.topics.input, "predictions": kafka.topics.predictions, "rejected": kafka.topics.rejected}
counts = {name: topic_records.extent(kafka, topic).records for name, topic in topics.items()}
with requests.Session() as http:
    http.trust_env, http.auth = False, (server.user, server.password.get_secret_value())
    for name, index in (("documents", server.index), ("rejected documents", server.rejected_index)):
        http.post(f"{server.url}/{index}/_refresh", timeout=30).raise_for_status()
        answer = http.get(f"{server.url}/{index}/_count", timeout=30)
        answer.raise_for_status()
        counts[name] = answer.json()["count"]
print(json.dumps(counts))
"""
KILL = """
import os, psutil
for process in psutil.process_iter():
    if process.pid not in (1, os.getpid()) and ({every} or process.name() == "java"):
        process.kill()
"""


class Images(NamedTuple):
    """The base image and the servers' images: those that the project names, or stand-ins for all."""

    python: str
    kafka: str
    elasticsearch: str
    kibana: str

    @property
    def are_stand_ins(self) -> bool:
        """Whether they were made here."""
        return self.python.startswith(f"{NAME}/")


class CheckError(Exception):
    """Something is not as the documents say."""


def main() -> None:
    """Run every check in order; the first that fails ends the run with the services' last lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stand-ins", action="store_true", help="use stand-ins without asking for the base images")
    parser.add_argument("--rows", type=int, metavar="N", help="train with N rows, to save time; half are held out")
    parser.add_argument("--keep", action="store_true", help="leave the containers running")
    given = parser.parse_args()

    require_engine()
    WORK.mkdir(parents=True, exist_ok=True)
    try:
        with step("base images"):
            images = base_images(wanted() if not given.stand_ins else None)
        check(images, write_settings(images, given.rows), keep=given.keep)
    except CheckError as error:
        sys.exit(f"failed: {error}")
    limits = ", with stand-ins for Python's image and the servers, without Kibana" if images.are_stand_ins else ""
    print(f"everything holds{limits}")


def check(images: Images, settings: dict[str, str], *, keep: bool) -> None:
    """Check the image and the compose file; leave nothing running but what is to be kept."""
    compose("down", "--volumes", "--remove-orphans")
    try:
        check_image()
        check_flow(images, settings)
    except CheckError:
        print(compose("logs", "--tail", "15", "--no-color"))
        raise
    finally:
        if not keep:
            compose("down", "--volumes", "--remove-orphans")


def check_image() -> None:
    """Build the image and check what it does without a network, without a writable root, and as any user."""
    with step("build"):
        compose("build", "create")
    size, user = json.loads(docker("image", "inspect", "--format", '[{{.Size}}, "{{.Config.User}}"]', NAME))
    print(f"  {size / 1e9:.2f} GB, user {user}")
    require(user == "streamscore", f"the image runs as {user}")
    locked_down = ("run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--tmpfs", "/tmp")  # noqa: S108
    with step("offline, with a read-only root and no capabilities"):
        print(f"  {docker(*locked_down, NAME, '--version').strip()}")
    with step("Spark, in the same container, as a user without a name"):
        volume = ("--mount", "type=volume,target=/var/lib/streamscore")  # without a name, removed with the container
        user = ("--user", "12345:0", "--init", "-e", "ELASTIC_PASSWORD=none")
        docker(*locked_down, *volume, *user, NAME, "train", *row_options(FEW_ROWS))


def check_flow(images: Images, settings: dict[str, str]) -> None:
    """Bring the compose file up, kill what scores, stop and start everything, and count after each."""
    services = WITHOUT_KIBANA if images.are_stand_ins else ()
    with step("up"):
        compose("up", "--detach", *services)
        wait_until("score and the page are healthy", lambda: {state("score"), state("page")} == {"healthy"})
    for name in ONE_SHOT:
        require(exit_code(name) == 0, f"{name} ended with {exit_code(name)}")
    if not images.are_stand_ins:
        with step("Kibana"):
            wait_until("the dashboard is imported", lambda: inspect("kibana-import")["State"]["Status"] == "exited")
            require(exit_code("kibana-import") == 0, f"kibana-import ended with {exit_code('kibana-import')}")
    with step("ports"):
        check_ports(settings)
    with step("status, without the services that it does not need"):
        compose("run", "--rm", "--no-deps", "score", "status")
    with step("kill the JVM: the supervisor starts the job again"):
        killed_while_scoring(every=False)
        require(inspect("score")["RestartCount"] == 0, "the container was started again, too")
    with step("kill every process: Docker starts the container again"):
        killed_while_scoring(every=True)
        require(inspect("score")["RestartCount"] == 1, "the container was not started again")
    with step("stop: the batch in flight is finished"):
        compose("stop", "score")
        require(exit_code("score") == 0, f"score ended with {exit_code('score')}")
    with step("down and up again"):
        before = counts(in_a_new_container=True)
        compose("down")
        compose("up", "--detach", *services)
        wait_until("events go on", lambda: state("score") == "healthy" and counts()["input"] > before["input"])
    with step("count"):
        compose("stop", "seed")
        wait_until("every event has two records and two documents, and none is rejected", complete)
        print(f"  {counts()}")


def killed_while_scoring(*, every: bool) -> None:
    """Kill the JVM or all processes in the middle of the stream, and wait until more events are scored."""
    with suppress(CheckError):  # it may end with the container
        compose("exec", "-T", "score", "python", "-c", KILL.format(every=every))
    time.sleep(PACE_SECONDS)
    wait_until("score is healthy again", lambda: state("score") == "healthy")
    before = counts()["predictions"]
    wait_until("more events are scored", lambda: counts()["predictions"] > before)


def complete() -> bool:
    """Return whether each event was scored by both models, exactly once."""
    found = counts()
    twice = 2 * found["input"]
    return found == {
        "input": found["input"],
        "predictions": twice,
        "rejected": 0,
        "documents": twice,
        "rejected documents": 0,
    }


def check_ports(settings: dict[str, str]) -> None:
    """Check that the page and the metrics answer on this machine, and that no port is open to others."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for name, path, word in (("PAGE_PORT", "/", "<title>"), ("METRICS_PORT", "/metrics", "streamscore_events_total")):
        with opener.open(f"http://127.0.0.1:{settings[name]}{path}", timeout=30) as answer:
            require(word in answer.read().decode(), f"port {settings[name]} does not show {word}")
    for service in running():
        for port, bound in (inspect(service)["NetworkSettings"]["Ports"] or {}).items():
            addresses = {one["HostIp"] for one in bound or ()}
            require(addresses <= {"127.0.0.1"}, f"{service} publishes {port} on {addresses}")


def counts(*, in_a_new_container: bool = False) -> dict[str, int]:
    """Return the numbers of records and documents, asked from the container that scores, or while nothing scores."""
    new = ("run", "--rm", "--no-deps", "-T", "--entrypoint", "python", "score")
    asked = new if in_a_new_container else ("exec", "-T", "score", "python")
    counted: dict[str, int] = json.loads(compose(*asked, "-c", COUNTS))
    return counted


def base_images(images: Images | None) -> Images:
    """Return images that are here: those of the files if they can be pulled, or else stand-ins, made now."""
    if images is not None and all(map(is_here, images)):
        return images
    if images is not None:
        print("  not all can be pulled: stand-ins are made")
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        sys.exit("stand-ins need root and debootstrap (on Debian: apt-get install debootstrap)")
    if not list(ARTIFACTS.glob("kafka/*.jar")) or not list(ARTIFACTS.glob("elasticsearch-*/bin")):
        sys.exit(
            f"stand-ins need the servers in {ARTIFACTS}: fetch them with `streamscore up`, then `streamscore down`"
        )
    made = Images(*(f"{NAME}/{name}" for name in ("python", "kafka", "elasticsearch", "kibana")))
    if not exists(made.python):
        run(str(STAND_INS / "python.sh"), str(WORK), made.python)
    base = f"{NAME}/base"
    build = ("build", "--quiet", "--tag")
    python = ("--build-arg", f"PYTHON_IMAGE={made.python}")
    docker(*build, base, "--target", "base", *python, "-f", str(DOCKER / "Dockerfile"), ".")
    contents = {
        "kafka": ("libs", ARTIFACTS / "kafka"),
        "elasticsearch": ("home", max(ARTIFACTS.glob("elasticsearch-*/"))),
    }
    for name, (folder, source) in contents.items():
        context = WORK / name
        shutil.rmtree(context, ignore_errors=True)
        shutil.copytree(STAND_INS / name, context)
        shutil.copytree(source, context / folder, symlinks=True)
        docker(*build, f"{NAME}/{name}", "--build-arg", f"BASE={base}", str(context))
        shutil.rmtree(context)
    return made


def wanted() -> Images:
    """Return the images that the Dockerfile and the compose file name."""
    (python,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    text = (DOCKER / "compose.yml").read_text()
    named = {
        image.rpartition("/")[2].partition(":")[0]: image
        for image in re.findall(r"image: (\S+:\S+)$", text, re.MULTILINE)
    }
    return Images(python, named["kafka"], named["elasticsearch"], named["kibana"])


def write_settings(images: Images, rows: int | None) -> dict[str, str]:
    """Write the variables and the second compose file of this run; return the variables."""
    settings = {name: secrets.token_hex(24) for name in SECRETS} | {name: str(free_port()) for name in PORTS}
    path = WORK / "env"
    path.touch(mode=0o600)
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    services: dict[str, Any] = {name: {"image": NAME} for name in OURS}
    services["create"]["build"] = {"args": {"PYTHON_IMAGE": images.python}}
    services |= {name: {"image": getattr(images, name)} for name in ("kafka", "elasticsearch", "kibana")}
    services["passwords"] = {"image": images.elasticsearch}
    if rows is not None:
        (command,) = re.findall(r'command: \["(test .* streamscore train)"\]', (DOCKER / "compose.yml").read_text())
        services["train"]["command"] = [" ".join([command, *row_options(rows)])]
    (WORK / "compose.json").write_text(json.dumps({"services": services}, indent=1))
    return settings


def row_options(rows: int) -> list[str]:
    """Return the options that train with so many rows and hold out half of them."""
    return ["--set", f"train.rows={rows}", "--set", f"train.test_rows={rows // 2}"]


def free_port() -> int:
    """Return a port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_engine() -> None:
    """End the run unless there is an engine with Compose 2."""
    for words, remedy in (
        (("info",), "no Docker engine answers: start it, or set DOCKER_HOST"),
        (("compose", "version"), "no Compose 2: install Docker's plugin docker-compose"),
        (("buildx", "version"), "no BuildKit client: install Docker's plugin docker-buildx"),
    ):
        try:
            docker(*words)
        except (OSError, CheckError):
            sys.exit(remedy)


def is_here(image: str) -> bool:
    """Return whether an image is on this machine, pulled now if need be."""
    if exists(image):
        return True
    with suppress(CheckError):
        docker("pull", "--quiet", image)
    return exists(image)


def exists(image: str) -> bool:
    """Return whether an image is on this machine."""
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0


def inspect(service: str) -> dict[str, Any]:
    """Return what the engine knows of a service's container."""
    container = compose("ps", "--all", "--quiet", service).strip()
    (found,) = json.loads(docker("inspect", container))
    known: dict[str, Any] = found
    return known


def state(service: str) -> str:
    """Return the state of a service's health, or of its container if it does not run."""
    found = inspect(service)["State"]
    return str(found.get("Health", {}).get("Status", "") if found["Status"] == "running" else found["Status"])


def exit_code(service: str) -> int:
    """Return the exit code of a service's container."""
    return int(inspect(service)["State"]["ExitCode"])


def running() -> list[str]:
    """Return the names of the services that run."""
    return compose("ps", "--services", "--status", "running").split()


def compose(*words: str) -> str:
    """Run a command of Compose on this run's project and return its output."""
    files = ("-f", str(DOCKER / "compose.yml"), "-f", str(WORK / "compose.json"))
    command = ("compose", "--progress", "plain", "-p", NAME, "--env-file", str(WORK / "env"), *files, *words)
    return docker(*command)


def docker(*words: str) -> str:
    """Run a command of Docker and return its output."""
    return run("docker", *words)


def run(*words: str) -> str:
    """Run a command in the repository's root and return its output.

    Raises:
        CheckError: it fails; the message has the end of what it printed.
    """
    environment = os.environ | {"DOCKER_BUILDKIT": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, text=True, check=False, capture_output=True)
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise CheckError(f"{' '.join(words)} ended with {done.returncode}:\n{said}")
    return done.stdout


def wait_until(what: str, holds: Callable[[], bool]) -> None:
    """Ask until something holds; a container that is just starting answers with an error.

    Raises:
        CheckError: it does not hold in time.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        with suppress(CheckError):
            if holds():
                return
        time.sleep(PACE_SECONDS)
    raise CheckError(f"not within {PATIENCE_SECONDS:.0f} s: {what}")


def require(holds: bool, otherwise: str) -> None:
    """Raise an error unless something holds."""
    if not holds:
        raise CheckError(otherwise)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print a step and how long it took."""
    print(name, flush=True)
    begin = time.monotonic()
    yield
    print(f"  ok, {time.monotonic() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
