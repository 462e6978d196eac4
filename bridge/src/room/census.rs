//! How many sit on this bridge.

use super::handle::RoomHandle;
use super::metrics::PresenceLabel;
use super::registry::Rooms;
use super::state::Presence;

impl Rooms {
    /// Participants that sit here.
    pub(super) fn seated(&self) -> u32 {
        let here = |room: &RoomHandle| room.state().participants().filter(|who| who.bridge == self.bridge()).count();
        u32::try_from(self.all().iter().map(here).sum::<usize>()).unwrap_or(u32::MAX)
    }

    /// Participants that sit here, and rooms that have any; the gauges show the same.
    pub(crate) fn count(&self) -> (u32, u32) {
        let mut by_presence =
            [(Presence::Joining, "joining", 0), (Presence::Joined, "joined", 0), (Presence::Active, "active", 0)];
        let mut rooms = 0;
        for room in self.all() {
            let state = room.state();
            let here: Vec<_> = state.participants().filter(|who| who.bridge == self.bridge()).collect();
            rooms += u32::from(!here.is_empty());
            for (presence, _, count) in &mut by_presence {
                *count += here.iter().filter(|who| who.presence == *presence).count();
            }
        }
        let mut participants = 0;
        for (_, state, count) in by_presence {
            participants += count;
            let gauge = self.metrics().participants.get_or_create(&PresenceLabel { state });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        (u32::try_from(participants).unwrap_or(u32::MAX), rooms)
    }
}
