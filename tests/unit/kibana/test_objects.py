"""Checks of the dashboard's objects beyond those of Kibana's importer."""

from __future__ import annotations

import fnmatch
import json
import re
import uuid
from pathlib import Path

import pytest

from streamscore import config as configuration
from streamscore.kibana import alert, dashboards_api, export, panels, saved_objects
from streamscore.schema import OUTCOME_PROPERTIES, QUALITY_PROPERTIES, REJECTED_PROPERTIES, STATUS_PROPERTIES

FOLDER = Path(__file__).parents[3] / "docker" / "kibana"
MAPPINGS = {
    "predictions": OUTCOME_PROPERTIES,
    "predictions-rejected": REJECTED_PROPERTIES,
    "predictions-status": STATUS_PROPERTIES,
    "predictions-quality": QUALITY_PROPERTIES,
}
ESQL_WORDS = {
    *(
        "FROM",
        "WHERE",
        "STATS",
        "BY",
        "EVAL",
        "SORT",
        "DESC",
        "LIMIT",
        "KEEP",
        "DROP",
        "AND",
        "IN",
        "IS",
        "NOT",
        "NULL",
    ),
    *("COUNT", "AVG", "SUM", "MIN", "MAX", "GREATEST", "TO_DOUBLE", "BUCKET", "_tstart", "_tend"),
}


def config(*overrides: str):
    """Return the configuration of the committed files, with overrides."""
    return configuration.load("local", overrides)


def with_models(count: int):
    """Return a configuration with a number of models."""
    models = ", ".join(f"{{name: m{number}, uri: /m{number}}}" for number in range(count))
    return config(f"models=[{models}]")


@pytest.fixture(scope="module")
def objects():
    """The committed saved objects."""
    return [json.loads(line) for line in (FOLDER / "streamscore.ndjson").read_text().splitlines()]


@pytest.fixture(scope="module")
def body():
    """The committed body for the Dashboards API."""
    return json.loads((FOLDER / "dashboard.json").read_text())


def of_type(objects, kind):
    """Return the attributes of the objects of a type."""
    return [entry["attributes"] | {"id": entry["id"]} for entry in objects if entry["type"] == kind]


def lens_layers(objects):
    """Yield each Lens layer with its object and its reference's index."""
    titles = {entry["id"]: entry["attributes"]["title"] for entry in objects if entry["type"] == "index-pattern"}
    for entry in objects:
        if entry["type"] == "lens":
            views = {reference["name"]: titles[reference["id"]] for reference in entry["references"]}
            for name, layer in entry["attributes"]["state"]["datasourceStates"]["formBased"]["layers"].items():
                yield entry, layer, views[f"indexpattern-datasource-layer-{name}"]


def values_of(node, key):
    """Return every value of a key, at any depth."""
    found = []
    if isinstance(node, dict):
        for name, value in node.items():
            found += [value] if name == key else values_of(value, key)
    elif isinstance(node, list):
        for value in node:
            found += values_of(value, key)
    return found


def overlapping(grids):
    """Return whether two panels share a cell."""
    cells = [
        (x, y)
        for grid in grids
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    return len(cells) != len(set(cells))


def test_the_committed_files_are_what_the_configuration_makes(tmp_path):
    """The files in docker/kibana equal the output of `streamscore kibana export`."""
    export.write(config(), tmp_path)

    for path in tmp_path.iterdir():
        assert (FOLDER / path.name).read_text() == path.read_text(), f"streamscore kibana export {FOLDER}"
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in FOLDER.iterdir()}


def test_every_line_and_every_nested_text_parses(objects):
    """All JSON is valid, also inside strings, where an error would give an empty panel."""
    for entry in objects:
        for key, value in entry["attributes"].items():
            if key.endswith("JSON") or key in {"visState", "fields", "fieldFormatMap", "runtimeFieldMap", "typeMeta"}:
                json.loads(value)
        for value in values_of(entry, "searchSourceJSON"):
            json.loads(value)


def test_ids_are_unique(objects):
    """Object ids are unique."""
    ids = [entry["id"] for entry in objects]

    assert len(ids) == len(set(ids)) == 18


def test_every_reference_resolves_inside_the_file(objects):
    """References resolve inside the file, so that the import does not depend on existing objects."""
    known = {(entry["type"], entry["id"]) for entry in objects}

    for entry in objects:
        for reference in entry["references"]:
            assert (reference["type"], reference["id"]) in known, entry["id"]


