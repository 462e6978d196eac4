//! `ratssaal bridge drain` and `undrain`: takes a bridge out of placement and has its participants moved away, or takes that
//! back.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ArgMatches;
use ratssaal_process::{exit::Usage, metrics::Metrics, units::parse_duration};
use ratssaal_proto::allocator::v1::DrainRequest;
use ratssaal_proto::allocator::v1::allocator_client::AllocatorClient;
use tonic::transport::Channel;

use crate::config;
use crate::status;

/// How long the order itself may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often `--wait` looks.
const LOOK: Duration = Duration::from_millis(500);

/// Runs the subcommand.
pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let Some((verb, matches)) = matches.subcommand() else { unreachable!("clap demands one of the subcommands") };
    let drain = verb == "drain";
    let within_ms = if drain { within(matches)? } else { 0 };
    let wait = drain && matches.get_flag("wait");
    let bridge = matches.get_one::<String>("bridge").cloned().unwrap_or_default();
    let cluster = config::load_cluster(matches)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let channel = cluster.client(&Metrics::new())?;
        order(&channel, DrainRequest { bridge: bridge.clone(), drain, within_ms }).await?;
        if wait { follow(&channel, &bridge).await } else { Ok(()) }
    })
}

/// `--within` in milliseconds; 0 is as long as needed.
fn within(matches: &ArgMatches) -> Result<u64, Usage> {
    let text = matches.get_one::<String>("within").map_or("0", String::as_str);
    let within = parse_duration(text).ok_or_else(|| Usage("--within is no duration; write 30s, 10m or 2h".into()))?;
    Ok(u64::try_from(within.as_millis()).unwrap_or(u64::MAX))
}

async fn order(channel: &Channel, request: DrainRequest) -> anyhow::Result<()> {
    let (bridge, drain) = (request.bridge.clone(), request.drain);
    let mut client = AllocatorClient::new(channel.clone());
    let answer = match tokio::time::timeout(PATIENCE, client.drain(request)).await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => return Err(status::explain(&status)),
        Err(_) => return Err(status::explain(&tonic::Status::deadline_exceeded("no answer within 5 s"))),
    };
    let text = match (drain, answer.attached) {
        (true, true) => format!("{bridge}: takes nobody new; its participants are moved away\n"),
        (true, false) => format!(
            "{bridge}: is not attached now; the order waits for it. If the name is wrong: ratssaal bridge undrain {bridge}\n"
        ),
        (false, true) => format!("{bridge}: takes participants again\n"),
        (false, false) => format!("{bridge}: is not attached now; it will take participants when it is\n"),
    };
    io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

/// Shows how many are left until nobody is.
async fn follow(channel: &Channel, bridge: &str) -> anyhow::Result<()> {
    let mut left = None;
    loop {
        let view = status::read(channel).await?;
        let Some(found) = view.bridges.into_iter().find(|found| found.name == bridge) else { return Ok(()) };
        match found.state {
            "draining" => {}
            "drained" => return say(bridge, "nobody is left"),
            "gone" => return say(bridge, "has ended"),
            "ready" => bail!("{bridge} takes participants again: somebody has taken the order back"),
            _ => bail!("{bridge} does not report any more; its participants reconnect by themselves"),
        }
        if left.replace(found.seats) != Some(found.seats) {
            say(bridge, &format!("{} participants are left", found.seats))?;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn say(bridge: &str, what: &str) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{bridge}: {what}").context("cannot write to standard output")
}
