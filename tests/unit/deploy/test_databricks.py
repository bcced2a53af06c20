"""The Databricks bundle, as far as it can be checked without a workspace."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from databricks.bundles import experiments, jobs, registered_models, schemas, secret_scopes, volumes

from streamscore import score_stream, seed_topic, train_models
from streamscore.config.keys import SECRET_KEY
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
MODULES = {"train": train_models, "seed": seed_topic, "score": score_stream}
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
# What a user gives, what the platform knows, and what is behind the secrets.
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
    """Return a part of the bundle as `target` would have it; a reference to nothing raises KeyError."""
    if isinstance(node, dict):
        return {key: resolved(value, target) for key, value in node.items()}
    if isinstance(node, list):
        return [resolved(value, target) for value in node]
    if not isinstance(node, str):
        return node
    return re.sub(r"\$\{([^}]+)\}", lambda match: str(value_of(match[1], target)), node)


def value_of(reference, target):
    """Return what a reference stands for."""
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
    """Return the environment of a job's processes, with the secrets filled in."""
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
    """Each target's name."""
    return request.param


@pytest.fixture
def config(target, monkeypatch):
    """The configuration of the scoring job, as its command line and its cluster's environment make it."""
    for name, value in environment(JOBS["score"], target).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "16.4")
    return score_stream.JOB.parse(resolved(task(JOBS["score"])["python_wheel_task"]["parameters"], target)).config


@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind, entries in RESOURCES.items() for key in entries])
def test_resource_is_one_that_the_platform_knows(kind, key):
    """Its fields, their types and their allowed values, as Databricks publishes them in Python."""
    assert TYPES[kind].from_dict(RESOURCES[kind][key])


def test_every_reference_leads_somewhere_and_every_variable_is_used(target):
    """In all files, for each target."""
    text = "\n".join(path.read_text() for path in [ROOT / "databricks.yml", *FILES])
    references = set(re.findall(r"\$\{([^}]+)\}", text))

    assert all(value_of(reference, target) for reference in references)
    assert {f"var.{name}" for name in BUNDLE["variables"]} == {name for name in references if name.startswith("var.")}
    assert all(variable["description"] for variable in BUNDLE["variables"].values())
    assert {name for target in TARGETS.values() for name in target.get("variables", {})} <= set(BUNDLE["variables"])


def test_every_path_exists():
    """The included files, what is synchronised, and the wheel where `make wheel` puts it."""
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
    """A console script of the distribution that leads to the job's main."""
    wheel_task = task(JOBS[name])["python_wheel_task"]
    scripts = {entry.name: entry for entry in metadata.distribution(wheel_task["package_name"]).entry_points}

    assert scripts[wheel_task["entry_point"]].load() is MODULES[name].main


@pytest.mark.parametrize("name", JOBS)
def test_parameters_are_those_that_the_job_takes(name, target, monkeypatch):
    """Parsed by the job itself, in the environment that its cluster gives it, with no secret among them."""
    for variable, value in environment(JOBS[name], target).items():
        monkeypatch.setenv(variable, value)
    parameters = resolved(task(JOBS[name])["python_wheel_task"]["parameters"], target)

    assert MODULES[name].JOB.parse(parameters).config.mlflow.tracking_uri == "databricks"
    assert not any(SECRET_KEY.search(word) or "{{secrets" in word for word in parameters)


def test_environment_is_what_the_configuration_asks_for(target):
    """No variable is missing and none is given for nothing; what the configuration calls secret is one."""
    text = (ROOT / "conf" / "databricks.yml").read_text()
    asked = dict(re.findall(r"^\s*-?\s*(\S+): .*\$\{env:(\w+)\}", text, re.MULTILINE))

    for job in JOBS.values():
        variables = cluster(job, target)["spark_env_vars"]
        assert set(variables) == set(re.findall(r"\$\{env:(\w+)\}", text))
        for key, variable in asked.items():
            assert bool(SECRET_KEY.search(key)) == variables[variable].startswith("{{secrets/"), key


def test_everything_lies_in_a_volume_of_the_bundle(config, target):
    """Checkpoint, state and jars: where they outlive a cluster, under names that are declared."""
    declared = {
        "/Volumes/{catalog_name}/{schema_name}/{name}".format(**resolved(volume, target))
        for volume in RESOURCES["volumes"].values()
    }
    libraries = resolved([task(job)["libraries"] for job in JOBS.values()], target)
    jars = [library["jar"].rpartition("/")[0] for listed in libraries for library in listed if "jar" in library]
    used = [str(config.state_dir), config.stream.checkpoint.rpartition("/")[0], config.train.output.rpartition("/")[0]]

    assert {*used, *jars} <= declared


