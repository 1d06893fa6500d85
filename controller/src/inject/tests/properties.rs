//! What holds for every pod.

use proptest::prelude::*;

use super::*;

/// Pods of every shape that counts here.
fn any_pod() -> impl Strategy<Value = Value> {
    let value = prop_oneof![Just(json!(null)), Just(json!([])), Just(json!([{"name": "there"}]))];
    let mode = prop_oneof![Just(None), Just(Some("redirect")), Just(Some("ports")), Just(Some("other"))];
    let labels = prop_oneof![
        Just(json!(null)),
        Just(json!({"app": "checkout"})),
        Just(fork()["metadata"]["labels"].clone())
    ];
    (value.clone(), value.clone(), value, labels, mode, any::<bool>(), any::<bool>()).prop_map(
        |(volumes, init, env, labels, mode, on_node, with_lists)| {
            let mut pod = pod();
            pod["metadata"]["labels"] = labels;
            if let Some(mode) = mode {
                pod = with(pod, "inject-mode", mode);
            }
            if with_lists {
                pod["spec"]["volumes"] = volumes;
                pod["spec"]["initContainers"] = init;
                pod["spec"]["containers"][0]["env"] = env;
            }
            pod["spec"]["hostNetwork"] = json!(on_node);
            pod
        },
    )
}

proptest! {
    /// A second call changes nothing, also after what others do between the two; and the patch makes of the pod what
    /// was meant.
    #[test]
    fn injected_once_is_injected_for_ever(pod in any_pod(), native: bool) {
        let world = world();
        if let Verdict::Inject(after, _) = verdict(&world, &pod, native) {
            prop_assert_eq!(verdict(&world, &after, native), Verdict::Leave);
            let mut patched = pod.clone();
            json_patch::patch(&mut patched, &json_patch::diff(&pod, &after)).unwrap();
            prop_assert_eq!(&patched, &*after);
            // As ServiceAccount admission and other webhooks do.
            let mut others = *after;
            pod::push(&mut others, "/spec/volumes", json!({"name": "kube-api-access"}));
            pod::put_first(&mut others, "/spec/containers", vec![json!({"name": "other"})]);
            pod::annotate(&mut others, "other", "was here");
            prop_assert_eq!(verdict(&world, &others, !native), Verdict::Leave);
        }
    }

    /// What an owner wrote stays: containers in their order with their images, volumes, labels.
    #[test]
    fn nothing_of_the_owners_is_lost(pod in any_pod(), native: bool) {
        if let Verdict::Inject(after, _) = verdict(&world(), &pod, native) {
            for list in ["containers", "initContainers", "volumes"] {
                let rest = |pod: &Value| {
                    let all = pod["spec"][list].as_array().cloned().unwrap_or_default();
                    let theirs = all.into_iter().filter(|one| !one["name"].as_str().unwrap().starts_with("sidetrack-"));
                    theirs.map(|one| (one["name"].clone(), one["image"].clone())).collect::<Vec<_>>()
                };
                prop_assert_eq!(rest(&pod), rest(&after));
            }
            prop_assert_eq!(&pod["metadata"]["labels"], &after["metadata"]["labels"]);
        }
    }
}

/// Nothing that a stranger writes as a pod ends the controller.
#[test]
fn odd_pods_are_no_harm() {
    for odd in [
        json!(null),
        json!([]),
        json!({}),
        json!({"spec": []}),
        json!({"spec": {"containers": {}}}),
        json!({"metadata": {"annotations": []}, "spec": {"containers": [null, 7, {"env": {}, "ports": 7}], "volumes": 7}}),
    ] {
        for native in [true, false] {
            let asked = [odd.clone(), with_mode(&odd)];
            for pod in &asked {
                let _ = verdict(&world(), pod, native);
            }
        }
    }
}

fn with_mode(odd: &Value) -> Value {
    let mut pod = odd.clone();
    if pod.is_object() {
        pod["metadata"] =
            json!({"annotations": {"sidetrack.dev/inject-mode": "ports"}, "labels": {"app": "checkout"}});
    }
    pod
}
