"""Describes: what can fail, what may be done about it, and when it is safe. Pure: no I/O but reading its own catalog."""
