# shellcheck shell=bash
# Podman with storage, state and configuration of its own, and the checks that only podman has.

podman_start() {
    local index
    mkdir -p "$WORK/podman"
    PODMAN_VERSION=$(podman --version | awk '{ print $3 }')
    ENGINE_VERSION["podman"]=$PODMAN_VERSION
    cat >"$WORK/podman/storage.conf" <<TOML
[storage]
driver = "overlay"
runroot = "$WORK/podman/runroot"
graphroot = "$WORK/podman/root"
TOML
    {
        cat <<TOML
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "k8s-file"
[network]
network_config_dir = "$WORK/podman/networks"
[engine]
cgroup_manager = "$DRIVER"
events_logger = "file"
lock_type = "file"
runtime_supports_json = ["crun", "runc", "skep"]
TOML
        [[ ! -x /usr/bin/tini-static ]] || printf 'init_path = "/usr/bin/tini-static"\n'
        printf '[engine.runtimes]\n'
        for index in "${!RUNTIME_PATHS[@]}"; do
            printf '%s = ["%s"]\n' "${RUNTIME_NAMES[index]}" "${RUNTIME_PATHS[index]}"
        done
    } >"$WORK/podman/containers.conf"
    export CONTAINERS_CONF=$WORK/podman/containers.conf CONTAINERS_STORAGE_CONF=$WORK/podman/storage.conf
    PODMAN=(timeout --foreground -k 5 $((60 * PATIENCE)) podman --root "$WORK/podman/root" --runroot "$WORK/podman/runroot"
        --tmpdir "$WORK/podman/tmp" --cgroup-manager "$DRIVER" --events-backend file)
    "${PODMAN[@]}" import -q "$WORK/busybox.tar" localhost/e-busybox >/dev/null
    ! wants_debian || "${PODMAN[@]}" import -q "$DEBIAN_TAR" localhost/e-debian >/dev/null
    PODMAN_MOUNTS=$(our_mounts)
}

podman_stop() {
    [[ -n ${PODMAN[*]:-} ]] || return 0
    "${PODMAN[@]}" rm -f -t 0 -a >/dev/null 2>&1 || true
    PODMAN=()
    # In the place of a hierarchy that is not mounted Podman makes directories and files like any others.
    unified || find /sys/fs/cgroup -xdev -type f -path "*/$CGROUP/*" -delete
    find /sys/fs/cgroup -depth -type d -path "*/$CGROUP/conmon" -exec rmdir {} + 2>/dev/null || true
    unset CONTAINERS_CONF CONTAINERS_STORAGE_CONF
}

podman_use() {
    ENGINE=("${PODMAN[@]}" --runtime "$RUNTIME_NAME")
    STATE_BEFORE=$(podman_state)
    PARENT=/$CGROUP
    [[ $DRIVER == cgroupfs ]] || PARENT=$CGROUP
    RUN=(run --network=none --cgroup-parent "$PARENT")
    IMAGE=localhost/e-busybox
    DEBIAN=localhost/e-debian
    OTHER_ULIMITS=(--ulimit nproc=4096:4096)
    DEFAULT_CAPABILITIES=00000000a80425fb
    EXEC_MISSING=127
}

# podman_state: ids of podman's containers in the runtime's own state directory. Podman gives the runtime no
# --root, nor would its clean-up process pass one on.
podman_state() { find "/run/$RUNTIME_NAME" -mindepth 1 -maxdepth 1 2>/dev/null | grep -E '/[0-9a-f]{64}$' | sort || true; }

podman_new_state() { comm -13 <(printf '%s\n' "$STATE_BEFORE") <(podman_state); }

# podman_sweep NAME: removes what a check has left.
podman_sweep() {
    local left
    left=$("${PODMAN[@]}" ps -aq --filter "name=^$1")
    # shellcheck disable=SC2086
    [[ -z $left ]] || engine rm -f -t 0 $left
}

P01() { # run: 125 for podman's own refusal, 126 for the runtime's
    status 125 once --no-such-flag "$IMAGE" true
    status 126 once --sysctl kernel.msgmax=many "$IMAGE" true
    like "$OUT" 'msgmax' 'the reason'
    unlike "$OUT" '"level"|level=error' 'raw log text'
}

