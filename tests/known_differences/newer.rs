//! Fields of the specification that Debian 12's runc and crun do not know yet: they ignore or refuse them.

use super::Table;
use crate::harness::Kind;

const RUNC: Table = &[
    ("runc 1.1 gives exec the usual umask", &["credentials::a_process_file_inherits_the_umask"]),
    (
        "runc 1.1 has no time namespaces",
        &[
            "timens::a_created_container_is_in_it_already",
            "timens::a_time_namespace_in_a_joined_user_namespace",
            "timens::a_time_namespace_in_a_user_namespace",
            "timens::a_time_namespace_is_joined_by_path",
            "timens::a_time_namespace_is_joined_with_a_new_user_namespace",
            "timens::a_time_namespace_without_offsets_is_new",
            "timens::a_time_namespace_without_root",
            "timens::exec_sees_the_clocks_of_the_container",
            "timens::hooks_inside_see_its_clocks",
            "timens::offsets_without_a_time_namespace_are_refused",
            "timens::one_clock_alone_may_have_an_offset",
            "timens::the_offsets_are_those_of_the_config",
            "timens::uptime_begins_where_the_offset_says",
        ],
    ),
    (
        "runc 1.1 has no scheduler, ioPriority, execCPUAffinity, memoryPolicy and personality",
        &[
            "scheduling::a_bad_personality_is_refused",
            "scheduling::a_created_container_has_its_scheduler",
            "scheduling::a_memory_policy_on_nodes_that_do_not_exist_is_reported",
            "scheduling::a_policy_no_kernel_has_is_explained",
            "scheduling::a_process_file_has_a_scheduler_of_its_own",
            "scheduling::a_process_file_has_an_affinity_of_its_own",
            "scheduling::a_realtime_io_priority_works_in_a_user_namespace",
            "scheduling::bad_io_priorities_are_refused",
            "scheduling::bad_lists_of_cpus_are_refused",
            "scheduling::bad_memory_policies_are_refused",
            "scheduling::bad_schedulers_are_refused",
            "scheduling::deadline_is_set",
            "scheduling::exec_has_the_io_priority_of_the_container",
            "scheduling::exec_has_the_memory_policy_of_the_container",
            "scheduling::exec_has_the_personality_of_the_container",
            "scheduling::exec_has_the_scheduler_of_the_container",
            "scheduling::exec_on_cpus_that_do_not_exist_is_reported",
            "scheduling::exec_runs_on_the_final_cpus",
            "scheduling::exec_runs_on_the_initial_cpus_where_no_others_are_said",
            "scheduling::idle_is_set",
            "scheduling::memory_policies_are_set",
            "scheduling::nice_and_batch_are_set",
            "scheduling::personality_is_set",
            "scheduling::personality_is_set_before_the_filter",
            "scheduling::realtime_policies_are_set",
            "scheduling::realtime_without_privilege_is_reported",
            "scheduling::realtime_works_in_a_user_namespace",
            "scheduling::reset_on_fork_is_set",
            "scheduling::the_io_priority_is_set",
        ],
    ),
];

const CRUN: Table = &[
    (
        "crun 1.8 hands the kernel -1, which leaves the process root",
        &[
            "credentials::the_id_that_means_no_change_is_refused",
            "credentials::the_id_that_means_no_change_is_refused_for_exec",
        ],
    ),
    (
        "crun's exec takes this from its own defaults, not from the container",
        &[
            "credentials::a_process_file_has_groups_of_its_own",
            "credentials::a_process_file_inherits_the_umask",
            "credentials::limits_apply_in_a_user_namespace",
        ],
    ),
    (
        "crun 1.8 has no time namespaces",
        &[
            "timens::a_created_container_is_in_it_already",
            "timens::a_time_namespace_in_a_joined_user_namespace",
            "timens::a_time_namespace_in_a_user_namespace",
            "timens::a_time_namespace_is_joined_by_path",
            "timens::a_time_namespace_is_joined_with_a_new_user_namespace",
            "timens::a_time_namespace_without_offsets_is_new",
            "timens::a_time_namespace_without_root",
            "timens::an_unknown_clock_is_refused",
            "timens::exec_sees_the_clocks_of_the_container",
            "timens::hooks_inside_see_its_clocks",
            "timens::offsets_without_a_time_namespace_are_refused",
            "timens::one_clock_alone_may_have_an_offset",
            "timens::the_offsets_are_those_of_the_config",
            "timens::uptime_begins_where_the_offset_says",
        ],
    ),
    (
        "crun 1.8 has no scheduler, ioPriority, execCPUAffinity and memoryPolicy, and ignores flags of a personality",
        &[
            "scheduling::a_bad_personality_is_refused",
            "scheduling::a_created_container_has_its_scheduler",
            "scheduling::a_memory_policy_on_nodes_that_do_not_exist_is_reported",
            "scheduling::a_policy_no_kernel_has_is_explained",
            "scheduling::a_process_file_has_a_scheduler_of_its_own",
            "scheduling::a_process_file_has_an_affinity_of_its_own",
            "scheduling::a_realtime_io_priority_works_in_a_user_namespace",
            "scheduling::bad_io_priorities_are_refused",
            "scheduling::bad_lists_of_cpus_are_refused",
            "scheduling::bad_memory_policies_are_refused",
            "scheduling::bad_schedulers_are_refused",
            "scheduling::deadline_is_set",
            "scheduling::exec_has_the_io_priority_of_the_container",
            "scheduling::exec_has_the_memory_policy_of_the_container",
            "scheduling::exec_has_the_scheduler_of_the_container",
            "scheduling::exec_on_cpus_that_do_not_exist_is_reported",
            "scheduling::exec_runs_on_the_final_cpus",
            "scheduling::exec_runs_on_the_initial_cpus_where_no_others_are_said",
            "scheduling::idle_is_set",
            "scheduling::memory_policies_are_set",
            "scheduling::nice_and_batch_are_set",
            "scheduling::realtime_policies_are_set",
            "scheduling::realtime_without_privilege_is_reported",
            "scheduling::realtime_works_in_a_user_namespace",
            "scheduling::reset_on_fork_is_set",
            "scheduling::the_io_priority_is_set",
        ],
    ),
    (
        "crun may leave its cgroup behind for a moment when it refuses this",
        &[
            "timens::a_clock_before_zero_is_refused",
            "timens::a_number_that_is_no_offset_is_refused",
            "timens::too_many_nanoseconds_are_refused",
            "timens::offsets_of_a_joined_namespace_are_refused",
        ],
    ),
];

/// What is newer than this runtime.
pub(super) fn table(kind: Kind) -> Table {
    match kind {
        Kind::Runc => RUNC,
        Kind::Crun => CRUN,
        Kind::Skep => &[],
    }
}
