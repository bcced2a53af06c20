"""Prometheus and Alertmanager as processes of a test."""

import json
import os
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from contextlib import contextmanager

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from streamscore.local.ports import free_port

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def program(name):
    """Return the path of a program, without which the test is skipped, but not in CI."""
    found = shutil.which(name)
    if found is None:
        assert os.environ.get("CI") != "true", f"{name} is missing"
        pytest.skip(f"{name} is missing: Debian has it in the package of that name")
    return found


def read(url):
    """Return the JSON of an address."""
    with DIRECT.open(url, timeout=10) as answer:
        return json.load(answer)


def until(what, holds, seconds=60.0):
    """Wait until a function returns something true, and return that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = holds()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


def numbers(text):
    """Return the samples of a page by name and labels, in the alphabetical order of the labels' names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url) -> None:
        self.url = url

    def samples(self, query):
        """Return the labels and the number of each series that a query finds now."""
        answer = read(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
        return [(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]

    def number(self, query):
        """Return the number of a query that finds one series or none, then None."""
        return next((number for _, number in self.samples(query)), None)


@contextmanager
def prometheus(folder, targets, **config):
    """Run a Prometheus that scrapes twice a second.

    Args:
        folder: an empty folder for it.
        targets: the addresses to scrape, by the name of the job.
        config: further sections of its configuration.
    """
    port = free_port()
    jobs = [
        {"job_name": name, "static_configs": [{"targets": [target]}], "scrape_timeout": "500ms"}
        for name, target in targets.items()
    ]
    every = {"scrape_interval": "500ms", "evaluation_interval": "250ms", "scrape_timeout": "500ms"}
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump({"global": every, "scrape_configs": jobs, **config}))
    command = [program("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"]
    with running([*command, f"--web.listen-address=127.0.0.1:{port}"], folder / "prometheus.log", port):
        yield Prometheus(f"http://127.0.0.1:{port}")


@contextmanager
def alertmanager(folder, config):
    """Run an Alertmanager; return its address.

    Args:
        folder: a folder for it.
        config: its configuration.
    """
    port, file = free_port(), folder / "alertmanager.yml"
    file.write_text(yaml.safe_dump(config))
    command = [program("prometheus-alertmanager"), f"--config.file={file}", f"--storage.path={folder / 'alerts'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    with running(command, folder / "alertmanager.log", port):
        yield f"127.0.0.1:{port}"


@contextmanager
def running(command, log, port):
    """Run a program until the context ends, once it says that it is ready."""

    def is_ready():
        assert process.poll() is None, log.read_text()
        try:
            with DIRECT.open(f"http://127.0.0.1:{port}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            until(f"{command[0]} is ready", is_ready)
            yield
        finally:
            process.terminate()
