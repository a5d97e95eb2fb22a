# shellcheck shell=bash
# Docker: a dockerd and a containerd of our own, and the checks that only docker has.

docker_start() {
    local major
    containerd_daemon
    mkdir -p "$WORK/docker/client"
    printf '{}' >"$WORK/docker/client/config.json"
    DOCKER=/usr/bin/docker
    [[ -x $DOCKER ]] || DOCKER=$(command -v docker)
    export DOCKER_CONFIG=$WORK/docker/client
    ENGINE=(timeout --foreground -k 5 $((60 * PATIENCE)) "$DOCKER" -H "unix://$WORK/docker/socket")
    ENGINE_VERSION["docker"]=$(dockerd --version | sed -E 's/Docker version ([^,]*),.*/\1/')
    # Old versions write a key to /etc/docker unless told another place; new ones refuse the setting.
    major=${ENGINE_VERSION["docker"]%%.*}
    if ((major < 23)); then
        printf '{"experimental": true, "deprecated-key-path": "%s"}' "$WORK/docker/key.json" >"$WORK/docker/daemon.json"
    else
        printf '{"experimental": true}' >"$WORK/docker/daemon.json"
    fi
    dockerd_run
    engine import "$WORK/busybox.tar" e-busybox >/dev/null
    ! wants_debian || engine import "$DEBIAN_TAR" e-debian >/dev/null
    DOCKER_MOUNTS=$(docker_mounts)
}

# dockerd_run: starts it and waits until it answers. A check may start another one after killing the first.
dockerd_run() {
    local runtimes=() index parent=/$CGROUP
    [[ $DRIVER == cgroupfs ]] || parent=$CGROUP
    for index in "${!RUNTIME_PATHS[@]}"; do
        runtimes+=(--add-runtime "e-${RUNTIME_NAMES[index]}=${RUNTIME_PATHS[index]}")
    done
    rm -f "$WORK/docker/pid"
    dockerd --config-file "$WORK/docker/daemon.json" --data-root "$WORK/docker/data" --exec-root "$WORK/docker/exec" \
        --pidfile "$WORK/docker/pid" --host "unix://$WORK/docker/socket" --containerd "$WORK/containerd/socket" \
        --bridge=none --iptables=false --ip6tables=false --exec-opt "native.cgroupdriver=$DRIVER" --live-restore \
        --cgroup-parent "$parent" --default-ulimit nofile=1024:1024 "${runtimes[@]}" >>"$WORK/docker/log" 2>&1 &
    disown
    (wait_for 60 'dockerd' engine version) || die "dockerd does not answer: $(tail -n 5 "$WORK/docker/log")"
}

dockerd_is_gone() { ! kill -0 "$(<"$WORK/docker/pid")"; }

docker_stop() {
    [[ -e $WORK/docker/pid ]] || return 0
    stop_process "$(<"$WORK/docker/pid")" 30
    rm -f "$WORK/docker/pid"
    unset DOCKER_CONFIG
    containerd_stop
}

docker_use() {
    ENGINE=(timeout --foreground -k 5 $((60 * PATIENCE)) "$DOCKER" -H "unix://$WORK/docker/socket")
    RUN=(run --runtime "e-$RUNTIME_NAME" --network=none)
    IMAGE=e-busybox
    DEBIAN=e-debian
    OTHER_ULIMITS=()
    # Docker 20.10 has one status for every failed exec, newer ones may tell a missing command from the rest.
    EXEC_MISSING='126|127'
    ((${ENGINE_VERSION["docker"]%%.*} >= 23)) || EXEC_MISSING=126
    DEFAULT_CAPABILITIES=00000000a80425fb
}

# docker_mounts: ours, less the one that dockerd makes for the host's network and keeps.
docker_mounts() { our_mounts | grep -v '/netns/default$' || true; }

# docker_sweep NAME: removes what a check has left.
docker_sweep() {
    local left
    left=$(engine ps -aq --filter "name=^/$1")
    # shellcheck disable=SC2086
    [[ -z $left ]] || engine rm -f $left
}

D01() { # run: 125 when the runtime refuses for another reason
    status 125 once --sysctl kernel.msgmax=many "$IMAGE" true
    like "$OUT" 'msgmax' 'the reason'
}

