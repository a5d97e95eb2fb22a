// SPDX-License-Identifier: Apache-2.0
//
// ab: runs the commands of several lanes in turn and compares what they cost.
//
//   ab [-n ROUNDS] [-w WARMUP] [-i IDLE_MS] [-e STDERR_FILE] [-j JSON_FILE] PLAN
//
// PLAN is a text file; the fields of a line are separated by tabs:
//
//   lane  NAME [EVERY]      a new lane; the lines up to the next one are its steps; visited every EVERY rounds
//   idle                    pause for IDLE_MS (nothing without -i)
//   do    ARGV...           run untimed; anything but exit status 0 ends everything
//   try   ARGV...           run untimed, whatever its exit status
//   time  LABEL ARGV...     run and measure
//   row   LABEL N ARGV...   run N times, one after the other, and measure them together
//   crowd LABEL N ARGV...   start N at once and measure until the last has ended
//   new   FILE OFFSET       overwrite the ten digits there with a number that was not there before
//   reap                    wait until every process the lane left behind has exited
//
// In the words of a row or a crowd, {} stands for the command's number, from 0 on.
//
// Each round visits every lane once, in an order shuffled anew, so that no lane always follows the
// same one (what a runtime leaves to the kernel's workers is paid by whoever comes next). ab is the
// child subreaper: a container's init becomes its child when the runtime exits, so its CPU time
// counts in the lane's total.
//
// ab is static and keeps its samples in a memfd that it maps only at the end: a vfork child starts
// out with its parent's peak resident size, and ab's must not hide that of the commands.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_LANES = 64, MAX_STEPS = 512, MAX_LABELS = 8, MAX_WORDS = 8192 };
enum { REAP_SECONDS = 20, MAX_CROWD = 1024 };

enum kind { IDLE, DO, TRY, TIME, ROW, CROWD, NEW, REAP };

struct step {
	enum kind kind;
	int label;
	long count; // commands of a row or crowd, offset of a new number
	char **argv;
};

struct lane {
	const char *name;
	const char *labels[MAX_LABELS];
	int labels_len;
	long every;
	int first, len;
};

// One measured process, or (label SUM) one lane's whole round.
struct sample {
	uint16_t lane, label;
	uint32_t wall_ns_hi, wall_ns_lo;
	uint32_t cpu_us, rss_kb, init_rss_kb, minflt, csw;
};
enum { SUM = MAX_LABELS };

static struct step steps[MAX_STEPS];
static struct lane lanes[MAX_LANES];
static char *words[MAX_WORDS];
static int steps_len, lanes_len, words_len;
static long idle_ms;
static int null_fd, stderr_fd, samples_fd;
static const char *stderr_path = "/dev/null";

static void die(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("ab: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(2);
}

static int64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static uint32_t cpu_us(const struct rusage *u)
{
	return (u->ru_utime.tv_sec + u->ru_stime.tv_sec) * 1000000 + u->ru_utime.tv_usec +
	       u->ru_stime.tv_usec;
}

static long number(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);
	if (!*text || *end || value < 0)
		die("not a number: %s", text);
	return value;
}

static int label_of(struct lane *lane, const char *path, const char *name)
{
	int label = 0;
	while (label < lane->labels_len && strcmp(lane->labels[label], name))
		label++;
	if (label == MAX_LABELS)
		die("%s: too many labels in lane %s", path, lane->name);
	if (label == lane->labels_len)
		lane->labels[lane->labels_len++] = name;
	return label;
}

