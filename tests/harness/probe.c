/* The probe: asks the kernel what a shell cannot. One verb per call. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

/* syscall NUMBER [ARGUMENT...]: prints "ok" or the errno. */
static int do_syscall(int argc, char **argv) {
    unsigned long a[6] = {0};
    long number = strtol(argv[0], NULL, 0);
    for (int i = 1; i < argc && i <= 6; i++)
        a[i - 1] = strtoul(argv[i], NULL, 0);
    errno = 0;
    long rc = syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (rc == -1 && errno)
        printf("errno %d\n", errno);
    else
        printf("ok %ld\n", rc);
    return 0;
}

/* syscall32 NUMBER [ARGUMENT...]: the same through the i386 entry. */
static int do_syscall32(int argc, char **argv) {
#ifdef __x86_64__
    unsigned long a[5] = {0};
    long rc = strtol(argv[0], NULL, 0);
    for (int i = 1; i < argc && i <= 5; i++)
        a[i - 1] = strtoul(argv[i], NULL, 0);
    __asm__ volatile("int $0x80"
                     : "+a"(rc)
                     : "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4])
                     : "memory", "r8", "r9", "r10", "r11");
    if ((int)rc < 0 && (int)rc > -4096)
        printf("errno %d\n", -(int)rc);
    else
        printf("ok %ld\n", rc);
    return 0;
#else
    (void)argc, (void)argv;
    puts("unsupported");
    return 0;
#endif
}

/* fds: prints the open descriptors and what they are, without the one used to look. */
static int do_fds(void) {
    for (int fd = 0; fd < 1024; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            continue;
        char path[64], target[4096];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t len = readlink(path, target, sizeof target - 1);
        target[len < 0 ? 0 : len] = 0;
        printf("%d %s\n", fd, target);
    }
    return 0;
}

/* tiocsti: tries to type into the terminal on descriptor 0. */
static int do_tiocsti(void) {
    if (ioctl(0, TIOCSTI, "x") == 0)
        puts("typed");
    else
        printf("errno %d\n", errno);
    return 0;
}

/* allocate MEGABYTES: touches that much memory. */
static int do_allocate(char **argv) {
    size_t size = strtoul(argv[0], NULL, 0) << 20;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        printf("errno %d\n", errno);
        return 1;
    }
    for (size_t i = 0; i < size; i += 4096)
        memory[i] = 1;
    puts("allocated");
    return 0;
}

/* signals: prints which signals are ignored and which are blocked. */
static int do_signals(void) {
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    for (int i = 1; i < 32; i++) {
        struct sigaction action;
        sigaction(i, NULL, &action);
        if (action.sa_handler == SIG_IGN)
            printf("ignored %d\n", i);
        if (sigismember(&mask, i) == 1)
            printf("blocked %d\n", i);
    }
    puts("done");
    return 0;
}

/* notify SOCKET TEXT: sends one datagram, as sd_notify(3) does. */
static int do_notify(char **argv) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, argv[0], sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (sendto(fd, argv[1], strlen(argv[1]), 0, (void *)&address, sizeof address) < 0) {
        printf("errno %d\n", errno);
        return 1;
    }
    return 0;
}

/* open PATH FLAGS: prints "ok" or the errno. */
static int do_open(char **argv) {
    int fd = open(argv[0], (int)strtol(argv[1], NULL, 0), 0600);
    if (fd < 0)
        printf("errno %d\n", errno);
    else
        puts("ok");
    return 0;
}

/* Whether the image of a process is none of the container's: the runtime, on its way in. */
static int is_foreign(int pid) {
    char path[64], target[4096];
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    ssize_t len = readlink(path, target, sizeof target - 1);
    if (len < 0)
        return 0;
    target[len] = 0;
    return !strstr(target, "/bin/busybox") && !strstr(target, "/bin/probe");
}

/* overwrite FILE: what CVE-2019-5736 does. Opens the image of every foreign process for writing, over and over,
   until FILE exists; holds it open meanwhile, since a running image is busy. Writes nothing. */
static int do_overwrite(char **argv) {
    int held[64], count = 0, tries = 0, writable = 0;
    puts("hunting");
    fflush(stdout);
    while (access(argv[0], F_OK) != 0) {
        DIR *proc = opendir("/proc");
        struct dirent *entry;
        while (proc && (entry = readdir(proc))) {
            int pid = atoi(entry->d_name);
            char path[64];
            if (pid <= 0 || pid == getpid())
                continue;
            snprintf(path, sizeof path, "/proc/%d/exe", pid);
            int image = open(path, O_PATH | O_CLOEXEC);
            if (image < 0)
                continue;
            if (count < 64 && is_foreign(pid))
                held[count++] = image;
            else
                close(image);
        }
        if (proc)
            closedir(proc);
        for (int i = 0; i < count; i++) {
            char path[64];
            snprintf(path, sizeof path, "/proc/self/fd/%d", held[i]);
            int file = open(path, O_WRONLY | O_CLOEXEC);
            tries++;
            if (file >= 0) {
                writable++;
                close(file);
            }
        }
    }
    printf("held %d tries %d writable %d\n", count, tries, writable);
    return 0;
}

