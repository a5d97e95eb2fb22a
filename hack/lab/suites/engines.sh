# shellcheck shell=bash
# The engine checks, with engines of their own, once with each cgroup driver. What skep fails runc and crun are asked
# too: a failure that they share is the engine's or the guest's, and counts as skipped. Arguments as for
# integration/engines/run: --driver chooses one, --engine and --check a part, and with a --runtime nobody else is asked.
# lab: timeout 14400
# lab: file skep-engines/debian.tar integration/engines/debian-image
export XDG_CACHE_HOME=/opt/skep SKEP=/opt/skep/bin/skep SKEP_ENGINES_USER=user
# An emulated machine is slow; its /tmp is memory, of which there is little.
export SKEP_ENGINES_PATIENCE=${SKEP_ENGINES_PATIENCE:-4} SKEP_ENGINES_AT_ONCE=${SKEP_ENGINES_AT_ONCE:-50} TMPDIR=/var/tmp
drivers=(cgroupfs systemd) judge=(--judge) rest=() failed=0
while (($#)); do
    case $1 in
    --driver)
        drivers=("$2")
        shift 2
        ;;
    --runtime)
        judge=()
        rest+=("$1" "$2")
        shift 2
        ;;
    *)
        rest+=("$1")
        shift
        ;;
    esac
done
for driver in "${drivers[@]}"; do
    printf '# %s driver\n' "$driver"
    integration/engines/run --driver "$driver" "${judge[@]}" "${rest[@]}" | tee -a /run/lab/engines.log
    ((PIPESTATUS[0] == 0)) || failed=1
done
# The lines that hack/lab/test counts.
if ((${#judge[@]})); then
    sed -nE 's/^judged, .* driver: //p' /run/lab/engines.log
else
    sed -nE 's/^total +[^ ]+ +//p' /run/lab/engines.log
fi
exit "$failed"
