"""The house style that a machine can see: sizes, names, and a test beside every module."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.shape.tree import MODULES, SOURCES, TESTS, name_of

CEILING = 350
EMPTY_WORDS = re.compile(
    "utils?|helpers?|managers?|services?|handlers?|common|misc|base|enhanced|advanced|smart"
)
NO_TEST_OF_THEIR_OWN = {
    "__main__.py": "one call; the command line's tests run it",
    "assembly/origins.py": "joins parts; every test that makes an App runs it",
    "assembly/alerting.py": "tests/doors/test_python_monitoring.py has it look and tell",
    "assembly/cases.py": "joins parts; every test that makes an App runs it",
    "assembly/operations.py": "joins parts; every test that makes an App runs it",
    "assembly/projects.py": "joins parts; every test that makes an App runs it",
    "assembly/watching.py": "tests/unit/usecases/test_monitor_files.py runs it in an App",
    "assembly/wiring.py": "joins parts; every test that makes an App runs it",
    "assembly/comparing.py": "tests/doors/test_cli_cache.py asks a living process through it",
    "cache/dumping.py": "tests/unit/usecases/test_back_up_and_restore.py backs a Redis up by it",
    "cache/rebinding.py": "tests/unit/usecases/test_back_up_and_restore.py restores by it",
    "assembly/metering.py": "joins parts; tests/doors/test_metrics_port.py reads its page",
    "assembly/posting.py": "tests/live/test_posts_between_homes.py runs two Apps with it",
    "assembly/tracing.py": "tests/unit/observe/test_tracing.py makes Apps with it",
    "cache/invalidating.py": "tests/races and tests/model test the path that it is part of",
    "cache/loading.py": "tests/races and tests/model test the path that it is part of",
    "cache/reading.py": "tests/races and tests/model test the path that it is part of",
    "cache/writing.py": "tests/races/test_write_strategies.py tests the path that it is part of",
    "config/settings.py": "declarations; test_fields and test_loading read them all",
    "config/origins.py": "declarations; test_fields and test_loading read them all",
    "config/watching.py": "declarations; test_fields and test_loading read them all",
    "config/tiers.py": "declarations; test_fields and test_loading read them all",
    "doors/cli/coherency.py": "tests/doors/test_cli_cache.py runs it in a process of its own",
    "doors/cli/diagnosis.py": "tests/live/test_doctor_commands.py reads what it prints",
    "doors/cli/warming.py": "tests/doors/test_cli_warming.py runs it",
    "doors/http_api/asked.py": "declarations; tests/doors/test_http_routes.py asks them all",
    "doors/http_api/routes_cache.py": "tests/doors/test_http_routes.py asks every route",
    "doors/http_api/routes_doctor.py": "tests/doors/test_http_routes.py asks every route",
    "doors/http_api/routes_projects.py": "tests/doors/test_http_routes.py asks every route",
    "doors/http_api/routes_metrics.py": "tests/doors/test_metrics_port.py asks every route",
    "doors/mcp_server/tools_doctor.py": "tests/doors/test_mcp_tools.py calls every tool",
    "doors/python/cache.py": "tests/doors/test_python_cache.py imports its names as users do",
    "doors/python/current.py": "tests/doors/test_python_cache.py imports its names as users do",
    "doors/python/isolation.py": "tests/doors/test_python_isolation.py imports as users do",
    "doors/python/monitoring.py": "tests/doors/test_python_monitoring.py imports as users do",
    "doors/python/sessions.py": "tests/doors/test_python_isolation.py imports as users do",
    "doors/python/search.py": "tests/doors/test_python_search.py imports its names as users do",
    "ports/findings.py": "shapes; whoever finds something makes one",
    "ports/codec.py": "shapes; the behaviour suites test what they promise",
    "ports/metrics.py": "shapes; tests/unit/observe/test_exposition.py reads all",
    "ports/observer.py": "shapes; the behaviour suites test what they promise",
    "ports/origins.py": "shapes; the behaviour suites test what they promise",
    "ports/tiers.py": "shapes; the behaviour suites test what they promise",
    "ports/tally.py": "counters; tests/races and tests/unit/cache read them",
    "ports/tracing.py": "shapes; tests/unit/observe/test_tracing.py runs both sides",
    "testing/clock.py": "every test that needs time imports it from querycache.testing",
    "testing/observer.py": "tests/races records the events of the core with it",
    "tiers/redis/batch.py": "part of the tier's writes; the L2 suite on real servers runs it",
    "tiers/redis/certificates.py": "tests/live/test_doctor_redis.py looks at certificates with it",
    "tiers/redis/posts.py": "the L2 suite on real servers and test_redis_tier.py run it",
    "tiers/redis/link.py": "shapes; the L2 suite on real servers tests what they promise",
    "tiers/redis/probing.py": "tests/live/test_doctor_redis.py looks at real servers with it",
    "tiers/sqlite/committer.py": "the L2 suite and tests/live test the tier that it is part of",
    "tiers/sqlite/tier.py": "the L2 suite and tests/live test it through the package",
    "tiers/sqlite/writer.py": "the L2 suite and tests/live test the tier that it is part of",
    "tiers/sqlite/dumping.py": "tests/unit/usecases/test_back_up_and_restore.py backs up by it",
    "usecases/back_up.py": "tests/unit/usecases/test_back_up_and_restore.py runs it in an App",
    "usecases/diagnose/judge_consistency.py": "test_judgement judges with it",
    "usecases/diagnose/judge_figures.py": "test_judgement judges with it",
    "usecases/diagnose/judge_redis.py": "test_judgement judges with it",
    "usecases/diagnose/judge_surroundings.py": "test_judgement judges with it",
    "usecases/restore.py": "tests/unit/usecases/test_back_up_and_restore.py runs it in an App",
    "doors/http_api/routes_upkeep.py": "tests/doors/test_http_routes.py asks every route",
    "doors/mcp_server/tools_upkeep.py": "tests/doors/test_mcp_tools.py calls every tool",
    "usecases/check_coherency.py": "tests/unit/usecases/test_invalidate.py runs it in an App",
    "usecases/embed_texts.py": "tests/unit/usecases/test_index_project.py runs it in an App",
    "usecases/invalidate/cut.py": "tests/unit/usecases/test_invalidate.py runs it in an App",
    "usecases/list_keys.py": "tests/unit/usecases/test_invalidate.py runs it in an App",
    "usecases/list_projects.py": "tests/unit/usecases/test_status_and_warmth.py runs it in an App",
    "usecases/remember.py": "tests/doors/test_python_cache.py runs it through the service",
}

IMPORTED = {
    name
    for test in TESTS.rglob("*.py")
    for found in re.findall(r"(?m)^ *(?:from (\S+) import (.+)|import (\S+))", test.read_text())
    for name in (found[0], found[2], *(f"{found[0]}.{part}" for part in found[1].split(", ")))
}
"""Every module, or name in a module, that a test imports."""


def words_of(path: Path) -> set[str]:
    parts = path.relative_to(SOURCES).with_suffix("").parts
    return {word for part in parts for word in part.lower().split("_")}


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_module_fits_on_a_few_screens(module: Path):
    assert len(module.read_text(encoding="utf-8").splitlines()) <= CEILING


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_module_is_named_for_what_it_is(module: Path):
    assert not list(filter(EMPTY_WORDS.fullmatch, words_of(module)))


@pytest.mark.parametrize(
    "module", [module for module in MODULES if module.name != "__init__.py"], ids=name_of
)
def test_a_module_has_a_test(module: Path):
    """In the same place below `tests/unit`, or one elsewhere that imports it."""
    where = module.relative_to(SOURCES)
    mirror = TESTS / "unit" / where.with_name(f"test_{module.name}")
    tested = mirror.exists() or ".".join(("querycache", *where.with_suffix("").parts)) in IMPORTED
    assert tested or name_of(module) in NO_TEST_OF_THEIR_OWN


def test_what_needs_no_test_exists():
    assert {name_of(module) for module in MODULES} >= NO_TEST_OF_THEIR_OWN.keys()