def test_every_reference_is_used(objects):
    """Every reference is used by a layer or a panel."""
    for entry, _, _ in lens_layers(objects):
        names = {reference["name"] for reference in entry["references"]}
        layers = entry["attributes"]["state"]["datasourceStates"]["formBased"]["layers"]
        assert names == {f"indexpattern-datasource-layer-{name}" for name in layers}
    (dashboard,) = (entry for entry in objects if entry["type"] == "dashboard")
    placed = json.loads(dashboard["attributes"]["panelsJSON"])
    names = {(reference["name"], reference["type"]) for reference in dashboard["references"]}
    assert names == {(f"{panel['panelIndex']}:{panel['panelRefName']}", panel["type"]) for panel in placed}
    assert all(panel["gridData"]["i"] == panel["panelIndex"] for panel in placed)


def test_every_object_but_the_dashboard_is_referred_to(objects):
    """Every object but the dashboard is referenced."""
    used = {reference["id"] for entry in objects for reference in entry["references"]}

    assert {entry["id"] for entry in objects} - used == {"streamscore"}


def test_every_lens_column_exists(objects):
    """Column order, chart and formulas name existing columns."""
    for _, layer, _ in lens_layers(objects):
        columns = layer["columns"]
        assert sorted(layer["columnOrder"]) == sorted(columns)
        for column in columns.values():
            assert set(column.get("references", [])) <= set(columns)
            order = column.get("params", {}).get("orderBy", {})
            assert order.get("columnId", next(iter(columns))) in columns


def test_new_versions_are_not_cut_off(objects):
    """A chart with a limited number of versions shows the latest ones."""
    (versions,) = (layer for _, layer, _ in lens_layers(objects) if "models" in layer["columns"])

    assert versions["columns"]["models"]["params"]["orderBy"] == {"type": "column", "columnId": "until"}
    assert versions["columns"]["models"]["params"]["orderDirection"] == "desc"


def test_every_chart_names_columns_of_its_layer(objects):
    """Every chart names columns of its layer; otherwise it would stay empty."""
    keys = ("primaryGroups", "metrics", "metricAccessor", "breakdownByAccessor", "xAccessor", "accessors")
    for entry in objects:
        if entry["type"] != "lens":
            continue
        state = entry["attributes"]["state"]
        layers = state["datasourceStates"]["formBased"]["layers"]
        charts = state["visualization"].get("layers", [state["visualization"]])
        assert {chart["layerId"] for chart in charts} == set(layers)
        for chart in charts:
            named = [name for key in (*keys, "splitAccessor", "columnId") for name in values_of(chart, key)]
            flat = {one for name in named for one in (name if isinstance(name, list) else [name])}
            hidden = {reference for reference in layers[chart["layerId"]]["columns"] if re.search(r"X\d$", reference)}
            assert flat == set(layers[chart["layerId"]]["columns"]) - hidden


def test_bucket_columns_come_first(objects):
    """Bucket columns precede metrics, as Lens requires."""
    for _, layer, _ in lens_layers(objects):
        bucketed = [layer["columns"][name]["isBucketed"] for name in layer["columnOrder"]]
        assert bucketed == sorted(bucketed, reverse=True)


def test_every_field_of_a_lens_chart_is_in_its_index(objects):
    """Every field of a Lens chart is in its index's mapping."""
    used = set()
    for entry, layer, index in lens_layers(objects):
        fields = {*values_of(layer, "sourceField"), *values_of(layer, "sortField")} - {"___records___"}
        queries = [*values_of(layer, "query"), entry["attributes"]["state"]["query"]["query"]]
        texts = [text for query in queries for text in ([query] if isinstance(query, str) else [query["query"]])]
        fields |= {field for text in texts for field in re.findall(r"(\w+):", text)}
        assert fields <= set(MAPPINGS[index]), entry["id"]
        used |= fields
    assert {"correct", "positives", "label", "model", "lag", "reason", "seconds", "@timestamp"} < used


def test_the_types_of_grouped_fields_are_those_of_the_mapping(objects):
    """The data types of grouped fields are those of the mapping."""
    kinds = {"keyword": "string", "double": "number", "boolean": "boolean", "date": "date"}
    for _, layer, index in lens_layers(objects):
        for column in layer["columns"].values():
            if column["operationType"] in {"terms", "date_histogram", "min", "max"}:
                assert kinds[MAPPINGS[index][column["sourceField"]]["type"]] == column["dataType"]


def test_every_field_in_esql_is_in_its_index(body):
    """Every name in an ES|QL query is a keyword, a computed column or a field of the index."""
    queries = values_of(body, "query")

    assert len(queries) == 13
    for query in queries:
        index = re.match(r"FROM (\S+)\n", query)[1]
        rest = re.sub(r'"[^"]*"', "", query.split("\n", 1)[1])
        made = set(re.findall(r"(\w+) = (?!=)", rest))
        words = set(re.findall(r"@?[A-Za-z_]\w*", rest)) - ESQL_WORDS
        assert words - made <= set(MAPPINGS[index]), query
        assert "@timestamp" in words


