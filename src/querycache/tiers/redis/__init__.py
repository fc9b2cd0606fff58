"""The shared L2 over Redis or Valkey."""

from querycache.tiers.redis.loops import OpenLink
from querycache.tiers.redis.tier import RedisTier
from querycache.tiers.redis.tracking import RedisBackplane

__all__ = ["OpenLink", "RedisBackplane", "RedisTier"]
