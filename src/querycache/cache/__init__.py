"""The core: decides what to do; knows tiers and codec only as ports."""
