# shellcheck shell=bash
# containerd: one of our own (docker uses it too), and the checks through its own client, ctr.

containerd_daemon() {
    mkdir -p "$WORK/containerd/fifo"
    cat >"$WORK/containerd/config.toml" <<TOML
version = 2
root = "$WORK/containerd/root"
state = "$WORK/containerd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$WORK/containerd/socket"
TOML
    CTR=(timeout --foreground -k 5 $((60 * PATIENCE)) ctr --address "$WORK/containerd/socket")
    ENGINE_VERSION["containerd"]=$(containerd --version | awk '{ print $3 }')
    containerd --config "$WORK/containerd/config.toml" >"$WORK/containerd/log" 2>&1 &
    CONTAINERD=$!
    (wait_for 60 'containerd' "${CTR[@]}" version) ||
        die "containerd does not answer: $(tail -n 5 "$WORK/containerd/log")"
}

containerd_start() {
    containerd_daemon
    oci_layout "$WORK/busybox.tar" localhost/e-busybox:latest "$WORK/oci.tar"
    "${CTR[@]}" image import "$WORK/oci.tar" >/dev/null
    if wants_debian; then
        oci_layout "$DEBIAN_TAR" localhost/e-debian:latest "$WORK/oci.tar"
        "${CTR[@]}" image import "$WORK/oci.tar" >/dev/null
    fi
    rm -f "$WORK/oci.tar"
    CONTAINERD_MOUNTS=$(our_mounts)
}

containerd_stop() {
    [[ -n ${CONTAINERD:-} ]] || return 0
    stop_process "$CONTAINERD" 30
    CONTAINERD=
}

containerd_use() {
    IMAGE=localhost/e-busybox:latest
    DEBIAN=localhost/e-debian:latest
    CTR_RUN=(run --runc-binary "$RUNTIME" --runc-root "$WORK/containerd/runc-$RUNTIME_NAME" --fifo-dir "$WORK/containerd/fifo")
    [[ $DRIVER == cgroupfs ]] || CTR_RUN+=(--runc-systemd-cgroup)
}

# shim_sockets: those of the shims of our containerd, which it has outside its own directories.
shim_sockets() {
    cat "$WORK"/{containerd,cri}/state/io.containerd.runtime.v2.task/*/*/address 2>/dev/null | sed 's#unix://#\n#g' || true
}

# containerd_sweep NAME: removes what a check has left.
containerd_sweep() {
    local left
    for left in $("${CTR[@]}" container ls -q | grep "^$1"); do
        "${CTR[@]}" task rm -f "$left"
        "${CTR[@]}" container rm "$left"
    done
}

ctr_() { "${CTR[@]}" "$@"; }

# ctr_once FLAG... -- COMMAND...: runs a container in the foreground.
ctr_once() { ctr_container --rm "$@"; }
ctr_detached() { ctr_container -d "$@"; }

ctr_container() {
    local flags=()
    while [[ $1 != -- ]]; do
        flags+=("$1")
        shift
    done
    shift
    ctr_ "${CTR_RUN[@]}" --cgroup "$(ctr_cgroup)" "${flags[@]}" "$IMAGE" "$NAME" "$@"
}

# ctr_cgroup: what the specification says of the container's cgroup.
ctr_cgroup() { if [[ $DRIVER == systemd ]]; then printf '%s:ctr:%s' "$CGROUP" "$NAME"; else printf '/%s/%s' "$CGROUP" "$NAME"; fi; }

ctr_exec() { ctr_ task exec --fifo-dir "$WORK/containerd/fifo" --exec-id "x$RANDOM$RANDOM" "$@"; }
# ctr_output [FLAG...] NAME COMMAND...: what the command prints. It lives a moment longer than that takes, for of a program that
# ends at once ctr loses the output now and then, whatever the runtime (containerd's pull request 13931 mends it).
ctr_output() {
    local flags=()
    while [[ $1 != "$NAME" ]]; do flags+=("$1"); shift; done
    shift
    ctr_exec "${flags[@]}" "$NAME" sh -c '"$@"; status=$?; sleep 0.3; exit $status' sh "$@"
}
ctr_pid() { ctr_ task ls | awk -v name="$NAME" '$1 == name { print $2 }'; }
ctr_state() { ctr_ task ls | awk -v name="$NAME" '$1 == name { print $3 }'; }
ctr_is() { [[ $(ctr_state) == "$1" ]]; }

