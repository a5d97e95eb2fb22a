// SPDX-License-Identifier: Apache-2.0
//
// The floor's part between clone and pivot_root: the container's mounts, /dev, and protected paths.
// Included by floor.c, whose macros and functions it uses.

struct option {
	const char *key, *value;
};

static long new_mount(const char *type, const struct option *options, int attributes)
{
	long fs = must(call(fsopen, type, FSOPEN_CLOEXEC), type);
	must(call(fsconfig, fs, FSCONFIG_SET_STRING, "source", type, 0), type);
	for (; options && options->key; options++)
		must(call(fsconfig, fs, FSCONFIG_SET_STRING, options->key, options->value, 0), options->key);
	must(call(fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0), type);
	return must(call(fsmount, fs, FSMOUNT_CLOEXEC, attributes), type);
}

static void attach(long mount, long dir, const char *path)
{
	must(call(move_mount, mount, "", dir, path, MOVE_MOUNT_F_EMPTY_PATH), path);
}

// A directory or file of the rootfs that no one may have made a symlink out of it.
static long inside(long root, const char *path)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
	return must(call(openat2, root, path, &how, sizeof how), path);
}

static void attach_inside(long mount, long root, const char *path)
{
	must(call(move_mount, mount, "", inside(root, path), "",
		  MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH),
	     path);
}

static const struct option dev_options[] = {{"mode", "755"}, {"size", "65536k"}, {0}};
static const struct option pts_options[] = {{"ptmxmode", "0666"}, {"mode", "0620"}, {"gid", "5"}, {0}};
static const struct option shm_options[] = {{"mode", "1777"}, {"size", "65536k"}, {0}};
static const struct option cgroup_options[] = {{"mode", "755"}, {0}};

static const struct {
	const char *name;
	int major, minor;
} devices[] = {{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};

static const struct {
	const char *name, *target;
} links[] = {
	{"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
	{"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"},
};

struct mounts {
	long root, proc, dev, sys;
};

static struct mounts make_mounts(void)
{
	struct mounts m;

	// Nothing mounted in here may reach the host.
	struct mount_attr slave = {.propagation = MS_SLAVE};
	must(call(mount_setattr, -1, "/", AT_RECURSIVE, &slave, sizeof slave), "propagation");

	// pivot_root wants the new root to be a mount.
	m.root = must(call(open_tree, AT_FDCWD, ROOTFS, OPEN_CLONE | AT_RECURSIVE), ROOTFS);
	attach(m.root, AT_FDCWD, ROOTFS);

	m.proc = new_mount("proc", 0, DOCKER_LIKE ? NO_ACCESS : 0);
	attach_inside(m.proc, m.root, "proc");

	// /dev is filled before anybody can look at it.
	m.dev = new_mount("tmpfs", dev_options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME);
	call(umask, 0);
	for (ulong i = 0; i < COUNT(devices); i++)
		must(call(mknodat, m.dev, devices[i].name, S_IFCHR | 0666,
			  devices[i].major << 8 | devices[i].minor),
		     devices[i].name);
	for (ulong i = 0; i < COUNT(links); i++)
		must(call(symlinkat, links[i].target, m.dev, links[i].name), links[i].name);
	must(call(mkdirat, m.dev, "pts", 0755), "pts");
	must(call(mkdirat, m.dev, "shm", 01777), "shm");
	must(call(mkdirat, m.dev, "mqueue", 0755), "mqueue");
	call(umask, 022);
	attach_inside(m.dev, m.root, "dev");
	attach(new_mount("devpts", pts_options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC), m.dev, "pts");
	attach(new_mount("tmpfs", shm_options, NO_ACCESS), m.dev, "shm");
	attach(new_mount("mqueue", 0, NO_ACCESS), m.dev, "mqueue");

	m.sys = new_mount("sysfs", 0, NO_ACCESS | MOUNT_ATTR_RDONLY);
	attach_inside(m.sys, m.root, "sys");

	// The container's view of its own cgroups: one bind per hierarchy, made read-only together.
	char path[512];
	long cgroup = new_mount("tmpfs", cgroup_options, NO_ACCESS);
	for (ulong i = 0; i < COUNT(hierarchies); i++)
		must(call(mkdirat, cgroup, hierarchies[i], 0755), hierarchies[i]);
	attach(cgroup, m.sys, "fs/cgroup");
	for (ulong i = 0; i < COUNT(hierarchies); i++) {
		cgroup_path(path, hierarchies[i], "");
		attach(must(call(open_tree, AT_FDCWD, path, OPEN_CLONE), path), cgroup, hierarchies[i]);
	}
	struct mount_attr read_only = {.attr_set = NO_ACCESS | MOUNT_ATTR_RDONLY};
	must(call(mount_setattr, cgroup, "", AT_EMPTY_PATH | AT_RECURSIVE, &read_only, sizeof read_only),
	     "/sys/fs/cgroup");

#if DOCKER_LIKE
	static const char *const files[] = {"resolv.conf", "hostname", "hosts"};
	for (ulong i = 0; i < COUNT(files); i++) {
		char target[64];
		long file = must(call(open_tree, AT_FDCWD, JOIN(path, BUNDLE "/", files[i]),
				      OPEN_CLONE | AT_RECURSIVE),
				 path);
		attach_inside(file, m.root, JOIN(target, "etc/", files[i]));
	}
#endif
	return m;
}

static const char *const read_only_paths[] = {"bus", "fs", "irq", "sys", "sysrq-trigger"};

// Which of them are directories is compiled in; which of them exist is not.
#if DOCKER_LIKE
static const char *const masked_proc_files[] = {
	"interrupts", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug",
};
static const char *const masked_sys_directories[] = {"firmware", "devices/virtual/powercap"};
#else
static const char *const masked_proc_files[] = {
	"kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug",
};
static const char *const masked_sys_directories[] = {"firmware"};
#endif
static const char *const masked_proc_directories[] = {"asound", "acpi", "scsi"};

// Covers those of the paths that exist with clones of one mount.
static void mask(long dir, const char *const *paths, ulong len, long of, const char *of_path)
{
	long cover = -1;
	for (ulong i = 0; i < len; i++) {
		if (cover < 0)
			cover = must(call(open_tree, of, of_path, OPEN_CLONE | AT_EMPTY_PATH), "mask");
		long moved = call(move_mount, cover, "", dir, paths[i], MOVE_MOUNT_F_EMPTY_PATH);
		if (moved != -ENOENT) {
			must(moved, paths[i]);
			cover = -1;
		}
	}
}

static void protect_paths(const struct mounts *m)
{
	struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY};
	for (ulong i = 0; i < COUNT(read_only_paths); i++) {
		const char *path = read_only_paths[i];
		long tree = call(open_tree, m->proc, path, OPEN_CLONE | AT_RECURSIVE);
		if (tree == -ENOENT)
			continue;
		must(call(mount_setattr, must(tree, path), "", AT_EMPTY_PATH | AT_RECURSIVE, &read_only,
			  sizeof read_only),
		     path);
		attach(tree, m->proc, path);
	}
	// One empty read-only superblock for all directories, the container's /dev/null for the files.
	long empty = new_mount("tmpfs", 0, NO_ACCESS | MOUNT_ATTR_RDONLY);
	mask(m->proc, masked_proc_directories, COUNT(masked_proc_directories), empty, "");
	mask(m->sys, masked_sys_directories, COUNT(masked_sys_directories), empty, "");
	mask(m->proc, masked_proc_files, COUNT(masked_proc_files), m->dev, "null");
}
