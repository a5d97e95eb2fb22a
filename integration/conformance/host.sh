# shellcheck shell=bash
# What this host has, as far as expectations depend on it; and its cgroups.

# facts: one word for each thing that is here.
facts() {
    local facts=() controller
    ! (($(capability 24))) || facts+=(cap_sys_resource)
    if [[ $(stat -fc %T /sys/fs/cgroup) == cgroup2fs ]]; then facts+=(cgroup2); else facts+=(cgroup1); fi
    for controller in hugetlb net_cls net_prio; do
        awk -v name="$controller" '$3 != "" && $0 ~ " - cgroup " && $NF ~ "(^|,)" name "(,|$)" { found = 1 }
            END { exit !found }' /proc/self/mountinfo && facts+=("$controller")
    done
    [[ -z $(compgen -G '/sys/fs/cgroup/blkio/*/blkio.leaf_weight') ]] || facts+=(leaf_weight)
    memory_has_kmem && facts+=(kmem)
    [[ -e /sys/fs/selinux/enforce ]] && facts+=(selinux)
    [[ -d /sys/kernel/security/apparmor ]] && facts+=(apparmor)
    [[ -d /run/systemd/system ]] && facts+=(systemd)
    criu check >/dev/null 2>&1 && facts+=(criu)
    has_dummy_device && facts+=(dummy_device)
    [[ -d /sys/fs/resctrl/info ]] && facts+=(resctrl)
    [[ -e /sys/kernel/mm/mempolicy || -e /sys/devices/system/node/node1 ]] && facts+=(numa)
    [[ -e /sys/fs/cgroup/cpu/cpu.rt_period_us ]] && facts+=(rt_group_sched)
    ! tmpfs_tells_inode64 || facts+=(tmpfs_inode64)
    ! timeout 5 getent hosts github.com >/dev/null || facts+=(github)
    ! grep -qw overlay /proc/filesystems || facts+=(overlay)
    (($(nproc) < 4)) || facts+=(four_cpus)
    (($(nproc) <= 8)) || facts+=(more_than_8_cpus)
    printf '%s' "${facts[*]}"
}

# capability NUMBER: 1 if this process has it.
capability() {
    local mask
    mask=$(sed -n 's/^CapEff:\t//p' /proc/self/status)
    printf '%d' $(((16#$mask >> $1) & 1))
}

# memory_has_kmem: the file is there, but takes nothing, since Linux 5.16.
memory_has_kmem() {
    local place=/sys/fs/cgroup/memory/conformance.$$ status=0
    mkdir "$place" 2>/dev/null || return 1
    printf 50593792 2>/dev/null >"$place/memory.kmem.limit_in_bytes" || status=1
    [[ $(<"$place/memory.kmem.limit_in_bytes") == 50593792 ]] || status=1
    rmdir "$place"
    return "$status"
}

# tmpfs_tells_inode64: whether its mount options say that, which depends on how the kernel was configured.
tmpfs_tells_inode64() { awk '/ - tmpfs / && $NF ~ /inode64/ { found = 1 } END { exit !found }' /proc/self/mountinfo; }

has_dummy_device() { unshare --net ip link add conformance0 type dummy 2>/dev/null; }

# holds CONDITION: whether the words of a condition, fact or !fact with commas between, are true of $FACTS.
holds() {
    local word
    [[ $1 != - ]] || return 0
    for word in ${1//,/ }; do
        if [[ $word == !* ]]; then
            [[ " $FACTS " != *" ${word#!} "* ]] || return 1
        else
            [[ " $FACTS " == *" $word "* ]] || return 1
        fi
    done
}

# The suites' cgroups have fixed names, those of crun's containers the names of temporary directories, those of
# runtime-tools' are UUIDs.
OUR_CGROUPS=(
    cgrouptest testdir runc-cgroups-integration-test frozen 'test-tmp????????'
    '????????-????-????-????-????????????'
)

# prepare_cgroups: a view of them that every runtime takes; only this mount namespace has it.
prepare_cgroups() {
    local list=/sys/fs/cgroup/unified/cgroup.controllers
    mount_controllers
    # crun 1.8 refuses a hybrid host whose v2 part has any controller, even one that nobody uses.
    if [[ $NAME == crun && -r $list && -n $(<"$list") ]]; then
        note "crun would refuse this host: hiding from it that cgroup2 has the controllers $(<"$list")"
        mount --bind /dev/null "$list"
    fi
}

# mount_controllers: v1's that the suites ask for and nobody has mounted, on a copy of the directory: only this mount
# namespace has them, and they go with it. While version 2 uses one, it stays there.
mount_controllers() {
    local place=$WORK/cgroup controller mounted=() entry name
    [[ " $(facts) " == *' cgroup1 '* ]] || return 0
    for controller in hugetlb net_cls net_prio; do
        [[ " $(facts) " != *" $controller "* ]] || continue
        mkdir "$WORK/$controller"
        if mount -t cgroup -o "$controller" cgroup "$WORK/$controller" 2>/dev/null; then
            mounted+=("$controller")
        else
            note "cgroup v1's $controller cannot be mounted: the kernel has none, or version 2 uses it"
        fi
    done
    ((${#mounted[@]})) || return 0
    mkdir "$place"
    mount -t tmpfs -o mode=755 tmpfs "$place"
    for entry in /sys/fs/cgroup/*; do
        name=${entry##*/}
        if [[ -L $entry ]]; then
            ln -s "$(readlink "$entry")" "$place/$name"
        elif mountpoint -q "$entry"; then
            mkdir "$place/$name" && mount --move "$entry" "$place/$name" 2>/dev/null || mount --bind "$entry" "$place/$name"
        fi
    done
    for controller in "${mounted[@]}"; do
        mkdir -p "$place/$controller"
        mount --move "$WORK/$controller" "$place/$controller"
    done
    mount --move "$place" /sys/fs/cgroup
    note "for this run cgroup v1 has, mounted: ${mounted[*]}"
}

# our_cgroups: those of the suites that are there.
our_cgroups() {
    local name
    for name in "${OUR_CGROUPS[@]}"; do
        find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -type d -name "$name"
    done
}

# remove_our_cgroups: what a suite that was interrupted has left, which is empty once its processes are gone.
remove_our_cgroups() {
    local directory
    # A test of crun's freezes a container behind the runtime's back, and not even a namespace's end kills that.
    [[ ! -e /sys/fs/cgroup/freezer/frozen ]] || echo THAWED >/sys/fs/cgroup/freezer/frozen/freezer.state
    our_cgroups | while read -r directory; do
        find "$directory" -depth -type d -exec rmdir {} + 2>/dev/null
    done
}