T01() { # run: output, and status 0, 1 and 42
    status 0 ctr_once -- echo hello
    is "$OUT" hello 'output'
    status 1 ctr_once -- false
    status 42 ctr_once -- sh -c 'exit 42'
}

T02() { # run: a command missing or not executable says so
    status 1 ctr_once -- nosuch
    like "$OUT" 'executable file not found in \$PATH' 'the reason'
    status 1 ctr_once -- /etc/text
    like "$OUT" 'permission denied' 'the reason'
    like "$OUT" 'OCI runtime create failed' 'whose failure it is'
}

T03() { # run: 137 after SIGKILL
    local got=0 client
    ctr_once -- sleep 1000 >/dev/null 2>&1 &
    client=$!
    wait_for 20 'the task' ctr_is RUNNING
    ctr_ task kill -s KILL "$NAME"
    wait "$client" || got=$?
    is "$got" 137 'status'
}

T04() { # run: input goes in, output comes out
    # ctr 1.6 never closes the input, so the container counts what it takes.
    is "$(seq 1 20000 | ctr_once -- sh -c 'head -n 20000 | md5sum')" "$(seq 1 20000 | md5sum)" 'what came in'
    is "$(ctr_once -- seq 1 20000 | md5sum)" "$(seq 1 20000 | md5sum)" 'what came out'
}

T05() { # run -t: a terminal, what is typed, the status
    local got=0 client
    open_keyboard
    pty 24 80 "${CTR[@]}" "${CTR_RUN[@]}" --rm -t "$IMAGE" "$NAME" sh >/dev/null &
    client=$!
    wait_for 20 'a prompt' shown '# '
    type_line 'tty; echo sum $((40 + 2))'
    wait_for 20 'the answer' shown 'sum 42'
    wait_for 20 'the terminal' shown '/dev/pts/0'
    type_line 'exit 5'
    wait "$client" || got=$?
    is "$got" 5 'status'
}

T06() { # exec: output, status, a command that is not there
    ctr_detached -- "${IDLE[@]}"
    status 7 ctr_exec "$NAME" sh -c 'echo out; exit 7'
    is "$OUT" out 'output'
    status 1 ctr_exec "$NAME" nosuch
    like "$OUT" 'executable file not found in \$PATH' 'the reason'
}

T07() { # exec: user and directory
    ctr_detached --env ONE=1 -- "${IDLE[@]}"
    like "$(ctr_output --user 1000:1000 "$NAME" id)" 'uid=1000\(web\) gid=1000\(web\)' 'user'
    is "$(ctr_output --cwd /tmp "$NAME" sh -c 'echo $ONE $PWD')" '1 /tmp' 'environment, directory'
}

T08() { # exec -t: a terminal of its own
    ctr_detached -- "${IDLE[@]}"
    open_keyboard
    like "$(pty 24 80 "${CTR[@]}" task exec --fifo-dir "$WORK/containerd/fifo" -t --exec-id terminal "$NAME" \
        sh -c 'tty; sleep 0.3')" '/dev/pts/[0-9]' 'terminal'
}

T09() { # kill: SIGTERM, and a signal the container handles
    ctr_detached -- sh -c 'trap "touch /tmp/usr1" USR1; trap "exit 3" TERM; touch /tmp/ready; while :; do sleep 0.1; done'
    wait_for 20 'the traps' ctr_exec "$NAME" ls /tmp/ready
    ctr_ task kill -s USR1 "$NAME"
    wait_for 20 'SIGUSR1' ctr_exec "$NAME" ls /tmp/usr1
    ctr_ task kill -s TERM "$NAME"
    wait_for 20 'the end' ctr_is STOPPED
    like "$(ctr_ task rm "$NAME" 2>&1)" 'exit code 3' 'status'
}

