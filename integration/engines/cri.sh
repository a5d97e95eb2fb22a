# shellcheck shell=bash
# Kubernetes' interface: the CRI of a containerd of our own, in which each runtime is a handler, as a RuntimeClass names it.

cri_start() {
    local index plugins=/usr/lib/cni name
    CRI=$WORK/cri
    mkdir -p "$CRI"/{logs,networks,addresses}
    [[ -x $plugins/ptp ]] || plugins=/opt/cni/bin
    # A network of this machine alone; nothing leaves it.
    jq -n --arg addresses "$CRI/addresses" '{cniVersion: "0.4.0", name: "pods", plugins: [{type: "ptp", ipMasq: false,
        ipam: {type: "host-local", dataDir: $addresses, ranges: [[{subnet: "10.251.77.0/24"}]]}}]}' >"$CRI/networks/pods.conflist"
    {
        cat <<TOML
version = 2
root = "$CRI/root"
state = "$CRI/state"
[grpc]
  address = "$CRI/socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/e-pause:latest"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "$plugins"
  conf_dir = "$CRI/networks"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "${RUNTIME_NAMES[0]}"
TOML
        for index in "${!RUNTIME_PATHS[@]}"; do
            name='plugins."io.containerd.grpc.v1.cri".containerd.runtimes.'${RUNTIME_NAMES[index]}
            printf '[%s]\nruntime_type = "io.containerd.runc.v2"\nprivileged_without_host_devices = false\n' "$name"
            printf '[%s.options]\nBinaryName = "%s"\nRoot = "%s"\nSystemdCgroup = %s\n' "$name" "${RUNTIME_PATHS[index]}" \
                "$CRI/runtime-${RUNTIME_NAMES[index]}" "$([[ $DRIVER == systemd ]] && echo true || echo false)"
        done
    } >"$CRI/config.toml"
    ENGINE_VERSION["cri"]=$(containerd --version | awk '{ print $3 }')
    CRI_CTR=(timeout --foreground -k 5 $((60 * PATIENCE)) ctr --address "$CRI/socket" --namespace k8s.io)
    cri_daemon
    oci_layout "$WORK/busybox.tar" localhost/e-pause:latest "$WORK/oci.tar" sleep 2147483647
    "${CRI_CTR[@]}" image import "$WORK/oci.tar" >/dev/null
    oci_layout "$WORK/busybox.tar" localhost/e-busybox:latest "$WORK/oci.tar"
    "${CRI_CTR[@]}" image import "$WORK/oci.tar" >/dev/null
    rm -f "$WORK/oci.tar"
    mkfifo "$CRI/ask" "$CRI/answer"
    /usr/bin/python3 "$HERE/cri.py" "$CRI/socket" <"$CRI/ask" >"$CRI/answer" 2>"$CRI/client.log" &
    CRI_CLIENT=$!
    exec 5>"$CRI/ask" 6<"$CRI/answer"
    (wait_for 60 'the CRI' cri Version) || die "the CRI does not answer: $(tail -n 5 "$CRI/log")"
    CRI_MOUNTS=$(our_mounts)
}

cri_daemon() {
    SKEP_ENGINES_PATIENCE=$PATIENCE containerd --config "$CRI/config.toml" >>"$CRI/log" 2>&1 &
    # A check may start another one, in a shell of its own.
    printf '%d\n' "$!" >"$CRI/pid"
    disown
    (wait_for 60 'containerd' "${CRI_CTR[@]}" version) || die "containerd does not answer: $(tail -n 5 "$CRI/log")"
}

cri_stop() {
    [[ -n ${CRI:-} && -s $CRI/pid ]] || return 0
    exec 5>&- 6<&-
    stop_process "$CRI_CLIENT" 10
    stop_process "$(<"$CRI/pid")" 30
    rm "$CRI/pid"
}

cri_use() { HANDLER=$RUNTIME_NAME; }

# cri_sweep NAME: removes what a check has left.
cri_sweep() {
    local left
    for left in $(cri ListPodSandbox | jq -r '.items[]?.id'); do
        cri StopPodSandbox "$(jq -nc --arg id "$left" '{pod_sandbox_id: $id}')"
        cri RemovePodSandbox "$(jq -nc --arg id "$left" '{pod_sandbox_id: $id}')"
    done
}

