//! Redirect and ports.

use super::*;

fn args(pod: &Value) -> Vec<&str> {
    let init =
        pod["spec"]["initContainers"].as_array().unwrap().iter().find(|one| one["name"] == INIT).unwrap();
    init["args"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

fn ports_of(pod: Value) -> Value {
    with(pod, "inject-mode", "ports")
}

/// Where the Service `checkout` sends to a number.
fn by_number(port: u16) -> World {
    let mut world = world();
    put_service(&mut world, "checkout", json!({"app": "checkout"}), json!(port));
    world
}

#[test]
fn excluded_ports_are_handed_on() {
    let pod = with(with(pod(), "inject-exclude-inbound", "9090, 8081"), "inject-exclude-outbound", "5432");
    let injected = injected(&world(), &pod, true);
    assert_eq!(args(&injected)[5..], ["--exclude-inbound=8081,9090", "--exclude-outbound=5432"]);
    for wrong in ["http", "0", "65536", "80;81"] {
        let why = refused(&world(), &with(pod.clone(), "inject-exclude-inbound", wrong), true);
        assert!(why.starts_with("annotation sidetrack.dev/inject-exclude-inbound: "), "{why}");
    }
    let many: Vec<String> = (1..=65).map(|port| port.to_string()).collect();
    assert!(
        refused(&world(), &with(pod, "inject-exclude-inbound", &many.join(",")), true)
            .contains("more than 64")
    );
}

#[test]
fn only_the_redirect_has_rights_and_only_these() {
    let redirected = injected(&world(), &pod(), true);
    let security = &redirected["spec"]["initContainers"][0]["securityContext"];
    assert_eq!(security["capabilities"], json!({"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]}));
    for security in [security, &proxy(&redirected)["securityContext"]] {
        assert_eq!(
            (&security["privileged"], &security["allowPrivilegeEscalation"]),
            (&json!(false), &json!(false))
        );
    }
    let swapped = injected(&world(), &ports_of(pod()), true);
    assert!(!swapped.to_string().contains("NET_ADMIN"));
    assert!(
        refused(&world(), &with(pod(), "inject-mode", "tproxy"), true).contains("neither redirect nor ports")
    );
}

#[test]
fn a_cluster_may_have_a_level_and_a_mode_of_its_own() {
    let ask = |world: &World, mode: &str, level: &str| {
        let settings = Settings { mode: mode.into(), pod_security: level.into(), ..settings() };
        let pod = pod();
        Asked { pod: Pod(&pod), namespace: "shop", world, settings: &settings, native: true, ca: CA }
            .verdict()
    };
    for level in ["baseline", "restricted"] {
        let Verdict::Refuse(why) = ask(&world(), "redirect", level) else { panic!("{level}") };
        assert!(why.contains(&format!("by the cluster's default: {level}")), "{why}");
        let Verdict::Inject(pod, _) = ask(&world(), "ports", level) else { panic!("{level}") };
        assert!(!pod.to_string().contains("NET_ADMIN"));
    }
    // Who labels a namespace knows better.
    let mut world = world();
    put_namespace(&mut world, "shop", json!({"pod-security.kubernetes.io/enforce": "privileged"}));
    assert!(matches!(ask(&world, "redirect", "baseline"), Verdict::Inject(..)));
}

#[test]
fn a_port_by_name_becomes_the_sidecars_and_probes_ask_the_app() {
    for native in [true, false] {
        let pod = injected(&world(), &ports_of(pod()), native);
        let app = pod["spec"]["containers"].as_array().unwrap().last().unwrap();
        assert_eq!(app["ports"], json!([{"name": "http", "containerPort": 15006}]));
        assert_eq!(app["readinessProbe"]["httpGet"]["port"], 8080);
        assert_eq!(app["livenessProbe"]["tcpSocket"]["port"], 8080);
        assert_eq!(env(app, "SIDETRACK_OUTBOUND"), Some("http://127.0.0.1:15001"));
        assert_eq!(env(app, "PORT"), None);
        assert_eq!(env(proxy(&pod), "SIDETRACK_INBOUND_PORT"), Some("15006"));
        assert_eq!(env(proxy(&pod), "SIDETRACK_APP_PORT"), Some("8080"));
        assert!(!names(&pod["spec"]["initContainers"]).contains(&INIT));
    }
}

#[test]
fn a_port_by_number_is_the_sidecars_and_the_app_is_told_another() {
    let world = by_number(8080);
    assert!(refused(&world, &ports_of(pod()), true).contains("sidetrack.dev/app-port"));
    assert!(
        refused(&world, &with(ports_of(pod()), "app-port", "8080"), true).contains("sidetrack.dev/app-port")
    );
    assert!(refused(&world, &with(ports_of(pod()), "app-port", "no"), true).contains("is no port"));
    let swapped = injected(&world, &with(ports_of(pod()), "app-port", "8081"), true);
    let app = &swapped["spec"]["containers"][0];
    assert_eq!(env(app, "PORT"), Some("8081"));
    assert_eq!(app["readinessProbe"]["httpGet"]["port"], 8081);
    assert_eq!(app["livenessProbe"]["tcpSocket"]["port"], 8081);
    assert_eq!(env(proxy(&swapped), "SIDETRACK_INBOUND_PORT"), Some("8080"));
    assert_eq!(env(proxy(&swapped), "SIDETRACK_APP_PORT"), Some("8081"));

    let mut taken = with(ports_of(pod()), "app-port", "8081");
    taken["spec"]["containers"][0]["env"] = json!([{"name": "PORT", "value": "8080"}]);
    assert_eq!(env(&injected(&world, &taken, true)["spec"]["containers"][0], "PORT"), Some("8081"));
    let from = json!([{"name": "PORT", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "p"}}}]);
    taken["spec"]["containers"][0]["env"] = from;
    assert!(refused(&world, &taken, true).contains("variable PORT"));
}

#[test]
fn where_ports_can_not_work_it_says_so() {
    let low = with(ports_of(pod()), "app-port", "8081");
    assert!(refused(&by_number(80), &low, true).contains("without privilege"));
    let mut two = world();
    put_service(&mut two, "admin", json!({"app": "checkout"}), json!(9090));
    assert!(refused(&two, &ports_of(pod()), true).contains("more than one port"));
    let mut nameless = ports_of(pod());
    nameless["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8080}]);
    assert!(refused(&world(), &nameless, true).contains("no container has one of that name"));
    let mut unclear = with(ports_of(pod()), "app-port", "8081");
    unclear["spec"]["containers"] = json!([{"name": "a"}, {"name": "b"}]);
    assert!(refused(&by_number(8080), &unclear, true).contains("no container says"));
}

/// A worker calls others and is called by nobody.
#[test]
fn a_pod_behind_no_service_has_the_way_out_only() {
    let mut worker = ports_of(pod());
    worker["metadata"]["labels"] = json!({"app": "worker"});
    let swapped = injected(&world(), &worker, true);
    assert_eq!(swapped["spec"]["containers"][0]["ports"][0]["containerPort"], 8080);
    assert_eq!(env(&swapped["spec"]["containers"][0], "SIDETRACK_OUTBOUND"), Some("http://127.0.0.1:15001"));
    assert_eq!(env(proxy(&swapped), "SIDETRACK_MODE"), Some("ports"));
    assert_eq!(env(proxy(&swapped), "SIDETRACK_APP_PORT"), None);
    assert_eq!(env(proxy(&swapped), "SIDETRACK_SERVICE"), Some(""));
}
