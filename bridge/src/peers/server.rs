//! What other bridges and operators ask of this one: `bridge.v1.Bridge` on a listener of its own.

use std::pin::Pin;
use std::time::Duration;

use ratssaal_process::grpc::{Listener, Role, Traces, require};
use ratssaal_proto::bridge::v1::bridge_server::{Bridge, BridgeServer};
use ratssaal_proto::bridge::v1::{
    CallRequest, CallResponse, DrainRequest, DrainResponse, PrepareRequest, PrepareResponse, RelayFrame, SignalDown,
    SignalUp, TakeOverRequest, TakeOverResponse,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tracing::{error, info};

use super::{MAX_MESSAGE, Peers, RELAY_QUEUE, RelayLink, names};
use crate::api::seated;
use crate::room::Rooms;
use crate::signal::Signal;

/// A peer that says nothing for so long, not even to a ping, is gone.
const PULSE: Duration = Duration::from_secs(2);
/// Flow-control window of a peer's connection.
const WINDOW: u32 = 4 << 20;
/// Calls open at once on a connection: one for each client whose signalling is relayed.
const STREAMS: u32 = 100_000;

/// Where the calls go.
#[derive(Clone, Debug)]
pub struct Handlers {
    /// This bridge's name.
    pub me: String,
    /// Its rooms.
    pub rooms: Rooms,
    /// The other bridges.
    pub peers: Peers,
    /// Lets clients in whose WebSocket is on another bridge.
    pub signal: Signal,
    /// Relay streams that others open.
    pub relays: mpsc::Sender<RelayLink>,
    /// The last order of an operator.
    pub drains: watch::Sender<Option<DrainRequest>>,
}

/// Serves until cancelled.
pub async fn serve(handlers: Handlers, listener: Listener, cancelled: CancellationToken) {
    let service = BridgeServer::new(handlers).max_decoding_message_size(MAX_MESSAGE);
    let served = Server::builder()
        .layer(Traces)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(PULSE))
        .http2_keepalive_timeout(Some(PULSE))
        .add_service(service.max_encoding_message_size(MAX_MESSAGE))
        .serve_with_incoming(listener.incoming(cancelled.clone()));
    // Streams do not end by themselves: they are cut, and clients resume elsewhere.
    if let Some(Err(error)) = cancelled.run_until_cancelled(served).await {
        error!(%error, "other bridges cannot reach this one any more: restart this process");
    }
}

impl Handlers {
    /// The calling bridge's name.
    fn calling_bridge<T>(&self, request: &Request<T>) -> Result<String, Status> {
        require(request.extensions(), &[Role::Bridge])?;
        names::caller(request.metadata(), &self.me)
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Bridge for Handlers {
    type SignalStream = Answers<SignalDown>;
    type RelayStream = Answers<RelayFrame>;

    async fn signal(&self, request: Request<Streaming<SignalUp>>) -> Result<Response<Self::SignalStream>, Status> {
        self.calling_bridge(&request)?;
        Ok(Response::new(self.signal.line(request.into_inner())))
    }

    async fn relay(&self, request: Request<Streaming<RelayFrame>>) -> Result<Response<Self::RelayStream>, Status> {
        let peer = self.calling_bridge(&request)?;
        let (out, queue) = mpsc::channel(RELAY_QUEUE);
        let link = RelayLink { peer, frames: request.into_inner(), out };
        let busy = |_| Status::unavailable("this bridge takes no relays at the moment: try again in a second");
        self.relays.try_send(link).map_err(busy)?;
        Ok(Response::new(Box::pin(ReceiverStream::new(queue).map(Ok))))
    }

    async fn call(&self, request: Request<CallRequest>) -> Result<Response<CallResponse>, Status> {
        self.calling_bridge(&request)?;
        Ok(Response::new(seated::answer(&self.rooms, &self.peers, request.into_inner()).await))
    }

    async fn prepare(&self, request: Request<PrepareRequest>) -> Result<Response<PrepareResponse>, Status> {
        let from = self.calling_bridge(&request)?;
        Ok(Response::new(self.signal.prepare(&from, request.into_inner()).await?))
    }

    async fn take_over(&self, request: Request<TakeOverRequest>) -> Result<Response<TakeOverResponse>, Status> {
        let to = self.calling_bridge(&request)?;
        Ok(Response::new(self.signal.hand_over(&to, &request.into_inner()).await?))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        require(request.extensions(), &[Role::Operator])?;
        let order = request.into_inner();
        info!(drain = order.drain, within_ms = order.within_ms, "ordered by an operator");
        self.drains.send_replace(Some(order));
        Ok(Response::new(DrainResponse {}))
    }
}
