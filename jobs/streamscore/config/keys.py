"""Every key of the configuration, with its type and its rules; ``conf/base.yml`` explains each key."""

from __future__ import annotations

import base64
import ipaddress
import re
from itertools import pairwise
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from streamscore.config import fields as raw
from streamscore.config.types import (
    AbsolutePath,
    Ed25519Key,
    IndexName,
    LocalFolder,
    Location,
    MemorySize,
    Moment,
    Positive,
    RunName,
    StateFolder,
    TableName,
    TimeRange,
    as_text,
    iso_time,
)

SECRET_KEY = re.compile(r"(?i)password|secret|jaas|api_key|token|\.key$|keystore\.key|account\.key|basic\.auth")
"""Pattern of the keys of secrets, whose values must be references."""

INDEX_KEYS = ("index", "rejected_index", "status_index", "quality_index")
"""Keys of the indices that a scoring job writes to."""

RUN_INFIX = "-run-"
"""What stands between the name of an index and that of a run in the name of the run's index."""

_PLAIN_OPTIONS = frozenset(
    {
        *("security.protocol", "sasl.mechanism", "client.id", "ssl.endpoint.identification.algorithm"),
        *("ssl.truststore.type", "ssl.truststore.location", "ssl.keystore.type", "ssl.keystore.location"),
    }
)
_TUNING = re.compile(r"[a-z.]+\.(ms|bytes|records|size)")

_LOOPBACK_NAMES = frozenset({"localhost"})
_LAST_PORT = 65_535


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine's loopback."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host in _LOOPBACK_NAMES


def _split_address(address: str) -> tuple[str, int]:
    host, separator, port = address.strip().rpartition(":")
    if not separator or not host or not port.isdigit() or not 0 < int(port) <= _LAST_PORT:
        raise ValueError(f"{address!r} is not host:port")
    return host, int(port)


class Topics(_Section):
    """Names of the topics: three of the scoring job, two of the job that joins late labels."""

    input: str
    predictions: str
    rejected: str
    labels: str
    labelled: str

    @model_validator(mode="after")
    def _distinct(self) -> Topics:
        names = [self.input, self.predictions, self.rejected]
        if len(set(names)) < len(names):
            raise ValueError(f"the three topics must differ, found {', '.join(names)}")
        return self


class Kafka(_Section):
    """The brokers and the topics."""

    bootstrap_servers: str
    options: dict[str, Annotated[SecretStr, BeforeValidator(as_text)]]
    insecure: bool
    topics: Topics
    partitions: Positive
    replication_factor: Positive
    lag_group: Annotated[str, Field(min_length=1)] | None

    @field_validator("bootstrap_servers")
    @classmethod
    def _addresses_parse(cls, value: str) -> str:
        for address in value.split(","):
            _split_address(address)
        return value

    @model_validator(mode="after")
    def _encrypted_off_loopback(self) -> Kafka:
        protocol = self.client_options().get("security.protocol", "PLAINTEXT").upper()  # the clients ignore case
        remote = [host for host, _ in self.addresses() if not is_loopback(host)]
        if remote and protocol.endswith("PLAINTEXT") and not self.insecure:
            raise ValueError(
                f"{remote[0]} would be reached without encryption (security.protocol {protocol}): set "
                "kafka.options.security.protocol to SSL or SASL_SSL, or kafka.insecure to true"
            )
        return self

    @property
    def lag_group_name(self) -> str | None:
        """Name of the consumer group whose offsets follow the job; None if there is none."""
        return None if self.lag_group is None else self.lag_group.replace("{topic}", self.topics.input)

    def addresses(self) -> list[tuple[str, int]]:
        """Return the brokers as (host, port)."""
        return [_split_address(address) for address in self.bootstrap_servers.split(",")]

    def client_options(self) -> dict[str, str]:
        """Return the client's options, secrets included: for a client, never for a log."""
        return {name: value.get_secret_value() for name, value in self.options.items()}

    def options_without_secrets(self) -> dict[str, str]:
        """Return the client's options that are known not to be secrets."""
        return {
            name: value
            for name, value in self.client_options().items()
            if name in _PLAIN_OPTIONS
            or (_TUNING.fullmatch(name) and not SECRET_KEY.search(name) and re.fullmatch("[0-9]+", value))
        }


def _label_name(name: object) -> object:
    """Return a label's name as text; YAML reads some unquoted names as booleans."""
    if isinstance(name, bool):
        raise ValueError(  # noqa: TRY004 (pydantic turns a ValueError into a message)
            "put the names in quotes: without them, YAML takes true, yes and on for the same, as false, no and off"
        )
    return as_text(name)