/* hunt FILE: what CVE-2016-9962 does. Looks at the descriptors, the memory and the root of every foreign process until
   FILE exists. */
static int do_hunt(char **argv) {
    int seen = 0, opened = 0;
    puts("hunting");
    fflush(stdout);
    while (access(argv[0], F_OK) != 0) {
        DIR *proc = opendir("/proc");
        struct dirent *entry;
        while (proc && (entry = readdir(proc))) {
            int pid = atoi(entry->d_name);
            char path[64];
            if (pid <= 1 || pid == getpid())
                continue;
            snprintf(path, sizeof path, "/proc/%d/comm", pid);
            char comm[32] = "";
            FILE *file = fopen(path, "r");
            if (!file)
                continue;
            if (!fgets(comm, sizeof comm, file))
                comm[0] = 0;
            fclose(file);
            if (!strncmp(comm, "true", 4) || !strncmp(comm, "sh", 2) || !strncmp(comm, "probe", 5))
                continue;
            seen++;
            static const char *const doors[] = {"fd", "mem", "root/.", "cwd/."};
            for (unsigned i = 0; i < sizeof doors / sizeof *doors; i++) {
                snprintf(path, sizeof path, "/proc/%d/%s", pid, doors[i]);
                int door = open(path, O_RDONLY | O_CLOEXEC);
                if (door < 0)
                    continue;
                close(door);
                /* it may have become the program meanwhile */
                if (is_foreign(pid))
                    opened++;
            }
        }
        if (proc)
            closedir(proc);
    }
    printf("seen %d opened %d\n", seen, opened);
    return 0;
}

/* umask, nice, personality and the like, one per line. */
static int do_inherited(void) {
    printf("umask %04o\n", umask(0));
    printf("dumpable %d\n", prctl(PR_GET_DUMPABLE));
    printf("pdeathsig ");
    int signal = -1;
    prctl(PR_GET_PDEATHSIG, &signal);
    printf("%d\n", signal);
    printf("nnp %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    printf("subreaper ");
    int subreaper = -1;
    prctl(PR_GET_CHILD_SUBREAPER, &subreaper);
    printf("%d\n", subreaper);
    printf("keepcaps %d\n", prctl(PR_GET_KEEPCAPS));
    printf("sid %d pgid %d pid %d\n", getsid(0), getpgid(0), getpid());
    return 0;
}

/* kill-at COUNT NUMBER COMMAND...: runs the command, and kills it before its COUNTth system call after the first of this
   number, whose children are left alone. Ends with 1 if it was killed; the command may end before that. */
static int do_kill_at(char **argv) {
    long count = strtol(argv[0], NULL, 0), number = strtol(argv[1], NULL, 0), seen = -1;
    int status, entering = 0;
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        execv(argv[2], argv + 2);
        _exit(126);
    }
    if (waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status))
        return 2;
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL);
    for (int signal = 0;;) {
        if (ptrace(PTRACE_SYSCALL, child, 0, (long)signal) < 0 || waitpid(child, &status, 0) < 0)
            return 2;
        if (WIFEXITED(status))
            return WEXITSTATUS(status) ? 3 : 0;
        if (WIFSIGNALED(status))
            return 4;
        signal = WSTOPSIG(status);
        if (signal == SIGTRAP && status >> 16)
            signal = 0;
        if (signal != (SIGTRAP | 0x80))
            continue;
        signal = 0;
        struct __ptrace_syscall_info info;
        if (ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info) <= 0)
            return 2;
        entering = info.op == PTRACE_SYSCALL_INFO_ENTRY;
        if (!entering)
            continue;
        if (seen < 0 && (long)info.entry.nr != number)
            continue;
        if (++seen < count)
            continue;
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        return 1;
    }
}

/* kill-child-at COUNT COMMAND...: runs the command, and kills its first child before that one's COUNTth system call, but not
   from its first execve on. Ends as the command does; says "killed" if it was. */
