"""The import against a fake Kibana; no test runs a real one."""

from __future__ import annotations

import base64
import email
import itertools
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from streamscore import cli
from streamscore import config as configuration
from streamscore.errors import ConfigError, ServerError
from streamscore.kibana import importer
from streamscore.local.ports import free_port

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
RULE_UPDATE = {"name", "tags", "schedule", "params", "actions"}
ACTION_UPDATE = {"id", "group", "params", "frequency", "uuid", "alerts_filter", "use_alert_data_for_template"}


@dataclass
class FakeKibana:
    """The objects and the configurable behaviour of a fake Kibana."""

    version: str = "8.19.25"
    authorization: str | None = None
    spaces: tuple[str, ...] = ("default",)
    broken: str | None = None
    """Id of an object whose import fails."""
    forced: tuple[int, str] | None = None
    """Fixed status and body of every answer, if set."""
    location: str | None = None
    objects: dict = field(default_factory=dict)
    dashboards: dict = field(default_factory=dict)
    rules: dict = field(default_factory=dict)
    requests: list = field(default_factory=list)

    def answer(self, method, path, headers, body):
        """Return status and body of Kibana's answer."""
        self.requests.append((method, path))
        if self.forced is not None:
            return self.forced
        sent = headers.get("Authorization")
        if path == "/api/status" and (self.authorization is None or sent in {None, self.authorization}):
            # Kibana answers every client, but shows its version to authenticated ones only.
            known = {} if sent != self.authorization else {"version": {"number": self.version}}
            return 200, {"status": {"overall": {"level": "available"}}, **known}
        if self.authorization not in {None, sent}:
            return 401, {"statusCode": 401, "error": "Unauthorized", "message": "Unauthorized"}
        if method != "GET" and "kbn-xsrf" not in headers:
            return 400, {"statusCode": 400, "message": "Request must contain a kbn-xsrf header."}
        space, path = re.fullmatch(r"(?:/s/([^/]+))?(/.*)", path).groups()
        return self.route(method, space or "default", path, headers, body)

    def route(self, method, space, path, headers, body):
        """Answer an authenticated request."""
        if match := re.fullmatch(r"/api/spaces/space/(.+)", path):
            return (200, {"id": match[1]}) if match[1] in self.spaces else (404, {"message": "Not Found"})
        if path == "/api/saved_objects/_import?overwrite=true":
            return self.take_objects(space, headers, body)
        if match := re.fullmatch(r"/api/dashboards/([\w-]+)", path):
            return self.take_dashboard(space, match[1], json.loads(body))
        if match := re.fullmatch(r"/api/alerting/rule/(.+)", path):
            return self.take_rule(method, space, match[1], json.loads(body) if body else None)
        return 404, {"statusCode": 404, "error": "Not Found", "message": "Not Found"}

    def take_objects(self, space, headers, body):
        """Import the lines of a multipart form's file; refuse the broken one."""
        form = email.message_from_bytes(f"Content-Type: {headers['Content-Type']}\n\n".encode() + body)
        (file,) = form.get_payload()
        assert file.get_param("name", header="Content-Disposition") == "file"
        assert file.get_filename().endswith(".ndjson")
        results, errors = [], []
        for line in file.get_payload(decode=True).decode().splitlines():
            entry = json.loads(line)
            key = (space, entry["type"], entry["id"])
            shown = {"type": entry["type"], "id": entry["id"]}
            if entry["id"] == self.broken:
                errors.append(shown | {"error": {"type": "unsupported_type"}})
                continue
            results.append(shown | {"meta": {"title": entry["attributes"]["title"]}})
            if key in self.objects:
                results[-1]["overwrite"] = True
            self.objects[key] = entry
        return 200, {
            "success": not errors,
            "successCount": len(results),
            "successResults": results,
            **({"errors": errors} if errors else {}),
        }

    def take_dashboard(self, space, name, body):
        """Create or replace a dashboard."""
        if tuple(map(int, self.version.split(".")[:2])) < (9, 5):
            return 404, {"statusCode": 404, "message": "Not Found"}
        if not isinstance(body.get("title"), str) or len(body["panels"]) > 100:
            return 400, {"statusCode": 400, "message": "[request body.title]: expected value of type [string]"}
        known = (space, name) in self.dashboards
        self.dashboards[space, name] = body
        return (200 if known else 201), {"id": name, "data": body}

    def take_rule(self, method, space, name, body):
        """Create, read or update a rule; an update accepts only changeable fields."""
        if UUID.fullmatch(name) is None:
            return 400, {"statusCode": 400, "message": "Predefined IDs are not allowed unless the ID is a UUID."}
        rule = self.rules.get((space, name))
        if method == "GET":
            return (404, {"message": "Not Found"}) if rule is None else (200, rule)
        if method == "POST":
            if rule is not None:
                return 409, {"statusCode": 409, "message": f"Saved object [alert/{name}] conflict"}
            self.rules[space, name] = {"id": name, "enabled": True, **body}
            return 200, self.rules[space, name]
        unknown = set(body) - RULE_UPDATE | {key for action in body["actions"] for key in action} - ACTION_UPDATE
        if unknown:
            return 400, {"statusCode": 400, "message": f"[request body.{min(unknown)}]: definition is missing"}
        rule |= body
        return 200, rule