P02() { # update: memory and cpu of a running container
    needs_swap_accounting
    detached --memory 64m --memory-swap 64m "$IMAGE" "${IDLE[@]}"
    engine update --memory 48m --cpus 1.5 --cpu-shares 256 "$NAME" >/dev/null
    local pid
    pid=$(pid_of)
    is_limit "$pid" memory memory.limit_in_bytes 50331648 memory.max 50331648
    is_limit "$pid" cpu cpu.cfs_quota_us 150000 cpu.max '150000 100000'
    is_limit "$pid" cpu cpu.shares 256 cpu.weight '10|35'
}

P03() { # healthcheck: unhealthy, then healthy
    detached --health-cmd 'test -f /tmp/well' --health-retries 1 "$IMAGE" "${IDLE[@]}"
    status 1 engine healthcheck run "$NAME"
    is "$(inspect '{{.State.Health.Status}}')" unhealthy 'state'
    engine exec "$NAME" touch /tmp/well
    status 0 engine healthcheck run "$NAME"
    is "$(inspect '{{.State.Health.Status}}')" healthy 'state'
}

P04() { # --uidmap: a user namespace, limits and volumes in it
    local directory=$WORK/volume-$NAME
    mkdir -p "$directory"
    chown 100000:100000 "$directory"
    status 0 once --uidmap 0:100000:65536 --memory 64m -v "$directory:/mnt" "$IMAGE" \
        sh -c 'cat /proc/self/uid_map; touch /mnt/file; id -u'
    like "$OUT" '0 +100000 +65536' 'uid_map'
    is "$(stat -c %u "$directory/file")" 100000 'owner of the file'
}

P05() { # --preserve-fds: an open file comes in, no other does
    local text
    echo passed >"$WORK/passed"
    text=$(once --preserve-fds 1 "$IMAGE" sh -c 'cat <&3; ls /proc/self/fd | wc -l' 3<"$WORK/passed" 4</dev/null)
    like "$text" '^passed' 'the file'
}

P06() { # init, start: the runtime creates, and starts later
    engine create "${RUN[@]:1}" --name "$NAME" "$IMAGE" sh -c 'echo started; exec sleep 1000' >/dev/null
    engine init "$NAME" >/dev/null
    is "$(inspect '{{.State.Status}}')" initialized 'state'
    is "$(engine logs "$NAME")" '' 'output before start'
    engine start "$NAME" >/dev/null
    wait_for 20 'the start' has_logged started
}

P07() { # --rootfs: a plain directory
    local directory=$WORK/rootfs-$NAME
    mkdir -p "$directory"
    tar -C "$directory" -xf "$WORK/busybox.tar"
    status 0 engine "${RUN[@]}" --rm --rootfs "$directory" sh -c 'echo inside >/written'
    is "$(<"$directory/written")" inside 'the file'
    rm -rf "$directory"
}

P08() { # --umask, --hostname, --env, --workdir
    is "$(once --umask 0077 --hostname there -e KEY=value -w /var "$IMAGE" sh -c 'echo $(umask) $(hostname) $KEY $PWD')" \
        '0077 there value /var' 'output'
}

P09() { # pod: two containers, pause and removal together
    engine pod create --infra=false --name "$NAME" --cgroup-parent "$PARENT" >/dev/null
    detached_as "$NAME-1" --pod "$NAME" "$IMAGE" "${IDLE[@]}"
    detached_as "$NAME-2" --pod "$NAME" "$IMAGE" "${IDLE[@]}"
    engine pod pause "$NAME" >/dev/null
    frozen "$(pid_of "$NAME-1")" || fail 'the first container is not frozen'
    engine pod unpause "$NAME" >/dev/null
    is "$(engine exec "$NAME-2" echo alive)" alive 'exec after unpause'
    engine pod rm -f -t 5 "$NAME" >/dev/null
    is "$(engine ps -aq --filter "name=^$NAME")" '' 'containers'
}

P10() { # --systemd=always: the mounts systemd wants
    status 0 once --systemd=always "$IMAGE" sh -c 'grep " /run " /proc/mounts; grep " /sys/fs/cgroup" /proc/mounts | tail -n 1'
    like "$OUT" 'tmpfs /run tmpfs' '/run'
    like "$OUT" 'cgroup' '/sys/fs/cgroup'
}