def test_every_esql_column_of_a_chart_is_made_by_its_query(body):
    """Every column of a chart is an output column of its query."""
    for panel in body["panels"][1:]:
        for asked in panel["config"].get("layers", [panel["config"]]):
            query = asked["data_source"]["query"]
            for column in values_of({key: value for key, value in asked.items() if key != "data_source"}, "column"):
                after = query.rsplit("\n| STATS ", 1)[-1]
                assert re.search(rf"(^|[ ,]){re.escape(column)}( = |$|,|\n)", after), (column, query)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_panels_stay_on_the_grid_and_apart(count):
    """Panels stay within the grid of 48 columns, do not overlap, and are at most the API's 100."""
    settings = with_models(count)
    (dashboard,) = of_type(saved_objects.build(settings, "streamscore"), "dashboard")
    forms = {
        "saved objects": [panel["gridData"] for panel in json.loads(dashboard["panelsJSON"])],
        "api": [panel["grid"] for panel in dashboards_api.build(settings)["panels"]],
    }

    for name, grids in forms.items():
        assert len(grids) == 11 + count <= 100, name
        assert all(grid["x"] + grid["w"] <= 48 for grid in grids), name
        assert not overlapping(grids), name
    assert forms["api"] == [{key: grid[key] for key in "xywh"} for grid in forms["saved objects"]]


def test_the_first_data_view_matches_the_outcomes_only(objects):
    """The first data view matches only the outcomes, not the other indices with the same prefix."""
    patterns = [view["title"] for view in of_type(objects, "index-pattern")]

    assert [fnmatch.filter(MAPPINGS, pattern) for pattern in patterns] == [[index] for index in MAPPINGS]


def test_both_forms_show_the_same_charts(objects, body):
    """Both formats have the same charts."""
    lens = {chart["title"] for chart in of_type(objects, "lens")}
    api = {
        panel["config"].get("title") or panel["config"]["metrics"][0]["label"]
        for panel in body["panels"]
        if panel["type"] == "vis"
    }

    assert lens - {"Accuracy by model"} == api - {"Accuracy"}
    assert {"lr: correct and incorrect", "svm: correct and incorrect", "Majority-class baseline", "Lag"} < lens


def test_every_model_has_its_donut():
    """Every configured model has a donut."""
    drawn = [panel for panel in panels.panels(with_models(3)) if panel.chart == "donut"]

    assert [panel.where[1].kql for panel in drawn] == ['model: "m0"', 'model: "m1"', 'model: "m2"']


def test_indices_and_models_follow_the_configuration():
    """All objects use the configured indices and models."""
    names = {"index": "mine", "rejected_index": "bad", "status_index": "how", "quality_index": "good"}
    settings = config(*(f"elasticsearch.{key}={name}" for key, name in names.items()))
    text = saved_objects.lines(saved_objects.build(settings, "streamscore"))

    assert "predictions" not in text.replace("Predictions of", "")
    queries = values_of(dashboards_api.build(settings), "query")
    assert {re.match(r"FROM (\S+)", query)[1] for query in queries} == set(names.values())


def test_objects_load_in_the_oldest_kibana_that_is_stated(objects):
    """The objects' versions are not newer than the oldest supported Kibana."""
    for entry in objects:
        for key in ("coreMigrationVersion", "typeMigrationVersion"):
            assert tuple(map(int, entry[key].split(".")))[:2] <= saved_objects.OLDEST


def test_ids_of_another_space_are_others():
    """Objects of different spaces have different ids."""
    here, there = (
        {entry["id"] for entry in saved_objects.build(config(), prefix)} for prefix in ("streamscore", "streamscore-b")
    )

    assert not here & there


def tree_text(tree, columns):
    """Return the text of a formula's tree, built from its functions and the columns of its sums."""
    if isinstance(tree, str):
        column = columns[tree]
        chosen = f", kql='{column['filter']['query']}'" if "filter" in column else ""
        return f"{column['operationType']}({column['sourceField']}{chosen})"
    first, second = (tree_text(part, columns) for part in tree["args"])
    signs = {"divide": f"{first} / {second}", "subtract": f"{first} - {second}"}
    return signs.get(tree["name"], f"{tree['name']}({first}, {second})")


