"""The configuration: precedence, errors that name their key, and masked secrets."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from streamscore import config, score_stream, seed_topic
from streamscore.clients import kafka as kafka_client
from streamscore.config import CONF_DIR
from streamscore.config.keys import Config
from streamscore.config.sections import SECRET_KEY
from streamscore.errors import ConfigError


def refused(*overrides, environment="local"):
    """Return the message of a configuration's refusal."""
    with pytest.raises(ConfigError) as caught:
        config.load(environment, overrides)
    return str(caught.value)


def keys_of(model, prefix=""):
    """Return the dotted keys of a section and of the sections in it."""
    keys = set()
    for name, field in model.model_fields.items():
        keys.add(f"{prefix}{name}")
        if hasattr(field.annotation, "model_fields"):
            keys |= keys_of(field.annotation, f"{prefix}{name}.")
    return keys


def dotted(tree, prefix=""):
    """Return the dotted keys of a parsed YAML file."""
    keys = set()
    for name, value in tree.items():
        keys.add(f"{prefix}{name}")
        if isinstance(value, dict):
            keys |= dotted(value, f"{prefix}{name}.")
    return keys


def test_base_file_has_exactly_the_keys_that_exist():
    """conf/base.yml and the typed keys name the same things."""
    tree = yaml.safe_load((CONF_DIR / "base.yml").read_text())

    assert dotted(tree) == keys_of(Config)


def test_every_key_has_a_comment_above_it():
    """Every key of conf/base.yml has a comment above it."""
    lines = (CONF_DIR / "base.yml").read_text().splitlines()
    in_sections = [pair for pair in pairwise(lines) if re.match(r"  +[a-z_]+:", pair[1])]
    bare = [line for before, line in in_sections if not before.lstrip().startswith("#")]

    assert bare == ["    uri: models:/streamscore-lr@champion", "    uri: models:/streamscore-svm@champion"]


def test_override_beats_environment_file_beats_base(tmp_path):
    """The later source wins, key by key."""
    file = tmp_path / "mine.yml"
    file.write_text("kafka: {partitions: 7, replication_factor: 2}\n")

    loaded = config.load(str(file), ["kafka.partitions=9"])

    assert (loaded.kafka.partitions, loaded.kafka.replication_factor) == (9, 2)
    assert loaded.kafka.topics.input == "ml"


@pytest.mark.parametrize("environment", ["local", "docker"])  # test_databricks.py tests the third one
def test_shipped_environment_files_hold_only_known_keys(environment, monkeypatch):
    """Each file beside base.yml loads."""
    monkeypatch.setenv("ELASTIC_PASSWORD", "s3cret")  # set by docker/compose.yml

    assert config.load(environment).models


def test_state_folder_may_come_from_the_environment(monkeypatch, tmp_path):
    """An environment variable sets the state folder, for clusters with volumes."""
    monkeypatch.setenv("VOLUMES", str(tmp_path))
    loaded = config.load("local", ["state_dir=${env:VOLUMES}/state"])

    assert loaded.state_dir == tmp_path / "state"
    assert loaded.train.output == f"{tmp_path}/state/train"


def test_unknown_key_is_named_with_the_nearest_one_and_all_allowed_ones():
    """An unknown key is reported with the nearest and all allowed keys."""
    message = refused("kafka.partitons=3")

    assert message.startswith("kafka.partitons: unknown key; did you mean partitions?")
    assert "replication_factor" in message


def test_unknown_section_is_named():
    """An unknown section is reported."""
    assert refused("nope.x=1").startswith("nope: unknown key")


def test_wrong_type_is_named_with_what_was_found():
    """A word for a number is reported with its key and value."""
    assert refused("kafka.partitions=many") == (
        "kafka.partitions: input should be a valid integer, unable to parse string as an integer, found 'many'"
    )


def test_wrong_choice_lists_the_allowed_ones():
    """A value outside a closed list is reported with the allowed ones."""
    message = refused("message.vector_form=csv")

    assert message == "message.vector_form: input should be 'spark', 'triple' or 'dense', found 'csv'"