T10() { # pause, resume
    ctr_detached -- "${IDLE[@]}"
    local pid
    pid=$(ctr_pid)
    ctr_ task pause "$NAME"
    frozen "$pid" || fail 'the cgroup is not frozen'
    is "$(ctr_state)" PAUSED 'state'
    ctr_ task resume "$NAME"
    is "$(ctr_state)" RUNNING 'state'
    is "$(ctr_output "$NAME" echo alive)" alive 'exec after resume'
}

T11() { # limits: memory and cpu arrive in the cgroup
    ctr_detached --memory-limit 67108864 --cpu-quota 50000 --cpu-period 100000 -- "${IDLE[@]}"
    local pid
    pid=$(ctr_pid)
    is_limit "$pid" memory memory.limit_in_bytes 67108864 memory.max 67108864
    is_limit "$pid" cpu cpu.cfs_quota_us 50000 cpu.max '50000 100000'
}

T12() { # metrics: memory, limit, cpu and pids
    ctr_detached --memory-limit 67108864 -- "${IDLE[@]}"
    local text
    text=$(ctr_ task metrics "$NAME")
    like "$text" 'pids.current +[1-9]' 'pids'
    like "$text" '67108864' 'memory limit'
    like "$text" 'memory.usage(_in_bytes)? +[1-9]' 'memory usage'
    like "$text" 'cpuacct.usage +[1-9]|cpu.usage_usec +[1-9]|usage_usec +[1-9]' 'cpu'
}

T13() { # task ps: the processes, those of exec too
    ctr_detached -- "${IDLE[@]}"
    ctr_exec -d "$NAME" sleep 777
    like "$(ctr_ task ps "$NAME")" "(^|[^0-9])$(ctr_pid) " 'the first process'
    ((2 <= $(ctr_ task ps "$NAME" | tail -n +2 | wc -l))) || fail 'less than two processes'
}

T14() { # memory limit: containerd sends the OOM event
    local events=$WORK/events-$NAME watcher
    ctr_ events >"$events" 2>&1 &
    watcher=$!
    # As in C21: not before the shim listens.
    ctr_detached --memory-limit 25165824 -- \
        sh -c 'until [ -e /go ]; do sleep 0.05; done; dd if=/dev/zero of=/dev/null bs=96M count=1; while :; do sleep 0.1; done'
    ctr_exec "$NAME" touch /go
    wait_for 20 'the OOM event' grep -q "/tasks/oom.*$NAME" "$events" || true
    kill "$watcher" || true
    wait "$watcher" || true
    grep -q "/tasks/oom.*$NAME" "$events" || fail "no OOM event: $(tail -n 3 "$events")"
}

T15() { # --read-only, --mount read-write and read-only
    local directory=$WORK/volume-$NAME
    mkdir -p "$directory"
    status 1 ctr_once --read-only -- touch /file
    like "$OUT" 'Read-only file system' 'touch /file'
    status 0 ctr_once --mount "type=bind,src=$directory,dst=/mnt,options=rbind:rw" -- touch /mnt/file
    [[ -e $directory/file ]] || fail 'the file is not on the host'
    status 1 ctr_once --mount "type=bind,src=$directory,dst=/mnt,options=rbind:ro" -- touch /mnt/other
    like "$OUT" 'Read-only file system' 'a read-only mount'
}

T16() { # --env, --cwd
    is "$(ctr_once --env GREETING=hi --cwd /var -- sh -c 'echo $GREETING $PWD')" 'hi /var' 'output'
}

T17() { # capabilities, no new privileges
    local text
    text=$(ctr_once -- cat /proc/self/status)
    is "$(field "$text" CapEff)" 00000000a80425fb 'default'
    is "$(field "$text" NoNewPrivs)" 1 NoNewPrivs
    text=$(ctr_once --cap-drop CAP_CHOWN --cap-add CAP_SYS_TIME -- cat /proc/self/status)
    is "$(field "$text" CapEff)" 00000000aa0425fa 'one dropped, one added'
    is "$(field "$(ctr_once --allow-new-privs -- cat /proc/self/status)" NoNewPrivs)" 0 'NoNewPrivs allowed'
}

T18() { # seccomp: the default profile blocks a system call
    status 0 ctr_once -- unshare -U true
    status 1 ctr_once --seccomp -- unshare -U true
    like "$OUT" 'Operation not permitted' 'unshare'
}