@pytest.fixture
def kibana():
    """A running FakeKibana with the address ``kibana.url``."""
    fake = FakeKibana()

    class Handler(BaseHTTPRequestHandler):
        def do(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, content = fake.answer(self.command, self.path, self.headers, body)
            data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            if fake.location is not None:
                self.send_header("Location", fake.location)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do  # noqa: N815 (the names of http.server)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()


def run(fake, *overrides, **options):
    """Import into the server and return the changes."""
    settings = configuration.load("local", [f"kibana.url={fake.url}", *overrides])
    return list(importer.run(settings, **options))


def refused(fake, *overrides):
    """Return the message of an import that fails."""
    with pytest.raises(ServerError) as error:
        run(fake, *overrides)
    return str(error.value)


def kinds(changes):
    """Return the kinds of changes, without titles and repetitions."""
    return {(change.did, change.kind) for change in changes}


def test_an_older_kibana_gets_saved_objects(kibana):
    """Before 9.5 all objects but the rule are imported as NDJSON."""
    changes = run(kibana)

    assert len(kibana.objects) == 18
    assert kibana.dashboards == {}
    assert ("default", "dashboard", "streamscore") in kibana.objects
    assert kinds(changes) == {("created", kind) for kind in ("data view", "text", "chart", "dashboard", "alert rule")}
    assert [rule["rule_type_id"] for rule in kibana.rules.values()] == [".es-query"]


@pytest.mark.parametrize("version", ["9.5.0", "9.6.1-SNAPSHOT", "10.0.0"])
def test_a_newer_kibana_gets_the_dashboards_api(kibana, version):
    """From 9.5 on the dashboard is created by its API, and only the data views are imported."""
    kibana.version = version

    changes = run(kibana)

    assert {kind for _, kind, _ in kibana.objects} == {"index-pattern"}
    assert len(kibana.dashboards["default", "streamscore"]["panels"]) == 13
    assert kinds(changes) == {("created", kind) for kind in ("data view", "dashboard", "alert rule")}


@pytest.mark.parametrize("version", ["8.19.25", "9.5.0"])
def test_a_second_import_updates_the_same_objects(kibana, version):
    """A repeated import creates no duplicates."""
    kibana.version = version
    run(kibana)
    before = json.dumps([sorted(kibana.objects), sorted(kibana.dashboards), sorted(kibana.rules)])

    changes = run(kibana)

    assert {change.did for change in changes} == {"updated"}
    assert json.dumps([sorted(kibana.objects), sorted(kibana.dashboards), sorted(kibana.rules)]) == before


def test_a_second_import_keeps_what_people_added_to_the_rule(kibana):
    """An update keeps the rule's actions and its on-off switch, and replaces its query."""
    run(kibana)
    (rule,) = kibana.rules.values()
    action = {"id": "mail", "group": "query matched", "params": {"to": ["me"]}, "uuid": "1"}
    rule |= {"enabled": False, "actions": [action | {"connector_type_id": ".email"}]}

    run(kibana, "kibana.alert.min_labelled=7")

    assert rule["actions"] == [action]
    assert rule["enabled"] is False
    assert "labelled >= 7 " in rule["params"]["esqlQuery"]["esql"]


@pytest.mark.parametrize("version", ["8.9.0", "8.18.3", "9.0.4"])
def test_a_kibana_without_such_rules_says_so(kibana, version):
    """A Kibana without alerts per row gets the dashboard without the rule, and a message."""
    kibana.version = version

    changes = run(kibana)

    assert str(changes[-1]).startswith("left out alert rule")
    assert kibana.rules == {}


def test_the_alert_may_be_left_out(kibana):
    """--no-alert omits the rule, which needs an encryption key in Kibana."""
    run(kibana, with_alert=False)

    assert kibana.rules == {}
    assert not any("alerting" in path for _, path in kibana.requests)


def test_an_old_kibana_is_refused(kibana):
    """A Kibana older than the objects is refused."""
    kibana.version = "8.8.2"

    assert refused(kibana) == f"Kibana at {kibana.url} is 8.8.2: the dashboard needs 8.9 or later"
    assert kibana.objects == {}


def test_user_and_password_sign_in(kibana, monkeypatch):
    """User and password, from the environment, authenticate."""
    kibana.authorization = "Basic " + base64.b64encode(b"elastic:s3cret").decode()
    monkeypatch.setenv("PASSWORD", "s3cret")

    run(kibana, "kibana.user=elastic", "kibana.password=${env:PASSWORD}")

    assert kibana.objects


def test_an_api_key_signs_in_and_a_netrc_file_does_not(kibana, monkeypatch, tmp_path):
    """An API key from the configured file authenticates, and a netrc file is ignored."""
    (tmp_path / "netrc").write_text(f"machine {urlsplit(kibana.url).hostname} login elastic password s3cret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    kibana.authorization = "ApiKey a2V5"
    (tmp_path / "key").write_text("a2V5")

    run(kibana, f"kibana.api_key=${{file:{tmp_path / 'key'}}}")

    assert kibana.objects


def test_wrong_credentials_are_named(kibana, monkeypatch):
    """The message about a 401 names the configuration keys without their values."""
    kibana.authorization = "ApiKey a2V5"
    monkeypatch.setenv("PASSWORD", "s3cret")

    message = refused(kibana, "kibana.user=elastic", "kibana.password=${env:PASSWORD}")

    assert "refuses the credentials (401" in message
    assert "kibana.user, .password and .api_key" in message
    assert "s3cret" not in message


def test_missing_credentials_are_named(kibana):
    """Missing credentials are recognised by the missing version."""
    kibana.authorization = "ApiKey a2V5"

    assert "set kibana.user and .password, or kibana.api_key" in refused(kibana)


def test_a_refused_object_is_named(kibana):
    """A failed object (success: false with status 200) is named after the reported imports."""
    kibana.broken = "streamscore-lag"
    changes = importer.run(configuration.load("local", [f"kibana.url={kibana.url}"]))

    assert len(list(itertools.islice(changes, 17))) == 17
    with pytest.raises(ServerError, match="did not import lens streamscore-lag: unsupported_type"):
        next(changes)
    assert kibana.rules == {}


@pytest.mark.parametrize(
    ("forced", "expected"),
    [
        ((503, "Kibana server is not ready yet"), "is not ready yet"),
        ((200, "<html>a shop</html>"), "not as Kibana does"),
        ((500, '{"message": "out of luck"}'), "(500): out of luck"),
        ((404, "Not Found"), "(404): Not Found"),
    ],
)
def test_other_answers_become_one_readable_line(kibana, forced, expected):
    """Any other answer becomes a one-line message with a remedy."""
    kibana.forced = forced

    message = refused(kibana)

    assert expected in message
    assert "\n" not in message


def test_a_redirect_is_not_followed(kibana):
    """Redirects, as for a missing base path, are not followed, so that credentials are not sent elsewhere."""
    kibana.forced, kibana.location = (302, ""), "/base"

    assert "sends us on to /base" in refused(kibana)
    assert len(kibana.requests) == 1


def test_an_unreachable_kibana_is_named():
    """The message has the address and the reason."""
    url = f"http://127.0.0.1:{free_port()}"
    settings = configuration.load("local", [f"kibana.url={url}"])

    with pytest.raises(ServerError, match=f"no Kibana answers at {url} .*Connection refused"):
        list(importer.run(settings))


def test_absent_file_of_authorities_is_named():
    """A missing file of authorities is reported before any request."""
    settings = configuration.load(
        "local", [f"kibana.url=https://127.0.0.1:{free_port()}", "kibana.ca_file=/nowhere/ca"]
    )

    with pytest.raises(ServerError, match="no secure connection to Kibana .*/nowhere/ca.*: see kibana.ca_file"):
        list(importer.run(settings))


@pytest.mark.parametrize("version", ["8.19.25", "9.5.0"])
def test_another_space_gets_objects_of_its_own(kibana, version):
    """Each space gets its own objects under its own ids."""
    kibana.version, kibana.spaces = version, ("default", "team")
    run(kibana)

    changes = run(kibana, "kibana.space=team")

    assert {change.did for change in changes} == {"created"}
    assert {space for space, *_ in kibana.objects} == {"default", "team"}
    assert len({name for *_, name in kibana.objects}) == len(kibana.objects)
    assert len({name for _, name in kibana.rules}) == 2


def test_a_space_that_does_not_exist_is_refused(kibana):
    """A missing space is refused, although Kibana itself would accept the objects."""
    assert "has no space 'nowhere'" in refused(kibana, "kibana.space=nowhere")
    assert kibana.objects == {}


def test_a_distant_kibana_needs_encryption():
    """A remote Kibana without encryption is refused."""
    with pytest.raises(ConfigError, match=r"set kibana\.insecure to true"):
        configuration.load("local", ["kibana.url=http://kibana.example:5601"])


def test_the_command_reports_and_ends_with_the_errors_code(kibana, monkeypatch, capsys):
    """The command prints one line per change, and exits with the fault's code."""
    done = CliRunner().invoke(cli.app, ["kibana", "import", "--url", kibana.url, "--no-alert"])

    assert done.exit_code == 0, done.output
    assert "created dashboard: streamscore: how good are the models right now?" in done.output.splitlines()
    assert "alert" not in done.output

    monkeypatch.setattr("sys.argv", ["streamscore", "kibana", "import", "--url", kibana.url, "--space", "nowhere"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == ServerError.exit_code
    assert "has no space 'nowhere'" in capsys.readouterr().err


def test_the_command_takes_no_secret():
    """The command has no option for a secret, which the process list would show."""
    done = CliRunner().invoke(
        cli.app, ["kibana", "import", "--set", "kibana.password=s3cret", "--set", "kibana.user=u"]
    )

    assert isinstance(done.exception, ConfigError)
    assert "s3cret" not in str(done.exception)
