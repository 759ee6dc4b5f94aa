"""Splits, metrics, comparison, plots and results of heads on cached features."""
