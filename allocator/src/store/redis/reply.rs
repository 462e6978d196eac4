//! What a script answers: a status, then fields in their order.

use std::time::Duration;

use bytes::Bytes;
use ratssaal_proto::allocator::v1::{RoomBridge, RoomInfo, RoomSettings, Seat};
use redis::Value;
use tracing::error;

use crate::refusal::{Quota, Refusal};
use crate::store::Result;

/// The rest of an answer.
#[derive(Debug)]
pub(super) struct Reply(std::vec::IntoIter<Value>);

/// An answer no script of this version gives.
pub(super) fn malformed() -> Refusal {
    error!("Redis answered what no script of this version answers: do other programs write to its keys?");
    unavailable("the shared store holds what this version does not understand")
}

/// An answer: not now.
fn unavailable(reason: &'static str) -> Refusal {
    Refusal::Unavailable { reason, retry_after: Duration::from_secs(1), away: false }
}

/// Redis gives no answer.
pub(super) fn away(reason: &'static str) -> Refusal {
    Refusal::Unavailable { reason, retry_after: Duration::from_secs(1), away: true }
}

/// Redis gives no answer within the timeout.
pub(super) fn late() -> Refusal {
    away("the shared store (Redis) did not answer in time")
}

impl Reply {
    /// The fields of a call that went well; else why it did not. `subject` is the room or bridge it was about.
    pub(super) fn read(value: Value, subject: &str) -> Result<Self> {
        let Value::Array(fields) = value else { return Err(malformed()) };
        let mut reply = Self(fields.into_iter());
        let status = reply.text()?;
        Err(match status.as_str() {
            "ok" => return Ok(reply),
            "unknown" => Refusal::UnknownRoom(subject.to_owned()),
            "exists" => Refusal::RoomExists(subject.to_owned()),
            "conflict" => Refusal::Conflict { head: reply.number()? },
            "lapsed" => Refusal::Lapsed(reply.text()?),
            "full" => Refusal::Full { free_elsewhere: reply.count()? },
            "draining" => Refusal::Draining,
            "none" => unavailable("no bridge is attached"),
            "unsuitable" => unavailable("no bridge suits this participant"),
            "unattached" => unavailable("the bridge of a seat that it gave by its lease is not attached yet"),
            "settling" => Refusal::Unavailable {
                reason: "the shared store has just begun, and bridges first tell it of their rooms",
                retry_after: Duration::from_millis(reply.number()?),
                away: false,
            },
            "beyond" => {
                Refusal::Invalid(format!("the log's head is {}, there is no state beyond it yet", reply.number()?))
            }
            "foreign" => Refusal::foreign_join(),
            "gone" => Refusal::Invalid("this incarnation said it is gone: attach with a new one".into()),
            "taken" => {
                let retry_after = Duration::from_millis(reply.number()?);
                Refusal::BridgeTaken { id: subject.to_owned(), retry_after }
            }
            "quota" => Refusal::Quota(match reply.text()?.as_str() {
                "participants" => Quota::Participants,
                "rooms" => Quota::Rooms,
                "log" => Quota::Log,
                "bridges" => Quota::Bridges,
                "room_bridges" => Quota::RoomBridges,
                _ => return Err(malformed()),
            }),
            _ => malformed(),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    fn next(&mut self) -> Result<Value> {
        self.0.next().ok_or_else(malformed)
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes> {
        match self.next()? {
            Value::BulkString(bytes) => Ok(bytes.into()),
            _ => Err(malformed()),
        }
    }

    pub(super) fn text(&mut self) -> Result<String> {
        match self.next()? {
            Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_| malformed()),
            _ => Err(malformed()),
        }
    }

    pub(super) fn signed(&mut self) -> Result<i64> {
        match self.next()? {
            Value::Int(number) => Ok(number),
            Value::BulkString(bytes) => {
                std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok()).ok_or_else(malformed)
            }
            _ => Err(malformed()),
        }
    }

    pub(super) fn number(&mut self) -> Result<u64> {
        u64::try_from(self.signed()?).map_err(|_| malformed())
    }

    pub(super) fn count(&mut self) -> Result<u32> {
        u32::try_from(self.number()?).map_err(|_| malformed())
    }

    pub(super) fn flag(&mut self) -> Result<bool> {
        Ok(self.number()? != 0)
    }

    /// A list, or nothing.
    pub(super) fn optional(&mut self) -> Result<Option<Self>> {
        match self.next()? {
            Value::Array(fields) => Ok(Some(Self(fields.into_iter()))),
            Value::Nil => Ok(None),
            _ => Err(malformed()),
        }
    }

    pub(super) fn list(&mut self) -> Result<Self> {
        self.optional()?.ok_or_else(malformed)
    }

    /// Bytes, or nothing.
    pub(super) fn optional_bytes(&mut self) -> Result<Option<Bytes>> {
        match self.next()? {
            Value::BulkString(bytes) => Ok(Some(bytes.into())),
            Value::Nil => Ok(None),
            _ => Err(malformed()),
        }
    }

    /// All lists that are left.
    pub(super) fn each<T>(mut self, read: impl Fn(Self) -> Result<T>) -> Result<Vec<T>> {
        let mut all = Vec::with_capacity(self.0.len());
        while !self.is_empty() {
            all.push(read(self.list()?)?);
        }
        Ok(all)
    }

    /// A room as the scripts' `info` gives it.
    pub(super) fn room(mut self) -> Result<RoomInfo> {
        let mut room = RoomInfo {
            name: self.text()?,
            sid: self.text()?,
            epoch: self.number()?,
            created_ms: self.number()?,
            settings: Some(RoomSettings {
                max_participants: self.count()?,
                empty_timeout_ms: self.number()?,
                departure_timeout_ms: self.number()?,
                site_pin: self.text()?,
            }),
            head: self.number()?,
            seats: self.count()?,
            bridges: Vec::new(),
            store: self.text()?,
        };
        let mut bridges = Vec::new();
        for _ in 0..self.number()? {
            let slot = self.text()?;
            bridges.push((slot, RoomBridge { bridge: self.text()?, seats: self.count()? }));
        }
        bridges.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        room.bridges = bridges.into_iter().map(|(_, bridge)| bridge).collect();
        Ok(room)
    }

    /// A seat as the scripts' `seat_info` gives it.
    pub(super) fn seat(mut self) -> Result<Seat> {
        Ok(Seat {
            join_id: self.text()?,
            identity: self.text()?,
            participant_sid: self.text()?,
            bridge: self.text()?,
            bridge_address: self.text()?,
            confirmed: self.flag()?,
        })
    }
}
