//! A meeting that runs beside an attack: two publishing participants who must notice nothing.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::{
    bot::{Bot, Options},
    server::Server,
};

/// Packets that must come after [`Meeting::goes_on`] was asked, per participant: more than a second of audio and video.
const PACKETS: u64 = 80;

/// Two participants, v0 and v1, who see and hear each other.
pub struct Meeting {
    /// The two.
    pub bots: [Bot; 2],
}

impl Meeting {
    /// Starts it, and waits until media flows both ways.
    ///
    /// # Errors
    /// They do not get in, or get no media.
    pub async fn start(server: &Server) -> Result<Self> {
        let join = |number, v1| Bot::join(server, Options::new("beside", number, true).v1(v1));
        let meeting = Self { bots: [join(1, false).await?, join(2, true).await?] };
        for bot in &meeting.bots {
            let both = |view: &crate::bot::View| {
                (view.received.values().filter(|track| track.packets > 20).count() == 2).then_some(())
            };
            bot.wait("the meeting beside flows", Duration::from_secs(15), both).await.context(server.log())?;
        }
        Ok(meeting)
    }

    /// Waits until both have received more than a second of new media, whole, over the connection they had.
    ///
    /// # Errors
    /// Media stalls or is damaged, or a session has ended.
    pub async fn goes_on(&self, server: &Server) -> Result<()> {
        for bot in &self.bots {
            let before = bot.view(crate::bot::View::packets);
            let new = |view: &crate::bot::View| (view.packets() >= before + PACKETS).then_some(());
            bot.wait("the meeting beside goes on", Duration::from_secs(10), new).await.context(server.log())?;
            bot.check_alive()?;
            let damaged: u64 = bot.view(|view| view.received.values().map(|track| track.damaged).sum());
            anyhow::ensure!(damaged == 0, "the meeting beside got {damaged} damaged packets");
        }
        Ok(())
    }
}
