// SPDX-License-Identifier: Apache-2.0
//
// steps: runs a command one instruction at a time and writes down which addresses were executed.
//
//   steps OUTPUT COMMAND ARGUMENT...
//
// Each line of OUTPUT is "WHO ADDRESS STEP", STEP the number of the step that executed it first: WHO is 0 for the command's own process and 1 for those it has
// made. Only a program at fixed addresses from 4 MiB on, below 12 MiB, is looked at: skep.

#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BASE = 4 << 20, LENGTH = 8 << 20 };
static unsigned first[2][LENGTH];

int main(int argc, char **argv)
{
	if (argc < 3) {
		fputs("usage: steps OUTPUT COMMAND ARGUMENT...\n", stderr);
		return 2;
	}
	pid_t command = fork();
	if (command == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		execv(argv[2], argv + 2);
		_exit(127);
	}
	int status, result = 1;
	unsigned step = 0;
	if (command < 0 || waitpid(command, &status, 0) != command)
		return 1;
	ptrace(PTRACE_SETOPTIONS, command, 0,
	       PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL);
	ptrace(PTRACE_SINGLESTEP, command, 0, 0);
	for (pid_t who; (who = waitpid(-1, &status, __WALL)) > 0;) {
		if (!WIFSTOPPED(status)) {
			if (who != command)
				continue;
			result = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
			break;
		}
		struct user_regs_struct registers;
		step++;
		if (ptrace(PTRACE_GETREGS, who, 0, &registers) == 0 && registers.rip - BASE < LENGTH &&
		    first[who != command][registers.rip - BASE] == 0)
			first[who != command][registers.rip - BASE] = step;
		int given = WSTOPSIG(status);
		// A new process stops by itself; a step ends with SIGTRAP.
		long pass = given == SIGTRAP || given == SIGSTOP || status >> 16 ? 0 : given;
		ptrace(PTRACE_SINGLESTEP, who, 0, pass);
	}
	FILE *output = fopen(argv[1], "w");
	if (!output)
		return 1;
	for (int who = 0; who < 2; who++)
		for (long i = 0; i < LENGTH; i++)
			if (first[who][i])
				fprintf(output, "%d %lx %u\n", who, BASE + i, first[who][i]);
	return fclose(output) ? 1 : result;
}
