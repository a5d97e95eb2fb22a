# shellcheck shell=bash
# Ten daemon-reloads while a container loops over devices of its configuration, of a hook and of an update: the same
# test with skep, runc and crun. Only skep's counts.
# lab: timeout 3600
export SKEP_TEST_PROBE=/opt/skep/bin/probe SKEP_TEST_PATIENCE=${SKEP_TEST_PATIENCE:-6}
for peer in runc crun; do
    said=passed
    RUNTIME=$(command -v "$peer") bin/blackbox systemd::devices_survive_daemon_reloads >"/run/lab/$peer.log" 2>&1 || said=failed
    printf '# %s: %s\n' "$peer" "$said"
    [[ $said == passed ]] || sed -n '/panicked at/,/^$/p' "/run/lab/$peer.log" | head -n 6 | sed 's/^/#   /'
done
RUNTIME=/opt/skep/bin/skep exec bin/blackbox systemd::devices_survive_daemon_reloads
