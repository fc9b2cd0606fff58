"""Invalidate: make entries unreachable at once, in every process."""

from querycache.usecases.invalidate.cut import Invalidate as Invalidate
from querycache.usecases.invalidate.cut import Invalidated as Invalidated