class Message(_Section):
    """The shape of an input message."""

    root: Annotated[str, Field(pattern=r"^[^.]+(\.[^.]+)*$")] | None
    label_field: str
    label_values: dict[Annotated[str, BeforeValidator(_label_name)], Annotated[float, Field(allow_inf_nan=False)]]
    features_field: str
    vector_form: Literal["spark", "triple", "dense"]
    fields: str | None
    size: Positive | None
    text_numbers: bool
    max_bytes: Annotated[int, Field(gt=0, lt=1 << 31)]

    @property
    def columns(self) -> tuple[raw.Field, ...]:
        """The raw columns of a message; empty for a message with a vector."""
        return () if self.fields is None else raw.parse(self.fields)

    @model_validator(mode="after")
    def _fields_differ(self) -> Message:
        if any(column.name.lower() == self.label_field.lower() for column in self.columns):
            raise ValueError(
                f"label_field, {self.label_field!r}, is among the fields: a model must not see the label. Save its "
                "pipeline without the stages that read it"
            )
        if self.fields is not None and self.size is not None:
            raise ValueError("size is the size of a vector, and fields replace the vector")
        if self.label_field == self.features_field:
            raise ValueError(f"label_field and features_field are both {self.label_field!r}")
        return self


Trust = Literal["manifest", "signed", "unsigned"]
"""Required proof of a model's files."""


class Model(_Section):
    """A model to score with: its name in the outcomes, and its address."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
    uri: str
    trust: Trust = "manifest"


class Signatures(_Section):
    """The key that signs models, and the keys that verify signatures."""

    public_keys: tuple[Ed25519Key, ...]
    key_file: AbsolutePath | None

    @property
    def raw_keys(self) -> tuple[bytes, ...]:
        """The public keys, each of 32 bytes."""
        return tuple(map(base64.b64decode, self.public_keys))


class Elasticsearch(_Section):
    """The Elasticsearch sink."""

    enabled: bool
    url: str
    index: IndexName
    rejected_index: IndexName
    status_index: IndexName
    quality_index: IndexName
    labelled_index: IndexName
    pending_index: IndexName
    labels_status_index: IndexName
    documents: Annotated[float, Field(ge=0, le=1)]
    refresh_interval: str
    user: str | None
    password: SecretStr | None
    api_key: SecretStr | None
    ca_file: AbsolutePath | None
    insecure: bool
    wan_only: bool
    retry_seconds: Annotated[float, Field(ge=0)]
    bulk_documents: Positive

    @model_validator(mode="after")
    def _complete(self) -> Elasticsearch:
        names = self.indices
        if len(set(names)) < len(names):
            raise ValueError(f"the four indices must differ, found {', '.join(names)}")
        _check_server(self, "elasticsearch")
        if urlsplit(self.url).port is None:
            raise ValueError("url has no port: that of Elasticsearch is 9200, that of a gateway usually 443")
        return self

    @property
    def indices(self) -> tuple[str, ...]:
        """Names of all indices that the scoring job writes to."""
        return tuple(getattr(self, key) for key in INDEX_KEYS)

    def of_run(self, name: str) -> Elasticsearch:
        """Return these settings with the indices of a replay in the place of the stream's."""
        return self.model_copy(update={key: f"{getattr(self, key)}{RUN_INFIX}{name}" for key in INDEX_KEYS})

    @property
    def host(self) -> str:
        """Host name or address of the server."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Port of the server."""
        return urlsplit(self.url).port or 9200

    @property
    def path(self) -> str:
        """Path of the server's URL behind a gateway; empty without a gateway."""
        return urlsplit(self.url).path.rstrip("/")


class Delta(_Section):
    """The Delta table of the outcomes."""

    table: TableName | None

    @property
    def is_folder(self) -> bool:
        """Whether the table is a folder, and not a name in a catalog."""
        return self.table is not None and "/" in self.table


