"""Config in, running App out."""

from querycache.assembly.app import App

__all__ = ["App"]
