//! A [`Refusal`] inside a gRPC status, both ways.
//!
//! The status's details are a `google.rpc.Status` with the refusal as its one `Any`, as gRPC tools expect it.

use prost::Message;
use tonic::{Code, Status};
use tonic_types::Status as Details;

use crate::allocator::v1::Refusal;
use crate::allocator::v1::refusal::Code as Reason;

const TYPE_URL: &str = "type.googleapis.com/ratssaal.allocator.v1.Refusal";

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.code() {
            Reason::Full | Reason::Quota => Code::ResourceExhausted,
            Reason::Draining | Reason::Unavailable => Code::Unavailable,
            Reason::UnknownRoom => Code::NotFound,
            Reason::Conflict => Code::Aborted,
            Reason::Lapsed => Code::FailedPrecondition,
            Reason::RoomExists | Reason::BridgeTaken => Code::AlreadyExists,
            Reason::Invalid => Code::InvalidArgument,
            Reason::Unspecified => Code::Unknown,
        };
        let message = refusal.message.clone();
        let value = refusal.encode_to_vec();
        let any = prost_types::Any { type_url: TYPE_URL.to_owned(), value };
        let details = Details { code: code.into(), message: message.clone(), details: vec![any] };
        Self::with_details(code, message, details.encode_to_vec().into())
    }
}

impl Refusal {
    /// The refusal a status carries; `None` if the status is not the allocator's own (a lost connection, a deadline).
    #[must_use]
    pub fn from_status(status: &Status) -> Option<Self> {
        let details = Details::decode(status.details()).ok()?;
        let any = details.details.into_iter().find(|any| any.type_url == TYPE_URL)?;
        Self::decode(any.value.as_slice()).ok()
    }

    /// Whether a status means that nobody could be asked: no allocator answers, or none that reaches its store.
    #[must_use]
    pub fn is_away(status: &Status) -> bool {
        match Self::from_status(status) {
            Some(refusal) => refusal.code() == Reason::Unavailable && refusal.away,
            None => {
                matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_the_way_through_a_status() {
        let refusal = Refusal {
            code: Reason::Conflict.into(),
            message: "read on and retry".into(),
            head: 7,
            ..Refusal::default()
        };
        let status = Status::from(refusal.clone());
        assert_eq!(status.code(), Code::Aborted);
        assert_eq!(status.message(), "read on and retry");
        assert_eq!(Refusal::from_status(&status), Some(refusal));
    }

    #[test]
    fn foreign_statuses_carry_no_refusal() {
        assert_eq!(Refusal::from_status(&Status::unavailable("connection lost")), None);
        let junk = Status::with_details(Code::Aborted, "x", vec![0xff; 9].into());
        assert_eq!(Refusal::from_status(&junk), None);
    }

    #[test]
    fn an_answer_is_no_silence() {
        let says = |code: Reason, away| Status::from(Refusal { code: code.into(), away, ..Refusal::default() });
        for (status, away) in [
            (Status::unavailable("connection lost"), true),
            (Status::deadline_exceeded("too late"), true),
            (Status::permission_denied("not you"), false),
            (says(Reason::Unavailable, true), true),
            (says(Reason::Unavailable, false), false),
            (says(Reason::Full, false), false),
            (says(Reason::Draining, false), false),
        ] {
            assert_eq!(Refusal::is_away(&status), away, "{status:?}");
        }
    }

    #[test]
    fn the_descriptor_set_names_the_service() {
        let set = prost_types::FileDescriptorSet::decode(crate::DESCRIPTORS).unwrap();
        let services: Vec<_> = set.file.iter().flat_map(|file| &file.service).map(|s| s.name().to_owned()).collect();
        assert!(services.contains(&"Allocator".to_owned()), "{services:?}");
    }
}