class Quality(_Section):
    """The statistics from which all figures of quality are computed."""

    windows: Annotated[tuple[Positive, ...], Field(min_length=1)]

    @field_validator("windows")
    @classmethod
    def _each_of_the_first(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        finest = value[0]
        for shorter, longer in pairwise(value):
            if longer <= shorter or longer % finest:
                raise ValueError(
                    f"{longer} must be longer than {shorter} and a multiple of the first, {finest}: longer windows are "
                    "summed from the shortest"
                )
        return value


class Labels(_Section):
    """Settings of label_stream."""

    checkpoint: Location
    match: Literal["key", "event_id"]
    id_field: Annotated[str, Field(min_length=1)]
    label_field: Annotated[str, Field(min_length=1)]
    time_field: Annotated[str, Field(min_length=1)]
    conflict: Literal["last", "first"]
    horizon: Annotated[float, Field(gt=0)]
    retry_seconds: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _fields_differ(self) -> Labels:
        names = [self.id_field, self.label_field, self.time_field]
        if len(set(names)) < len(names):
            raise ValueError(f"id_field, label_field and time_field must differ, found {', '.join(names)}")
        return self


class Compare(_Section):
    """The comparison of the models on the same events."""

    champion: str | None
    alpha: Annotated[float, Field(ge=1e-6, le=0.5)]
    margin: Annotated[float, Field(ge=0, lt=1)]


class Alert(_Section):
    """When Kibana's alert rule reports a model as worse than the baseline."""

    window_minutes: Positive
    min_labelled: Positive
    margin: Annotated[float, Field(ge=0, lt=1)]


class Kibana(_Section):
    """The Kibana into which the dashboard is imported."""

    url: str
    space: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]
    user: str | None
    password: SecretStr | None
    api_key: SecretStr | None
    ca_file: AbsolutePath | None
    insecure: bool
    alert: Alert

    @model_validator(mode="after")
    def _complete(self) -> Kibana:
        _check_server(self, "kibana")
        return self


class Stream(_Section):
    """Settings of score_stream."""

    checkpoint: Location
    new_checkpoint: bool
    model_poll_seconds: Annotated[float, Field(gt=0)]
    max_rejected_share: Annotated[float, Field(gt=0, le=1)] | None
    rejected_window: Positive
    max_restarts: Annotated[int, Field(ge=0)]
    synthetic: bool
    trigger_seconds: Annotated[float, Field(ge=0)]
    available_now: bool
    max_events_per_batch: Positive
    starting_offsets: Literal["earliest", "latest"]
    report_seconds: Annotated[float, Field(gt=0)]
    drain_seconds: Annotated[float, Field(gt=0)]
    skip: tuple[Annotated[str, Field(pattern=r"^[0-9]{1,10}:[0-9]{1,19}$")], ...]


def _candidate(value: object) -> object:
    """Return the entry of a model that is written as ``name=uri``."""
    if not isinstance(value, str):
        return value
    name, separator, uri = value.partition("=")
    if not (separator and name and uri):
        raise ValueError(f"{value!r} is not name=uri, for instance lr2=models:/streamscore-lr/7")
    return {"name": name, "uri": uri}


class Replay(_Section):
    """Settings of replay_topic."""

    name: RunName | None
    begin: Moment | None
    end: Moment | None
    models: tuple[Annotated[Model, BeforeValidator(_candidate)], ...]
    documents: bool

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> Replay:
        if self.begin is not None and self.end is not None and self.begin >= self.end:
            raise ValueError(
                f"the begin (--from), {iso_time(self.begin)}, is not before the end (--to), {iso_time(self.end)}"
            )
        return self


class Seed(_Section):
    """Settings of seed_topic."""

    source: str
    label_column: str | None
    features_column: str
    rate: Annotated[float, Field(gt=0)] | None
    limit: Positive | None
    repeat: Positive
    resume: bool


class Classifier(_Section):
    """Settings of one linear classifier."""

    reg_param: Annotated[float, Field(ge=0)]
    max_iter: Positive


class Svm(Classifier):
    """Settings of the linear SVM."""

    calibrate: bool


class Train(_Section):
    """Settings of train_models."""

    data: Literal["synthetic", "criteo"]
    path: str | None
    order_column: str | None
    rows: Positive
    seed: Annotated[int, Field(ge=0)]
    bayes_auc: Annotated[float, Field(ge=0.55, le=0.95)]
    test_rows: Positive
    balance: bool
    raw_models: bool
    hash_size: Positive
    min_category_count: Positive
    lr: Classifier
    svm: Svm
    candidate: Classifier | None
    output: LocalFolder

    @field_validator("hash_size")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError(f"{value} is not a power of two")
        return value

    @model_validator(mode="after")
    def _data_and_path_agree(self) -> Train:
        if self.data == "criteo" and self.path is None:
            raise ValueError("data: criteo needs path, the file that you downloaded")
        if self.data == "synthetic" and self.path is not None:
            raise ValueError("path goes with data: criteo only")
        if self.data == "synthetic" and self.test_rows >= self.rows:
            raise ValueError(f"test_rows ({self.test_rows}) must be fewer than rows ({self.rows})")
        return self


class RegisteredNames(_Section):
    """Names of the trained models in the registry."""

    lr: str
    svm: str

    @property
    def candidate(self) -> str:
        """The candidate's name."""
        return f"{self.lr}-candidate"


class Mlflow(_Section):
    """The tracking server and the model registry."""

    tracking_uri: str | None
    experiment: str
    registered_names: RegisteredNames
    alias: str


