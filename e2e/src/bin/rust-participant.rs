//! A participant on the `webrtc` crate as a process of its own, for tests in which others are browsers: joins, publishes a
//! camera and a microphone, and prints what it gets as JSON, a line each. A line of its input is sent to all as reliable
//! data; when its input ends it leaves.
//!
//! - `{"event": "joined", "sid"}` once it is connected;
//! - `{"event": "media", "from", "source", "packets"}` for each track that more has come of;
//! - `{"event": "data", "from", "text"}`;
//! - `{"event": "ended", "reason"}` when the server ends it.

use std::{collections::BTreeMap, io::stdin, thread, time::Duration};

use anyhow::Result;
use clap::Parser;
use livekit_protocol::{DataPacket, UserPacket, data_packet::Value};
use ratssaal_e2e::{
    bot::{Bot, Heard, Options, View},
    server::Server,
};
use serde_json::json;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::interval,
};

/// How often it looks at what has come.
const LOOK: Duration = Duration::from_millis(100);

/// A participant for tests with browsers.
#[derive(Parser)]
struct Arguments {
    /// The server: http://host:port
    url: String,
    /// An access token
    token: String,
    /// One PeerConnection (`/rtc/v1`) instead of two (`/rtc`)
    #[arg(long)]
    v1: bool,
}

/// What has been printed already.
#[derive(Default)]
struct Told {
    packets: BTreeMap<String, u64>,
    data: usize,
}

impl Told {
    fn tell(&mut self, view: &View) {
        for (from, who) in &view.others {
            for track in &who.tracks {
                let packets = view.packets_of(&track.sid);
                if self.packets.insert(track.sid.clone(), packets).unwrap_or(0) < packets {
                    let source = track.source().as_str_name();
                    println!("{}", json!({ "event": "media", "from": from, "source": source, "packets": packets }));
                }
            }
        }
        for Heard { packet, .. } in &view.data[self.data..] {
            if let Some(Value::User(user)) = &packet.value {
                let text = String::from_utf8_lossy(&user.payload);
                println!("{}", json!({ "event": "data", "from": packet.participant_identity, "text": text }));
            }
        }
        self.data = view.data.len();
    }
}

/// The lines of its input, until that ends.
fn input() -> UnboundedReceiver<String> {
    let (lines, queue) = unbounded_channel();
    thread::spawn(move || stdin().lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
    queue
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { url, token, v1 } = Arguments::parse();
    // Room and identity are the token's.
    let bot = Bot::join_with(&Server::running(&url), Options::new("", 1, true).v1(v1), &token).await?;
    println!("{}", json!({ "event": "joined", "sid": bot.view(|view| view.me.sid.clone()) }));
    let (mut told, mut looks, mut input) = (Told::default(), interval(LOOK), input());
    loop {
        tokio::select! {
            _ = looks.tick() => bot.view(|view| told.tell(view)),
            line = input.recv() => match line {
                Some(text) => {
                    let user = UserPacket { payload: text.into_bytes(), ..UserPacket::default() };
                    bot.send(DataPacket { value: Some(Value::User(user)), ..DataPacket::default() }, true)?;
                }
                None => return bot.leave().await,
            },
        }
        if let Some(reason) = bot.view(|view| view.ended.clone()) {
            println!("{}", json!({ "event": "ended", "reason": reason }));
            return Ok(());
        }
    }
}
