// SPDX-License-Identifier: Apache-2.0
//
// peak: runs a command and prints the peak resident memory of every process it starts.
//
//   peak FILE COMMAND ARG...      one line per process in FILE: PID NAME KILOBYTES
//
// Each process is stopped at its exit and asked for VmHWM, which is exact there; ru_maxrss is not
// (the kernel sums its per-CPU counters only now and then, up to some hundred kB late). Processes
// that outlive the command, such as a container's init, go on unobserved. A process that executes a
// program counts with what it peaked at since.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPTIONS                                                                                   \
	(PTRACE_O_TRACEEXIT | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |    \
	 PTRACE_O_TRACEEXEC)

static FILE *result;

static void report(pid_t pid)
{
	char path[64], line[256], name[64] = "?";
	long peak = -1, now = -1, thread_group = -1;
	snprintf(path, sizeof path, "/proc/%d/status", pid);
	FILE *status = fopen(path, "re");
	if (!status)
		return;
	while (fgets(line, sizeof line, status)) {
		sscanf(line, "Name: %63[^\n]", name);
		sscanf(line, "Tgid: %ld", &thread_group);
		sscanf(line, "VmHWM: %ld", &peak);
		sscanf(line, "VmRSS: %ld", &now);
	}
	fclose(status);
	if (thread_group == pid && peak >= 0)
		fprintf(result, "%d %s %ld\n", pid, name, peak > now ? peak : now);
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fputs("usage: peak FILE COMMAND ARG...\n", stderr);
		return 2;
	}
	result = fopen(argv[1], "we");
	if (!result) {
		fprintf(stderr, "peak: %s: %s\n", argv[1], strerror(errno));
		return 2;
	}
	pid_t command = fork();
	if (!command) {
		raise(SIGSTOP);
		execv(argv[2], argv + 2);
		_exit(127);
	}
	int status;
	if (command < 0 || waitpid(command, &status, WUNTRACED) != command ||
	    ptrace(PTRACE_SEIZE, command, 0, OPTIONS)) {
		fprintf(stderr, "peak: cannot trace: %s\n", strerror(errno));
		return 2;
	}
	kill(command, SIGCONT);
	for (;;) {
		pid_t pid = waitpid(-1, &status, __WALL);
		if (pid < 0)
			return 2;
		if (WIFEXITED(status) || WIFSIGNALED(status)) {
			if (pid != command)
				continue;
			fclose(result);
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		}
		int event = status >> 16, sent = WSTOPSIG(status);
		if (event == PTRACE_EVENT_EXIT)
			report(pid);
		if (event == PTRACE_EVENT_STOP && sent != SIGTRAP)
			ptrace(PTRACE_LISTEN, pid, 0, 0);
		else
			ptrace(PTRACE_CONT, pid, 0, event ? 0 : sent);
	}
}
