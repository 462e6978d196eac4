//! Access tokens: who a client is and what it may do, as a JSON Web Token (RFC 7519) signed with an API key's secret.
//!
//! The claims are those of the LiveKit protocol (`livekit/protocol/auth/grants.go`), so that every SDK's and every
//! application server's tokens are taken as they are. Only HS256 is accepted: a token that names another algorithm, `none`
//! included, is refused before anything in it is believed.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use livekit_protocol::{ParticipantPermission, RoomConfiguration, TrackSource, participant_info};
pub use livekit_token::VideoGrants;
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// The longest token that is looked at, bytes.
pub const MAX_TOKEN: usize = 8 * 1024;
/// How far the clocks of those who sign and ours may differ.
pub const LEEWAY: Duration = Duration::from_secs(60);
/// How long a token handed out by `refresh_token` is valid. Clients get a fresh one every five minutes.
pub const REFRESH_TTL: Duration = Duration::from_secs(600);
/// How long a signature under a webhook's body is valid.
const BODY_TTL: Duration = Duration::from_secs(300);
/// The shortest secret an API key may have, bytes (RFC 7518 §3.2: at least the hash's 256 bits).
pub const MIN_SECRET: usize = 32;
/// The longest identity, bytes.
pub const MAX_IDENTITY: usize = 256;

const MODERATOR_AUDIENCE: &str = "ratssaal/moderator";

/// Why the configured keys cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no key at all.
    #[error("no API key is configured: add one under [keys], `ratssaal keys` makes a pair")]
    None,
    /// A key's name is empty.
    #[error("an API key has an empty name: give it one, `ratssaal keys` makes a pair")]
    Unnamed,
    /// A secret is too short.
    #[error(
        "the secret of API key `{key}` has {length} bytes: use at least {MIN_SECRET}, `ratssaal keys` makes a pair"
    )]
    Short {
        /// Which key.
        key: String,
        /// Its secret's length, bytes.
        length: usize,
    },
}

/// Why a token is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// Longer than [`MAX_TOKEN`].
    #[error("the token has {0} bytes: at most {MAX_TOKEN} are accepted, put less metadata into it")]
    TooLong(usize),
    /// Not three base64url parts with the expected JSON in them.
    #[error("the token is not a JSON Web Token ({0}): send the token exactly as it was issued")]
    Malformed(&'static str),
    /// Signed by another algorithm, or not at all.
    #[error("the token is signed with `{0}`: only HS256 is accepted, sign it with the API secret")]
    Algorithm(String),
    /// `iss` names no configured key.
    #[error("the token's issuer `{0}` is no API key of this server: use a key configured here")]
    UnknownKey(String),
    /// The signature does not match.
    #[error("the token's signature is wrong: sign it with the secret that belongs to its API key")]
    Signature,
    /// `exp` is missing.
    #[error("the token has no expiry: set `exp`")]
    NoExpiry,
    /// `exp` has passed.
    #[error("the token has expired: ask for a new one")]
    Expired,
    /// `nbf` is still to come.
    #[error("the token is not valid yet: check the clocks of this server and of the one that signed it")]
    NotYet,
    /// `aud` names another use.
    #[error("the token is made for another purpose: ask for an access token")]
    Audience,
    /// `roomJoin` without an identity.
    #[error("the token lets somebody join but does not say whom: set `sub` to the participant's identity")]
    NoIdentity,
    /// The identity is longer than [`MAX_IDENTITY`].
    #[error("the identity in the token is longer than {MAX_IDENTITY} bytes: use a shorter one")]
    IdentityTooLong,
    /// A moderator key of another room.
    #[error("the key belongs to another room: use the link you got when you opened this one")]
    OtherRoom,
}

/// What a verified token says.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Claims {
    /// The API key that signed it (`iss`).
    pub api_key: String,
    /// Unix time in seconds after which it is not valid any more (`exp`).
    pub expires_at: u64,
    /// Unix time in seconds from which it is valid (`nbf`): when it was issued. 0 where it does not say.
    pub issued_at: u64,
    /// The participant's identity (`sub`, or `jti` where `sub` is empty). Never empty where `grants.room_join` is set.
    pub identity: String,
    /// The display name.
    pub name: String,
    /// Free text of the application.
    pub metadata: String,
    /// Key–value pairs of the application.
    pub attributes: HashMap<String, String>,
    /// What kind of participant it is.
    pub kind: participant_info::Kind,
    /// What it may do. A missing `can*` means allowed, except `canUpdateOwnMetadata`.
    pub grants: VideoGrants,
    /// How to set up the room if this participant opens it.
    pub room_config: Option<RoomConfiguration>,
}

impl Claims {
    /// The grants as a participant's permission at the start of its session.
    #[must_use]
    pub fn permission(&self) -> ParticipantPermission {
        let grants = &self.grants;
        #[expect(deprecated, reason = "old clients still read `recorder`")]
        ParticipantPermission {
            can_subscribe: grants.can_subscribe(),
            can_publish: grants.can_publish(),
            can_publish_data: grants.can_publish_data(),
            can_publish_sources: grants.can_publish_sources.iter().filter_map(|s| source(s)).map(i32::from).collect(),
            hidden: grants.hidden,
            recorder: grants.recorder,
            can_update_metadata: grants.can_update_own_metadata(),
            ..Default::default()
        }
    }
}