static void read_plan(const char *path)
{
	FILE *f = fopen(path, "re");
	if (!f)
		die("%s: %s", path, strerror(errno));
	char *line = NULL;
	size_t cap = 0;
	while (getline(&line, &cap, f) > 0) {
		line[strcspn(line, "\n")] = 0;
		if (!*line || *line == '#')
			continue;
		int first = words_len;
		for (char *w = strtok(strdup(line), "\t"); w; w = strtok(NULL, "\t")) {
			if (words_len + 2 >= MAX_WORDS)
				die("%s: too many words", path);
			words[words_len++] = w;
		}
		words[words_len++] = NULL;
		char **word = words + first;
		if (!strcmp(word[0], "lane")) {
			if (lanes_len == MAX_LANES || !word[1])
				die("%s: too many lanes or no name", path);
			lanes[lanes_len++] = (struct lane){
				.name = word[1], .every = word[2] ? number(word[2]) : 1, .first = steps_len};
			if (!lanes[lanes_len - 1].every)
				die("%s: lane %s is never visited", path, word[1]);
			continue;
		}
		if (!lanes_len || steps_len == MAX_STEPS)
			die("%s: step outside a lane, or too many", path);
		struct lane *lane = &lanes[lanes_len - 1];
		struct step *step = &steps[steps_len++];
		lane->len++;
		if (!strcmp(word[0], "idle"))
			step->kind = IDLE;
		else if (!strcmp(word[0], "reap"))
			step->kind = REAP;
		else if (!strcmp(word[0], "do") && word[1])
			*step = (struct step){DO, 0, 1, word + 1};
		else if (!strcmp(word[0], "try") && word[1])
			*step = (struct step){TRY, 0, 1, word + 1};
		else if (!strcmp(word[0], "time") && word[1] && word[2])
			*step = (struct step){TIME, label_of(lane, path, word[1]), 1, word + 2};
		else if ((!strcmp(word[0], "row") || !strcmp(word[0], "crowd")) && word[1] && word[2] && word[3]) {
			*step = (struct step){*word[0] == 'r' ? ROW : CROWD, label_of(lane, path, word[1]),
					      number(word[2]), word + 3};
			if (step->count < 1 || step->count > MAX_CROWD)
				die("%s: not 1 to %d commands: %s", path, MAX_CROWD, word[2]);
		} else if (!strcmp(word[0], "new") && word[1] && word[2])
			*step = (struct step){NEW, 0, number(word[2]), word + 1};
		else
			die("%s: cannot understand \"%s\"", path, word[0]);
	}
	free(line);
	fclose(f);
}

static pid_t spawn(char **argv)
{
	pid_t pid = vfork();
	if (pid < 0)
		die("vfork: %s", strerror(errno));
	if (!pid) {
		sigset_t none;
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		dup2(null_fd, 0);
		dup2(null_fd, 1);
		dup2(stderr_fd, 2);
		execv(argv[0], argv);
		_exit(127);
	}
	return pid;
}

// Waits for one process. Orphans of the same lane that end meanwhile are added to its sum.
static int wait_for(pid_t pid, struct rusage *usage, struct sample *sum)
{
	for (;;) {
		int status;
		pid_t got = wait4(pid > 0 ? -1 : pid, &status, 0, usage);
		if (got == pid)
			return status;
		if (got < 0)
			die("wait4: %s", strerror(errno));
		sum->cpu_us += cpu_us(usage);
		if (sum->init_rss_kb < usage->ru_maxrss)
			sum->init_rss_kb = usage->ru_maxrss;
	}
}

static void fail(const struct lane *lane, char **argv, int status)
{
	fprintf(stderr, "ab: lane %s:", lane->name);
	for (char **arg = argv; *arg; arg++)
		fprintf(stderr, " %s", *arg);
	if (WIFSIGNALED(status))
		fprintf(stderr, ": killed by signal %d\n", WTERMSIG(status));
	else
		fprintf(stderr, ": exit status %d\n", WEXITSTATUS(status));
	fprintf(stderr, "ab: its standard error is in %s\n", stderr_path);
	exit(1);
}

static void reap_all(const struct lane *lane, struct sample *sum)
{
	int64_t deadline = now_ns() + REAP_SECONDS * 1000000000LL;
	for (;;) {
		struct rusage usage;
		pid_t got = wait4(-1, NULL, WNOHANG, &usage);
		if (got < 0)
			return;
		if (got > 0) {
			sum->cpu_us += cpu_us(&usage);
			if (sum->init_rss_kb < usage.ru_maxrss)
				sum->init_rss_kb = usage.ru_maxrss;
			continue;
		}
		if (now_ns() > deadline)
			die("lane %s left a process that does not end", lane->name);
		// SIGCHLD is blocked, so a child that ended since the look above is not missed.
		sigset_t set;
		sigemptyset(&set);
		sigaddset(&set, SIGCHLD);
		struct timespec wait = {.tv_nsec = 100000000};
		sigtimedwait(&set, NULL, &wait);
	}
}

static void keep(const struct sample *sample)
{
	if (write(samples_fd, sample, sizeof *sample) != sizeof *sample)
		die("cannot keep a sample: %s", strerror(errno));
}

static void set_wall(struct sample *sample, int64_t ns)
{
	sample->wall_ns_hi = ns >> 32;
	sample->wall_ns_lo = ns;
}

// The words with {} replaced. Each is kept for as long as the one that stands after it is not asked for.
static char **numbered(char **argv, long index)
{
	static char *line[256], text[8192];
	char *to = text, *end = text + sizeof text;
	int len = 0;
	for (; *argv; argv++) {
		char *mark = strstr(*argv, "{}");
		if (len == 255)
			die("too many words in a command");
		line[len++] = to;
		if (mark)
			to += snprintf(to, end - to, "%.*s%ld%s", (int)(mark - *argv), *argv, index, mark + 2) + 1;
		else
			to += snprintf(to, end - to, "%s", *argv) + 1;
		if (to >= end)
			die("a command is too long");
	}
	line[len] = NULL;
	return line;
}

