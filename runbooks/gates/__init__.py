"""The gates, by what each looks at. `runbooks/safety.py` has them all, in order."""
