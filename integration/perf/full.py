# SPDX-License-Identifier: Apache-2.0
"""What `bench --full` measures besides the usual: what engines do less often, and at the edges."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from lab import HERE

CROWD = 50
ROW = 100
POPULATION = 100
# The steps of each test, as the tables and the JSON name them.
STEPS = {
    "pause": ["pause", "resume"], "update": ["update"], "exec-50": ["exec-50"], "run-50": ["run-50"],
    "row-100": ["row-100"], "given": ["given"], "new-profile": ["new-profile"],
    "list-1": ["list-1"], "list-100": ["list-100"], "ps-1": ["ps-1"], "ps-100": ["ps-100"],
}
TITLES = {
    "exec-50": f"{CROWD} exec at once", "run-50": f"{CROWD} run at once", "row-100": f"{ROW} run in a row",
    "given": "run in a given network namespace", "new-profile": "run, its seccomp profile never seen before",
    "list-1": "list, 1 container", "list-100": f"list, {POPULATION} containers",
    "ps-1": "ps, 1 container there", "ps-100": f"ps, {POPULATION} containers there",
}
# What is measured on one bundle: the network and the profile are Docker's; fifty of runc's exec, five threads each, are more
# than the Docker-like bundle's limit of a hundred processes.
ONLY = {"exec-50": "plain"} | dict.fromkeys(("given", "new-profile", "list-1", "list-100", "ps-1", "ps-100"), "docker-like")
# A round of these has fifty or a hundred containers in it.
LONG = ("exec-50", "run-50", "row-100")
# The value in the last rule for personality(2).
PROFILE_NUMBER = re.compile(r"(?<=\"value\":)\d{10}\b")
STEP_KB, MOST_KB, TRIES, SECONDS = 32, 16 << 10, 3, 10


def steps(lab, runtime, test, bundle):
    """The steps of one round in `ab`'s language, none if this runtime has no such command."""
    live = f"live-{bundle}"

    def command(*words):
        return [runtime.path, "--root", str(runtime.root), *words]

    if test == "exec-50":
        return [["crowd", test, CROWD, *runtime.command("exec", live)]]
    if test == "row-100":
        return [["row", test, ROW, *runtime.command("run", "bench", bundle=bundle)]]
    if test == "run-50":
        for number in range(CROWD):
            lab.bundle(runtime.name, bundle, "/tiny", f"crowd{number}")
        return [["crowd", test, CROWD, *runtime.command("run", "crowd{}", bundle=bundle)]]
    if test == "new-profile":
        line = runtime.command("run", "profile", bundle="docker-like")
        if runtime.name == "floor":
            return [["idle"], ["time", test, *line]]
        config = lab.bundle(runtime.name, "docker-like", "/tiny", "profile") / "config.json"
        offset = PROFILE_NUMBER.search(config.read_text()).start()
        return [["idle"], ["new", config, offset], ["time", test, *line]]
    if runtime.name == "floor":
        return []
    if test == "given":
        return [["idle"], ["time", test, *runtime.command("run", "given", bundle="given")]]
    if test == "pause":
        return [["idle"], ["time", "pause", *command("pause", live)], ["time", "resume", *command("resume", live)]]
    if test == "update":
        return [["idle"], ["time", "update", *command("update", "--pids-limit", "90", live)]]
    if test.startswith("list"):
        return [["idle"], ["time", test, *command("list")]]
    return [["idle"], ["time", test, *command("ps", live)]]


def populate(lab, number):
    """Adds live containers to those each runtime has, until it has so many; in the host's network."""
    made = []
    for runtime in lab.runtimes:
        for index in range(1, number if runtime.name != "floor" else 0):
            made.append(lab.create(runtime, f"many{index}", "bare", "/pause"))
            lab.do(runtime.command("start", f"many{index}"))
    return made


def measure(lab, options, bundle, one, results, show):
    """Everything here on one bundle, in which each runtime has one live container."""
    rounds = options.rounds or (10 if options.quick else 30)
    for test in STEPS:
        if options.test and test not in options.test or ONLY.get(test, bundle) != bundle:
            continue
        made = populate(lab, POPULATION) if test.endswith("-100") and test not in LONG else []
        for idle_ms in (0,) if test in LONG else (0, options.idle):
            result = one(lab, test, bundle, max(3, rounds // 5) if test in LONG else rounds, idle_ms)
            results["tests"].append(result)
            show(result)
        for init in made:
            lab.remove(init)


def starts(lab, runtime, kilobytes):
    """Whether a container with this memory limit runs, as often as it is tried."""

    def limit(config):
        config["linux"]["resources"]["memory"] = {"limit": kilobytes << 10}

    container = f"limit{kilobytes}"
    lab.bundle(runtime.name, "docker-like", "/tiny", container, limit)
    command = runtime.command("run", container, bundle="docker-like")
    for _ in range(TRIES):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            good = process.wait(SECONDS) == 0
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            good = False
        if not good:
            lab.do(runtime.command("delete", container)[:-1] + ["--force", container], check=False)
            return False
    return True


def limits(lab, results):
    """The smallest memory limit under which a Docker-like container runs."""
    found = results["smallest_limit_kb"] = {}
    print(f"\nsmallest memory limit with which a container starts, in steps of {STEP_KB} (kB)")
    for runtime in lab.runtimes:
        if runtime.name == "floor":
            continue
        low, high = 0, MOST_KB // STEP_KB
        if not starts(lab, runtime, MOST_KB):
            print(f"  {runtime.name:12} more than {MOST_KB}")
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if starts(lab, runtime, middle * STEP_KB) else (middle, high)
        found[runtime.name] = high * STEP_KB
        print(f"  {runtime.name:12} {high * STEP_KB:8}")


def calls(options, results):
    """System calls, by `counts`."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "counts.json")
        flags = [word for peer in options.peer for word in ("--peer", peer)]
        flags += ["--skep", options.skep] if options.skep else []
        flags += ["--no-peers"] * options.no_peers + ["--no-packaged"] * options.no_packaged
        sys.stdout.flush()
        subprocess.run([sys.executable, HERE / "counts", "--json", file, *flags], check=True)
        results["calls"] = {
            bundle: {name: {command: sum(by.values()) for command, by in row.items()} for name, row in rows.items()}
            for bundle, rows in json.loads(file.read_text()).items()
        }