def test_missing_file_lists_the_names_that_exist():
    """An environment that is neither a name nor a file is reported with the existing names."""
    assert refused(environment="prod") == (
        "--config prod: no such file; give the path of a YAML file, or one of databricks, docker, local"
    )


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("password: @hunter2", " at line 2, column 13;"),
        ("password: *hunter2", " at line 2, column 13;"),
        ("password: !hunter2 a", " at line 2, column 13;"),
        ("password: %hunter2", " at line 2, column 13;"),
        ('password: "hunter2', " at line 3, column 1;"),
        ("password: hunter2: b", " at line 2, column 20;"),
        ("password: hunter2\x07", ": it has a control character"),
        ("password: 2026-02-30", ": a value looks like a date"),
    ],
)
def test_broken_yaml_is_told_by_its_place_alone(tmp_path, line, place):
    """The message has the position, but not the line, which may contain a secret."""
    file = tmp_path / "broken.yml"
    file.write_text(f"elasticsearch:\n  {line}\n")

    message = refused(environment=str(file))

    assert message.startswith(f"{file}: not valid YAML{place}")
    assert "hunter2" not in message
    assert "2026" not in message


def test_model_is_trusted_by_its_manifest_unless_its_entry_says_otherwise():
    """The default trust is the manifest, and only the model's own entry changes it."""
    loaded = config.load("local", ["models=[{name: a, uri: /a}, {name: b, uri: /b, trust: unsigned}]"])

    assert [model.trust for model in loaded.models] == ["manifest", "unsigned"]
    assert refused("models=[{name: a, uri: /a, trust: yes}]").startswith(
        "models.0.trust: input should be 'manifest', 'signed' or"
    )


def test_entry_of_a_list_is_set_by_its_number():
    """--set models.0.uri replaces one model's address."""
    loaded = config.load("local", ["models.0.uri=/tmp/m"])

    assert [model.uri for model in loaded.models] == ["/tmp/m", "models:/streamscore-svm@champion"]


def test_entry_beyond_a_list_is_refused():
    """An index beyond a list is refused."""
    assert refused("models.2.uri=x") == "models.2: expected an entry's number from 0 to 1"


def test_text_without_an_equals_sign_is_refused():
    """An override must have the form key=value."""
    assert "expected key=value" in refused("kafka.partitions")


def test_dotted_client_option_keeps_its_dots():
    """The names of Kafka's options contain dots."""
    loaded = config.load("local", ["kafka.options.client.id=me"])

    assert loaded.kafka.client_options() == {"client.id": "me"}


def test_secret_comes_from_the_environment_and_is_never_shown(monkeypatch):
    """A password from the environment is used and masked."""
    monkeypatch.setenv("ES_PASSWORD", "hunter2")

    loaded = config.load("local", ["elasticsearch.user=elastic", "elasticsearch.password=${env:ES_PASSWORD}"])

    assert loaded.elasticsearch.password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(loaded)
    assert "hunter2" not in config.shown(loaded)


def test_settings_of_kafka_are_shown_if_they_are_known_to_be_no_secret(monkeypatch):
    """Options known not to be secrets are shown, and all others are masked."""
    monkeypatch.setenv("SECRET", "12345678")
    shown = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "client.id": "me",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": "/run/ca.pem",
        "linger.ms": 5,
    }
    masked = {
        "sasl.jaas.config": "${env:SECRET}",
        "ssl.key.password": "${env:SECRET}",
        "ssl.truststore.certificates": "12345678",
        "my.size": "12345678x",
        "my.password.ms": "${env:SECRET}",
        "Security.Protocol": "12345678",
        "something": 12345678,
    }
    loaded = config.load("local", [f"kafka.options={json.dumps(shown | masked)}"])
    printed = yaml.safe_load(config.shown(loaded))["kafka"]["options"]

    assert printed == {name: str(value) for name, value in shown.items()} | dict.fromkeys(masked, "**********")
    assert not any(value in repr(loaded) for value in ("12345678", "SASL_SSL"))


@pytest.mark.parametrize("key", sorted(key for key in keys_of(Config) if SECRET_KEY.search(key)))
def test_every_secret_is_masked(monkeypatch, key):
    """Every secret is masked by its type, and an unset one is shown as unset."""
    monkeypatch.setenv("SECRET", "hunter2")
    section, _, name = key.partition(".")
    user = [f"{section}.user=me"] if name == "password" else []
    printed = yaml.safe_load(config.shown(config.load("local", [*user, f"{key}=${{env:SECRET}}"])))[section]

    assert (printed["password"], printed["api_key"]) in {("**********", None), (None, "**********")}
    assert printed[name] == "**********"


