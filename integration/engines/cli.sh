# shellcheck shell=bash
# The checks that docker and podman share, since they share a command line. The engine's own file has
# set ENGINE (the command and its global flags), RUN (`run` and the flags every container gets), IMAGE
# and DEBIAN.

engine() { "${ENGINE[@]}" "$@"; }

# once FLAG... IMAGE COMMAND...: runs a container to its end. A status other than 0 is noted in the check's log,
# since most checks compare only the output.
once() {
    local got=0
    engine "${RUN[@]}" --rm "$@" || got=$?
    ((got == 0)) || printf 'status %d of the container\n' "$got" >>"$WORK/check.log"
    return "$got"
}

detached_as() { engine "${RUN[@]}" -d --name "$@" >/dev/null; }
detached() { detached_as "$NAME" "$@"; }
inspect() { engine inspect -f "$1" "${2:-$NAME}"; }
state_is() { [[ $(inspect "{{.State.$1}}") == "$2" ]]; }
has_logged() { engine logs "$NAME" 2>&1 | grep -q -- "$1"; }
# shellcheck disable=SC2120
pid_of() { inspect '{{.State.Pid}}' "${1:-$NAME}"; }

# A container's command that waits, and ends at once with status 0 on SIGTERM.
IDLE=(sh -c 'trap "exit 0" TERM; while :; do sleep 0.1; done')

# A container's command that counts, and says how far it is with a word that only its memory knows.
# shellcheck disable=SC2016
COUNT=(sh -c 'w=$(cat /proc/sys/kernel/random/uuid); i=0; while :; do i=$((i + 1)); echo "$i $w" >/n; mv /n /count; done')

# counts WORD NUMBER: it counts on from there.
counts_on() {
    local number word
    read -r number word < <(engine exec "$NAME" cat /count) && [[ $word == "$1" ]] && ((number > $2))
}

needs_criu() {
    [[ $RUNTIME_NAME != crun ]] || skip 'crun links libcriu'
    criu check >/dev/null 2>&1 || skip 'no CRIU that works here'
}

# A container's command that prints which namespaces it is in, one line for each of its arguments.
NAMESPACES=(sh -c 'for n; do readlink /proc/self/ns/$n; done' sh)

# runs_in CGROUP TEXT: a process whose command line holds the text is in that cgroup.
runs_in() {
    local pid
    while read -r pid; do
        tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q -- "$2" && return 0
    done <"$1/cgroup.procs"
    return 1
}

C01() { # run: output and status 0
    status 0 once "$IMAGE" echo hello
    is "$OUT" hello 'output'
}

C02() { # run: the status of the process, 1 and 42
    status 1 once "$IMAGE" false
    status 42 once "$IMAGE" sh -c 'exit 42'
}

C03() { # run: 126 for a file not executable, and for a directory
    status 126 once "$IMAGE" /etc/text
    like "$OUT" '[Pp]ermission denied' 'the reason'
    status 126 once "$IMAGE" /etc
}

C04() { # run: 127 for a command that is not there
    status 127 once "$IMAGE" nosuch
    like "$OUT" 'executable file .*not found in' 'the reason'
    status 127 once "$IMAGE" /bin/nosuch
    like "$OUT" '[Nn]o such file or directory' 'the reason'
}

C05() { # kill: 137 after SIGKILL, 143 after SIGTERM
    detached "$IMAGE" sleep 1000
    engine kill "$NAME"
    is "$(engine wait "$NAME")" 137 'status after SIGKILL'
    detached_as "$NAME-2" "$IMAGE" sh -c 'trap "exit 143" TERM; echo ready; while :; do sleep 0.1; done'
    NAME=$NAME-2
    wait_for 20 'the trap' has_logged ready
    engine kill -s TERM "$NAME"
    is "$(engine wait "$NAME")" 143 'status after SIGTERM'
}

C06() { # run -i: all input goes in, all output comes out
    is "$(seq 1 20000 | once -i "$IMAGE" wc -l)" 20000 'lines that came in'
    is "$(once "$IMAGE" seq 1 20000 | md5sum)" "$(seq 1 20000 | md5sum)" 'what came out'
}

C07() { # run -it: a terminal of the caller's size
    open_keyboard
    local text
    text=$(pty 33 77 "${ENGINE[@]}" "${RUN[@]}" --rm -it "$IMAGE" sh -c \
        'tty; n=0; until [ "$(stty size)" = "33 77" ] || [ $n = 50 ]; do n=$((n+1)); sleep 0.1; done; stty size')
    like "$text" '/dev/pts/0' 'name of the terminal'
    like "$text" '33 77' 'size of the terminal'
}