impl Claims {
    /// As a token's payload has them, for another bridge of the cluster: this one has checked the token.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        #[expect(clippy::expect_used, reason = "a struct of strings, numbers and string maps always serialises")]
        serde_json::to_vec(&Payload::from(self)).expect("claims serialise")
    }

    /// The opposite.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, TokenError> {
        let payload: Payload = serde_json::from_slice(json).map_err(|_| TokenError::Malformed("claims"))?;
        Ok(Self::from(payload))
    }
}

impl From<Payload> for Claims {
    fn from(payload: Payload) -> Self {
        Self {
            api_key: payload.iss,
            expires_at: payload.exp.unwrap_or_default(),
            issued_at: payload.nbf.unwrap_or_default(),
            identity: if payload.sub.is_empty() { payload.jti } else { payload.sub },
            name: payload.name,
            metadata: payload.metadata,
            attributes: payload.attributes,
            kind: kind(&payload.kind),
            grants: payload.video,
            room_config: payload.room_config,
        }
    }
}

impl From<&Claims> for Payload {
    fn from(claims: &Claims) -> Self {
        let kind = match claims.kind {
            participant_info::Kind::Standard => String::new(),
            other => other.as_str_name().to_ascii_lowercase(),
        };
        Self {
            iss: claims.api_key.clone(),
            exp: Some(claims.expires_at),
            nbf: Some(claims.issued_at),
            sub: claims.identity.clone(),
            name: claims.name.clone(),
            metadata: claims.metadata.clone(),
            attributes: claims.attributes.clone(),
            kind,
            video: claims.grants.clone(),
            room_config: claims.room_config.clone(),
            ..Self::default()
        }
    }
}

/// A track source as tokens write it (`camera`, `microphone`, `screen_share`, `screen_share_audio`).
fn source(name: &str) -> Option<TrackSource> {
    TrackSource::from_str_name(&name.to_ascii_uppercase())
}

/// A participant kind as tokens write it (`standard`, `ingress`, `egress`, `sip`, `agent`, …).
fn kind(name: &str) -> participant_info::Kind {
    participant_info::Kind::from_str_name(&name.to_ascii_uppercase()).unwrap_or_default()
}

/// The configured API keys with their secrets. Cheap to share behind an `Arc`; never prints a secret.
pub struct Keys {
    keys: BTreeMap<String, hmac::Key>,
    primary: String,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.keys.keys().collect::<Vec<_>>()).finish()
    }
}

