#!/usr/bin/env bash
# Runs in the guest's tree, in a chroot, while the image is built: no daemons here.
set -euo pipefail

echo lab >/etc/hostname
printf '127.0.0.1 localhost lab\n::1 localhost ip6-localhost\n' >/etc/hosts
: >/etc/resolv.conf
echo '/dev/vda / ext4 defaults,noatime 0 1' >/etc/fstab
echo 1234567890abcdef1234567890abcdef >/etc/machine-id

# An ordinary user, whose own systemd runs from boot with every controller (Debian gives cpu, memory and pids).
id user >/dev/null 2>&1 || useradd -m -u 1000 -s /bin/bash user
grep -q '^user:' /etc/subuid || {
    echo user:100000:65536 >>/etc/subuid
    echo user:100000:65536 >>/etc/subgid
}
mkdir -p /var/lib/systemd/linger /etc/systemd/system/user@.service.d
: >/var/lib/systemd/linger/user
printf '[Service]\nDelegate=cpu cpuset io memory pids\n' >/etc/systemd/system/user@.service.d/delegate.conf

# Nothing periodic, and nothing that waits for a network or a console.
for unit in apt-daily.timer apt-daily-upgrade.timer man-db.timer fstrim.timer e2scrub_all.timer e2scrub_reap.service \
    dpkg-db-backup.timer systemd-networkd.service systemd-networkd.socket systemd-networkd-wait-online.service \
    systemd-resolved.service systemd-timesyncd.service systemd-firstboot.service systemd-pcrphase.service \
    systemd-pcrmachine.service systemd-tpm2-setup.service tpm2.target systemd-udev-load-credentials.service \
    systemd-boot-update.service systemd-growfs-root.service ldconfig.service getty@tty1.service \
    serial-getty@ttyS0.service podman-auto-update.timer podman-auto-update.service podman-restart.service \
    podman-clean-transient.service; do
    ln -sf /dev/null "/etc/systemd/system/$unit"
done

mkdir -p /etc/docker /etc/containers /opt/lab/bin
# /opt/lab/bin/labrt is whatever runtime is under test. There is no network for dockerd to make a bridge in.
ln -sf /usr/sbin/runc /opt/lab/bin/labrt
cat >/etc/docker/daemon.json <<'JSON'
{
  "bridge": "none", "iptables": false, "ip6tables": false, "ip-forward": false, "ip-masq": false,
  "userland-proxy": false,
  "runtimes": { "crun": { "path": "/usr/bin/crun" }, "labrt": { "path": "/opt/lab/bin/labrt" } }
}
JSON
cat >/etc/containers/containers.conf <<'TOML'
[containers]
default_sysctls = []
[engine]
runtime_supports_json = ["crun", "runc", "labrt"]
runtime_supports_nocgroups = ["crun", "labrt"]
[engine.runtimes]
labrt = ["/opt/lab/bin/labrt"]
TOML
[[ -e /etc/containers/policy.json ]] || printf '{"default":[{"type":"insecureAcceptAnything"}]}\n' >/etc/containers/policy.json

mkdir -p /etc/systemd/journald.conf.d /etc/systemd/system.conf.d
printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=64M\nForwardToConsole=no\n' >/etc/systemd/journald.conf.d/lab.conf
printf '[Manager]\nDefaultTimeoutStartSec=300\nDefaultTimeoutStopSec=30\n' >/etc/systemd/system.conf.d/lab.conf
printf '%s\n' overlay loop br_netfilter nf_tables ip_tables inet_diag unix_diag packet_diag netlink_diag \
    af_packet_diag tun veth dummy >/etc/modules-load.d/lab.conf
systemctl enable lab-agent.service containerd.service docker.service docker.socket podman.socket apparmor.service \
    >/dev/null 2>&1 || true

# A root file system of busybox: as a directory, as a tar for the engines, and in a bundle.
tree=/opt/lab/rootfs
rm -rf $tree
mkdir -p $tree/{bin,sbin,usr/bin,usr/sbin,etc,proc,sys,dev,tmp,root,home,var,run,opt,mnt}
chmod 1777 $tree/tmp
cp /usr/bin/busybox $tree/bin/busybox
for applet in $(/usr/bin/busybox --list); do
    [[ $applet == busybox ]] || ln -sf busybox "$tree/bin/$applet"
done
ln -s /bin/busybox $tree/usr/bin/env
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\napp:x:1234:1234:app:/home:/bin/sh\n' >$tree/etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\napp:x:1234:\nextra:x:2345:app\n' >$tree/etc/group
echo lab >$tree/etc/hostname
: >$tree/etc/hosts
: >$tree/etc/resolv.conf
tar -C $tree --numeric-owner -cf /opt/lab/busybox.tar .
mkdir -p /opt/lab/bundle
cp -a $tree /opt/lab/bundle/rootfs