# resize ROWS COLUMNS: changes the terminal in which the engine's client runs this check's container.
resize() {
    local pid terminal
    for pid in $(ours "run .*--name $NAME"); do
        terminal=$(readlink "/proc/$pid/fd/0") || continue
        if [[ $terminal == /dev/pts/* ]]; then
            stty -F "$terminal" rows "$1" cols "$2"
            return
        fi
    done
    fail 'no client with a terminal'
}

C08() { # run -it: typing, a resized window, the status
    local got=0 client
    open_keyboard
    pty 24 80 "${ENGINE[@]}" "${RUN[@]}" --rm -it --name "$NAME" "$IMAGE" sh >/dev/null &
    client=$!
    wait_for 20 'a prompt' shown '# '
    type_line 'echo sum $((40 + 2))'
    wait_for 20 'the answer' shown 'sum 42'
    resize 41 111
    type_line 'until [ "$(stty size)" = "41 111" ]; do sleep 0.1; done; echo resized: $(stty size)'
    wait_for 20 'the new size' shown 'resized: 41 111'
    type_line 'exit 5'
    wait "$client" || got=$?
    is "$got" 5 'status'
}

C09() { # exec: output, status, 126 and 127
    detached "$IMAGE" "${IDLE[@]}"
    status 7 engine exec "$NAME" sh -c 'echo out; exit 7'
    is "$OUT" out 'output'
    status 126 engine exec "$NAME" /etc/text
    status "$EXEC_MISSING" engine exec "$NAME" nosuch
    like "$OUT" 'executable file .*not found in' 'the reason'
    status 137 engine exec "$NAME" sh -c 'kill -9 $$'
}

C10() { # exec: another user by name and number, directory, environment
    detached -e ONE=1 "$IMAGE" "${IDLE[@]}"
    like "$(engine exec -u web "$NAME" id)" 'uid=1000\(web\) gid=1000\(web\).*1234\(extra\)' 'user web'
    like "$(engine exec -u 4321:8765 "$NAME" id)" 'uid=4321.* gid=8765' 'user by number'
    is "$(engine exec -e TWO=2 -w /tmp "$NAME" sh -c 'echo $ONE$TWO $PWD')" '12 /tmp' 'environment, directory'
    is "$(field "$(engine exec -u web "$NAME" cat /proc/self/status)" CapEff)" 0000000000000000 \
        'effective capabilities of user web'
}

C11() { # exec -it: a terminal of its own
    detached "$IMAGE" "${IDLE[@]}"
    open_keyboard
    like "$(pty 30 90 "${ENGINE[@]}" exec -it "$NAME" sh -c 'tty; test -t 0 && test -t 1 && echo both')" \
        '/dev/pts/[0-9].*both' 'terminal'
}

C12() { # exec: in the container's cgroup and namespaces
    detached "$IMAGE" "${IDLE[@]}"
    local pid namespace
    pid=$(pid_of)
    engine exec -d "$NAME" sleep 777
    wait_for 20 'the process in the cgroup' runs_in "$(cgroup_of "$pid" memory)" 'sleep 777'
    wait_for 20 'the process in the cgroup' runs_in "$(cgroup_of "$pid" pids)" 'sleep 777'
    for namespace in pid net mnt uts ipc; do
        is "$(engine exec "$NAME" readlink "/proc/self/ns/$namespace")" "$(readlink "/proc/$pid/ns/$namespace")" \
            "$namespace namespace"
    done
    like "$(engine exec "$NAME" ps)" 'sleep 777' 'ps inside'
}

C13() { # logs: both streams, in order, and followed to the end
    detached "$IMAGE" sh -c 'for n in 1 2 3; do echo out $n; done; echo err >&2; sleep 0.3; echo last'
    is "$(engine logs -f "$NAME" 2>/dev/null | tr '\n' ' ')" 'out 1 out 2 out 3 last ' 'standard output'
    is "$(engine logs "$NAME" 2>&1 >/dev/null)" err 'standard error'
}

C14() { # stop: SIGTERM is enough for who listens
    detached "$IMAGE" sh -c 'trap "echo bye; exit 3" TERM; echo ready; while :; do sleep 0.1; done'
    wait_for 20 'the trap' has_logged ready
    engine stop -t 20 "$NAME"
    is "$(inspect '{{.State.ExitCode}}')" 3 'status'
    like "$(engine logs "$NAME")" bye 'last word'
}

C15() { # stop: SIGKILL after the time for who does not
    detached "$IMAGE" sh -c 'trap "" TERM; echo ready; while :; do sleep 0.1; done'
    wait_for 20 'the trap' has_logged ready
    local began=$SECONDS
    engine stop -t 1 "$NAME"
    is "$(inspect '{{.State.ExitCode}}')" 137 'status'
    ((SECONDS - began < 8)) || fail 'took longer than 8 s'
}

C16() { # kill -s: any other signal is delivered and the container stays
    detached "$IMAGE" sh -c 'trap "echo usr1" USR1; trap "echo hup" HUP; echo ready; while :; do sleep 0.1; done'
    wait_for 20 'the traps' has_logged ready
    engine kill -s USR1 "$NAME"
    wait_for 20 'SIGUSR1' has_logged usr1
    engine kill -s HUP "$NAME"
    wait_for 20 'SIGHUP' has_logged hup
    state_is Running true || fail 'the container is gone'
}

C17() { # pause, unpause: frozen, no exec meanwhile, alive again
    detached "$IMAGE" "${IDLE[@]}"
    local pid
    pid=$(pid_of)
    engine pause "$NAME"
    frozen "$pid" || fail 'the cgroup is not frozen'
    is "$(inspect '{{.State.Status}}')" paused 'state'
    engine exec "$NAME" true && fail 'exec in a paused container'
    engine unpause "$NAME"
    ! frozen "$pid" || fail 'the cgroup is still frozen'
    is "$(engine exec "$NAME" echo alive)" alive 'exec after unpause'
}

C18() { # limits: memory, cpu, cpuset and pids arrive in the cgroup
    needs_swap_accounting
    detached --memory 64m --memory-swap 96m --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 --pids-limit 123 \
        "$IMAGE" "${IDLE[@]}"
    local pid
    pid=$(pid_of)
    is_limit "$pid" memory memory.limit_in_bytes 67108864 memory.max 67108864
    is_limit "$pid" memory memory.memsw.limit_in_bytes 100663296 memory.swap.max 33554432
    is_limit "$pid" cpu cpu.cfs_quota_us 50000 cpu.max '50000 100000'
    is_limit "$pid" cpu cpu.shares 512 cpu.weight '20|59'
    is_limit "$pid" cpuset cpuset.cpus 0 cpuset.cpus 0
    is_limit "$pid" pids pids.max 123 pids.max 123
}

C19() { # limits: seen inside in /sys/fs/cgroup, not to be raised
    detached --memory 64m "$IMAGE" "${IDLE[@]}"
    local file=/sys/fs/cgroup/memory/memory.limit_in_bytes
    unified && file=/sys/fs/cgroup/memory.max
    is "$(engine exec "$NAME" cat "$file")" 67108864 "$file"
    status 1 engine exec "$NAME" sh -c "echo 134217728 > $file"
    like "$OUT" 'Read-only' 'writing it'
}

C20() { # pids limit: the next fork fails, the container lives
    detached --pids-limit 8 "$IMAGE" "${IDLE[@]}"
    status 2 engine exec "$NAME" sh -c 'for n in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done'
    like "$OUT" "can't fork" 'the shell'
    state_is Running true || fail 'the container is gone'
    between "$(limit "$(pid_of)" pids pids.current pids.current)" 1 8 pids.current
}

# saw_oom: conmon 2.1 notes it in a file in podman's working directory, where podman 4.3 does not look.
saw_oom() { state_is OOMKilled true || [[ -e $WORK/oom ]]; }

C21() { # memory limit: the process is OOM-killed and the engine knows
    needs_swap_accounting
    rm -f "$WORK/oom"
    # The shim asks for news of OOM kills after the runtime's start has returned: a kill before that nobody would see.
    detached --memory 24m --memory-swap 24m "$IMAGE" \
        sh -c 'until [ -e /go ]; do sleep 0.05; done; dd if=/dev/zero of=/dev/null bs=96M count=1; echo "dd ended with $?"; while :; do sleep 0.1; done'
    status 0 engine exec "$NAME" touch /go
    wait_for 20 'the end of dd' has_logged 'dd ended with 137'
    engine kill "$NAME"
    wait_for 20 'the end' state_is Running false
    wait_for 20 'the engine to notice' saw_oom
}

C22() { # --read-only: the root cannot be written, a tmpfs can
    status 1 once --read-only "$IMAGE" touch /file
    like "$OUT" 'Read-only file system' 'touch /file'
    status 0 once --read-only --tmpfs /scratch "$IMAGE" touch /scratch/file
}

C23() { # -v: read-write, read-only, with the mounts below
    local directory=$WORK/volume-$NAME
    mkdir -p "$directory/below"
    mount -t tmpfs -o size=64k,mode=1777 below "$directory/below"
    # shellcheck disable=SC2064
    trap "umount '$directory/below'; rm -rf '$directory'" EXIT
    echo from-host >"$directory/file"
    echo deep >"$directory/below/file"
    status 0 once -v "$directory:/mnt" "$IMAGE" sh -c 'cat /mnt/file /mnt/below/file && echo from-inside >/mnt/answer'
    is "$OUT" $'from-host\ndeep' 'what is read inside'
    is "$(<"$directory/answer")" from-inside 'what was written inside'
    status 1 once -v "$directory:/mnt:ro" "$IMAGE" touch /mnt/other
    like "$OUT" 'Read-only file system' 'writing a read-only volume'
    status 0 once -v "$directory/file:/etc/one:ro" "$IMAGE" cat /etc/one
    is "$OUT" from-host 'a single file'
}

C24() { # -v: a named volume outlives the container
    engine volume create "$NAME" >/dev/null
    once -v "$NAME:/data" "$IMAGE" sh -c 'echo kept >/data/file'
    status 0 once -v "$NAME:/data" "$IMAGE" cat /data/file
    engine volume rm "$NAME" >/dev/null
    is "$OUT" kept 'the file'
}

C25() { # --tmpfs: flags, mode and size hold
    status 0 once --tmpfs /t:size=1m,mode=1750,noexec "$IMAGE" sh -c 'grep " /t " /proc/mounts; stat -c %a /t'
    like "$OUT" 'noexec.*size=1024k' 'mount options'
    like "$OUT" '1750' 'mode'
    status 1 once --tmpfs /t:size=1m "$IMAGE" dd if=/dev/zero of=/t/file bs=64k count=32
    like "$OUT" 'No space left on device' 'filling it'
}

C26() { # -u: user, group and additional groups
    like "$(once -u web "$IMAGE" id)" 'uid=1000\(web\) gid=1000\(web\) groups=.*1234\(extra\)' 'by name'
    like "$(once -u 4242:4343 "$IMAGE" id)" 'uid=4242.* gid=4343' 'by number'
    like "$(once -u web --group-add 777 "$IMAGE" id -G)" '777' 'additional group'
    is "$(once -u web "$IMAGE" sh -c 'echo $HOME')" /home/web HOME
}

C27() { # capabilities: none, one, and the default set
    local text
    text=$(once --cap-drop ALL "$IMAGE" cat /proc/self/status)
    is "$(field "$text" CapEff)/$(field "$text" CapBnd)" 0000000000000000/0000000000000000 'all dropped'
    text=$(once --cap-drop ALL --cap-add NET_BIND_SERVICE "$IMAGE" cat /proc/self/status)
    is "$(field "$text" CapEff)/$(field "$text" CapBnd)" 0000000000000400/0000000000000400 'one added'
    text=$(once "$IMAGE" cat /proc/self/status)
    is "$(field "$text" CapEff)" "$DEFAULT_CAPABILITIES" 'default'
    text=$(once --cap-drop CHOWN "$IMAGE" chown web /tmp 2>&1) && fail 'chown without CAP_CHOWN'
    like "$text" 'Operation not permitted' 'chown without CAP_CHOWN'
}

C28() { # seccomp: the default profile allows and refuses by argument
    # personality(2) with ADDR_NO_RANDOMIZE needs no privilege; the default profiles know five other values.
    status 0 once --security-opt seccomp=unconfined "$DEBIAN" setarch -R true
    status 1 once "$DEBIAN" setarch -R true
    like "$OUT" 'Operation not permitted|Function not implemented' 'setarch -R'
    status 0 once "$DEBIAN" setarch linux32 true
    is "$(field "$(once "$IMAGE" cat /proc/self/status)" Seccomp)" 2 'seccomp mode'
}

C29() { # seccomp: a profile of one's own, errno and argument rule
    local profile=$WORK/seccomp-$NAME.json
    cat >"$profile" <<'JSON'
{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
 {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
 {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]}]}
JSON
    status 1 once --security-opt "seccomp=$profile" "$IMAGE" mkdir /tmp/x
    like "$OUT" 'Operation not supported|Not supported' 'mkdir'
    status 1 once --security-opt "seccomp=$profile" "$IMAGE" sh -c 'sleep 5 & kill -0 $! && kill -USR1 $!'
    like "$OUT" 'Operation not permitted' 'kill -USR1'
}

C30() { # no-new-privileges
    is "$(field "$(once "$IMAGE" cat /proc/self/status)" NoNewPrivs)" 0 'without'
    is "$(field "$(once --security-opt no-new-privileges "$IMAGE" cat /proc/self/status)" NoNewPrivs)" 1 'with'
}

C31() { # --ulimit: soft and hard, also for exec
    detached --ulimit nofile=100:200 --ulimit core=0:0 "${OTHER_ULIMITS[@]}" "$IMAGE" "${IDLE[@]}"
    is "$(engine exec "$NAME" sh -c 'echo $(ulimit -Sn) $(ulimit -Hn) $(ulimit -c)')" '100 200 0' 'in exec'
    like "$(<"/proc/$(pid_of)/limits")" 'Max open files +100 +200' 'of the first process'
}

C32() { # --sysctl: set in the container, not on the host
    local before
    before=$(</proc/sys/kernel/msgmax)
    is "$(once --sysctl kernel.msgmax=4321 --sysctl net.ipv4.ip_default_ttl=77 "$IMAGE" \
        cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_default_ttl)" $'4321\n77' 'inside'
    is "$(</proc/sys/kernel/msgmax)" "$before" 'on the host'
}

C33() { # --device: there with its rights, and only it
    status 0 once --device /dev/zero:/dev/mine:r "$IMAGE" sh -c 'head -c 3 /dev/mine | wc -c'
    is "$OUT" 3 'reading'
    status 1 once --device /dev/kmsg:/dev/mine:r "$IMAGE" sh -c 'echo x >/dev/mine'
    like "$OUT" 'Operation not permitted' 'writing a read-only device'
    status 1 once "$IMAGE" sh -c 'mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg'
    like "$OUT" 'Operation not permitted' 'a device that is not allowed'
    is "$(once "$IMAGE" sh -c 'echo x >/dev/null; head -c 2 /dev/urandom | wc -c; test -c /dev/tty && echo tty')" \
        $'2\ntty' 'the default devices'
}

C34() { # --init: reaps orphans, passes the status on
    detached --init "$IMAGE" sh -c 'sh -c "sleep 0.1 & exec true"; sleep 0.5; ps; echo listed; exec sleep 1000'
    wait_for 20 'the shell' has_logged listed
    unlike "$(engine logs "$NAME")" '\[sleep\]|defunct| Z ' 'a zombie'
    unlike "$(engine exec "$NAME" cat /proc/1/cmdline | tr '\0' ' ')" '^sh ' 'the first process'
    status 9 once --init "$IMAGE" sh -c 'exit 9'
}

C35() { # restart: the same container, a new process
    detached "$IMAGE" "${IDLE[@]}"
    local pid
    pid=$(pid_of)
    engine exec "$NAME" touch /kept
    engine restart -t 10 "$NAME"
    isnt "$(pid_of)" "$pid" 'pid after restart'
    status 0 engine exec "$NAME" ls /kept
}

# was_restarted TIMES: so often, and is over.
was_restarted() { [[ $(inspect '{{.RestartCount}} {{.State.Running}}') == "$1 false" ]]; }

C36() { # --restart on-failure: started again as often as asked
    detached --restart on-failure:2 "$IMAGE" sh -c 'echo once more; exit 1'
    wait_for 30 'two restarts and the end' was_restarted 2
    is "$(engine logs "$NAME" | wc -l)" 3 'times it ran'
}

top_shows() { engine top "$NAME" | grep -q -- "$1"; }

C37() { # top: the processes
    detached "$IMAGE" sh -c 'sleep 888 & while :; do sleep 0.1; done'
    wait_for 20 'sleep 888 in top' top_shows 'sleep 888'
}

C38() { # stats: memory, its limit, and pids
    detached --memory 64m "$IMAGE" "${IDLE[@]}"
    local text
    text=$(engine stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' "$NAME")
    like "$text" '^[0-9.]+[kKM]i?B / (64MiB|67.11MB) [1-9]' 'stats'
}

C39() { # host namespaces: pid, ipc and uts are the host's
    is "$(once --pid host --ipc host --uts host "$IMAGE" "${NAMESPACES[@]}" pid ipc uts)" \
        "$(readlink /proc/$$/ns/pid /proc/$$/ns/ipc /proc/$$/ns/uts)" 'namespaces'
}

C40() { # shared namespaces: pid, network, ipc of another container
    detached --ipc shareable "$IMAGE" "${IDLE[@]}"
    local pid text
    pid=$(pid_of)
    text=$(engine "${RUN[@]/--network=none/--network=container:$NAME}" --rm --pid "container:$NAME" --ipc "container:$NAME" \
        "$IMAGE" "${NAMESPACES[@]}" pid net ipc)
    is "$text" "$(readlink "/proc/$pid/ns/pid" "/proc/$pid/ns/net" "/proc/$pid/ns/ipc")" 'namespaces'
}

C41() { # masked and read-only paths, hostname, umask, loopback up
    once "$IMAGE" sh -c 'cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c' | grep -qx 0 ||
        fail 'a masked file can be read'
    status 1 once "$IMAGE" sh -c 'echo 1 >/proc/sys/kernel/msgmax'
    like "$OUT" 'Read-only' '/proc/sys'
    is "$(once --hostname there "$IMAGE" sh -c 'hostname; umask')" $'there\n0022' 'hostname, umask'
    status 0 once "$IMAGE" ping -c 1 -W 2 127.0.0.1
}

C42() { # --oom-score-adj, --shm-size
    is "$(once --oom-score-adj 500 "$IMAGE" cat /proc/self/oom_score_adj)" 500 'oom_score_adj'
    like "$(once --shm-size 2m "$IMAGE" grep ' /dev/shm ' /proc/mounts)" 'size=2048k' '/dev/shm'
}

C43() { # --privileged: every device, writable /sys, no seccomp
    has_capability 24 || skip 'root lacks CAP_SYS_RESOURCE, which the engine would have to give'
    status 0 once --privileged "$IMAGE" sh -c 'test -c /dev/kmsg && mount -t tmpfs t /mnt && grep Seccomp: /proc/self/status'
    like "$OUT" 'Seccomp:.*0' 'seccomp mode'
}

C44() { # twenty containers at once start, answer, end
    local n jobs=() job
    for n in {1..20}; do
        detached_as "$NAME-$n" --memory 32m "$IMAGE" "${IDLE[@]}" &
        jobs+=("$!")
    done
    for job in "${jobs[@]}"; do wait "$job" || fail 'one did not start'; done
    jobs=()
    for n in {1..20}; do
        (is "$(engine exec "$NAME-$n" echo "I am $n")" "I am $n" "exec in container $n") &
        jobs+=("$!")
    done
    for job in "${jobs[@]}"; do wait "$job" || fail 'one did not answer'; done
    engine stop -t 10 $(seq -f "$NAME-%g" 1 20) >/dev/null
    for n in {1..20}; do
        is "$(inspect '{{.State.Running}} {{.State.ExitCode}}' "$NAME-$n")" 'false 0' "end of container $n"
    done
}

C45() { # nginx from Debian answers on loopback, reloads, stops
    local port
    port=$(free_port)
    printf 'worker_processes 2; pid /run/nginx.pid; events {}
http { server { listen 127.0.0.1:%s; location / { return 200 "served by nginx\\n"; } } }\n' "$port" >"$WORK/nginx-$NAME.conf"
    engine "${RUN[@]/--network=none/--network=host}" -d --name "$NAME" -v "$WORK/nginx-$NAME.conf:/etc/nginx/nginx.conf:ro" \
        --memory 128m --read-only --tmpfs /run --tmpfs /var/lib/nginx --tmpfs /var/log/nginx \
        "$DEBIAN" nginx -g 'daemon off;' >/dev/null
    wait_for 20 'an answer' answers "$port" 'GET / HTTP/1.0\r\n\r\n' 'served by nginx'
    engine exec "$NAME" nginx -s reload
    wait_for 20 'an answer after reload' answers "$port" 'GET / HTTP/1.0\r\n\r\n' 'served by nginx'
    engine stop -t 20 "$NAME" >/dev/null
    is "$(inspect '{{.State.ExitCode}}')" 0 'status'
}

C46() { # redis from Debian answers on loopback
    local port
    port=$(free_port)
    engine "${RUN[@]/--network=none/--network=host}" -d --name "$NAME" --user redis -w /var/lib/redis --cap-drop ALL \
        "$DEBIAN" redis-server --bind 127.0.0.1 --port "$port" --save '' --appendonly no >/dev/null
    wait_for 20 'PONG' answers "$port" 'PING\r\nQUIT\r\n' PONG
    like "$(ask "$port" 'SET hive full\r\nGET hive\r\nQUIT\r\n')" full 'the value'
    engine stop -t 20 "$NAME" >/dev/null
    is "$(inspect '{{.State.ExitCode}}')" 0 'status'
}

C47() { # no stray descriptor, signal or variable gets in
    local pid text
    detached "$IMAGE" sleep 1000
    pid=$(pid_of)
    text=$(<"/proc/$pid/status")
    is "$(field "$text" SigBlk)/$(field "$text" SigIgn)" 0000000000000000/0000000000000000 'signals of the first process'
    is "$(find "/proc/$pid/fd" -mindepth 1 -printf '%f\n' | sort -n | tr '\n' ' ')" '0 1 2 ' \
        'descriptors of the first process'
    is "$(tr '\0' '\n' <"/proc/$pid/environ" | sed 's/=.*//' | grep -vxE 'PATH|HOME|HOSTNAME|TERM|container' || true)" '' \
        'variables of the first process'
    text=$(engine exec "$NAME" cat /proc/self/status)
    is "$(field "$text" SigBlk)/$(field "$text" SigIgn)" 0000000000000000/0000000000000000 'signals of exec'
    is "$(engine exec "$NAME" ls /proc/self/fd | tr '\n' ' ')" '0 1 2 3 ' 'descriptors of exec, with that of ls'
    is "$(engine exec "$NAME" env | sed 's/=.*//' | grep -vxE 'PATH|HOME|HOSTNAME|TERM|container' || true)" '' \
        'variables of exec'
}

C48() { # twenty exec at once in one container
    local n jobs=() job
    detached "$IMAGE" "${IDLE[@]}"
    for n in {1..20}; do
        (is "$(engine exec "$NAME" sh -c "echo I am $n; exit 0")" "I am $n" "exec $n") &
        jobs+=("$!")
    done
    for job in "${jobs[@]}"; do wait "$job" || fail 'one did not answer'; done
}

C49() { # the end of a container ends what exec started
    local client got=0
    detached "$IMAGE" "${IDLE[@]}"
    "${ENGINE[@]}" exec "$NAME" sh -c 'touch /tmp/running; sleep 1000' &
    client=$!
    wait_for 20 'the exec' engine exec "$NAME" ls /tmp/running
    engine kill "$NAME" >/dev/null
    wait "$client" || got=$?
    is "$got" 137 'status of exec'
}

C50() { # mount propagation: rslave follows the host
    local directory=$WORK/tree-$NAME
    mkdir -p "$directory"
    mount --bind "$directory" "$directory"
    mount --make-shared "$directory"
    mkdir "$directory/new"
    # shellcheck disable=SC2064
    trap "umount '$directory/new'; umount '$directory'; rm -rf '$directory'" EXIT
    detached_as "$NAME-slave" -v "$directory:/mnt:rslave" "$IMAGE" "${IDLE[@]}"
    detached_as "$NAME-private" -v "$directory:/mnt:rprivate" "$IMAGE" "${IDLE[@]}"
    mount -t tmpfs propagated "$directory/new"
    like "$(engine exec "$NAME-slave" cat /proc/mounts)" 'propagated /mnt/new' 'mounts of the slave'
    unlike "$(engine exec "$NAME-private" cat /proc/mounts)" 'propagated' 'mounts of the private one'
    engine rm -f "$NAME-slave" "$NAME-private" >/dev/null
}

C51() { # forty volumes, a long command line and environment
    local n flags=() long
    long=$(head -c 60000 /dev/zero | tr '\0' x)
    for n in {1..40}; do flags+=(-v "$WORK/busybox.tar:/v/$n:ro"); done
    status 0 once "${flags[@]}" -e "LONG=$long" "$IMAGE" sh -c 'ls /v | wc -l; echo ${#LONG} ${#1}' sh "$long"
    is "$OUT" $'40\n60000 60000' 'output'
}