# cri METHOD [REQUEST]: prints the answer; else the error's code and words, and fails.
cri() {
    local answer
    printf '%s %s\n' "$1" "${2:-{\}}" >&5
    read -r -u 6 answer || fail "the client has ended: $(tail -n 3 "$CRI/client.log")"
    if [[ $answer == 'ok '* ]]; then
        printf '%s\n' "${answer#ok }"
    else
        printf '%s\n' "${answer#error }"
        return 1
    fi
}

# refused METHOD REQUEST: it is; what is said is in $OUT.
refused() { ! OUT=$(cri "$@") || fail "not refused: $*: $OUT"; }

# pod [JQ [ARG]...]: runs a pod sandbox, changed by that filter; its id is in $POD, its configuration in $POD_CONFIG.
pod() {
    local filter=${1:-.} answer
    shift || true
    POD_CONFIG=$(jq -nc --arg name "$NAME" --arg uid "$NAME-$RANDOM" --arg logs "$CRI/logs" --arg parent "$(pod_cgroup)" "$@" \
        '{metadata: {name: $name, uid: $uid, namespace: "e"}, hostname: $name, log_directory: $logs,
          linux: {cgroup_parent: $parent, security_context: {namespace_options: {pid: 1}}}} | '"$filter")
    answer=$(cri RunPodSandbox "$(jq -nc --argjson config "$POD_CONFIG" --arg handler "$HANDLER" '{config: $config, runtime_handler: $handler}')") ||
        fail "RunPodSandbox: $answer"
    POD=$(jq -r .pod_sandbox_id <<<"$answer")
}

# pod_cgroup: as the kubelet names a pod's cgroup with this driver.
pod_cgroup() { if [[ $DRIVER == systemd ]]; then printf '/%s/%s-pod%s.slice' "$CGROUP" "${CGROUP%.slice}" "${NAME//-/_}"; else printf '/%s/pod-%s' "$CGROUP" "$NAME"; fi; }

# pod_directory: where that is.
pod_directory() {
    local root=/sys/fs/cgroup
    unified || root=$root/memory
    printf '%s%s' "$root" "$(pod_cgroup)"
}

# create_in_pod JQ [ARG]...: a container, whose id is in $ID. Its log is $LOG.
create_in_pod() {
    local filter=$1 answer
    shift
    LOG=$NAME-$RANDOM.log
    answer=$(cri CreateContainer "$(jq -nc --arg pod "$POD" --argjson sandbox "$POD_CONFIG" --arg log "$LOG" "$@" \
        '{pod_sandbox_id: $pod, sandbox_config: $sandbox, config: ({metadata: {name: "one"}, image: {image: "localhost/e-busybox:latest"},
          command: ["sh", "-c", "trap \"exit 0\" TERM; echo ready; while :; do sleep 0.1; done"], log_path: $log, linux: {}} | '"$filter"')}')") ||
        fail "CreateContainer: $answer"
    ID=$(jq -r .container_id <<<"$answer")
    LOG=$CRI/logs/$LOG
}

start_in_pod() {
    create_in_pod "$@"
    of_container StartContainer >/dev/null
}

# of_container METHOD [JQ]: of the container $ID; the answer is printed, and changed by the filter.
of_container() {
    local answer
    answer=$(cri "$1" "$(jq -nc --arg id "$ID" '{container_id: $id}')") || fail "$1: $answer"
    jq -r "${2:-.}" <<<"$answer"
}

of_pod() {
    local answer
    answer=$(cri "$1" "$(jq -nc --arg id "$POD" '{pod_sandbox_id: $id}')") || fail "$1: $answer"
    jq -r "${2:-.}" <<<"$answer"
}

stop_container() { cri StopContainer "$(jq -nc --arg id "$ID" --argjson time "$1" '{container_id: $id, timeout: $time}')" >/dev/null; }

# in_container COMMAND...: what it prints, by ExecSync; a status is that of the command.
in_container() {
    local answer
    answer=$(cri ExecSync "$(jq -nc --arg id "$ID" '{container_id: $id, cmd: $ARGS.positional, timeout: 60}' --args -- "$@")") ||
        fail "ExecSync: $answer"
    jq -rj '.stdout // ""' <<<"$answer"
    jq -rj '.stderr // ""' <<<"$answer" >&2
    return "$(jq -r '.exit_code // 0' <<<"$answer")"
}

# outcome: exit code and reason of a container that has ended.
outcome() { of_container ContainerStatus '.status | "\(.exit_code // 0) \(.reason)"'; }
has_ended() { [[ $(of_container ContainerStatus .status.state) == 2 ]]; }
container_pid() { cri ContainerStatus "$(jq -nc --arg id "$ID" '{container_id: $id, verbose: true}')" | jq -r '.info.info | fromjson.pid'; }
has_in_log() { grep -q -- "$1" "$LOG"; }