static int do_kill_child_at(char **argv) {
    long count = strtol(argv[0], NULL, 0);
    int status;
    pid_t command = fork(), child = 0;
    if (command == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        execv(argv[1], argv + 1);
        _exit(126);
    }
    if (waitpid(command, &status, 0) < 0 || !WIFSTOPPED(status))
        return 2;
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEFORK | PTRACE_O_TRACECLONE;
    ptrace(PTRACE_SETOPTIONS, command, 0, options);
    ptrace(PTRACE_CONT, command, 0, 0L);
    for (;;) {
        pid_t stopped = waitpid(-1, &status, __WALL);
        if (stopped < 0)
            return 2;
        if (stopped == command && WIFEXITED(status))
            return WEXITSTATUS(status);
        if (stopped == command && WIFSIGNALED(status))
            return 3;
        if (!WIFSTOPPED(status))
            continue;
        long signal = WSTOPSIG(status), event = status >> 16;
        if (event || signal == SIGSTOP)
            signal = 0;
        if (stopped == command) {
            ptrace(PTRACE_CONT, command, 0, signal);
            continue;
        }
        if (!child)
            child = stopped;
        struct __ptrace_syscall_info info;
        if (signal == (SIGTRAP | 0x80)) {
            signal = 0;
            if (ptrace(PTRACE_GET_SYSCALL_INFO, stopped, sizeof info, &info) <= 0)
                return 2;
            if (info.op == PTRACE_SYSCALL_INFO_ENTRY && (long)info.entry.nr == SYS_execve) {
                ptrace(PTRACE_DETACH, stopped, 0, 0L);
                continue;
            }
            if (info.op == PTRACE_SYSCALL_INFO_ENTRY && stopped == child && count-- == 0) {
                puts("killed");
                fflush(stdout);
                kill(stopped, SIGKILL);
                continue;
            }
        }
        ptrace(PTRACE_SYSCALL, stopped, 0, signal);
    }
}

/* listening COMMAND...: runs the command under a filter that lets everything pass and has a listener, of which there may
   be but one (seccomp(2), EBUSY). */
static int do_listening(char **argv) {
    struct sock_filter pass = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = 1, .filter = &pass};
    int ends[2], status;
    if (pipe(ends) < 0)
        return 2;
    pid_t child = fork();
    if (child == 0) {
        int listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
        if (listener < 0)
            _exit(125);
        /* The parent takes a copy, for the filter forgets its listener when the last one is closed. */
        if (write(ends[1], &listener, sizeof listener) < 0 || raise(SIGSTOP))
            _exit(125);
        execv(argv[0], argv);
        _exit(126);
    }
    int number;
    if (waitpid(child, &status, WUNTRACED) < 0 || !WIFSTOPPED(status) ||
        read(ends[0], &number, sizeof number) != sizeof number)
        return 125;
    int child_fd = (int)syscall(SYS_pidfd_open, child, 0);
    if (syscall(SYS_pidfd_getfd, child_fd, number, 0) < 0)
        return 125;
    kill(child, SIGCONT);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 4;
}

/* unfreezable FILE: writes "stuck" there, and waits in the kernel for a page that nobody brings. Else why not. */
static int do_unfreezable(char **argv) {
    struct uffdio_api api = {.api = UFFD_API};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct uffdio_register range = {.range = {.start = (unsigned long)page, .len = 4096}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    int file = open(argv[0], O_WRONLY | O_CREAT, 0644), ends[2];
    if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &range)) {
        dprintf(file, "%s\n", strerror(errno));
        return 1;
    }
    if (pipe(ends) || write(file, "stuck\n", 6) != 6)
        return 1;
    return write(ends[1], page, 1) == 1;
}

static int bpf(int command, union bpf_attr *attr) {
    return (int)syscall(SYS_bpf, command, attr, sizeof *attr);
}