def test_secret_in_an_address_is_not_shown(monkeypatch):
    """A password in an address, as of MLflow's database, is masked."""
    monkeypatch.setenv("SECRET", "hunter2")

    shown = config.shown(config.load("local", ["mlflow.tracking_uri=postgresql://me:${env:SECRET}@db/mlflow"]))

    assert "postgresql://********@db/mlflow" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize("password", ["hunt/er2", "/hunter2", "hunt@er/2@", "12/34", "hunt?er#2", "hunt:er/2"])
def test_password_with_any_sign_in_an_address_is_not_shown(monkeypatch, password):
    """A password with any character is masked, also in error messages."""
    monkeypatch.setenv("SECRET", password)
    shown = yaml.safe_load(config.shown(config.load("local", ["mlflow.tracking_uri=http://user:${env:SECRET}@host"])))
    message = refused(f"train.output=s3a://key:{password}@bucket/x")

    assert shown["mlflow"]["tracking_uri"] == "http://********@host"
    assert "s3a://********@bucket/x" in message
    assert password not in message


def test_key_of_an_azure_account_is_a_secret():
    """The setting of an Azure account key, which contains the account's name, counts as a secret."""
    key = "spark.hadoop.fs.azure.account.key.mine.dfs.core.windows.net"

    with pytest.raises(ConfigError, match="account.key") as refused:
        config.load("local", [f"spark.conf={{{key}: hunter2}}"])
    assert "hunter2" not in str(refused.value)


def test_secret_comes_from_a_file(tmp_path):
    """A secret is read from a file without its final newline."""
    secret = tmp_path / "jaas"
    secret.write_text('x required username="u" password="p";\n')

    loaded = config.load("local", [f"kafka.options.sasl.jaas.config=${{file:{secret}}}"])

    assert loaded.kafka.client_options()["sasl.jaas.config"].endswith('password="p";')
    assert 'password="p"' not in repr(loaded)


def test_password_in_plain_text_beside_a_reference_is_refused(monkeypatch):
    """A login module's line with a reference for the user name and a plain password is refused."""
    monkeypatch.setenv("KAFKA_USER", "u")
    line = 'Module required username="${env:KAFKA_USER}" password="%s";'

    assert "a secret in plain text is refused" in refused(f"kafka.options.sasl.jaas.config={line % 'hunter2'}")
    config.load("local", [f"kafka.options.sasl.jaas.config={line % '${env:KAFKA_USER}'}"])


@pytest.mark.parametrize("value", ["hunter2", "${env:HOME}"])
def test_secret_as_a_spark_setting_is_refused_with_other_ways(value):
    """A secret as a Spark setting, which shows in the process list, is refused in any form."""
    message = refused(f"spark.conf.spark.hadoop.fs.s3a.secret.key={value}")

    assert "spark.conf: spark.hadoop.fs.s3a.secret.key would show in the process list" in message
    assert "core-site.xml" in message
    assert "hunter2" not in message


@pytest.mark.parametrize("key", ["elasticsearch.password", "elasticsearch.api_key", "kafka.options.ssl.key.password"])
def test_secret_in_plain_text_is_refused(key):
    """A plain secret, which would show in the process list, is refused."""
    message = refused(f"{key}=hunter2")

    assert "a secret in plain text is refused" in message
    assert "hunter2" not in message


def test_missing_environment_variable_is_named(monkeypatch):
    """A reference to a missing variable is reported with its name."""
    monkeypatch.delenv("NOT_THERE", raising=False)

    assert refused("elasticsearch.api_key=${env:NOT_THERE}") == (
        "elasticsearch.api_key: the environment variable NOT_THERE is not set"
    )


def test_unencrypted_broker_off_loopback_is_refused_unless_asked_for():
    """Unencrypted connections to remote brokers need an explicit setting."""
    assert "without encryption" in refused("kafka.bootstrap_servers=broker:9092")
    assert config.load("local", ["kafka.bootstrap_servers=broker:9092", "kafka.insecure=true"])
    assert config.load("local", ["kafka.bootstrap_servers=broker:9093", "kafka.options.security.protocol=SSL"])
    for protocol in ("SASL_PLAINTEXT", "sasl_plaintext", "plaintext"):
        assert "without encryption" in refused(
            "kafka.bootstrap_servers=broker:9092", f"kafka.options.security.protocol={protocol}"
        )