K01() { # a pod sandbox: ready, its host name and its address; stop, remove
    local network=yes
    [[ -x /usr/lib/cni/ptp || -x /opt/cni/bin/ptp ]] || network=
    if [[ -n $network ]]; then pod .; else pod "$HOST_NETWORK"; fi
    is "$(of_pod PodSandboxStatus '.status | "\(.state // 0) \(.runtime_handler)"')" "0 $HANDLER" 'state and handler'
    [[ -z $network ]] || like "$(of_pod PodSandboxStatus .status.network.ip)" '^10\.251\.77\.[0-9]+$' 'address'
    start_in_pod .
    is "$(in_container hostname)" "$NAME" 'host name'
    [[ -z $network ]] || like "$(in_container ip addr)" 'inet 10\.251\.77\.' 'address inside'
    of_pod StopPodSandbox >/dev/null
    is "$(of_pod PodSandboxStatus .status.state)" 1 'state when stopped'
    of_pod RemovePodSandbox >/dev/null
    is "$(cri ListPodSandbox)$(cri ListContainers)" '{}{}' 'pods and containers'
}

# In the host's network, which is quicker, and has the host's name.
HOST_NETWORK='del(.hostname) | .linux.security_context.namespace_options.network = 2'

K02() { # a container: create, start, its log, its end, once more
    pod "$HOST_NETWORK"
    create_in_pod '.command = ["sh", "-c", "echo out; echo err >&2; exit 3"]'
    is "$(of_container ContainerStatus '.status.state // 0')" 0 'state before start'
    of_container StartContainer >/dev/null
    wait_for 20 'the end' has_ended
    is "$(outcome)" '3 Error' 'how it ended'
    like "$(<"$LOG")" ' stdout F out' 'log'
    like "$(<"$LOG")" ' stderr F err' 'log'
    of_container RemoveContainer >/dev/null
    start_in_pod '.command = ["true"] | .metadata.attempt = 1'
    wait_for 20 'the end' has_ended
    is "$(outcome)" '0 Completed' 'how the second ended'
    create_in_pod '.command = ["nosuch"] | .metadata.attempt = 2'
    refused StartContainer "$(jq -nc --arg id "$ID" '{container_id: $id}')"
    like "$OUT" 'executable file not found in \$PATH' 'the reason'
}

K03() { # exec sync: both streams, the status, a time limit, a command that is not there
    pod "$HOST_NETWORK"
    start_in_pod '.envs = [{key: "ONE", value: "1"}] | .working_dir = "/tmp"'
    status 7 in_container sh -c 'echo $ONE; pwd >&2; exit 7'
    is "$(in_container sh -c 'echo $ONE; pwd')" $'1\n/tmp' 'environment and directory'
    is "$(in_container seq 1 5000 | md5sum)" "$(seq 1 5000 | md5sum)" 'much output'
    refused ExecSync "$(jq -nc --arg id "$ID" '{container_id: $id, cmd: ["sleep", "1000"], timeout: 1}')"
    like "$OUT" 'DEADLINE_EXCEEDED' 'the time limit'
    refused ExecSync "$(jq -nc --arg id "$ID" '{container_id: $id, cmd: ["nosuch"]}')"
    like "$OUT" 'executable file not found in' 'the reason'
    unlike "$(in_container ps)" 'sleep 1000' 'what the limit ended'
}

K04() { # exec and attach: streams in and out, a terminal, the status
    pod "$HOST_NETWORK"
    start_in_pod '.stdin = true | .command = ["sh", "-c", "echo ready; while read -r line; do echo \"heard $line\"; done"]'
    local url answer
    url=$(cri Exec "$(jq -nc --arg id "$ID" '{container_id: $id, cmd: ["sh", "-c", "head -n 1; echo err >&2; exit 5"], stdin: true, stdout: true, stderr: true}')" | jq -r .url)
    answer=$(cri stream "$(jq -nc --arg url "$url" '{url: $url, input: "typed\n"}')")
    is "$(jq -rj '.stdout, .stderr' <<<"$answer")" $'typed\nerr' 'streams'
    is "$(jq -r '.status.details.causes[0].message' <<<"$answer")" 5 'status'
    url=$(cri Exec "$(jq -nc --arg id "$ID" '{container_id: $id, cmd: ["sh", "-c", "tty; exit 0"], tty: true, stdin: true, stdout: true}')" | jq -r .url)
    answer=$(cri stream "$(jq -nc --arg url "$url" '{url: $url}')")
    like "$(jq -r .stdout <<<"$answer")" '/dev/pts/[0-9]' 'terminal'
    is "$(jq -r .status.status <<<"$answer")" Success 'status'
    url=$(cri Attach "$(jq -nc --arg id "$ID" '{container_id: $id, stdin: true, stdout: true, stderr: true}')" | jq -r .url)
    answer=$(cri stream "$(jq -nc --arg url "$url" '{url: $url, input: "attached\n", until: "heard attached"}')")
    like "$(jq -r .stdout <<<"$answer")" 'heard attached' 'what is attached to'
    wait_for 20 'the log' has_in_log 'heard attached'
}

# counted: the container's statistics have come.
counted() { [[ $(of_container ContainerStats '.stats.memory.working_set_bytes.value // 0') -gt 0 ]]; }

K05() { # statistics of the container and of the pod
    pod "$HOST_NETWORK"
    start_in_pod '.linux.resources = {memory_limit_in_bytes: 67108864}'
    wait_for 20 'statistics' counted
    between "$(of_container ContainerStats .stats.memory.working_set_bytes.value)" 1 67108864 'memory'
    between "$(of_container ContainerStats .stats.cpu.usage_core_nano_seconds.value)" 1 999999999999 'processor time'
    is "$(of_pod PodSandboxStats '.stats.linux.containers | length')" 1 'containers in those of the pod'
}

K06() { # resources: at the start, and resized in place
    pod "$HOST_NETWORK"
    start_in_pod '.linux.resources = {memory_limit_in_bytes: 67108864, cpu_period: 100000, cpu_quota: 50000, cpu_shares: 512}'
    local pid
    pid=$(container_pid)
    is_limit "$pid" memory memory.limit_in_bytes 67108864 memory.max 67108864
    is_limit "$pid" cpu cpu.cfs_quota_us 50000 cpu.max '50000 100000'
    is_limit "$pid" cpu cpu.shares 512 cpu.weight '20|59'
    cri UpdateContainerResources "$(jq -nc --arg id "$ID" '{container_id: $id, linux: {memory_limit_in_bytes: 100663296,
        cpu_period: 100000, cpu_quota: 150000, cpu_shares: 256, cpuset_cpus: "0"}}')" >/dev/null
    is_limit "$pid" memory memory.limit_in_bytes 100663296 memory.max 100663296
    is_limit "$pid" cpu cpu.cfs_quota_us 150000 cpu.max '150000 100000'
    is_limit "$pid" cpu cpu.shares 256 cpu.weight '10|35'
    is_limit "$pid" cpuset cpuset.cpus 0 cpuset.cpus 0
    is "$(container_pid)" "$pid" 'pid'
    is "$(of_container ContainerStatus .status.resources.linux.memory_limit_in_bytes)" 100663296 'what the status says'
    if [[ $DRIVER == systemd ]]; then
        is "$(systemctl show -P MemoryMax "cri-containerd-$ID.scope")" 100663296 'what systemd says'
        systemctl daemon-reload
        is_limit "$pid" memory - - memory.max 100663296
    fi
}

