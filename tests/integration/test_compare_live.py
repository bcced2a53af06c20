"""A live comparison through Kafka: the same verdict on the terminal, the command line, the page and the report."""

import json
import random
import time

import oracle
import pytest
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.linalg import Vectors

from streamscore import models, score_stream
from streamscore.cli import comparisons
from streamscore.clients import elasticsearch, kafka
from streamscore.dashboard import report
from streamscore.quality import comparison_text, paired, pairs

EVENTS = 30_000


@pytest.fixture(scope="module")
def folders(spark, tmp_path_factory):
    """Two models that predict what one of the two features says."""
    saved = {}
    for place, name in enumerate(("lr", "svm")):
        rows = [(float(signs[place] > 0), Vectors.dense(signs)) for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
        folder = tmp_path_factory.mktemp("signs") / name
        fitted = Pipeline(stages=[LogisticRegression(regParam=0.5)]).fit(
            spark.createDataFrame(rows, ["label", "features"])
        )
        fitted.save(str(folder))
        models.sign(spark, folder, [features for _, features in rows], {}, {})
        saved[name] = str(folder)
    return saved


def events(only_champion, only_challenger, seed):
    """Return labels and features: shares of events that only one of the models gets right; 78 % both do."""
    generator = random.Random(seed)
    made = []
    for _ in range(EVENTS):
        label, chance = float(generator.random() < 0.4), generator.random()
        right = (False, False)
        if chance < only_champion:
            right = (True, False)
        elif chance < only_champion + only_challenger:
            right = (False, True)
        elif chance < 0.88:
            right = (True, True)
        truth = 1.0 if label else -1.0
        made.append((label, [truth if each else -truth for each in right]))
    return made


def reference(made):
    """Return the paired statistic of events."""
    labels = [label for label, _ in made]
    return pairs.of_rows(labels, *([float(features[place] > 0) for _, features in made] for place in (0, 1)))


def flat(compared):
    """Return the numbers of a comparison, and its texts, in one dictionary."""
    nested = {name: found for name, found in compared.items() if isinstance(found, dict)}
    inner = {f"{name}.{part}": value for name, found in nested.items() for part, value in found.items()}
    return inner | {name: found for name, found in compared.items() if name not in nested}


@pytest.mark.parametrize(
    ("shares", "verdict"), [((0.04, 0.06), "better"), ((0.06, 0.04), "worse"), ((0.05, 0.05), None)]
)
def test_verdict_of_a_live_run_is_the_same_everywhere(spark, own, produce, folders, shares, verdict):
    """A difference of 2 points ends in the right verdict, none in none, with the numbers of the events themselves."""
    config = own(
        oracle.listed(folders), "stream.available_now=true", "stream.max_events_per_batch=2000", "compare.margin=0.001"
    )
    kafka.ensure(config.kafka, config.kafka.topics.input)
    made = events(*shares, seed=7)
    produce(
        config.kafka,
        config.kafka.topics.input,
        [
            json.dumps({"label": label, "features": {"type": 1, "values": features}}).encode()
            for label, features in made
        ],
    )
    score_stream.check(config)
    summary = score_stream.run(spark, config)
    with elasticsearch.client(config.elasticsearch) as client:
        client.indices.refresh(index=config.elasticsearch.quality_index)
    (of_terminal,) = summary["comparisons"]
    (stored,) = comparisons.read(config)
    of_command = comparisons.as_json(stored, config.compare.margin)
    snapshot = report.read(config, "all", round(time.time() * 1_000))
    (card,) = snapshot.comparisons
    wanted = reference(made)

    assert flat(of_terminal) == pytest.approx(flat({name: of_command[name] for name in of_terminal}))
    assert card.compared == stored
    assert of_command["verdict"] == verdict
    assert (of_command["n"], of_command["n10"], of_command["n01"]) == (
        EVENTS,
        wanted.only_challenger,
        wanted.only_champion,
    )
    assert of_command["difference"] == pytest.approx(paired.accuracy_difference(wanted).to_json())
    assert card.course[-1].value == pytest.approx(100 * of_command["difference"]["value"])
    html = report.compose(config, snapshot)
    assert f'data-verdict="{verdict or "none"}" data-n="{EVENTS}"' in html
    assert comparison_text.difference(stored.comparison) in html