impl Keys {
    /// Takes the configured pairs. The first one signs what this server issues itself.
    ///
    /// # Errors
    /// No pair, an empty name, or a secret below [`MIN_SECRET`] bytes.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a SecretString)>) -> Result<Self, KeyError> {
        let mut keys = BTreeMap::new();
        let mut primary = None;
        for (name, secret) in pairs {
            let secret = secret.expose_secret();
            if name.is_empty() {
                return Err(KeyError::Unnamed);
            }
            if secret.len() < MIN_SECRET {
                return Err(KeyError::Short { key: name.to_owned(), length: secret.len() });
            }
            primary.get_or_insert_with(|| name.to_owned());
            keys.insert(name.to_owned(), hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()));
        }
        Ok(Self { keys, primary: primary.ok_or(KeyError::None)? })
    }

    /// The API key that signs what this server issues itself.
    #[must_use]
    pub fn primary(&self) -> &str {
        &self.primary
    }

    /// Checks an access token against the current time.
    ///
    /// # Errors
    /// Any [`TokenError`]; nothing in a refused token is to be believed.
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        self.verify_at(token, unix_now())
    }

    /// Checks an access token as of `now`, Unix seconds.
    ///
    /// # Errors
    /// See [`Keys::verify`].
    pub fn verify_at(&self, token: &str, now: u64) -> Result<Claims, TokenError> {
        let payload: Payload = self.open(token, now)?;
        if payload.aud == MODERATOR_AUDIENCE {
            return Err(TokenError::Audience);
        }
        let claims = Claims::from(payload);
        if claims.identity.len() > MAX_IDENTITY {
            return Err(TokenError::IdentityTooLong);
        }
        if claims.grants.room_join && claims.identity.is_empty() {
            return Err(TokenError::NoIdentity);
        }
        Ok(claims)
    }

    /// Signs an access token that is valid for `ttl` from now. Its issuer is `claims.api_key` where that is configured,
    /// otherwise the [primary](Keys::primary) key; `claims.expires_at` is ignored.
    #[must_use]
    pub fn mint(&self, claims: &Claims, ttl: Duration) -> String {
        let now = unix_now();
        self.seal(Payload { exp: Some(now + ttl.as_secs()), nbf: Some(now), ..Payload::from(claims) })
    }

    /// Whether a key of this name is configured.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// A token that proves who wrote `body`: signed with this key or the [primary](Keys::primary) one, valid for five
    /// minutes, with the body's SHA-256.
    #[must_use]
    pub fn sign_body(&self, key: Option<&str>, body: &[u8]) -> String {
        let now = unix_now();
        let digest = ring::digest::digest(&ring::digest::SHA256, body);
        self.seal(Payload {
            iss: key.unwrap_or_default().to_owned(),
            exp: Some(now + BODY_TTL.as_secs()),
            nbf: Some(now),
            sha256: STANDARD.encode(digest),
            ..Payload::default()
        })
    }

    /// A key that makes whoever shows it a moderator of `room`, valid for `ttl` from now.
    #[must_use]
    pub fn moderator_key(&self, room: &str, ttl: Duration) -> String {
        let now = unix_now();
        let video = VideoGrants { room: room.to_owned(), room_admin: true, ..VideoGrants::default() };
        self.seal(Payload {
            aud: MODERATOR_AUDIENCE.to_owned(),
            exp: Some(now + ttl.as_secs()),
            video,
            ..Payload::default()
        })
    }

    /// Checks a moderator key for `room`.
    ///
    /// # Errors
    /// Any [`TokenError`], [`TokenError::OtherRoom`] for another room's key.
    pub fn verify_moderator_key(&self, key: &str, room: &str) -> Result<(), TokenError> {
        let payload: Payload = self.open(key, unix_now())?;
        if payload.aud != MODERATOR_AUDIENCE || !payload.video.room_admin {
            return Err(TokenError::Audience);
        }
        if payload.video.room != room {
            return Err(TokenError::OtherRoom);
        }
        Ok(())
    }

    fn open(&self, token: &str, now: u64) -> Result<Payload, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::TooLong(token.len()));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed("three parts expected"))?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed("three parts expected"))?;
        let header: Header = decode(header, "header")?;
        if header.alg != "HS256" {
            return Err(TokenError::Algorithm(header.alg.chars().take(32).collect()));
        }
        if header.crit.is_some() {
            return Err(TokenError::Malformed("critical header extensions are not supported"));
        }
        let issuer: Issuer = decode(payload, "payload")?;
        let key = self.keys.get(&issuer.iss);
        let key = key.ok_or_else(|| TokenError::UnknownKey(issuer.iss.chars().take(64).collect()))?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed("signature"))?;
        hmac::verify(key, signed.as_bytes(), &signature).map_err(|_| TokenError::Signature)?;

        let payload: Payload = decode(payload, "claims")?;
        let leeway = LEEWAY.as_secs();
        match payload.exp {
            None => Err(TokenError::NoExpiry),
            Some(exp) if exp.saturating_add(leeway) <= now => Err(TokenError::Expired),
            Some(_) if payload.nbf.is_some_and(|nbf| nbf > now.saturating_add(leeway)) => Err(TokenError::NotYet),
            Some(_) => Ok(payload),
        }
    }

    fn seal(&self, mut payload: Payload) -> String {
        let primary = &self.keys[&self.primary];
        let key = self.keys.get(&payload.iss).unwrap_or_else(|| {
            payload.iss.clone_from(&self.primary);
            primary
        });
        #[expect(clippy::expect_used, reason = "a struct of strings, numbers and string maps always serialises")]
        let claims = serde_json::to_vec(&payload).expect("claims serialise");
        let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
        let mut token = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = hmac::sign(key, token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        token
    }
}

#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    alg: String,
    crit: Option<serde::de::IgnoredAny>,
}

/// The one claim that is read before the signature is checked: it says with which key to check it.
#[derive(Deserialize)]
struct Issuer {
    #[serde(default)]
    iss: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Payload {
    iss: String,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "seconds")]
    exp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "seconds")]
    nbf: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    sub: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    jti: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "audience")]
    aud: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    metadata: String,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    attributes: HashMap<String, String>,
    video: VideoGrants,
    #[serde(skip_serializing_if = "String::is_empty")]
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_config: Option<RoomConfiguration>,
}

/// RFC 7519 `NumericDate`: seconds, which some libraries write with a fraction. Negative ones count as long past.
fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, as wanted")]
    Ok(Option::<f64>::deserialize(deserializer)?.map(|seconds| seconds as u64))
}

/// `aud` is a string or a list of them; one of ours anywhere in it decides.
fn audience<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Option::<Audience>::deserialize(deserializer)? {
        None => String::new(),
        Some(Audience::One(one)) => one,
        Some(Audience::Many(many)) if many.iter().any(|a| a == MODERATOR_AUDIENCE) => MODERATOR_AUDIENCE.to_owned(),
        Some(Audience::Many(many)) => many.into_iter().next().unwrap_or_default(),
    })
}

fn decode<T: for<'de> Deserialize<'de>>(part: &str, what: &'static str) -> Result<T, TokenError> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed(what))?;
    serde_json::from_slice(&json).map_err(|_| TokenError::Malformed(what))
}

/// Unix time in seconds.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
