//! Operators that take over, are killed, lose the API server, lack rights.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use ratssaal_crds::VideoConference;
use ratssaal_operator::rights::{CLUSTER, NAMESPACE, OWN, Right};
use ratssaal_operator::{Kind, LEASE};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::cluster::{Cluster, eventually};
use crate::life::{is_ready, is_ready_within, up};
use crate::world::{Running, World, free_port};

const NAME: &str = "konferenz";

async fn holder(world: &World) -> String {
    let lease = world.api::<Lease>().get_opt(LEASE).await.ok().flatten();
    lease.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default()
}

pub async fn of_two_operators_one_acts_and_the_other_takes_over(cluster: Cluster) {
    let (world, first) = up(&cluster, "leader").await;
    assert_eq!(holder(&world).await, "one");
    let port = world.allocator.lock().unwrap().unwrap();
    let second = Running::start(world.client.clone(), &world.namespace, "two", port);
    sleep(Duration::from_secs(3)).await;
    assert!(second.figure("operator_leader") < 0.5 && first.figure("operator_leader") > 0.5);
    assert!(second.figure("operator_writes_total") < 0.5, "the second one watches");
    // The first one dies without a word; a node joins meanwhile.
    first.kill().await;
    world.add_node(3).await;
    is_ready(&world, 3).await;
    assert_eq!(holder(&world).await, "two");
    assert_eq!(world.pods().await.len(), 3, "no bridge twice");
    second.kill().await;
    world.remove_nodes().await;
}

pub async fn an_operator_that_is_killed_again_and_again_gets_there(cluster: Cluster) {
    let (client, namespace) = cluster.prepare("killed").await;
    let mut world = World::new(client.clone(), namespace.clone());
    world.add_node(1).await;
    world.add_node(2).await;
    world.install(NAME, |_| {}).await;
    let port = free_port();
    // At a different moment each time, with the same name so that it need not wait for the Lease.
    for pause in [60, 90, 120, 150, 180, 240, 300, 400, 500, 700, 900] {
        let operator = Running::start(client.clone(), &namespace, "one", port);
        sleep(Duration::from_millis(pause)).await;
        operator.kill().await;
    }
    let operator = Running::start(client.clone(), &namespace, "one", port);
    world.start_allocator(NAME, port).await;
    is_ready(&world, 2).await;
    assert_eq!(world.pods().await.len(), 2);
    // The same in the middle of an upgrade with people.
    for bridge in world.bridges.lock().unwrap().values_mut() {
        bridge.people = 10;
    }
    let old: Vec<String> = world.pods().await.iter().map(kube::ResourceExt::name_any).collect();
    world.change(NAME, json!({ "image": { "tag": "2" } })).await;
    operator.kill().await;
    for pause in [300, 700, 1100, 1600, 2300] {
        let operator = Running::start(client.clone(), &namespace, "one", port);
        sleep(Duration::from_millis(pause)).await;
        operator.kill().await;
    }
    let operator = Running::start(client, &namespace, "one", port);
    eventually("all bridges are new", 120, async || {
        let pods = world.pods().await;
        pods.len() == 2 && pods.iter().all(|pod| !old.contains(&pod.name_any()))
    })
    .await;
    is_ready(&world, 2).await;
    operator.kill().await;
    world.remove_nodes().await;
}

pub async fn the_api_server_may_restart(cluster: Cluster) {
    let (world, operator) = up(&cluster, "restart").await;
    let before: Vec<String> = world.pods().await.iter().map(kube::ResourceExt::name_any).collect();
    cluster.api_server("stop");
    // Longer than a Lease lasts.
    sleep(Duration::from_secs(30)).await;
    cluster.api_server("start");
    eventually("the API server answers", 60, async || world.client.apiserver_version().await.is_ok()).await;
    world.add_node(3).await;
    // Nodes and Pods count as lost for a while: 60 to 70 s on a machine with nothing else to do, and much longer on a busy one.
    is_ready_within(&world, 3, 400).await;
    let after: Vec<String> = world.pods().await.iter().map(kube::ResourceExt::name_any).collect();
    assert!(before.iter().all(|bridge| after.contains(bridge)), "nobody was harmed: {before:?} {after:?}");
    operator.kill().await;
    world.remove_nodes().await;
}

