"""From the settings of Redis to its parts. Entries travel without redis-py, which takes long to
import; only Sentinels and the administration load it.
"""

from __future__ import annotations

from querycache.clock import Clock
from querycache.config import Config
from querycache.ports.administration import Administration
from querycache.tiers.redis import RedisTier
from querycache.tiers.redis.address import Address, Login
from querycache.tiers.redis.connection import Limits
from querycache.tiers.redis.tls import Tls
from querycache.tiers.redis.topology import MakeLink, links


def address(config: Config) -> Address:
    """Where Redis is. REDIS_URL wins over the parts, and these say what it leaves open."""
    redis, at = config.redis, config.redis.at
    return Address(
        kind=at.kind if at else "single",
        nodes=at.nodes if at else ((redis.host, redis.port),),
        path=at.path if at else "",
        service=at.service if at else "",
        login=Login(at.user if at else "", redis.password.reveal()),
        sentinel_login=(Login(at.sentinel_user, at.sentinel_password.reveal()) if at else Login()),
        database=redis.db,
        tls=(
            Tls(redis.ssl_ca_cert_path, redis.ssl_cert_path, redis.ssl_key_path)
            if redis.ssl_enabled
            else None
        ),
    )


def make_link(config: Config, clock: Clock) -> MakeLink:
    """What makes the link of an event loop. Raises `ConfigError` for files of TLS."""
    limits = Limits(deadline_s=config.l2.deadline_ms / 1000)
    return links(address(config), clock=clock, limits=limits)


def shared_tier(config: Config, clock: Clock) -> RedisTier:
    """L2 on Redis; it connects when it is first asked. Raises `ConfigError` for files of TLS."""
    where = address(config)
    return RedisTier(
        make_link(config, clock),
        prefix=config.core.key_prefix,
        clock=clock,
        clustered=where.kind == "cluster",
        where=where.where,
    )


def administration(config: Config) -> Administration:
    """The administration of the servers."""
    from querycache.tiers.redis.administration import RedisAdministration
    from querycache.tiers.redis.clients import Patience

    redis = config.redis
    patience = Patience(
        connections=redis.max_connections,
        connect_s=redis.connection_timeout_s,
        answer_s=redis.socket_timeout_s,
        retries=redis.max_retries,
        retry_on_timeout=redis.retry_on_timeout,
    )
    return RedisAdministration(address(config), patience)