K07() { # the pod's own cgroup, whose limit holds for all in it
    unified || skip 'looked at on cgroup version 2'
    pod "$HOST_NETWORK"
    start_in_pod .
    like "$(sed -n 's/^0:://p' "/proc/$(container_pid)/cgroup")" "^$(pod_directory | sed 's#^/sys/fs/cgroup##')/" 'the cgroup'
    # As the kubelet does it.
    if [[ $DRIVER == systemd ]]; then
        systemctl set-property --runtime "$(basename "$(pod_cgroup)")" TasksMax=40
    else
        echo 40 >"$(pod_directory)/pids.max"
    fi
    status '1|2' in_container sh -c 'i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i + 1)); done'
    like "$OUT" "can't fork" 'the limit'
    is "$(of_container ContainerStatus .status.state)" 1 'state'
}

K08() { # security contexts: an ordinary one, a strict one, a privileged one
    pod "$HOST_NETWORK"' | .linux.security_context.privileged = true'
    start_in_pod '.linux.security_context = {readonly_paths: ["/proc/sys"]}'
    local text
    text=$(in_container cat /proc/self/status)
    is "$(field "$text" CapEff)" 00000000a80425fb 'capabilities'
    is "$(field "$text" NoNewPrivs)" 0 NoNewPrivs
    status 1 in_container sh -c 'echo 1 >/proc/sys/kernel/msgmax'
    start_in_pod '.metadata.name = "strict" | .linux.security_context = {capabilities: {drop_capabilities: ["ALL"],
        add_capabilities: ["NET_BIND_SERVICE"]}, run_as_user: {value: 1000}, run_as_group: {value: 1234}, supplemental_groups: [77],
        readonly_rootfs: true, no_new_privs: true, masked_paths: ["/etc/text"], readonly_paths: ["/proc/sys"]}'
    text=$(in_container cat /proc/self/status)
    is "$(field "$text" CapBnd)" 0000000000000400 'capabilities of the strict one'
    is "$(field "$text" NoNewPrivs)" 1 'NoNewPrivs of the strict one'
    like "$(in_container id)" 'uid=1000.* gid=1234.*77' 'user and groups'
    is "$(in_container cat /etc/text)" '' 'a masked file'
    status 1 in_container touch /file
    like "$OUT" 'Read-only file system' 'the root'
    start_in_pod '.metadata.name = "privileged" | .linux.security_context = {privileged: true}'
    status 0 in_container sh -c 'mount -t tmpfs t /mnt && test -w /proc/sys/kernel/msgmax && test -c /dev/kmsg'
}

