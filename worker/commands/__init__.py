"""One file per group of commands; `worker/cli.py` lists them."""
