#!/usr/bin/env bash
# Runs a container of the release binary in a bundle made here, and says how to do the same by hand.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

((EUID == 0)) || die 'this container is made as root: sudo make run'
skep=$(release_binary)
busybox=$(static_busybox) || die 'no static busybox: hack/setup.sh run'

work=$(mktemp -d)
id=skep-demo-$$
state=(--root "$work/state")

finish() {
    "$skep" "${state[@]}" delete --force "$id" >/dev/null 2>&1 || true
    rm -rf --one-file-system "$work"
}
trap finish EXIT

title() {
    if [[ -t 1 ]]; then printf '\e[1m%s\e[0m\n' "$*"; else printf '%s\n' "$*"; fi
}

# milliseconds US: with one decimal.
milliseconds() { printf '%d.%d ms' $(($1 / 1000)) $(($1 % 1000 / 100)); }

bundle=$work/bundle
mkdir -p "$bundle"/rootfs/{bin,dev,proc,sys,tmp}
cp "$busybox" "$bundle/rootfs/bin/busybox"
# Before the container, which could not write: the names of the applets.
"$busybox" --list | grep -vx busybox | while read -r applet; do ln -s busybox "$bundle/rootfs/bin/$applet"; done
cp hack/demo/session "$bundle/rootfs/session"
sed "s/@ID@/$id/" hack/demo/config.json >"$bundle/config.json"

title "$("$skep" --version | head -n 1), $(($(stat -c %s "$skep") / 1024)) kB, static: $skep"
title "# skep run --bundle $bundle $id"
began=${EPOCHREALTIME/./}
status=0
"$skep" "${state[@]}" run --bundle "$bundle" "$id" </dev/null || status=$?
took=$((${EPOCHREALTIME/./} - began))
((status == 7)) || die "the container ended with $status, not with the 7 its shell exits with"
title "# echo \$?"
echo "$status"

fastest=
sed 's|"/bin/sh", "/session"|"/bin/true"|' "$bundle/config.json" >"$work/true.json"
for _ in {1..20}; do
    began=${EPOCHREALTIME/./}
    "$skep" "${state[@]}" run --bundle "$bundle" --config "$work/true.json" "$id" </dev/null
    us=$((${EPOCHREALTIME/./} - began))
    ((${fastest:-$us} < us)) || fastest=$us
done

left=$(find "$work/state" -mindepth 1 2>/dev/null; find /sys/fs/cgroup -type d -name "$id" 2>/dev/null; grep -F "$work" /proc/self/mountinfo || true)
[[ -z $left ]] || die "left behind: $left"
title "The session took $(milliseconds "$took"), a container of /bin/true $(milliseconds "$fastest"); no mount, cgroup or file is left."
title 'The same by hand, with a shell of your own:'
cat <<TEXT
  mkdir -p /tmp/hive/rootfs/bin && cd /tmp/hive && cp $busybox rootfs/bin/ && chroot rootfs /bin/busybox --install -s /bin
  $skep spec
  $skep run hive
TEXT