/* Puts in the place of each device program of this cgroup the same with one more device before all. */
static int extend_programs(const char *path, int major, int minor) {
    static struct bpf_insn code[4096];
    unsigned ids[64];
    int cgroup = open(path, O_RDONLY | O_DIRECTORY), changed = 0;
    union bpf_attr attr = {.query = {.target_fd = (unsigned)cgroup, .attach_type = BPF_CGROUP_DEVICE,
                                     .prog_ids = (unsigned long)ids, .prog_cnt = 64}};
    if (cgroup < 0 || bpf(BPF_PROG_QUERY, &attr) < 0)
        return -1;
    for (unsigned i = 0, count = attr.query.prog_cnt; i < count; i++) {
        const struct bpf_insn first[] = {
            {.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 2, .src_reg = 1, .off = 4},
            {.code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = 2, .off = 4, .imm = major},
            {.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 2, .src_reg = 1, .off = 8},
            {.code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = 2, .off = 2, .imm = minor},
            {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 1},
            {.code = BPF_JMP | BPF_EXIT},
        };
        const unsigned length = sizeof first / sizeof *first;
        struct bpf_prog_info info = {.xlated_prog_len = sizeof code - sizeof first,
                                     .xlated_prog_insns = (unsigned long)(code + length)};
        memcpy(code, first, sizeof first);
        attr = (union bpf_attr){.prog_id = ids[i]};
        int old = bpf(BPF_PROG_GET_FD_BY_ID, &attr);
        attr = (union bpf_attr){.info = {.bpf_fd = (unsigned)old, .info_len = sizeof info, .info = (unsigned long)&info}};
        if (bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) < 0)
            return -1;
        attr = (union bpf_attr){.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insns = (unsigned long)code,
                                .insn_cnt = length + info.xlated_prog_len / sizeof *code,
                                .license = (unsigned long)"Apache-2.0"};
        int new = bpf(BPF_PROG_LOAD, &attr);
        attr = (union bpf_attr){.target_fd = (unsigned)cgroup, .attach_bpf_fd = (unsigned)new,
                                .attach_type = BPF_CGROUP_DEVICE, .attach_flags = BPF_F_ALLOW_MULTI | BPF_F_REPLACE,
                                .replace_bpf_fd = (unsigned)old};
        if (new < 0 || bpf(BPF_PROG_ATTACH, &attr) < 0)
            return -1;
        changed++;
    }
    return changed;
}

/* hook-device MAJOR MINOR: a hook that allows its container a device as libnvidia-container does. */
static int do_hook_device(char **argv) {
    static char text[1 << 16];
    char path[4096] = "/sys/fs/cgroup";
    size_t length = fread(text, 1, sizeof text - 1, stdin), root = strlen(path);
    char *pid = strstr(text, "\"pid\":");
    FILE *file;
    text[length] = 0;
    sprintf(text, "/proc/%d/cgroup", pid ? atoi(pid + 6) : 0);
    if (!(file = fopen(text, "r")) || fscanf(file, "0::%4000s", path + root) != 1)
        return 1;
    /* The limits may be those of a cgroup above. */
    for (int changed = 0; strlen(path) > root && !changed; *strrchr(path, '/') = 0)
        if ((changed = extend_programs(path, atoi(argv[0]), atoi(argv[1]))) < 0) {
            perror(path);
            return 1;
        }
    return 0;
}

/* key-label: the security label of the session keyring. */
static int do_key_label(void) {
    char label[4096] = "";
    if (syscall(SYS_keyctl, 17 /* KEYCTL_GET_SECURITY */, -3 /* KEY_SPEC_SESSION_KEYRING */, label, sizeof label - 1) < 0)
        printf("errno %d\n", errno);
    else
        puts(label);
    return 0;
}

/* file-label FILE: its SELinux label. */
static int do_file_label(char **argv) {
    char label[4096] = "";
    if (getxattr(argv[0], "security.selinux", label, sizeof label - 1) < 0)
        printf("errno %d\n", errno);
    else
        puts(label);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 2)
        return 2;
    const char *verb = argv[1];
    if (!strcmp(verb, "syscall") && argc > 2)
        return do_syscall(argc - 2, argv + 2);
    if (!strcmp(verb, "syscall32") && argc > 2)
        return do_syscall32(argc - 2, argv + 2);
    if (!strcmp(verb, "fds"))
        return do_fds();
    if (!strcmp(verb, "tiocsti"))
        return do_tiocsti();
    if (!strcmp(verb, "allocate") && argc > 2)
        return do_allocate(argv + 2);
    if (!strcmp(verb, "signals"))
        return do_signals();
    if (!strcmp(verb, "notify") && argc > 3)
        return do_notify(argv + 2);
    if (!strcmp(verb, "open") && argc > 3)
        return do_open(argv + 2);
    if (!strcmp(verb, "overwrite") && argc > 2)
        return do_overwrite(argv + 2);
    if (!strcmp(verb, "hunt") && argc > 2)
        return do_hunt(argv + 2);
    if (!strcmp(verb, "inherited"))
        return do_inherited();
    if (!strcmp(verb, "kill-at") && argc > 4)
        return do_kill_at(argv + 2);
    if (!strcmp(verb, "kill-child-at") && argc > 3)
        return do_kill_child_at(argv + 2);
    if (!strcmp(verb, "hook-device") && argc > 3)
        return do_hook_device(argv + 2);
    if (!strcmp(verb, "unfreezable") && argc > 2)
        return do_unfreezable(argv + 2);
    if (!strcmp(verb, "key-label"))
        return do_key_label();
    if (!strcmp(verb, "file-label") && argc > 2)
        return do_file_label(argv + 2);
    if (!strcmp(verb, "listening") && argc > 2)
        return do_listening(argv + 2);
    return 2;
}
