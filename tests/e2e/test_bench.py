"""The benchmark runs: two groups at the smallest scale, which need no additional package."""

import contextlib
import json

import bench
import report
import steady
from servers import Bed
from streamscore.local import stack


def test_groups_of_the_benchmark_run(servers, addresses, tmp_path, monkeypatch):
    """Each side does all of its work, or the group fails; the results can be reported."""
    names = [f"kafka.topics.{name}=bench.{name}" for name in ("input", "predictions", "rejected")]
    bed = Bed([*addresses, *names, f"stream.checkpoint={tmp_path / 'checkpoint'}", f"seed.source={tmp_path / 'rows'}"])
    bed.pids = {server.name: server.pid for server in stack.running(servers)}
    monkeypatch.setattr(bench, "running", lambda: contextlib.nullcontext(bed))
    file = tmp_path / "result.json"

    bench.measured("smoke", ["models", "seed"], file)

    result = json.loads(file.read_text())
    assert {name: len(case["rows"]) for name, case in result["cases"].items()} == {"models": 2, "seed": 1}
    texts = report.as_text(result), report.as_markdown(result)
    assert all("seed_topic ÷ the same rows" in text for text in texts)


def test_the_steady_run_reads_all_batches(own, fill, monkeypatch):
    """The run has more batches than Elasticsearch returns documents in one answer."""
    config = own()
    fill(config, seconds=60)
    monkeypatch.setattr(steady, "PAGE", 7)

    batches = steady.read_batches(config)

    assert len(batches) == 60
    assert [batch.lag for batch in batches] == [1_060 - second for second in range(60)]
