"""The Databricks bundle, checked without a workspace."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from databricks.bundles import experiments, jobs, registered_models, schemas, secret_scopes, volumes

from streamscore import label_stream, score_stream, seed_topic, train_models
from streamscore.config.sections import SECRET_KEY
from streamscore.messages import decoder
from streamscore.spark import maven
from streamscore.spark.settings import spark_settings

ROOT = Path(__file__).parents[3]
BUNDLE = yaml.safe_load((ROOT / "databricks.yml").read_text())
FILES = sorted(path for pattern in BUNDLE["include"] for path in ROOT.glob(pattern))
RESOURCES: dict[str, dict] = {}
for file in FILES:
    for kind, entries in yaml.safe_load(file.read_text())["resources"].items():
        assert not RESOURCES.get(kind, {}).keys() & entries.keys()
        RESOURCES.setdefault(kind, {}).update(entries)
JOBS = RESOURCES["jobs"]
MODULES = {"train": train_models, "seed": seed_topic, "score": score_stream, "label": label_stream}
TARGETS = BUNDLE["targets"]
DOCS = (ROOT / "docs" / "databricks.md").read_text()

TYPES = {
    "experiments": experiments.MlflowExperiment,
    "jobs": jobs.Job,
    "registered_models": registered_models.RegisteredModel,
    "schemas": schemas.Schema,
    "secret_scopes": secret_scopes.SecretScope,
    "volumes": volumes.Volume,
}
# Values of the user's variables, of the platform's variables, and of the secrets.
GIVEN = {
    "var.kafka_bootstrap_servers": "broker.example.com:9093",
    "var.elasticsearch_url": "https://search.example.com:9200",
    "var.node_type": "a-machine",
    "workspace.current_user.userName": "ada@example.com",
    "workspace.current_user.short_name": "ada",
    **{f"bundle.{name}": name for name in ("name", "target")},
}
SECRETS = {
    "kafka-jaas": 'kafkashaded.x.PlainLoginModule required username="u" password="p";',
    "elasticsearch-api-key": "k",
}


def resolved(node, target):
    """Return a part of the bundle resolved for `target`; an unknown reference raises KeyError."""
    if isinstance(node, dict):
        return {key: resolved(value, target) for key, value in node.items()}
    if isinstance(node, list):
        return [resolved(value, target) for value in node]
    if not isinstance(node, str):
        return node
    return re.sub(r"\$\{([^}]+)\}", lambda match: str(value_of(match[1], target)), node)


def value_of(reference, target):
    """Return the value of a reference."""
    if reference in GIVEN:
        return GIVEN[reference]
    first, *rest = reference.split(".")
    if first == "var":
        (name,) = rest
        chosen = TARGETS[target].get("variables", {})
        return resolved(chosen[name] if name in chosen else BUNDLE["variables"][name]["default"], target)
    assert first == "resources"
    kind, key, field = rest
    return resolved(RESOURCES[kind][key][field], target)


def cluster(job, target="dev"):
    """Return the only cluster of a job."""
    (shared,) = job["job_clusters"]
    assert {task["job_cluster_key"] for task in job["tasks"]} == {shared["job_cluster_key"]}
    return resolved(shared["new_cluster"], target)


def environment(job, target):
    """Return the environment of a job's processes, with resolved secrets."""
    scope = re.escape(resolved(RESOURCES["secret_scopes"]["streamscore"]["name"], target))
    variables = cluster(job, target)["spark_env_vars"]
    return {
        name: re.sub(rf"\{{\{{secrets/{scope}/([^}}]+)\}}\}}", lambda match: SECRETS[match[1]], value)
        for name, value in variables.items()
    }


def task(job):
    """Return the only task of a job."""
    (only,) = job["tasks"]
    return only


@pytest.fixture(params=TARGETS)
def target(request):
    """The name of each target."""
    return request.param


@pytest.fixture
def config(target, monkeypatch):
    """The configuration of the scoring job, from its command line and its cluster's environment."""
    for name, value in environment(JOBS["score"], target).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "16.4")
    return score_stream.JOB.parse(resolved(task(JOBS["score"])["python_wheel_task"]["parameters"], target)).config


@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind, entries in RESOURCES.items() for key in entries])
def test_resource_is_one_that_the_platform_knows(kind, key):
    """The resources conform to Databricks' published Python types."""
    assert TYPES[kind].from_dict(RESOURCES[kind][key])


def test_every_reference_leads_somewhere_and_every_variable_is_used(target):
    """In each target all references resolve, and all variables are used."""
    text = "\n".join(path.read_text() for path in [ROOT / "databricks.yml", *FILES])
    references = set(re.findall(r"\$\{([^}]+)\}", text))

    assert all(value_of(reference, target) for reference in references)
    assert {f"var.{name}" for name in BUNDLE["variables"]} == {name for name in references if name.startswith("var.")}
    assert all(variable["description"] for variable in BUNDLE["variables"].values())
    assert {name for target in TARGETS.values() for name in target.get("variables", {})} <= set(BUNDLE["variables"])


