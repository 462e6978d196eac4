//! Placements on their way to Redis: those that come while others are under way go together, as one call of one script. That
//! costs Redis about half of what each alone does, and nobody waits for company: while fewer than [`UNDER_WAY`] calls are under
//! way a placement goes at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ratssaal_proto::allocator::v1::{PlaceRequest, PlaceResponse};
use redis::{ScriptInvocation, Value};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::link::Repeat;
use super::reply::{Reply, late, malformed};
use super::{Inner, lines, room_sid, with_settings};
use crate::store::Result;

/// Placements in one call: Redis does nothing else meanwhile, which is to be a millisecond or so.
pub(super) const TOGETHER: usize = 16;
/// Calls under way at once: one is worked on, the other is there when Redis is done with it. Of a Redis that is 2 ms away these
/// are 16 000 placements a second.
pub(super) const UNDER_WAY: usize = 2;

#[derive(Debug)]
struct Placement {
    request: PlaceRequest,
    answer: oneshot::Sender<Result<PlaceResponse>>,
}

#[derive(Debug, Default)]
struct Waiting {
    placements: VecDeque<Placement>,
    /// Tasks that take them.
    working: usize,
    #[cfg(test)]
    come: usize,
}

/// Who waits for a place.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Waiting>);

impl Places {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more; whether somebody has to begin to work.
    fn add(&self, placement: Placement) -> bool {
        let mut waiting = self.lock();
        waiting.placements.push_back(placement);
        #[cfg(test)]
        {
            waiting.come += 1;
        }
        let more = waiting.working < UNDER_WAY;
        waiting.working += usize::from(more);
        more
    }

    /// How many have come so far.
    #[cfg(test)]
    pub(super) fn come(&self) -> usize {
        self.lock().come
    }

    /// The next ones; none ends the work of whoever asks. Those who have given up waiting are not placed.
    fn next(&self) -> Vec<Placement> {
        let mut waiting = self.lock();
        let mut next = Vec::new();
        while next.len() < TOGETHER
            && let Some(placement) = waiting.placements.pop_front()
        {
            if !placement.answer.is_closed() {
                next.push(placement);
            }
        }
        waiting.working -= usize::from(next.is_empty());
        next
    }
}

/// Places a participant. Ends within the timeout, whatever Redis does.
pub(super) async fn place(inner: &Arc<Inner>, request: PlaceRequest) -> Result<PlaceResponse> {
    let (answer, answered) = oneshot::channel();
    let placement = Placement { request, answer };
    if !inner.link.is_open() {
        // Nobody waits behind others for the connection, which is soon here or not.
        together(inner, vec![placement]).await;
    } else if inner.places.add(placement) {
        let inner = Arc::clone(inner);
        tokio::spawn(async move {
            loop {
                // Whoever is on the way here may come along.
                tokio::task::yield_now().await;
                let next = inner.places.next();
                if next.is_empty() {
                    return;
                }
                together(&inner, next).await;
            }
        });
    }
    match timeout(inner.settings.timeout, answered).await {
        Ok(Ok(placed)) => placed,
        _ => Err(late()),
    }
}

async fn together(inner: &Inner, placements: Vec<Placement>) {
    let mut call = inner.call(&inner.scripts.place);
    for placement in &placements {
        with_request(&mut call, &placement.request);
    }
    let answers = match inner.link.run(&call, Repeat::Once).await {
        Ok(Value::Array(answers)) if answers.len() == placements.len() => Ok(answers),
        Ok(_) => Err(malformed()),
        Err(refusal) => Err(refusal),
    };
    let mut answers = answers.map(Vec::into_iter);
    for Placement { request, answer } in placements {
        let placed = match &mut answers {
            Ok(answers) => answers.next().ok_or_else(malformed).and_then(|value| read(value, &request.room)),
            Err(refusal) => Err(refusal.clone()),
        };
        // Who has given up waiting has been told so.
        let _ = answer.send(placed);
    }
}

fn with_request(call: &mut ScriptInvocation<'_>, request: &PlaceRequest) {
    call.arg(&request.room).arg(&request.identity).arg(&request.join_id).arg(&request.participant_sid);
    call.arg(lines(&request.sites)).arg(lines(request.needs.as_ref().map_or(&[], |needs| &needs.features)));
    call.arg(lines(&request.avoid)).arg(u8::from(request.open.is_some()));
    with_settings(call, &request.open.clone().unwrap_or_default());
    call.arg(room_sid());
}

fn read(answer: Value, room: &str) -> Result<PlaceResponse> {
    let mut reply = Reply::read(answer, room)?;
    Ok(PlaceResponse {
        opened: reply.flag()?,
        reserved_ms: reply.count()?,
        seat: Some(reply.list()?.seat()?),
        replaced: reply.optional()?.map(Reply::seat).transpose()?,
        room: Some(reply.list()?.room()?),
    })
}

/// Places all of them in one call.
#[cfg(test)]
pub(super) async fn all(inner: &Inner, requests: Vec<PlaceRequest>) -> Vec<Result<PlaceResponse>> {
    let (placements, answers): (Vec<_>, Vec<_>) = requests
        .into_iter()
        .map(|request| {
            let (answer, answered) = oneshot::channel();
            (Placement { request, answer }, answered)
        })
        .unzip();
    together(inner, placements).await;
    let mut all = Vec::new();
    for answer in answers {
        all.push(answer.await.unwrap());
    }
    all
}
