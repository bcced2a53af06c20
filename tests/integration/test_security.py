"""Every command with exactly the rights that docs/production.md lists, on servers with TLS, passwords and ACLs."""

import json
import os
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import oracle
import pytest
from jobs import Job, environment
from secured import Account, Grant, World, grants
from typer.testing import CliRunner

from streamscore import cli, label_stream, score_stream, scored, seed_topic
from streamscore.clients import elasticsearch, kafka, topic_records
from streamscore.clients import labels as label_client
from streamscore.clients.group_offsets import GroupOffsets
from streamscore.config import load
from streamscore.dashboard.reader import Reader
from streamscore.errors import SetupError, StreamscoreError
from streamscore.launch.runner import reported
from streamscore.sinks.kafka import Records
from streamscore.spark import sources
from streamscore.system.console import log

pytestmark = pytest.mark.servers

DOCUMENT = (Path(__file__).parents[2] / "docs" / "production.md").read_text(encoding="utf-8")
COMMANDS = (
    *("create", "seed", "seed --resume", "score", "label", "rejected list", "rejected replay", "doctor", "dashboard"),
)
RIGHTS = {
    command: (
        grants(DOCUMENT, "| command | on | ACLs |", command),
        grants(DOCUMENT, "| command | on | privileges |", command),
    )
    for command in COMMANDS
}
assert all(any(rights) for rights in RIGHTS.values()), RIGHTS
GAPS = [
    (f"{command.replace(' ', '-')}-{kind}{number}", command, gap)
    for command, rights in RIGHTS.items()
    for kind, of_server in zip(("acl", "privilege"), rights, strict=True)
    for number, gap in enumerate(of_server)
]
NAMES = {command: command.replace(" ", "-") for command in COMMANDS}
ROWS = 300


def without(rights, gap):
    """Return the rights of a command without one of them."""
    return [[right for right in of_server if right is not gap] for of_server in rights]


def of_other_topics(name, acls):
    """Return the ACLs for topics that nobody has made yet."""
    return [Grant(kind, f"{name}.{topic}", operation) for kind, topic, operation in acls]


@pytest.fixture(scope="module")
def world(root, tmp_path_factory, small_models, jars):
    """The two servers, with an account for each command and one for each right that a command may lack."""
    world = World(root, tmp_path_factory.mktemp("secured"), oracle.listed(small_models).removeprefix("models="))
    for name in ("admin", "nobody"):
        world.add(Account(name))
    for command, rights in RIGHTS.items():
        world.add(Account(NAMES[command], *rights))
    for name, command, gap in GAPS:
        acls, privileges = without(RIGHTS[command], gap)
        world.add(Account(name, of_other_topics(name, acls) if command == "create" else acls, privileges))
    world.add(Account("plain", RIGHTS["rejected list"][0]))
    try:
        with world.running():
            yield world
    except SetupError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the servers do not start here: {error}")


@pytest.fixture(scope="module")
def run_command(world):
    """Return a function that runs a command as its account and returns its exit code and its output."""
    outputs = []

    def run(name, *words, fault=None, **changes):
        armed = {"STREAMSCORE_TEST_FAULTS": "1", "STREAMSCORE_FAULT": fault} if fault else {}
        job = Job(
            ["streamscore", *name.split(), *words, "--config", str(world.file(NAMES[name], **changes))],
            env=environment(**armed),
        )
        code = job.wait()
        outputs.append(job.output)
        return code, job.output

    yield run
    logs = [path.read_text(errors="replace") for path in (world.folder / "state").rglob("*.log")]
    assert logs
    assert_no_secret(world, *outputs, *logs)


def assert_no_secret(world, *texts):
    """Check that no password is in what was printed."""
    for text in texts:
        assert not any(account.token in text for account in world.accounts.values()), text[-3_000:]


@pytest.fixture(scope="module")
def ledger(spark, world):
    """The messages, of which some were seeded, and the file that these came from."""
    ledger = oracle.Ledger(seed=28)
    rows = [(float(number % 3 == 0), ledger.pool[number]) for number in range(ROWS)]
    spark.createDataFrame(rows, ["label", "features"]).coalesce(1).write.parquet(str(world.folder / "seed"))
    return ledger


@pytest.fixture(scope="module")
def after_score(world, run_command, ledger):
    """Topics and indices that were made, filled and scored by commands with their own rights; one job was killed."""
    summary = world.folder / "seeded.json"
    code, output = run_command("create")
    assert code == 0, output
    admin = world.config("admin", "kafka.topics.input=labels")
    kafka.ensure(admin.kafka, "labels", admin.kafka.topics.labelled)
    code, output = run_command("seed", "--json", str(summary))
    assert code == 0, output
    digest = json.loads(summary.read_text())["digest"]
    oracle.send(world.config("admin"), ledger.next_messages(ROWS))
    ledger.good |= {f"{digest}-{number}": (float(number % 3 == 0), number) for number in range(ROWS)}
    lag_group = ("--set", "kafka.lag_group=streamscore-{topic}")
    code, output = run_command("score", "--available-now", *lag_group, fault="records-half:kill-group:1")
    assert code == -9, output
    code, output = run_command("score", "--available-now", *lag_group)
    assert code == 0, output
    return output


