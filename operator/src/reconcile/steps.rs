//! Carries out what is planned: objects applied, bridges made, drained and deleted.

use std::collections::HashSet;

use kube::ResourceExt as _;

use super::balancer::Reserved;
use super::{Look, ReconcileError, api};
use crate::apply::Outcome;
use crate::bridges::{Bridges, new_name};
use crate::build::{self, BridgePlace, Facts};
use crate::cluster::Follower;
use crate::credentials::Own;
use crate::kind::Kind;
use crate::plan::{self, Action, Millis, Plan, Site, World};
use crate::problem::Problem;

impl Look<'_> {
    pub(super) async fn apply(
        &mut self,
        facts: &Facts,
        own: &Own,
        plan: &Plan,
        world: &World,
        now: Millis,
    ) -> Result<(), ReconcileError> {
        let spec = &self.object.spec;
        let mut objects = own.objects.clone();
        objects.extend(own.kept.iter().cloned());
        objects.extend(build::objects(spec, facts));
        let reserved = self.reserve(plan, world);
        objects.extend(self.balancers(facts, world, &reserved));
        let wanted: HashSet<(Kind, String)> = objects.iter().map(|object| (object.kind, object.name.clone())).collect();
        let (stores, namespace) = (&self.context.stores, self.names.namespace.clone());
        let mut refused = None;
        for object in &objects {
            match self.context.applier.apply(stores, &self.uid, &namespace, object).await {
                Ok(Outcome::Foreign) => self.problems.push(Problem::name_taken(object.kind.name(), &object.name)),
                Ok(_) => {}
                Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 409 | 422) => {
                    let (kind, name) = (object.kind.name(), &object.name);
                    let text = format!("the API server refuses {kind} {name}: {}", status.message);
                    self.problems.push(Problem::new("Refused", true, text));
                    refused.get_or_insert(ReconcileError::Api("an object was refused", kube::Error::Api(status)));
                }
                Err(error) => return Err(ReconcileError::Api("an object cannot be written", error)),
            }
        }
        self.act(facts, plan, world, (now, reserved)).await?;
        if let Some(refused) = refused {
            return Err(refused);
        }
        let deleted = self.context.applier.delete_orphans(stores, &self.uid, &namespace, &wanted).await;
        deleted.map_err(api("an object that is not needed any more cannot be deleted"))
    }

    async fn act(
        &mut self,
        facts: &Facts,
        plan: &Plan,
        world: &World,
        (now, reserved): (Millis, Vec<Reserved>),
    ) -> Result<(), ReconcileError> {
        let namespace = self.names.namespace.clone();
        let bridges = Bridges::new(&self.context.client, &self.context.ahead, &namespace);
        let pods = self.pods();
        let mut reserved = reserved.iter();
        for action in &plan.actions {
            match action {
                Action::Create { site, node, slot } => {
                    let balancer = reserved.next();
                    let Some(mut place) = self.place(world, site, node.as_deref(), *slot) else { continue };
                    if let Some(balancer) = balancer {
                        let Some(address) = self.balanced(balancer) else { continue };
                        // A bridge of this name may have been drained before it went.
                        self.order(&balancer.name, None).await?;
                        (place.name, place.addresses) = (balancer.name.clone(), vec![address]);
                    }
                    self.create(&bridges, facts, site, &place).await?;
                }
                Action::Drain { bridge, why, within } => {
                    let known = world.bridges.iter().find(|known| known.name == *bridge);
                    if known.is_some_and(|known| known.draining.is_none()) {
                        bridges.mark(bridge, now, *why).await.map_err(api("a bridge cannot be marked"))?;
                        self.happened("BridgeDraining", format!("bridge {bridge}: {}", why.name())).await;
                    }
                    self.order(bridge, Some(*within)).await?;
                }
                Action::Undrain { bridge } => {
                    self.order(bridge, None).await?;
                    bridges.unmark(bridge).await.map_err(api("a bridge cannot be marked"))?;
                    self.happened("BridgeStays", format!("bridge {bridge} takes participants again")).await;
                }
                Action::Delete { bridge } => {
                    let Some(pod) = pods.iter().find(|pod| pod.name_any() == *bridge) else { continue };
                    bridges.delete(pod).await.map_err(api("a bridge cannot be deleted"))?;
                    self.happened("BridgeDeleted", format!("bridge {bridge}")).await;
                }
                Action::MoveRedis { pod, node } => self.move_redis(pod, node).await?,
            }
        }
        Ok(())
    }

    async fn create(
        &mut self,
        bridges: &Bridges<'_>,
        facts: &Facts,
        site: &str,
        place: &BridgePlace,
    ) -> Result<(), ReconcileError> {
        let sites = self.object.spec.sites();
        let Some(site) = sites.iter().find(|wanted| wanted.name == site) else { return Ok(()) };
        let pod = build::pod(&self.object.spec, facts, site, place);
        match bridges.create(&pod.body).await {
            Ok(()) => {
                let node = place.node.as_deref().unwrap_or("a node that the scheduler chooses");
                self.happened("BridgeCreated", format!("bridge {} for {node}", place.name)).await;
                Ok(())
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 422) => {
                let text = format!(
                    "the API server refuses bridges: {} (media ports of the node need a namespace labelled \
                     pod-security.kubernetes.io/enforce=privileged)",
                    status.message
                );
                self.problems.push(Problem::new("Refused", true, text));
                Err(ReconcileError::Api("a bridge was refused", kube::Error::Api(status)))
            }
            Err(error) => Err(ReconcileError::Api("a bridge cannot be created", error)),
        }
    }

    /// Orders a bridge to move its people within this time, or to take people again.
    async fn order(&self, bridge: &str, within: Option<Millis>) -> Result<(), ReconcileError> {
        let orders = self.context.remember(&self.uid, |memory| memory.follower.as_ref().map(Follower::orders));
        match orders {
            Some(mut orders) => Ok(orders.drain(bridge, within).await?),
            None => Ok(()),
        }
    }

    fn place(&self, world: &World, site: &str, node: Option<&str>, slot: plan::Slot) -> Option<BridgePlace> {
        let site: &Site = world.sites.iter().find(|wanted| wanted.name == site)?;
        let node = node.and_then(|name| world.nodes.iter().find(|node| node.name == name));
        Some(BridgePlace {
            name: new_name(&self.names, &site.name),
            node: node.map(|node| node.name.clone()),
            slot,
            addresses: node.map(|node| node.addresses.clone()).unwrap_or_default(),
            revision: plan::revision(site, node),
        })
    }
}
