//! Load balancers of bridges. A bridge tells browsers the address of its load balancer, so that one is made first, and the
//! bridge when the address is known.

use std::collections::HashSet;

use kube::api::DynamicObject;
use ratssaal_crds::v1alpha1::MediaExposure;

use super::Look;
use crate::bridges::named;
use crate::build::{self, Facts, Object};
use crate::kind::Kind;
use crate::plan::{Action, Plan, Slot, World};
use crate::problem::Problem;

/// A bridge that is to be made, behind this load balancer.
#[derive(Debug)]
pub(super) struct Reserved {
    /// Name of the Service, and of the bridge to come.
    pub(super) name: String,
    site: String,
    slot: Slot,
}

/// The address of a load balancer, if there is one yet; a host name is told apart.
fn address(service: &DynamicObject) -> Result<Option<String>, String> {
    let entry = &service.data["status"]["loadBalancer"]["ingress"][0];
    let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    match (text("ip"), text("hostname")) {
        (None, Some(host)) => Err(host),
        (ip, _) => Ok(ip),
    }
}

impl Look<'_> {
    /// The load balancers of the bridges that the plan makes, in its order; none where bridges have none. Always the same names
    /// until the bridges are there, so that none is made twice.
    pub(super) fn reserve(&self, plan: &Plan, world: &World) -> Vec<Reserved> {
        if self.object.spec.media.exposure != MediaExposure::LoadBalancer {
            return Vec::new();
        }
        let mut taken: HashSet<String> = world.bridges.iter().map(|bridge| bridge.name.clone()).collect();
        let created = plan.actions.iter().filter_map(|action| match action {
            Action::Create { site, slot, .. } => Some((site, *slot)),
            _ => None,
        });
        let reserved = created.map(|(site, slot)| {
            let candidate = |number: u32| named(&self.names, site, &format!("{}/{site}/{number}", self.uid));
            let name = (0..).map(candidate).find(|name| !taken.contains(name)).unwrap_or_default();
            taken.insert(name.clone());
            Reserved { name, site: site.clone(), slot }
        });
        reserved.collect()
    }

    /// The Services of all load balancers.
    pub(super) fn balancers(&self, facts: &Facts, world: &World, reserved: &[Reserved]) -> Vec<Object> {
        let spec = &self.object.spec;
        if spec.media.exposure != MediaExposure::LoadBalancer {
            return Vec::new();
        }
        let there = world.bridges.iter().map(|bridge| (&bridge.name, &bridge.site, bridge.slot));
        let to_come = reserved.iter().map(|reserved| (&reserved.name, &reserved.site, reserved.slot));
        let all = there.chain(to_come);
        all.map(|(name, site, slot)| build::load_balancer(spec, facts, name, site, slot)).collect()
    }

    /// The address of a reserved load balancer; none yet is told.
    pub(super) fn balanced(&mut self, reserved: &Reserved) -> Option<String> {
        let service = self.context.stores.get(Kind::Service, &self.names.namespace, &reserved.name);
        let text = match service.map_or(Ok(None), |service| address(&service)) {
            Ok(Some(address)) => return Some(address),
            Ok(None) => format!(
                "a bridge of site {} waits for the address of its load balancer, Service {}: does this cluster give load \
                 balancers for UDP? Else use media.exposure HostPort",
                reserved.site, reserved.name
            ),
            Err(host) => format!(
                "the load balancer of Service {} has a host name ({host}) and no address, which WebRTC needs: use load \
                 balancers with addresses, or media.exposure HostPort",
                reserved.name
            ),
        };
        self.problems.push(Problem::new("AddressPending", false, text));
        None
    }
}
