"""A newcomer's pipeline, as a notebook saves it, scores text-labelled messages on the real servers."""

import json

from pyspark.ml import Pipeline
from pyspark.ml.classification import RandomForestClassifier
from pyspark.ml.feature import StringIndexer, VectorAssembler

from streamscore import score_stream
from streamscore.clients import kafka

ROWS = [
    (20 + i % 40, ("private", "state", "own")[i % 3], 18.0 + i % 50, "yes" if i % 7 > 3 else "no") for i in range(80)
]
STRANGE = [
    {"hours": None, "job": "own", "age": 30.0, "income": "yes"},
    {"hours": 30, "job": "alien", "age": 30.0, "income": "no"},
    {"hours": 30, "job": "own", "income": "yes"},
]


def test_pipeline_of_a_notebook_is_served_without_surgery(spark, own, produce, tmp_path, outcomes, documents):
    """The label's names are the indexer's; what the pipeline cannot take is declined, and every event has outcomes."""
    data = spark.createDataFrame(ROWS, "hours int, job string, age double, income string").coalesce(1)
    stages = [
        StringIndexer(inputCol="income", outputCol="label"),
        StringIndexer(inputCol="job", outputCol="job_index"),
        VectorAssembler(inputCols=["job_index", "hours", "age"], outputCol="features"),
        RandomForestClassifier(numTrees=3, seed=1),
    ]
    model = Pipeline(stages=stages).fit(data)
    model.save(str(tmp_path / "notebook"))
    tolerant = [
        *stages[:2],
        VectorAssembler(inputCols=["hours"], outputCol="features", handleInvalid="error"),
        stages[3],
    ]
    Pipeline(stages=tolerant).fit(data).save(str(tmp_path / "other"))
    config = own(
        f"models=[{{name: notebook, uri: '{tmp_path}/notebook', trust: unsigned}}, "
        f"{{name: other, uri: '{tmp_path}/other', trust: unsigned}}]",
        "message.fields='hours INT, job STRING, age DOUBLE'",
        "message.label_field=income",
        "stream.available_now=true",
    )
    names = ("hours", "job", "age", "income")
    messages = [dict(zip(names, row, strict=True)) for row in ROWS] + STRANGE
    kafka.ensure(config.kafka, config.kafka.topics.input)
    values = [(str(number).encode(), json.dumps(message).encode(), []) for number, message in enumerate(messages)]
    produce(config.kafka, config.kafka.topics.input, values)
    score_stream.check(config)
    summary = score_stream.run(spark, config)
    found = {(each["key"], each["model"]): each for each in outcomes(config)}
    expected = {str(number): row["prediction"] for number, row in enumerate(model.transform(data).collect())}

    assert (summary["events"], summary["rejected"], summary["labelled"]) == (83, 0, 82)
    assert (summary["models"]["notebook"]["scored"], summary["models"]["notebook"]["declined"]) == (80, 3)
    assert (summary["models"]["other"]["scored"], summary["models"]["other"]["declined"]) == (82, 1)
    assert len(found) == 2 * 83 == len(documents(config))
    assert {key: found[key, "notebook"]["prediction"] for key in expected} == expected
    classes = {name: float(place) for place, name in enumerate(model.stages[0].labels)}
    assert all(found[str(n), "notebook"]["label"] == classes[message["income"]] for n, message in enumerate(messages))
    fields = ("prediction", "score", "correct", "declined", "declined_column")
    assert [tuple(found[str(number), "notebook"][field] for field in fields) for number in (80, 81, 82)] == [
        (None, None, None, "null_value", "hours"),
        (None, None, None, "unknown_category", "job"),
        (None, None, None, "null_value", "age"),
    ]
    assert found["81", "other"]["declined"] is None
    kept = {(each["key"], each["model"]): each for each in documents(config).values()}
    assert kept["81", "notebook"]["declined"] == "unknown_category"
    assert "prediction" not in kept["81", "notebook"]