def test_formulas_can_be_read_back_by_lens(objects):
    """Each formula's tree matches its text, with the right positions of all parts."""
    formulas = {}
    for entry, layer, _ in lens_layers(objects):
        for name, column in layer["columns"].items():
            if column["operationType"] == "formula":
                (result,) = column["references"]
                tree, text = layer["columns"][result]["params"]["tinymathAst"], column["params"]["formula"]
                parts = [tree, *(part for part in values_of(tree, "args") for part in part if isinstance(part, dict))]
                for part in parts:
                    assert text[part["location"]["min"] : part["location"]["max"]] == part["text"]
                    assert part["text"] == tree_text(part, layer["columns"])
                formulas[entry["id"].removeprefix("streamscore-"), name] = text

    assert formulas["accuracy", "accuracy"] == formulas["accuracy-over-time", "accuracy"]
    assert formulas["accuracy", "accuracy"] == "sum(correct) / sum(labelled)"
    assert formulas["outcomes-lr", "unlabelled"] == "sum(scored) - sum(labelled)"
    assert re.sub(", kql='.*?'", "", formulas["baseline", "baseline"]) == (
        "pick_max(sum(positives), sum(labelled) - sum(positives)) / sum(labelled)"
    )


def test_only_the_confusion_table_needs_a_document_per_event():
    """All other charts use sums, so that they do not depend on the share of events with documents."""
    settings = config("quality.windows=[20, 600, 86400]")
    for panel in panels.panels(settings):
        for layer in panel.layers:
            of_quality = layer.index == "predictions-quality"
            assert (layer.index == "predictions") == (panel.name == "confusion")
            assert ("seconds == 20" in dashboards_api.query(layer, panel)) == of_quality
            assert (panels.one_length(settings) in panel.where) == of_quality
    assert "seconds == 20" in alert.query(settings)


def test_queries_of_the_donuts_and_of_the_lines():
    """The queries of donuts and lines are as expected."""
    shown = {panel.name: panel for panel in panels.panels(config())}
    donut, lines = shown["outcomes-lr"], shown["accuracy-over-time"]
    in_range = "@timestamp >= ?_tstart AND @timestamp < ?_tend AND seconds == 10"
    sums = ("correct", "incorrect", "scored", "labelled", "declined")

    assert dashboards_api.query(donut.layers[0], donut).splitlines() == [
        "FROM predictions-quality",
        f'| WHERE {in_range} AND model == "lr"',
        f"| STATS {', '.join(f'{name} = SUM({name})' for name in sums)}",
        "| EVAL unlabelled = scored - labelled",
        "| DROP scored, labelled",
    ]
    assert dashboards_api.query(lines.layers[1], lines).splitlines()[1:] == [
        f'| WHERE {in_range} AND score_kind != "class_probability" AND score_kind != "class_margin"',
        "| STATS positives = SUM(positives), labelled = SUM(labelled) BY BUCKET(@timestamp, 75, ?_tstart, ?_tend)",
        "| EVAL baseline = TO_DOUBLE(GREATEST(positives, labelled - positives)) / labelled",
        "| DROP positives, labelled",
        "| LIMIT 10000",
    ]


def test_the_alert_needs_enough_labelled_events():
    """The alert needs a minimum of labelled events."""
    rule = alert.build(config("kibana.alert.min_labelled=50", "kibana.alert.margin=0.1"))
    baseline = "TO_DOUBLE(GREATEST(positives, labelled - positives)) / labelled"

    assert rule["params"]["esqlQuery"]["esql"].splitlines() == [
        "FROM predictions-quality",
        '| WHERE seconds == 10 AND score_kind != "class_probability" AND score_kind != "class_margin"',
        "| STATS correct = SUM(correct), labelled = SUM(labelled), positives = SUM(positives) BY model",
        f"| EVAL accuracy = TO_DOUBLE(correct) / labelled, baseline = {baseline}",
        "| WHERE labelled >= 50 AND accuracy < baseline - 0.1",
        "| KEEP model, accuracy, baseline, labelled",
    ]
    assert rule["params"]["groupBy"] == "row"
    assert (rule["params"]["timeWindowSize"], rule["params"]["timeWindowUnit"]) == (5, "m")


def test_the_rules_id_is_a_uuid_of_its_space():
    """The rule's id is a UUID that depends on the space."""
    ids = {alert.rule_id(space) for space in ("default", "team", "default")}

    assert len(ids) == 2
    assert all(uuid.UUID(one).version == 4 for one in ids)


@pytest.mark.parametrize(
    ("version", "expected"), [((8, 18), False), ((8, 19), True), ((9, 0), False), ((9, 1), True), ((10, 0), True)]
)
def test_versions_that_have_the_alert(version, expected):
    """Kibana 8.19 and 9.1, but not 9.0, have one alert per row."""
    assert alert.supported(version) is expected
