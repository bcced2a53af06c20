"""Every query of the Kibana dashboard, run on a real Elasticsearch as a plain aggregation.

The test server is older than ES|QL, and there is no Kibana. So one small translator turns the Lens charts into
aggregations, as Kibana does, and another one the forms of ES|QL that the charts use. Both read the shipped objects, and
both must return the numbers of a known set of documents.
"""

from __future__ import annotations

import json
import math
import operator
import re
import uuid

import pytest

from streamscore.clients import elasticsearch
from streamscore.kibana import alert, dashboards_api, saved_objects
from streamscore.quality.statistic import of_rows

START = 1_760_000_040_000  # a full minute, in epoch milliseconds
MINUTE = 60_000
RANGE = {"gte": START, "lt": START + 2 * MINUTE}

# minute, label, prediction of lr, prediction of svm
EVENTS = (
    (0, 1.0, 1.0, 0.0),
    (0, 0.0, 0.0, 1.0),
    (0, 0.0, 1.0, 1.0),
    (1, 1.0, 1.0, 1.0),
    (1, 0.0, 0.0, 0.0),
    (1, None, 1.0, 0.0),
    (-100, 1.0, 1.0, 1.0),  # before the time range
)
REJECTED = ((0, "not_json"), (1, "not_json"), (1, "too_large"), (-100, "not_utf8"))
# minute, events, lag, events per second, models
BATCHES = (
    (0, 3, 5, 30.0, ["lr:1", "svm:1"]),
    (1, 5, 2, 50.0, ["lr:2", "svm:1"]),
    (-100, 9, 9, 90.0, ["lr:0"]),
)

# correct, incorrect, and one each unlabelled and declined
OUTCOMES_LR = {(4, 1, 1, 1)}
OUTCOMES_SVM = {(2, 3, 1, 1)}
DECLINED = (0.0, math.nan, math.nan)
# The last model has three classes, is never right, and has no documents per event.
KINDS = {"lr": "probability", "svm": "margin", "forest": "class_probability"}
EXPECTED = {
    "events": [{(8,)}],
    "rate": [{(50.0,)}],
    "lag": [{(2,)}],
    "rejected": [{(3,)}],
    "baseline": [{(0.6,)}],
    "accuracy": [{("lr", 0.8), ("svm", 0.4), ("forest", 0.0)}],
    "outcomes-lr": [OUTCOMES_LR],
    "outcomes-svm": [OUTCOMES_SVM],
    "accuracy-over-time": [
        {
            (START, "lr", 0.6667),
            (START, "svm", 0.0),
            (START + MINUTE, "lr", 1.0),
            (START + MINUTE, "svm", 1.0),
            (START, "forest", 0.0),
            (START + MINUTE, "forest", 0.0),
        },
        {(START, 0.6667), (START + MINUTE, 0.5)},
    ],
    "confusion": [
        {
            ("lr", 0.0, 0.0, 2),
            ("lr", 0.0, 1.0, 1),
            ("lr", 1.0, 1.0, 2),
            ("svm", 0.0, 0.0, 1),
            ("svm", 0.0, 1.0, 2),
            ("svm", 1.0, 0.0, 1),
            ("svm", 1.0, 1.0, 1),
        }
    ],
    "rejected-by-reason": [{("not_json", 2), ("too_large", 1)}],
    "models": [
        {
            ("lr:1", "true", START, START, 3),
            ("lr:2", "true", START + MINUTE, START + MINUTE, 5),
            ("svm:1", "true", START, START + MINUTE, 8),
        }
    ],
}


@pytest.fixture(scope="module")
def config(servers):
    """A configuration with this module's own indices, which hold the known documents."""
    name = f"t{uuid.uuid4().hex[:8]}"
    names = {"index": name, "rejected_index": f"{name}-rejected", "status_index": f"{name}-status"}
    names["quality_index"] = f"{name}-quality"
    settings = servers.model_copy(update={"elasticsearch": servers.elasticsearch.model_copy(update=names)})
    elasticsearch.ensure(settings.elasticsearch)
    with elasticsearch.client(settings.elasticsearch) as client:
        lines = [line for target, entry in documents(names) for line in ({"index": {"_index": target}}, entry)]
        answer = client.bulk(operations=lines, refresh=True)
    assert not answer["errors"], answer
    return settings


@pytest.fixture(scope="module")
def client(config):
    """A client of the Elasticsearch that holds the known documents."""
    with elasticsearch.client(config.elasticsearch) as client:
        yield client


