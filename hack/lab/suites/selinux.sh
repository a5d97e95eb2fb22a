# shellcheck shell=bash
# The black-box tests of SELinux, in a guest that boots with it, under a policy of their own. It is permissive: what a
# label forbids is the policy's affair, that it is set is skep's. Arguments: other tests than those named selinux::.
# lab: timeout 1800
# lab: append security=selinux enforcing=0
# lab: file selinux.policy secilc -M true -f /dev/null hack/lab/suites/selinux.cil -o
cat selinux.policy >/sys/fs/selinux/load || exit 1
printf 'SELinux: %s, enforce=%s, as %s\n' "$(cat /sys/kernel/security/lsm)" "$(cat /sys/fs/selinux/enforce)" \
    "$(tr -d '\0' </proc/self/attr/current)"
(($#)) || set -- selinux::
exec bash hack/lab/suites/blackbox.sh "$@"