P11() { # --timeout: conmon ends it
    status 255 once --timeout 1 "$IMAGE" sleep 1000
}

P12() { # unmask=ALL, mask=: what is hidden follows the flags
    is "$(once --security-opt mask=/etc/text "$IMAGE" cat /etc/text)" '' 'a masked file'
    status 0 once --security-opt unmask=ALL "$IMAGE" sh -c 'grep -c " /proc/[a-z]" /proc/mounts || true'
    is "$OUT" 0 'mounts over /proc'
}

P13() { # --cidfile, --pidfile, inspect, wait
    detached --pidfile "$WORK/pid-$NAME" --cidfile "$WORK/cid-$NAME" "$IMAGE" "${IDLE[@]}"
    is "$(<"$WORK/pid-$NAME")" "$(pid_of)" 'pid file'
    is "$(inspect '{{.OCIRuntime}}')" "$RUNTIME_NAME" 'runtime'
    engine stop -t 10 "$NAME" >/dev/null
    is "$(engine wait "$NAME")" 0 'status'
}

P14() { # start -a, attach: output of a container started again
    engine create "${RUN[@]:1}" --name "$NAME" "$IMAGE" sh -c 'echo run >>/log; wc -l </log' >/dev/null
    is "$(engine start -a "$NAME")" 1 'first time'
    wait_for 20 'the end of the clean-up' nothing podman_new_state
    is "$(engine start -a "$NAME")" 2 'second time'
}

P15() { # SIGKILL from outside: the engine sees 137
    detached "$IMAGE" sh -c 'sleep 1000 & while :; do sleep 0.1; done'
    kill -KILL "$(pid_of)"
    wait_for 20 'the end' state_is Running false
    is "$(inspect '{{.State.ExitCode}}')" 137 'status'
}

P16() { # init, rm: created, never started, removed
    engine create "${RUN[@]:1}" --name "$NAME" "$IMAGE" "${IDLE[@]}" >/dev/null
    engine init "$NAME" >/dev/null
    local pid
    pid=$(pid_of)
    engine rm -f -t 5 "$NAME" >/dev/null
    wait_for 20 'the end of the process' nothing find "/proc/$pid" -maxdepth 0 2>/dev/null
    wait_for 20 'the end of the state' nothing podman_new_state
}

P17() { # checkpoint, restore: in place, and from an archive under another name
    needs_criu
    local number word archive=$WORK/$NAME.tar.gz
    detached "$IMAGE" "${COUNT[@]}"
    wait_for 20 'the counting' engine exec "$NAME" test -s /count
    read -r number word < <(engine exec "$NAME" cat /count)
    engine container checkpoint --keep "$NAME" >/dev/null
    is "$(inspect '{{.State.Running}} {{.State.Checkpointed}}')" 'false true' 'state'
    engine container restore "$NAME" >/dev/null
    wait_for 20 'counting on' counts_on "$word" "$number"
    engine container checkpoint --leave-running "$NAME" >/dev/null
    wait_for 20 'counting on' counts_on "$word" "$number"
    engine container checkpoint --export "$archive" "$NAME" >/dev/null
    engine rm "$NAME" >/dev/null
    NAME=$NAME-2
    engine container restore --import "$archive" --name "$NAME" >/dev/null
    wait_for 20 'counting on' counts_on "$word" "$number"
    engine rm -f -t 0 "$NAME" >/dev/null
    rm -f "$archive"
}

P18() { # --uidmap with an idmapped volume: the files keep their owner
    local directory=$WORK/volume-$NAME
    mkdir -p "$directory"
    chmod 777 "$directory"
    ((${PODMAN_VERSION%%.*} >= 5)) || skip 'an older Podman'
    status 0 once --uidmap 0:100000:65536 --gidmap 0:100000:65536 -v "$directory:/mnt:idmap" "$IMAGE" \
        sh -c 'touch /mnt/root && chown 5:6 /mnt && stat -c %u:%g /mnt/root /mnt'
    is "$OUT" $'0:0\n5:6' 'owners inside'
    is "$(stat -c %u:%g "$directory/root" "$directory")" $'0:0\n5:6' 'owners outside'
}