def documents(names):
    """Yield the known documents in the form of the job, with their indices."""
    for number, (minute, label, *predictions) in enumerate(EVENTS):
        for model, prediction in zip(("lr", "svm"), predictions, strict=True):
            outcome = {"event_id": f"ml-0-{number}", "model": model, "model_version": "1", "prediction": prediction}
            judged = {} if label is None else {"label": label, "correct": int(label == prediction)}
            yield names["index"], {"@timestamp": START + minute * MINUTE, **outcome, **judged}
    yield from ((names["quality_index"], document) for document in statistics())
    for number, (minute, reason) in enumerate(REJECTED):
        yield (
            names["rejected_index"],
            {"@timestamp": START + minute * MINUTE, "event_id": f"ml-1-{number}", "reason": reason, "detail": ""},
        )
    for number, (minute, events, lag, rate, models) in enumerate(BATCHES):
        yield (
            names["status_index"],
            {
                "@timestamp": START + minute * MINUTE,
                "query": "q",
                "batch": number,
                "events": events,
                "rejected": 0,
                "lag": lag,
                "batch_ms": 5,
                "events_per_second": rate,
                "models": models,
                "synthetic": True,
            },
        )


def statistics():
    """Yield the documents of the quality index in the form of the job, with windows of each length."""
    for seconds in (10, 600, 86_400):
        for position, model in enumerate(KINDS):
            windows = {}
            for minute, label, *predictions in ((*event, 2.0) for event in EVENTS):
                begin = (START + minute * MINUTE) // (1_000 * seconds) * 1_000 * seconds
                row = (math.nan if label is None else label, predictions[position], 0.25 + predictions[position] / 2)
                windows.setdefault(begin, [] if windows or model == "forest" else [DECLINED]).append(row)
            for begin, rows in windows.items():
                of = {"@timestamp": begin, "seconds": seconds, "topic": "ml", "stream": "s", "batch": 0}
                statistic = of_rows(*zip(*rows, strict=True), KINDS[model]).to_document()
                yield {**of, "model": model, "model_version": "1", **statistic}


def buckets_of(aggregation):
    """Return the keys and buckets of an answer, also of named filters, without empty buckets."""
    found = aggregation["buckets"]
    pairs = found.items() if isinstance(found, dict) else ((one.get("key_as_string", one["key"]), one) for one in found)
    return [(key, bucket) for key, bucket in pairs if bucket["doc_count"]]


def search(client, target, conditions, groups, numbers):
    """Return rows of group keys and numbers: the groups nested, the numbers in the innermost bucket.

    Args:
        client: the client.
        target: the index.
        conditions: filters, in addition to the time filter.
        groups: name and aggregation of each group.
        numbers: functions from a bucket to a number, with the aggregations that they need.
    """
    inner = {name: body for _, needed in numbers for name, body in needed.items()}
    for name, body in reversed(groups):
        inner = {name: {**body, **({"aggs": {**body.get("aggs", {}), **inner}} if inner else {})}}
    query = {"bool": {"filter": [{"range": {"@timestamp": RANGE}}, *conditions]}}
    answer = client.search(index=target, size=0, query=query, aggs=inner or None, track_total_hits=True).body

    def walk(bucket, depth):
        if depth == len(groups):
            yield tuple(rounded(number(bucket)) for number, _ in numbers)
            return
        for key, child in buckets_of(bucket[groups[depth][0]]):
            yield from ((rounded(key), *rest) for rest in walk(child, depth + 1))

    root = {**answer.get("aggregations", {}), "doc_count": answer["hits"]["total"]["value"]}
    return set(walk(root, 0))


def rounded(value):
    """Return a comparable number; a time in text becomes epoch milliseconds."""
    if isinstance(value, str) and value.isdigit():
        return int(value)
    return round(value, 4) if isinstance(value, float) else value


def kql(text):
    """Return the filters of a KQL text: `field: value`, `field: *` and `NOT`, joined by AND."""
    filters = []
    for part in filter(None, text.split(" AND ")):
        negated, name, value = re.fullmatch(r"(NOT )?(\w+): (.+)", part).groups()
        one = {"exists": {"field": name}} if value == "*" else {"term": {name: json.loads(value)}}
        filters.append({"bool": {"must_not": one}} if negated else one)
    return filters


def over_time(name):
    """Return a group of one-minute intervals, whose keys are epoch milliseconds."""
    return name, {"date_histogram": {"field": "@timestamp", "fixed_interval": "1m", "format": "epoch_millis"}}


