"""Tree models: a tree that Spark cannot follow from root to leaf is refused, wherever it is in the pipeline."""

import copy
import json
import re
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from folders import ML, PARQUET, refusal, write_metadata, write_one_vs_rest, write_pipeline

from streamscore.models import gate
from streamscore.models.gate.files import LocalFiles

DOUBLES = pa.list_(pa.float64())
NODE = pa.struct(
    [
        ("id", pa.int32()), ("prediction", pa.float64()), ("impurity", pa.float64()), ("impurityStats", DOUBLES),
        ("rawCount", pa.int64()), ("gain", pa.float64()), ("leftChild", pa.int32()), ("rightChild", pa.int32()),
        ("split", pa.struct([
            ("featureIndex", pa.int32()), ("leftCategoriesOrThreshold", DOUBLES), ("numCategories", pa.int32()),
        ])),
    ]
)  # fmt: skip
TREE, FOREST, BOOSTED = (
    f"{ML}.classification.{name}ClassificationModel" for name in ("DecisionTree", "RandomForest", "GBT")
)
REGRESSION = f"{ML}.regression.DecisionTreeRegressionModel"
PLACES = {
    "tree": (TREE, "stages/0_stage_1"),
    "forest": (FOREST, "stages/0_stage_1"),
    "boosted": (BOOSTED, "stages/0_stage_1"),
    "forest in an inner pipeline": (FOREST, "stages/0_stage_1/stages/0_stage_2"),
    "tree in a OneVsRest": (TREE, "stages/0_stage_1/model_1"),
}


def node(number, children=(-1, -1), feature=-1, values=(), categories=-1):
    """Return a node: a leaf, or one with two children and a split."""
    return {
        "id": number, "prediction": 1.0, "impurity": 0.5, "impurityStats": [3.0, 4.0], "rawCount": 7, "gain": 0.1,
        "leftChild": children[0], "rightChild": children[1],
        "split": {
            "featureIndex": feature, "leftCategoriesOrThreshold": list(values), "numCategories": categories,
        },
    }  # fmt: skip


def sound():
    """Return the nodes of a valid tree: a threshold, then categories, then leaves."""
    return [node(0, (1, 4), 0, [0.5]), node(1, (2, 3), 1, [0.0, 2.0], 3), node(2), node(3), node(4)]


def write_trees(folder, class_name, trees, type_=NODE, members=None, **numbers):
    """Write a tree model; ``members`` are the rows of its list of trees, by default one per tree."""
    numbers = {"numFeatures": 2, "numClasses": 2, "numTrees": len(trees)} | numbers
    write_metadata(folder, class_name, folder.name.partition("_")[2], {"featuresCol": "features"}, **numbers)
    (folder / "data").mkdir()
    if class_name == TREE:
        table = pa.Table.from_struct_array(pa.array(trees[0], type_))
    else:
        rows = [{"treeID": number, "nodeData": one} for number, nodes in enumerate(trees) for one in nodes]
        table = pa.Table.from_struct_array(pa.array(rows, pa.struct([("treeID", pa.int32()), ("nodeData", type_)])))
        member = {"metadata": json.dumps({"class": TREE if class_name == FOREST else REGRESSION}), "weights": 1.0}
        listed = [member | {"treeID": number} for number in range(len(trees))] if members is None else members
        (folder / "treesMetadata").mkdir()
        kind = pa.struct([("treeID", pa.int32()), ("metadata", pa.string()), ("weights", pa.float64())])
        pq.write_table(pa.Table.from_struct_array(pa.array(listed, kind)), folder / "treesMetadata" / PARQUET)
    pq.write_table(table, folder / "data" / PARQUET)


def write_model(folder, place, trees, **options):
    """Write a pipeline with a tree model at one of its possible positions; return the model's folder."""
    class_name, inside = PLACES[place]
    write_pipeline(folder, "stage_1")
    if "OneVsRest" in place:
        write_one_vs_rest(folder / "stages" / "0_stage_1", "stage_1", 2)
        shutil.rmtree(folder / inside)
    elif "inner" in place:
        write_pipeline(folder / "stages" / "0_stage_1", "stage_2", uid="stage_1")
    write_trees(folder / inside, class_name, trees, **options)
    return inside


@pytest.mark.parametrize("place", PLACES)
def test_sound_trees_pass(tmp_path, place):
    """Valid trees pass, also with a single leaf and with nodes in any order."""
    trees = [list(reversed(sound()))] if PLACES[place][0] == TREE else [sound(), [node(0)], list(reversed(sound()))]
    write_model(tmp_path, place, trees)

    assert gate.inspect(LocalFiles(tmp_path), "unsigned")


