#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fetches the runc and crun of Debian's stable and newest packages and makes them run on this host.

They are found by the machine's own apt, with lists of its own: neither its package lists nor what
is installed is touched, and apt verifies what it downloads. Each program lies beside the libraries
it was packaged with and has their loader as its interpreter (patchelf), so that it runs on a Debian
whose own are older. What is there and not older than a week is not fetched again.

In the environment: BENCH_CACHE, the directory of what is fetched, instead of
${XDG_CACHE_HOME:-/var/cache}/skep-bench.
"""

import argparse
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAMS = {"runc": "usr/sbin/runc", "crun": "usr/bin/crun"}
SUITES = ("stable", "sid")
FRESH_DAYS = 7
SECONDS = 300
LOADER = "ld-linux-x86-64.so.2"


class Unavailable(Exception):
    """Why something cannot be fetched."""


def cache():
    """The directory of what is fetched: root runs programs in it, so it is nobody else's."""
    base = os.environ.get("BENCH_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache", "skep-bench")
    directory = Path(base).resolve()
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise Unavailable(f"{directory} is not ours alone: chown or chmod it, or name another with BENCH_CACHE")
    return directory


def command(words, **more):
    """Runs a command quietly; its last words are why it failed."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False, **more
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{words[0]}: {error}") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise Unavailable(f"{words[0]}: {'; '.join(said) or f'exit status {done.returncode}'}")
    return done.stdout


def archive():
    """Where this machine's apt finds its own release."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)', Path("/etc/os-release").read_text(), re.M))
    listed = command(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"])
    for line in listed.splitlines():
        uri, *rest = line.split()
        if rest == [release.get("VERSION_CODENAME"), "main"]:
            return uri
    raise Unavailable("apt does not say where this machine's packages come from")


def download(suite, place):
    """All packages that runc and crun of a suite need on a machine that has none, as files."""
    for name in ("lists/partial", "archives/partial"):
        (place / name).mkdir(parents=True)
    (place / "status").touch()
    (place / "sources.list").write_text(f"deb {archive()} {suite} main\n")
    options = {
        "Dir::Etc::SourceList": place / "sources.list", "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": place / "lists", "Dir::State::status": place / "status",
        "Dir::Cache::archives": place / "archives", "Dir::Cache::pkgcache": "", "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "root", "Acquire::Languages": "none", "Acquire::Retries": "1",
        "Acquire::http::Timeout": "20", "APT::Update::Error-Mode": "any",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
    }
    apt = ["apt-get", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    command([*apt, "--quiet", "update"])
    command([*apt, "--quiet", "--yes", "--no-install-recommends", "--download-only", "install", *PROGRAMS])
    return sorted((place / "archives").glob("*.deb"))


def upstream(version):
    """1.3.6 of 1.3.6+ds1-1."""
    return re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", version)[1]


def install(directory, suite):
    """Fetches one suite; returns what there is then, by the lane's name."""
    found = {}
    # What was cut off.
    for rest in directory.glob(".fetch-*"):
        shutil.rmtree(rest)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=directory) as made:
        place = Path(made)
        packages = download(suite, place)
        files = place / "files"
        for package in packages:
            command(["dpkg-deb", "--extract", str(package), str(files)])
        for name, program in PROGRAMS.items():
            package = next(p for p in packages if p.name.startswith(f"{name}_"))
            full = command(["dpkg-deb", "--field", str(package), "Version"]).strip()
            lane = f"{name}-{upstream(full)}"
            home, new = directory / lane, place / lane
            libraries = new / "lib"
            libraries.mkdir(parents=True)
            for library in (*files.glob("lib/*/*.so*"), *files.glob("usr/lib/x86_64-linux-gnu/*.so*")):
                shutil.copy(library, libraries / library.name)
            shutil.copy(files / program, new / name)
            # DT_RPATH: it holds for the libraries' own libraries too.
            command(["patchelf", "--set-interpreter", str(home / "lib" / LOADER), "--force-rpath",
                     "--set-rpath", str(home / "lib"), str(new / name)])
            shutil.rmtree(home, ignore_errors=True)
            new.rename(home)
            said = command([str(home / name), "--version"]).splitlines()[0]
            found[lane] = {"path": str(home / name), "package": full, "suite": suite, "version": said}
    return found


def packaged(refresh=False):
    """({lane: program}, [what could not be had]) of every suite, the newest suite last."""
    programs, missing = {}, []
    try:
        if not shutil.which("apt-get"):
            raise Unavailable("no apt-get here")
        if os.uname().machine != "x86_64":
            raise Unavailable("made for x86_64")
        directory = cache()
        lock = (directory / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    except (Unavailable, OSError) as error:
        return {}, [f"NOT FETCHED: runc and crun of Debian's {' and '.join(SUITES)}: {error}"]
    with lock:
        for suite in SUITES:
            record = directory / f"{suite}.json"
            try:
                known = json.loads(record.read_text())
                usable = all(os.access(one["path"], os.X_OK) for one in known.values())
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                known, usable = {}, False
            if refresh or not usable or time.time() - record.stat().st_mtime > FRESH_DAYS * 86400:
                print(f"fetching runc and crun of Debian {suite}", file=sys.stderr)
                try:
                    known = install(directory, suite)
                    record.with_suffix(".next").write_text(json.dumps(known, indent=1) + "\n")
                    record.with_suffix(".next").rename(record)
                except (Unavailable, OSError, StopIteration) as error:
                    known = known if usable else {}
                    kept = "what was fetched before is used" if known else "it is missing below"
                    missing.append(f"NOT FETCHED: runc and crun of Debian {suite}: {error}; {kept}")
            for lane in sorted(known):
                programs[lane] = known[lane]["path"]
    return programs, missing


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--refresh", action="store_true", help="fetch again what is there")
    options = parser.parse_args()
    programs, missing = packaged(options.refresh)
    for lane, path in programs.items():
        print(f"{lane}\t{path}")
    for one in missing:
        print(one, file=sys.stderr)
    sys.exit(bool(missing))


if __name__ == "__main__":
    main()
