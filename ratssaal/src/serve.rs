//! `ratssaal serve`: allocator and bridge in one process behind one HTTP listener, from start to ordered end.

use std::{
    io::{self, IsTerminal, Write},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use ratssaal_bridge::{Config as BridgeConfig, Deps, Service as Bridge, media::Media};
use ratssaal_process::{
    health::{Check, Health},
    http::{Server, ops_router},
    metrics::Metrics,
    shutdown,
    telemetry::Telemetry,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{assets::WebClient, config::Config};

/// How often the media workers are asked whether they live.
const PULSE: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or Ctrl+C.
pub(crate) fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let stop = shutdown::on_signals().context("cannot listen for signals")?;
    let telemetry = Telemetry::start(&config.otlp, "ratssaal", &config.cluster.bridge())?;
    config.start_logs(telemetry.as_ref())?;
    let (metrics, health) = (Metrics::new(), Health::new());
    let server = Server::bind(&config.http, &metrics).await?;
    let secure = server.is_secure();
    let url = url(&config, &server);

    let media = metrics.register(|registry| Media::start(&config.media, registry))?;
    let settings = ratssaal_allocator::Config {
        empty_timeout: config.room.empty_timeout,
        departure_timeout: config.room.departure_timeout,
        ..ratssaal_allocator::Config::default()
    };
    let last = CancellationToken::new();
    let credentials = config.cluster.credentials(&metrics)?;
    let control = config.cluster.control(settings, &credentials, &metrics, &last)?;
    let deps = Deps {
        allocator: control.channel,
        neighbourhood: config.cluster.neighbourhood(&credentials).await?,
        media: media.clone(),
        assets: Arc::new(WebClient),
        metrics: metrics.clone(),
        health: health.clone(),
    };
    let dev = config.dev;
    let bridge = Bridge::build(bridge_config(config), deps)?;
    let router = bridge.router().merge(ops_router(health.clone(), metrics));
    let (mut attached, closing) = (bridge.attached(), bridge.closing());

    // Each ends after those that need it: the bridge at the signal, HTTP when the bridge has handed its participants over,
    // then media, and the allocator last, where
    // rooms log their end.
    let pulse = tokio::spawn(watch(media.clone(), health.liveness("media"), last.clone()));
    let mut bridge = tokio::spawn(bridge.run(stop.clone()));
    let mut server = tokio::spawn(server.serve(router, closing));
    if let Some(Ok(_)) = stop.run_until_cancelled(attached.wait_for(|attached| *attached)).await {
        info!(%url, https = secure, "ready");
        if let Err(error) = announce(dev, &url) {
            warn!(%error, "cannot write to standard output");
        }
    }
    tokio::select! {
        // First, since the others end by it too.
        biased;
        () = stop.cancelled() => health.drain(),
        _ = &mut bridge => bail!("the bridge stopped unexpectedly; the log says why"),
        _ = &mut server => bail!("the HTTP server stopped unexpectedly; the log says why"),
    }
    bridge.await.context("the bridge failed while stopping")?;
    server.await.context("the HTTP server failed while stopping")?;
    media.stop();
    last.cancel();
    control.own.await.context("the allocator failed")?;
    pulse.await?;
    if let Some(telemetry) = telemetry {
        tokio::task::spawn_blocking(|| telemetry.finish()).await?;
    }
    Ok(())
}

fn bridge_config(config: Config) -> BridgeConfig {
    let Config { http, keys, room, site, brand, webhook, cluster, .. } = config;
    let drain = cluster.handover();
    BridgeConfig { bridge: cluster.bridge(), keys, room, site, brand, webhook, drain, public_url: http.public_url }
}

/// Keeps the liveness check at what the media workers say.
async fn watch(media: Media, check: Check, stop: CancellationToken) {
    let mut pulse = tokio::time::interval(PULSE);
    while stop.run_until_cancelled(pulse.tick()).await.is_some() {
        if media.is_healthy() {
            check.ok();
        } else {
            check.failing("a media worker has ended; restart this process");
        }
    }
}

/// The address to open in a browser.
fn url(config: &Config, server: &Server) -> String {
    let address = server.address();
    let scheme = if server.is_secure() { "https" } else { "http" };
    match &config.http.public_url {
        Some(url) => url.clone(),
        None if address.ip().to_canonical().is_loopback() => format!("{scheme}://localhost:{}", address.port()),
        None => format!("{scheme}://{address}"),
    }
}

/// Tells the person in front of the terminal which address to open.
fn announce(dev: bool, url: &str) -> io::Result<()> {
    let mut out = io::stdout();
    if !dev && !out.is_terminal() {
        return Ok(());
    }
    writeln!(out, "\n  Ratssaal ist bereit. Öffnen Sie {url} im Browser; Strg+C beendet.")?;
    writeln!(out, "  Ratssaal is ready. Open {url} in your browser; Ctrl+C stops.\n")?;
    out.flush()
}