def test_models_are_registered_under_the_declared_names(config, target):
    """The names that training registers are the ones that scoring loads."""
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
    """From the volume: the connector's Maven description names artifacts that do not exist. The rest is built in."""
    (connector,) = (jar for jar in maven.SPARK_JARS if jar.group == "org.elasticsearch")
    jars = [library["jar"].rpartition("/")[2] for library in task(JOBS[name])["libraries"] if "jar" in library]

    assert jars == [f"{connector.name}-{connector.version}.jar", decoder.jar_name()]
    assert all(library.keys() <= {"whl", "jar"} for library in task(JOBS[name])["libraries"])


@pytest.mark.parametrize("name", JOBS)
def test_compute_is_what_the_connector_runs_on(name):
    """Spark 3.5 with the jars' Scala, a JVM that is not shared, a fixed number of workers."""
    made = cluster(JOBS[name])
    scala = maven.SPARK_JARS[0].name.rpartition("_")[2]

    assert made["spark_version"] == f"16.4.x-scala{scala}"
    assert made["data_security_mode"] == "DATA_SECURITY_MODE_DEDICATED"
    assert "autoscale" not in made
    assert int(made["num_workers"]) > 0


@pytest.mark.parametrize("name", JOBS)
def test_cluster_has_what_a_running_session_cannot_be_given(spark, config, name):
    """Such as the single attempt per task, without which records would be sent twice."""
    settings = spark_settings(config, name, MODULES[name].JOB.settings(config))
    fixed = {key: value for key, value in settings.items() if not spark.conf.isModifiable(key)}

    assert cluster(JOBS[name])["spark_conf"] == fixed


def test_only_scoring_runs_continuously():
    """Alone, and started again when it fails; paused until someone says otherwise, for there are no models yet."""
    assert [name for name, job in JOBS.items() if "continuous" in job] == ["score"]
    assert resolved(JOBS["score"]["continuous"], "prod") == {"pause_status": "PAUSED", "task_retry_mode": "ON_FAILURE"}
    assert {job["max_concurrent_runs"] for job in JOBS.values()} == {1}


def test_targets_are_apart():
    """A developer's names are the developer's own; there is one production."""
    assert {name: target["mode"] for name, target in TARGETS.items()} == {"dev": "development", "prod": "production"}
    assert [name for name, target in TARGETS.items() if target.get("default")] == ["dev"]
    assert TARGETS["prod"]["workspace"]["root_path"].endswith("/${bundle.name}/${bundle.target}")
    for name in ("secret_scope", "experiment"):
        assert "ada" in value_of(f"var.{name}", "dev")
        assert "ada" not in value_of(f"var.{name}", "prod")


def test_the_wheel_leaves_the_platform_s_own_packages_alone():
    """Spark of another build, or another numpy, would break a cluster; 16.4 has Python 3.12."""
    required = [line for line in metadata.requires("streamscore") if "extra ==" not in line]
    names = {re.match(r"[\w.-]+", line)[0].lower() for line in required}

    assert "elasticsearch" in names
    assert not names & {"pyspark", "delta-spark", "numpy", "pandas", "pyarrow", "mlflow"}
    assert "<3.14" in metadata.metadata("streamscore")["Requires-Python"].split(",")


def test_mlflow_is_one_version_with_and_without_its_server():
    """What runs on a cluster is what is tested here."""
    required = "\n".join(metadata.requires("streamscore"))
    pinned = dict(re.findall(r"^(mlflow(?:-skinny)?)==([^;\s]+)", required, re.MULTILINE))

    assert pinned["mlflow"] == pinned["mlflow-skinny"]


def test_the_commands_in_the_docs_work_on_this_bundle():
    """The jobs, targets, variables, secrets and volumes that they name are declared."""
    commands = "\n".join(re.findall(r"```bash\n(.*?)```", DOCS, re.DOTALL))
    required = {name for name, variable in BUNDLE["variables"].items() if "default" not in variable}

    assert set(re.findall(r"databricks bundle run (\w+)", commands)) == set(JOBS)
    assert set(re.findall(r"-t (\w+)", commands)) == {"prod"}
    assert set(re.findall(r"secrets put-secret \S+ (\S+)", commands)) == set(SECRETS)
    assert set(re.findall(r"BUNDLE_VAR_(\w+)=", commands)) == required
    assert set(re.findall(r"--var (\w+)=", commands)) <= set(BUNDLE["variables"])
    assert set(re.findall(r"/Volumes/\w+/\w+/(\w+)", commands)) == {"jars", "state"} <= set(RESOURCES["volumes"])


def test_a_configuration_made_as_the_docs_say_is_valid(tmp_path, monkeypatch):
    """The lines that they show, in a copy of the file that it replaces; its folders are volumes of the bundle."""
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
    """They are copied by hand there."""
    for variable in cluster(JOBS["score"])["spark_env_vars"]:
        assert f"`{variable}`" in DOCS
