//! The two headers of every call between bridges: who calls, and whom it means.

use ratssaal_process::grpc::TraceContext;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};
use tonic::service::Interceptor;
use tonic::{Request, Status};

const FROM: &str = "ratssaal-from-bin";
const TO: &str = "ratssaal-to-bin";
/// The longest name of a bridge, bytes; the allocator's limit too.
const MAX_NAME: usize = 256;

/// Puts both names into each call, and in which span it is made.
#[derive(Clone, Debug)]
pub struct Names {
    from: BinaryMetadataValue,
    to: BinaryMetadataValue,
}

impl Names {
    pub(super) fn new(from: &str, to: &str) -> Self {
        Self {
            from: BinaryMetadataValue::from_bytes(from.as_bytes()),
            to: BinaryMetadataValue::from_bytes(to.as_bytes()),
        }
    }
}

impl Interceptor for Names {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert_bin(FROM, self.from.clone());
        request.metadata_mut().insert_bin(TO, self.to.clone());
        TraceContext.call(request)
    }
}

/// Who calls, if it means the bridge `me`.
pub(super) fn caller(headers: &MetadataMap, me: &str) -> Result<String, Status> {
    let name = |key| {
        let value = headers.get_bin(key).and_then(|value| value.to_bytes().ok());
        let name = value.and_then(|value| String::from_utf8(value.to_vec()).ok());
        let usable = name.filter(|name| (1..=MAX_NAME).contains(&name.len()));
        usable.ok_or_else(|| Status::invalid_argument(format!("the header {key} must hold the name of a bridge")))
    };
    let (from, to) = (name(FROM)?, name(TO)?);
    if to != me {
        let message = format!("this is bridge {me:?}, not {to:?}: ask the allocator where that is");
        return Err(Status::failed_precondition(message));
    }
    if from == me {
        let message = format!("the caller calls itself {from:?}, as this bridge does: give each a name of its own");
        return Err(Status::failed_precondition(message));
    }
    Ok(from)
}
