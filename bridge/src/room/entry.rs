//! Log entries as this version reads and writes them: between [`Event`] and bytes, and the tables between the log's
//! reasons and the protocol's.

use bytes::Bytes;
use livekit_protocol::{DisconnectReason, ParticipantPermission};
use prost::Message as _;
pub(crate) use ratssaal_proto::room::v1::entry::Event;
use ratssaal_proto::room::v1::{EndReason, Entry, LeaveReason, Permission};

/// The entry format we write.
const VERSION: u32 = 1;

/// An entry with its place in the log.
#[derive(Clone, PartialEq, Debug)]
pub struct Logged {
    /// Its number; the first entry is 1.
    pub sequence: u64,
    /// What happened; `None` for a kind that this version does not know.
    pub event: Option<Event>,
    /// As it stands in the log.
    pub bytes: Bytes,
    /// When it was appended, by the allocator's clock, Unix milliseconds; 0 where that is not known.
    pub at_ms: u64,
}

impl Logged {
    /// Reads an entry. One that cannot be read counts as of unknown kind: it is carried and ignored.
    #[must_use]
    pub fn decode(sequence: u64, bytes: Bytes) -> Self {
        let event = Entry::decode(bytes.clone()).ok().and_then(|entry| entry.event);
        Self { sequence, event, bytes, at_ms: 0 }
    }
}

/// An event as an entry's bytes.
#[must_use]
pub fn encode(event: &Event) -> Bytes {
    bytes_of(&Entry { version: VERSION, event: Some(event.clone()) })
}

/// A message's bytes.
pub(super) fn bytes_of(message: &impl prost::Message) -> Bytes {
    message.encode_to_vec().into()
}

pub(super) fn leave_reason(reason: DisconnectReason) -> LeaveReason {
    match reason {
        DisconnectReason::ClientInitiated => LeaveReason::Client,
        DisconnectReason::DuplicateIdentity => LeaveReason::DuplicateIdentity,
        DisconnectReason::ServerShutdown => LeaveReason::ServerShutdown,
        DisconnectReason::ParticipantRemoved => LeaveReason::Removed,
        DisconnectReason::StateMismatch => LeaveReason::StateMismatch,
        DisconnectReason::JoinFailure => LeaveReason::JoinFailure,
        DisconnectReason::Migration => LeaveReason::Migration,
        DisconnectReason::SignalClose => LeaveReason::SignalClosed,
        DisconnectReason::ConnectionTimeout => LeaveReason::Timeout,
        DisconnectReason::MediaFailure => LeaveReason::MediaFailure,
        DisconnectReason::UnknownReason
        | DisconnectReason::RoomDeleted
        | DisconnectReason::RoomClosed
        | DisconnectReason::UserUnavailable
        | DisconnectReason::UserRejected
        | DisconnectReason::SipTrunkFailure
        | DisconnectReason::AgentError => LeaveReason::Unspecified,
    }
}

pub(super) fn left_because(reason: LeaveReason) -> DisconnectReason {
    match reason {
        LeaveReason::Unspecified => DisconnectReason::UnknownReason,
        LeaveReason::Client => DisconnectReason::ClientInitiated,
        LeaveReason::Timeout | LeaveReason::BridgeLost => DisconnectReason::ConnectionTimeout,
        LeaveReason::DuplicateIdentity => DisconnectReason::DuplicateIdentity,
        LeaveReason::Removed => DisconnectReason::ParticipantRemoved,
        LeaveReason::ServerShutdown => DisconnectReason::ServerShutdown,
        LeaveReason::JoinFailure => DisconnectReason::JoinFailure,
        LeaveReason::SignalClosed => DisconnectReason::SignalClose,
        LeaveReason::StateMismatch => DisconnectReason::StateMismatch,
        LeaveReason::MediaFailure => DisconnectReason::MediaFailure,
        LeaveReason::Migration => DisconnectReason::Migration,
    }
}

pub(super) fn end_reason(reason: DisconnectReason) -> EndReason {
    match reason {
        DisconnectReason::RoomDeleted => EndReason::Deleted,
        DisconnectReason::RoomClosed => EndReason::Empty,
        DisconnectReason::ServerShutdown => EndReason::ServerShutdown,
        _ => EndReason::Unspecified,
    }
}

pub(super) fn ended_because(reason: EndReason) -> DisconnectReason {
    match reason {
        EndReason::Unspecified | EndReason::Empty => DisconnectReason::RoomClosed,
        EndReason::Deleted => DisconnectReason::RoomDeleted,
        EndReason::ServerShutdown => DisconnectReason::ServerShutdown,
    }
}

#[expect(deprecated, reason = "old clients still read `recorder` and `agent`")]
pub(super) fn permission_to_log(permission: &ParticipantPermission) -> Permission {
    Permission {
        can_subscribe: permission.can_subscribe,
        can_publish: permission.can_publish,
        can_publish_data: permission.can_publish_data,
        can_publish_sources: permission.can_publish_sources.clone(),
        hidden: permission.hidden,
        can_update_metadata: permission.can_update_metadata,
        can_subscribe_metrics: permission.can_subscribe_metrics,
        recorder: permission.recorder,
        agent: permission.agent,
        can_manage_agent_session: permission.can_manage_agent_session,
    }
}

#[expect(deprecated, reason = "old clients still read `recorder` and `agent`")]
pub(super) fn permission_from_log(permission: &Permission) -> ParticipantPermission {
    ParticipantPermission {
        can_subscribe: permission.can_subscribe,
        can_publish: permission.can_publish,
        can_publish_data: permission.can_publish_data,
        can_publish_sources: permission.can_publish_sources.clone(),
        hidden: permission.hidden,
        can_update_metadata: permission.can_update_metadata,
        can_subscribe_metrics: permission.can_subscribe_metrics,
        recorder: permission.recorder,
        agent: permission.agent,
        can_manage_agent_session: permission.can_manage_agent_session,
    }
}

#[cfg(test)]
mod tests {
    use ratssaal_proto::room::v1::MetadataChanged;

    use super::*;

    #[test]
    fn an_entry_survives_the_log() {
        let event = Event::MetadataChanged(MetadataChanged { metadata: "x".into() });
        let logged = Logged::decode(7, encode(&event));
        assert_eq!((logged.sequence, logged.event), (7, Some(event)));
    }

    #[test]
    fn a_newer_kind_and_junk_are_unknown() {
        // Field 100, length-delimited, three bytes: a kind of a later version.
        for bytes in [&b"\x08\x02\xa2\x06\x03abc"[..], b"\xff\xff\xff"] {
            let bytes = Bytes::from_static(bytes);
            assert_eq!(Logged::decode(1, bytes.clone()), Logged { sequence: 1, event: None, bytes, at_ms: 0 });
        }
    }

    #[test]
    fn reasons_that_sessions_give_come_back_as_they_were() {
        for reason in [
            DisconnectReason::ClientInitiated,
            DisconnectReason::DuplicateIdentity,
            DisconnectReason::ServerShutdown,
            DisconnectReason::ParticipantRemoved,
            DisconnectReason::StateMismatch,
            DisconnectReason::JoinFailure,
            DisconnectReason::SignalClose,
            DisconnectReason::ConnectionTimeout,
            DisconnectReason::MediaFailure,
            DisconnectReason::Migration,
        ] {
            assert_eq!(left_because(leave_reason(reason)), reason);
        }
        for reason in [DisconnectReason::RoomDeleted, DisconnectReason::RoomClosed, DisconnectReason::ServerShutdown] {
            assert_eq!(ended_because(end_reason(reason)), reason);
        }
    }
}
