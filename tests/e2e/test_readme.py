"""Every command of the README runs, and its quoted output is the program's."""

import os
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest
import yaml

from streamscore.config import load
from streamscore.launch import submit

STREAMS_FOR_EVER = "streamscore score"


def blocks(root, language):
    """Return the README's code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", (root / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def commands(root):
    """Return the commands of the README, line by line."""
    return [line for block in blocks(root, "bash") for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def clone(root, addresses, tmp_path_factory):
    """A copy of the repository with the virtual environment, and a smaller, faster configuration."""
    folder = tmp_path_factory.mktemp("clone") / "streamscore"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (root / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name, follow_symlinks=False)
    (folder / ".venv").symlink_to(root / ".venv")
    config = load("local", addresses)
    smaller = {
        "state_dir": str(folder / ".streamscore"),
        "local": {"artifacts_dir": str(config.local.artifacts_dir)},
        "kafka": {"bootstrap_servers": config.kafka.bootstrap_servers[:-1] + "0"},
        "train": {"rows": 8000, "test_rows": 4000, "lr": {"max_iter": 5}, "svm": {"max_iter": 5}},
        "spark": {"master": "local[2]"},
    }
    from streamscore.local.ports import free_port

    smaller["kafka"]["bootstrap_servers"] = f"127.0.0.1:{free_port()}"
    smaller["elasticsearch"] = {"url": f"http://127.0.0.1:{free_port()}"}
    smaller["dashboard"] = {"port": free_port()}
    (folder / "small.yml").write_text(yaml.safe_dump(smaller))
    return folder


@pytest.mark.timeout(3600)
def test_every_command_runs(root, clone, shell):
    """The commands run in order in one clone; only `make test`, which runs this test, is omitted."""
    (clone / "my.yml").write_text(blocks(root, "yaml")[0])
    env = {
        "STREAMSCORE_CONFIG": str(clone / "small.yml"),
        "ES_API_KEY": "made-up",
        "JDK_JAVA_OPTIONS": f"{os.environ['JDK_JAVA_OPTIONS']} -XX:-UsePerfData",
    }
    outputs = {}
    for command in commands(root):
        if command == "make test":
            assert "make test" in (root / ".ci" / "run").read_text().splitlines()
        elif command == STREAMS_FOR_EVER:
            outputs[command] = until_interrupted(clone, env)
        elif "--config my.yml" in command:
            (clone / "jaas").write_text("made-up")
            text = (clone / "my.yml").read_text().replace("/etc/streamscore/kafka-jaas", str(clone / "jaas"))
            (clone / "my.yml").write_text(text)
            outputs[command] = shell(command, cwd=clone, env=env).stdout
            assert "made-up" not in outputs[command]
            assert "clicks.rejected" in outputs[command]
        else:
            done = shell(f"set -e; {command}", cwd=clone, env=env)
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            outputs[command] = done.stdout + done.stderr

    assert (
        "4,000 events × 3 models = 12,000; in Kafka 12,000, in Elasticsearch 12,000: they agree" in outputs["make demo"]
    )
    assert re.search(r"watch it live: http://127.0.0.1:\d+$|no live page", outputs["make demo"], re.MULTILINE)
    assert re.search(r"stopped (page and )?elasticsearch and kafka", outputs["make demo"])
    assert "summary: events" in outputs[STREAMS_FOR_EVER]


def until_interrupted(clone, env):
    """Run the command that never ends by itself, and press Ctrl-C once it works."""
    path = f"{clone / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        STREAMS_FOR_EVER.split(),
        cwd=clone,
        env={**os.environ, **env, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    lines = []
    too_long = threading.Timer(300, os.killpg, (process.pid, signal.SIGKILL))
    too_long.start()
    for line in process.stdout:
        lines.append(line)
        if "scoring the topic" in line:
            time.sleep(3)
            os.killpg(process.pid, signal.SIGINT)  # a terminal's Ctrl-C reaches every process of the group
    too_long.cancel()
    assert process.wait(60) == 0, "".join(lines)
    return "".join(lines)


def test_cluster_line_is_the_one_that_the_program_makes(root):
    """The line is generated from the module of the coordinates."""
    shown = next(block for block in blocks(root, "text") if "--packages" in block)

    assert shown.strip() == submit.cluster_command()


def test_versions_in_the_table_are_those_in_use(root):
    """The versions are those of the coordinates and of the lock."""
    from streamscore.spark import maven

    text = (root / "README.md").read_text(encoding="utf-8")
    jars = {jar.name: jar.version for jar in maven.SPARK_JARS}
    lock = (root / "requirements" / "runtime.lock").read_text()

    assert f"| Spark | {maven.SPARK_VERSION} (Scala 2.12) |" in text
    assert f"client {jars['kafka-clients']}, local broker {maven.KAFKA_BROKER.version}" in text
    assert f"connector {jars['elasticsearch-spark-30_2.12']}, local server {maven.ELASTICSEARCH.version}" in text
    assert re.search(r"^mlflow==(\S+)", lock, re.MULTILINE)[1] in text


def test_every_linked_file_exists(root):
    """All links between documents have existing targets."""
    for document in [*root.glob("*.md"), *(root / "docs").glob("*.md"), *(root / "models").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_linked_section_exists(root):
    """All linked anchors exist; a heading's anchor follows GitHub's rules."""
    documents = {
        path.resolve(): path.read_text(encoding="utf-8") for path in [*root.glob("*.md"), *root.glob("docs/*.md")]
    }
    for path, text in documents.items():
        for name, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text):
            target = documents[(path.parent / name).resolve() if name else path]
            headings = re.findall(r"^#+ (.*)$", target, re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{path.name}: {name}#{anchor}"
