"""The shapes that the islands agree on. A port's docstring states promises; its behaviour suite
tests them.
"""
