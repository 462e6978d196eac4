//! The allocator inside a bridge's process: the same gRPC, over a pipe in memory instead of the network.

use std::convert::Infallible;
use std::io;

use hyper_util::rt::TokioIo;
use ratssaal_process::grpc::Traces;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Server};
use tower::service_fn;
use tracing::error;

use crate::service::Service;
use crate::store::Store;

/// Bytes under way in each direction of a connection.
const PIPE: usize = 256 << 10;
/// Flow-control window of a call and of the connection: a large snapshot must not wait for the reader's answer.
const WINDOW: u32 = 4 << 20;
/// Calls open at once: the bridge holds a tail for each of its rooms.
const STREAMS: u32 = 100_000;

/// A channel to the service, served until the channel and all its clones are dropped. Must be called within a Tokio
/// runtime. It behaves as a channel over a network does: a connection that broke is made anew with the next call.
pub fn embedded<S: Store>(service: &Service<S>) -> Channel {
    let (callers, incoming) = mpsc::channel::<DuplexStream>(4);
    let server = Server::builder()
        .layer(Traces)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(STREAMS)
        .add_service(service.grpc())
        .serve_with_incoming(ReceiverStream::new(incoming).map(Ok::<_, Infallible>));
    tokio::spawn(async move {
        if let Err(error) = server.await {
            error!(%error, "the embedded allocator stopped");
        }
    });
    Endpoint::from_static("http://allocator.embedded")
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .connect_with_connector_lazy(service_fn(move |_| {
            let callers = callers.clone();
            async move {
                let (near, far) = tokio::io::duplex(PIPE);
                let stopped =
                    |_| io::Error::new(io::ErrorKind::ConnectionRefused, "the embedded allocator has stopped");
                callers.send(far).await.map_err(stopped)?;
                Ok::<_, io::Error>(TokioIo::new(near))
            }
        }))
}
