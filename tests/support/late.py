"""Labels and what they do to outcomes, for the tests of label_stream: sent to real topics, and joined by pandas."""

import json
import os
import time
from collections import Counter, defaultdict

import oracle
import pandas as pd
import pytest
from pyspark.sql import functions as F

from streamscore.clients import comparison_reader, elasticsearch, kafka, quality_reader
from streamscore.clients import labels as label_client
from streamscore.errors import StreamError
from streamscore.quality import pairs
from streamscore.quality.pairs import PairStatistic
from streamscore.quality.statistic import SUMS, Statistic, of_rows, total
from streamscore.schema import LABEL_COUNTS
from streamscore.spark import sources
from streamscore.system import failpoints

BEGIN = (round(time.time() * 1_000) - 10_800_000) // 60_000 * 60_000
"""Time of the first event, three hours ago: Kafka deletes records that are older than its retention."""
MINUTE = 60_000
EVENTS = int(os.environ.get("STREAMSCORE_TEST_LABELLED_EVENTS", "2000"))
"""Events of the test in any order: more of them take longer."""
STEP = 480_000 // EVENTS if EVENTS <= 2_000 else max(1, 7_200_000 // EVENTS)
"""Milliseconds from one event to the next."""
FATES = LABEL_COUNTS[1:-1]


def send(config, topic, records):
    """Send records (key, value, time in ms) to a topic and wait."""
    producer = kafka.producer(config.kafka)
    for number, (key, value, at) in enumerate(records, 1):
        producer.produce(topic, value, key, timestamp=at)
        if number % 10_000 == 0:
            assert producer.flush(30) == 0
    assert producer.flush(30) == 0


def send_events(config, numbers, pool, labels=None):
    """Send events, ``STEP`` milliseconds apart; keys are ``k0`` and so on."""
    send(
        config,
        config.kafka.topics.input,
        [
            (f"k{number}", oracle.message((labels or {}).get(number), pool[number % len(pool)]), BEGIN + number * STEP)
            for number in numbers
        ],
    )


def send_labels(config, labels):
    """Send labels, each (id, label, time in ms or None), in order."""
    records = []
    for identity, value, at in labels:
        content = {"id": identity, "label": value} | ({} if at is None else {"time": at})
        records.append((identity.encode(), json.dumps(content).encode(), BEGIN + 3_600_000))
    send(config, config.kafka.topics.labels, records)


def run(spark, job, config):
    """Run a job until its topic is read."""
    failpoints.arm(0)
    job.check(config)
    return job.run(spark, config)


def break_off(spark, config, monkeypatch, fault, job):
    """Run a job with a fault; return whether it struck."""
    with monkeypatch.context() as armed:
        armed.setenv("STREAMSCORE_TEST_FAULTS", "1")
        armed.setenv("STREAMSCORE_FAULT", fault)
        try:
            job.run(spark, config)
        except (StreamError, RuntimeError):
            return True
        finally:
            failpoints.arm(0)
    return False


