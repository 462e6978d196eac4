//! The names of things in a room: session ids (`PA_…`, `TR_…`, `RM_…`), identities and room names.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use rand::Rng;

/// Characters after the prefix: 12 of 62, 71 bits.
const RANDOM_CHARS: usize = 12;

/// A random text of `len` characters of `[0-9A-Za-z]`, from the thread's cryptographic generator.
#[must_use]
pub fn random_base62(len: usize) -> String {
    let mut rng = rand::rng();
    (0..len).map(|_| char::from(rng.sample(rand::distr::Alphanumeric))).collect()
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

macro_rules! sid {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        name! { $(#[$doc])* $name }

        impl $name {
            /// A fresh one: the prefix and 12 random characters of `[0-9A-Za-z]`.
            #[must_use]
            pub fn random() -> Self {
                Self(format!(concat!($prefix, "{}"), random_base62(RANDOM_CHARS)).into())
            }
        }
    };
}

sid!(
    /// One stay of a participant in a room: `PA_` and 12 characters. Rejoining makes a new one.
    ParticipantSid,
    "PA_"
);
sid!(
    /// A published track: `TR_` and 12 characters.
    TrackSid,
    "TR_"
);
sid!(
    /// One life of a room: `RM_` and 12 characters. The same name opened later has another.
    RoomSid,
    "RM_"
);
name!(
    /// Who a participant is, from the token's `sub`. Unique among those present in a room.
    Identity
);
name!(
    /// What a room is called, from the token's `video.room`.
    RoomName
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sids_have_the_protocols_prefixes_and_differ() {
        for (sid, prefix) in [
            (String::from(ParticipantSid::random()), "PA_"),
            (String::from(TrackSid::random()), "TR_"),
            (String::from(RoomSid::random()), "RM_"),
        ] {
            let rest = sid.strip_prefix(prefix).unwrap();
            assert_eq!(rest.len(), 12);
            assert!(rest.bytes().all(|b| b.is_ascii_alphanumeric()));
        }
        assert_ne!(TrackSid::random(), TrackSid::random());
    }
}
