//! What is wrong with an installation, as far as it takes the cluster to tell: Secrets, neighbours, DNS.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::Api;
use ratssaal_crds::VideoConference;
use time::OffsetDateTime;

use super::{Look, ReconcileError, api};
use crate::controller::Context;
use crate::credentials::Found;
use crate::problem::{self, Given, Neighbour, Problem};
use crate::stores::Guarded;
use crate::{build, observe, plan};

/// How long a host name's look-up counts: one that found something, one that did not.
const RESOLVED: Duration = Duration::from_secs(300);
const UNRESOLVED: Duration = Duration::from_secs(30);
/// How long a look-up may take.
const LOOKUP: Duration = Duration::from_secs(3);

/// Looks an installation's host name up, unless what is known is recent enough. Before the look and not in it: where no
/// name server answers, the installations of which that is known would hold up all others.
pub(crate) async fn resolve(object: &Guarded, context: &Context) {
    let (Ok(installation), uid) = (&object.0, object.uid().unwrap_or_default()) else { return };
    let host = &installation.spec.hostname;
    let counts = |found: bool| if found { RESOLVED } else { UNRESOLVED };
    let known = context.remember(&uid, |memory| memory.resolved.clone());
    if known.is_some_and(|(known, at, found)| known == *host && at.elapsed() < counts(found)) {
        return;
    }
    let lookup = tokio::net::lookup_host((host.as_str(), 443));
    let found = tokio::time::timeout(LOOKUP, lookup).await;
    let found = found.ok().and_then(Result::ok).is_some_and(|mut addresses| addresses.next().is_some());
    context.remember(&uid, |memory| memory.resolved = Some((host.clone(), Instant::now(), found)));
}

impl Look<'_> {
    /// A Secret that the spec names.
    async fn secret(&self, name: &str) -> Result<Given, ReconcileError> {
        let secrets: Api<Secret> = Api::namespaced(self.context.client.clone(), &self.names.namespace);
        let secret = secrets.get_opt(name).await.map_err(api("a Secret cannot be read"))?;
        Ok(secret.map(|secret| Found {
            data: secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect(),
            annotations: secret.metadata.annotations.unwrap_or_default(),
        }))
    }

    /// The tag of the API keys that the spec names, if it names some.
    pub(super) async fn given_keys(&mut self) -> Result<Option<String>, ReconcileError> {
        let Some(reference) = &self.object.spec.access.api_keys_secret_ref else { return Ok(None) };
        let secret = self.secret(&reference.name).await?;
        self.problems.extend(problem::api_keys(&reference.name, &secret));
        Ok(Some(secret.map(|secret| secret.tag()).unwrap_or_default()))
    }

    pub(super) async fn validate(&mut self, now: OffsetDateTime) -> Result<(), ReconcileError> {
        let spec = &self.object.spec;
        let mut problems = problem::features(spec, self.context.features);
        if let Some(name) = build::web_certificate(spec, &self.names) {
            problems.extend(problem::certificate(spec, &name, &self.secret(&name).await?, now));
        }
        if let Some(own) = &spec.redis.url_secret_ref {
            problems.extend(problem::redis(&own.name, &own.key, &self.secret(&own.name).await?));
        }
        problems.extend(problem::neighbours(spec, &self.neighbours()));
        if !self.resolves() {
            let text = format!(
                "the host name {} is not known in DNS here: enter it there, or correct spec.hostname",
                spec.hostname
            );
            problems.push(Problem::new("HostnameNotResolvable", false, text));
        }
        self.problems.extend(problems);
        Ok(())
    }

    fn resolves(&self) -> bool {
        let host = &self.object.spec.hostname;
        let known = self.context.remember(&self.uid, |memory| memory.resolved.clone());
        known.is_none_or(|(known, _, found)| known != *host || found)
    }

    fn neighbours(&self) -> Vec<Neighbour> {
        let age = |object: &VideoConference| (object.creation_timestamp().map(|time| time.0), object.uid());
        let sites = |object: &VideoConference| {
            object.spec.sites().iter().map(|site| observe::site(site, String::new(), None)).collect::<Vec<_>>()
        };
        let nodes = self.context.stores.nodes.state();
        let nodes: Vec<plan::Node> = nodes.iter().map(|node| observe::node(node, &self.object.spec)).collect();
        let mine = plan::used_nodes(&sites(self.object), &nodes);
        let others = self.context.installations.state();
        let others = others.iter().filter_map(|other| other.0.as_ref().ok());
        let others = others.filter(|other| other.uid() != self.object.uid());
        others
            .map(|other| Neighbour {
                name: format!("{}/{}", other.namespace().unwrap_or_default(), other.name_any()),
                hostname: other.spec.hostname.clone(),
                media: other.spec.media.clone(),
                older: age(other) < age(self.object),
                shared_node: plan::used_nodes(&sites(other), &nodes).into_iter().find(|node| mine.contains(node)),
            })
            .collect()
    }
}
