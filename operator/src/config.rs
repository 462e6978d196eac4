//! The `[operator]` section.

use serde::Deserialize;

/// What the operator is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OperatorConfig {
    /// What bridges and allocators run unless `spec.image` says otherwise.
    pub image: Option<String>,
    /// Namespaces to look after, separated by commas; empty: all.
    pub namespaces: String,
    /// The operator's own namespace: its Lease is there.
    pub namespace: String,
    /// This operator's name among several; empty: the host name.
    pub identity: String,
    /// Installations looked at at the same time.
    pub concurrency: u16,
    /// Where allocators are reached, with `{name}` and `{namespace}` of the installation.
    pub allocator: String,
}

impl Default for OperatorConfig {
    fn default() -> Self {
        Self {
            image: None,
            namespaces: String::new(),
            namespace: "default".into(),
            identity: String::new(),
            concurrency: 8,
            allocator: "{name}-allocator.{namespace}.svc:7890".into(),
        }
    }
}

impl OperatorConfig {
    /// Checks what can be checked before anything starts.
    ///
    /// # Errors
    /// What is wrong and what to do.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.concurrency == 0 {
            return Err("operator.concurrency must be at least 1");
        }
        if self.allocator.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err("operator.allocator must end in a port, e.g. {name}-allocator.{namespace}.svc:7890");
        }
        Ok(())
    }

    /// The namespaces to look after; `None` is all.
    pub fn scopes(&self) -> Vec<Option<String>> {
        let mut names: Vec<_> = self.namespaces.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() { vec![None] } else { names.into_iter().map(|name| Some(name.to_owned())).collect() }
    }

    /// Where an installation's allocators are reached.
    pub fn allocator(&self, name: &str, namespace: &str) -> String {
        self.allocator.replace("{name}", name).replace("{namespace}", namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_and_addresses() {
        let config = |namespaces: &str| OperatorConfig { namespaces: namespaces.into(), ..OperatorConfig::default() };
        assert_eq!(config("").scopes(), [None]);
        assert_eq!(config(" b,a,,b").scopes(), [Some("a".into()), Some("b".into())]);
        assert_eq!(config("").allocator("k", "ns"), "k-allocator.ns.svc:7890");
        assert_eq!(config("").check(), Ok(()));
        assert!(OperatorConfig { concurrency: 0, ..config("") }.check().is_err());
        assert!(OperatorConfig { allocator: "here".into(), ..config("") }.check().is_err());
    }
}