def lens_group(name, columns):
    """Return the aggregation that Kibana makes from a bucketed column."""
    column = columns[name]
    parameters = column["params"]
    if column["operationType"] == "date_histogram":
        return over_time(name)
    assert column["operationType"] == "terms"
    ranked = columns.get(parameters["orderBy"].get("columnId"), {"operationType": "key"})
    by = {"count": "_count", "key": "_key"}.get(ranked["operationType"], "order")
    terms = {"field": column["sourceField"], "size": parameters["size"], "order": {by: parameters["orderDirection"]}}
    own = {"order": {ranked["operationType"]: {"field": ranked["sourceField"]}}} if by == "order" else {}
    return name, {"terms": terms, "aggs": own}


def lens_number(name, columns):
    """Return a function that computes a metric's column from a bucket, and its aggregations."""
    column = columns[name]
    operation, source = column["operationType"], column.get("sourceField")
    if operation == "count":
        return (lambda bucket: bucket["doc_count"]), {}
    if operation == "last_value":
        order = [{column["params"]["sortField"]: "desc"}]
        newest = {"top_hits": {"size": 1, "sort": order, "_source": [source]}}
        inner = {name: {"filter": {"bool": {"filter": kql(column["filter"]["query"])}}, "aggs": {"newest": newest}}}
        return (lambda bucket: bucket[name]["newest"]["hits"]["hits"][0]["_source"][source]), inner
    if operation in {"formula", "math"}:
        parts = {part: lens_number(part, columns) for part in column["references"]}
        needed = {key: body for _, inner in parts.values() for key, body in inner.items()}
        if operation == "formula":
            ((number, _),) = parts.values()
            return number, needed
        tree = column["params"]["tinymathAst"]
        return (lambda bucket: calculated(tree, {part: number(bucket) for part, (number, _) in parts.items()})), needed
    body = {"value": {operation: {"field": source}}}
    chosen = {"bool": {"filter": kql(column.get("filter", {"query": ""})["query"])}}
    return (lambda bucket: bucket[name]["value"]["value"]), {name: {"filter": chosen, "aggs": body}}


def calculated(tree, values):
    """Return the value of a formula's tree."""
    if not isinstance(tree, dict):
        return values[tree] if isinstance(tree, str) else tree
    functions = {"pick_max": max, "subtract": operator.sub, "divide": operator.truediv}
    return functions[tree["name"]](*(calculated(argument, values) for argument in tree["args"]))


def lens_rows(client, entry, targets):
    """Return the rows of each layer of a Lens object, in the order of its columns, without the parts of formulas."""
    state = entry["attributes"]["state"]
    for name, layer in state["datasourceStates"]["formBased"]["layers"].items():
        columns = layer["columns"]
        shown = [column for column in layer["columnOrder"] if not re.search(r"X\d$", column)]
        groups = [lens_group(column, columns) for column in shown if columns[column]["isBucketed"]]
        numbers = [lens_number(column, columns) for column in shown if not columns[column]["isBucketed"]]
        target = targets[f"indexpattern-datasource-layer-{name}"]
        yield search(client, target, kql(state["query"]["query"]), groups, numbers)


def listed(text):
    """Split at the commas outside brackets."""
    return re.split(r", (?![^()]*\))", text)


def esql_condition(text):
    """Return the filter of one condition; the translator itself adds the time filter."""
    if text in {"@timestamp >= ?_tstart", "@timestamp < ?_tend"}:
        return []
    if match := re.fullmatch(r'(\w+) == ("?\w+"?)', text):
        return [{"term": {match[1]: json.loads(match[2])}}]
    if match := re.fullmatch(r'(\w+) != ("\w+")', text):
        return [{"bool": {"must_not": {"term": {match[1]: json.loads(match[2])}}}}]
    return [{"exists": {"field": re.fullmatch(r"(\w+) IS NOT NULL", text)[1]}}]


def esql_group(text):
    """Return the aggregation of one part of a BY."""
    if text == "BUCKET(@timestamp, 75, ?_tstart, ?_tend)":
        return over_time(text)
    return text, {"terms": {"field": text, "size": 100}}


def esql_number(text):
    """Return a function that computes one part of a STATS from a bucket, and its aggregations."""
    name, function, source = re.fullmatch(r"(\w+) = (\w+)\((.*)\)", text).groups()
    if source == "*":
        return (lambda bucket: bucket["doc_count"]), {}
    aggregation = {"AVG": "avg", "SUM": "sum", "MIN": "min", "MAX": "max", "COUNT": "value_count"}[function]
    return (lambda bucket: bucket[name]["value"]), {name: {aggregation: {"field": source}}}


