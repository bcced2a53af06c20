"""Score a Kafka topic with native Spark ML models and see live how good they are.

The stable Python API, which changes incompatibly only with the major version:

- ``config.load`` and ``config.fields.parse``: the configuration, and the columns of ``message.fields``.
- ``train_models``, ``seed_topic``, ``score_stream``, ``replay_topic``, ``label_stream``: ``JOB``, ``check``, ``run``
  and ``main`` of each.
- ``models.sign``: the manifest of a model that was trained elsewhere.
- ``errors``: every error, with its exit code.

All other names are internal.
"""

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "config",
    "errors",
    "label_stream",
    "models",
    "replay_topic",
    "score_stream",
    "seed_topic",
    "train_models",
]