static void add_usage(struct sample *sample, const struct rusage *usage)
{
	sample->cpu_us += cpu_us(usage);
	sample->minflt += usage->ru_minflt;
	sample->csw += usage->ru_nvcsw + usage->ru_nivcsw;
	if (sample->rss_kb < usage->ru_maxrss)
		sample->rss_kb = usage->ru_maxrss;
}

static void row(const struct lane *lane, const struct step *step, struct sample *sample, struct sample *sum)
{
	for (long i = 0; i < step->count; i++) {
		struct rusage usage;
		int status = wait_for(spawn(numbered(step->argv, i)), &usage, sum);
		if (status)
			fail(lane, numbered(step->argv, i), status);
		add_usage(sample, &usage);
	}
}

static void crowd(const struct lane *lane, const struct step *step, struct sample *sample, struct sample *sum)
{
	pid_t pids[MAX_CROWD];
	for (long i = 0; i < step->count; i++)
		pids[i] = spawn(numbered(step->argv, i));
	for (long left = step->count; left;) {
		struct rusage usage;
		int status;
		pid_t got = wait4(-1, &status, 0, &usage);
		if (got < 0)
			die("wait4: %s", strerror(errno));
		long i = 0;
		while (i < step->count && pids[i] != got)
			i++;
		if (i == step->count) {
			sum->cpu_us += cpu_us(&usage);
			continue;
		}
		if (status)
			fail(lane, numbered(step->argv, i), status);
		add_usage(sample, &usage);
		left--;
	}
}

// A profile that was not seen before, for runtimes that keep what they have compiled.
static void write_new(const struct step *step)
{
	static long seen = 1000000000;
	char digits[16];
	snprintf(digits, sizeof digits, "%ld", seen++);
	int fd = open(step->argv[0], O_WRONLY | O_CLOEXEC);
	if (fd < 0 || pwrite(fd, digits, 10, step->count) != 10 || close(fd))
		die("%s: %s", step->argv[0], strerror(errno));
}

static void visit(int number, int measured)
{
	struct lane *lane = &lanes[number];
	struct sample sum = {.lane = number, .label = SUM};
	int64_t sum_ns = 0;
	for (struct step *step = steps + lane->first; step < steps + lane->first + lane->len; step++) {
		struct rusage usage;
		struct sample ignored = {0};
		if (step->kind == IDLE) {
			struct timespec t = {idle_ms / 1000, idle_ms % 1000 * 1000000};
			nanosleep(&t, NULL);
			continue;
		}
		if (step->kind == REAP) {
			reap_all(lane, &sum);
			continue;
		}
		if (step->kind == NEW) {
			write_new(step);
			continue;
		}
		struct sample sample = {.lane = number, .label = step->label};
		int64_t begin = now_ns();
		if (step->kind == ROW) {
			row(lane, step, &sample, &sum);
		} else if (step->kind == CROWD) {
			crowd(lane, step, &sample, &sum);
		} else {
			int status = wait_for(spawn(step->argv), &usage, step->kind == TIME ? &sum : &ignored);
			if (status && step->kind != TRY)
				fail(lane, step->argv, status);
			add_usage(&sample, &usage);
		}
		int64_t ns = now_ns() - begin;
		if (step->kind == DO || step->kind == TRY)
			continue;
		set_wall(&sample, ns);
		if (measured)
			keep(&sample);
		sum_ns += ns;
		sum.cpu_us += sample.cpu_us;
		sum.minflt += sample.minflt;
		sum.csw += sample.csw;
		if (sum.rss_kb < sample.rss_kb)
			sum.rss_kb = sample.rss_kb;
	}
	set_wall(&sum, sum_ns);
	if (measured)
		keep(&sum);
}

static uint32_t random_state = 2463534242;

static uint32_t random_below(uint32_t bound)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	return random_state % bound;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

struct stat_row {
	double min, p25, median, p95, max;
};

static struct stat_row summarise(double *values, size_t len)
{
	qsort(values, len, sizeof *values, by_value);
	return (struct stat_row){values[0], values[len / 4], values[len / 2], values[len * 95 / 100],
				 values[len - 1]};
}