def python(text):
    """Return an expression of numbers and names in Python's syntax."""
    return text.replace("GREATEST", "max").replace("TO_DOUBLE", "float").replace(" AND ", " and ")


def esql_rows(client, query):
    """Return the rows of an ES|QL query, in the order of its groups and then of its numbers."""
    source, *steps = query.split("\n| ")
    target, conditions = source.removeprefix("FROM "), []
    names, rows = [], None
    for step in steps:
        word, rest = step.split(" ", 1)
        if word == "STATS":
            computed, _, by = rest.partition(" BY ")
            groups = [esql_group(part) for part in listed(by)] if by else []
            names = [*(name for name, _ in groups), *(part.split(" = ")[0] for part in listed(computed))]
            rows = search(client, target, conditions, groups, [esql_number(part) for part in listed(computed)])
        elif word == "WHERE" and rows is None:
            conditions += [one for part in rest.split(" AND ") for one in esql_condition(part)]
        elif word == "WHERE":
            rows = {row for row in rows if holds(python(rest), dict(zip(names, row, strict=True)))}
        elif word == "SORT":
            assert (rest, steps[-3]) == ("@timestamp DESC", "LIMIT 1")
            query = {"bool": {"filter": [{"range": {"@timestamp": RANGE}}, *conditions]}}
            (hit,) = client.search(index=target, query=query, sort=[{"@timestamp": "desc"}], size=1)["hits"]["hits"]
            single = {name: value for name, value in hit["_source"].items() if not isinstance(value, list)}
            names, rows = list(single), {tuple(single.values())}
        elif word == "EVAL":
            for part in listed(rest):
                name, expression = part.split(" = ")
                rows = {evaluated(row, names, name, python(expression)) for row in rows}
                names = names if name in names else [*names, name]
        elif word in {"KEEP", "DROP"}:
            chosen = rest.split(", ")
            kept = chosen if word == "KEEP" else [name for name in names if name not in chosen]
            rows = {tuple(dict(zip(names, row, strict=True))[name] for name in kept) for row in rows}
            names = kept
    return rows


def holds(condition, values):
    """Return whether a condition holds; as in ES|QL a comparison with null never does."""
    known = {name: value for name, value in values.items() if value is not None}
    try:
        return eval(condition, {}, known)  # noqa: S307 (a query of ours)
    except NameError:
        return False


def evaluated(row, names, name, expression):
    """Return a row with a computed column, which replaces an existing one of that name."""
    values = dict(zip(names, row, strict=True))
    number = eval(expression, {"max": max, "float": float}, values)  # noqa: S307 (a query of ours)
    values[name] = rounded(float(number))
    return tuple(values.values())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_lens_chart_finds_the_known_numbers(name, config, client):
    """The Lens charts of Kibana 8.9 to 9.4 show the known numbers."""
    objects = {entry["id"]: entry for entry in saved_objects.build(config, "p")}
    chart = objects[f"p-{name}"]
    targets = {one["name"]: objects[one["id"]]["attributes"]["title"] for one in chart["references"]}

    assert list(lens_rows(client, chart, targets)) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_an_esql_chart_finds_the_known_numbers(name, config, client):
    """The ES|QL charts of Kibana 9.5 and later show the same numbers."""
    panels = dashboards_api.build(config)["panels"][1:]
    chart = dict(zip(EXPECTED, panels, strict=True))[name]["config"]
    queries = [asked["data_source"]["query"] for asked in chart.get("layers", [chart])]

    assert [esql_rows(client, query) for query in queries] == EXPECTED[name]


def test_the_known_numbers_are_all_that_the_dashboard_shows(config):
    """Every chart of the dashboard has a test."""
    charts = [entry["id"] for entry in saved_objects.build(config, "p") if entry["type"] == "lens"]

    assert charts == [f"p-{name}" for name in EXPECTED]


@pytest.mark.parametrize(
    ("min_labelled", "margin", "alerted"),
    [(5, 0.0, {"svm"}), (5, 0.1, {"svm"}), (5, 0.3, set()), (6, 0.0, set())],
)
def test_the_alert_names_the_models_that_are_too_bad(config, client, min_labelled, margin, alerted):
    """The baseline is 0.6, lr has 0.8 and svm 0.4; both models have five labelled events."""
    rule = config.kibana.alert.model_copy(update={"min_labelled": min_labelled, "margin": margin})
    settings = config.model_copy(update={"kibana": config.kibana.model_copy(update={"alert": rule})})

    rows = esql_rows(client, alert.query(settings))

    assert {model for model, *_ in rows} == alerted
