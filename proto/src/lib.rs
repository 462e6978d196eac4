//! Ratssaal's gRPC contracts: allocator.v1 (and bridge.v1), generated without protoc.
