//! Ratssaal's gRPC contracts, generated from `proto/proto` without protoc. No logic: messages, clients, servers, and the
//! conversion between a typed [`Refusal`](allocator::v1::Refusal) and the gRPC status that carries it.
//!
//! The `.proto` files are the reference; their comments are the documentation of the generated items.
#![forbid(unsafe_code)]

mod refusal;

/// Placement, room logs and the cluster: what bridges and the operator ask of the allocator.
pub mod allocator {
    /// Version 1 of `ratssaal.allocator`.
    #[allow(missing_docs, unused_qualifications, clippy::all, reason = "generated; documented in allocator.proto")]
    pub mod v1 {
        tonic::include_proto!("ratssaal.allocator.v1");
    }
}

/// What bridges say to each other, and an operator to a bridge.
pub mod bridge {
    /// Version 1 of `ratssaal.bridge`.
    #[allow(missing_docs, unused_qualifications, clippy::all, reason = "generated; documented in bridge.proto")]
    pub mod v1 {
        tonic::include_proto!("ratssaal.bridge.v1");
    }
}

/// What happens in a room: the entries of its log.
pub mod room {
    /// Version 1 of `ratssaal.room`.
    #[allow(missing_docs, unused_qualifications, clippy::all, reason = "generated; documented in room.proto")]
    pub mod v1 {
        tonic::include_proto!("ratssaal.room.v1");
    }
}

/// The encoded `FileDescriptorSet` of all contracts, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