P19() { # --cgroupns: of its own, and the host's
    unified || skip 'Podman has one on version 2'
    is "$(once --cgroupns private "$IMAGE" sed -n 's/^0:://p' /proc/self/cgroup | sed 's#/container$#/#; s#//#/#')" / 'of its own'
    like "$(once --cgroupns host "$IMAGE" cat /proc/self/cgroup)" "/$CGROUP/" 'of the host'
    status 1 once --cgroupns host "$IMAGE" mkdir /sys/fs/cgroup/x
}

# booted: systemd in the container says that it has come up.
booted() { [[ $(engine exec "$NAME" systemctl is-system-running) =~ ^(running|degraded)$ ]]; }

P20() { # systemd in the container: boots, starts a service in a cgroup of its own, halts
    unified || skip 'systemd of today wants cgroup version 2'
    [[ -x /usr/lib/systemd/systemd ]] || skip 'this host has no systemd to run inside'
    local root=$WORK/systemd-$NAME link
    mkdir -p "$root"/{usr,etc,proc,sys,dev,run,tmp,var,root}
    for link in bin sbin lib lib64; do ln -s "usr/$link" "$root/$link"; done
    mkdir -p "$root/etc/systemd/system"
    cp -r /etc/ld.so.conf* /etc/pam.d /etc/nsswitch.conf "$root/etc/" 2>/dev/null || true
    [[ ! -e /etc/ld.so.cache ]] || cp /etc/ld.so.cache "$root/etc/"
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\n' >"$root/etc/group"
    printf '0123456789abcdef0123456789abcde0\n' >"$root/etc/machine-id"
    printf '[Unit]\nDefaultDependencies=no\nAfter=sysinit.target\n' >"$root/etc/systemd/system/lone.target"
    engine "${RUN[@]}" -d --name "$NAME" --systemd=always --rootfs -v /usr:/usr:ro "$root" \
        /usr/lib/systemd/systemd --unit=lone.target >/dev/null
    wait_for 60 'the boot' booted
    status 0 engine exec "$NAME" systemd-run --unit=within --slice=system.slice sleep 1000
    is "$(engine exec "$NAME" systemctl show -P ControlGroup within.service)" /system.slice/within.service 'the cgroup of a service'
    # The container's own cgroup has children now, and no processes.
    is "$(engine exec "$NAME" echo alive)" alive 'exec'
    engine stop -t 30 "$NAME" >/dev/null
    unlike "$(inspect '{{.State.ExitCode}}')" '^137$' 'status'
    engine rm -f -t 0 "$NAME" >/dev/null
    rm -rf "$root"
}

P21() { # the systemd driver: a scope that systemd knows
    [[ $DRIVER == systemd ]] || skip 'not with cgroupfs'
    detached --memory 64m "$IMAGE" "${IDLE[@]}"
    local unit
    unit=libpod-$(inspect '{{.Id}}')
    in_scope "$unit" "$(pid_of)"
    is "$(systemctl show -P MemoryMax "$unit.scope")" 67108864 MemoryMax
    systemctl daemon-reload
    is_limit "$(pid_of)" memory - - memory.max 67108864
    is "$(engine exec "$NAME" sh -c 'echo x >/dev/null && head -c 2 /dev/zero | wc -c')" 2 'devices after a reload'
    engine kill "$NAME" >/dev/null
    wait_for 20 'the end of the unit' nothing systemctl list-units --all --no-legend "$unit.scope"
}

P99() { # nothing left: cgroups, mounts, processes, state
    wait_for 20 'conmon' nothing ours 'conmon'
    wait_for 20 'cgroups' nothing podman_cgroups
    wait_for 20 'runtime state' nothing podman_new_state
    wait_for 20 'processes' nothing ours 'podman/(root|runroot)'
    is "$(our_mounts)" "$PODMAN_MOUNTS" 'mounts'
    is "$(engine ps -aq)" '' 'containers'
}

# podman_cgroups: those left, less the one that podman makes for conmon and keeps.
podman_cgroups() { our_cgroups | grep -v '/conmon$' || true; }
