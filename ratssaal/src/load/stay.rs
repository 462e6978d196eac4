//! How long a participant stays: to the end of the run, or for a while, after which another comes in its place.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};
use ratssaal_bridge::client::Local;
use ratssaal_bridge::transport::dtls::Identity;

use super::session::{self, Joined, Setup};

/// Runs the sessions of one seat, one after another.
pub(super) async fn attend(setup: Setup, identity: Identity, stay: Option<Duration>) {
    let mut random = StdRng::seed_from_u64(setup.cast.seed ^ u64::from(setup.cast.number) << 32);
    loop {
        let leave = setup.leave.child_token();
        let next = Setup { local: Local::new(&identity), leave: leave.clone(), ..setup.clone() };
        let reports = next.reports.clone();
        let session = session::run(next);
        let Some(stay) = stay else {
            session.await;
            return;
        };
        // Between half and one and a half times as long, so that they do not all leave at once.
        let time = stay.mul_f64(random.random_range(0.5..1.5));
        let left = async {
            tokio::time::sleep(time).await;
            leave.cancel();
        };
        let (planned, ()) = tokio::join!(session, async {
            tokio::select! {
                () = left => {}
                () = leave.cancelled() => {}
            }
        });
        if setup.leave.is_cancelled() {
            return;
        }
        if planned {
            // The run may be over.
            let _ = reports.send(Joined::Left);
        }
    }
}