def test_unencrypted_elasticsearch_off_loopback_is_refused_unless_asked_for():
    """Unencrypted connections to a remote Elasticsearch need an explicit setting."""
    assert "without encryption" in refused("elasticsearch.url=http://search:9200")
    assert config.load("local", ["elasticsearch.url=https://search:9200"])


def test_group_of_the_lag_may_name_the_topic():
    """The group's name may contain the topic's; by default there is no group."""
    assert config.load("local").kafka.lag_group_name is None
    named = config.load("local", ["kafka.topics.input=clicks", "kafka.lag_group=streamscore-{topic}"])
    assert named.kafka.lag_group_name == "streamscore-clicks"


def test_metrics_that_others_could_read_are_refused_unless_asked_for():
    """An endpoint off loopback needs an explicit setting; without a port there is none."""
    assert "without a password" in refused("metrics.port=9464", "metrics.address=0.0.0.0")
    assert config.load("local", ["metrics.port=9464", "metrics.address=0.0.0.0", "metrics.insecure=true"])
    assert config.load("local", ["metrics.port=9464"]).metrics.address == "127.0.0.1"
    assert config.load("local", ["metrics.address=0.0.0.0"]).metrics.port is None
    assert "0.0.0.0:9465 without a password" in refused("metrics.labels_port=9465", "metrics.address=0.0.0.0")


def test_jobs_do_not_share_a_port():
    """Both jobs may run on one machine, so each has a port of its own."""
    assert "each job listens on a port of its own" in refused("metrics.port=9464", "metrics.labels_port=9464")
    both = config.load("local", ["metrics.port=9464", "metrics.labels_port=9465"]).metrics
    assert (both.port, both.labels_port) == (9464, 9465)


def test_two_models_of_one_name_are_refused():
    """Model names must be unique."""
    assert refused("models.1.name=lr") == "models: the name 'lr' is used more than once"


def test_paths_are_absolute_and_follow_the_state_folder(tmp_path):
    """Relative paths become absolute, and {state_dir} is replaced by the state folder."""
    loaded = config.load("local", [f"state_dir={tmp_path}/s"])

    assert loaded.stream.checkpoint == f"{tmp_path}/s/checkpoints/score_stream"
    assert loaded.local.artifacts_dir == tmp_path / "s" / "artifacts"


def test_secret_among_spark_settings_is_refused():
    """A secret in Spark's settings, which Spark shows, is refused."""
    assert "would show in the process list" in refused("spark.conf.spark.es.password=${env:HOME}")


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["message.fields='a INT, label STRING'"], "label_field, 'label', is among the fields"),
        (["message.fields='a INT, Label STRING'"], "is among the fields: a model must not see the label"),
        (["message.fields='a INT'", "message.size=3"], "size is the size of a vector, and fields replace the vector"),
        (["message.fields='a ARRAY'"], "'a ARRAY' is not a column: expected a name, in backticks if"),
    ],
)
def test_raw_columns_that_do_not_fit_are_refused(overrides, problem):
    """The message has the key and the fault."""
    assert problem in refused(*overrides)


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ('message.label_values={"<=50K": 0, ">50K": 1}', {"<=50K": 0.0, ">50K": 1.0}),
        ("message.label_values={1: 0, 2.5: 1}", {"1": 0.0, "2.5": 1.0}),
        ("message.label_values.v1.0=3", {"v1.0": 3.0}),
        ('message.label_values={"token": 1, "password": 0}', {"token": 1.0, "password": 0.0}),
    ],
)
def test_labels_have_classes_by_name(override, values):
    """Any text can be the name of a label."""
    assert config.load("local", [override]).message.label_values == values


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("message.label_values={yes: 1, no: 0}", "put the names in quotes"),
        ('message.label_values={"a": .nan}', "message.label_values.a: input should be a finite number"),
        ('message.label_values={"a": b}', "message.label_values.a: input should be a valid number"),
        ("message.root=a..b", "message.root"),
        ("message.root=.a", "message.root"),
    ],
)
def test_settings_of_messages_that_make_no_sense_are_refused(override, problem):
    """Unquoted YAML booleans as label names, and other wrong message settings, are refused."""
    assert problem in refused(override)