K09() { # seccomp: the runtime's default, a profile of the node's, none
    pod "$HOST_NETWORK"
    start_in_pod '.linux.security_context = {seccomp: {profile_type: 0}}'
    is "$(field "$(in_container cat /proc/self/status)" Seccomp)" 2 'mode with RuntimeDefault'
    status 1 in_container unshare -U true
    like "$OUT" 'Operation not permitted' 'unshare'
    printf '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}' >"$CRI/seccomp.json"
    start_in_pod '.metadata.name = "local" | .linux.security_context = {seccomp: {profile_type: 2, localhost_ref: $profile}}' --arg profile "$CRI/seccomp.json"
    status 1 in_container mkdir /tmp/x
    like "$OUT" 'Operation not supported|Not supported' 'mkdir'
    start_in_pod '.metadata.name = "none" | .linux.security_context = {seccomp: {profile_type: 1}}'
    is "$(field "$(in_container cat /proc/self/status)" Seccomp)" 0 'mode when unconfined'
}

# has_feature NAME: containerd has found this feature in what the runtime says of itself.
has_feature() {
    cri Status | jq -e --arg name "$HANDLER" --arg feature "$1" 'any(.runtime_handlers[]?; .name == $name and .features[$feature])' >/dev/null
}

K10() { # a pod with a user namespace: its map, a volume's owner, a container in it
    # containerd asks the runtime for its features.
    has_feature user_namespaces || skip 'containerd knows no user namespaces, or not of this runtime'
    local directory=$WORK/volume-$NAME map='{mode: 0, uids: [{host_id: 700000, container_id: 0, length: 65536}], gids: [{host_id: 700000, container_id: 0, length: 65536}]}'
    mkdir -p "$directory"
    pod '.linux.security_context.namespace_options.userns_options = '"$map"
    start_in_pod '.linux.security_context.namespace_options = {pid: 1, userns_options: '"$map"'} | .mounts = [{host_path: $directory, container_path: "/mnt",
        uidMappings: [{host_id: 700000, container_id: 0, length: 65536}], gidMappings: [{host_id: 700000, container_id: 0, length: 65536}]}]' --arg directory "$directory"
    like "$(in_container cat /proc/self/uid_map)" '0 +700000 +65536' 'map'
    is "$(stat -c %u "/proc/$(container_pid)")" 700000 'the user outside'
    status 0 in_container sh -c 'touch /mnt/file && stat -c %u /mnt/file /etc/text'
    is "$OUT" $'0\n0' 'owners inside'
    is "$(stat -c %u "$directory/file")" 0 'owner outside'
}

