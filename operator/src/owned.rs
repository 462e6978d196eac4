//! What is watched of one kind, found by its owner: a look at one installation must not cost more because there are many.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use kube::Resource;
use kube::runtime::reflector::{Lookup as _, ObjectRef, Store};
use kube::runtime::watcher::Event;

type References<K> = HashMap<String, HashSet<ObjectRef<K>>>;

/// A store of one kind, and which of its objects have which owner.
#[derive(Clone)]
pub(crate) struct Owned<K: Resource<DynamicType: Clone + Eq + Hash> + 'static> {
    /// Everything of this kind.
    pub(crate) store: Store<K>,
    kind: K::DynamicType,
    /// By the owner's uid. What is not in the store any more may still be named.
    owners: Arc<Mutex<References<K>>>,
}

impl<K: Resource<DynamicType: Clone + Eq + Hash> + Clone + 'static> Owned<K> {
    /// Of an empty store.
    pub(crate) fn new(store: Store<K>, kind: K::DynamicType) -> Self {
        Self { store, kind, owners: Arc::default() }
    }

    /// What the watch says. The store has been told before.
    pub(crate) fn note(&self, event: &Event<K>) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Apply(object) | Event::InitApply(object) => {
                for owner in object.meta().owner_references.iter().flatten() {
                    let reference = object.to_object_ref(self.kind.clone());
                    owners.entry(owner.uid.clone()).or_default().insert(reference);
                }
            }
            Event::Delete(object) => {
                let reference = object.to_object_ref(self.kind.clone());
                for owner in object.meta().owner_references.iter().flatten() {
                    if let Some(owned) = owners.get_mut(&owner.uid) {
                        owned.remove(&reference);
                    }
                }
                owners.retain(|_, owned| !owned.is_empty());
            }
            Event::Init => {}
            // Some may have gone while the watch was cut.
            Event::InitDone => owners.retain(|_, owned| {
                owned.retain(|reference| self.store.get(reference).is_some());
                !owned.is_empty()
            }),
        }
    }

    /// What has named this owner. Whether it still does must be asked of the objects.
    pub(crate) fn of(&self, owner: &str) -> Vec<Arc<K>> {
        let owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let owned = owners.get(owner).into_iter().flatten();
        owned.filter_map(|reference| self.store.get(reference)).collect()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::ResourceExt as _;
    use kube::runtime::reflector::store;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_installation_owns_is_found_through_all_that_happens_to_a_watch() {
        let (reader, mut writer) = store::<Pod>();
        let owned = Owned::new(reader, ());
        let pod = |name: &str, owner: &str| -> Pod {
            let owners = json!([{ "apiVersion": "v1", "kind": "K", "name": "o", "uid": owner }]);
            let metadata = json!({ "name": name, "namespace": "n", "ownerReferences": owners });
            serde_json::from_value(json!({ "metadata": metadata })).unwrap()
        };
        let names = |owner: &str| {
            let mut names: Vec<String> = owned.of(owner).iter().map(|pod| pod.name_any()).collect();
            names.sort_unstable();
            names.join(" ")
        };
        let mut happens = |event: Event<Pod>| {
            writer.apply_watcher_event(&event);
            owned.note(&event);
        };
        [Event::Init, Event::InitApply(pod("a", "1")), Event::InitApply(pod("b", "2"))]
            .into_iter()
            .for_each(&mut happens);
        assert_eq!(names("1"), "", "nothing counts until everything has been listed");
        happens(Event::InitDone);
        happens(Event::Apply(pod("c", "1")));
        assert_eq!((names("1"), names("2"), names("3")), ("a c".into(), "b".into(), String::new()));
        happens(Event::Delete(pod("a", "1")));
        assert_eq!(names("1"), "c");
        // Cut off, and another one has gone and come meanwhile; until it is listed the old counts.
        [Event::Init, Event::InitApply(pod("d", "1"))].into_iter().for_each(&mut happens);
        assert_eq!(names("1"), "c");
        happens(Event::InitDone);
        assert_eq!((names("1"), names("2")), ("d".into(), String::new()));
        assert_eq!(owned.owners.lock().unwrap().len(), 1, "the gone are forgotten");
    }
}
