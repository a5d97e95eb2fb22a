//! Those of crun 1.8.1.

use super::{NET_DEVICES, Table};

pub(super) const CRUN: Table = &[
    (
        "crun 1.8 gives a process of a document no limits but its own",
        &["exec::a_process_file_inherits_the_resource_limits"],
    ),
    (
        "crun 1.8 knows no network devices, and fails for them or not, as it may be",
        &["net_devices::a_failed_run_gives_all_devices_back"],
    ),
    (
        "crun 1.8 knows no nice value; it may be the caller's own",
        &["scheduling::nice_works_without_root"],
    ),
    ("newer than crun 1.8", NET_DEVICES),
    ("crun mounts on / what nobody sees", &["devices::the_root_may_be_among_the_read_only_paths"]),
    (
        "crun takes such a rule, or fails and leaves the cgroup",
        &["device_rules::a_rule_for_an_unknown_type_is_refused"],
    ),
    (
        "crun may say that it cannot make the directory, not that the container is there",
        &["bad_input::a_second_create_at_the_same_moment"],
    ),
    ("crun opens an empty path", &["namespaces::an_empty_path_is_a_new_namespace"]),
    (
        "crun has words of its own for this, or names nothing",
        &[
            "labels::an_apparmor_profile_without_apparmor_is_refused",
            "labels::an_apparmor_profile_of_exec_without_apparmor_is_refused",
            "bad_config::an_empty_mount_destination",
            "bad_config::unknown_versions",
            "bad_config::wrongly_typed_fields",
            "bad_input::a_program_that_is_a_directory",
            "bad_input::a_program_that_is_not_executable",
            "bad_input::bad_ids_for_create",
            "bad_input::bad_ids_for_every_command",
            "bad_input::no_arguments",
            "bad_input::no_working_directory",
            "bad_targets::a_symlink_loop_as_a_target",
            "cli::a_missing_operand_is_reported",
            "cli::a_surplus_operand_is_reported",
            "cli::an_unknown_cgroup_manager_is_refused",
            "cli::no_command_prints_help",
            "cli::the_systemd_driver_without_systemd_fails",
            "exec::exec_of_a_directory_fails",
            "exec::exec_of_a_file_that_is_not_executable_fails",
            "hooks::a_failing_hook_is_named_in_the_error",
            "lifecycle::start_without_a_process_is_reported",
            "mounts::a_bind_mount_without_the_option_is_refused",
            "mounts::a_directory_on_a_file_is_reported",
            "mounts::a_file_on_a_directory_is_reported",
            "mounts::an_unknown_file_system_is_reported",
            "mounts::an_unknown_option_goes_to_the_file_system",
            "terminal::create_without_a_console_socket_is_refused",
            "terminal::exec_detached_with_a_terminal_needs_a_socket",
        ],
    ),
    (
        "crun does not check this",
        &[
            "bad_config::an_environment_without_an_equals_sign",
            "bad_config::an_unknown_propagation",
            "bad_input::unknown_signals",
            "cli::a_root_of_slash_is_refused",
            "cli::an_invalid_number_is_refused",
            "descriptors::a_preserved_descriptor_that_is_not_open_is_refused",
            "devices::a_relative_device_path_is_refused",
            "devices::an_unknown_device_type_is_refused",
            "exec_user::a_missing_part_is_refused_or_harmless",
            "exec_user::a_number_that_does_not_fit_is_refused",
            "exec_user::nothing_but_decimal_numbers_is_accepted",
            "hooks::a_timeout_that_is_not_positive_is_refused",
            "mounts::an_unknown_option_on_a_bind_mount_is_refused",
            "namespaces::a_duplicate_namespace_is_refused",
            "namespaces::mappings_without_a_user_namespace_are_refused",
            "process::a_duplicate_resource_limit_is_refused",
            "process::a_relative_working_directory_is_refused",
            "root::root_propagation_is_set",
            "seccomp::a_profile_without_names_is_refused",
            "seccomp::listener_metadata_without_a_path_is_refused",
            "seccomp::notify_without_a_listener_path_is_refused",
            "terminal::a_console_socket_without_a_terminal_is_refused",
            "cve_process::a_sysctl_value_smuggles_nothing",
            "update::update_of_a_stopped_container_is_refused",
            "update::update_of_broken_json_fails_and_changes_nothing",
            "cgroups::a_busy_cgroup_is_refused",
            "pause::resume_of_a_running_container_is_refused",
        ],
    ),
    (
        "crun leaves its cgroups behind when a limit cannot be applied",
        &[
            "bad_config::limits_out_of_range",
            "bad_config::limits_the_host_cannot_apply",
            "cgroups::a_swap_limit_below_memory_is_refused",
            "cgroups::an_impossible_cpuset_is_reported",
            "cgroups::an_invalid_cpu_period_is_reported",
            "cgroups::an_unknown_huge_page_size_is_reported",
            "cgroups::network_class_is_refused_or_set",
            "cgroups::unified_is_refused_on_v1",
        ],
    ),
    (
        "crun drops what it cannot set without privilege",
        &[
            "rootless::a_limit_that_cannot_be_set_is_reported",
            "rootless::additional_groups_are_refused",
        ],
    ),
    (
        "crun maps ids by /etc/subuid when the config maps none",
        &["rootless::the_rootless_template_runs"],
    ),
    (
        "crun 1.8 cannot make the mount of a file recursively read-only",
        &["engine_configs::docker_limited", "mount_options::recursive_read_only_works_for_a_file"],
    ),
    ("crun writes an empty label as well", &["labels::empty_labels_are_none"]),
    ("crun crashes", &["bad_config::a_nul_in_a_string"]),
    ("crun takes only the 1.0 versions", &["bad_config::later_minor_versions_are_accepted"]),
    (
        "crun leaves its state directory behind",
        &["bad_input::a_full_file_descriptor_table", "bad_input::no_space_in_the_state_directory"],
    ),
    (
        "crun delete --force does not remove a container whose state is broken",
        &["bad_input::a_state_file_cut_in_half", "bad_input::a_state_file_that_is_no_json"],
    ),
    ("crun waits for ever in a frozen cgroup", &["cgroups::a_frozen_cgroup_is_refused"]),
    (
        "crun refuses -1 on cgroup v1",
        &[
            "device_rules::a_negative_device_number_is_a_wildcard",
            "cgroups::an_unlimited_pids_limit_is_accepted",
            "cgroups::cpu_quota_and_period_are_set",
            "update::update_pids_limit",
        ],
    ),
    (
        "crun writes the weight to a file this kernel does not have",
        &["cgroups::blkio_weight_is_set_where_there_is_one", "update::update_blkio_weight"],
    ),
    (
        "newer than crun 1.8",
        &["cgroups::cpu_burst_is_set", "mount_options::recursive_options_are_set"],
    ),
    (
        "crun parses by getopt: two dashes, flags before operands, no booleans with values, usage errors are 64",
        &[
            "cli::a_flag_may_carry_its_value_after_an_equals_sign",
            "cli::a_switch_may_be_given_a_boolean",
            "cli::an_invalid_boolean_is_refused",
            "cli::every_command_has_help",
            "cli::flags_may_follow_the_id",
            "cli::global_flags_may_have_one_dash",
            "cli::long_flags_may_have_one_dash",
            "cli::the_bundle_flag_takes_an_equals_sign_in_its_short_form",
            "cli::the_criu_flag_of_old_shims_is_accepted",
            "cli::the_no_subreaper_flag_is_accepted_with_one_dash",
            "cli::the_program_has_help",
            "cli::short_flags_are_known",
            "cli::repeated_lists_append",
            "exec::both_forms_of_a_flag_may_be_mixed",
            "exec::exec_adds_to_the_environment",
            "exec::exec_environment_overrides_that_of_the_container",
        ],
    ),
    (
        "crun 1.8 has no such command or flag",
        &[
            "cli::help_names_every_command",
            "cli::checkpoint_has_help",
            "printing::features_is_json_and_nothing_else",
            "printing::features_names_what_engines_look_for",
            "run::run_keep_keeps_the_stopped_container",
            "printing::ps_as_a_table_is_that_of_the_host",
            "printing::ps_passes_arguments_to_the_ps_of_the_host",
            "update::update_memory_with_a_unit",
        ],
    ),
    (
        "crun has gone to the bundle before it opens the path",
        &[
            "cli::a_relative_root_is_relative_to_the_caller",
            "printing::a_relative_log_is_relative_to_the_caller",
            "run::a_relative_pid_file_is_relative_to_the_caller",
        ],
    ),
    (
        "crun 1.8 is open to this attack, or answers it otherwise",
        &[
            "cve::a_sysctl_on_a_false_proc",
            "cve::a_volume_over_proc",
            "cve::dev_is_a_symlink",
            "cve::masking_with_a_false_dev_null",
            "mounts::a_mount_on_proc_other_than_proc_is_refused",
            "exec::exec_refuses_a_cgroup_outside_the_container",
        ],
    ),
    (
        "crun's init holds its working directory and cgroup open until start",
        &["descriptors::a_created_container_holds_nothing_of_the_caller"],
    ),
    (
        "crun counts the sockets of LISTEN_FDS otherwise",
        &[
            "descriptors::listen_fds_are_passed",
            "descriptors::listen_fds_come_before_preserved_descriptors",
        ],
    ),
    ("crun does not tell MAINPID", &["descriptors::the_notify_socket_is_forwarded"]),
    (
        "crun makes its nodes in a bound /dev",
        &["devices::the_devices_of_a_bound_dev_are_left_alone"],
    ),
    (
        "crun's exec takes this from its own defaults, not from the container",
        &[
            "exec::exec_applies_the_oom_score_of_the_container",
            "exec::exec_applies_the_resource_limits_of_the_container",
            "exec::exec_keeps_no_new_privileges_of_the_container",
            "exec::exec_takes_capabilities",
            "rootless::the_oom_score_is_set_without_root",
        ],
    ),
    (
        "crun may give up on a cgroup that stays busy for a moment",
        &["pause::delete_force_of_a_container_that_somebody_else_thaws"],
    ),
    ("crun may list in any order", &["printing::list_quiet_prints_ids"]),
    (
        "crun sets HOME otherwise",
        &[
            "exec::exec_sets_home_from_passwd",
            "process::an_empty_home_is_replaced",
            "process::home_without_passwd_is_slash",
        ],
    ),
    (
        "crun does not fail when this hook fails",
        &[
            "hooks::a_failing_poststart_hook_stops_the_container",
            "hooks::a_failing_start_container_hook_makes_start_fail",
        ],
    ),
    (
        "crun kills only the hook itself",
        &["hooks::a_hook_past_its_timeout_is_killed_with_its_children"],
    ),
    (
        "crun may warn, or die of SIGPIPE, when a hook does not read",
        &["hooks::a_hook_that_does_not_read_its_standard_input"],
    ),
    (
        "crun gives hooks its own environment",
        &["hooks::a_hook_without_an_environment_has_none_of_the_callers"],
    ),
    (
        "crun gives hooks another status, and no pid where it is the container's",
        &[
            "hooks::each_hook_gets_the_state_on_standard_input",
            "hooks::the_pid_in_the_state_is_that_of_init",
        ],
    ),
    (
        "crun runs poststart before the program has started, and may die of SIGPIPE",
        &[
            "hooks::every_hook_runs_in_its_order",
            "hooks::hooks_of_a_phase_run_in_listed_order",
            "hooks::run_runs_every_hook",
        ],
    ),
    (
        "crun runs no poststop hooks after a failed create",
        &["hooks::poststop_runs_after_a_failed_create"],
    ),
    (
        "crun hides what hooks print",
        &["hooks::the_standard_error_of_a_failing_hook_is_in_the_error"],
    ),
    (
        "crun does not know it",
        &[
            "lifecycle::kill_takes_a_lower_case_name",
            "mount_options::contrary_options_the_last_wins",
        ],
    ),
    (
        "crun's JSON and tables have another shape",
        &[
            "lifecycle::state_has_the_fields_of_the_specification",
            "printing::list_as_a_table_has_a_header_and_rows",
            "printing::list_as_json_has_the_fields_of_state",
            "printing::list_as_json_of_nothing_is_null",
            "printing::state_is_indented_json",
            "printing::spec_rootless_has_a_user_namespace",
        ],
    ),
    (
        "crun's log has another shape, and nothing in it for some failures",
        &[
            "printing::a_failure_leaves_one_json_record_in_the_log",
            "printing::a_failure_leaves_one_text_record_in_the_log",
            "printing::debug_writes_records_below_error",
        ],
    ),
    (
        "crun makes and mounts directories with other modes",
        &[
            "mounts::a_missing_target_directory_is_made",
            "mounts::tmpfs_keeps_the_mode_of_the_directory",
        ],
    ),
    (
        "crun leaves the tmpfs over the v1 controllers writable",
        &["mounts::cgroup_is_read_only_when_asked"],
    ),
    (
        "crun records nothing before the container runs, so what is left may depend on the moment",
        &["bad_input::a_runtime_killed_at_any_moment_leaves_what_delete_force_removes"],
    ),
    ("crun does not pause what has not started", &["pause::pause_of_a_created_container"]),
    (
        "crun's root propagation covers that of the mounts",
        &["root::a_slave_root_sees_later_host_mounts", "root::propagation_of_a_mount_is_set"],
    ),
    (
        "crun reads flags behind the operands, lists nothing, and starts in a busy cgroup",
        &[
            "cli::kill_leaves_what_follows_the_id_to_be_the_signal",
            "default_root::an_explicit_root_that_is_missing_is_an_error",
            "granted::the_hint_for_ordinary_users_is_not_for_root",
        ],
    ),
    (
        "crun kills init alone in a joined pid namespace",
        &["joined_namespaces::kill_ends_all_of_a_container_in_a_joined_pid_namespace"],
    ),
    ("crun needs open standard streams", &["run::create_works_with_closed_standard_output"]),
    (
        "crun connects although the profile has no use for it",
        &["seccomp::an_unused_listener_path_is_ignored"],
    ),
    (
        "crun keeps the connection open, or sends an exec's listener nowhere",
        &[
            "seccomp::the_notify_listener_is_sent",
            "seccomp::the_notify_listener_of_an_exec_is_sent",
        ],
    ),
    (
        "crun's terminals belong to root, are named by a space, and get no size in the foreground",
        &[
            "terminal::exec_with_a_terminal_as_a_user",
            "terminal::in_the_foreground_newlines_are_translated_once",
            "terminal::run_passes_size_changes_on",
            "terminal::run_passes_the_first_size_on",
            "terminal::the_master_is_sent_to_the_console_socket",
        ],
    ),
    (
        "crun 1.8 has no room left for a descriptor of its own then",
        &[
            "mount_sources::a_low_soft_limit_of_open_files_in_a_user_namespace",
            "mount_sources::more_bind_mounts_than_open_files_in_a_user_namespace",
        ],
    ),
    (
        "crun 1.8 may start the program of an exec before that has its terminal",
        &["terminal::exec_with_a_terminal_has_its_size"],
    ),
    (
        "crun 1.8 opens all sources first, and maps neither the mounts below nor its own ids without saying so",
        &[
            "idmap::a_hundred_mounts_share_one_mapping",
            "idmap::idmap_leaves_the_mounts_below_alone",
            "idmap::ridmap_maps_the_mounts_below",
            "idmap::the_containers_own_mapping",
            "idmap::the_option_has_ranges",
            "mounts::ten_thousand_mounts",
        ],
    ),
    (
        "the tmpfs around the cgroups of crun 1.8 stays writable",
        &[
            "kernel_mounts::a_cgroup_mount_in_a_user_namespace",
            "kernel_mounts::cgroup_mounts_have_their_attributes",
            "kernel_mounts::every_cgroup_mount_is_read_only",
        ],
    ),
    (
        "crun 1.8 makes nodes and links in a volume behind the image's /dev (a race may be lost)",
        &[
            "cve_mounts::a_copied_up_directory_that_is_swapped_all_the_time",
            "cve_mounts::a_dev_null_that_is_swapped_all_the_time",
            "cve_mounts::a_dev_that_is_swapped_all_the_time",
            "cve_mounts::a_directory_in_dev_leads_into_a_volume",
            "cve_mounts::a_proc_that_is_swapped_all_the_time",
            "cve_mounts::a_read_only_path_that_is_swapped_all_the_time",
            "cve_mounts::dev_leads_into_a_volume",
        ],
    ),
    (
        "crun 1.8 tells a block device of a mount that is read-only too late",
        &["kernel_mounts::a_read_only_block_device_is_mounted"],
    ),
    (
        "crun 1.8 has other words, or hands the option on as it is",
        &[
            "mount_options::a_remount_of_nothing_is_refused",
            "mount_options::access_times_of_the_mounts_below",
            "mount_options::propagation_words_are_applied_in_order",
            "root::an_overlay_with_long_options_is_mounted",
            "root::iversion_is_accepted",
        ],
    ),
    (
        "a remount with crun takes away what it does not name",
        &[
            "mount_options::a_remount_with_long_options",
            "mount_options::locked_flags_stay_in_a_user_namespace",
            "mount_sources::read_only_paths_keep_their_other_flags",
        ],
    ),
    (
        "crun 1.8 fails on a file in the way of a path, and loses the group bit of what it makes",
        &[
            "mount_sources::a_masked_path_that_is_missing_is_ignored",
            "mount_sources::made_directories_inherit_the_group_bit",
        ],
    ),
];