def by_minute(config):
    """Return the statistic of each model and minute, as the page reads them; and check all lengths of windows."""
    with elasticsearch.client(config.elasticsearch, 60) as server:
        server.indices.refresh(index=config.elasticsearch.quality_index)
        lengths = config.quality.windows
        read = {seconds: quality_reader.statistics(server, config, seconds, [(0, None)])[0] for seconds in lengths}
    confusions = {
        seconds: {
            model: total(each for part, each in parts if part.model == model).confusion for model in ("lr", "svm")
        }
        for seconds, parts in read.items()
    }
    assert all(each == confusions[lengths[0]] for each in confusions.values())
    found = defaultdict(list)
    for part, statistic in read[lengths[0]]:
        found[part.model, part.begin // MINUTE].append(statistic)
    return {key: total(parts) for key, parts in found.items()}


def assert_pairs_are_those_of(config, joined):
    """Compare the paired statistics, by minute and over all time, with pandas' merge of both models' outcomes."""
    with elasticsearch.client(config.elasticsearch, 60) as server:
        shortest = {
            "bool": {"filter": [{"term": {"seconds": config.quality.windows[0]}}, {"exists": {"field": "pair"}}]}
        }
        hits = server.search(index=config.elasticsearch.quality_index, query=shortest, size=10_000)["hits"]["hits"]
        (compared,) = comparison_reader.all_of(server, config.elasticsearch)
    found = defaultdict(list)
    for hit in hits:
        found[hit["_source"]["@timestamp"] // MINUTE].append(PairStatistic.from_document(hit["_source"]))
    of_model = {name: part.set_index("event_id") for name, part in joined.groupby("model")}
    both = of_model["lr"].join(of_model["svm"], rsuffix="_svm", how="inner")
    wanted = {
        minute: pairs.of_rows(part["final"], part["prediction"], part["prediction_svm"])
        for minute, part in both.groupby(both["event_time"] // MINUTE)
    }
    assert {minute: pairs.total(parts) for minute, parts in found.items()} == wanted
    assert compared.comparison.sums == pairs.total(wanted.values())
    assert (compared.pair.champion, compared.pair.challenger) == ("lr", "svm")
    assert compared.comparison.evidence.log_maximum > 0


def assert_absent_ones_are_negatives(config, joined):
    """Compare what counts, with ``labels.absent_means``, with pandas' outcomes without a label as negatives.

    Events that are younger than the window have labels enough, or are left out.
    """
    rules = {"window": 60.0, "absent_means": 0.0}
    now = int(joined["event_time"].max()) + 86_400_000
    with elasticsearch.client(config.elasticsearch, 60) as server:
        passed = quality_reader.counted(server, _with(config, **rules), "all", now)
        awaited = quality_reader.counted(server, _with(config, window=1e6, min_coverage=1.0), "all", now)
    assert passed.awaited == 0
    for (model, _), statistic in passed.of_version.items():
        part = joined[joined["model"] == model]
        kind = "probability" if model == "lr" else "margin"
        whole = of_rows(part["final"].fillna(0.0), part["prediction"], part["score"], kind)
        assert (statistic.confusion, statistic.labels) == (whole.confusion, whole.labels)
        assert (statistic.scored, statistic.loss_events) == (whole.scored, whole.loss_events)
        assert statistic.loss == pytest.approx(whole.loss, rel=1e-9)
        assert statistic.loss_squared == pytest.approx(whole.loss_squared, rel=0.01)
    assert awaited.awaited > 0
    assert sum(each.scored for each in awaited.of_version.values()) < len(joined)


def _with(config, **labels):
    return config.model_copy(update={"labels": config.labels.model_copy(update=labels)})


def labelled_topic(spark, config):
    """Return the records of the topic of labelled outcomes."""
    rows = sources.topic(spark, config.kafka, config.kafka.topics.labelled).select("value").collect()
    return [json.loads(bytes(row["value"])) for row in rows]


def expected(spark, config, labels, conflict="last", own=None):
    """Return the statistic of each model and minute that pandas makes of outcomes and labels."""
    rows = sources.topic(spark, config.kafka, config.kafka.topics.predictions).select("value").collect()
    outcomes = pd.DataFrame([json.loads(bytes(row["value"])) for row in rows])
    outcomes = outcomes.drop_duplicates(["event_id", "model", "model_version"])
    known = sources.topic(spark, config.kafka, config.kafka.topics.labels)
    late = known.select(F.col("value").cast("string").alias("value"), "partition", "offset", F.unix_millis("timestamp"))
    arrived = pd.DataFrame(
        [(*json.loads(row[0]).values(), row[1], row[2]) for row in late.collect()],
        columns=["id", "late", "time", "partition", "offset"],
    )
    assert len(arrived) == len(labels)
    arrived = arrived.sort_values(["time", "offset", "partition"])
    chosen = arrived.groupby("id").last() if conflict == "last" else arrived.groupby("id").first()
    joined = outcomes.join(chosen, on="key")
    joined["final"] = joined["late"].where(joined["late"].notna(), joined["label"]).astype(float)
    made = {}
    for (model, minute), part in joined.groupby(["model", joined["event_time"] // MINUTE]):
        kind = "probability" if model == "lr" else "margin"
        made[model, minute] = of_rows(part["final"], part["prediction"], part["score"], kind)
    return made, joined


def assert_same(found, wanted):
    """Compare statistics: counts exactly, sums to 1e-9; the page reads no counts of predictions."""
    assert found.keys() == wanted.keys()
    for key, statistic in wanted.items():
        for name in Statistic.__dataclass_fields__.keys() - {"predictions"}:
            one, other = getattr(found[key], name), getattr(statistic, name)
            assert one == (pytest.approx(other, abs=1e-9) if name in SUMS else other), (key, name)


def counts(config):
    """Return what the status documents say became of the labels."""
    with elasticsearch.client(config.elasticsearch) as server:
        return label_client.counts(server, config.elasticsearch, config.kafka.topics.labels)


def assert_adds_up(found):
    """Each label has one fate."""
    assert found["received"] == sum(found[name] for name in FATES), found


def shuffled_labels(events, chance):
    """Return labels by arrival: 4 % never, 3 % twice, 2 % corrected; times up to two hours after the event."""
    sent = []
    for number in range(events):
        at = BEGIN + number * STEP + chance.randrange(7_200_000)
        draw, value = chance.random(), float(chance.random() < 0.4)
        if draw < 0.04:
            continue
        sent.append((f"k{number}", value, at))
        if draw < 0.07:
            sent.append((f"k{number}", value, at))
        elif draw < 0.09:
            sent.append((f"k{number}", 1.0 - value, at + chance.randrange(-1000, 1000)))
    sent += [(f"unknown{number}", 1.0, BEGIN) for number in range(events // 100)]
    chance.shuffle(sent)
    return sent


def assert_written(spark, config, documents, joined):
    """Compare the index and the topic of labelled outcomes with pandas; return the documents and the records."""
    there = documents(config, config.elasticsearch.labelled_index)
    late = joined[joined["late"].notna()]
    assert len(there) == len(late)
    for row in late.sample(200, random_state=1).to_dict("records"):
        document = there[f"{row['event_id']}-{row['model']}-{row['model_version']}"]
        assert (document["label"], document["label_time"]) == (row["late"], row["time"])
        assert document["correct"] == int(row["prediction"] == row["late"])
        assert document["label_lag_ms"] == row["time"] - row["event_time"]
    records = labelled_topic(spark, config)
    identities = Counter((each["event_id"], each["model"], each["label"], each["label_time"]) for each in records)
    assert max(identities.values()) == 1
    assert {(each["event_id"], each["model"]) for each in records} == set(
        zip(late["event_id"], late["model"], strict=True)
    )
    return there, records
