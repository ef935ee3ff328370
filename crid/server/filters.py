"""Conditions that the list RPCs share."""

from collections.abc import Mapping


def has_labels(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Whether `labels` holds every label of `selector` with the same value."""
    return all(key in labels and labels[key] == value for key, value in selector.items())
