"""The demo on this machine: servers, rows, models, a paced stream, live scores and a check of the counts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamscore import label_stream, score_stream, seed_topic, train_models
from streamscore.clients import elasticsearch, kafka, quality_reader, topic_records
from streamscore.clients import labels as label_client
from streamscore.config import Config
from streamscore.dashboard import server as page_server
from streamscore.errors import CheckError, CheckpointError, ConfigError, SetupError, StreamError
from streamscore.launch import submit
from streamscore.local import stack
from streamscore.local.process import tail
from streamscore.models import registry
from streamscore.stream import checkpoint, folders, lease
from streamscore.system.console import log, terminal
from streamscore.system.paths import local_path

CANDIDATE = "candidate"
"""Name of the demo's third model."""

LATE_LABELS = ("seed.label_delay=5", "labels.window=30", "labels.retry_seconds=2")
"""Overrides that send labels some seconds after their events, or never; after the window all events count."""

PATIENCE = 180.0
"""Longest time in seconds from the last event sent to the last outcome, and from a request to stop to the end."""


def with_candidate(config: Config) -> list[str]:
    """Return the overrides that train a third model, and serve it beside the configured ones.

    It is a logistic regression with ten times the regularisation, unless ``train.candidate`` has other settings.
    """
    names, settings = config.mlflow.registered_names, config.train.candidate
    if settings is None:
        settings = config.train.lr.model_copy(update={"reg_param": 10 * config.train.lr.reg_param})
    served = [model.model_dump(mode="json") for model in config.models]
    if CANDIDATE not in {model.name for model in config.models}:
        served.append({"name": CANDIDATE, "uri": f"models:/{names.candidate}@{config.mlflow.alias}"})
    return [f"train.candidate={settings.model_dump_json()}", f"models={json.dumps(served)}"]


def run(config: Config, argv: Sequence[str], keep: bool) -> None:
    """Run the demo.

    The demo first empties the topics and the index, and uses only the servers of ``streamscore up``. It reuses the
    models of an earlier run with the same settings.

    Args:
        config: the configuration.
        argv: the arguments that the configuration was loaded from, for the jobs.
        keep: leave the servers running at the end.

    Raises:
        CheckError: the counts do not agree at the end.
        CheckpointError: the checkpoint belongs to another topic, or a job uses it.
        ConfigError: the demo needs a rate and Elasticsearch.
        ModelError: a model is absent from the registry.
        ServerError: a server does not answer.
        SetupError: Java, a jar or a server is missing.
        StreamError: a job failed.
    """
    if config.seed.rate is None:
        raise ConfigError("seed.rate: the demo needs a rate, in rows per second")
    if not config.elasticsearch.enabled:
        raise ConfigError("elasticsearch.enabled: the demo compares both sinks, so it needs Elasticsearch")
    registry.import_ahead(config)
    were_running = bool(stack.running(config))
    page = None
    try:
        stack.up(config)
        page = _open_page(config, argv)
        _play(config, argv)
    finally:
        if not keep and not were_running:
            page = None
            log.info("stopped %s", " and ".join(stack.down(config)) or "nothing")
    if keep:
        log.info(
            "the servers keep running: Kafka %s, Elasticsearch %s; `streamscore down` stops them", *_addresses(config)
        )
    if page is not None:
        log.info("the live page: %s", page)


def _open_page(config: Config, argv: Sequence[str]) -> str | None:
    """Start the live page beside the servers, to stop with them; return its address, or None if it cannot start."""
    running = {server.name: server for server in stack.running(config)}
    try:
        page = running.get(page_server.NAME) or stack.add(config, page_server.server(config, argv))
    except SetupError as error:
        log.warning("no live page: %s", error)
        return None
    log.info("watch it live: %s", page.address)
    return page.address


