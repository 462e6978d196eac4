//! `ratssaal status`: the cluster's bridges and rooms as the allocators see them, as a table or JSON, once or live.

mod table;
mod view;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::Context;
use clap::ArgMatches;
use ratssaal_process::metrics::Metrics;
use ratssaal_proto::allocator::v1::allocator_client::AllocatorClient;
use ratssaal_proto::allocator::v1::{ClusterRequest, ListRoomsRequest};
use tonic::transport::Channel;

use crate::{cluster::ClusterConfig, config};
use table::Language;
use view::View;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the live table is drawn.
const REFRESH: Duration = Duration::from_secs(1);
/// Rooms in the live table; all are in the others.
const LIVE_ROOMS: usize = 20;
/// Rooms asked for at once.
const PAGE: u32 = 1000;
/// Puts the cursor into the upper left corner and clears what is below.
const HOME: &str = "\x1b[H\x1b[J";

/// Prints the cluster's state.
pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let (watch, json) = (matches.get_flag("watch"), matches.get_flag("json"));
    let cluster = config::load_cluster(matches)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        tokio::select! {
            result = show(&cluster, watch, json) => result,
            // The end of a live table.
            result = tokio::signal::ctrl_c() => Ok(result?),
        }
    })
}

async fn show(cluster: &ClusterConfig, watch: bool, json: bool) -> anyhow::Result<()> {
    let channel = cluster.client(&Metrics::new())?;
    let language = Language::of_environment();
    let live = watch && !json && io::stdout().is_terminal();
    let mut ticks = tokio::time::interval(REFRESH);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let text = match read(&channel).await {
            Ok(view) if json => serde_json::to_string(&view)? + "\n",
            Ok(view) => table::render(&view, language, if live { LIVE_ROOMS } else { usize::MAX }),
            // A live table goes on: allocators come back.
            Err(error) if live => format!("{error:#}\n"),
            Err(error) => return Err(error),
        };
        let mut out = io::stdout();
        let written = out.write_all(if live { HOME } else { "" }.as_bytes());
        match written.and_then(|()| out.write_all(text.as_bytes())).and_then(|()| out.flush()) {
            // Whoever read the table has seen enough (`ratssaal status --watch | head`).
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            result => result.context("cannot write to standard output")?,
        }
        if !watch {
            return Ok(());
        }
    }
}

/// Bridges and rooms now.
pub(crate) async fn read(channel: &Channel) -> anyhow::Result<View> {
    let all = async {
        let mut client = AllocatorClient::new(channel.clone()).max_decoding_message_size(64 << 20);
        let mut views = client.cluster(ClusterRequest { watch: false }).await?.into_inner();
        let bridges = views.message().await?.unwrap_or_default().bridges;
        let mut rooms = Vec::new();
        loop {
            let after = rooms.last().map(|room: &ratssaal_proto::allocator::v1::RoomInfo| room.name.clone());
            let request = ListRoomsRequest { names: vec![], after: after.unwrap_or_default(), limit: PAGE };
            let page = client.list_rooms(request).await?.into_inner();
            let more = page.more && !page.rooms.is_empty();
            rooms.extend(page.rooms);
            if !more {
                return Ok::<_, tonic::Status>(View::new(bridges, rooms));
            }
        }
    };
    match tokio::time::timeout(PATIENCE, all).await {
        Ok(Ok(view)) => Ok(view),
        Ok(Err(status)) => Err(explain(&status)),
        Err(_) => Err(explain(&tonic::Status::deadline_exceeded("no answer within 5 s"))),
    }
}

/// What an allocator's refusal, or its silence, means for whoever sits at the terminal.
pub(crate) fn explain(status: &tonic::Status) -> anyhow::Error {
    match ratssaal_proto::allocator::v1::Refusal::from_status(status) {
        Some(refusal) => anyhow::anyhow!("the allocator refuses: {}", refusal.message),
        None if status.code() == tonic::Code::PermissionDenied => anyhow::anyhow!(
            "this certificate may not do that ({}); use one with the role operator, see docs/operations.md",
            status.message()
        ),
        None => anyhow::anyhow!(
            "no allocator answers ({}); check that one runs at cluster.allocator (or that Redis runs at cluster.redis) and \
             that the certificates are the cluster's",
            status.message()
        ),
    }
}
