"""Decides what comes next, durably, and nothing else."""
