# SPDX-License-Identifier: Apache-2.0
"""The place where runtimes are measured: private directories, cgroups, bundles and programs.

Everything lies on a tmpfs in a mount namespace of its own (state directories on a disk would
measure the disk) and in cgroups of its own, and is gone at the end, failed or not.
"""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import filter as seccomp_filter
import leftovers
from packaged import packaged

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
SKEP = "target/x86_64-unknown-linux-musl/release/skep"
BUNDLES = ("plain", "docker-like")
PACKAGES = {
    "gcc": "gcc", "musl-gcc": "musl-tools", "strace": "strace", "runc": "runc", "crun": "crun",
    "patchelf": "patchelf",
}
CGROUP_ROOT = Path("/sys/fs/cgroup")
# The v1 hierarchies a container must have a cgroup in: for limits, freezing and device rules; for what
# `events` and the engines' statistics read; and, on a systemd host, so as not to be killed with the
# engine's unit. cpuset, net_cls and the like matter only to a bundle that sets them.
HIERARCHIES = ("memory", "cpu", "pids", "devices", "freezer", "cpuacct", "blkio", "systemd")
FREESTANDING = (
    "-std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -fno-stack-protector -fno-pie -no-pie "
    "-nostdlib -static"
).split()


def enter_private_mounts():
    """Re-executes the script in a mount namespace of its own."""
    if os.geteuid() != 0:
        sys.exit(f"{Path(sys.argv[0]).name}: needs root")
    if os.environ.get("SKEP_BENCH_PRIVATE") == str(os.getpid()):
        return
    os.environ["SKEP_BENCH_PRIVATE"] = str(os.getpid())
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])


def install_missing(names):
    """Installs the Debian packages of programs that are not there; peers are optional."""
    missing = [PACKAGES[name] for name in names if not shutil.which(name)]
    if not missing or not shutil.which("apt-get"):
        return
    print("installing", *missing, file=sys.stderr)
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", *missing]):
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)


def add_runtime_options(parser):
    parser.add_argument("--skep", metavar="PATH", help="the skep to measure ($SKEP, or the release build)")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PATH", help="one more runtime")
    parser.add_argument("--no-peers", action="store_true", help="leave out runc and crun")
    parser.add_argument("--no-packaged", action="store_true",
                        help="leave out the runc and crun of Debian's stable and newest packages")


def version_of(program):
    """The first line of what it says of itself, "?" if it does not run."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return "?"
    return (done.stdout.splitlines() or ["?"])[0]


def peers(options, notes):
    """This Debian's runtimes, those of stable and newest if they can be had, and those asked for.

    A program of the same version as one that is there already is left out.
    """
    found = {}
    if not options.no_peers:
        install_missing(["crun", "runc"])
        found = {name: shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin") for name in ("crun", "runc")}
    if not options.no_peers and not options.no_packaged:
        install_missing(["patchelf"])
        programs, missing = packaged()
        notes += missing
        for one in missing:
            print(f"bench: {one}", file=sys.stderr)
        known = {version_of(path) for path in found.values() if path}
        for lane, path in programs.items():
            version = version_of(path)
            if version == "?":
                notes.append(f"{lane} does not run here ({path}): BENCH_CACHE names another place")
            elif version not in known:
                found[lane] = path
    for peer in options.peer:
        name, _, path = peer.partition("=")
        if not path or not re.fullmatch(r"[\w.-]+", name):
            sys.exit(f"--peer wants NAME=PATH, not {peer}")
        found[name] = path
    return found


def newest(versions):
    """{"crun": lane, "runc": lane}: the newest of each program, by what they say of themselves."""
    found = {}
    for lane, line in versions.items():
        said = re.match(r"(crun|runc) version (\d+(?:\.\d+)*)", line)
        if said:
            number = tuple(int(part) for part in said[2].split("."))
            found[said[1]] = max(found.get(said[1], ((), "")), (number, lane))
    return {program: lane for program, (_, lane) in found.items()}


def mounts():
    """(mount point, type) of every mount in this namespace."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        fields = line.split()
        yield Path(fields[1]), fields[2]


class Runtime:
    """One runtime as the benchmark drives it: how its command lines look."""

    def __init__(self, name, path, lab):
        self.name, self.path = name, str(path)
        # It has its turn in every round, or in one of so many.
        self.every = 1
        self.root = lab.directory / "state" / name
        self.root.mkdir(parents=True)
        self.lab = lab

    def version(self):
        return version_of(self.path)

    def command(self, verb, container, bundle=None, program=None, pid_file=None):
        line = [self.path, "--root", str(self.root), verb]
        if bundle:
            line += ["--bundle", str(self.lab.bundle(self.name, bundle, program or "/tiny", container))]
        if pid_file:
            line += ["--pid-file", str(pid_file)]
        line.append(container)
        if verb == "kill":
            line.append("KILL")
        if verb == "exec":
            line.append(program or "/tiny")
        return line

    def init_pid(self, _container, pid_file):
        return int(pid_file.read_text())


