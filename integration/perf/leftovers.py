#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Takes away the cgroups and processes of a benchmark, also of one that was killed.

Run as a program it waits for the end of another process and then does so:

  leftovers.py PID CGROUP [DIRECTORY]
"""

import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
SECONDS = 60


def hierarchies():
    """The directories of the v1 hierarchies, as they are mounted here."""
    lines = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return list(dict.fromkeys(Path(fields[1]) for fields in lines if fields[2] == "cgroup"))


def processes(cgroup):
    """Every process in the cgroup or below it, in any hierarchy."""
    found = set()
    for hierarchy in hierarchies():
        for directory, _, _ in os.walk(hierarchy / cgroup.lstrip("/")):
            try:
                found.update(int(pid) for pid in Path(directory, "cgroup.procs").read_text().split())
            except OSError:
                continue
    return found - {os.getpid(), 0}


def kill(pid):
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    os.close(pidfd)


def sweep(cgroup):
    """Kills what is in the cgroup and removes it everywhere; returns what would not go."""
    deadline = time.monotonic() + SECONDS
    while True:
        for hierarchy in hierarchies():
            thaw(hierarchy / cgroup.lstrip("/"))
        for pid in processes(cgroup):
            kill(pid)
        left = [path for hierarchy in hierarchies() for path in remove(hierarchy / cgroup.lstrip("/"))]
        if not left or time.monotonic() > deadline:
            return left
        # Its last process is still on its way out.
        time.sleep(0.01)


def thaw(parent):
    """A frozen process of version 1 does not die."""
    if parent.parent.name != "freezer":
        return
    for directory, _, _ in os.walk(parent):
        try:
            state = Path(directory, "freezer.state")
            if state.read_text().strip() != "THAWED":
                state.write_text("THAWED")
        except OSError:
            continue


def remove(parent):
    left = []
    for directory, _, _ in os.walk(parent, topdown=False):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            continue
        except OSError:
            left.append(directory)
    return left


def sweep_dead(prefix):
    """Removes the empty cgroups PREFIX-PID of processes that are no more.

    One with processes may be of a benchmark in another pid namespace: it is said and left.
    """
    for hierarchy in hierarchies():
        for directory in hierarchy.glob(f"{prefix}-*"):
            pid = directory.name.removeprefix(f"{prefix}-")
            if pid.isdigit() and not Path("/proc", pid).exists():
                for path in remove(directory):
                    print(f"bench: {path} has processes of a benchmark that is not seen here", file=sys.stderr)


def main():
    pid, cgroup, *directories = sys.argv[1:]
    # What ends the benchmark by signal, a terminal's interrupt say, must not end this.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        pidfd = os.pidfd_open(int(pid))
    except ProcessLookupError:
        pidfd = None
    if pidfd is not None:
        select.select([pidfd], [], [])
    for path in sweep(cgroup):
        print(f"bench: {path} is still in use", file=sys.stderr)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
