"""All files name the same supported Python versions, and the lock files cover all of them."""

import re
import subprocess
import sys
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from streamscore.cli import doctor

PROMISED = ["3.10", "3.11", "3.12", "3.13"]


def locked(root, name, python):
    """Return the requirements of a lock file for a Python version, by package."""
    found = {}
    for line in re.findall(r"^[\w.-]+==[^\\\n]+", (root / "requirements" / name).read_text(), re.MULTILINE):
        one = Requirement(line)
        environment = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux"}
        if one.marker is None or one.marker.evaluate(environment):
            found.setdefault(one.name, []).append(one)
    return found


def test_package_says_which_pythons_it_is_for(root):
    """requires-python and the classifiers name the same versions."""
    setup = (root / "setup.py").read_text()
    (needed,) = re.findall(r'python_requires="(.+?)"', setup)

    assert re.findall(r"Python :: (3\.\d+)", setup) == PROMISED
    assert [minor for minor in range(8, 20) if f"3.{minor}" in SpecifierSet(needed)] == [10, 11, 12, 13]


@pytest.mark.parametrize(("version", "is_fine"), [((3, 9), False), ((3, 10), True), ((3, 13), True), ((3, 14), False)])
def test_makefile_and_doctor_refuse_other_pythons(root, make_config, monkeypatch, version, is_fine):
    """The Makefile refuses other versions before the installation, and doctor afterwards."""
    (check,) = re.findall(r"^SUPPORTED := import sys; (.+)$", (root / "Makefile").read_text(), re.MULTILINE)
    replaced = f"import sys; sys.version_info = {version!r}; {check}"
    monkeypatch.setattr(sys, "version_info", (*version, 1, "final", 0))
    (finding,) = doctor._python(make_config())

    assert (subprocess.run([sys.executable, "-c", replaced], check=False).returncode == 0) is is_fine
    assert (finding[0] == "ok") is is_fine
    assert is_fine or "3.10 to 3.13" in finding[1]


@pytest.mark.parametrize("python", PROMISED)
@pytest.mark.parametrize(("lock", "extras"), [("runtime.lock", ("local", "dashboard")), ("dev.lock", ("dev",))])
def test_lock_has_one_version_of_each_package_for_each_python(root, lock, extras, python):
    """The lock has every requirement of setup.py for that Python, in an allowed version."""
    found = locked(root, lock, python)
    wanted = [Requirement(line) for line in requires("streamscore")]
    environments = [{"python_version": python, "extra": extra} for extra in ("", *extras)]
    needed = [one for one in wanted if one.marker is None or any(one.marker.evaluate(each) for each in environments)]

    assert all(len(ones) == 1 for ones in found.values()), [one for one, ones in found.items() if len(ones) != 1]
    assert len(needed) > 15
    for one in needed:
        ((version,),) = [[spec.version for spec in found[one.name.lower()][0].specifier]]
        assert version in one.specifier, one


@pytest.mark.parametrize("python", PROMISED)
def test_distutils_is_there_for_pandas_and_pyspark(root, python):
    """distutils, which PySpark 3.5 imports for pandas, comes with Python up to 3.11 and with setuptools later."""
    assert ("setuptools" in locked(root, "runtime.lock", python)) is (python in {"3.12", "3.13"})
