//! What a client asks for when it opens the WebSocket: the query of `/rtc` (plain parameters) and of `/rtc/v1`
//! (`join_request`, a base64url `WrappedJoinRequest`).

use std::collections::HashMap;
use std::io::Read;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use flate2::read::GzDecoder;
use http::{HeaderMap, header};
use livekit_protocol::wrapped_join_request::Compression;
use livekit_protocol::{
    AddTrackRequest, ClientInfo, ConnectionSettings, JoinRequest, SessionDescription, SyncState, WrappedJoinRequest,
    client_info,
};
use prost::Message as _;

use crate::room::ParticipantSid;
use crate::token::{Claims, Keys, TokenError};

/// The longest `join_request` after decompression, bytes.
const MAX_JOIN_REQUEST: u64 = 512 * 1024;

/// base64url as clients write it: with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Which of the two signalling paths.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Path {
    /// `/rtc`: a PeerConnection for publishing, offered by the client, and one for subscribing, offered by us.
    V0,
    /// `/rtc/v1`: one PeerConnection, offered by the client.
    V1,
}

/// Why a request to join is refused before anybody is asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum BadRequest {
    #[error("no access token: send it as the query parameter access_token or as a bearer token")]
    NoToken,
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the token does not allow joining: it needs video.roomJoin")]
    NoJoin,
    #[error("the token names no room: set video.room")]
    NoRoom,
    #[error("the token does not allow its bearer to set metadata or attributes: it needs video.canUpdateOwnMetadata")]
    NoMetadata,
    #[error("join_request is missing: /rtc/v1 needs it, older clients use /rtc")]
    NoJoinRequest,
    #[error("join_request is not a base64url livekit.WrappedJoinRequest")]
    Wrapper,
    #[error("join_request is larger than {MAX_JOIN_REQUEST} bytes")]
    TooLarge,
    #[error("join_request holds no livekit.JoinRequest")]
    Inner,
    #[error("attributes is not base64url JSON of strings")]
    Attributes,
    #[error("reconnect needs the participant's sid: join anew")]
    NoSid,
}

impl BadRequest {
    /// 401 where a better token helps, else 400.
    pub(crate) fn status(&self) -> http::StatusCode {
        match self {
            Self::NoToken | Self::Token(_) | Self::NoJoin | Self::NoMetadata => http::StatusCode::UNAUTHORIZED,
            _ => http::StatusCode::BAD_REQUEST,
        }
    }
}

/// Everything the client said when it opened the WebSocket, checked.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) path: Path,
    /// From the token, with the metadata and attributes of the request where the token allows them.
    pub(crate) claims: Claims,
    pub(crate) client: ClientInfo,
    pub(crate) auto_subscribe: bool,
    pub(crate) adaptive_stream: bool,
    /// The session to resume.
    pub(crate) resume: Option<ParticipantSid>,
    /// v1: the first offer.
    pub(crate) offer: Option<SessionDescription>,
    /// v1: tracks that are in that offer.
    pub(crate) tracks: Vec<AddTrackRequest>,
    /// v1: what a resuming client has.
    pub(crate) sync: Option<SyncState>,
}

/// The protocol number from which clients take several tracks of a participant in one stream.
const STREAMS_SINCE: i32 = 10;

impl Opening {
    /// Of a request whose metadata and attributes are in the claims.
    pub(crate) fn new(path: Path, claims: Claims, request: JoinRequest) -> Result<Self, BadRequest> {
        let resume = match (request.reconnect, request.participant_sid) {
            (false, _) => None,
            (true, sid) if sid.is_empty() => return Err(BadRequest::NoSid),
            (true, sid) => Some(ParticipantSid::from(sid)),
        };
        let settings = request.connection_settings.unwrap_or_default();
        Ok(Self {
            path,
            claims,
            client: request.client_info.unwrap_or_default(),
            auto_subscribe: settings.auto_subscribe,
            adaptive_stream: settings.adaptive_stream,
            resume,
            offer: request.publisher_offer,
            tracks: request.add_track_requests,
            sync: request.sync_state,
        })
    }

    /// The request that it was made of, for another bridge.
    pub(crate) fn request(&self) -> JoinRequest {
        JoinRequest {
            client_info: Some(self.client.clone()),
            connection_settings: Some(ConnectionSettings {
                auto_subscribe: self.auto_subscribe,
                adaptive_stream: self.adaptive_stream,
                ..ConnectionSettings::default()
            }),
            reconnect: self.resume.is_some(),
            participant_sid: self.resume.as_ref().map(ToString::to_string).unwrap_or_default(),
            publisher_offer: self.offer.clone(),
            add_track_requests: self.tracks.clone(),
            sync_state: self.sync.clone(),
            ..JoinRequest::default()
        }
    }

    /// Whether the client tells the tracks of one stream apart: by their mids on v1, by their ids on v0, which Firefox
    /// replaces by its own.
    pub(crate) fn takes_streams(&self) -> bool {
        let firefox = self.client.browser.eq_ignore_ascii_case("firefox");
        self.client.protocol >= STREAMS_SINCE && (self.path == Path::V1 || !firefox)
    }
}