def changed_node(number, **changes):
    """Return a function that changes a node of a tree."""

    def change(nodes):
        split = nodes[number]["split"]
        inside = {key: value for key, value in changes.items() if key in split}
        nodes[number] |= {"split": split | inside} | {k: v for k, v in changes.items() if k not in split}

    return change


def chain(nodes):
    """Make a tree deeper than Spark's limit."""
    nodes[:] = [one for i in range(0, 80, 2) for one in (node(i, (i + 1, i + 2), 0, [0.5]), node(i + 1))] + [node(80)]


TREES = {
    "node that is not there": (lambda n: n.pop(2), "node 2 is not there"),
    "last node that is not there": (lambda n: n.pop(4), "node 0 has a child that is not there: 4"),
    "root that is not there": (lambda n: n.pop(0), "node 0 is not there"),
    "node twice": (lambda n: n.append(n[3]), "node 3 is there twice"),
    "node twice in the place of another": (lambda n: n.__setitem__(2, n[3]), "node 2 is not there"),
    "number below zero": (changed_node(2, id=-3), "node 2 is not there"),
    "huge number": (changed_node(2, id=2**31 - 1), "node 2 is not there"),
    "node that is its own child": (changed_node(1, leftChild=1), "node 1 has a child that is not there: 1"),
    "circle": (changed_node(1, rightChild=0), "node 1 has a child that is not there: 0"),
    "child beyond the end": (changed_node(0, rightChild=5), "node 0 has a child that is not there: 5"),
    "child below zero": (changed_node(0, rightChild=-1), "node 0 has a child that is not there: -1"),
    "only a right child": (changed_node(2, rightChild=3), "node 2 has only a right child: 3"),
    "one child of two nodes": (changed_node(0, rightChild=3), "node 3 is not the child of exactly one node: 2"),
    "one child twice": (changed_node(1, leftChild=3), "node 2 is not the child of exactly one node: 0"),
    "bottomless": (chain, "is deeper than 30"),
    "feature out of range": (changed_node(0, featureIndex=2), "node 0 splits by a feature out of 2: 2"),
    "feature below zero": (changed_node(1, featureIndex=-1), "node 1 splits by a feature out of 2: -1"),
    "no threshold": (
        changed_node(0, leftCategoriesOrThreshold=[]),
        "no single threshold, but as many as: 0",
    ),
    "two thresholds": (changed_node(0, leftCategoriesOrThreshold=[1.0, 2.0]), "node 0 has no single threshold"),
    "no categories": (changed_node(1, numCategories=0), "node 1 has a number of categories of: 0"),
    "category out of range": (
        changed_node(1, leftCategoriesOrThreshold=[0.0, 3.0]),
        "node 1 names a category out of: 3",
    ),
    "category between two": (changed_node(1, leftCategoriesOrThreshold=[0.5]), "node 1 names a category out of: 3"),
    "category that is no number": (
        changed_node(1, leftCategoriesOrThreshold=[float("nan")]),
        "node 1 names a category out of: 3",
    ),
    "prediction that is no number": (changed_node(3, prediction=float("nan")), "node 3 predicts: nan"),
    "null": (changed_node(3, leftChild=None), "its column .*leftChild has a null"),
    "null in a list": (changed_node(0, leftCategoriesOrThreshold=[None]), "its column .*Threshold has a null"),
    "null for a split": (changed_node(3, split=None), "it has no single column .*split"),
    "nothing": (lambda n: n.clear(), "or none|tree 1 has no nodes|not between"),
}
OUTCOMES = {
    "class too many": (changed_node(3, impurityStats=[1.0, 2.0, 3.0]), "node 3 has not 2 class counts, but: 3"),
    "class too few": (changed_node(3, impurityStats=[]), "node 3 has not 2 class counts, but: 0"),
    "class count below zero": (changed_node(3, impurityStats=[1.0, -2.0]), "node 3 has a class count that is negative"),
    "class count without end": (changed_node(3, impurityStats=[1.0, float("inf")]), "node 3 has a class count"),
}


def broken(change, place):
    """Return trees, the last of which is broken."""
    nodes = copy.deepcopy(sound())
    change(nodes)
    return [nodes] if PLACES[place][0] == TREE else [sound(), nodes]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", TREES | OUTCOMES)
