//! What the operator has watched, so that looking costs no request: all objects of its own, bridges' and Redis' Pods, nodes,
//! and the `VideoConference`s of one scope.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DynamicObject};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Client, ResourceExt};
use ratssaal_crds::VideoConference;
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::apply::is_owned;
use crate::build::Features;
use crate::kind::Kind;
use crate::names::{COMPONENT, MANAGED_BY, MANAGER};
use crate::owned::Owned;

/// A `VideoConference` that may not be readable: one bad object must not stop the watch of all.
pub(crate) type Guarded = DeserializeGuard<VideoConference>;

/// Everything that is watched in one scope: a namespace or the whole cluster.
#[derive(Clone)]
pub(crate) struct Stores {
    objects: HashMap<Kind, Owned<DynamicObject>>,
    /// Pods of bridges and of managed Redis.
    pub(crate) pods: Owned<Pod>,
    /// All nodes.
    pub(crate) nodes: Store<Node>,
}

/// The watches that fill [`Stores`]; they must be driven.
pub(crate) struct Watches {
    /// Changes of owned objects, by kind.
    pub(crate) objects: Vec<(Kind, BoxStream<'static, watcher::Result<DynamicObject>>)>,
    /// Changes of these Pods.
    pub(crate) pods: BoxStream<'static, watcher::Result<Pod>>,
    /// A node changed in a way that matters.
    pub(crate) nodes: BoxStream<'static, ()>,
}

/// The API of a kind in a scope.
pub(crate) fn api<K>(client: &Client, scope: Option<&str>) -> Api<K>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

impl Stores {
    /// Begins to watch.
    pub(crate) fn watch(client: &Client, scope: Option<&str>, features: Features) -> (Self, Watches) {
        let config = |more: &str| watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER}{more}"));
        let mut objects = HashMap::new();
        let mut streams = Vec::new();
        let optional = [
            (Kind::HttpRoute, features.http_route),
            (Kind::PodMonitor, features.pod_monitor),
            (Kind::Certificate, features.certificate),
        ];
        let optional = optional.into_iter().filter(|(_, there)| *there).map(|(kind, _)| kind);
        for kind in Kind::APPLIED.into_iter().chain(optional) {
            let resource = kind.resource();
            let api: Api<DynamicObject> = match scope {
                Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
                None => Api::all_with(client.clone(), &resource),
            };
            let (owned, changes) = follow(api, config(""), resource);
            objects.insert(kind, owned);
            streams.push((kind, changes));
        }
        let some = config(&format!(",{COMPONENT} in (bridge,redis)"));
        let (pods, pods_changed) = follow(api::<Pod>(client, scope), some, ());
        let (nodes, writer) = store();
        let node_stream = watcher(Api::<Node>::all(client.clone()), watcher::Config::default());
        let node_stream = reflector(writer, node_stream.default_backoff().modify(trim));
        let mut seen = Seen::default();
        let changes = node_stream.filter_map(move |event| std::future::ready(seen.change(event)));
        let nodes_changed = changes.boxed();
        let watches = Watches { objects: streams, pods: pods_changed, nodes: nodes_changed };
        (Self { objects, pods, nodes }, watches)
    }

    /// Waits until everything has been listed once.
    ///
    /// # Errors
    /// When a watch has ended, that is at shutdown.
    pub(crate) async fn ready(&self) -> Result<(), store::WriterDropped> {
        for owned in self.objects.values() {
            owned.store.wait_until_ready().await?;
        }
        self.pods.store.wait_until_ready().await?;
        self.nodes.wait_until_ready().await
    }

    /// An object of the operator's.
    pub(crate) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Arc<DynamicObject>> {
        let reference = ObjectRef::new_with(name, kind.resource()).within(namespace);
        self.objects.get(&kind)?.store.get(&reference)
    }