class Floor(Runtime):
    """The floor program: one binary per bundle, the bundle compiled in."""

    def __init__(self, lab):
        super().__init__("floor", "floor", lab)

    def version(self):
        return "floor.c"

    def command(self, verb, container, bundle=None, program=None, pid_file=None):
        # The commands that take no bundle do not depend on which one was compiled in, except
        # exec; containers that exec enters are named after their bundle.
        kind = bundle or next((b for b in BUNDLES if container.endswith(b)), BUNDLES[0])
        line = [str(self.lab.floor(kind)), verb, container]
        return line + [program] if program else line

    def init_pid(self, container, _pid_file):
        return int((self.root / container / "state.json").read_text().split()[0])


class Init(NamedTuple):
    runtime: Runtime
    container: str
    pid: int
    pidfd: int


class Lab:
    """Use as a context manager."""

    def __init__(self, options):
        self.notes = []
        self.peers = peers(options, self.notes)
        self.skep = options.skep
        self.made_bundles = {}

    def __enter__(self):
        enter_private_mounts()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        self.directory = Path("/run/skep-bench")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"], check=True)
        self.directory.mkdir()
        leftovers.sweep_dead("skep-bench")
        self.cgroup = f"/skep-bench-{os.getpid()}"
        binary = Path(self.skep or os.environ.get("SKEP") or REPOSITORY / SKEP).resolve()
        self.skep, self.installed = binary, binary.parent / f".bench-{os.getpid()}"
        # Outside of the cgroups, and there even if this process is killed.
        subprocess.Popen([sys.executable, HERE / "leftovers.py", str(os.getpid()), self.cgroup, self.installed],
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            self._cgroups()
            self._programs()
            self._runtimes()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _cgroups(self):
        unified = CGROUP_ROOT / "unified"
        if (unified, "cgroup2") in mounts():
            # crun 1.8 refuses hybrid hosts whose v2 hierarchy has a controller. Out of sight here,
            # for every runtime alike.
            subprocess.run(["umount", unified], check=True)
            self.notes.append(f"{unified} is hidden: crun refuses this kind of hybrid host")
        mounted = {path for path, kind in mounts() if kind == "cgroup"}
        # cpu and cpuacct may be links to one hierarchy.
        paths = dict.fromkeys((CGROUP_ROOT / name).resolve() for name in HIERARCHIES)
        self.joined = [path.name for path in paths if path in mounted]
        absent = [name for name in HIERARCHIES[:5] if (CGROUP_ROOT / name).resolve() not in mounted]
        if absent:
            sys.exit(f"bench: needs the cgroup v1 controllers {', '.join(absent)}")
        for hierarchy in [path.name for path in mounted]:
            parent = CGROUP_ROOT / (hierarchy + self.cgroup)
            parent.mkdir()
            if hierarchy == "cpuset":
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (parent / file).write_text((CGROUP_ROOT / hierarchy / file).read_text())
        # Ahead of whatever else the machine is doing.
        parent = CGROUP_ROOT / ("cpu" + self.cgroup)
        (parent / "cpu.shares").write_text("262144")
        (parent / "cgroup.procs").write_text(str(os.getpid()))

    def _programs(self):
        self.rootfs = self.directory / "rootfs"
        for name in ("proc", "sys", "dev", "etc", "tmp"):
            (self.rootfs / name).mkdir(parents=True)
        for name in ("resolv.conf", "hostname", "hosts"):
            (self.rootfs / "etc" / name).touch()
            (self.directory / name).write_text(f"# {name}\n")
        for name, flags in (("tiny", []), ("pause", ["-DPAUSE"])):
            build = ["gcc", "-nostdlib", "-static", "-o", self.rootfs / name, *flags, HERE / "payload.S"]
            subprocess.run(build, check=True)
        self.ab, self.peak = self.directory / "ab", self.directory / "peak"
        for tool in (self.ab, self.peak):
            build = ["musl-gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static"]
            subprocess.run([*build, "-o", tool, HERE / f"{tool.name}.c"], check=True)
        for bundle in BUNDLES:
            self._build_floor(bundle)
        # As an engine's network plugin leaves it.
        self.network = self.directory / "network"
        self.network.touch()
        subprocess.run(["unshare", f"--net={self.network}", "true"], check=True)

    def config(self, bundle):
        """A bundle's config.json; "bare" is the plain one in the host's network, "given" Docker's in a given one."""
        base = {"bare": "plain", "given": "docker-like"}.get(bundle, bundle)
        config = json.loads((HERE / f"{base}.json").read_text())
        spaces = config["linux"]["namespaces"]
        if bundle == "bare":
            spaces[:] = [space for space in spaces if space["type"] != "network"]
        if bundle == "given":
            next(space for space in spaces if space["type"] == "network")["path"] = str(self.network)
        return config

    def floor(self, bundle):
        return self.directory / f"floor-{bundle}"

    def _build_floor(self, bundle):
        state = self.directory / "state/floor"
        profile = self.config(bundle)["linux"].get("seccomp")
        code = seccomp_filter.compile_filter(profile) if profile else b""
        filter_file = self.directory / f"filter-{bundle}"
        filter_file.write_bytes(code)
        quoted = {
            "BUNDLE": self.directory, "ROOTFS": self.rootfs, "STATE": state, "CGROUP": self.cgroup,
            "FILTER": filter_file,
        }
        macros = [f'-D{name}="{value}"' for name, value in quoted.items()]
        macros += [
            f"-DDOCKER_LIKE={int(bundle == 'docker-like')}",
            "-DHIERARCHIES=" + ",".join(f'"{h}"' for h in self.joined),
            f"-DFILTER_LEN={len(code) // 8}",
        ]
        subprocess.run(["gcc", *FREESTANDING, *macros, "-o", self.floor(bundle), HERE / "floor.c"], check=True)

    def _runtimes(self):
        self.runtimes = [Floor(self)]
        if self.skep.exists():
            self.runtimes.append(Runtime("skep", self._install(self.skep), self))
        else:
            self.notes.append(f"skep is not built ({self.skep}): it is missing below")
        for name, path in self.peers.items():
            if path and os.access(path, os.X_OK):
                self.runtimes.append(Runtime(name, path, self))
            else:
                self.notes.append(f"{name} is not on this machine")
        self.versions = {r.name: r.version() for r in self.runtimes}
        self.newest = newest(self.versions)
        for runtime in self.runtimes:
            # Neither what this Debian has nor the newest: measured less often, to save time.
            if re.fullmatch(r"(crun|runc)-[\d.]+", runtime.name) and runtime.name not in self.newest.values():
                runtime.every = 3

    def _install(self, binary):
        """A copy on the same file system, as the peers are installed ones.

        What a linker has written lies in the page cache one page at a time, what is written in one go, or read
        from the disk, in larger folios: a tenth of `run` is the price of mapping the former.
        """
        self.installed.mkdir()
        copy = self.installed / binary.name
        copy.write_bytes(binary.read_bytes())
        copy.chmod(0o755)
        return copy

    def bundle(self, runtime, kind, program, container, change=None):
        """The directory of a bundle of its own for each runtime and container; `change` edits its config."""
        key = (runtime, kind, program, container)
        if key not in self.made_bundles:
            directory = self.directory / "bundles" / f"{runtime}-{container}-{kind}{program.replace('/', '-')}"
            directory.mkdir(parents=True)
            config = self.config(kind)
            config["root"]["path"] = str(self.rootfs)
            config["process"]["args"] = [program]
            config["linux"]["cgroupsPath"] = f"{self.cgroup}/{runtime}-{container}"
            for mount in config["mounts"]:
                if mount["type"] == "bind":
                    mount["source"] = str(self.directory / mount["source"])
            if change:
                change(config)
            (directory / "config.json").write_text(json.dumps(config, separators=(",", ":")))
            self.made_bundles[key] = directory
        return self.made_bundles[key]

    def do(self, command, check=True):
        """One untimed command; its standard error is shown when it fails."""
        errors = self.directory / "stderr"
        # A container inherits what it is given, so no pipe: reading one would wait for its end.
        with errors.open("w+") as stderr, (self.directory / "stdout").open("w+") as stdout:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, check=False
            )
            stdout.seek(0)
            if check and done.returncode:
                sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{errors.read_text()}")
            return stdout.read()

    def pid_file(self, runtime, container):
        return self.directory / f"pid-{runtime.name}-{container}"

    def create(self, runtime, container, bundle, program="/tiny"):
        """Creates a container that `remove` takes away again."""
        pid_file = self.pid_file(runtime, container)
        self.do(runtime.command("create", container, bundle, program, pid_file))
        return self.adopt(runtime, container)

    def adopt(self, runtime, container):
        """The init of a container created with its `pid_file`."""
        pid = runtime.init_pid(container, self.pid_file(runtime, container))
        return Init(runtime, container, pid, os.pidfd_open(pid))

    def wait(self, init):
        ended = select.poll()
        ended.register(init.pidfd, select.POLLIN)
        if not ended.poll(10_000):
            sys.exit(f"{init.runtime.name}: {init.container} survived SIGKILL")
        os.close(init.pidfd)

    def remove(self, init):
        self.do(init.runtime.command("kill", init.container))
        self.wait(init)
        self.do(init.runtime.command("delete", init.container))

    def __exit__(self, *_):
        shutil.rmtree(self.installed, ignore_errors=True)
        (CGROUP_ROOT / "cpu/cgroup.procs").write_text(str(os.getpid()))
        for path in leftovers.sweep(self.cgroup):
            print(f"bench: {path} is still in use", file=sys.stderr)