def test_tree_that_cannot_be_followed_is_refused(tmp_path, name, place):
    """The message names the tree and the node, before any event is scored."""
    if place == "boosted" and name in OUTCOMES:
        pytest.skip("boosted trees predict numbers")
    change, message = (TREES | OUTCOMES)[name]
    inside = write_model(tmp_path, place, broken(change, place))

    assert re.match(f"{inside}/data/{PARQUET}: .*({message})", refusal(tmp_path)), refusal(tmp_path)


def member(number, class_name=TREE, weight=1.0):
    """Return a row of a forest's list of trees."""
    return {"treeID": number, "metadata": json.dumps({"class": class_name}), "weights": weight}


FORESTS = {
    "tree that is not listed": ({"members": [member(0)]}, "treesMetadata/.*: it lists other trees"),
    "tree that is listed twice": ({"members": [member(0), member(0)]}, "treesMetadata/.*: it lists other trees"),
    "tree of another class": (
        {"members": [member(0), member(1, "com.example.Evil")]},
        "treesMetadata/.*: a tree is of the class 'com.example.Evil'",
    ),
    "weight that is no number": (
        {"members": [member(0), member(1, weight=float("nan"))]},
        "treesMetadata/.*: the weight of a tree is not a finite number",
    ),
    "more trees than the metadata say": ({"numTrees": 1}, "data/.*: there are nodes of other trees"),
    "fewer trees than the metadata say": ({"numTrees": 3}, "data/.*: tree 2 has no nodes"),
    "no number of trees": ({"numTrees": None}, "metadata/part-00000: numTrees is 'None'"),
    "no features": ({"numFeatures": 0}, "metadata/part-00000: numFeatures is '0'"),
    "number of classes that is a text": ({"numClasses": "2"}, "metadata/part-00000: numClasses is '2'"),
    "trees by the million": ({"numTrees": 10**9}, "metadata/part-00000: numTrees is '1000000000'"),
}


@pytest.mark.parametrize("name", FORESTS)
def test_forest_with_other_trees_than_it_says_is_refused(tmp_path, name):
    """The list must match the trees, because Spark pairs both by order, whatever their numbers."""
    options, message = FORESTS[name]
    inside = write_model(tmp_path, "forest", [sound(), sound()], **options)

    assert re.match(f"{inside}/{message}", refusal(tmp_path)), refusal(tmp_path)


def test_columns_of_another_type_are_refused(tmp_path):
    """Spark could read other numbers than the gate."""
    other = pa.struct([(f.name, pa.int64() if f.name == "leftChild" else f.type) for f in NODE])
    write_model(tmp_path / "long", "tree", [sound()], type_=other)
    absent = pa.struct([f for f in NODE if f.name != "rightChild"])
    write_model(tmp_path / "absent", "tree", [sound()], type_=absent)

    assert "its column leftChild is int64, not integer" in refusal(tmp_path / "long")
    assert "it has no single column rightChild" in refusal(tmp_path / "absent")


def test_row_schema_that_would_cut_numbers_is_refused(tmp_path):
    """Spark converts a column to its row schema's type, in which 65,537 as a short is 1."""
    inside = write_model(tmp_path, "tree", [sound()])
    file = tmp_path / inside / "data" / PARQUET
    types = [{"name": name, "type": "integer", "nullable": True, "metadata": {}} for name in ("id", "leftChild")]
    types[1]["type"] = "short"
    types.append({"name": "prediction", "type": "double", "nullable": True, "metadata": {}})
    array = {"type": "array", "elementType": "double", "containsNull": True}
    types.append({"name": "impurityStats", "type": array, "nullable": True, "metadata": {}})
    own = {"org.apache.spark.sql.parquet.row.metadata": json.dumps({"type": "struct", "fields": types})}
    pq.write_table(pq.read_table(file).replace_schema_metadata(own), file)

    assert "its row schema has leftChild as short, not as integer" in refusal(tmp_path)


def test_large_forest_is_checked_in_no_time(tmp_path):
    """The check uses arrays, not a loop over nodes."""
    size = (1 << 14) - 1
    children = [(2 * number + 1, 2 * number + 2) for number in range(size // 2)]
    nodes = [node(number, pair, 0, [0.5]) for number, pair in enumerate(children)]
    nodes += [node(number) for number in range(size // 2, size)]
    write_model(tmp_path, "forest", [nodes] * 10)

    assert gate.inspect(LocalFiles(tmp_path), "unsigned")
