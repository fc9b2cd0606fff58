"""L2 in one SQLite file, shared by the processes of a machine."""

from querycache.tiers.sqlite.tier import SqliteTier, open_sqlite

__all__ = ["SqliteTier", "open_sqlite"]
