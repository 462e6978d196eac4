//! The bridge that has the client's seat: lets it in or back on behalf of the one that has its WebSocket.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ratssaal_proto::bridge::v1::{self as wire, Accepted, Refused, SignalDown, SignalUp, signal_down, signal_up};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;
use tonic::{Status, Streaming};
use tracing::Instrument as _;

use super::super::coming;
use super::super::http::{Denial, JOIN_WITHIN};
use super::super::link::{self, Socket};
use super::super::session::{Return, Session};
use super::super::{Inner, Signal};
use super::{down, from_up, read};
use crate::room::{JoinRefusal, JoinRequest, Refusal};

/// How long the opening may take after the line.
const OPENING: Duration = Duration::from_secs(5);

/// A client's WebSocket on another bridge.
#[derive(Debug)]
pub(crate) struct Relayed {
    frames: Streaming<SignalUp>,
    /// What goes out; its other end is the gRPC stream.
    pub(crate) out: mpsc::Sender<Message>,
}

impl Relayed {
    /// The client's next frame; `None` when it or the other bridge is gone. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            let message = self.frames.message().await.ok()??;
            if let Some(frame) = from_up(message) {
                return Some(frame);
            }
        }
    }
}

/// What goes down a line.
type Down = Pin<Box<dyn Stream<Item = Result<SignalDown, Status>> + Send>>;

impl Signal {
    /// Serves a line from another bridge.
    pub(crate) fn line(&self, frames: Streaming<SignalUp>) -> Down {
        let (answer, first) = mpsc::channel(1);
        let (out, queue) = mpsc::channel(link::QUEUE);
        // Letting the client in is a part of its join, which began on the other bridge.
        tokio::spawn(take(Arc::clone(&self.inner), frames, answer, out).in_current_span());
        let told = ReceiverStream::new(queue).map(down);
        Box::pin(ReceiverStream::new(first).chain(told).map(Ok))
    }
}

/// Reads the opening and lets the client in or back.
async fn take(
    signal: Arc<Inner>,
    mut frames: Streaming<SignalUp>,
    answer: mpsc::Sender<SignalDown>,
    out: mpsc::Sender<Message>,
) {
    let opening = match timeout(OPENING, frames.message()).await {
        Ok(Ok(Some(SignalUp { message: Some(signal_up::Message::Opening(opening)) }))) => opening,
        _ => return tracing::warn!("another bridge opened a line without saying for whom"),
    };
    let relayed = Relayed { frames, out };
    let outcome = match opening.placed.is_some() {
        true => join(&signal, opening, relayed, &answer).await,
        false => resume(&signal, &opening, relayed, &answer).await,
    };
    if let Err(refused) = outcome {
        tracing::info!(status = refused.status, message = %refused.message, "a client of another bridge is not let in");
        say(&answer, signal_down::Message::Refused(refused)).await;
    }
}

/// Lets somebody in whose seat another bridge had reserved here.
async fn join(
    signal: &Arc<Inner>,
    opening: wire::Opening,
    relayed: Relayed,
    answer: &mpsc::Sender<SignalDown>,
) -> Result<(), Refused> {
    let (read, address) = read(&opening).map_err(|error| Denial::from(error).refused())?;
    let placed = opening.placed.unwrap_or_default();
    let seat = placed.seat.as_ref().filter(|seat| seat.bridge == signal.rooms.bridge());
    let fits = placed.room.as_ref().is_some_and(|room| room.name == read.claims.grants.room);
    let Some(seat) = seat.filter(|seat| fits && seat.identity == read.claims.identity) else {
        let message = "the seat belongs to another bridge, room or identity than the request";
        return Err(Denial::unavailable(message).refused());
    };
    let place = signal.admission.enter(address).ok_or_else(|| Denial::crowded().refused())?;
    let (claims, client) = (read.claims.clone(), read.client.clone());
    let request = JoinRequest { claims, client, join_id: seat.join_id.clone(), forwarded_from: None };
    let joined = match timeout(JOIN_WITHIN, signal.rooms.enter(&request, &placed)).await {
        Ok(Ok(joined)) => joined,
        Ok(Err(refusal)) => {
            let ended = refusal == JoinRefusal::Refused(Refusal::Ended);
            return Err(Refused { ended, ..Denial::from(refusal).refused() });
        }
        Err(_) => return Err(Denial::late().refused()),
    };
    let returns = signal.sessions.register(joined.sid.clone(), &request.claims.identity, &request.claims.grants.room);
    let session = Session::new(Arc::clone(signal), joined, read, returns, place);
    say(answer, signal_down::Message::Accepted(Accepted {})).await;
    tokio::spawn(session.run(Socket::Relayed(Box::new(relayed))));
    Ok(())
}

/// Lets a client come back to its session here, or go on here with the one that it had on another bridge.
async fn resume(
    signal: &Arc<Inner>,
    opening: &wire::Opening,
    relayed: Relayed,
    answer: &mpsc::Sender<SignalDown>,
) -> Result<(), Refused> {
    let (opening, address) = read(opening).map_err(|error| Denial::from(error).refused())?;
    let unknown = || Refused { unknown: true, ..Denial::unavailable("there is no such session here").refused() };
    let sid = opening.resume.clone().ok_or_else(unknown)?;
    let Some(session) = signal.sessions.find(&sid, &opening.claims.identity, &opening.claims.grants.room) else {
        let place = signal.admission.enter(address).ok_or_else(|| Denial::crowded().refused())?;
        let taken = coming::take_over(signal, &opening, &sid, place).await.map_err(Denial::refused)?;
        let session = taken.ok_or_else(unknown)?;
        say(answer, signal_down::Message::Accepted(Accepted {})).await;
        tokio::spawn(session.go_on(Return { socket: Socket::Relayed(Box::new(relayed)), opening }));
        return Ok(());
    };
    if let Some(moved_to) = session.moved_to {
        let denial = Denial::unavailable("the session goes on at another bridge");
        return Err(Refused { moved_to, ..denial.refused() });
    }
    let way = session.returns.reserve().await.map_err(|_| unknown())?;
    say(answer, signal_down::Message::Accepted(Accepted {})).await;
    way.send(Box::new(Return { socket: Socket::Relayed(Box::new(relayed)), opening }));
    Ok(())
}

/// The first message down.
async fn say(answer: &mpsc::Sender<SignalDown>, message: signal_down::Message) {
    // The other bridge may be gone: the session notices by its frames.
    let _ = answer.send(SignalDown { message: Some(message) }).await;
}
