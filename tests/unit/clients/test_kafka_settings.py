"""The settings of Kafka's C client have the Java client's meaning of the same options."""

import shlex
import subprocess

import pytest
from confluent_kafka.admin import AdminClient
from py4j.protocol import Py4JJavaError

from streamscore.clients import kafka_settings
from streamscore.errors import ConfigError

LINES = [
    'a.Module required username="me" password="p";',
    "a.Module required username='me' password='a\"b';",
    r'a.Module required username="me" password="a\"b\\c\'d";',
    r'a.Module required username="me" password="\101\7\0429\t\v\q";',
    'a.Module required password=p-_$.9 username=me serviceName="x";',
    'a.Module  required\n// user="no"\nusername = "me" /* a="b" */ password="// no comment" ;',
    'a.Module required username="me" password="öä 中;=" tokenauth=true;',
]


@pytest.fixture
def java_options(spark):
    """Return a function that parses a login module's line with the Java client."""
    jvm = spark._jvm

    def options(line):
        settings = jvm.java.util.HashMap()
        settings.put("sasl.jaas.config", jvm.org.apache.kafka.common.config.types.Password(line))
        context = jvm.org.apache.kafka.common.security.JaasContext.loadClientContext(settings)
        return dict(context.configurationEntries()[0].getOptions())

    return options


@pytest.mark.parametrize("line", LINES)
def test_login_is_read_as_java_reads_it(java_options, line):
    """Quotes of both kinds, escapes, unquoted words and comments are parsed as in Java."""
    read = java_options(line)

    assert kafka_settings.credentials(line) == {name: read[name] for name in ("username", "password")}


@pytest.mark.parametrize(
    "line",
    [
        'a.Module required username="me" password="p"',
        'a.Module required username="me" password="hid"den";',
        'a.Module required username="me" password="hidden;',
        'a.Module required username="me" password "hidden";',
        'a.Module required username="me";',
        "",
    ],
)
def test_line_that_java_would_not_take_is_refused(line):
    """A line that Java rejects is refused, and the message does not repeat it."""
    with pytest.raises(ConfigError, match=r"kafka.options.sasl.jaas.config: expected a login module") as caught:
        kafka_settings.credentials(line)
    assert "hidden" not in str(caught.value)


@pytest.fixture
def client(spark, make_config, monkeypatch):
    """Return a function that makes both clients with a private PEM key; an encrypted one has the password "secret"."""
    jvm = spark._jvm
    monkeypatch.setenv("KEY_PASSWORD", "secret")

    def make(folder, key):
        pem = folder / "keystore.pem"
        pem.write_text((folder / "certificate.pem").read_text() + key.read_text())
        options = {"security.protocol": "SSL", "ssl.keystore.type": "PEM", "ssl.keystore.location": pem}
        java = jvm.java.util.HashMap()
        secret = {"ssl.key.password": "secret"} if "ENCRYPTED" in key.read_text() else {}
        for name, value in {"bootstrap.servers": "127.0.0.1:9", **options, **secret}.items():
            java.put(name, str(value))
        overrides = [f"kafka.options.{name}={value}" for name, value in options.items()]
        kafka = make_config(*overrides, *(f"kafka.options.{name}=${{env:KEY_PASSWORD}}" for name in secret)).kafka
        return (
            lambda: jvm.org.apache.kafka.clients.admin.AdminClient.create(java).close(),
            lambda: AdminClient(kafka_settings.client_settings(kafka)),
        )

    return make


def openssl(folder, command):
    """Run openssl in a folder."""
    subprocess.run(["openssl", *shlex.split(command)], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("make", "message", "convert"),
    [
        (
            "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -aes256 -pass pass:secret -out old.key",
            "Java 17 cannot decrypt this private key (PBES2)",
            "-passin pass:secret -passout pass:secret",
        ),
        ("genrsa -traditional -out old.key 2048", "the private key is not in the form PKCS #8", ""),
    ],
)
def test_key_that_java_cannot_read_is_refused_with_the_command_that_converts_it(
    client, tmp_path, make, message, convert
):
    """The message has a command after which both clients can read the key."""
    openssl(tmp_path, make)
    openssl(tmp_path, "req -x509 -key old.key -passin pass:secret -subj /CN=x -out certificate.pem -days 1")
    java, ours = client(tmp_path, tmp_path / "old.key")

    with pytest.raises(ConfigError) as caught:
        ours()
    with pytest.raises(Py4JJavaError):
        java()
    assert message in str(caught.value)
    command = str(caught.value).split("`openssl ")[1].split("`")[0]
    openssl(tmp_path, f"{command} {convert}")
    java, ours = client(tmp_path, tmp_path / "new.key")
    ours()
    java()


def test_password_of_a_key_that_has_none_is_refused(make_config, tmp_path, monkeypatch):
    """A password for an unencrypted key is refused, because Java would try to decrypt it."""
    openssl(tmp_path, "genpkey -algorithm RSA -out plain.key")
    monkeypatch.setenv("KEY_PASSWORD", "secret")
    names = ("type=PEM", f"location={tmp_path}/plain.key")
    options = [
        *(f"kafka.options.ssl.keystore.{name}" for name in names),
        "kafka.options.ssl.key.password=${env:KEY_PASSWORD}",
    ]

    with pytest.raises(ConfigError, match=r"kafka.options.ssl.key.password: the private key is not encrypted"):
        kafka_settings.client_settings(make_config(*options).kafka)


def test_host_check_is_switched_off_as_in_java(make_config):
    """Java's empty text disables the host check of the C client, too."""
    kafka = make_config('kafka.options.ssl.endpoint.identification.algorithm=""').kafka

    assert kafka_settings.client_settings(kafka)["ssl.endpoint.identification.algorithm"] == "none"
    assert not kafka_settings.trust(kafka).checks_host
