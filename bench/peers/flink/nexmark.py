"""The Nexmark queries in Flink SQL: `python nexmark.py FOLDER OUT QUERY...`.

Compiles `Nexmark.java`, which says how it measures, against the Flink distribution in this
environment and runs it; a JDK 17 or newer must be on the path. One process with Flink's own
cluster of one task manager and two slots runs all queries with parallelism 2, without checkpoints,
with object reuse and mini-batches.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyflink.version

HEAP = "-Xmx4g"


def main(arguments: list[str]) -> int:
    """Compile, run, and return the exit code."""
    home = Path(pyflink.version.__file__).parent
    source = Path(__file__).with_name("Nexmark.java")
    with tempfile.TemporaryDirectory() as classes:
        jars = f"{home}/lib/*"
        quiet = ["-Dlog4j2.level=ERROR"]
        compiler = shutil.which("javac") or "javac"
        subprocess.run([compiler, "-d", classes, "-cp", jars, str(source)], check=True)
        path = os.pathsep.join([jars, classes])
        command = ["java", HEAP, *quiet, "-cp", path, "Nexmark", *arguments]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