/// Reads and checks a query. `now` is Unix seconds only in tests; the token is checked against the clock.
pub(crate) fn parse(
    path: Path,
    query: &HashMap<String, String>,
    headers: &HeaderMap,
    keys: &Keys,
) -> Result<Opening, BadRequest> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let token = bearer.or(query.get("access_token").map(String::as_str)).filter(|token| !token.is_empty());
    let mut claims = keys.verify(token.ok_or(BadRequest::NoToken)?)?;
    if !claims.grants.room_join {
        return Err(BadRequest::NoJoin);
    }
    if claims.grants.room.is_empty() {
        return Err(BadRequest::NoRoom);
    }
    let mut request = match (path, query.get("join_request")) {
        (Path::V0, None) => from_query(query)?,
        (Path::V1, None) => return Err(BadRequest::NoJoinRequest),
        (_, Some(wrapped)) => unwrap(wrapped)?,
    };
    name_browser(request.client_info.get_or_insert_default(), headers);
    if !request.metadata.is_empty() || !request.participant_attributes.is_empty() {
        if !claims.grants.can_update_own_metadata() {
            return Err(BadRequest::NoMetadata);
        }
        if !request.metadata.is_empty() {
            claims.metadata = std::mem::take(&mut request.metadata);
        }
        let attributes = std::mem::take(&mut request.participant_attributes);
        // An empty value would delete a key, which this request may not.
        claims.attributes.extend(attributes.into_iter().filter(|(_, value)| !value.is_empty()));
    }
    Opening::new(path, claims, request)
}

/// `livekit-client` does not name the browser in which it runs; the browser does. Only Firefox and Chromium, with the browsers
/// made of that, have to be known. (On iOS all are WebKit.)
fn name_browser(client: &mut ClientInfo, headers: &HeaderMap) {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if client.browser.is_empty() {
        let known = [("Firefox/", "firefox"), ("Chrome/", "chrome")];
        let name = known.iter().find(|(token, _)| agent.contains(token)).map(|(_, name)| *name);
        client.browser = name.unwrap_or_default().to_owned();
    }
}

fn unwrap(wrapped: &str) -> Result<JoinRequest, BadRequest> {
    let bytes = BASE64.decode(wrapped).map_err(|_| BadRequest::Wrapper)?;
    let wrapped = WrappedJoinRequest::decode(bytes.as_slice()).map_err(|_| BadRequest::Wrapper)?;
    let inner = match wrapped.compression() {
        Compression::None => wrapped.join_request,
        Compression::Gzip => {
            let mut inner = Vec::new();
            let mut unzipped = GzDecoder::new(wrapped.join_request.as_slice()).take(MAX_JOIN_REQUEST + 1);
            unzipped.read_to_end(&mut inner).map_err(|_| BadRequest::Inner)?;
            inner
        }
    };
    if inner.len() as u64 > MAX_JOIN_REQUEST {
        return Err(BadRequest::TooLarge);
    }
    JoinRequest::decode(inner.as_slice()).map_err(|_| BadRequest::Inner)
}

/// The plain parameters of `/rtc` in the terms of a `JoinRequest`.
fn from_query(query: &HashMap<String, String>) -> Result<JoinRequest, BadRequest> {
    let text = |key: &str| query.get(key).cloned().unwrap_or_default();
    let number = |key: &str| query.get(key).and_then(|value| value.parse().ok()).unwrap_or_default();
    let flag = |key: &str, otherwise| query.get(key).map_or(otherwise, |value| value == "1" || value == "true");
    let participant_attributes = match query.get("attributes").filter(|value| !value.is_empty()) {
        None => HashMap::new(),
        Some(value) => {
            let json = BASE64.decode(value).map_err(|_| BadRequest::Attributes)?;
            serde_json::from_slice(&json).map_err(|_| BadRequest::Attributes)?
        }
    };
    let sdk = match text("sdk").as_str() {
        "reactnative" => client_info::Sdk::ReactNative,
        other => client_info::Sdk::from_str_name(&other.to_ascii_uppercase()).unwrap_or_default(),
    };
    Ok(JoinRequest {
        client_info: Some(ClientInfo {
            sdk: sdk.into(),
            version: text("version"),
            protocol: number("protocol"),
            os: text("os"),
            os_version: text("os_version"),
            device_model: text("device_model"),
            browser: text("browser"),
            browser_version: text("browser_version"),
            network: text("network"),
            client_protocol: number("client_protocol"),
            ..ClientInfo::default()
        }),
        connection_settings: Some(ConnectionSettings {
            auto_subscribe: flag("auto_subscribe", true),
            adaptive_stream: flag("adaptive_stream", false),
            ..Default::default()
        }),
        participant_attributes,
        reconnect: flag("reconnect", false),
        participant_sid: text("sid"),
        ..JoinRequest::default()
    })
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
