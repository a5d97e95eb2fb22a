# shellcheck shell=bash
# Podman of an ordinary user, who has subordinate ids, a home and a directory of his session below $WORK, and no systemd. With the
# systemd driver it is a user of the machine's, whose own systemd runs; his containers are scopes of that.

# A number that no account of the machine's is likely to have.
ROOTLESS_UID=54321

rootless_start() {
    local index
    ENGINE_VERSION["rootless"]=$(podman --version | awk '{ print $3 }')
    ROOTLESS=$WORK/rootless
    # Short: of a run root (session directory and "/containers") over 50 characters Podman 4.3 complains only where it cleans
    # up behind conmon, which nobody sees, and each container ends 20 seconds late.
    mkdir -p "$ROOTLESS"/{home,run,etc}
    if [[ $DRIVER == systemd ]]; then
        ROOTLESS_NAME=${SKEP_ENGINES_USER:-$(loginctl list-users --no-legend | awk '$1 >= 1000 { print $2; exit }')}
        if [[ -z $ROOTLESS_NAME ]] || ! systemctl --user "--machine=$ROOTLESS_NAME@" show-environment >/dev/null 2>&1; then
            note 'rootless: left out, for want of an ordinary user whose systemd runs'
            return 1
        fi
        ROOTLESS_UID=$(id -u "$ROOTLESS_NAME")
        SUBORDINATE=$(sed -n "s/^$ROOTLESS_NAME:\([0-9]*\):.*/\1/p" /etc/subuid | head -n 1)
    else
        rootless_account
    fi
    {
        cat <<TOML
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "$DRIVER"
events_logger = "file"
runtime_supports_json = ["crun", "runc", "skep"]
[engine.runtimes]
TOML
        for index in "${!RUNTIME_PATHS[@]}"; do
            printf '%s = ["%s"]\n' "${RUNTIME_NAMES[index]}" "${RUNTIME_PATHS[index]}"
        done
    } >"$ROOTLESS/containers.conf"
    chown -R "$ROOTLESS_UID:$ROOTLESS_UID" "$ROOTLESS"/{home,run}
    chmod 700 "$ROOTLESS/run"
    chmod 711 "$ROOTLESS"
    chmod 644 "$WORK/busybox.tar" "$ROOTLESS/containers.conf"
    if [[ $DRIVER == systemd ]]; then
        printf '[storage]\ndriver = "overlay"\nrunroot = "%s"\ngraphroot = "%s"\n' "$ROOTLESS/run/podman" "$ROOTLESS/home/storage" \
            >"$ROOTLESS/storage.conf"
        PODMAN_USER=(timeout --foreground -k 5 $((60 * PATIENCE)) systemd-run --quiet --user "--machine=$ROOTLESS_NAME@" --pipe --wait
            --collect "--working-directory=$ROOTLESS/home" -E "PATH=$PATH" -E "CONTAINERS_CONF=$ROOTLESS/containers.conf"
            -E "CONTAINERS_STORAGE_CONF=$ROOTLESS/storage.conf" -- podman)
    else
        PODMAN_USER=(timeout --foreground -k 5 $((60 * PATIENCE)) setpriv "--reuid=$ROOTLESS_UID" "--regid=$ROOTLESS_UID" --clear-groups
            env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin USER=e-user "HOME=$ROOTLESS/home"
            "XDG_RUNTIME_DIR=$ROOTLESS/run" "CONTAINERS_CONF=$ROOTLESS/containers.conf" podman)
    fi
    local runroot
    cd "$ROOTLESS/home" || return
    runroot=$("${PODMAN_USER[@]}" info --format '{{.Store.RunRoot}}')
    ((${#runroot} <= 50)) || note "rootless: $runroot is too long for Podman, which will wait 20 seconds for each end"
    "${PODMAN_USER[@]}" import -q "$WORK/busybox.tar" localhost/e-busybox >/dev/null
}

# rootless_account: one that nobody else sees.
rootless_account() {
    local file
    SUBORDINATE=600000
    # Accounts in mounts of our own: nobody outside sees them.
    for file in passwd group subuid subgid; do cat "/etc/$file" >"$ROOTLESS/etc/$file" 2>/dev/null || : >"$ROOTLESS/etc/$file"; done
    printf 'e-user:x:%d:%d::%s:/bin/sh\n' "$ROOTLESS_UID" "$ROOTLESS_UID" "$ROOTLESS/home" >>"$ROOTLESS/etc/passwd"
    printf 'e-user:x:%d:\n' "$ROOTLESS_UID" >>"$ROOTLESS/etc/group"
    for file in subuid subgid; do printf 'e-user:600000:65536\n' >>"$ROOTLESS/etc/$file"; done
    for file in passwd group subuid subgid; do
        [[ -e /etc/$file ]] || : >"/etc/$file"
        mount --bind "$ROOTLESS/etc/$file" "/etc/$file"
    done
}

rootless_stop() {
    local file pid
    [[ -n ${PODMAN_USER[*]:-} ]] || return 0
    "${PODMAN_USER[@]}" rm -f -t 0 -a >/dev/null 2>&1 || true
    PODMAN_USER=()
    cd "$WORK" || return
    [[ $DRIVER == cgroupfs ]] || return 0
    # Podman keeps its namespaces with a process of its own.
    for pid in $(pgrep -u "$ROOTLESS_UID"); do kill -KILL "$pid" 2>/dev/null || true; done
    for file in passwd group subuid subgid; do umount "/etc/$file"; done
}

rootless_use() {
    ENGINE=("${PODMAN_USER[@]}" --runtime "$RUNTIME_NAME")
    IMAGE=localhost/e-busybox
}

rootless_sweep() { "${ENGINE[@]}" rm -f -t 0 --ignore "$1"; }

# user COMMAND...: podman as that user.
user() { "${ENGINE[@]}" "$@"; }

# lone ARGUMENT...: a container that is gone afterwards.
lone() { user run --rm --network none "$@"; }

U01() { # the user is root inside, and his subordinate ids follow
    is "$(lone "$IMAGE" id -u)" 0 'the user inside'
    is "$(lone "$IMAGE" sh -c 'cat /proc/self/uid_map | tr -s " "')" \
        " 0 $ROOTLESS_UID 1
 1 $SUBORDINATE 65536" 'the map'
    is "$(lone --user 1000:1000 "$IMAGE" id -u)" 1000 'another user'
}

U02() { # the exit status of the program, and of a program that is not there
    status 7 lone "$IMAGE" sh -c 'exit 7'
    status 127 lone "$IMAGE" /no/such/program
    status 126 lone "$IMAGE" /etc
}

U03() { # a container in the background: exec, top, logs, stop, remove
    user run -d --name "$NAME" --network none "$IMAGE" sh -c 'echo begun; exec sleep 1000' >/dev/null
    is "$(user exec "$NAME" id -u)" 0 'exec'
    is "$(user exec --user 5 "$NAME" id -u)" 5 'exec as another user'
    like "$(user top "$NAME")" 'sleep 1000' 'top'
    is "$(user logs "$NAME")" begun 'logs'
    is "$(user inspect -f '{{.State.Status}}' "$NAME")" running 'status'
    user kill "$NAME" >/dev/null
    wait_for 10 'the end' test "$(user wait "$NAME")" = 137
    user rm "$NAME" >/dev/null
    is "$(find "$ROOTLESS/run/$RUNTIME_NAME" "/run/user/$ROOTLESS_UID/$RUNTIME_NAME" -mindepth 1 -maxdepth 1 2>/dev/null)" '' 'state left behind'
}

U04() { # the namespaces of the host: sysfs, procfs and message queues are bound where they may not be mounted
    is "$(user run --rm --network host "$IMAGE" sh -c 'ls /sys | grep -c kernel; touch /sys/x 2>/dev/null || echo read-only')" \
        $'1\nread-only' 'sysfs without a network namespace'
    like "$(lone --pid host "$IMAGE" sh -c 'ls /proc 2>/dev/null | grep -c "^[0-9]"')" '^[1-9][0-9]*$' 'procfs of the host'
    # Podman itself wants the host to have them mounted.
    [[ ! -d /dev/mqueue ]] ||
        is "$(lone --ipc host "$IMAGE" sh -c 'ls -d /dev/mqueue')" /dev/mqueue 'queues of the host'
}

U05() { # privileged, which is not privileged outside
    is "$(lone --privileged "$IMAGE" id -u)" 0 'the user inside'
    status '1|32' lone --privileged "$IMAGE" sh -c 'echo 1 > /proc/sys/kernel/panic'
}

U06() { # the user's own id inside
    is "$(lone --userns keep-id "$IMAGE" id -u)" "$ROOTLESS_UID" 'keep-id'
}

U07() { # a directory of the user's, and one of another's
    mkdir -p "$ROOTLESS/home/own"
    chown "$ROOTLESS_UID:$ROOTLESS_UID" "$ROOTLESS/home/own"
    lone -v "$ROOTLESS/home/own:/own" "$IMAGE" sh -c 'echo text > /own/file; chown 5 /own/file'
    is "$(stat -c %u "$ROOTLESS/home/own/file")" $((SUBORDINATE + 4)) 'the owner outside'
    status 1 lone -v "$WORK/rootless/etc:/others" "$IMAGE" sh -c 'echo > /others/passwd'
}

U08() { # a terminal of the caller's size
    local text
    open_keyboard
    text=$(pty 30 90 "${ENGINE[@]}" run --rm -it --network none "$IMAGE" sh -c \
        'n=0; until [ "$(stty size)" = "30 90" ] || [ $n = 50 ]; do n=$((n+1)); sleep 0.1; done; stty size')
    like "$text" '30 90' 'its size'
}
