//! The installation's authority, and how another one takes its place: in steps, so that at no moment two parts distrust each
//! other. First everybody trusts the next one beside the current one, then certificates are of the next one, at last nobody
//! trusts the old one any more. Processes take each step from their files, without a restart.

use time::OffsetDateTime;

use crate::pki::{Pair, PkiError, Seen};

/// How long everybody must have been told before the next step, seconds. The kubelet writes a changed Secret into Pods within
/// two minutes, processes look at their files every five seconds.
pub(crate) const SPREAD: i64 = 3600;

/// The authority, and where its replacement stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Authority {
    /// Certificates are of this one.
    pub signer: Pair,
    /// Who else is trusted.
    pub stage: Stage,
}

/// Where the replacement of an authority stands; `since` in seconds since the Unix epoch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Stage {
    /// There is one.
    Settled,
    /// The next one is trusted; no certificate is of it yet.
    Announced {
        /// It takes the signer's place.
        next: Pair,
        /// When that began.
        since: i64,
    },
    /// Certificates are of the new one; the one before is still trusted.
    Leaving {
        /// Its certificate. Its key is gone.
        old: String,
        /// When that began.
        since: i64,
    },
}

impl Authority {
    /// One that nobody replaces.
    pub fn settled(signer: Pair) -> Self {
        Self { signer, stage: Stage::Settled }
    }

    /// The certificates that all parts trust, as PEM.
    pub fn trusted(&self) -> String {
        let signer = &self.signer.certificate;
        match &self.stage {
            Stage::Settled => signer.clone(),
            Stage::Announced { next, .. } => lines(signer, &next.certificate),
            Stage::Leaving { old, .. } => lines(signer, old),
        }
    }

    /// Whether it shall be replaced: two thirds of its life are over, or somebody has asked that those from before this
    /// moment (seconds since the Unix epoch) are replaced.
    ///
    /// # Errors
    /// When its certificate is unusable.
    pub fn is_due(&self, before: Option<i64>, now: OffsetDateTime) -> Result<bool, PkiError> {
        let seen = Seen::read(self.signer.certificate.as_bytes())?;
        let asked = before.is_some_and(|before| seen.made() < before && before <= now.unix_timestamp());
        Ok(asked || seen.is_due(now))
    }

    /// The next step, if its time has come; else it stays as it is.
    ///
    /// `due`: it shall be replaced. `spread`: every part's Secret says what this stage says (trusted certificates, and an own
    /// one of the signer). As long as one does not, the time has not begun to count. `make`: a fresh authority.
    ///
    /// # Errors
    /// When no authority can be made.
    pub fn step(
        self,
        due: bool,
        spread: bool,
        now: i64,
        make: impl FnOnce() -> Result<Pair, PkiError>,
    ) -> Result<Self, PkiError> {
        let over = |since: i64| spread && now.saturating_sub(since) >= SPREAD;
        // A clock may have been put back.
        let began = |since: i64| if spread { since.min(now) } else { now };
        let Self { signer, stage } = self;
        Ok(match stage {
            Stage::Settled if due => Self { signer, stage: Stage::Announced { next: make()?, since: now } },
            Stage::Settled => Self { signer, stage },
            Stage::Announced { next, since } if over(since) => {
                Self { stage: Stage::Leaving { old: signer.certificate, since: now }, signer: next }
            }
            Stage::Announced { next, since } => Self { signer, stage: Stage::Announced { next, since: began(since) } },
            Stage::Leaving { since, .. } if over(since) => Self::settled(signer),
            Stage::Leaving { old, since } => Self { signer, stage: Stage::Leaving { old, since: began(since) } },
        })
    }
}

fn lines(first: &str, second: &str) -> String {
    format!("{}\n{}\n", first.trim_end(), second.trim_end())
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;
    use crate::pki;

    fn pair(name: &str) -> Pair {
        Pair { certificate: format!("{name}\n"), key: format!("{name} key") }
    }

    fn settled(name: &str) -> Authority {
        Authority::settled(pair(name))
    }

    fn announced(since: i64) -> Authority {
        Authority { signer: pair("A"), stage: Stage::Announced { next: pair("B"), since } }
    }

    fn leaving(since: i64) -> Authority {
        Authority { signer: pair("B"), stage: Stage::Leaving { old: "A\n".into(), since } }
    }

    #[test]
    fn each_step_at_its_time() {
        const NOW: i64 = 1_000_000;
        const OVER: i64 = NOW - SPREAD;
        let cases = [
            ("nothing to do", settled("A"), (false, true), settled("A")),
            ("parts without certificates do not matter", settled("A"), (false, false), settled("A")),
            ("due: the next one is announced", settled("A"), (true, true), announced(NOW)),
            ("due, and not everybody has a certificate yet", settled("A"), (true, false), announced(NOW)),
            ("too early", announced(OVER + 1), (true, true), announced(OVER + 1)),
            ("somebody has not heard: the time begins anew", announced(OVER - 99), (true, false), announced(NOW)),
            ("everybody has heard: it signs", announced(OVER), (true, true), leaving(NOW)),
            ("nobody asks any more: it goes on all the same", announced(OVER), (false, true), leaving(NOW)),
            ("old certificates may still be shown", leaving(OVER + 1), (false, true), leaving(OVER + 1)),
            ("somebody has none of the new one", leaving(OVER - 99), (false, false), leaving(NOW)),
            ("the old one goes", leaving(OVER), (false, true), settled("B")),
            ("asked again meanwhile: first this one ends", leaving(OVER + 1), (true, true), leaving(OVER + 1)),
            ("a clock that was put back", announced(NOW + 5), (true, true), announced(NOW)),
        ];
        for (what, before, (due, spread), expected) in cases {
            assert_eq!(before.step(due, spread, NOW, || Ok(pair("B"))).unwrap(), expected, "{what}");
        }
    }

    #[test]
    fn the_signer_is_always_trusted_and_was_announced() {
        let (mut authority, mut trusted_before) = (settled("A"), String::new());
        for step in 0..4 {
            let trusted = authority.trusted();
            assert!(trusted.contains(&authority.signer.certificate), "step {step}");
            // Whoever has not yet read this step's file knows the signer from the one before, and the other way round.
            assert!(step == 0 || trusted_before.contains(&authority.signer.certificate), "step {step}");
            let next = authority.clone().step(step == 0, true, step * SPREAD, || Ok(pair("B"))).unwrap();
            assert!(trusted.contains(&next.signer.certificate) || step == 0 && next.signer == authority.signer);
            assert!(next.trusted().contains(&authority.signer.certificate) || step == 2, "step {step}");
            (trusted_before, authority) = (trusted, next);
        }
        assert_eq!(authority, settled("B"), "and then it rests");
    }

    #[test]
    fn due_by_age_and_on_request() {
        let made = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let authority = Authority::settled(pki::new_authority("k", made).unwrap());
        let at = |days| made + Duration::days(days);
        let due = |before, now| authority.is_due(before, now).unwrap();
        assert!(!due(None, at(2400)) && due(None, at(2440)));
        let moment = |days| Some(at(days).unix_timestamp());
        assert!(due(moment(1), at(1)) && due(moment(1), at(9)), "it is older than that");
        assert!(!due(moment(0), at(9)) && !due(moment(-1), at(9)), "it is younger");
        assert!(!due(moment(2), at(1)), "not yet");
        assert!(settled("A").is_due(None, made).is_err());
    }
}
