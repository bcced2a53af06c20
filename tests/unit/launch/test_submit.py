"""The spark-submit command: the locked jars, quoting, and no secret."""

import subprocess

from streamscore import score_stream
from streamscore.launch import submit
from streamscore.local import artifacts
from streamscore.messages import decoder
from streamscore.spark import maven


def option(words, name):
    """Return the value of an option."""
    return words[words.index(name) + 1]


def test_line_has_the_locked_jars_and_the_decoder(make_config):
    """The command has exactly the locked jars and the decoder, from the artifacts folder."""
    config = make_config()
    words = submit.command(score_stream.JOB, config, ["--available-now"])
    jars = option(words, "--jars").split(",")

    assert jars[:-1] == [
        str(config.local.artifacts_dir / name) for name in artifacts.locked_hashes() if name.startswith("spark/")
    ]
    assert jars[-1].endswith(decoder.jar_name())
    assert words[-2].endswith("/score_stream.py")
    assert words[-1] == "--available-now"


def test_line_holds_no_secret(make_config, monkeypatch):
    """The command, which the process list shows, has no secret."""
    monkeypatch.setenv("S3CR3T", "hunter2")
    config = make_config(
        "elasticsearch.user=u",
        "elasticsearch.password=${env:S3CR3T}",
        'kafka.options.sasl.jaas.config=x username="u" password="${env:S3CR3T}";',
    )

    assert "hunter2" not in " ".join(submit.command(score_stream.JOB, config, []))


def test_without_a_master_the_line_names_none(make_config):
    """Without a configured master the command has none, as a cluster's spark-submit knows its own."""
    words = submit.command(score_stream.JOB, make_config("spark.master=null"), [])

    assert "--master" not in words
    assert not any("extraJavaOptions" in word for word in words)


def test_machine_whose_name_nobody_knows_can_run_spark(make_config, jars, monkeypatch):
    """Spark starts on a machine whose host name does not resolve; a cluster's address is unchanged."""
    monkeypatch.delenv("SPARK_LOCAL_IP", raising=False)

    assert submit.prepare(make_config())["SPARK_LOCAL_IP"] == "127.0.0.1"
    assert "SPARK_LOCAL_IP" not in submit.prepare(make_config("spark.master=null"))
    monkeypatch.setenv("SPARK_LOCAL_IP", "10.0.0.1")
    assert submit.prepare(make_config())["SPARK_LOCAL_IP"] == "10.0.0.1"


def test_shown_line_is_one_option_a_line_and_quoted():
    """The shown command is quoted for a shell."""
    assert submit.shown(["s", "--conf", "a=b c", "--x"]) == "s \\\n  --conf 'a=b c' \\\n  --x"
    line = submit.shown(["printf", "%s\n", "a=b --c", "--d=e f"])
    assert subprocess.run(["bash", "-c", line], stdout=subprocess.PIPE, check=True).stdout == b"a=b --c\n--d=e f\n"


def test_cluster_line_has_every_coordinate_and_every_exclusion():
    """The cluster command has all coordinates and exclusions."""
    line = submit.cluster_command()

    assert all(str(jar) in line for jar in maven.SPARK_JARS)
    assert all(name in line for name in maven.SPARK_EXCLUDES)
