"""Kill the job every few seconds under load, for a long time, and judge what came out.

    make soak MINUTES=60

Prints a table and writes it as JSON. Every run is told by its seed; the kills are drawn from it too.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import oracle
import psutil
from jobs import Job, environment, make_archive, use_archive, written

from streamscore import config as configuration
from streamscore import score_stream, train_models
from streamscore.clients import kafka
from streamscore.config import Config
from streamscore.launch import submit
from streamscore.local import artifacts, java, stack
from streamscore.local.ports import free_port
from streamscore.system.console import log, set_up_logging

ROOT = Path(__file__).parents[2]
ENDINGS = {"kill-group": 6, "kill-jvm": 2, "kill-python": 2, "sigterm": 1, "freeze-elasticsearch": 1, "freeze-kafka": 1}
"""How a life ends, or what befalls a server meanwhile, and how often."""


@dataclass
class Load:
    """Sends messages at a steady rate from a thread."""

    config: Config
    ledger: oracle.Ledger
    rate: int
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Send until stopped."""
        began, sent = time.monotonic(), 0
        while not self.stopped.wait(0.2):
            due = int((time.monotonic() - began) * self.rate)
            oracle.send(self.config, self.ledger.next_messages(due - sent))
            sent = due


def main() -> None:
    """Run the soak and end with code 1 if the judgement is not all zero."""
    arguments = _arguments()
    set_up_logging()
    generator = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="streamscore-soak-") as name:
        work = Path(name)
        config = _config(work)
        stack.up(config)
        try:
            spark = train_models.JOB.create_session(
                config.model_copy(update={"state_dir": work / "judge"}),
                artifacts.spark_jars(config.local.artifacts_dir, java.find()),
            )
            models = oracle.train(spark, work / "models")
            kafka.ensure(config.kafka, config.kafka.topics.input)
            score_stream.check(config)
            file = work / "soak.yml"
            file.write_text(written(config))
            ledger = oracle.Ledger(arguments.seed)
            result = _soak(config, file, ledger, generator, arguments)
            result |= {"seed": arguments.seed, "sent": ledger.sent, "good": len(ledger.good), "bad": len(ledger.bad)}
            result["judgement"] = oracle.judge(spark, config, ledger, models)
            spark.stop()
        finally:
            stack.down(config)
    _report(result, arguments.json)
    sys.exit(1 if oracle.faults(result["judgement"]) else 0)


def _soak(
    config: Config, file: Path, ledger: oracle.Ledger, generator: random.Random, arguments: argparse.Namespace
) -> dict[str, Any]:
    words = submit.command(score_stream.JOB, config, ["--config", str(file)])
    archive = file.with_suffix(".jsa")
    make_archive(archive, [*words, "--available-now"], submit.prepare(config))
    use_archive(archive)
    base = {**environment(), **submit.prepare(config)}
    load = Load(config, ledger, arguments.rate)
    sender = threading.Thread(target=load.run)
    sender.start()
    began = time.monotonic()
    endings: Counter[str] = Counter()
    replays = 0
    dying: list[Job] = []
    try:
        while time.monotonic() - began < arguments.minutes * 60:
            job = Job(words, env=base)
            job.wait_for("scoring the topic")
            time.sleep(generator.uniform(0.2, 2 * arguments.every - 0.2))
            ending = generator.choices(list(ENDINGS), list(ENDINGS.values()))[0]
            endings[ending] += 1
            _befall(config, job, ending, generator)
            if ending == "kill-python":
                dying.append(job)  # the next life begins while the JVM of this one may still write
                continue
            if job.lives:
                job.kill()
            job.wait()
            replays += job.output.count("may have been written before")
            if sum(endings.values()) % 10 == 0:
                minutes = (time.monotonic() - began) / 60
                log.info(
                    "%.0f minutes, %s endings, %s messages sent", minutes, sum(endings.values()), f"{ledger.sent:,}"
                )
    finally:
        load.stopped.set()
        sender.join()
        for job in dying:
            job.wait()
    minutes = (time.monotonic() - began) / 60
    log.info("scoring what is left")
    last = Job([*words, "--available-now"], env=base)
    if last.wait(3600) != 0:
        raise SystemExit(last.output)
    kills = endings.total() - endings["sigterm"]  # after a server was frozen, the group is killed too
    return {"minutes": round(minutes, 1), "endings": dict(endings), "kills": kills, "replays": replays}


def _befall(config: Config, job: Job, ending: str, generator: random.Random) -> None:
    """Let one thing happen."""
    if ending.startswith("freeze-"):
        (server,) = (server for server in stack.running(config) if server.name == ending.removeprefix("freeze-"))
        leader = psutil.Process(server.pid)
        members = [leader, *leader.children(recursive=True)]
        for member in members:
            member.suspend()
        time.sleep(generator.uniform(1, 5))
        for member in members:
            member.resume()
    elif ending == "sigterm":
        job.signal(signal.SIGTERM)
        job.wait()
    elif ending == "kill-group":
        job.kill()
    else:
        wanted = "java" if ending == "kill-jvm" else "python"
        for member in job.members():
            if wanted in member.name():
                member.kill()
                break


def _config(work: Path) -> Config:
    """Return a configuration with servers of its own, small batches and two models."""
    return configuration.load(
        "local",
        [
            f"state_dir={work / 'state'}",
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
    parser.add_argument("--every", type=float, default=5, help="seconds of work between two kills, on average")
    parser.add_argument("--rate", type=int, default=600, help="messages per second")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--json", help="file for the result")
    return parser.parse_args()


if __name__ == "__main__":
    main()