def test_delta_table_is_a_folder_or_a_name(tmp_path, monkeypatch):
    """A table with a slash is a folder, local or remote; otherwise it is a name."""
    monkeypatch.chdir(tmp_path)
    tables = [
        config.load("local", [f"delta.table={table}"]).delta for table in ("a/b", "s3a://c/d", "main.ml.outcomes")
    ]

    assert [table.table for table in tables] == [str(tmp_path / "a" / "b"), "s3a://c/d", "main.ml.outcomes"]
    assert [table.is_folder for table in tables] == [True, True, False]
    assert config.load("local").delta.table is None


@pytest.mark.parametrize("key", ["stream.checkpoint", "delta.table", "train.output"])
@pytest.mark.parametrize("address", ["/nowhere/a", "file:/nowhere/a", "file:///nowhere/a", "/nowhere/b/../a"])
def test_folder_of_this_machine_is_the_same_however_it_is_written(key, address):
    """All spellings of a local folder give the same path."""
    section, name = key.split(".")

    assert getattr(getattr(config.load("local", [f"{key}={address}"]), section), name) == "/nowhere/a"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("kafka.bootstrap_servers=127.0.0.1:70000", "'127.0.0.1:70000' is not host:port"),
        ("elasticsearch.url=http://127.0.0.1:abc", "url is not http://host:port or https://host:port"),
        ("elasticsearch.url=http://127.0.0.1:99200", "url is not http://host:port or https://host:port"),
        ("elasticsearch.url=http://127.0.0.1", "url has no port: that of Elasticsearch is 9200"),
        ("elasticsearch.ca_file=ca.pem", "ca_file goes with https://"),
        ("train.output=s3a://bucket/models", "s3a://bucket/models is not a folder of this machine"),
    ],
)
def test_address_that_cannot_be_is_refused(override, message):
    """An invalid address is refused when the configuration is read."""
    assert message in refused(override)


def test_password_in_an_address_without_a_scheme_is_not_repeated(monkeypatch):
    """The message about an address does not repeat its password."""
    monkeypatch.setenv("ES_URL", "elastic:hunter2@search:9200")

    assert "hunter2" not in refused("elasticsearch.url=${env:ES_URL}")


def test_numbers_and_truth_values_are_texts_to_spark_and_kafka():
    """YAML numbers and booleans become texts for Spark and Kafka."""
    loaded = config.load(
        "local",
        [
            "spark.conf={spark.executor.cores: 2, spark.ui.enabled: true}",
            "kafka.options.request.timeout.ms=4000",
        ],
    )

    assert loaded.spark.conf == {"spark.executor.cores": "2", "spark.ui.enabled": "true"}
    assert loaded.kafka.client_options()["request.timeout.ms"] == "4000"


def test_file_that_is_not_utf_8_is_named(tmp_path):
    """A file in another encoding than UTF-8 is reported."""
    file = tmp_path / "my.yml"
    file.write_bytes("# é\n".encode("latin-1"))

    with pytest.raises(ConfigError, match=r"my.yml: not UTF-8"):
        config.load(str(file))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "ssl.truststore.location=/none.pem",
            "kafka.options.ssl.truststore.location: /none.pem cannot be read (No such",
        ),
        ("security.protocol=TLS", 'kafka.options: Invalid value "TLS" for configuration property "security.protocol"'),
        ("auto.offset.reset=latest", "kafka.options.auto.offset.reset: Spark sets this itself"),
        ("acks=1", "kafka.options.acks: not to be set: otherwise records could be lost or doubled"),
        ("sasl.username=me", "kafka.options.sasl.username: not supported; supported are client.id, sasl.jaas.config, "),
    ],
)
def test_kafka_option_that_only_the_client_can_judge_is_told_in_one_line(option, message):
    """Missing files, unknown protocols and options that Spark refuses are reported in one line."""
    options = [
        "kafka.options.security.protocol=SSL",
        "kafka.options.ssl.truststore.type=PEM",
        f"kafka.options.{option}",
    ]
    kafka = config.load("local", options).kafka
    with pytest.raises(ConfigError, match=re.escape(message)):
        kafka_client.names(kafka, 1.0)


