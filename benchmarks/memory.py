"""Memory of the scoring job as it is submitted, while it runs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence

import psutil

from streamscore import score_stream
from streamscore.clients import topic_records
from streamscore.config import Config
from streamscore.launch import submit


def peaks(config: Config, keys: Sequence[str], records: int) -> Iterator[tuple[float, float]]:
    """Submit the job and yield, while it runs, the share of its records that are written and its peak memory so far."""
    environment = submit.prepare(config)
    words = [word for key in keys for word in ("--set", key)]
    checkpoint = f"stream.checkpoint={config.stream.checkpoint}"
    job = submit.start(
        score_stream.JOB, config, [*words, "--set", checkpoint], environment, config.state_dir / "memory.log"
    )
    peak = 0.0
    while job.poll() is None:
        peak = max(peak, _jvm_gigabytes(job))
        written = topic_records.extent(config.kafka, config.kafka.topics.predictions).records
        if written:
            yield written / records, peak
        time.sleep(0.2)
    if job.returncode:
        raise RuntimeError(f"score_stream ended with code {job.returncode}; see {config.state_dir / 'memory.log'}")


def _jvm_gigabytes(job: subprocess.Popen[bytes]) -> float:
    """Return the resident memory of a job's JVM: spark-submit turns into it."""
    try:
        leader = psutil.Process(job.pid)
        return max(
            (p.memory_info().rss / 1e9 for p in (leader, *leader.children(recursive=True)) if p.name() == "java"),
            default=0.0,
        )
    except psutil.NoSuchProcess:
        return 0.0