def _play(config: Config, argv: Sequence[str]) -> None:
    environment = submit.prepare(config)
    if _trained(config):
        log.info("using the models and the test set of the last run")
    else:
        _wait_for(submit.start(train_models.JOB, config, argv, environment), train_models.NAME)
    _reset(config)
    summary_file = config.state_dir / "demo.json"
    summary_file.unlink(missing_ok=True)
    seed_log = config.state_dir / "logs" / "seed_topic.log"
    scorer = submit.start(score_stream.JOB, config, [*argv, "--json", str(summary_file)], environment)
    seeder = labeller = None
    complete = interrupted = False
    try:
        log.info(
            "when the stream is up, %s rows a second are sent in the background (log: %s)",
            f"{config.seed.rate:,.0f}",
            seed_log,
        )
        if _comes_up(config, scorer):
            if config.seed.label_delay is not None:
                label_log = config.state_dir / "logs" / "label_stream.log"
                labeller = submit.start(label_stream.JOB, config, argv, environment, label_log)
                log.info("the labels come later, and are joined in the background (log: %s)", label_log)
            seeder = submit.start(seed_topic.JOB, config, argv, environment, seed_log)
            complete = _follow(config, scorer, seeder, seed_log)
            if complete and labeller is not None:
                _await_labels(config, labeller)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        # At once: Ctrl-C has reached the scorer already, which a later signal would stop before its batch is finished.
        _stop(*(job for job in (scorer, seeder, labeller) if job is not None))
    if interrupted and not summary_file.exists():
        raise KeyboardInterrupt
    if scorer.returncode != 0:
        raise StreamError(f"score_stream ended with code {scorer.returncode}; its messages are above")
    _conclude(config, json.loads(summary_file.read_text()), complete)


def _trained(config: Config) -> bool:
    """Return whether an earlier run with the same settings left models and a test set."""
    folder = Path(config.train.output)
    try:
        figures = json.loads((folder / train_models.METRICS).read_text())
    except (OSError, ValueError):
        return False
    return (
        # Rows on another machine may have changed unnoticed.
        (config.train.path is None or local_path(config.train.path).is_file())
        and figures.get("fingerprint") == train_models.fingerprint(config)
        and (folder / train_models.TEST_SET).is_file()
        and all(registry.exists(config, model.uri) for model in config.models if model.uri.startswith("models:/"))
    )


def _reset(config: Config) -> None:
    """Delete the topics, the index and the checkpoint, so that the counts at the end are those of this run."""
    names = config.kafka.topics
    checkpoints = {config.stream.checkpoint: names.input, config.labels.checkpoint: names.labels}
    for location, topic in checkpoints.items():
        files = folders.open_folder(location)
        checkpoint.require_topic(files, location, topic)
        holder = lease.holder(files)
        if holder is not None:
            raise CheckpointError(
                f"process {holder} uses the checkpoint {location}, which the demo deletes: stop that job first"
            )
    kafka.delete(config.kafka, names.input, names.predictions, names.rejected, names.labels, names.labelled)
    search = config.elasticsearch
    elasticsearch.delete(search, search.labelled_index, search.pending_index, search.labels_status_index)
    for location in checkpoints:
        shutil.rmtree(local_path(location), ignore_errors=True)
    kafka.ensure(config.kafka, names.input, *([] if config.seed.label_delay is None else [names.labels]))


def _comes_up(config: Config, scorer: subprocess.Popen[bytes]) -> bool:
    """Wait for the query's checkpoint and return True; return False if the job ends before."""
    # Two JVMs that start together take twice as long, so the seeder starts after the scorer.
    metadata = local_path(config.stream.checkpoint) / "metadata"
    while scorer.poll() is None:
        if metadata.exists():
            return True
        time.sleep(0.2)
    return False


def _follow(config: Config, scorer: subprocess.Popen[bytes], seeder: subprocess.Popen[bytes], seed_log: Path) -> bool:
    """Wait for all events and all outcomes and return True; return False if the scorer ends before."""
    deadline = None
    while scorer.poll() is None:
        if seeder.poll() is not None:
            if seeder.returncode != 0:
                raise StreamError(
                    f"seed_topic ended with code {seeder.returncode}. The end of {seed_log}:\n{tail(seed_log)}"
                )
            deadline = deadline or time.monotonic() + PATIENCE
            events, outcomes, rejected = _counts(config)
            if outcomes == (events - rejected) * len(config.models):
                return True
            if time.monotonic() > deadline:
                return True  # the final check names what is missing
        time.sleep(0.5)
    return False


