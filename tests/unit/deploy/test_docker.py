"""The container files, checked without a container engine."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from streamscore import cli, label_stream, score_stream, seed_topic, train_models
from streamscore import config as configuration
from streamscore.spark import maven

JOBS = {"train": train_models, "seed": seed_topic, "score": score_stream, "label": label_stream}
COMPOSE = (Path(__file__).parents[3] / "docker" / "compose.yml").read_text()
PORTS = dict(re.findall(r"\$\{(\w+_PORT):-(\d+)\}", COMPOSE))
# With the default ports, as Compose reads it without a file of variables.
SERVICES = yaml.safe_load(re.sub(r"\$\{\w+_PORT:-(\d+)\}", r"\1", COMPOSE))["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("streamscore")]
WATCHING = [name for name, service in SERVICES.items() if service.get("profiles") == ["monitoring"]]
COMMANDS = typer.main.get_command(cli.app).commands


@pytest.fixture(scope="module")
def dockerfile(root):
    """The Dockerfile's instructions, one per line."""
    text = re.sub(r"\\\n\s*", "", (root / "docker" / "Dockerfile").read_text())
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def example(root):
    """The example of the untracked file."""
    return (root / "docker" / ".env.example").read_text()


@pytest.fixture(scope="module")
def variables(example):
    """The variables that the example asks for."""
    return dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))


@pytest.fixture
def settings(monkeypatch, dockerfile):
    """The configuration inside the containers."""
    (name,) = re.findall(r"^ENV STREAMSCORE_CONFIG=(\w+)$", "\n".join(dockerfile), re.MULTILINE)
    monkeypatch.setenv("STREAMSCORE_CONFIG", name)
    monkeypatch.setenv("ELASTIC_PASSWORD", "s3cret")
    return configuration.load(name)


def words(service):
    """Return the words after ``streamscore`` in a service's command."""
    if service.get("entrypoint") == ["sh", "-c"]:
        (script,) = service["command"]
        return shlex.split(script.split(" exec streamscore ")[1])
    return service["command"]


def one_shot(service):
    """Return whether a service ends by itself."""
    return "healthcheck" not in service and "--restart" not in service.get("command", ())


