//! Why a description is refused, in words for whoever wrote the client.

use thiserror::Error;

/// Why an offer or answer is refused.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum SdpError {
    /// More than [`super::MAX_SDP`] bytes.
    #[error("the SDP has {0} bytes; at most {max} are read", max = super::MAX_SDP)]
    TooLong(usize),
    /// More than [`super::MAX_SECTIONS`] sections.
    #[error("the SDP has {0} m-sections; at most {max} are read", max = super::MAX_SECTIONS)]
    TooManySections(usize),
    /// Not SDP.
    #[error("not well-formed SDP: {0}")]
    Syntax(String),
    /// No m-section at all.
    #[error("the SDP has no m-section; offer at least the data channel section")]
    NoSections,
    /// An attribute that is needed is missing or cannot be read.
    #[error("`a={attribute}` is missing or malformed in section {section:?}")]
    Attribute {
        /// Its name.
        attribute: &'static str,
        /// The section's mid or number; empty for the session.
        section: String,
    },
    /// A mid occurs twice.
    #[error("the mid {0:?} occurs twice")]
    DuplicateMid(String),
    /// The m-sections are not those of the last description, in their order, and new ones behind.
    #[error("section {index} was {was:?} and is now {is:?}; sections keep their place, new ones are appended")]
    Reordered {
        /// Position, counted from 0.
        index: usize,
        /// The mid there before.
        was: String,
        /// The mid there now; empty if there is none.
        is: String,
    },
    /// The DTLS fingerprint or role changed under an established connection.
    #[error("the DTLS certificate changed within a connection; open a new PeerConnection instead")]
    FingerprintChanged,
}

impl SdpError {
    pub(super) fn attribute(attribute: &'static str, section: impl Into<String>) -> Self {
        Self::Attribute { attribute, section: section.into() }
    }
}