K11() { # mounts: read-only, all below too; propagation from the host
    local directory=$WORK/tree-$NAME
    mkdir -p "$directory/below"
    mount --bind "$directory" "$directory"
    mount --make-shared "$directory"
    mount -t tmpfs below "$directory/below"
    # shellcheck disable=SC2064
    trap "umount -R '$directory'" EXIT
    pod "$HOST_NETWORK"
    start_in_pod '.mounts = [{host_path: $d, container_path: "/ro", readonly: true}, {host_path: $d, container_path: "/slave", propagation: 1}]' --arg d "$directory"
    status 1 in_container touch /ro/file
    like "$OUT" 'Read-only file system' 'a read-only mount'
    mkdir -p "$directory/new"
    mount -t tmpfs propagated "$directory/new"
    like "$(in_container cat /proc/mounts)" 'propagated /slave/new' 'propagation'
    if has_feature recursive_read_only_mounts; then
        start_in_pod '.metadata.name = "rro" | .mounts = [{host_path: $d, container_path: "/rro", readonly: true, recursive_read_only: true}]' --arg d "$directory"
        status 1 in_container touch /rro/below/file
        like "$OUT" 'Read-only file system' 'a mount below a read-only one'
    fi
    of_pod StopPodSandbox >/dev/null
}

K12() { # namespaces: processes of the pod in one, and of the host
    pod "$HOST_NETWORK | .linux.security_context.namespace_options.pid = 0"
    start_in_pod '.linux.security_context = {namespace_options: {network: 2, pid: 0}}'
    like "$(in_container ps)" 'sleep 2147483647' 'processes of the pod'
    is "$(in_container readlink /proc/self/ns/net)" "$(readlink /proc/$$/ns/net)" 'network'
    pod "$HOST_NETWORK | .linux.security_context.namespace_options.pid = 2"
    start_in_pod '.linux.security_context = {namespace_options: {network: 2, pid: 2}}'
    is "$(in_container readlink /proc/self/ns/pid)" "$(readlink /proc/$$/ns/pid)" 'processes of the host'
}

K13() { # the end: SIGTERM for who listens, SIGKILL for who does not, and with the pod
    pod "$HOST_NETWORK"
    start_in_pod '.command = ["sh", "-c", "trap \"exit 9\" TERM; echo ready; while :; do sleep 0.1; done"]'
    wait_for 20 'the trap' has_in_log ready
    stop_container 30
    is "$(outcome)" '9 Error' 'how the first ended'
    start_in_pod '.metadata.name = "deaf" | .command = ["sh", "-c", "trap \"\" TERM; echo ready; while :; do sleep 0.1; done"]'
    wait_for 20 'the trap' has_in_log ready
    stop_container 1
    is "$(outcome)" '137 Error' 'how the second ended'
    start_in_pod '.metadata.name = "third"'
    of_pod StopPodSandbox >/dev/null
    has_ended || fail 'it has outlived its pod'
}

# Not the first process: of that containerd may hear the end before it hears what ended it, with any runtime.
K14() { # the memory limit: OOMKilled
    pod "$HOST_NETWORK"
    start_in_pod '.linux.resources = {memory_limit_in_bytes: 25165824, memory_swap_limit_in_bytes: 25165824} |
        .command = ["sh", "-c", "until [ -e /go ]; do sleep 0.05; done; dd if=/dev/zero of=/dev/null bs=96M count=1; status=$?; sleep 2; exit $status"]'
    in_container touch /go
    wait_for 20 'the end' has_ended
    is "$(outcome)" '137 OOMKilled' 'how it ended'
}

K15() { # containerd starts anew under a live pod
    pod "$HOST_NETWORK"
    start_in_pod .
    local pid daemon
    pid=$(container_pid)
    daemon=$(<"$CRI/pid")
    kill -KILL "$daemon"
    wait_for 20 'the end of containerd' sh -c "! kill -0 $daemon"
    cri_daemon
    wait_for 60 'the CRI' cri Version
    is "$(container_pid)" "$pid" 'pid'
    is "$(in_container echo alive)" alive 'exec'
    stop_container 20
    is "$(outcome)" '0 Completed' 'how it ended'
}

# cri_cgroups: those left, less what a slice of systemd's keeps for a while.
cri_cgroups() { our_cgroups | grep -v '/pod-[^/]*$' | grep -v '\.slice$' || true; }

K99() { # nothing left: cgroups, mounts, processes, state
    wait_for 20 'shims' nothing ours 'containerd-shim'
    wait_for 20 'cgroups' nothing cri_cgroups
    wait_for 20 'runtime state' nothing find "$CRI/runtime-$RUNTIME_NAME/k8s.io" -mindepth 1
    wait_for 20 'processes of the runtime' nothing ours '--root '
    is "$(our_mounts)" "$CRI_MOUNTS" 'mounts'
    is "$(cri ListPodSandbox)$(cri ListContainers)" '{}{}' 'pods and containers'
}
