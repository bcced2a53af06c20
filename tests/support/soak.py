"""Let mishaps befall the job every few seconds under load, for a long time, and judge what came out.

    make soak MINUTES=60

Prints a table and writes it as JSON. A seed determines the messages of a run; the mishaps are drawn from it too.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mishaps
import oracle
from cluster import Cluster
from jobs import Job, environment, make_archive, use_archive, written

from streamscore import config as configuration
from streamscore import score_stream, train_models
from streamscore.config import Config
from streamscore.errors import ServerError
from streamscore.launch import submit
from streamscore.local import artifacts, elasticsearch, java, process
from streamscore.local.ports import free_port
from streamscore.system.console import log, set_up_logging

ROOT = Path(__file__).parents[2]
_STARTS = 20
"""Number of starts without reachable servers before the soak test gives up."""


def main() -> None:
    """Run the soak test, and exit with code 1 if the oracle reports a fault."""
    arguments = _arguments()
    set_up_logging()
    with tempfile.TemporaryDirectory(prefix="streamscore-soak-") as name:
        work = Path(name)
        config = _config(work)
        with mishaps.disk(work / "checkpoints") as has_own_disk, _servers(config) as (cluster, index):
            spark = train_models.JOB.create_session(
                config.model_copy(update={"state_dir": work / "judge"}),
                artifacts.spark_jars(config.local.artifacts_dir, java.find()),
            )
            models = oracle.train(spark, work / "models")
            topics = config.kafka.topics
            cluster.make(topics.input, topics.predictions, topics.rejected)
            score_stream.check(config)
            ledger = oracle.Ledger(arguments.seed)
            scene = mishaps.Scene(
                config,
                cluster,
                index,
                mishaps.Load(config, ledger, arguments.rate),
                _starter(config, work / "soak.yml"),
                random.Random(arguments.seed),
                has_own_disk,
            )
            result = _soak(scene, arguments)
            result |= {"seed": arguments.seed, "sent": ledger.sent, "good": len(ledger.good), "bad": len(ledger.bad)}
            result["judgement"] = oracle.judge(spark, config, ledger, models)
            spark.stop()
    _report(result, arguments.json)
    sys.exit(1 if oracle.faults(result["judgement"]) else 0)


@contextmanager
def _servers(config: Config) -> Iterator[tuple[Cluster, process.Running]]:
    """Start three brokers and Elasticsearch, and stop them at the end."""
    cluster = Cluster(config)
    server = elasticsearch.server(config, java.find())
    index = process.start(server)
    try:
        cluster.wait()
        deadline = time.monotonic() + config.local.start_seconds
        while True:
            try:
                server.probe()
                break
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        yield cluster, index
    finally:
        process.stop(index)
        cluster.stop()


def _starter(config: Config, file: Path) -> Callable[..., Job]:
    """Return a function that starts the job with further arguments."""
    file.write_text(written(config))
    words = submit.command(score_stream.JOB, config, ["--config", str(file)])
    base = submit.prepare(config)
    archive = file.with_suffix(".jsa")
    make_archive(archive, [*words, "--available-now"], base)
    use_archive(archive)
    return lambda *arguments: Job([*words, *arguments], env={**environment(), **base})


def _soak(scene: mishaps.Scene, arguments: argparse.Namespace) -> dict[str, Any]:
    sender = threading.Thread(target=scene.load.run)
    sender.start()
    names = arguments.mishaps.split(",")
    frequencies = [mishaps.ENDINGS[name][0] for name in names]
    began = time.monotonic()
    endings: Counter[str] = Counter()
    replays = 0
    dying: list[Job] = []
    try:
        while time.monotonic() - began < arguments.minutes * 60:
            job = _scoring(scene)
            time.sleep(scene.generator.uniform(0.2, 2 * arguments.every - 0.2))
            ending = scene.generator.choices(names, frequencies)[0]
            endings[ending] += 1
            scene.befall(ending, job)
            if ending == "kill-python":
                dying.append(job)  # the next run begins while this JVM may still write
                continue
            if job.lives:
                job.kill()
            job.wait()
            replays += job.output.count("may have been written before")
            if sum(endings.values()) % 10 == 0:
                minutes = (time.monotonic() - began) / 60
                log.info(
                    "%.0f minutes, %s endings, %s messages sent",
                    minutes,
                    sum(endings.values()),
                    f"{scene.load.ledger.sent:,}",
                )
    finally:
        scene.load.stopped.set()
        sender.join()
        for job in dying:
            job.wait()
    minutes = (time.monotonic() - began) / 60
    log.info("scoring what is left")
    last = scene.start("--available-now", *scene.arguments)
    if last.wait(3600) != 0:
        raise SystemExit(last.output)
    kills = endings.total() - endings["sigterm"]  # after every other fault the group is killed unless it has ended
    return {"minutes": round(minutes, 1), "endings": dict(endings), "kills": kills, "replays": replays}


def _scoring(scene: mishaps.Scene) -> Job:
    """Start the job until one run reaches its servers, which may be frozen for a moment, and scores."""
    for _ in range(_STARTS):
        job = scene.start(*scene.arguments)
        try:
            job.wait_for("scoring the topic")
        except AssertionError:
            if job.lives or job.wait() != ServerError.exit_code:
                raise
        else:
            return job
    raise SystemExit(job.output)


def _config(work: Path) -> Config:
    """Return a configuration with its own servers, small batches and two models."""
    return configuration.load(
        "local",
        [
            f"state_dir={work / 'state'}",
            f"stream.checkpoint={work / 'checkpoints' / 'first'}",
            f"local.artifacts_dir={ROOT / '.streamscore' / 'artifacts'}",
            f"kafka.bootstrap_servers=127.0.0.1:{free_port()}",
            f"elasticsearch.url=http://127.0.0.1:{free_port()}",
            "stream.trigger_seconds=0.2",
            "stream.max_events_per_batch=5000",
            f"models=[{{name: lr, uri: {work / 'models' / 'lr'}}}, {{name: svm, uri: {work / 'models' / 'svm'}}}]",
        ],
    )


def _report(result: dict[str, object], path: str | None) -> None:
    rows = [(name, value) for name, value in result.items() if not isinstance(value, dict)]
    for section in ("endings", "judgement"):
        rows += [(f"{section}: {name}", value) for name, value in dict(result[section]).items()]  # type: ignore[call-overload]
    for name, value in rows:
        sys.stdout.write(f"{name:<32} {value:>12}\n")
    if path:
        Path(path).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--every", type=float, default=5, help="seconds of work between two mishaps, on average")
    parser.add_argument("--rate", type=int, default=600, help="messages per second")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument(
        "--mishaps", default=",".join(mishaps.ENDINGS), help="what may befall the job; default: %(default)s"
    )
    parser.add_argument("--json", help="file for the result")
    return parser.parse_args()


if __name__ == "__main__":
    main()
