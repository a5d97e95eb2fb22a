# shellcheck shell=bash
# skep by itself for an ordinary user: in his session, whose cgroups are delegated, and outside of any. The limits are
# tried, not only read. Podman's turn is in the engine checks.
# lab: timeout 1800
# shellcheck source-path=SCRIPTDIR/../guest
. /usr/lib/lab/lib.sh
SKEP=${RUNTIME:-/opt/skep/bin/skep} BUNDLE=/home/user/bundle
NAME=$(id -u user)
cp -a /opt/lab/bundle $BUNDLE
rm -f $BUNDLE/config.json
chown -R user: $BUNDLE
# Which ids are his, the command finds out.
as_user "$SKEP" spec --rootless --bundle $BUNDLE

# What the container does: takes more memory than it may have, and makes more processes.
# shellcheck disable=SC2016
TRY='sed -n "s/^0:://p" /proc/self/cgroup; cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max 2>/dev/null
dd if=/dev/zero of=/dev/null bs=96M count=1 2>/dev/null; echo "dd ended with $?"
(for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 2 & done) 2>&1 | grep -c "can.t fork"; :'

# configure JQ: the bundle's configuration, from what `spec --rootless` has made.
configure() {
    [[ -e $BUNDLE/first.json ]] || cp $BUNDLE/config.json $BUNDLE/first.json
    jq --arg try "$TRY" '.process.terminal = false | .root.readonly = false | .process.args = ["sh", "-c", $try]
        | .linux.namespaces |= (map(select(.type != "cgroup")) + [{type: "cgroup"}])
        | .mounts = [.mounts[] | select(.destination != "/sys")] + [{destination: "/sys", type: "none", source: "/sys", options: ["rbind", "ro", "nosuid", "noexec", "nodev"]},
            {destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["nosuid", "noexec", "nodev", "ro"]}]
        | '"$1" $BUNDLE/first.json >$BUNDLE/config.json
}

LIMITS='.linux.resources = {memory: {limit: 50331648, swap: 50331648}, pids: {limit: 12}}'

# enforced NAME OUTPUT: the limits are there, and were felt.
enforced() {
    like "$1: the limits are set" "$2" $'\n50331648\n12\n'
    like "$1: too much memory is a kill" "$2" 'dd ended with 137'
    like "$1: too many processes are refused" "$2" $'\n[1-9][0-9]*$'
}

configure "$LIMITS"
out=$(as_user "$SKEP" run -b $BUNDLE limited 2>&1)
like 'in a session: it runs' "$out" 'dd ended'
enforced 'in a session' "$out"

configure "$LIMITS | .linux.cgroupsPath = \"user.slice:skep:limited\""
out=$(as_user "$SKEP" --systemd-cgroup run -b $BUNDLE limited 2>&1)
like 'with systemd: it runs' "$out" 'dd ended'
enforced 'with systemd' "$out"

configure "$LIMITS | .linux.cgroupsPath = \"user.slice:skep:lasting\" | .process.args = [\"sleep\", \"1000\"]"
good 'with systemd: run --detach' as_user sh -c "$SKEP --systemd-cgroup run -d -b $BUNDLE lasting </dev/null >/dev/null 2>&1"
pid=$(as_user "$SKEP" state lasting | jq .pid)
like 'with systemd: a scope of his own systemd' "$(<"/proc/$pid/cgroup")" "user@$NAME.service/.*skep-lasting.scope"
is 'with systemd: systemd knows the limit' "$(as_user systemctl --user show -P MemoryMax skep-lasting.scope)" 50331648
good 'with systemd: update' as_user "$SKEP" update --memory 67108864 --memory-swap 67108864 lasting
is 'with systemd: the new limit' "$(<"/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")/memory.max")" 67108864
as_user systemctl --user daemon-reload
is 'with systemd: it outlasts a daemon-reload' "$(<"/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")/memory.max")" 67108864
is 'with systemd: exec' "$(as_user "$SKEP" exec lasting sh -c 'echo x >/dev/null && echo fine')" fine
good 'with systemd: delete --force' as_user "$SKEP" delete --force lasting
is 'with systemd: no unit is left' "$(as_user systemctl --user list-units --all --no-legend 'skep-*')" ''

# Nobody's session: a process that changed its user, in a cgroup of the machine's.
outside() { setpriv --reuid=user --regid=user --clear-groups env -i PATH="$PATH" HOME=/home/user "$@"; }
mkdir -p /home/user/state
chown user: /home/user/state
configure '.process.args = ["id", "-u"] | del(.linux.resources)'
out=$(outside "$SKEP" --root /home/user/state run -b $BUNDLE lonely 2>&1)
is 'outside: it runs without limits' "$out" 0
configure "$LIMITS"
out=$(outside "$SKEP" --root /home/user/state run -b $BUNDLE lonely 2>&1)
unlike 'outside: no limit is ignored in silence' "$out" '^/[^\n]*\ndd'
like 'outside: what is missing is said' "$out" 'delegat'
note "$out"
rc 'outside: systemd is asked in vain' 1 outside "$SKEP" --root /home/user/state --systemd-cgroup run -b $BUNDLE lonely
out=$(outside "$SKEP" --root /home/user/state --systemd-cgroup run -b $BUNDLE lonely 2>&1)
like 'outside: the session is named' "$out" 'XDG_RUNTIME_DIR|session|user.s? systemd'
note "$out"
out=$(outside "$SKEP" run -b $BUNDLE lonely 2>&1)
note "without --root: $out"
is 'nothing is left' "$(find /home/user/state -mindepth 1)" ''
finish