/// Rules for a role.
fn rules(rights: &[Right]) -> Value {
    let rule =
        |right: &Right| json!({ "apiGroups": [right.group], "resources": [right.resource], "verbs": right.verbs });
    rights.iter().map(rule).collect()
}

async fn grant(world: &World, user: &str) {
    let params = PatchParams::apply("test").force();
    let subject = json!([{ "kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io" }]);
    let role = format!("{}-operator", world.namespace);
    let reference = |kind: &str| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role });
    let api_version = "rbac.authorization.k8s.io/v1";
    let both = [NAMESPACE, OWN].concat();
    let object = json!({ "apiVersion": api_version, "kind": "ClusterRole", "metadata": { "name": role }, "rules": rules(CLUSTER) });
    Api::<ClusterRole>::all(world.client.clone()).patch(&role, &params, &Patch::Apply(object)).await.unwrap();
    let object = json!({ "apiVersion": api_version, "kind": "ClusterRoleBinding", "metadata": { "name": role }, "subjects": subject, "roleRef": reference("ClusterRole") });
    Api::<ClusterRoleBinding>::all(world.client.clone()).patch(&role, &params, &Patch::Apply(object)).await.unwrap();
    let object =
        json!({ "apiVersion": api_version, "kind": "Role", "metadata": { "name": role }, "rules": rules(&both) });
    world.api::<Role>().patch(&role, &params, &Patch::Apply(object)).await.unwrap();
    let object = json!({ "apiVersion": api_version, "kind": "RoleBinding", "metadata": { "name": role }, "subjects": subject, "roleRef": reference("Role") });
    world.api::<RoleBinding>().patch(&role, &params, &Patch::Apply(object)).await.unwrap();
}

/// Changes an object's label, waits until it is put back, deletes it, waits until it is there again.
async fn meddle<K>(world: &World, name: &str)
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = world.api();
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "app.kubernetes.io/name": "else" } } }));
    api.patch(name, &PatchParams::default(), &patch).await.unwrap();
    let good = async || {
        let object = api.get_opt(name).await.unwrap();
        object.is_some_and(|object| {
            object.meta().deletion_timestamp.is_none() && object.labels()["app.kubernetes.io/name"] == "ratssaal"
        })
    };
    eventually("the label is put back", 15, good).await;
    api.delete(name, &DeleteParams::default()).await.unwrap();
    eventually("it is there again", 15, good).await;
}

/// Kinds that only some clusters have, as far as it takes to store them.
async fn define_optional_kinds(world: &World) {
    let params = PatchParams::apply("test").force();
    for kind in Kind::OPTIONAL {
        let resource = kind.resource();
        let name = format!("{}.{}", resource.plural, resource.group);
        let names =
            json!({ "kind": resource.kind, "plural": resource.plural, "singular": resource.kind.to_lowercase() });
        let schema = json!({ "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } });
        let version = json!({ "name": resource.version, "served": true, "storage": true, "schema": schema });
        // Kubernetes guards the names of groups of its own.
        let approved = json!({ "api-approved.kubernetes.io": "unapproved, for a test" });
        let object = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": { "name": name, "annotations": approved },
            "spec": { "group": resource.group, "scope": "Namespaced", "names": names, "versions": [version] },
        });
        let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
        definitions.patch(&name, &params, &Patch::Apply(object)).await.unwrap();
        let objects: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &resource);
        eventually("the kind is served", 20, async || objects.list(&ListParams::default()).await.is_ok()).await;
    }
}

async fn there(world: &World, kind: Kind) -> bool {
    let objects: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &kind.resource());
    !objects.list(&ListParams::default()).await.unwrap().items.is_empty()
}

