"""A node with GPUs that are files: the stand-in of libnvidia-ml, and a stand-in of nvidia-smi that acts on it."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml_standin.c")
SONAME = "libnvidia-ml.so.1"
SMI = '''\
#!{python}
"""Stands where nvidia-smi would: `--gpu-reset -i N` clears the GPU's faults, unless something holds it; `-pm MODE -i N`."""
import os, pathlib, sys, time

index = sys.argv[sys.argv.index("-i") + 1]
file = pathlib.Path({folder!r}, "gpu" + index)
state = dict(line.split("=", 1) for line in file.read_text().splitlines())


def write():
    text = "".join(k + "=" + v + "\\n" for k, v in state.items())
    file.with_suffix(".new").write_text(text)
    os.replace(file.with_suffix(".new"), file)


if "-pm" in sys.argv:
    state["persistence"] = sys.argv[sys.argv.index("-pm") + 1]
    write()
    sys.exit(0)
assert "--gpu-reset" in sys.argv, sys.argv
with open(file.parent / "resets", "a") as log:
    log.write(index + "\\n")
if state.get("smi") == "hangs":
    time.sleep(60)
if state.get("pids") or state.get("persistence") == "1":
    print("GPU " + index + " is currently in use by one or more other processes.")
    sys.exit(255)
if state.get("smi") == "fails":
    print("Reset failed: this stand-in was told to fail.", file=sys.stderr)
    sys.exit(3)
kept = ("uuid", "temperature", "persistence", "ecc_aggregate", "rows_uncorrectable", "link_error")
if state.get("smi") != "does_not_help":
    state = {{k: v for k, v in state.items() if k in kept}}
    write()
print("GPU " + index + " was successfully reset.")
'''


def build(folder: Path, *flags: str) -> Path:
    """The stand-in library in `folder`, made with gcc against NVIDIA's header. Half a second."""
    header = importlib.metadata.distribution("nvidia-nvml-dev")
    include = next(Path(str(header.locate_file(f))).parent for f in header.files or [] if f.name == "nvml.h")
    library = folder / SONAME
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-deprecated-declarations",
         "-D_GNU_SOURCE", *flags, "-isystem", str(include), f"-Wl,-soname,{SONAME}", "-o", str(library), str(SOURCE)],
        check=True,
    )  # fmt: skip
    return library


class Node:
    """The GPUs of one node, as files in a folder."""

    def __init__(self, folder: Path, gpus: int = 2) -> None:
        self.folder = folder
        for index in range(gpus):
            self.set(index)
        self.smi = folder / "nvidia-smi"
        self.smi.write_text(SMI.format(python=sys.executable, folder=str(folder)))
        self.smi.chmod(0o755)

    def set(self, gpu: int, **values: int | str) -> None:
        """This GPU now has these values and no others; no value: a healthy GPU."""
        text = "".join(f"{key}={value}\n" for key, value in values.items())
        (self.folder / "new").write_text(text)
        os.replace(self.folder / "new", self.folder / f"gpu{gpu}")

    def event(self, gpu: int, kind: int, data: int = 0) -> None:
        """The driver reports this: kind 8 is an XID."""
        with (self.folder / "events").open("a") as file:
            file.write(f"{gpu} {kind} {data}\n")

    def xid(self, gpu: int, code: int) -> None:
        """The driver reports an XID."""
        self.event(gpu, 8, code)

    @property
    def registered(self) -> list[str]:
        """Every GPU that somebody began to listen to: what is reported after it is heard."""
        log = self.folder / "registered"
        return log.read_text().split() if log.exists() else []

    @property
    def resets(self) -> list[str]:
        """Every call of nvidia-smi, by the index that it was given."""
        log = self.folder / "resets"
        return log.read_text().split() if log.exists() else []