def _await_labels(config: Config, labeller: subprocess.Popen[bytes]) -> None:
    """Wait until every label that was sent has found its event."""
    sent = topic_records.extent(config.kafka, config.kafka.topics.labels).records
    deadline = time.monotonic() + PATIENCE
    while labeller.poll() is None and time.monotonic() < deadline:
        if _labels(config) == (sent, 0):
            return
        time.sleep(0.5)


def _labels(config: Config) -> tuple[int, int]:
    """Return the number of labels that were read, and of those that have not found their events."""
    with elasticsearch.client(config.elasticsearch) as server:
        counts = label_client.counts(server, config.elasticsearch, config.kafka.topics.labels)
    return counts["received"], counts["received"] - counts["matched"]


def _conclude_labels(config: Config) -> None:
    """Check that every label that was sent has found its event."""
    sent = topic_records.extent(config.kafka, config.kafka.topics.labels).records
    received, lost = _labels(config)
    text = f"{sent:,} labels sent, {received:,} joined by label_stream, {lost:,} without their event"
    if (received, lost) != (sent, 0):
        raise CheckError(f"the labels do not agree: {text}. `streamscore labels` shows what became of them")
    log.info("check: %s: they agree", text)
    with elasticsearch.client(config.elasticsearch) as server:
        server.indices.refresh(index=config.elasticsearch.quality_index)
        statistics = quality_reader.of_range(server, config, "all", round(time.time() * 1_000))
    for (name, _), each in statistics.items():
        log.info("%s: %s of %s correct", name, f"{each.correct:,}", f"{each.labelled:,}")
        if each.labelled != sent:
            raise CheckError(f"{name} has {each.labelled:,} labelled events, and {sent:,} labels were sent")


def _counts(config: Config) -> tuple[int, int, int]:
    """Return the number of records of the three topics."""
    names = config.kafka.topics
    events, outcomes, rejected = (
        topic_records.extent(config.kafka, name).records for name in (names.input, names.predictions, names.rejected)
    )
    return events, outcomes, rejected


def _conclude(config: Config, summary: dict[str, Any], complete: bool) -> None:
    """Check that both sinks have as many outcomes as there were events."""
    models = len(config.models)
    events, outcomes, rejected = _counts(config)
    documents = elasticsearch.count(config.elasticsearch)
    console = terminal()
    if config.seed.label_delay is None:
        for name, model in summary["models"].items():
            log.info("%s: %s of %s correct", name, f"{model['correct']:,}", f"{model['scored']:,}")
    if not complete:
        log.info("stopped early: %s of %s events scored", f"{summary['events']:,}", f"{events:,}")
        return
    expected = (events - rejected) * models
    text = (
        f"{events - rejected:,} events × {models} models = {expected:,}; in Kafka {outcomes:,}, "
        f"in Elasticsearch {documents:,}"
    )
    has_all_documents = config.elasticsearch.documents == 1
    if outcomes != expected or (has_all_documents and documents != expected):
        raise CheckError(f"the counts do not agree: {text}")
    if console is not None:
        console.print(f"[bold green]✓[/bold green] {text}")
    log.info("check: %s: they agree", text)
    if config.seed.label_delay is not None:
        _conclude_labels(config)


def _wait_for(job: subprocess.Popen[bytes], name: str) -> None:
    try:
        code = job.wait()
    except KeyboardInterrupt:
        _stop(job)
        raise
    if code != 0:
        raise StreamError(f"{name} ended with code {code}; its messages are above")


def _stop(*jobs: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM to jobs and wait for them; kill those that do not end."""
    for job in jobs:
        if job.poll() is None:
            # A job in the background leads its own process group, with a Python process that would outlive it.
            kill = os.killpg if os.getpgid(job.pid) == job.pid else os.kill
            kill(job.pid, signal.SIGTERM)
    for job in jobs:
        try:
            job.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            job.kill()
            job.wait()


def _addresses(config: Config) -> tuple[str, str]:
    return config.kafka.bootstrap_servers, config.elasticsearch.url
