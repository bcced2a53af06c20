"""CONTRIBUTING.md maps the current tree, and the templates ask for the needed information."""

import re
import subprocess

import pytest
import yaml


def rows(root, title):
    """Return the rows of the table in a section of CONTRIBUTING.md, each as the names and the text of its cells."""
    text = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    body = re.search(rf"^#+ {title}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)[1]
    lines = re.findall(r"^\| (`.*`) \| (.*) \|$", body, re.MULTILINE)
    return [(re.findall(r"`([^`]+)`", names), purpose) for names, purpose in lines]


def test_every_room_is_on_the_map_and_nothing_else(root):
    """The map lists every top-level package and module, and no other."""
    package = root / "jobs" / "streamscore"
    rooms = [path.parent.name for path in package.glob("*/__init__.py")]
    rooms += [path.stem for path in package.glob("*.py") if path.stem != "__init__"]
    mapped = [name for names, _ in rows(root, "The rooms") for name in names]

    assert sorted(mapped) == sorted(rooms)


def test_every_folder_is_on_the_map_and_nothing_else(root):
    """The map lists every folder under version control, and no other."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    folders = {f"{name.partition('/')[0]}/" for name in listed.stdout.splitlines() if "/" in name}
    mapped = [name for names, _ in rows(root, "The tree") for name in names]

    assert sorted(mapped) == sorted(folders)


@pytest.mark.parametrize("title", ["The tree", "The rooms"])
def test_each_line_of_the_map_says_what_for(root, title):
    """Each row has a distinct one-line description."""
    purposes = [purpose for _, purpose in rows(root, title)]

    assert all(8 < len(purpose) <= 100 for purpose in purposes)
    assert len(set(purposes)) == len(purposes)


def test_every_make_target_that_is_named_exists(root):
    """All make targets in CONTRIBUTING.md and the pull-request template exist."""
    makefile = (root / "Makefile").read_text()
    texts = [(root / name).read_text() for name in ("CONTRIBUTING.md", ".github/pull_request_template.md")]
    named = {word for words in re.findall(r"`make ([a-z0-9 -]+)", "\n".join(texts)) for word in words.split()}

    assert "release" in named
    assert named <= set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_issue_form_has_what_a_form_needs(root, name):
    """A form has a name, a description, and labelled fields, some of them required."""
    form = yaml.safe_load((root / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text())
    fields = [field for field in form["body"] if field["type"] != "markdown"]

    assert form["name"]
    assert form["description"]
    assert {field["type"] for field in fields} <= {"checkboxes", "dropdown", "input", "textarea"}
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_bug_report_asks_for_the_diagnosis(root):
    """The form asks for the output of doctor and --version, and refers vulnerabilities elsewhere."""
    text = (root / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text()

    assert "streamscore doctor" in text
    assert "streamscore --version" in text
    assert "SECURITY.md" in text
