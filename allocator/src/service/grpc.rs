//! The methods of `allocator.v1.Allocator`.

use std::pin::Pin;
use std::time::Instant;

use futures_util::Stream;
use ratssaal_process::grpc::{Caller, Role, require};
use ratssaal_proto::allocator::v1::allocator_server::Allocator;
use ratssaal_proto::allocator::v1::{
    AppendRequest, AppendResponse, BridgeOrder, BridgeReport, ClusterRequest, ClusterView, DrainRequest, DrainResponse,
    EndRoomRequest, EndRoomResponse, ListRoomsRequest, ListRoomsResponse, OpenRoomRequest, OpenRoomResponse,
    PlaceRequest, PlaceResponse, ReleaseRequest, ReleaseResponse, RestoreRequest, RestoreResponse, SnapshotRequest,
    SnapshotResponse, TailFrame, TailRequest,
};
use tonic::{Request, Response, Status, Streaming};

use super::{Service, attach, cluster, tail};
use crate::bounds;
use crate::refusal::Refusal;
use crate::store::{EndIf, Store, Writer};

/// Who may everything that bridges do.
const BRIDGES: &[Role] = &[Role::Bridge];
/// Who may look on.
const ONLOOKERS: &[Role] = &[Role::Bridge, Role::Operator];
/// Who orders bridges about.
const OPERATORS: &[Role] = &[Role::Operator];

/// Whether the caller's certificate lets it do this. Connections of [`ratssaal_process::grpc::Listener`] tell who calls; those
/// within this process (`embedded`) do not, and may everything.
fn allow<T>(request: &Request<T>, roles: &[Role]) -> Result<(), Status> {
    match request.extensions().get::<Caller>() {
        Some(_) => require(request.extensions(), roles),
        None => Ok(()),
    }
}

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl<S: Store> Service<S> {
    /// Counts a call and makes its result an answer.
    fn answer<T>(&self, call: &'static str, result: Result<T, Refusal>) -> Result<Response<T>, Status> {
        self.inner.metrics.call(call, &result);
        Ok(Response::new(result?))
    }
}

#[tonic::async_trait]
impl<S: Store> Allocator for Service<S> {
    type AttachStream = Answers<BridgeOrder>;
    type TailStream = Answers<TailFrame>;
    type ClusterStream = Answers<ClusterView>;

    async fn attach(&self, request: Request<Streaming<BridgeReport>>) -> Result<Response<Self::AttachStream>, Status> {
        allow(&request, BRIDGES)?;
        Ok(Response::new(Box::pin(attach::attach(self.clone(), request.into_inner()))))
    }

    async fn place(&self, request: Request<PlaceRequest>) -> Result<Response<PlaceResponse>, Status> {
        allow(&request, BRIDGES)?;
        let request = request.into_inner();
        let result = match bounds::place(&request) {
            Ok(()) => {
                let began = Instant::now();
                let result = self.inner.store.place(request).await;
                self.inner.metrics.placed(began.elapsed());
                result
            }
            Err(refusal) => Err(refusal),
        };
        self.answer("place", result)
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        allow(&request, BRIDGES)?;
        let request = request.into_inner();
        let result = match bounds::release(&request) {
            Ok(()) => self.inner.store.release(request).await,
            Err(refusal) => Err(refusal),
        };
        self.answer("release", result.map(|released| ReleaseResponse { released }))
    }

    async fn open_room(&self, request: Request<OpenRoomRequest>) -> Result<Response<OpenRoomResponse>, Status> {
        allow(&request, BRIDGES)?;
        let request = request.into_inner();
        let result = match bounds::open(&request) {
            Ok(()) => self.inner.store.open(request).await,
            Err(refusal) => Err(refusal),
        };
        self.answer("open_room", result)
    }

    async fn end_room(&self, request: Request<EndRoomRequest>) -> Result<Response<EndRoomResponse>, Status> {
        allow(&request, BRIDGES)?;
        let request = request.into_inner();
        let result = match bounds::end(&request) {
            Ok(()) => self.inner.store.end(request, EndIf::Always).await,
            Err(refusal) => Err(refusal),
        };
        self.answer("end_room", result.map(|room| EndRoomResponse { room: Some(room) }))
    }

    async fn list_rooms(&self, request: Request<ListRoomsRequest>) -> Result<Response<ListRoomsResponse>, Status> {
        allow(&request, ONLOOKERS)?;
        let request = request.into_inner();
        let result = match bounds::list(&request) {
            Ok(()) => self.inner.store.rooms(request).await,
            Err(refusal) => Err(refusal),
        };
        self.answer("list_rooms", result)
    }

    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        allow(&request, BRIDGES)?;
        let request = request.into_inner();
        let result = match bounds::append(&request) {
            Ok(()) => {
                let (began, entries) = (Instant::now(), request.entries.len());
                let result = self.inner.store.append(request, Writer::Bridge).await;
                self.inner.metrics.appended(if result.is_ok() { entries } else { 0 }, began.elapsed());
                result
            }
            Err(refusal) => Err(refusal),
        };
        self.answer("append", result)
    }

    async fn tail(&self, request: Request<TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        allow(&request, BRIDGES)?;
        let request = request.into_inner();
        let result = match bounds::tail(&request) {
            Ok(()) => tail::open(self.clone(), request).await,
            Err(refusal) => Err(refusal),
        };
        let result = result.map(|frames| Box::pin(frames) as Self::TailStream);
        self.answer("tail", result)
    }

    async fn snapshot(&self, request: Request<SnapshotRequest>) -> Result<Response<SnapshotResponse>, Status> {
        allow(&request, BRIDGES)?;
        let request = request.into_inner();
        let result = match bounds::snapshot(&request) {
            Ok(()) => self.inner.store.snapshot(request).await,
            Err(refusal) => Err(refusal),
        };
        self.answer("snapshot", result.map(|stored| SnapshotResponse { stored }))
    }

    async fn restore(&self, request: Request<RestoreRequest>) -> Result<Response<RestoreResponse>, Status> {
        allow(&request, BRIDGES)?;
        let request = request.into_inner();
        let result = match bounds::restore(&request) {
            Ok(()) => self.inner.store.restore(request).await,
            Err(refusal) => Err(refusal),
        };
        self.answer("restore", result.map(|room| RestoreResponse { room: Some(room) }))
    }

    async fn cluster(&self, request: Request<ClusterRequest>) -> Result<Response<Self::ClusterStream>, Status> {
        allow(&request, ONLOOKERS)?;
        let watch = request.into_inner().watch;
        Ok(Response::new(Box::pin(cluster::views(self.clone(), watch))))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        allow(&request, OPERATORS)?;
        let request = request.into_inner();
        let within_ms = request.drain.then_some(request.within_ms);
        let result = match bounds::drain(&request) {
            Ok(()) => self.inner.store.drain(&request.bridge, within_ms).await,
            Err(refusal) => Err(refusal),
        };
        self.inner.ordered.send_replace(());
        self.answer("drain", result.map(|attached| DrainResponse { attached }))
    }
}