def test_every_path_exists():
    """Included and synchronised files exist, and the wheel's path is that of `make wheel`."""
    artifact = BUNDLE["artifacts"]["streamscore"]
    verb = artifact["build"].removeprefix("make ")

    assert [path.name for path in FILES] == ["jobs.yml", "storage.yml"]
    assert all((ROOT / path).exists() for path in BUNDLE["sync"]["paths"])
    assert re.search(rf"^{verb}: .*dist/", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for job in JOBS.values():
        (wheel,) = (library["whl"] for library in task(job)["libraries"] if "whl" in library)
        assert [path.resolve().parent for path in (ROOT / "resources").glob(wheel)] == [
            ROOT / artifact["path"] / "dist"
        ]


@pytest.mark.parametrize("name", JOBS)
def test_entry_point_is_the_job_s_own(name):
    """The entry point is a console script of the job's main."""
    wheel_task = task(JOBS[name])["python_wheel_task"]
    scripts = {entry.name: entry for entry in metadata.distribution(wheel_task["package_name"]).entry_points}

    assert scripts[wheel_task["entry_point"]].load() is MODULES[name].main


@pytest.mark.parametrize("name", JOBS)
def test_parameters_are_those_that_the_job_takes(name, target, monkeypatch):
    """The job accepts its parameters in its cluster's environment, and none is a secret."""
    for variable, value in environment(JOBS[name], target).items():
        monkeypatch.setenv(variable, value)
    parameters = resolved(task(JOBS[name])["python_wheel_task"]["parameters"], target)

    assert MODULES[name].JOB.parse(parameters).config.mlflow.tracking_uri == "databricks"
    assert not any(SECRET_KEY.search(word) or "{{secrets" in word for word in parameters)


def test_environment_is_what_the_configuration_asks_for(target):
    """The environment has exactly the configuration's variables, with its secrets as secrets."""
    text = (ROOT / "conf" / "databricks.yml").read_text()
    asked = dict(re.findall(r"^\s*-?\s*(\S+): .*\$\{env:(\w+)\}", text, re.MULTILINE))

    for job in JOBS.values():
        variables = cluster(job, target)["spark_env_vars"]
        assert set(variables) == set(re.findall(r"\$\{env:(\w+)\}", text))
        for key, variable in asked.items():
            assert bool(SECRET_KEY.search(key)) == variables[variable].startswith("{{secrets/"), key


def test_everything_lies_in_a_volume_of_the_bundle(config, target):
    """Checkpoint, state and jars are in declared volumes, which outlive a cluster."""
    declared = {
        "/Volumes/{catalog_name}/{schema_name}/{name}".format(**resolved(volume, target))
        for volume in RESOURCES["volumes"].values()
    }
    libraries = resolved([task(job)["libraries"] for job in JOBS.values()], target)
    jars = [library["jar"].rpartition("/")[0] for listed in libraries for library in listed if "jar" in library]
    used = [str(config.state_dir), config.stream.checkpoint.rpartition("/")[0], config.train.output.rpartition("/")[0]]

    assert {*used, *jars} <= declared


def test_models_are_registered_under_the_declared_names(config, target):
    """Training registers the models that scoring loads, under the declared names."""
    declared = {
        key: "{catalog_name}.{schema_name}.{name}".format(**resolved(model, target))
        for key, model in RESOURCES["registered_models"].items()
    }

    assert config.mlflow.registered_names.model_dump() == declared
    assert {model.name: model.uri for model in config.models} == {
        name: f"models:/{registered}@{config.mlflow.alias}" for name, registered in declared.items()
    }


@pytest.mark.parametrize("name", JOBS)
def test_jars_are_the_connector_and_the_decoder_of_this_version(name):
    """The only jars are the connector and this version's decoder, from the volume."""
    (connector,) = (jar for jar in maven.SPARK_JARS if jar.group == "org.elasticsearch")
    jars = [library["jar"].rpartition("/")[2] for library in task(JOBS[name])["libraries"] if "jar" in library]

    assert jars == [f"{connector.name}-{connector.version}.jar", decoder.jar_name()]
    assert all(library.keys() <= {"whl", "jar"} for library in task(JOBS[name])["libraries"])


@pytest.mark.parametrize("name", JOBS)
def test_compute_is_what_the_connector_runs_on(name):
    """Clusters have Spark 3.5 with the jars' Scala version, an unshared JVM and a fixed number of workers."""
    made = cluster(JOBS[name])
    scala = maven.SPARK_JARS[0].name.rpartition("_")[2]

    assert made["spark_version"] == f"16.4.x-scala{scala}"
    assert made["data_security_mode"] == "DATA_SECURITY_MODE_DEDICATED"
    assert "autoscale" not in made
    assert int(made["num_workers"]) > 0


@pytest.mark.parametrize("name", JOBS)
def test_cluster_has_what_a_running_session_cannot_be_given(spark, config, name):
    """The clusters have all settings that a running session cannot change, such as one attempt per task."""
    settings = spark_settings(config, name, MODULES[name].JOB.settings(config))
    fixed = {key: value for key, value in settings.items() if not spark.conf.isModifiable(key)}

    assert cluster(JOBS[name])["spark_conf"] == fixed


def test_only_scoring_runs_continuously():
    """Only scoring runs continuously, with restarts, and is paused at first because there are no models."""
    assert [name for name, job in JOBS.items() if "continuous" in job] == ["score"]
    assert resolved(JOBS["score"]["continuous"], "prod") == {"pause_status": "PAUSED", "task_retry_mode": "ON_FAILURE"}
    assert {job["max_concurrent_runs"] for job in JOBS.values()} == {1}


def test_targets_are_apart():
    """Development names contain the developer's name; production is single."""
    assert {name: target["mode"] for name, target in TARGETS.items()} == {"dev": "development", "prod": "production"}
    assert [name for name, target in TARGETS.items() if target.get("default")] == ["dev"]
    assert TARGETS["prod"]["workspace"]["root_path"].endswith("/${bundle.name}/${bundle.target}")
    for name in ("secret_scope", "experiment"):
        assert "ada" in value_of(f"var.{name}", "dev")
        assert "ada" not in value_of(f"var.{name}", "prod")


def test_the_wheel_leaves_the_platform_s_own_packages_alone():
    """The wheel requires no package that would replace the platform's own."""
    required = [line for line in metadata.requires("streamscore") if "extra ==" not in line]
    names = {re.match(r"[\w.-]+", line)[0].lower() for line in required}

    assert "elasticsearch" in names
    assert not names & {"pyspark", "delta-spark", "numpy", "pandas", "pyarrow", "mlflow"}
    assert "<3.14" in metadata.metadata("streamscore")["Requires-Python"].split(",")


def test_mlflow_is_one_version_with_and_without_its_server():
    """The versions of mlflow and mlflow-skinny are equal."""
    required = "\n".join(metadata.requires("streamscore"))
    pinned = dict(re.findall(r"^(mlflow(?:-skinny)?)==([^;\s]+)", required, re.MULTILINE))

    assert pinned["mlflow"] == pinned["mlflow-skinny"]


def test_the_commands_in_the_docs_work_on_this_bundle():
    """The jobs, targets, variables, secrets and volumes in the documents' commands are declared."""
    commands = "\n".join(re.findall(r"```bash\n(.*?)```", DOCS, re.DOTALL))
    required = {name for name, variable in BUNDLE["variables"].items() if "default" not in variable}

    assert set(re.findall(r"databricks bundle run (\w+)", commands)) == set(JOBS)
    assert set(re.findall(r"-t (\w+)", commands)) == {"prod"}
    assert set(re.findall(r"secrets put-secret \S+ (\S+)", commands)) == set(SECRETS)
    assert set(re.findall(r"BUNDLE_VAR_(\w+)=", commands)) == required
    assert set(re.findall(r"--var (\w+)=", commands)) <= set(BUNDLE["variables"])
    assert set(re.findall(r"/Volumes/\w+/\w+/(\w+)", commands)) == {"jars", "state"} <= set(RESOURCES["volumes"])


def test_a_configuration_made_as_the_docs_say_is_valid(tmp_path, monkeypatch):
    """The documents' configuration lines are valid, and its folders are in the bundle's volumes."""
    for name, value in environment(JOBS["score"], "prod").items():
        monkeypatch.setenv(name, value)
    (block,) = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    made = yaml.safe_load((ROOT / "conf" / "databricks.yml").read_text())
    for section, keys in yaml.safe_load(block).items():
        made[section] = {**made.get(section, {}), **keys} if isinstance(keys, dict) else keys
    (tmp_path / "my.yml").write_text(yaml.safe_dump(made))
    (where,) = re.findall(r"dbfs:(/Volumes/\S+/my\.yml)", DOCS)
    (parameters,) = re.findall(r"`parameters: (\[.*?\])`", DOCS)
    assert resolved(yaml.safe_load(parameters), "prod") == ["--config", where]
    config = score_stream.JOB.parse(["--config", str(tmp_path / "my.yml")]).config

    assert config.kafka.options["security.protocol"].get_secret_value() == "SASL_SSL"
    assert {model.trust for model in config.models} == {"unsigned"}
    volumes = re.findall(r"/Volumes/\w+/\w+/(\w+)", f"{where} {config.stream.checkpoint} {config.models[1].uri}")
    assert volumes == ["state", "checkpoints", "models"]
    assert set(volumes) <= set(RESOURCES["volumes"])


def test_the_docs_name_every_variable_that_a_notebook_s_cluster_needs():
    """The documents list every environment variable of a notebook's cluster."""
    for variable in cluster(JOBS["score"])["spark_env_vars"]:
        assert f"`{variable}`" in DOCS
