"""The demo: real parts on one laptop, broken on purpose, and what Interlock does about it."""