static void print_json(FILE *json, const char *name, struct stat_row row, const char *end)
{
	fprintf(json, "\"%s\":{\"min\":%.1f,\"p25\":%.1f,\"median\":%.1f,\"p95\":%.1f,\"max\":%.1f}%s",
		name, row.min, row.p25, row.median, row.p95, row.max, end);
}

static void report(FILE *json)
{
	struct stat st;
	fstat(samples_fd, &st);
	size_t len = st.st_size / sizeof(struct sample);
	if (!len)
		return;
	struct sample *samples = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, samples_fd, 0);
	double *value = malloc(len * sizeof *value);
	if (samples == MAP_FAILED || !value)
		die("cannot map the samples: %s", strerror(errno));
	printf("%-22s %-8s %6s %9s %9s %9s %9s %9s %8s %7s\n", "lane", "step", "n", "min us", "p25",
	       "median", "p95", "cpu min", "rss kB", "minflt");
	if (json)
		fprintf(json, "{\"idle_ms\":%ld,\"samples\":[\n", idle_ms);
	int rows = 0;
	for (int lane = 0; lane < lanes_len; lane++)
		for (int label = 0; label <= SUM; label++) {
			struct stat_row row[6];
			size_t n = 0;
			for (int field = 0; field < 6; field++) {
				n = 0;
				for (struct sample *s = samples; s < samples + len; s++)
					if (s->lane == lane && s->label == label) {
						int64_t ns = (int64_t)s->wall_ns_hi << 32 | s->wall_ns_lo;
						double fields[] = {ns / 1e3, s->cpu_us, s->rss_kb,
								   s->init_rss_kb, s->minflt, s->csw};
						value[n++] = fields[field];
					}
				if (n)
					row[field] = summarise(value, n);
			}
			if (!n)
				continue;
			const char *name = label == SUM ? "sum" : lanes[lane].labels[label];
			printf("%-22s %-8s %6zu %9.0f %9.0f %9.0f %9.0f %9.0f %8.0f %7.0f\n",
			       lanes[lane].name, name, n, row[0].min, row[0].p25, row[0].median,
			       row[0].p95, row[1].min, row[2].max, row[4].median);
			if (!json)
				continue;
			fprintf(json, "%s{\"lane\":\"%s\",\"step\":\"%s\",\"n\":%zu,", rows++ ? ",\n" : "",
				lanes[lane].name, name, n);
			print_json(json, "wall_us", row[0], ",");
			print_json(json, "cpu_us", row[1], ",");
			print_json(json, "rss_kb", row[2], ",");
			print_json(json, "init_rss_kb", row[3], ",");
			print_json(json, "minflt", row[4], ",");
			print_json(json, "switches", row[5], "}");
		}
	if (json)
		fprintf(json, "\n]}\n");
}

int main(int argc, char **argv)
{
	long rounds = 100, warmup = 5;
	const char *json_path = NULL;
	int option;
	while ((option = getopt(argc, argv, "n:w:i:e:j:")) != -1)
		switch (option) {
		case 'n': rounds = number(optarg); break;
		case 'w': warmup = number(optarg); break;
		case 'i': idle_ms = number(optarg); break;
		case 'e': stderr_path = optarg; break;
		case 'j': json_path = optarg; break;
		default: return 2;
		}
	if (optind + 1 != argc)
		die("usage: ab [-n ROUNDS] [-w WARMUP] [-i IDLE_MS] [-e STDERR_FILE] [-j JSON_FILE] PLAN");
	read_plan(argv[optind]);

	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	stderr_fd = open(stderr_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	samples_fd = memfd_create("samples", MFD_CLOEXEC);
	if (null_fd < 0 || stderr_fd < 0 || samples_fd < 0)
		die("cannot open /dev/null, %s or a memfd: %s", stderr_path, strerror(errno));
	FILE *json = json_path ? fopen(json_path, "we") : NULL;
	if (json_path && !json)
		die("%s: %s", json_path, strerror(errno));
	if (prctl(PR_SET_CHILD_SUBREAPER, 1))
		die("cannot become the child subreaper: %s", strerror(errno));
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);

	int order[MAX_LANES];
	for (int i = 0; i < lanes_len; i++)
		order[i] = i;
	for (long round = -warmup; round < rounds; round++) {
		for (int i = lanes_len - 1; i > 0; i--) {
			int j = random_below(i + 1), swapped = order[i];
			order[i] = order[j];
			order[j] = swapped;
		}
		for (int i = 0; i < lanes_len; i++)
			// Every lane is warmed up once.
			if (round == -warmup || round % lanes[order[i]].every == 0)
				visit(order[i], round >= 0);
	}
	report(json);
	if (json && fclose(json))
		die("%s: %s", json_path, strerror(errno));
	return 0;
}
