#!/usr/bin/env bash
# The first boot: every engine is given its image, so that no run has to.
set -eux
shopt -s inherit_errexit
systemctl is-system-running --wait || systemctl --failed --no-legend
cd /opt/lab/bundle
rm -f config.json
runc spec
jq '.process.terminal = false | .process.args = ["true"] | .root.readonly = false' config.json >config
mv config config.json
systemctl start containerd docker
docker info >/dev/null || {
    journalctl -u docker --no-pager | tail -n 30
    exit 1
}
path='ENV PATH=/bin:/sbin:/usr/bin:/usr/sbin'
docker import -c 'CMD ["sh"]' -c "$path" /opt/lab/busybox.tar bb:latest
docker save -o /opt/lab/bb-image.tar bb:latest
podman import -c 'CMD ["sh"]' -c "$path" /opt/lab/busybox.tar localhost/bb:latest
ctr images import /opt/lab/bb-image.tar
# What is done at the first use only is done here.
docker run --rm --network none bb true
podman run --rm --network none bb true
# shellcheck source=/dev/null
. /usr/lib/lab/lib.sh
as_user podman import -c 'CMD ["sh"]' -c "$path" /opt/lab/busybox.tar localhost/bb:latest
as_user podman run --rm --network none bb true
sync
