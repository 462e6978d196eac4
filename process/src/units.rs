//! Values with units in configuration: durations (`20s`, `5m`), sizes (`4MiB`) and lists, for serde's
//! `deserialize_with`. A number without a unit is refused, because nobody can tell what it means.

use std::{fmt, marker::PhantomData, str::FromStr, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

/// Reads a duration: a whole number followed by `ms`, `s`, `m`, `h` or `d`; `0` alone is zero.
///
/// Use as `#[serde(deserialize_with = "ratssaal_process::units::duration")]`.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text)
        .ok_or_else(|| D::Error::custom(format!("{text:?} is not a duration; write 500ms, 20s, 5m, 2h or 1d")))
}

/// Reads a size in bytes into an unsigned integer: a whole number followed by `B`, `KiB`, `MiB` or `GiB` (powers of 1024).
///
/// Use as `#[serde(deserialize_with = "ratssaal_process::units::bytes")]`.
pub fn bytes<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    let size = parse_bytes(&text).and_then(|size| T::try_from(size).ok());
    size.ok_or_else(|| D::Error::custom(format!("{text:?} is not a size here; write 512KiB, 4MiB or 1GiB")))
}

/// Reads what a network carries, bits per second: a whole number followed by `kbit`, `Mbit` or `Gbit` (powers of 1000).
///
/// Use as `#[serde(deserialize_with = "ratssaal_process::units::bit_rate")]`.
pub fn bit_rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_bit_rate(&text)
        .ok_or_else(|| D::Error::custom(format!("{text:?} is not a bit rate; write 500kbit, 100Mbit or 10Gbit")))
}

/// Reads a list given either as a list (files) or as one string with commas (environment and flags).
///
/// Use as `#[serde(deserialize_with = "ratssaal_process::units::list")]`.
pub fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + FromStr<Err: fmt::Display>,
{
    struct List<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de> + FromStr<Err: fmt::Display>> Visitor<'de> for List<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list, or one string with commas between the values")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<T>, E> {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(|part| part.parse().map_err(|e| E::custom(format!("{part:?}: {e}")))).collect()
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut values = Vec::new();
            while let Some(value) = seq.next_element()? {
                values.push(value);
            }
            Ok(values)
        }
    }
    deserializer.deserialize_any(List(PhantomData))
}

/// The duration that `text` means, see [`duration`].
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "" if number == 0 => 0,
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// The bits per second that `text` means, see [`bit_rate`].
pub fn parse_bit_rate(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" if number == 0 => 0,
        "kbit" => 1_000,
        "Mbit" => 1_000_000,
        "Gbit" => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// The number of bytes that `text` means, see [`bytes`].
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" if number == 0 => 0,
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("20s", Some(Duration::from_secs(20))),
            ("5 m", Some(Duration::from_secs(300))),
            ("2h", Some(Duration::from_secs(7200))),
            ("1d", Some(Duration::from_secs(86_400))),
            ("0", Some(Duration::ZERO)),
            ("20", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("5 minutes", None),
            ("18446744073709551615h", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(parse_duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("4MiB", Some(4 << 20)),
            ("512 KiB", Some(512 << 10)),
            ("1GiB", Some(1 << 30)),
            ("7B", Some(7)),
            ("4MB", None),
            ("4", None),
            ("18446744073709551615KiB", None),
        ] {
            assert_eq!(parse_bytes(text), expected, "{text:?}");
        }
    }

    #[test]
    fn bit_rates() {
        for (text, expected) in [
            ("500kbit", Some(500_000)),
            ("100Mbit", Some(100_000_000)),
            ("10 Gbit", Some(10_000_000_000)),
            ("10Gbit", Some(10_000_000_000)),
            ("0", Some(0)),
            ("1000", None),
            ("1GiB", None),
            ("18446744073709551615Gbit", None),
        ] {
            assert_eq!(parse_bit_rate(text), expected, "{text:?}");
        }
    }

    #[test]
    fn lists_come_as_list_or_as_string() {
        #[derive(serde::Deserialize)]
        struct Holder {
            #[serde(deserialize_with = "list")]
            advertise: Vec<std::net::IpAddr>,
        }
        let read = |text: &str| serde_json::from_str::<Holder>(text).map(|holder| holder.advertise.len());
        assert_eq!(read(r#"{"advertise": ["192.0.2.1", "::1"]}"#).unwrap(), 2);
        assert_eq!(read(r#"{"advertise": "192.0.2.1, ::1"}"#).unwrap(), 2);
        assert_eq!(read(r#"{"advertise": ""}"#).unwrap(), 0);
        let error = read(r#"{"advertise": "192.0.2.1,house"}"#).unwrap_err().to_string();
        assert!(error.contains("\"house\""), "{error}");
    }
}
