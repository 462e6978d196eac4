//! A join across processes is one trace: real servers, a real allocator on a real Redis, and a collector that takes what they
//! export by OTLP.

use std::collections::HashMap;

use anyhow::{Context, Result};
use ratssaal_e2e::{
    allocator::Allocator,
    bot::{Bot, Options},
    server::{Server, free_port},
};

use collector::{Collector, Span};

mod collector;
#[path = "../../allocator/src/redis_server.rs"]
#[expect(dead_code, clippy::expect_used, reason = "made for the allocator's tests; a part is used here")]
mod redis_server;

/// The trace of somebody's join, once it is `complete`.
async fn join_of(collector: &Collector, identity: &str, complete: impl Fn(&[Span]) -> bool) -> Result<Vec<Span>> {
    collector.trace_of(|span| span.name == "join" && span.attribute("identity") == identity, complete).await
}

async fn join(through: &Server, number: u32) -> Result<Bot> {
    Bot::join(through, Options::new("spuren", number, false)).await.with_context(|| through.log())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_is_one_trace_across_three_processes() -> Result<()> {
    let collector = Collector::default();
    let endpoint = collector.start().await?;
    let redis = redis_server::Server::new();
    let listen = format!("127.0.0.1:{}", free_port()?);
    let _allocator = Allocator::start(&redis.url(), &listen, &[("RATSSAAL_OTLP__ENDPOINT", endpoint.as_str())])?;
    let mut bridges = Vec::new();
    for name in ["eins", "zwei"] {
        let address = format!("http://{listen}");
        let settings = [
            ("RATSSAAL_CLUSTER__ALLOCATOR", address.as_str()),
            ("RATSSAAL_CLUSTER__BRIDGE", name),
            ("RATSSAAL_SITE__NAME", name),
            ("RATSSAAL_ROOM__SEATS", "1"),
            ("RATSSAAL_MEDIA__WORKERS", "1"),
            ("RATSSAAL_OTLP__ENDPOINT", &endpoint),
        ];
        bridges.push(Server::start_with(&settings).await?);
    }
    let first = join(&bridges[0], 0).await?;
    let second = join(&bridges[0], 1).await?;

    // The first one sits where the WebSocket is.
    let is_place = |span: &Span| span.service == "ratssaal-allocator" && span.name.ends_with("/Place");
    let negotiated = |by: &'static str| move |span: &Span| span.name == "negotiation" && span.attribute("by") == by;
    let complete = |trace: &[Span]| {
        trace.iter().any(is_place) && ["client", "server"].iter().all(|by| trace.iter().any(negotiated(by)))
    };
    let trace = join_of(&collector, &first.options.identity, complete).await?;
    assert!(trace.iter().all(|span| span.instance != "zwei"), "{trace:#?}");
    let join = trace.iter().find(|span| span.parent.is_empty()).context("no first span")?;
    assert_eq!((join.name.as_str(), join.attribute("identity")), ("join", first.options.identity.as_str()));
    for span in trace.iter().filter(|span| span.name == "negotiation") {
        assert_eq!(span.parent, join.id, "a part of the joining: {trace:#?}");
    }

    // For the second one there is a seat on the other bridge only.
    let entered = |span: &Span| span.instance == "zwei" && span.name == "enter";
    let complete = |trace: &[Span]| trace.iter().any(entered) && complete(trace);
    let trace = join_of(&collector, &second.options.identity, complete).await?;
    let by_id: HashMap<&[u8], &Span> = trace.iter().map(|span| (span.id.as_slice(), span)).collect();
    let place = trace.iter().find(|span| is_place(span)).context("no placement")?;
    let signal = trace.iter().find(|span| span.instance == "zwei" && span.name.ends_with("/Signal"));
    for called in [place, signal.context("no signalling")?] {
        let caller = by_id.get(called.parent.as_slice()).map(|span| span.instance.as_str());
        assert_eq!(caller, Some("eins"), "called by the bridge that has the WebSocket: {called:?} of {trace:#?}");
    }
    let enter = trace.iter().find(|span| entered(span)).context("nobody let in")?;
    assert_eq!(enter.attribute("identity"), second.options.identity);
    for span in trace.iter().filter(|span| span.name == "negotiation") {
        assert_eq!(span.instance, "zwei", "where the seat is: {trace:#?}");
        assert_eq!(Some(&span.parent), signal.map(|signal| &signal.id), "a part of its signalling: {trace:#?}");
    }
    Ok(())
}
