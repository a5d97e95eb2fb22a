// SPDX-License-Identifier: Apache-2.0
//
// floor: the kernel's own share of a container runtime's work.
//
//   floor run|create ID [PROGRAM]    floor exec ID [PROGRAM]    floor start|state|kill|delete ID
//
// Makes the system calls that running the bundle takes, in the cheapest order known, with every
// input compiled in: nothing is parsed, planned, generated or checked twice. What a runtime needs
// above this is its own doing. `bench` compiles one floor per bundle with these macros:
//
//   DOCKER_LIKE   1 for the Docker-like bundle, 0 for the plain one
//   BUNDLE        the bundle's directory; ROOTFS its root file system
//   STATE         directory of the state records
//   CGROUP        cgroup directory under which each container gets its own, "/a/b"
//   HIERARCHIES   directories of the v1 hierarchies under /sys/fs/cgroup to make a cgroup in
//   FILTER        file with the compiled seccomp filter; FILTER_LEN its number of instructions
//
// Left out, though a real runtime has to do it: reading and parsing config.json, compiling the
// seccomp profile, making its own binary run from a read-only mount (CVE-2019-5736).
// Not left out: `start` reports success only when execve has happened, as skep's does, so it waits
// for it; peers return earlier.
//
// Descriptors are not closed one by one: those that outlive a step have the lowest numbers, and one
// close_range (or execve) ends the others.

#include <asm/ioctls.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/fcntl.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/mman.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/poll.h>
#include <linux/prctl.h>
#include <linux/resource.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/signal.h>
#include <linux/signalfd.h>
#include <linux/sockios.h>
#include <linux/stat.h>
#include <linux/wait.h>

#include "kernel.h"

// From the kernel's and libc's headers that do not go together with the ones above.
#define AF_INET 2
#define SOCK_DGRAM 2
#define SOCK_CLOEXEC O_CLOEXEC
#define MNT_DETACH 2
#define ENOENT 2
#define ESRCH 3
#define IFF_UP 1
#define IFF_LOOPBACK 8
#define IFF_RUNNING 64
#define OPEN_CLONE (OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
#define NO_ACCESS (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
#define COUNT(array) (sizeof(array) / sizeof *(array))

static const char *const hierarchies[] = {HIERARCHIES};

static const char *id, *program = "/tiny";

static struct {
	int pid;
	char start_time[24];
} init;

static _Noreturn void leave(int status)
{
	call(exit_group, status);
	__builtin_unreachable();
}

static long must(long result, const char *step)
{
	if (result >= 0)
		return result;
	char text[512], errno_[24];
	append_number(errno_, -result);
	JOIN(text, "floor: ", step, ": errno ", errno_, "\n");
	call(write, 2, text, length(text));
	leave(1);
}

