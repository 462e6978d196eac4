//! `ratssaal allocator`: one of a cluster's allocators, stateless over Redis, from start to ordered end.

use std::time::Duration;

use anyhow::{Context, bail};
use ratssaal_allocator::{Config as AllocatorConfig, Service};
use ratssaal_process::{
    exit::Usage,
    grpc::Listener,
    health::{Check, Health},
    http::{Server, ops_router},
    metrics::Metrics,
    shutdown,
    telemetry::Telemetry,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{config::Config, config::NO_REDIS};

/// How long calls in progress may take after shutdown began. Streams never end by themselves: bridges go on with another
/// allocator when they are cut.
const GRACE: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or Ctrl+C.
pub(crate) fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let stop = shutdown::on_signals().context("cannot listen for signals")?;
    let telemetry = Telemetry::start(&config.otlp, "ratssaal-allocator", &config.cluster.bridge())?;
    config.start_logs(telemetry.as_ref())?;
    let (metrics, health) = (Metrics::new(), Health::new());
    let http = Server::bind(&config.http, &metrics).await?;
    let cluster = &config.cluster;
    let listener = Listener::bind(cluster.listen, &cluster.credentials(&metrics)?).await?;
    let settings = AllocatorConfig::default();
    let store = cluster.store(&settings)?.ok_or_else(|| Usage(NO_REDIS.into()))?;
    let service = metrics.register(|registry| Service::build(settings, store, registry))?;

    let address = listener.address();
    let last = CancellationToken::new();
    let readiness = tokio::spawn(follow(service.available(), health.readiness("redis")));
    let reaper = tokio::spawn(service.clone().run(last.clone()));
    let mut http = tokio::spawn(http.serve(ops_router(health.clone(), metrics), stop.clone()));
    let (incoming, ended) = (listener.incoming(stop.clone()), stop.clone());
    let mut grpc = tokio::spawn(async move { ratssaal_allocator::serve(&service, incoming, ended).await });
    info!(%address, "allocating");
    tokio::select! {
        // First, since the others end by it too.
        biased;
        () = stop.cancelled() => health.drain(),
        result = &mut grpc => bail!("the gRPC server stopped unexpectedly: {result:?}"),
        _ = &mut http => bail!("the HTTP server stopped unexpectedly; the log says why"),
    }
    if tokio::time::timeout(GRACE, &mut grpc).await.is_err() {
        grpc.abort();
    }
    last.cancel();
    reaper.await.context("the allocator failed")?;
    readiness.abort();
    http.await.context("the HTTP server failed while stopping")?;
    if let Some(telemetry) = telemetry {
        tokio::task::spawn_blocking(|| telemetry.finish()).await?;
    }
    Ok(())
}

/// Keeps the readiness check at whether Redis answers.
async fn follow(mut available: watch::Receiver<bool>, check: Check) {
    loop {
        if *available.borrow_and_update() {
            check.ok();
        } else {
            check.failing("Redis does not answer; see the log");
        }
        if available.changed().await.is_err() {
            return;
        }
    }
}