def test_longest_message_is_one_that_java_can_hold():
    """The largest message size is that of a Java array, 2^31 - 1 bytes."""
    assert config.load("local", [f"message.max_bytes={2**31 - 1}"]).message.max_bytes == 2**31 - 1
    assert "message.max_bytes" in refused(f"message.max_bytes={2**31}")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("state_dir", "/data/run #3/x"),
        ("stream.checkpoint", "s3a://bucket/run #3"),
        ("dashboard.title", "# My title"),
        ("dashboard.title", "# My title\n\n- one: two\n- [three]"),
        ("elasticsearch.refresh_interval", "-1"),
        ("elasticsearch.index", "123"),
        ("kafka.topics.input", "123"),
        ("kafka.topics.predictions", "0123"),
        ("kafka.topics.rejected", "on"),
        ("kafka.options.client.id", "1_0"),
        ("spark.conf.spark.app.tag", "1e3"),
        ("mlflow.experiment", "2026-02-30"),
        ("mlflow.experiment", "null"),
        ("mlflow.registered_names.lr", "{lr}"),
        ("message.label_field", "y"),
        ("models.0.uri", "/models/#1"),
        ("seed.label_column", "~"),
        ("kibana.alert", "{window_minutes: 3, min_labelled: 1, margin: 0}"),
    ],
)
def test_text_of_a_key_that_holds_text_is_taken_as_it_is_typed(key, text):
    """The value of a text key is used literally, not as YAML; a section is still YAML."""
    loaded = config.load("local", [f"{key}={text}"])
    node = loaded.model_dump(mode="json") | {"options": loaded.kafka.client_options()}
    names = ["options", "client.id"] if key.startswith("kafka.options") else key.split(".", 2 if "conf" in key else -1)
    for name in names:
        node = node[int(name) if name.isdigit() else name]

    assert node == text or (key == "kibana.alert" and node["window_minutes"] == 3)


def test_quotes_around_an_override_and_blanks_are_removed():
    """Quotes around an override, and blanks, are removed."""
    assert config.load("local", ['dashboard.title="a" # b']).dashboard.title == "a"
    assert config.load("local", ["dashboard.title='# a'"]).dashboard.title == "# a"
    assert config.load("local", ["state_dir= /data/x "]).state_dir == Path("/data/x")
    assert config.load("local", ["dashboard.title="]).dashboard.title == ""


def test_null_unsets_a_key_that_may_be_null():
    """``null`` unsets an optional key, and is not read as a text."""
    for text in ("null", ""):
        loaded = config.load("local", [f"seed.label_column={text}", f"elasticsearch.ca_file={text}"])
        assert (loaded.seed.label_column, loaded.elasticsearch.ca_file) == (None, None)


def test_number_in_a_file_where_text_belongs_is_refused_with_the_way_out(tmp_path):
    """A number for a text key in a file is refused, because YAML loses its spelling (0123 is 83)."""
    file = tmp_path / "my.yml"
    file.write_text("kafka: {topics: {input: 0123}}")

    assert refused(environment=str(file)) == (
        "kafka.topics.input: input should be a valid string, found 83; put it in quotes"
    )


def test_secret_below_a_value_is_not_repeated():
    """The message about a key below a value does not repeat the given secret."""
    assert refused("elasticsearch.password.x=hunter2") == (
        "--set elasticsearch.password.x: elasticsearch.password holds a value, not keys"
    )


@pytest.mark.parametrize("key", ["state_dir", "local.artifacts_dir"])
def test_folder_with_a_comma_is_refused(key):
    """A folder with a comma, which Kafka and Elasticsearch read as a list, is refused."""
    assert "/home/Doe, Jane contains a comma" in refused(f"{key}=/home/Doe, Jane")


def test_option_is_taken_as_it_was_typed():
    """The value of a client option is used literally, not as YAML."""
    for text in ("/data/run #3", "/data/a: b", "/data/[x]", "/data/é", '/data/"x" \\n', "/data/😀", "/data/x "):
        assert score_stream.JOB.parse(["--checkpoint", text]).config.stream.checkpoint == text
    for text in ("2024-01-15", "2024-02-30", "0", "on", "'x'", '"x"'):
        assert seed_topic.JOB.parse(["--label-column", text]).config.seed.label_column == text
    seed = seed_topic.JOB.parse(["--limit", "5", "--rate", "2.5", "--label-column", "null", "--resume"]).config.seed

    assert (seed.limit, seed.rate, seed.label_column, seed.resume) == (5, 2.5, None, True)
    assert "seed.limit" in refused("seed.limit=2024-02-30")