T19() { # --device: the one given, and no other
    status 0 ctr_once --device /dev/kmsg -- test -c /dev/kmsg
    status 1 ctr_once -- sh -c 'mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg'
    like "$OUT" 'Operation not permitted' 'a device that is not allowed'
    is "$(ctr_once -- sh -c 'head -c 3 /dev/full | wc -c; echo x >/dev/null && echo null')" $'3\nnull' 'default devices'
}

T20() { # namespaces: the host's, given by path, own with loopback up
    is "$(ctr_once --net-host -- readlink /proc/self/ns/net)" "$(readlink /proc/$$/ns/net)" 'host network'
    status 0 ctr_once -- ping -c 1 -W 2 127.0.0.1
    ctr_detached -- "${IDLE[@]}"
    local pid first=$NAME
    pid=$(ctr_pid)
    NAME=$first-2
    is "$(ctr_once --with-ns "network:/proc/$pid/ns/net" --with-ns "uts:/proc/$pid/ns/uts" -- \
        "${NAMESPACES[@]}" net uts)" "$(readlink "/proc/$pid/ns/net" "/proc/$pid/ns/uts")" 'namespaces by path'
}

T21() { # --config: what the runtime prints with `spec`, in a user namespace
    local directory=$WORK/spec-$NAME
    mkdir -p "$directory/rootfs"
    tar -C "$directory/rootfs" -xf "$WORK/busybox.tar"
    chown -R 100000:100000 "$directory/rootfs"
    (cd "$directory" && "$RUNTIME" spec)
    jq --arg root "$directory/rootfs" --arg cgroup "$(ctr_cgroup)" '.process.terminal = false
        | .process.args = ["sh", "-c", "id -u; cat /proc/self/uid_map; hostname"]
        | .root.path = $root | .hostname = "mapped" | .linux.cgroupsPath = $cgroup
        | .linux.namespaces += [{type: "user"}]
        | .linux.uidMappings = [{containerID: 0, hostID: 100000, size: 65536}]
        | .linux.gidMappings = .linux.uidMappings' "$directory/config.json" >"$directory/own.json"
    status 0 ctr_ "${CTR_RUN[@]}" --rm --config "$directory/own.json" "$NAME"
    rm -rf "$directory"
    like "$OUT" '^0[^0-9]+0 +100000 +65536[^0-9]+mapped$' 'uid, map and host name'
}

T22() { # --privileged
    status 0 ctr_once --privileged -- sh -c 'mount -t tmpfs t /mnt && test -w /proc/sys/kernel/msgmax && echo fine'
    is "$OUT" fine 'output'
}

T23() { # task start: again, after the task was removed
    ctr_detached -- "${IDLE[@]}"
    local pid
    pid=$(ctr_pid)
    ctr_ task rm -f "$NAME" >/dev/null 2>&1
    ctr_ task start -d --fifo-dir "$WORK/containerd/fifo" "$NAME"
    isnt "$(ctr_pid)" "$pid" 'pid'
    is "$(ctr_output "$NAME" echo alive)" alive 'exec'
}

T24() { # the shim is killed: the runtime is told to clean up
    ctr_detached -- "${IDLE[@]}"
    local pid shim sockets
    pid=$(ctr_pid)
    shim=$(ours "containerd-shim.*-id $NAME ")
    sockets=$(shim_sockets)
    kill -KILL "$shim"
    wait_for 20 'the end of the container' sh -c "! kill -0 $pid"
    wait_for 20 'the end of the task' nothing ctr_state
    # Its socket, in a directory that all containerds share, is nobody's now.
    xargs rm -f <<<"$sockets"
}

T25() { # many containers at once start, answer, end
    local n jobs=() job name=$NAME
    for ((n = 1; n <= AT_ONCE; n++)); do
        NAME=$name-$n ctr_detached --memory-limit 33554432 -- "${IDLE[@]}" &
        jobs+=("$!")
    done
    for job in "${jobs[@]}"; do wait "$job" || fail 'one did not start'; done
    jobs=()
    for ((n = 1; n <= AT_ONCE; n++)); do
        (status "$n" ctr_exec "$name-$n" sh -c "exit $n") &
        jobs+=("$!")
    done
    for job in "${jobs[@]}"; do wait "$job" || fail 'one did not answer'; done
    for ((n = 1; n <= AT_ONCE; n++)); do ctr_ task kill "$name-$n"; done
    for ((n = 1; n <= AT_ONCE; n++)); do NAME=$name-$n && wait_for 20 "the end of container $n" ctr_is STOPPED; done
}