def test_the_compose_file_follows_the_specification(root):
    """The compose file is valid by Compose's schema, from the package check-jsonschema."""
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker/compose.yml"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_and_named_without_a_host(name):
    """Image tags are fixed versions without a registry host; our image has the current version."""
    assert name in OURS or re.fullmatch(r"([a-z]+/)?[a-z]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


def test_versions_are_those_of_the_rest_of_the_house():
    """Elasticsearch, Kibana and the connector have one version; the broker has that of the local stack."""
    (connector,) = (jar for jar in maven.SPARK_JARS if jar.name.startswith("elasticsearch-spark"))

    assert {service["image"] for name, service in SERVICES.items() if name not in WATCHING} == {
        f"apache/kafka:{maven.KAFKA_BROKER.version}",
        f"elasticsearch:{connector.version}",
        f"kibana:{connector.version}",
        "streamscore",
    }


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_on_loopback(name):
    """Ports are published on loopback only, because neither servers nor page are protected."""
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_memory_limit_and_no_privileges(name):
    """Every service has a memory limit and no privileges."""
    service = SERVICES[name]

    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert not {"privileged", "network_mode", "pid", "cap_add"} & set(service)
    assert not any(volume.startswith(("/", ".")) for volume in service.get("volumes", []))


def test_image_is_built_once():
    """Only one service builds the shared image, because parallel builds would conflict."""
    built = [name for name in OURS if "build" in SERVICES[name]]

    assert built == ["create"]
    assert all(SERVICES[name]["pull_policy"] == ("build" if name in built else "never") for name in OURS)


def test_services_wait_for_what_can_become_true():
    """Services wait for "healthy" only of services with a health check, and for "completed" only of one-shot ones."""
    for name, service in SERVICES.items():
        for other, wait in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if one_shot(SERVICES[other]) else "service_healthy"
            assert wait == {"condition": expected}, (name, other)
    assert all("healthcheck" in service for service in SERVICES.values() if "ports" in service)
    assert [name for name, service in SERVICES.items() if not one_shot(service)] == [
        *("kafka", "elasticsearch", "kibana", "score", "label", "page", "prometheus", "alertmanager", "grafana")
    ]


@pytest.mark.parametrize("name", OURS)
@pytest.mark.usefixtures("settings")
def test_every_command_parses(name):
    """Each verb, option and configuration key in the compose file exists."""
    verb, *rest = words(SERVICES[name])
    parses(verb, rest)


@pytest.mark.usefixtures("settings")
def test_the_docs_commands_parse(root):
    """The commands of docs/docker.md are valid."""
    text = (root / "docs" / "docker.md").read_text()
    shown = re.findall(
        r"^docker compose -f docker/compose.yml run --rm --no-deps (\w+) (\w+) ?(.*)$", text, re.MULTILINE
    )

    assert [service for service, *_ in shown] == ["score", "seed"]
    for service, verb, rest in shown:
        assert service in OURS
        parses(verb, shlex.split(rest))


def parses(verb, rest):
    """Check that a command of streamscore would start, with the configuration inside the containers."""
    assert verb in COMMANDS
    if verb in JOBS:
        JOBS[verb].JOB.parse([word for word in rest if word != "--restart"])  # an option of the command, not of the job
        return
    command = COMMANDS[verb]
    if isinstance(command, typer.core.TyperGroup):
        command = command.commands[rest.pop(0)]
    parameters = command.make_context(verb, rest).params
    assert parameters["config"] == "docker"
    assert configuration.load(parameters["config"], parameters["overrides"])


def test_addresses_inside_are_those_of_the_services(settings):
    """The configuration's hosts are services, with their ports."""
    kafka = SERVICES["kafka"]["environment"]
    advertised = dict(pair.split("://") for pair in kafka["KAFKA_ADVERTISED_LISTENERS"].split(","))
    listening = {pair.rsplit(":", 1)[1] for pair in kafka["KAFKA_LISTENERS"].split(",")}
    published = {port.rsplit(":", 1)[1] for port in SERVICES["kafka"]["ports"]}

    assert settings.kafka.bootstrap_servers == advertised["INSIDE"]
    assert {address.rsplit(":", 1)[1] for address in advertised.values()} < listening
    assert {advertised["OUTSIDE"].rsplit(":", 1)[1]} == published
    for name, url in (("elasticsearch", settings.elasticsearch.url), ("kibana", settings.kibana.url)):
        (port,) = SERVICES[name]["ports"]
        assert url == f"http://{name}:{port.rsplit(':', 1)[1]}"
        assert f"127.0.0.1:{port.rsplit(':', 1)[1]}/" in str(SERVICES[name]["healthcheck"]["test"])
    assert SERVICES["kibana"]["environment"]["ELASTICSEARCH_HOSTS"] == settings.elasticsearch.url


def test_metrics_ports_are_the_configuration_s_and_prometheus_s(root, settings):
    """The jobs' published and checked ports have their metrics; Prometheus scrapes them, inside and on this machine."""
    folder, metrics = root / "docker" / "prometheus", settings.metrics
    (beside,) = yaml.safe_load((folder / "prometheus.yml").read_text())["scrape_configs"]
    score, label = yaml.safe_load((folder / "containers.yml").read_text())["scrape_configs"]

    for name, port in (("score", metrics.port), ("label", metrics.labels_port)):
        assert SERVICES[name]["ports"] == [f"127.0.0.1:{port}:{port}"]
        assert f"127.0.0.1:{port}/healthz" in SERVICES[name]["healthcheck"]["test"]
    assert (metrics.address, metrics.insecure) == ("0.0.0.0", True)  # noqa: S104 (its own network)
    assert beside["static_configs"] == [{"targets": [f"127.0.0.1:{metrics.port}"]}]
    assert f'targets: ["127.0.0.1:{metrics.labels_port}"]' in (folder / "prometheus.yml").read_text()
    assert score["static_configs"] == [{"targets": [f"score:{metrics.port}"]}]
    assert label["dns_sd_configs"] == [{"names": ["label"], "type": "A", "port": metrics.labels_port}]


def test_what_monitors_is_asked_for_and_finds_its_files(root):
    """Prometheus, Alertmanager and Grafana run with a profile alone, find each other, and have their files."""
    compose = yaml.safe_load(COMPOSE)
    files = {name: root / "docker" / config["file"] for name, config in compose["configs"].items()}
    mounted = {one["target"]: files[one["source"]] for name in WATCHING for one in SERVICES[name]["configs"]}
    ports = {name: SERVICES[name]["ports"][0].rpartition(":")[2] for name in WATCHING}
    scraping = yaml.safe_load(mounted["/etc/prometheus/prometheus.yml"].read_text())
    (alerting,) = scraping["alerting"]["alertmanagers"]
    (source,) = yaml.safe_load(mounted["/etc/grafana/provisioning/datasources/prometheus.yml"].read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load(mounted["/etc/grafana/provisioning/dashboards/streamscore.yml"].read_text())[
        "providers"
    ]

    assert WATCHING == ["prometheus", "alertmanager", "grafana"]
    assert all(path.is_file() for path in files.values())
    assert set(mounted.values()) == set(files.values())
    assert all(f"/etc/prometheus/{name}" in mounted for name in scraping["rule_files"])
    assert alerting["static_configs"] == [{"targets": [f"alertmanager:{ports['alertmanager']}"]}]
    assert source["url"] == f"http://prometheus:{ports['prometheus']}"
    assert f"{provider['options']['path']}/streamscore.json" in mounted
    for name, flag in (("prometheus", "config.file"), ("alertmanager", "config.file")):
        (path,) = (word.partition("=")[2] for word in SERVICES[name]["command"] if word.startswith(f"--{flag}="))
        assert path in mounted
    assert SERVICES["grafana"]["environment"]["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"


def test_lasting_services_are_restarted_and_no_log_grows_without_limit():
    """A service that dies is started again unless it ends by itself; each service's log is limited."""
    for name, service in SERVICES.items():
        assert service.get("restart") == (None if one_shot(service) else "unless-stopped"), name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
    assert all(SERVICES[name]["read_only"] and SERVICES[name]["cap_drop"] == ["ALL"] for name in OURS)


def test_every_port_can_be_another(example):
    """Each published port has a variable, with the same default in the example; what names the port follows it."""
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert dict(re.findall(r"^#(\w+)=(\d+)$", example, re.MULTILINE)) == PORTS
    assert sorted(port.split(":")[1] for port in published) == sorted(PORTS.values())
    assert "OUTSIDE://127.0.0.1:${KAFKA_PORT:-29092}" in COMPOSE
    assert "SERVER_PUBLICBASEURL: http://127.0.0.1:${KIBANA_PORT:-5601}" in COMPOSE


def test_kafka_runs_without_zookeeper():
    """One Kafka node is broker and controller, without ZooKeeper."""
    environment = SERVICES["kafka"]["environment"]

    assert environment["KAFKA_PROCESS_ROLES"] == "broker,controller"
    assert environment["KAFKA_CONTROLLER_QUORUM_VOTERS"] == f"{environment['KAFKA_NODE_ID']}@localhost:9093"
    named = {pair.split(":")[0] for pair in environment["KAFKA_LISTENERS"].split(",")}
    mapped = {pair.split(":")[0] for pair in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")}
    assert named == mapped == {"INSIDE", "CONTROLLER", "OUTSIDE"}
    assert "zookeeper" not in " ".join(SERVICES).lower()


def test_secrets_come_from_the_untracked_file(root, variables):
    """Each secret is required and declared empty in the example, and the real file is ignored by git."""
    used = [(name, rule) for name, rule in re.findall(r"\$\{(\w+)([^}]*)\}", COMPOSE) if name not in PORTS]

    assert {name for name, _ in used} == set(variables)
    assert {rule for _, rule in used} == {":?see docs/docker.md"}
    assert set(variables.values()) == {""}
    ignored = subprocess.run(["git", "check-ignore", "docker/.env"], cwd=root, capture_output=True, check=False)
    assert ignored.returncode == 0
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            assert not re.search("PASSWORD|KEY", key) or str(value).startswith("${"), (name, key)


def test_shell_variables_of_a_container_are_given_to_it():
    """Each `$$NAME` of a command is an environment variable of its container."""
    for name, service in SERVICES.items():
        told = str(service.get("command", "")) + str(service.get("healthcheck", {}).get("test", ""))
        assert set(re.findall(r"\$\$(\w+)", told)) <= set(service.get("environment", {})), name
    assert "$$ELASTIC_PASSWORD" in COMPOSE


CURL = """#!/bin/sh
for word; do
    echo "$word" >> "$SEEN/arguments"
    case $word in @/dev/fd/*) cat "${word#@}" >> "$SEEN/body" ;; esac
done
cat >> "$SEEN/settings"
"""


@pytest.mark.parametrize(
    ("name", "shell", "body"), [("elasticsearch", "sh", ""), ("passwords", "bash", '{"password":"new"}')]
)
def test_passwords_are_no_arguments_of_a_command(tmp_path, name, shell, body):
    """Passwords are not arguments of commands, which the process list shows; curl reads a file."""
    service = SERVICES[name]
    (script,) = service.get("command") or [service["healthcheck"]["test"]]
    (tmp_path / "curl").write_text(CURL)
    (tmp_path / "curl").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/bin:/usr/bin", "SEEN": str(tmp_path)}
    environment |= {"ELASTIC_PASSWORD": "old", "KIBANA_PASSWORD": "new"}

    subprocess.run([shell, "-c", script.replace("$$", "$")], env=environment, check=True)

    assert not {"old", "new"} & set(re.findall(r"\w+", (tmp_path / "arguments").read_text()))
    assert (tmp_path / "settings").read_text() == 'user="elastic:old"\n'
    assert (tmp_path / "body").exists() == bool(body)
    assert not body or (tmp_path / "body").read_text() == body


def test_the_line_that_makes_up_passwords_works(root, tmp_path, variables):
    """The command that generates passwords sets each variable to 32 characters or more, for its user's eyes only."""
    (line,) = re.findall(r"^\(umask .*$", (root / "docs" / "docker.md").read_text(), re.MULTILINE)
    (tmp_path / "docker").mkdir()

    subprocess.run(["bash", "-c", line], cwd=tmp_path, check=True)

    made = dict(pair.split("=") for pair in (tmp_path / "docker" / ".env").read_text().splitlines())
    assert set(made) == set(variables)
    assert all(len(value) >= 32 for value in made.values())
    assert len(set(made.values())) == 3
    assert (tmp_path / "docker" / ".env").stat().st_mode & 0o777 == 0o600


def test_folders_agree(settings, dockerfile):
    """The image's folders are the configuration's, with persistent data on a volume."""
    text = "\n".join(dockerfile)

    for name in OURS:
        assert SERVICES[name]["volumes"] == [f"state:{settings.state_dir}"]
    assert f"COPY --from=jars {settings.local.artifacts_dir} {settings.local.artifacts_dir}" in text
    assert f"--group=root --mode=2775 {settings.state_dir}" in text
    assert f"{settings.train.output}/{train_models.METRICS}" in SERVICES["train"]["command"][0]


def test_the_image_is_built_from_what_is_there(root, dockerfile):
    """Copied files exist, and the build context contains no secrets and no state."""
    sources = [
        source
        for line in dockerfile
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    allowed = re.findall(r"^!(\S+)$", (root / ".dockerignore").read_text(), re.MULTILINE)

    assert sorted(sources) == sorted(allowed)
    assert all((root / source).exists() for source in sources)
    assert (root / ".dockerignore").read_text().splitlines()[1] == "*"
    for lock in re.findall(r"requirements/\S+", "\n".join(dockerfile)):
        assert (root / lock).is_file()


def test_the_image_downloads_nothing_when_it_runs(dockerfile):
    """Packages are hash-checked; the last stage takes everything from earlier ones and runs as an ordinary user."""
    bases = [line for line in dockerfile if line.startswith("FROM ")]
    last = dockerfile[dockerfile.index(bases[-1]) :]
    (base,) = (line for line in dockerfile if line.startswith("ARG PYTHON_IMAGE="))

    assert re.fullmatch(r"ARG PYTHON_IMAGE=python:3\.11\.\d+-slim-[a-z]+", base)
    assert [line.split()[1] for line in bases] == ["${PYTHON_IMAGE}", "base", "tools", "tools", "packages", "base"]
    assert not re.search(r"\b(apt-get|curl|wget|streamscore jars)\b", "\n".join(last))
    assert [line for line in last if line.startswith("USER ")] == ["USER streamscore"]
    assert last.index("USER streamscore") < last.index('ENTRYPOINT ["entrypoint.sh"]')
    installs = re.findall(r"pip install [^&\n]*", "\n".join(dockerfile))
    assert len(installs) == 4
    assert all("--require-hashes" in one or "--no-deps --no-index" in one for one in installs)


def test_what_changes_often_comes_last(dockerfile):
    """Packages and jars are layers before the code's, so that only a change of their locks replaces them."""
    last = dockerfile[max(number for number, line in enumerate(dockerfile) if line.startswith("FROM ")) :]
    order = ["/opt/streamscore/venv", "/opt/streamscore/artifacts", "pip install"]
    places = [next(number for number, line in enumerate(last) if word in line) for word in order]

    assert places == sorted(places)


def test_the_commands_in_the_docs_are_those_of_the_compose_file(root):
    """The documents' commands to start and stop equal those in the compose file."""
    text = (root / "docs" / "docker.md").read_text()

    for command in re.findall(r"(docker compose \S+ \S+ (?:up|down).*)", COMPOSE):
        assert f"```bash\n{command}\n```" in text


def test_the_commands_in_the_kibana_docs_parse(root, monkeypatch, tmp_path):
    """The commands of docs/kibana.md are valid."""
    monkeypatch.setenv("KIBANA_PASSWORD", "s3cret")
    (tmp_path / "kibana_key").write_text("a2V5")
    shown = re.findall(r"^streamscore .*$", (root / "docs" / "kibana.md").read_text(), re.MULTILINE)

    assert len(shown) == 3
    for line in shown:
        _, group, verb, *rest = shlex.split(line.replace("/run/secrets", str(tmp_path)))
        parameters = COMMANDS[group].commands[verb].make_context(verb, rest).params
        assert configuration.load(parameters["config"], parameters["overrides"])
