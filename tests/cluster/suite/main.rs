//! Named scenarios against a real kube-apiserver.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod chart;
mod failures;
mod forks;
mod guard;
mod harness;
mod injection;
mod keyless;
mod previews;
mod routes;
mod scale;
mod sidecars;
mod tokens;
mod waypoints;

use std::process::ExitCode;

use sidetrack_cluster_tests::{Case, run};

/// The scenarios of a module, by name.
macro_rules! cases {
    ($($module:ident :: $name:ident),+ $(,)?) => {
        vec![$(Case {
            name: concat!(stringify!($module), "::", stringify!($name)),
            run: |estate| Box::pin($module::$name(estate)),
        }),+]
    };
}

fn main() -> ExitCode {
    run(cases![
        chart::what_is_committed_is_what_helm_renders,
        chart::values_that_nobody_reads_are_refused,
        chart::waypoints_in_use_are_not_switched_off,
        chart::the_crd_is_what_the_binary_prints,
        chart::a_real_api_server_takes_every_option,
        chart::the_controller_has_no_right_too_many,
        chart::named_namespaces_are_enough,
        harness::pods_are_real_servers,
        harness::the_api_server_can_be_killed,
        tokens::tokens_and_rights_are_those_of_the_cluster,
        forks::a_fork_appears_is_unready_and_goes,
        forks::one_of_two_forks_goes,
        forks::another_namespace_must_be_allowed,
        forks::the_older_claim_stays,
        guard::a_selector_that_takes_a_fork_ends_its_routing,
        guard::the_webhook_refuses_a_fork_that_a_service_selects,
        injection::a_pod_of_a_labelled_namespace_is_given_one_sidecar,
        injection::who_declines_or_can_not_have_one_is_made_without,
        injection::a_fork_is_told_its_key_and_its_service,
        injection::mode_ports_takes_the_port_of_the_service,
        injection::without_a_controller_pods_are_made_all_the_same,
        previews::a_clone_is_made_kept_in_step_and_removed,
        previews::a_preview_expires,
        previews::what_was_deployed_by_others_stays,
        previews::a_bad_key_is_refused_by_the_schema,
        previews::one_key_of_two_repositories_is_a_conflict,
        previews::wait_returns_when_every_gateway_has_it,
        routes::an_http_route_changes,
        routes::shares_change,
        routes::an_ingress_is_a_route,
        routes::a_certificate_is_rotated,
        failures::the_api_server_is_killed_and_comes_back,
        failures::every_watch_is_closed_with_410_gone,
        failures::the_leader_is_killed,
        failures::a_gateway_restarts_without_a_controller,
        sidecars::injected_pods_route_every_hop,
        waypoints::they_come_and_go_without_a_failed_call,
        waypoints::the_controller_is_killed_at_each_step,
        waypoints::before_the_release_goes_every_service_is_put_back,
        waypoints::a_tool_that_puts_services_back_is_told,
        waypoints::tools_that_merge_are_answered_at_once,
        waypoints::without_waypoints_its_own_pods_serve,
        waypoints::connections_that_are_kept_need_a_waypoint_that_stays,
        waypoints::dual_stack_services_are_turned,
        waypoints::what_can_have_none_says_so,
        waypoints::the_guard_goes_by_what_the_service_was,
        scale::a_thousand_services_and_a_hundred_previews_of_five_forks,
    ])
}