D02() { # update: memory, cpu and pids of a running container
    needs_swap_accounting
    detached --memory 64m --memory-swap 64m "$IMAGE" "${IDLE[@]}"
    engine update --memory 96m --memory-swap 128m --cpus 1.5 --cpu-shares 256 --pids-limit 77 "$NAME" >/dev/null
    local pid
    pid=$(pid_of)
    is_limit "$pid" memory memory.limit_in_bytes 100663296 memory.max 100663296
    is_limit "$pid" memory memory.memsw.limit_in_bytes 134217728 memory.swap.max 33554432
    is_limit "$pid" cpu cpu.cfs_quota_us 150000 cpu.max '150000 100000'
    is_limit "$pid" cpu cpu.shares 256 cpu.weight '10|35'
    is_limit "$pid" pids pids.max 77 pids.max 77
    engine update --cpus 0.25 "$NAME" >/dev/null
    is_limit "$pid" cpu cpu.cfs_quota_us 25000 cpu.max '25000 100000'
    is_limit "$pid" memory memory.limit_in_bytes 100663296 memory.max 100663296
}

D03() { # healthcheck: unhealthy, then healthy
    detached --health-cmd 'test -f /tmp/well' --health-interval 0.3s --health-retries 1 --health-timeout 5s \
        "$IMAGE" "${IDLE[@]}"
    wait_for 20 'unhealthy' state_is Health.Status unhealthy
    engine exec "$NAME" touch /tmp/well
    wait_for 20 'healthy' state_is Health.Status healthy
}

D04() { # events: create, start, die and destroy, with the status
    local since until_
    since=$(date +%s)
    once --name "$NAME-events" "$IMAGE" sh -c 'exit 4' || true
    until_=$(($(date +%s) + 1))
    is "$(engine events --since "$since" --until "$until_" --filter "container=$NAME-events" \
        --format '{{.Action}} {{.Actor.Attributes.exitCode}}' | grep -E '^(create|start|die|destroy) ' | tr '\n' ' ')" \
        'create <no value> start <no value> die 4 destroy <no value> ' 'events'
}

D05() { # create, start -a, and once more
    engine create "${RUN[@]:1}" --name "$NAME" "$IMAGE" sh -c 'echo run >>/log; wc -l </log' >/dev/null
    is "$(engine start -a "$NAME")" 1 'first time'
    is "$(engine start -a "$NAME")" 2 'second time'
}

D06() { # run: the client passes signals to the process
    "$DOCKER" -H "unix://$WORK/docker/socket" "${RUN[@]}" --rm --name "$NAME" "$IMAGE" \
        sh -c 'trap "echo caught; exit 6" TERM; echo ready; while :; do sleep 0.1; done' >"$WORK/attached" 2>&1 &
    local client=$! got=0
    wait_for 20 'the trap' grep -q ready "$WORK/attached"
    kill -TERM "$client"
    wait "$client" || got=$?
    is "$got" 6 'status'
    like "$(<"$WORK/attached")" caught 'output'
}

D07() { # cp: in and out of a running container
    detached "$IMAGE" "${IDLE[@]}"
    echo copied >"$WORK/copied"
    engine cp "$WORK/copied" "$NAME:/tmp/copied" >/dev/null
    is "$(engine exec "$NAME" cat /tmp/copied)" copied 'the file inside'
    engine cp "$NAME:/etc/text" "$WORK/copied" >/dev/null
    is "$(<"$WORK/copied")" text 'the file outside'
}

D08() { # SIGKILL from outside: the engine sees 137
    detached "$IMAGE" sh -c 'sleep 1000 & while :; do sleep 0.1; done'
    kill -KILL "$(pid_of)"
    wait_for 20 'the end' state_is Running false
    is "$(inspect '{{.State.ExitCode}}')" 137 'status'
}

D09() { # limits: reservation, swappiness, cpu period, block io
    unified && skip 'these are files of cgroup v1'
    local pid number
    number=$(stat -c %d "$WORK")
    number=$((number >> 8 & 4095)):$((number & 255))
    detached --memory 64m --memory-reservation 32m --memory-swappiness 10 --cpu-period 50000 --cpu-quota 20000 \
        --cpuset-mems 0 "$IMAGE" "${IDLE[@]}"
    pid=$(pid_of)
    is "$(limit "$pid" memory memory.soft_limit_in_bytes -)" 33554432 memory.soft_limit_in_bytes
    is "$(limit "$pid" memory memory.swappiness -)" 10 memory.swappiness
    is "$(limit "$pid" cpu cpu.cfs_period_us -)/$(limit "$pid" cpu cpu.cfs_quota_us -)" 50000/20000 'cpu period and quota'
    is "$(limit "$pid" cpuset cpuset.mems -)" 0 cpuset.mems
    [[ -e /sys/dev/block/$number && ! -e /sys/dev/block/$number/partition ]] || skip 'no whole disk to throttle'
    detached_as "$NAME-2" --device-read-bps "/dev/$(basename "$(readlink "/sys/dev/block/$number")"):1mb" "$IMAGE" "${IDLE[@]}"
    is "$(limit "$(pid_of "$NAME-2")" blkio blkio.throttle.read_bps_device -)" "$number 1048576" 'throttle'
}

