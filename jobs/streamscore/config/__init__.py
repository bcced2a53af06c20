"""The configuration: immutable, typed, and read once at the start.

``conf/base.yml`` holds every key with its default; an environment file and ``--set`` override it. Secrets come from the
environment or from files and never appear in a repr, a log line or a command line.
"""

from streamscore.config.jobs import Replay, Seed, Stream, Train
from streamscore.config.keys import Config
from streamscore.config.loading import CONF_DIR, as_override, load, shown
from streamscore.config.models import Compare, Message, Model
from streamscore.config.sections import is_loopback
from streamscore.config.servers import Delta, Elasticsearch, Kafka
from streamscore.config.types import TimeRange
from streamscore.config.watching import Dashboard, Kibana, Metrics

__all__ = [
    "CONF_DIR",
    "Compare",
    "Config",
    "Dashboard",
    "Delta",
    "Elasticsearch",
    "Kafka",
    "Kibana",
    "Message",
    "Metrics",
    "Model",
    "Replay",
    "Seed",
    "Stream",
    "TimeRange",
    "Train",
    "as_override",
    "is_loopback",
    "load",
    "shown",
]