/// An installation gets everything it consists of, changes its way in, is mended and cleared away, with the rights of the list
/// and no more; and each of them is used on the way.
pub async fn every_right_is_needed_and_no_other(cluster: Cluster) {
    let (client, namespace) = cluster.prepare("rights").await;
    let mut world = World::new(client, namespace);
    define_optional_kinds(&world).await;
    let user = format!("operator-of-{}", world.namespace);
    grant(&world, &user).await;
    world.add_node(1).await;
    world.add_node(2).await;
    let gateway = json!({ "gateway": { "parentRefs": [{ "name": "g" }] } });
    world.install(NAME, |spec| spec["exposure"] = gateway).await;
    let port = free_port();
    let (client, asked) = cluster.recording(Some(&user)).await;
    let operator = Running::start(client, &world.namespace, "one", port);
    world.start_allocator(NAME, port).await;
    is_ready(&world, 2).await;
    eventually("Events", 10, async || {
        !world.api::<Event>().list(&ListParams::default()).await.unwrap().items.is_empty()
    })
    .await;
    assert!(there(&world, Kind::HttpRoute).await && there(&world, Kind::PodMonitor).await);
    let tls = json!({ "issuerRef": { "name": "issuer" } });
    world.change(NAME, json!({ "exposure": { "gateway": null, "ingress": {} }, "tls": tls })).await;
    world.change(NAME, json!({ "observability": { "podMonitor": false } })).await;
    eventually("an Ingress instead of a route, and a certificate is asked for", 20, async || {
        let gone = !there(&world, Kind::HttpRoute).await && !there(&world, Kind::PodMonitor).await;
        gone && there(&world, Kind::Ingress).await && there(&world, Kind::Certificate).await
    })
    .await;
    // All kinds are written again when they were changed, and made again when they were deleted.
    meddle::<ServiceAccount>(&world, &format!("{NAME}-bridge")).await;
    meddle::<Secret>(&world, &format!("{NAME}-bridge-tls")).await;
    meddle::<Service>(&world, NAME).await;
    meddle::<Deployment>(&world, &format!("{NAME}-allocator")).await;
    meddle::<StatefulSet>(&world, &format!("{NAME}-redis")).await;
    meddle::<PodDisruptionBudget>(&world, &format!("{NAME}-bridges")).await;
    meddle::<NetworkPolicy>(&world, &format!("{NAME}-redis")).await;
    meddle::<Ingress>(&world, NAME).await;
    // What is needed no more goes, and a Secret of the user's is read.
    let service = json!({ "ingress": null, "service": { "type": "ClusterIP" } });
    world.change(NAME, json!({ "exposure": service, "tls": { "secretName": "t", "issuerRef": null } })).await;
    eventually("Ingress and Certificate are gone", 20, async || {
        !there(&world, Kind::Ingress).await && !there(&world, Kind::Certificate).await
    })
    .await;
    eventually("the certificate is missed", 20, async || {
        world.condition(NAME, "Ready").await.1 == "CertificateMissing"
    })
    .await;
    world.change(NAME, json!({ "media": { "exposure": "LoadBalancer" } })).await;
    let balancers = ListParams::default().labels("app.kubernetes.io/component=media");
    let balancers = async || world.api::<Service>().list(&balancers).await.unwrap().items.len();
    eventually("bridges have load balancers", 30, async || balancers().await >= 2).await;
    world.change(NAME, json!({ "media": { "exposure": "HostPort" } })).await;
    eventually("they have none", 60, async || balancers().await == 0).await;
    // The same complaint twice is one Event that counts.
    let complains = async || world.condition(NAME, "Degraded").await.2.contains("apiKeysSecretRef");
    for _ in 0..2 {
        world.change(NAME, json!({ "access": { "apiKeysSecretRef": { "name": "k" } } })).await;
        eventually("API keys are missed", 30, complains).await;
        world.change(NAME, json!({ "access": { "apiKeysSecretRef": null } })).await;
        eventually("they are not missed any more", 30, async || !complains().await).await;
    }
    world.cordon(1, true).await;
    eventually("the bridge has left", 60, async || {
        world
            .pods()
            .await
            .iter()
            .all(|pod| pod.spec.as_ref().unwrap().node_name.as_deref() != Some(&*world.node_name(1)))
    })
    .await;
    operator.kill().await;

    let all = CLUSTER.iter().chain(NAMESPACE).chain(OWN);
    let granted: BTreeSet<String> = all
        .flat_map(|right| right.verbs.iter().map(|verb| format!("{verb} {}/{}", right.group, right.resource)))
        .collect();
    let used = asked.rights();
    let needless: Vec<_> = granted.difference(&used).collect();
    assert!(needless.is_empty(), "granted but never used: {needless:?}");
    let lacking: Vec<_> = used.difference(&granted).collect();
    assert!(lacking.is_empty(), "used but not in the list: {lacking:?}");
    let _ = world.api::<VideoConference>().delete(NAME, &DeleteParams::default()).await;
    world.remove_nodes().await;
}
