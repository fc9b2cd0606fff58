"""The slow truths that we cache in front of."""
