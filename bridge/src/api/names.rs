//! Names that people give: of rooms ([`room`]) and of themselves ([`display`]). Pure.

use crate::room::ids::random_base62;

/// The longest room name, characters.
const MAX_ROOM: usize = 64;
/// The longest display name, characters.
const MAX_DISPLAY: usize = 64;
/// What a fresh room name is made of: consonants and digits that are not mistaken for each other when read aloud, and
/// make no words.
const ALPHABET: &[u8] = b"bcdfghjkmnpqrstvwxz23456789";
/// Groups and characters per group of a fresh name: 4 × 4 of 27, 76 bits.
const GROUPS: usize = 4;
const GROUP: usize = 4;

/// A room's name as links have it: `[a-z0-9-]`, 1–64 characters. Capitals, umlauts, blanks and underscores are
/// brought into that form; `None` when something else is left or nothing is.
pub(super) fn room(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    for character in text.trim().chars().flat_map(char::to_lowercase) {
        match character {
            'a'..='z' | '0'..='9' => name.push(character),
            'ä' => name.push_str("ae"),
            'ö' => name.push_str("oe"),
            'ü' => name.push_str("ue"),
            'ß' => name.push_str("ss"),
            '-' | '_' => name.push('-'),
            blank if blank.is_whitespace() => name.push('-'),
            _ => return None,
        }
        if name.len() > MAX_ROOM {
            return None;
        }
    }
    (!name.is_empty()).then_some(name)
}

/// A room name that nobody can guess, in groups that can be read aloud.
pub(super) fn fresh_room() -> String {
    use rand::seq::IndexedRandom as _;
    let mut rng = rand::rng();
    let mut group = || (0..GROUP).filter_map(|_| ALPHABET.choose(&mut rng)).map(|byte| char::from(*byte)).collect();
    let groups: Vec<String> = (0..GROUPS).map(|_| group()).collect();
    groups.join("-")
}

/// A display name: trimmed, 1–64 characters, nothing that does not show or turns the text around.
pub(super) fn display(text: &str) -> Option<String> {
    let name = text.trim();
    let invisible = |c: char| {
        c.is_control()
            || matches!(c, '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
    };
    let fits = !name.is_empty() && name.chars().count() <= MAX_DISPLAY && !name.contains(invisible);
    fits.then(|| name.to_owned())
}

/// Characters of a [`Handle`].
const HANDLE: usize = 22;

/// What a browser keeps to come back as the same guest: 22 random characters of `[0-9A-Za-z]`, 131 bits. It is a secret of
/// that browser: others see only the identity made from it, so that nobody can come in as somebody else and throw them out.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Handle(String);

impl Handle {
    pub(super) fn random() -> Self {
        Self(random_base62(HANDLE))
    }

    /// One from an earlier answer.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let fits = text.len() == HANDLE && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        fits.then(|| Self(text.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The identity that others see: another one in each room, so that a guest cannot be followed from room to room.
    pub(super) fn identity(&self, room: &str) -> String {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        for part in ["ratssaal guest", room, &self.0] {
            context.update(part.as_bytes());
            context.update(&[0]);
        }
        format!("guest-{}", URL_SAFE_NO_PAD.encode(&context.finish().as_ref()[..15]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_names_are_brought_into_one_form() {
        for (text, expected) in [
            ("bauausschuss", Some("bauausschuss")),
            ("  Bauausschuss Süd ", Some("bauausschuss-sued")),
            ("GROẞE_STRASSE 7", Some("grosse-strasse-7")),
            ("", None),
            ("   ", None),
            ("a/b", None),
            ("rät\u{0}sel", None),
            ("会议", None),
            (&"x".repeat(64), Some("x".repeat(64).as_str())),
            (&"x".repeat(65), None),
        ] {
            assert_eq!(room(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn fresh_rooms_are_valid_readable_and_different() {
        let name = fresh_room();
        assert_eq!(room(&name).as_ref(), Some(&name));
        assert_eq!(name.split('-').map(str::len).collect::<Vec<_>>(), [4, 4, 4, 4]);
        assert!((ALPHABET.len() as f64).log2() * (GROUPS * GROUP) as f64 >= 60.0);
        assert_ne!(fresh_room(), name);
    }

    #[test]
    fn display_names_show_what_they_are() {
        for (text, expected) in [
            (" Erika Mustermann ", Some("Erika Mustermann")),
            ("Ömer Yılmaz 👋", Some("Ömer Yılmaz 👋")),
            ("\t", None),
            ("a\nb", None),
            ("a\u{202E}b", None),
            ("a\u{200B}", None),
            (&"ü".repeat(64), Some("ü".repeat(64).as_str())),
            (&"ü".repeat(65), None),
        ] {
            assert_eq!(display(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_handle_gives_another_identity_in_each_room_and_is_not_contained_in_it() {
        let handle = Handle::random();
        assert_eq!(Handle::parse(handle.as_str()).map(|h| h.identity("a")), Some(handle.identity("a")));
        assert_ne!(handle.identity("a"), handle.identity("b"));
        assert!(!handle.identity("a").contains(handle.as_str()));
        assert!(Handle::parse(&handle.identity("a")).is_none(), "what others see is no handle");
        assert!(Handle::parse("short").is_none());
    }
}