static long open_read(const char *path, char *buffer, ulong size)
{
	long fd = call(openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fd;
	long len = call(read, fd, buffer, size - 1);
	if (len >= 0)
		buffer[len] = 0;
	return len;
}

static void write_at(long dir, const char *path, const char *text)
{
	long fd = must(call(openat, dir, path, O_WRONLY | O_CLOEXEC), path);
	must(call(write, fd, text, length(text)), path);
}

// ---- the container's cgroups (v1) ----

static char *cgroup_path(char *buffer, const char *hierarchy, const char *file)
{
	return JOIN(buffer, "/sys/fs/cgroup/", hierarchy, CGROUP "/", id, file);
}

struct limit {
	const char *hierarchy, *file, *value;
};

static const struct limit limits[] = {
#if DOCKER_LIKE
	{"memory", "/memory.limit_in_bytes", "536870912"},
	{"cpu", "/cpu.shares", "512"},
	{"cpu", "/cpu.cfs_period_us", "100000"},
	{"cpu", "/cpu.cfs_quota_us", "200000"},
	{"pids", "/pids.max", "100"},
#endif
	{"devices", "/devices.deny", "a"},
};

// One write each: the kernel takes one rule per write.
static const char *const device_rules[] = {
	"c *:* m",   "b *:* m",   "c 1:3 rwm", "c 1:5 rwm",   "c 1:7 rwm",
	"c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 136:* rwm", "c 5:2 rwm",
#if DOCKER_LIKE
	"c 5:1 rwm",
#endif
};

// Descriptors of the `tasks` files, opened for the child to join by.
static int tasks[COUNT(hierarchies)];

static void open_tasks(void)
{
	char path[512];
	for (ulong i = 0; i < COUNT(hierarchies); i++)
		tasks[i] = must(call(openat, AT_FDCWD, cgroup_path(path, hierarchies[i], "/tasks"),
				     O_WRONLY | O_CLOEXEC),
				path);
}

static void make_cgroups(void)
{
	char path[512];
	for (ulong i = 0; i < COUNT(hierarchies); i++)
		must(call(mkdirat, AT_FDCWD, cgroup_path(path, hierarchies[i], ""), 0755), path);
	for (ulong i = 0; i < COUNT(limits); i++)
		write_at(AT_FDCWD, cgroup_path(path, limits[i].hierarchy, limits[i].file),
			 limits[i].value);
	// The rules go through one descriptor.
	long allow = must(call(openat, AT_FDCWD, cgroup_path(path, "devices", "/devices.allow"),
			       O_WRONLY | O_CLOEXEC),
			  path);
	for (ulong i = 0; i < COUNT(device_rules); i++)
		must(call(write, allow, device_rules[i], length(device_rules[i])), device_rules[i]);
	open_tasks();
}

// The process moves itself, alone: that spares the grace period of cgroup_threadgroup_rwsem, which
// a write of another pid to cgroup.procs waits for (10 to 16 ms on an idle host).
static void join_cgroups(void)
{
	for (ulong i = 0; i < COUNT(hierarchies); i++)
		must(call(write, tasks[i], "0", 1), "tasks");
}

static void remove_cgroups(void)
{
	char path[512];
	for (ulong i = 0; i < COUNT(hierarchies); i++)
		must(call(unlinkat, AT_FDCWD, cgroup_path(path, hierarchies[i], ""), AT_REMOVEDIR), path);
}

// ---- the state record ----

static char *state_path(char *buffer, const char *file)
{
	return JOIN(buffer, STATE "/", id, file);
}

// Field 22 of /proc/PID/stat. The name in field 2 may hold anything, so count from its last ')'.
// A zombie has no start time: its parent will reap it when it likes, the container is stopped.
static int read_start_time(int pid, char *start_time)
{
	char path[64], text[1024], number[24];
	append_number(number, pid);
	if (open_read(JOIN(path, "/proc/", number, "/stat"), text, sizeof text) < 0)
		return 0;
	char *at = text + length(text);
	while (at > text && *at != ')')
		at--;
	if (*at && (at[2] == 'Z' || at[2] == 'X'))
		return 0;
	for (int field = 2; field < 22 && *at; at++)
		field += *at == ' ';
	while (*at && *at != ' ')
		*start_time++ = *at++;
	*start_time = 0;
	return 1;
}

// A record of the usual size, written beside and renamed: a reader sees all of it or none.
static void write_record(int pid)
{
	char text[1200], next[512], final[512], number[24];
	append_number(number, pid);
	if (!read_start_time(pid, init.start_time))
		must(-ESRCH, "/proc/PID/stat");
	char *end = JOIN(text, number, " ", init.start_time, "\n") + length(text);
	while (end < text + 1024)
		end = append(end, "{\"bundle\":\"" BUNDLE "\"}\n");
	long fd = must(call(openat, AT_FDCWD, state_path(next, "/state.next"),
			    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600),
		       next);
	must(call(write, fd, text, end - text > 1199 ? 1199 : end - text), next);
	must(call(renameat, AT_FDCWD, next, AT_FDCWD, state_path(final, "/state.json")), final);
}

// Reads the record and makes sure that its pid is still the same process. Returns its pidfd, or
// -ESRCH when it is gone.
static long open_init(void)
{
	char path[512], text[2048], now[24];
	must(open_read(state_path(path, "/state.json"), text, sizeof text), path);
	char *at = text, *to = init.start_time;
	for (; *at >= '0' && *at <= '9'; at++)
		init.pid = init.pid * 10 + *at - '0';
	for (at++; *at >= '0' && *at <= '9'; at++)
		*to++ = *at;
	*to = 0;
	long pidfd = call(pidfd_open, init.pid, 0);
	if (pidfd < 0)
		return pidfd;
	return read_start_time(init.pid, now) && equal(now, init.start_time) ? pidfd : -ESRCH;
}

#include "mounts.h"

// ---- the container's process ----

#if DOCKER_LIKE
static struct sock_filter *filter;
#endif

static void map_filter(void)
{
#if DOCKER_LIKE
	// Before the clone, so that the pages are not charged to the container.
	long fd = must(call(openat, AT_FDCWD, FILTER, O_RDONLY | O_CLOEXEC), FILTER);
	filter = (void *)must(call(mmap, 0, FILTER_LEN * sizeof *filter, PROT_READ,
				   MAP_PRIVATE | MAP_POPULATE, fd, 0),
			      FILTER);
#endif
}

#if DOCKER_LIKE
#define CAPABILITIES                                                                                \
	(1ul << CAP_CHOWN | 1ul << CAP_DAC_OVERRIDE | 1ul << CAP_FSETID | 1ul << CAP_FOWNER |      \
	 1ul << CAP_MKNOD | 1ul << CAP_NET_RAW | 1ul << CAP_SETGID | 1ul << CAP_SETUID |           \
	 1ul << CAP_SETFCAP | 1ul << CAP_SETPCAP | 1ul << CAP_NET_BIND_SERVICE |                   \
	 1ul << CAP_SYS_CHROOT | 1ul << CAP_KILL | 1ul << CAP_AUDIT_WRITE)
#else
#define CAPABILITIES (1ul << CAP_AUDIT_WRITE | 1ul << CAP_KILL | 1ul << CAP_NET_BIND_SERVICE)
#endif

// All that is the process's own, from session to capabilities. Needs no path but `proc`.
static void become(long proc)
{
	char name[300];
	must(call(keyctl, KEYCTL_JOIN_SESSION_KEYRING, JOIN(name, "_ses.", id)), "keyring");
#if DOCKER_LIKE
	write_at(proc, "self/oom_score_adj", "0");
	struct rlimit64 files = {1024, 4096}, processes = {2048, 4096};
	must(call(prlimit64, 0, RLIMIT_NOFILE, &files, 0), "RLIMIT_NOFILE");
	must(call(prlimit64, 0, RLIMIT_NPROC, &processes, 0), "RLIMIT_NPROC");
#else
	(void)proc;
	struct rlimit64 files = {1024, 1024};
	must(call(prlimit64, 0, RLIMIT_NOFILE, &files, 0), "RLIMIT_NOFILE");
#endif
#if DOCKER_LIKE
	// Without no_new_privs a filter needs CAP_SYS_ADMIN, so it comes before the capabilities go.
	struct sock_fprog program = {FILTER_LEN, filter};
	must(call(seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), "seccomp");
#endif
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (!(CAPABILITIES >> cap & 1))
			must(call(prctl, PR_CAPBSET_DROP, cap), "bounding set");
	unsigned group = 0;
	must(call(setgroups, DOCKER_LIKE, &group), "setgroups");
	must(call(setresgid, 0, 0, 0), "setresgid");
	must(call(setresuid, 0, 0, 0), "setresuid");
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {
		{(__u32)CAPABILITIES, (__u32)CAPABILITIES, 0},
		{CAPABILITIES >> 32, CAPABILITIES >> 32, 0},
	};
	must(call(capset, &header, data), "capset");
	if (!DOCKER_LIKE)
		must(call(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	must(call(chdir, "/"), "cwd");
}

static _Noreturn void enter(void)
{
	const char *argv[] = {program, 0};
	const char *envp[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			      DOCKER_LIKE ? "HOSTNAME=bench" : "TERM=xterm", 0};
	must(call(execve, program, argv, envp), program);
	leave(1);
}

// The descriptors that live until execve. Made first, so they are the lowest ones.
static struct {
	int ready[2], go[2], fifo;
} channel;

static void prepare(void)
{
	// First, so that all that follows is charged to the container, and the cgroup namespace is
	// rooted in its cgroups.
	join_cgroups();
	if (DOCKER_LIKE)
		must(call(unshare, CLONE_NEWCGROUP), "cgroup namespace");
	must(call(setsid), "setsid");

	struct mounts m = make_mounts();

	const char *hostname = DOCKER_LIKE ? "bench" : "runc";
	must(call(sethostname, hostname, length(hostname)), "hostname");
	// A new network namespace has no other interface; it is up at once.
	struct {
		char name[16];
		short flags;
		char rest[22];
	} lo = {"lo", IFF_UP | IFF_RUNNING | IFF_LOOPBACK, ""};
	long socket = must(call(socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
	must(call(ioctl, socket, SIOCSIFFLAGS, &lo), "lo");
#if DOCKER_LIKE
	// Through the container's own procfs, before it is made read-only.
	write_at(m.proc, "sys/net/ipv4/ip_unprivileged_port_start", "0");
	write_at(m.proc, "sys/net/ipv4/ping_group_range", "0 2147483647");
#else
	struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY};
	must(call(mount_setattr, m.root, "", AT_EMPTY_PATH, &read_only, sizeof read_only), "root");
#endif
	protect_paths(&m);

	// The old root ends up over the new one and is let go; no directory is needed for it.
	must(call(fchdir, m.root), "root");
	must(call(pivot_root, ".", "."), "pivot_root");
	must(call(umount2, ".", MNT_DETACH), "old root");

	become(m.proc);
	must(call(close_range, channel.fifo + 1, ~0u, 0), "close_range");
}

static long clone_into_namespaces(int *pidfd)
{
	struct clone_args args = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET |
			 CLONE_PIDFD,
		.pidfd = (ulong)pidfd,
		.exit_signal = SIGCHLD,
	};
	return must(call(clone3, &args, sizeof args), "clone3");
}

// run's and exec's wait: signals to forward, and the child's end.
static int wait_for(int pidfd)
{
	sigset_t all = ~0ul;
	must(call(rt_sigprocmask, SIG_BLOCK, &all, 0, sizeof all), "sigprocmask");
	long signals = must(call(signalfd4, -1, &all, sizeof all, O_CLOEXEC), "signalfd");
	struct pollfd polled[] = {{pidfd, POLLIN, 0}, {signals, POLLIN, 0}};
	do
		must(call(poll, polled, 2, -1), "poll");
	while (!polled[0].revents);
	struct siginfo info;
	must(call(waitid, P_PIDFD, pidfd, &info, WEXITED, 0), "waitid");
	return info.si_status;
}

static int run_or_create(int run)
{
	char path[512], byte;
	int pidfd;

	// No one may look into a process that is about to be inside.
	must(call(prctl, PR_SET_DUMPABLE, 0), "dumpable");
	must(call(pipe2, channel.ready, O_CLOEXEC), "pipe");
	// The directory is the lock on the id.
	must(call(mkdirat, AT_FDCWD, state_path(path, ""), 0700), path);
	if (run) {
		must(call(pipe2, channel.go, O_CLOEXEC), "pipe");
		channel.fifo = channel.go[1];
	} else {
		// Opened for reading here and inherited, so that start finds a reader at any time.
		must(call(mknodat, AT_FDCWD, state_path(path, "/exec.fifo"), S_IFIFO | 0600, 0), path);
		channel.fifo = must(call(openat, AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), path);
	}
	make_cgroups();
	map_filter();
	int pid = clone_into_namespaces(&pidfd);
	if (!pid) {
		prepare();
		must(call(write, channel.ready[1], "r", 1), "ready");
		if (run) {
			must(call(read, channel.go[0], &byte, 1), "go");
		} else {
			// Until here the parent waits; from here on the container is created.
			must(call(close, channel.ready[1]), "close");
			struct pollfd started = {channel.fifo, POLLIN, 0};
			must(call(poll, &started, 1, -1), "exec.fifo");
			must(call(read, channel.fifo, &byte, 1), "exec.fifo");
		}
		enter();
	}
	must(call(close, channel.ready[1]), "close");
	if (must(call(read, channel.ready[0], &byte, 1), "ready") != 1)
		must(-ESRCH, "init");
	write_record(pid);
	if (!run)
		return 0;
	must(call(write, channel.go[1], "g", 1), "go");
	// End of file: execve has closed the child's end.
	must(call(read, channel.ready[0], &byte, 1), "exec");
	int status = wait_for(pidfd);
	remove_cgroups();
	must(call(unlinkat, AT_FDCWD, state_path(path, "/state.json"), 0), path);
	must(call(unlinkat, AT_FDCWD, state_path(path, ""), AT_REMOVEDIR), path);
	return status;
}

static int start(void)
{
	char path[512];
	must(open_init(), "init");
	long fifo = must(call(openat, AT_FDCWD, state_path(path, "/exec.fifo"),
			      O_WRONLY | O_NONBLOCK | O_CLOEXEC),
			 path);
	must(call(write, fifo, "g", 1), path);
	// The only reader is closed by execve: that is the end of starting, told by POLLERR.
	struct pollfd entered = {fifo, 0, 0};
	must(call(poll, &entered, 1, -1), path);
	must(call(unlinkat, AT_FDCWD, path, 0), path);
	return 0;
}

static int state(void)
{
	char path[512], text[2048], number[24], frozen[32] = "";
	int alive = open_init() >= 0;
	if (alive)
		must(open_read(cgroup_path(path, "freezer", "/freezer.state"), frozen, sizeof frozen), path);
	int created = alive && call(faccessat, AT_FDCWD, state_path(path, "/exec.fifo"), 0) == 0;
	append_number(number, init.pid);
	JOIN(text, "{\"ociVersion\":\"1.2.1\",\"id\":\"", id, "\",\"status\":\"",
	     !alive		 ? "stopped"
	     : frozen[0] == 'F' ? "paused"
	     : created		 ? "created"
				 : "running",
	     "\",\"pid\":", number, ",\"bundle\":\"" BUNDLE "\",\"rootfs\":\"" ROOTFS "\"}\n");
	must(call(write, 1, text, length(text)), "stdout");
	return 0;
}

static int kill_init(void)
{
	must(call(pidfd_send_signal, must(open_init(), "init"), SIGKILL, 0, 0), "kill");
	return 0;
}

static int delete(void)
{
	char path[512];
	if (open_init() != -ESRCH)
		must(-1, "still running");
	remove_cgroups();
	must(call(unlinkat, AT_FDCWD, state_path(path, "/state.json"), 0), path);
	call(unlinkat, AT_FDCWD, state_path(path, "/exec.fifo"), 0);
	must(call(unlinkat, AT_FDCWD, state_path(path, ""), AT_REMOVEDIR), path);
	return 0;
}

static int exec(void)
{
	char byte;
	int pidfd;
	must(call(prctl, PR_SET_DUMPABLE, 0), "dumpable");
	must(call(pipe2, channel.ready, O_CLOEXEC), "pipe");
	long init_fd = must(open_init(), "init");
	open_tasks();
	map_filter();
	// All namespaces in one call; the child is born in the pid namespace.
	must(call(setns, init_fd,
		  CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET |
			  (DOCKER_LIKE ? CLONE_NEWCGROUP : 0)),
	     "setns");
	struct clone_args args = {
		.flags = CLONE_PIDFD, .pidfd = (ulong)&pidfd, .exit_signal = SIGCHLD};
	if (!must(call(clone3, &args, sizeof args), "clone3")) {
		join_cgroups();
		must(call(setsid), "setsid");
		long proc = DOCKER_LIKE ? must(call(openat, AT_FDCWD, "/proc", O_PATH | O_CLOEXEC), "/proc") : -1;
		become(proc);
		enter();
	}
	must(call(close, channel.ready[1]), "close");
	must(call(read, channel.ready[0], &byte, 1), "exec");
	return wait_for(pidfd);
}

__asm__(".globl _start\n"
	"_start: xor %ebp, %ebp\n"
	"	mov %rsp, %rdi\n"
	"	and $-16, %rsp\n"
	"	call begin\n");

__attribute__((used)) static _Noreturn void begin(ulong *stack)
{
	char **argv = (char **)(stack + 1);
	if (stack[0] < 3)
		must(-1, "usage: floor run|create|start|state|kill|delete|exec ID [PROGRAM]");
	id = argv[2];
	if (stack[0] > 3)
		program = argv[3];
	const char *command = argv[1];
	leave(equal(command, "run")	 ? run_or_create(1)
	      : equal(command, "create") ? run_or_create(0)
	      : equal(command, "start")	 ? start()
	      : equal(command, "state")	 ? state()
	      : equal(command, "kill")	 ? kill_init()
	      : equal(command, "delete") ? delete()
	      : equal(command, "exec")	 ? exec()
					 : must(-1, "unknown command"));
}
