//! The allocator on a network: its service, `grpc.health.v1` and reflection over connections that somebody else accepts.

use std::io;
use std::time::Duration;

use futures_util::Stream;
use ratssaal_process::grpc::Traces;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::service::Service;
use crate::store::Store;

/// Flow-control window of a call and of the connection: a large snapshot must not wait for the reader's answer.
const WINDOW: u32 = 4 << 20;
/// Calls open at once on a connection: a bridge holds a tail for each of its rooms.
const STREAMS: u32 = 100_000;
/// A bridge that says nothing for so long, not even to a ping, is gone.
const PULSE: Duration = Duration::from_secs(5);

/// Serves until cancelled. `grpc.health.v1` follows whether the store answers.
///
/// # Errors
/// When the descriptors of this build cannot be served, or the connections end with an error.
pub async fn serve<S: Store, IO>(
    service: &Service<S>,
    incoming: impl Stream<Item = io::Result<IO>>,
    cancelled: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let allocator = service.grpc();
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(ratssaal_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let mut available = service.available();
    let follow = async {
        loop {
            let serving = *available.borrow_and_update();
            let status = match serving {
                true => tonic_health::ServingStatus::Serving,
                false => tonic_health::ServingStatus::NotServing,
            };
            reporter.set_service_status("", status).await;
            reporter.set_service_status("ratssaal.allocator.v1.Allocator", status).await;
            if available.changed().await.is_err() {
                return;
            }
        }
    };
    let server = Server::builder()
        .layer(Traces)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(PULSE))
        .http2_keepalive_timeout(Some(PULSE))
        .add_service(allocator)
        .add_service(health)
        .add_service(reflection)
        .serve_with_incoming_shutdown(incoming, cancelled.cancelled_owned());
    tokio::select! {
        result = server => Ok(result?),
        () = follow => Ok(()),
    }
}