class Spark(_Section):
    """Settings of the Spark session."""

    master: str | None
    driver_memory: MemorySize
    shuffle_partitions: Positive
    conf: dict[str, Annotated[str, BeforeValidator(as_text)]]

    @property
    def driver_bytes(self) -> int:
        """The driver's memory in bytes."""
        return int(self.driver_memory[:-1]) << {"m": 20, "g": 30}[self.driver_memory[-1]]

    @field_validator("conf")
    @classmethod
    def _no_secret(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if SECRET_KEY.search(name):
                raise ValueError(
                    f"{name} would show in the process list: no secret can be a Spark setting. Hadoop takes it "
                    "from core-site.xml, from a credential provider, or from the cloud's environment variables"
                )
        return value


class Dashboard(_Section):
    """The live page."""

    title: str
    address: str
    hosts: tuple[str, ...]
    port: Annotated[int, Field(ge=1, le=65535)]
    refresh_seconds: Annotated[float, Field(ge=0.5)]
    time_range: TimeRange
    min_labelled: Positive
    timeout_seconds: Annotated[float, Field(gt=0)]


class Metrics(_Section):
    """The endpoint with the metrics and the health of score_stream."""

    port: Annotated[int, Field(ge=1, le=65535)] | None
    address: str
    insecure: bool

    @model_validator(mode="after")
    def _on_loopback_unless_asked_for(self) -> Metrics:
        if self.port is not None and not is_loopback(self.address) and not self.insecure:
            raise ValueError(
                f"other machines could read {self.address}:{self.port} without a password and without encryption: set "
                "metrics.address to a loopback address, or metrics.insecure to true"
            )
        return self


class Local(_Section):
    """The servers of ``streamscore up``."""

    artifacts_dir: StateFolder
    kafka_heap: MemorySize
    elasticsearch_heap: MemorySize
    start_seconds: Annotated[float, Field(gt=0)]


def _check_server(settings: Elasticsearch | Kibana, section: str) -> None:
    """Check a server's address and its credentials."""
    # The messages do not repeat the address, which may contain a password.
    try:
        parts = urlsplit(settings.url)
        is_complete = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # the port is not a number
        is_complete = False
    if not is_complete or not parts.hostname:
        raise ValueError("url is not http://host:port or https://host:port")
    if parts.username or parts.password:
        raise ValueError(f"url must not carry a user or a password: use {section}.user and .password")
    if parts.scheme == "http" and not is_loopback(parts.hostname) and not settings.insecure:
        raise ValueError(
            f"{parts.hostname} would be reached without encryption: use https://, or set {section}.insecure to true"
        )
    if parts.scheme == "http" and settings.ca_file is not None:
        raise ValueError("ca_file goes with https://")
    if (settings.user is None) != (settings.password is None):
        raise ValueError("user and password go together")
    if settings.user is not None and settings.api_key is not None:
        raise ValueError("set either user and password, or api_key")


class Config(_Section):
    """The whole configuration; ``conf/base.yml`` explains each key."""

    state_dir: StateFolder
    kafka: Kafka
    message: Message
    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    signatures: Signatures
    elasticsearch: Elasticsearch
    quality: Quality
    labels: Labels
    compare: Compare
    delta: Delta
    kibana: Kibana
    stream: Stream
    metrics: Metrics
    replay: Replay
    seed: Seed
    train: Train
    mlflow: Mlflow
    spark: Spark
    dashboard: Dashboard
    local: Local

    @field_validator("models")
    @classmethod
    def _names_unique(cls, value: tuple[Model, ...]) -> tuple[Model, ...]:
        names = [model.name for model in value]
        duplicates = sorted({name for name in names if names.count(name) > 1})
        if duplicates:
            raise ValueError(f"the name {duplicates[0]!r} is used more than once")
        return value

    @model_validator(mode="after")
    def _candidates_differ(self) -> Config:
        names = [model.name for model in (*self.models, *self.replay.models)]
        duplicate = next((name for name in names if names.count(name) > 1), None)
        if duplicate is not None:
            raise ValueError(
                f"replay.models: the name {duplicate!r} is used more than once; a replay scores with the configured "
                "models too, so give the candidate (--model name=uri) another name"
            )
        return self

    @model_validator(mode="after")
    def _champion_known(self) -> Config:
        names, champion = [model.name for model in self.models], self.compare.champion
        if champion is not None and champion not in names:
            raise ValueError(f"compare.champion: no model {champion!r} is configured; there are {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _signers_known(self) -> Config:
        signed = [model.name for model in (*self.models, *self.replay.models) if model.trust == "signed"]
        if signed and not self.signatures.public_keys:
            raise ValueError(f"the model {signed[0]!r} has trust: signed, but signatures.public_keys names no key")
        return self
