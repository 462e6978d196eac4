//! The managed Redis on a node that does not report: what the plan is told of it, and the step that moves it.

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Preconditions};
use kube::runtime::reflector::ObjectRef;

use super::{Look, ReconcileError, api};
use crate::kind::Kind;
use crate::observe;
use crate::plan::{Millis, Redis};

impl Look<'_> {
    /// The managed Redis' Pod, if it is on a node.
    pub(super) fn redis(&self, now: Millis) -> Option<Redis> {
        let managed = self.object.spec.redis.managed.as_ref()?;
        let (stores, namespace) = (&self.context.stores, &self.names.namespace);
        let pod = stores.pod(namespace, &self.names.redis_pod())?;
        let node = pod.spec.as_ref()?.node_name.clone()?;
        let reports = stores.nodes.get(&ObjectRef::new(&node)).is_some_and(|node| observe::reports(&node));
        // By the operator's own clock: that of whoever wrote the node's condition may differ.
        let silent_since = self.context.remember(&self.uid, |memory| {
            let known = memory.silent.take().filter(|(known, _)| *known == node && !reports);
            memory.silent = known.or_else(|| (!reports).then(|| (node.clone(), now)));
            memory.silent.as_ref().map(|(_, since)| *since)
        });
        let allocators = stores.get(Kind::Deployment, namespace, &self.names.allocator());
        Some(Redis {
            pod: pod.name_any(),
            node,
            silent_since,
            reached: allocators.is_some_and(|allocators| observe::has_ready_pods(&allocators)),
            has_volume: managed.storage.is_some(),
        })
    }

    /// Has Kubernetes forget the Pod on a node that does not report, so that the StatefulSet makes it on another one.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub(super) async fn move_redis(&self, name: &str, node: &str) -> Result<(), ReconcileError> {
        let namespace = &self.names.namespace;
        let Some(pod) = self.context.stores.pod(namespace, name) else { return Ok(()) };
        // What is watched is a moment behind, and this cannot be taken back.
        if self.is_reached_now(node).await? {
            return Ok(());
        }
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
            ..DeleteParams::default().grace_period(0)
        };
        let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
        match pods.delete(name, &params).await {
            Ok(_) => {
                let note = format!("Redis leaves node {node}, which does not report, and starts on another one");
                self.happened("RedisMoved", note).await;
                Ok(())
            }
            // It has been done already.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(ReconcileError::Api("Redis' Pod cannot be deleted", error)),
        }
    }

    /// Whether the node reports or an allocator reaches Redis, as the API server knows it at this moment.
    async fn is_reached_now(&self, node: &str) -> Result<bool, ReconcileError> {
        let client = &self.context.client;
        let this = ListParams::default().fields(&format!("metadata.name={node}"));
        let nodes = Api::<Node>::all(client.clone()).list(&this).await.map_err(api("a node cannot be read"))?;
        if nodes.iter().any(observe::reports) {
            return Ok(true);
        }
        let deployments: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), &self.names.namespace, &Kind::Deployment.resource());
        let allocators = deployments.get_opt(&self.names.allocator()).await;
        let allocators = allocators.map_err(api("the allocators' Deployment cannot be read"))?;
        Ok(allocators.is_some_and(|allocators| observe::has_ready_pods(&allocators)))
    }
}