    /// A Pod.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.pods.store.get(&ObjectRef::new(name).within(namespace))
    }

    /// All objects that an installation owns, but Pods.
    pub(crate) fn owned(&self, namespace: &str, owner: &str) -> Vec<(Kind, Arc<DynamicObject>)> {
        let ours =
            |object: &Arc<DynamicObject>| object.namespace().as_deref() == Some(namespace) && is_owned(object, owner);
        let of = |(kind, objects): (&Kind, &Owned<DynamicObject>)| {
            let kind = *kind;
            objects.of(owner).into_iter().filter(ours).map(move |object| (kind, object)).collect::<Vec<_>>()
        };
        self.objects.iter().flat_map(of).collect()
    }
}

/// Watches what is owned by installations: what there is, and what changes.
fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    kind: K::DynamicType,
) -> (Owned<K>, BoxStream<'static, watcher::Result<K>>)
where
    K: kube::Resource<DynamicType: Clone + Eq + Hash + Send + Sync + Unpin>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let writer = store::Writer::new(kind.clone());
    let owned = Owned::new(writer.as_reader(), kind);
    let noting = owned.clone();
    let events = reflector(writer, watcher(api, config).default_backoff().modify(trim));
    (owned, events.inspect_ok(move |event| noting.note(event)).touched_objects().boxed())
}

/// What nobody looks at is not kept: managed fields are half of an object.
fn trim<K: ResourceExt>(object: &mut K) {
    object.managed_fields_mut().clear();
}

/// Nodes as they were last, as far as it matters.
#[derive(Default)]
struct Seen(HashMap<String, u64>);

impl Seen {
    /// Whether an event is worth a look.
    fn change(&mut self, event: watcher::Result<watcher::Event<Node>>) -> Option<()> {
        let different = match event {
            Ok(watcher::Event::Apply(node) | watcher::Event::InitApply(node)) => {
                let essence = essence(&node);
                self.0.insert(node.name_any(), essence) != Some(essence)
            }
            Ok(watcher::Event::Delete(node)) => self.0.remove(&node.name_any()).is_some(),
            // A node may have gone while the watch was cut.
            Ok(watcher::Event::InitDone) => true,
            Ok(watcher::Event::Init) => false,
            Err(error) => {
                warn!(%error, "nodes cannot be watched");
                false
            }
        };
        different.then_some(())
    }
}

/// What of a node matters: not its heartbeat.
fn essence(node: &Node) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    node.metadata.labels.hash(&mut hasher);
    node.metadata.annotations.as_ref().and_then(|all| all.get(crate::names::MEDIA_ADDRESS)).hash(&mut hasher);
    node.metadata.deletion_timestamp.is_some().hash(&mut hasher);
    let spec = node.spec.as_ref();
    spec.and_then(|spec| spec.unschedulable).hash(&mut hasher);
    for taint in spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default() {
        (&taint.key, &taint.value, &taint.effect).hash(&mut hasher);
    }
    let status = node.status.as_ref();
    for condition in status.and_then(|status| status.conditions.as_deref()).unwrap_or_default() {
        (&condition.type_, &condition.status).hash(&mut hasher);
    }
    for address in status.and_then(|status| status.addresses.as_deref()).unwrap_or_default() {
        (&address.type_, &address.address).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_heartbeat_is_not_worth_a_look_but_going_is() {
        let node = |ready: &str, beat: &str, cordoned: bool| -> Node {
            serde_json::from_value(json!({
                "metadata": { "name": "n" }, "spec": { "unschedulable": cordoned },
                "status": { "conditions": [{ "type": "Ready", "status": ready, "lastHeartbeatTime": beat }] },
            }))
            .unwrap()
        };
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z");
        let mut seen = Seen::default();
        let mut worth = |event| seen.change(Ok(event)).is_some();
        assert!(worth(watcher::Event::Apply(node("True", early, false))));
        assert!(!worth(watcher::Event::Apply(node("True", late, false))));
        assert!(worth(watcher::Event::Apply(node("False", late, false))));
        assert!(worth(watcher::Event::Apply(node("False", late, true))));
        assert!(worth(watcher::Event::Delete(node("False", late, true))));
        assert!(worth(watcher::Event::InitDone));
    }
}
