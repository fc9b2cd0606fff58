"""Configuration: the environment and a `.env` file -> one frozen, validated `Config`.

The environment wins over `.env`, and an empty value counts as not set. Whatever is wrong is told
at once, in one `ConfigError` that names each variable, its value (never a secret's) and what is
allowed.
"""

from querycache.config.checks import Problem, not_built
from querycache.config.fields import FIELDS, Field
from querycache.config.loading import Loaded, Row, check, load_config
from querycache.config.readers import Secret
from querycache.config.settings import Config, KindSettings

__all__ = [
    "FIELDS",
    "Config",
    "Field",
    "KindSettings",
    "Loaded",
    "Problem",
    "Row",
    "Secret",
    "check",
    "load_config",
    "not_built",
]