@pytest.mark.timeout(1200)
def test_every_message_is_scored_once_although_a_job_was_killed(spark, world, after_score, ledger, small_models):
    """Seeded, killed and started again, the commands lose and double nothing, and have all they need."""
    judgement = oracle.judge(spark, world.config("admin"), ledger, small_models)

    assert oracle.faults(judgement) == {}, judgement
    assert "looking for what is there" in after_score
    assert "lacks" not in after_score
    assert "the offsets of the group" not in after_score


def test_seed_resumes(spark, world, after_score):
    """Nothing is sent twice, which takes reading the topic."""
    config = world.config("seed---resume", "seed.resume=true")
    seed_topic.check(config)

    assert seed_topic.run(spark, config)["sent"] == 0


def test_rejected_messages_are_listed_and_sent_again(run_command, after_score, ledger):
    """Each of the bad messages is listed, and those of a reason are sent again."""
    count = sum(reason == "not_json" for _, reason in ledger.bad.values())

    code, output = run_command("rejected list")
    assert (code, f"{count} not_json\n" in output) == (0, True), output
    code, output = run_command("rejected replay", "--reason", "not_json")
    assert (code, output.endswith(f"sent {count} of {count}\n")) == (0, True), output


def test_late_labels_are_joined(world, run_command, after_score, ledger):
    """Each late label is matched and written to both servers."""
    admin = world.config("admin", "kafka.topics.input=labels")
    keys = list(ledger.good)[:20]
    at = round(time.time() * 1_000)
    oracle.send(admin, [(key, json.dumps({"id": key, "label": 1.0, "time": at}).encode()) for key in keys])

    code, output = run_command("label", "--available-now")
    assert code == 0, output
    assert topic_records.extent(admin.kafka, admin.kafka.topics.labelled).records == 2 * len(keys)
    with elasticsearch.client(admin.elasticsearch) as server:
        assert label_client.counts(server, admin.elasticsearch, "labels")["matched"] == len(keys)


def test_page_has_its_figures(world, after_score, ledger):
    """Reading is all that it needs."""
    view = Reader(world.config("dashboard")).view("all", round(time.time() * 1_000), 0)
    scored_events = sum(tally.statistic.scored for bucket in view.snapshot.buckets for tally in bucket.tallies)

    assert view.fault is None
    assert scored_events == 2 * len(ledger.good)
    assert view.snapshot.rejected


@pytest.mark.parametrize("words", ["quality --range all", "compare", "report --out {folder}/report.html"])
def test_other_readers_have_the_rights_of_the_page(world, after_score, caplog, words):
    """The figures on the terminal and in a file take no more than the page."""
    code, text = outcome(world, words.format(folder=world.folder), "dashboard", caplog)

    assert code == 0, text
    assert "lacks" not in text


def outcome(world, command, user, caplog, **changes):
    """Run a command in this process, without its Spark part; return its exit code and its messages."""
    log.addHandler(caplog.handler)
    file = world.file(user, **changes)
    text, code = "", 0
    try:
        with reported():
            text, code = RUNS.get(command, cli_command)(file, command)
    except SystemExit as ended:
        code = ended.code
    finally:
        log.removeHandler(caplog.handler)
    text += caplog.text
    assert "Traceback" not in text
    assert_no_secret(world, text)
    return code, text


def cli_command(file, command):
    """Run a command of the command line."""
    words = [*command.split(), *(("--reason", "not_json") if command == "rejected replay" else ())]
    result = CliRunner().invoke(cli.app, [*words, "--config", str(file)])
    if isinstance(result.exception, StreamscoreError):
        raise result.exception
    return result.output, result.exit_code


def start_of_score(file, _command):
    """Do what the scoring job does before its first batch, and after it for the lag."""
    config = load(str(file), ["kafka.lag_group=streamscore-{topic}"])
    score_stream.check(config)
    Records(config).prepare(None)
    scored.key_room(config)
    group = GroupOffsets(config.kafka, config.kafka.lag_group_name)
    group.commit({(config.kafka.topics.input, 0): 0})
    assert group.take(20)
    return "", 0


def start_of(job, *overrides):
    """Return a function that does what a job does before Spark starts."""

    def run(file, _command):
        job.check(load(str(file), list(overrides)))
        return "", 0

    return run


def resumed(file, _command):
    """Do what a resumed seeding does before Spark reads the topic."""
    config = load(str(file), ["seed.resume=true"])
    seed_topic.check(config)
    return "", 0


def page(file, _command):
    """Read the figures of the page."""
    Reader(load(str(file), [])).read("all", round(time.time() * 1_000))
    return "", 0


