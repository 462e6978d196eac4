//! Why the allocator says no: each refusal says what to do next, and becomes the contract's typed gRPC status.

use std::time::Duration;

use ratssaal_proto::allocator::v1::Refusal as Message;
use ratssaal_proto::allocator::v1::refusal::{Code, Quota as QuotaCode};
use thiserror::Error;
use tonic::Status;

use crate::clock::millis;

/// A refused call.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No bridge that may take the participant has a seat left.
    #[error("every bridge is full: wait until somebody leaves, or add a bridge")]
    Full {
        /// Seats free at sites where the room is not allowed.
        free_elsewhere: u32,
    },
    /// Only draining bridges are there.
    #[error("all bridges are draining: wait for the new ones, or take the drain order back")]
    Draining,
    /// The room is not open, or this opening of it has ended.
    #[error("room {0:?} is not open: open it first")]
    UnknownRoom(String),
    /// A configured limit is reached.
    #[error("{0}")]
    Quota(Quota),
    /// Not now.
    #[error("{reason}: try again")]
    Unavailable {
        /// What is missing.
        reason: &'static str,
        /// When to try again.
        retry_after: Duration,
        /// Nobody could be asked: the store does not answer.
        away: bool,
    },
    /// Somebody appended first.
    #[error("the log's head is {head}: read on, validate again and retry")]
    Conflict {
        /// Sequence of the last entry.
        head: u64,
    },
    /// A seat to confirm is no longer held.
    #[error("seat {0:?} is no longer held: place the participant again")]
    Lapsed(String),
    /// The room was to be new.
    #[error("room {0:?} is open already: choose another name")]
    RoomExists(String),
    /// Another process with this bridge id is alive.
    #[error(
        "bridge id {id:?} is in use by another process: give this bridge its own id, or wait until the other is gone"
    )]
    BridgeTaken {
        /// The id both want.
        id: String,
        /// When the other one expires if it says nothing more.
        retry_after: Duration,
    },
    /// The request breaks the contract.
    #[error("{0}")]
    Invalid(String),
}

/// A limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Quota {
    /// The room's `max_participants`.
    #[error("the room has as many participants as it may have: wait until somebody leaves")]
    Participants,
    /// Open rooms.
    #[error("as many rooms are open as may be: wait until one ends, or raise max_rooms")]
    Rooms,
    /// Entries or bytes in a room's log since its last snapshot.
    #[error("the room's log is full: send a snapshot")]
    Log,
    /// Bridges one room may span.
    #[error("the room spans as many bridges as it may and they are full: wait until somebody leaves")]
    RoomBridges,
    /// Bridges in the cluster.
    #[error("the cluster has as many bridges as it may have: raise max_bridges")]
    Bridges,
}

impl Refusal {
    /// A join id stands for one participant's attempt.
    pub(crate) fn foreign_join() -> Self {
        Self::Invalid("this join id is another participant's: make a new one for every attempt to join".into())
    }
}

impl From<Refusal> for Message {
    fn from(refusal: Refusal) -> Self {
        let mut message = Self { message: refusal.to_string(), ..Self::default() };
        let code = match refusal {
            Refusal::Full { free_elsewhere } => {
                message.free_elsewhere = free_elsewhere;
                Code::Full
            }
            Refusal::Draining => {
                message.retry_after_ms = 1000;
                Code::Draining
            }
            Refusal::UnknownRoom(_) => Code::UnknownRoom,
            Refusal::Quota(quota) => {
                message.quota = match quota {
                    Quota::Participants => QuotaCode::Participants,
                    Quota::Rooms => QuotaCode::Rooms,
                    Quota::Log => QuotaCode::Log,
                    Quota::RoomBridges | Quota::Bridges => QuotaCode::Bridges,
                }
                .into();
                Code::Quota
            }
            Refusal::Unavailable { retry_after, away, .. } => {
                message.away = away;
                message.retry_after_ms = saturated_millis(retry_after);
                Code::Unavailable
            }
            Refusal::Conflict { head } => {
                message.head = head;
                Code::Conflict
            }
            Refusal::Lapsed(join_id) => {
                message.join_id = join_id;
                Code::Lapsed
            }
            Refusal::RoomExists(_) => Code::RoomExists,
            Refusal::BridgeTaken { retry_after, .. } => {
                message.retry_after_ms = saturated_millis(retry_after);
                Code::BridgeTaken
            }
            Refusal::Invalid(_) => Code::Invalid,
        };
        message.code = code.into();
        message
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Message::from(refusal).into()
    }
}

/// Milliseconds as the contract's 32-bit fields hold them.
pub(crate) fn saturated_millis(duration: Duration) -> u32 {
    u32::try_from(millis(duration)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_reaches_the_caller_with_its_facts() {
        let after = Duration::from_millis(1500);
        let message = |code: Code| Message { code: code.into(), ..Message::default() };
        let quota = |quota: QuotaCode| Message { quota: quota.into(), ..message(Code::Quota) };
        let retry = |code| Message { retry_after_ms: 1500, ..message(code) };
        let table = [
            (
                Refusal::Full { free_elsewhere: 4 },
                Message { free_elsewhere: 4, ..message(Code::Full) },
                tonic::Code::ResourceExhausted,
            ),
            (Refusal::Draining, Message { retry_after_ms: 1000, ..message(Code::Draining) }, tonic::Code::Unavailable),
            (Refusal::UnknownRoom("x".into()), message(Code::UnknownRoom), tonic::Code::NotFound),
            (Refusal::Quota(Quota::Participants), quota(QuotaCode::Participants), tonic::Code::ResourceExhausted),
            (Refusal::Quota(Quota::Rooms), quota(QuotaCode::Rooms), tonic::Code::ResourceExhausted),
            (Refusal::Quota(Quota::Log), quota(QuotaCode::Log), tonic::Code::ResourceExhausted),
            (Refusal::Quota(Quota::RoomBridges), quota(QuotaCode::Bridges), tonic::Code::ResourceExhausted),
            (Refusal::Quota(Quota::Bridges), quota(QuotaCode::Bridges), tonic::Code::ResourceExhausted),
            (
                Refusal::Unavailable { reason: "x", retry_after: after, away: false },
                retry(Code::Unavailable),
                tonic::Code::Unavailable,
            ),
            (
                Refusal::Unavailable { reason: "x", retry_after: after, away: true },
                Message { away: true, ..retry(Code::Unavailable) },
                tonic::Code::Unavailable,
            ),
            (Refusal::Conflict { head: 9 }, Message { head: 9, ..message(Code::Conflict) }, tonic::Code::Aborted),
            (
                Refusal::Lapsed("j".into()),
                Message { join_id: "j".into(), ..message(Code::Lapsed) },
                tonic::Code::FailedPrecondition,
            ),
            (Refusal::RoomExists("x".into()), message(Code::RoomExists), tonic::Code::AlreadyExists),
            (
                Refusal::BridgeTaken { id: "b".into(), retry_after: after },
                retry(Code::BridgeTaken),
                tonic::Code::AlreadyExists,
            ),
            (Refusal::Invalid("x".into()), message(Code::Invalid), tonic::Code::InvalidArgument),
        ];
        for (refusal, expected, code) in table {
            let text = refusal.to_string();
            let status = Status::from(refusal);
            assert_eq!((status.code(), status.message()), (code, text.as_str()));
            assert_eq!(Message::from_status(&status), Some(Message { message: text, ..expected }));
        }
    }
}
