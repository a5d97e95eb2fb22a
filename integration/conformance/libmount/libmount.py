"""As much of libmount's Python binding, which Debian does not package, as crun's tests call."""


class Mount:
    """One line of mountinfo (proc_pid_mountinfo(5))."""

    def __init__(self, line):
        left, right = line.split(" - ", 1)
        fields = left.split()
        self.target = fields[4]
        self.vfs_options = fields[5]
        self.fs_options = right.split()[2]


class Table:
    """The mounts of a file in mountinfo's format."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.mounts = [Mount(line) for line in file if " - " in line]

    def find_target(self, target):
        """The mount that is seen at target: the last one."""
        return next((mount for mount in reversed(self.mounts) if mount.target == target), None)