RUNS = {
    "seed": start_of(seed_topic),
    "seed --resume": resumed,
    "score": start_of_score,
    "label": start_of(label_stream),
    "dashboard": page,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_right_is_missing(world, after_score, caplog, command):
    """With all that the document lists, nothing is said of a missing right."""
    code, text = outcome(world, command, NAMES[command], caplog)

    assert code == 0, text
    assert "lacks" not in text
    assert "FAULT" not in text


@pytest.mark.parametrize(("name", "command", "gap"), GAPS, ids=[gap[0] for gap in GAPS])
def test_each_missing_right_is_named(world, after_score, caplog, name, command, gap):
    """Exit code 5 and one message with what is missing; a size limit that cannot be read is a warning."""
    own = {"input": "clicks", "predictions": "clicks.predictions", "rejected": "clicks.rejected"}
    topics = {key: f"{name}.{topic}" for key, topic in own.items()} if command == "create" else None
    code, text = outcome(world, command, name, caplog, topics=topics)

    assert code == {"DescribeConfigs": 0}.get(gap.operation, 1 if command == "doctor" else 5), text
    flat = " ".join(text.split())
    assert gap.operation in flat, text
    assert gap.name in flat, text


@pytest.fixture(scope="module")
def expired_elasticsearch(world):
    """The address of a server whose certificate has expired."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(world.authority.both("expired-node", days=-1))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def kafka_fault(world, fault):
    """Return the changes of a configuration that meets a fault, and what is said of it."""
    address = f"127.0.0.1:{world.ports['secured']}"
    if fault == "password":
        return {"jaas": Account("score").jaas()}, "refuses the credentials"
    if fault == "authority":
        options = {"ssl.truststore.location": str(world.other_authority.file)}
        return {"options": options}, f"{address} has a certificate of an authority that is not trusted"
    if fault == "expired":
        return {"kafka": f"127.0.0.1:{world.ports['expired']}"}, "has a certificate that has expired"
    return {"kafka": f"localhost:{world.ports['secured']}"}, "has a certificate for other host names"


def elasticsearch_fault(world, fault, expired):
    """Return the changes of a configuration that meets a fault, and what is said of it."""
    if fault == "password":
        return {"password": Account("score").password}, "refuses the credentials"
    if fault == "authority":
        return {"search": {"ca_file": str(world.other_authority.file)}}, "authority that is not trusted"
    if fault == "expired":
        return {"search": {"url": expired}}, "the certificate has expired"
    return {"search": {"url": f"https://localhost:{world.ports['elasticsearch']}"}}, "is for other host names"


FAULTS = ("password", "authority", "expired", "host name")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", ["score", "doctor"])
def test_connection_to_kafka_that_fails_is_explained(world, caplog, command, fault):
    """The reason and the setting are named, and the exit code is that of a server's fault."""
    changes, reason = kafka_fault(world, fault)
    code, text = outcome(world, command, "score", caplog, **changes)

    assert code == (1 if command == "doctor" else 5), text
    assert reason in " ".join(text.split())


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", ["score", "doctor", "dashboard"])
def test_connection_to_elasticsearch_that_fails_is_explained(
    world, after_score, caplog, command, fault, expired_elasticsearch
):
    """The reason and the setting are named, and the exit code is that of a server's fault."""
    changes, reason = elasticsearch_fault(world, fault, expired_elasticsearch)
    code, text = outcome(world, command, "score", caplog, **changes)

    assert code == (1 if command == "doctor" else 5), text
    assert reason in " ".join(text.split())


@pytest.mark.parametrize("changes", [{"jaas": Account("score").jaas()}, {"password": "wrong"}])
def test_refused_job_ends_with_its_exit_code(run_command, after_score, changes):
    """The whole command prints one message and no stack trace, with the exit code of a server's fault."""
    code, output = run_command("score", "--available-now", **changes)

    assert code == 5
    assert output.count("refuses the credentials") == 1
    assert "Traceback" not in output
    assert "\tat " not in output


def test_plain_password_and_a_certificate_of_the_client(spark, world, after_score, caplog, ledger):
    """Both clients sign in with PLAIN, and show a certificate whose key is encrypted as the README says."""
    plain = world.accounts["plain"]
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    changes = {
        "jaas": f'{module} required username="plain" password="{plain.token}";',
        "options": {"sasl.mechanism": "PLAIN"},
        "kafka": f"127.0.0.1:{world.ports['two_way']}",
        "certificate": True,
    }
    code, text = outcome(world, "rejected list", "plain", caplog, **changes)
    config = world.config("plain", **changes)

    assert code == 0, text
    assert "not_json" in text
    assert sources.topic(spark, config.kafka, "clicks.rejected").count() == len(ledger.bad)
    refused, text = outcome(world, "rejected list", "plain", caplog, **changes | {"certificate": False})
    assert refused == 5
    assert "wants a certificate of the client" in text
