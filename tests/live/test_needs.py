"""What `make test` does about programs that are not installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NEEDS = Path(__file__).parents[1] / "needs.sh"
APT = """#!/bin/sh
echo "$@" >>"$(dirname "$0")/asked"
[ "$1" = install ] || exit 0
for package; do :; done
case $package in
  redis-server | redis-tools) name=${package%tools}; [ "$name" = "$package" ] || name=redis-cli ;;
  chromium-browser) name=$package ;;
  *) exit 100 ;;
esac
printf '#!/bin/sh\\n' >"$(dirname "$0")/$name"
chmod +x "$(dirname "$0")/$name"
"""

pytestmark = pytest.mark.live


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder that holds all programs there are: a shell, some of its kind, and no more."""
    for name in ("sh", "env", "dirname", "chmod"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / name).symlink_to(found)
    (tmp_path / "id").write_text("#!/bin/sh\necho 0\n")
    (tmp_path / "id").chmod(0o755)
    return tmp_path


def needs(path: Path, *programs: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [NEEDS, *programs],
        env={"PATH": str(path), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def with_apt(path: Path) -> None:
    (path / "apt-get").write_text(APT)
    (path / "apt-get").chmod(0o755)


def test_what_is_there_is_left_alone(path: Path):
    with_apt(path)
    (path / "valkey-server").symlink_to(path / "sh")
    (path / "valkey-cli").symlink_to(path / "sh")
    done = needs(path, "sh", "redis-server", "redis-cli")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert needs(path, "redis-server", TEST_REDIS_SERVER="/elsewhere/server").returncode == 0
    assert not (path / "asked").exists()


def test_what_is_missing_is_installed_by_its_packages_name(path: Path):
    with_apt(path)
    done = needs(path, "redis-server", "redis-cli")
    assert done.returncode == 0, done.stderr
    asked = (path / "asked").read_text().splitlines()
    assert asked[0].startswith("update")
    assert [line.split()[-1] for line in asked[1:]] == ["redis-server", "redis-tools"]


def test_a_package_may_have_another_name_elsewhere(path: Path):
    with_apt(path)
    done = needs(path, "chromium")
    assert done.returncode == 0, done.stderr
    asked = (path / "asked").read_text().splitlines()
    assert [line.split()[-1] for line in asked[1:]] == ["chromium", "chromium-browser"]


def test_what_can_not_be_installed_is_named(path: Path):
    done = needs(path, "sh", "redis-server", "nonsense")
    assert done.returncode == 1
    assert "please install them: redis-server nonsense" in done.stderr
    with_apt(path)
    done = needs(path, "redis-server", "nonsense")
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("please install them: nonsense")


def test_without_the_right_to_install_nothing_is_tried(path: Path):
    with_apt(path)
    (path / "id").write_text("#!/bin/sh\necho 1000\n")
    (path / "sudo").write_text("#!/bin/sh\nexit 1\n")
    (path / "sudo").chmod(0o755)
    done = needs(path, "redis-server")
    assert done.returncode == 1
    assert "please install them: redis-server" in done.stderr
    assert not (path / "asked").exists()