T26() { # nginx from Debian answers on loopback, stops
    local port
    port=$(free_port)
    printf 'daemon off; worker_processes 1; pid /run/nginx.pid; events {}
http { server { listen 127.0.0.1:%s; location / { return 200 "served by nginx\\n"; } } }\n' "$port" >"$WORK/nginx-$NAME.conf"
    IMAGE=$DEBIAN
    ctr_detached --net-host --mount "type=bind,src=$WORK/nginx-$NAME.conf,dst=/etc/nginx/nginx.conf,options=bind:ro" -- nginx
    wait_for 20 'an answer' answers "$port" 'GET / HTTP/1.0\r\n\r\n' 'served by nginx'
    ctr_ task kill -s TERM "$NAME"
    wait_for 20 'the end' ctr_is STOPPED
    unlike "$(ctr_ task rm "$NAME" 2>&1)" 'non-zero' 'status'
}

# replaced FILE: the runtime of that name is another file with the same content now, as after an upgrade.
replaced() {
    local before
    before=$(stat -c %i "$1")
    cp "$RUNTIME" "$1.new"
    mv "$1.new" "$1"
    isnt "$(stat -c %i "$1")" "$before" 'the file'
}

T27() { # another file takes the runtime's place: what runs is still governed
    local directory=$WORK/replaced-$NAME pid path
    mkdir -p "$directory"
    path=$directory/$RUNTIME_NAME
    cp "$RUNTIME" "$path"
    CTR_RUN[2]=$path
    ctr_detached --memory-limit 67108864 -- "${IDLE[@]}"
    ctr_exec -d "$NAME" sleep 777
    pid=$(ctr_pid)
    replaced "$path"
    is "$(ctr_output "$NAME" echo alive)" alive 'exec'
    ctr_ task pause "$NAME"
    frozen "$pid" || fail 'the cgroup is not frozen'
    ctr_ task resume "$NAME"
    like "$(ctr_ task metrics "$NAME")" 'pids.current +[2-9]' 'metrics'
    ctr_ task kill -s TERM "$NAME"
    wait_for 20 'the end' ctr_is STOPPED
    status 0 ctr_ task rm "$NAME"
    rm -rf "$directory"
}

T28() { # the systemd driver: a scope that systemd knows, with its limits
    [[ $DRIVER == systemd ]] || skip 'not with cgroupfs'
    ctr_detached --memory-limit 67108864 -- "${IDLE[@]}"
    in_scope "ctr-$NAME" "$(ctr_pid)"
    is "$(systemctl show -P MemoryMax "ctr-$NAME.scope")" 67108864 MemoryMax
    systemctl daemon-reload
    is_limit "$(ctr_pid)" memory - - memory.max 67108864
    is "$(ctr_output "$NAME" sh -c 'echo x >/dev/null && head -c 2 /dev/zero | wc -c')" 2 'devices after a reload'
    ctr_ task kill -s KILL "$NAME"
    wait_for 20 'the end' ctr_is STOPPED
    ctr_ task rm "$NAME" || true
    wait_for 20 'the end of the unit' nothing systemctl list-units --all --no-legend "ctr-$NAME.scope"
}

T99() { # nothing left: cgroups, mounts, processes, state
    wait_for 20 'shims' nothing ours 'containerd-shim'
    wait_for 20 'cgroups' nothing our_cgroups
    wait_for 20 'runtime state' nothing find "$WORK/containerd/runc-$RUNTIME_NAME/default" -mindepth 1
    wait_for 20 'processes of the runtime' nothing ours '--root '
    is "$(our_mounts)" "$CONTAINERD_MOUNTS" 'mounts'
    is "$(ctr_ container ls -q)" '' 'containers'
}
