//! Short fingerprints of text, for names and labels. Not a secret's protection.

/// Letters and digits that are hard to confuse and form no words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Eight characters that depend on the whole text: FNV-1a, 64 bits, of which 38 are shown.
pub(crate) fn short(text: &str) -> String {
    let mut hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mut name = String::with_capacity(8);
    for _ in 0..8 {
        // Less than the alphabet's length, so it is an index.
        name.push(char::from(ALPHABET[usize::try_from(hash % 27).unwrap_or(0)]));
        hash /= 27;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_differ_and_names_are_labels() {
        let names: std::collections::BTreeSet<String> = (0..10_000).map(|n| short(&n.to_string())).collect();
        assert_eq!(names.len(), 10_000);
        assert!(names.iter().all(|name| name.len() == 8));
        assert_eq!(short("ratssaal"), short("ratssaal"));
    }
}
