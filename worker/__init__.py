"""Wires: the only place that reads the environment, opens clients or knows a URL."""