D10() { # --cgroupns private: at the root of its cgroups
    is "$(once --cgroupns private "$IMAGE" cat /proc/self/cgroup | sed 's/.*://' | sort -u)" / 'paths in /proc/self/cgroup'
}

D11() { # --device-cgroup-rule, --stop-signal, systempaths=unconfined
    status 0 once --device-cgroup-rule 'c 1:11 rmw' "$IMAGE" sh -c 'mknod /tmp/kmsg c 1 11 && : >>/tmp/kmsg'
    is "$(once --security-opt systempaths=unconfined "$IMAGE" grep -c ' /proc/[a-z]' /proc/mounts || true)" 0 'mounts over /proc'
    detached --stop-signal USR1 "$IMAGE" sh -c 'trap "exit 11" USR1; echo ready; while :; do sleep 0.1; done'
    wait_for 20 'the trap' has_logged ready
    engine stop -t 20 "$NAME" >/dev/null
    is "$(inspect '{{.State.ExitCode}}')" 11 'status'
}

D12() { # live-restore: the next dockerd takes over
    detached "$IMAGE" sh -c 'trap "exit 12" TERM; echo ready; while :; do sleep 0.1; done'
    wait_for 20 'the trap' has_logged ready
    local pid
    pid=$(pid_of)
    kill -KILL "$(<"$WORK/docker/pid")"
    wait_for 20 'the end of dockerd' dockerd_is_gone
    dockerd_run
    is "$(pid_of)" "$pid" 'pid'
    is "$(engine exec "$NAME" echo alive)" alive 'exec'
    engine stop -t 20 "$NAME" >/dev/null
    is "$(inspect '{{.State.ExitCode}}')" 12 'status'
}

D13() { # checkpoint create, start --checkpoint: it counts on
    needs_criu
    ((${ENGINE_VERSION["docker"]%%.*} != 25)) || skip 'Docker 25 finds no checkpoint (moby#47456)'
    local number word
    detached --security-opt seccomp=unconfined "$IMAGE" "${COUNT[@]}"
    wait_for 20 'the counting' engine exec "$NAME" test -s /count
    read -r number word < <(engine exec "$NAME" cat /count)
    engine checkpoint create --leave-running "$NAME" first >/dev/null
    wait_for 20 'counting on' counts_on "$word" "$number"
    engine checkpoint create "$NAME" second >/dev/null
    wait_for 20 'the end' state_is Running false
    is "$(engine checkpoint ls "$NAME" | tail -n +2 | sort | tr -d ' \n')" firstsecond 'checkpoints'
    # Until containerd has forgotten what the checkpoint left there, Docker cannot bring it back (moby#42900).
    wait_for 50 'the start' engine start --checkpoint second "$NAME"
    wait_for 20 'counting on' counts_on "$word" "$number"
}

D14() { # the systemd driver: a scope that systemd knows, and that follows an update
    [[ $DRIVER == systemd ]] || skip 'not with cgroupfs'
    detached --memory 64m --memory-swap 64m "$IMAGE" "${IDLE[@]}"
    local unit
    unit=docker-$(inspect '{{.Id}}')
    in_scope "$unit" "$(pid_of)"
    is "$(systemctl show -P MemoryMax "$unit.scope")" 67108864 MemoryMax
    engine update --memory 96m --memory-swap 96m "$NAME" >/dev/null
    is "$(systemctl show -P MemoryMax "$unit.scope")" 100663296 'MemoryMax after update'
    systemctl daemon-reload
    is_limit "$(pid_of)" memory - - memory.max 100663296
    is "$(engine exec "$NAME" sh -c 'echo x >/dev/null && head -c 2 /dev/zero | wc -c')" 2 'devices after a reload'
    engine kill "$NAME" >/dev/null
    wait_for 20 'the end of the unit' nothing systemctl list-units --all --no-legend "$unit.scope"
}

D99() { # nothing left: cgroups, mounts, processes, state
    wait_for 20 "cgroups: $(our_cgroups | head -n 3)" nothing our_cgroups
    wait_for 20 'runtime state' nothing find "$WORK/docker/exec" -path '*/runtime-*/moby/*' -mindepth 1
    wait_for 20 'shims' nothing ours 'containerd-shim'
    wait_for 20 "processes: $(ours "--root $WORK" | head -n 3)" nothing ours "--root $WORK"
    is "$(docker_mounts)" "$DOCKER_MOUNTS" 'mounts'
    is "$(engine ps -aq)" '' 'containers'
}
