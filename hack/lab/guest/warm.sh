#!/usr/bin/env bash
# Before the snapshot: everything is up and idle, and what is used often lies in memory.
# shellcheck source=/dev/null
. /usr/lib/lab/lib.sh
systemctl is-system-running --wait
eventually 60 docker info
docker run --rm --network none bb true
podman run --rm --network none bb true
as_user podman run --rm --network none bb true
for runtime in runc crun; do "$runtime" run -b /opt/lab/bundle warm; done
ctr version >/dev/null
for program in skopeo buildah umoci criu jq; do "$program" --version; done
python3 -c 'import json'
systemctl --failed --no-legend
journalctl --sync
sync
free -m
exit 0
