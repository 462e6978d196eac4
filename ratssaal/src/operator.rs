//! `ratssaal operator`: the Kubernetes operator as a process, from start to ordered end.

use anyhow::{Context, bail};
use ratssaal_operator::{Metrics as OperatorMetrics, Operator};
use ratssaal_process::{
    health::Health,
    http::{Server, ops_router},
    metrics::Metrics,
    shutdown,
    telemetry::Telemetry,
};
use tracing::info;

use crate::config::Config;

/// Runs until SIGTERM or Ctrl+C.
pub(crate) fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let stop = shutdown::on_signals().context("cannot listen for signals")?;
    let telemetry = Telemetry::start(&config.otlp, "ratssaal-operator", &config.operator.identity)?;
    config.start_logs(telemetry.as_ref())?;
    let (metrics, health) = (Metrics::new(), Health::new());
    let http = Server::bind(&config.http, &metrics).await?;
    let own = metrics.register(OperatorMetrics::new);
    let kubernetes = health.readiness("kubernetes");
    let mut http = tokio::spawn(http.serve(ops_router(health.clone(), metrics), stop.clone()));
    let operator = Operator::connect(config.operator, own).await?;
    operator.check().await?;
    kubernetes.ok();
    info!("operating");
    let mut operator = tokio::spawn(operator.run(stop.clone()));
    tokio::select! {
        // First, since the others end by it too.
        biased;
        () = stop.cancelled() => health.drain(),
        result = &mut operator => {
            result.context("the operator failed")??;
            bail!("the operator stopped unexpectedly; the log says why");
        }
        _ = &mut http => bail!("the HTTP server stopped unexpectedly; the log says why"),
    }
    operator.await.context("the operator failed while stopping")??;
    http.await.context("the HTTP server failed while stopping")?;
    if let Some(telemetry) = telemetry {
        tokio::task::spawn_blocking(|| telemetry.finish()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ratssaal_crds::v1alpha1::VideoConferenceSpec;
    use ratssaal_operator::build::{self, BridgePlace, Facts, Features};
    use ratssaal_operator::names::Names;
    use ratssaal_process::config::Sources;
    use serde_json::{Value, json};

    use super::*;

    /// A container's environment as Kubernetes would make it.
    fn environment(container: &Value) -> BTreeMap<String, String> {
        let mut variables: BTreeMap<String, String> = BTreeMap::new();
        for variable in container["env"].as_array().unwrap() {
            let field = variable["valueFrom"]["fieldRef"]["fieldPath"].as_str();
            let mut value = match (variable["value"].as_str(), field) {
                (Some(value), _) => value.to_owned(),
                (None, Some("metadata.name")) => "konferenz-default-abcde".into(),
                (None, Some(_)) => "192.0.2.1".into(),
                (None, None) => "redis://localhost".into(),
            };
            for (name, known) in &variables {
                value = value.replace(&format!("$({name})"), known);
            }
            variables.insert(variable["name"].as_str().unwrap().into(), value);
        }
        variables
    }

    #[test]
    fn bridges_and_allocators_understand_what_the_operator_tells_them() {
        let facts = Facts {
            names: Names { name: "konferenz".into(), namespace: "kreis".into() },
            uid: "1".into(),
            image: "registry.example/ratssaal:1".into(),
            keys: String::new(),
            redis_authority: String::new(),
            redis_password: String::new(),
            features: Features::default(),
        };
        for spec in [
            json!({"hostname": "a.example"}),
            json!({"hostname": "a.example", "tls": {"secretName": "t"}, "exposure": {"service": {"type": "NodePort", "nodePort": 30443}},
                "media": {"exposure": "HostNetwork", "addresses": ["192.0.2.7", "2001:db8::7"]},
                "sites": [{"name": "a", "bridges": {"perNode": true, "seats": 20}}],
                "brand": {"name": "A", "imprint": "https://a.example/i", "accent": "#00589c"},
                "redis": {"urlSecretRef": {"name": "r", "key": "url"}},
                "observability": {"otlpEndpoint": "http://c:4317", "logLevel": "info,ratssaal_bridge=debug"}}),
        ] {
            let spec: VideoConferenceSpec = serde_json::from_value(spec).unwrap();
            let place = BridgePlace { name: "konferenz-default-abcde".into(), ..BridgePlace::default() };
            let pod = build::pod(&spec, &facts, &spec.sites()[0], &place).body;
            let mut variables = environment(&pod["spec"]["containers"][0]);
            variables.insert("RATSSAAL_KEYS__A".into(), "a secret of at least 32 characters".into());
            let config: Config = Sources::new().secrets("keys").environment(variables).load().unwrap();
            config.http.check().unwrap();
            config.cluster.check().unwrap();
            assert_eq!(config.cluster.bridge(), "konferenz-default-abcde");

            let objects = build::objects(&spec, &facts);
            let allocator = objects.iter().find(|object| object.kind == ratssaal_operator::Kind::Deployment).unwrap();
            let variables = environment(&allocator.body["spec"]["template"]["spec"]["containers"][0]);
            let config: Config = Sources::new().environment(variables).load().unwrap();
            config.http.check().unwrap();
            assert!(config.cluster.redis.is_some());
        }
    }
}
