//! `ratssaal keys`: a fresh API key pair in the form of the configuration file.

use std::io::{self, Write};

use rand::{Rng, TryRngCore, distr::Alphanumeric, rngs::OsRng};

/// Random characters in a key's name: 12 of 62 are 71 bits, so names do not collide.
const NAME: usize = 12;
/// Random characters in a secret: 43 of 62 are 256 bits, as much as HMAC-SHA256 can use.
const SECRET: usize = 43;

/// Prints the pair to standard output.
pub(crate) fn run() -> anyhow::Result<()> {
    let (name, secret) = pair();
    let text = format!(
        "# An API key pair of Ratssaal. Whoever knows the secret can join and administer every room: keep this file private.\n\
         [keys]\n\"{name}\" = \"{secret}\"\n"
    );
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn pair() -> (String, String) {
    let random = |length| OsRng.unwrap_err().sample_iter(Alphanumeric).take(length).map(char::from).collect::<String>();
    (format!("API{}", random(NAME)), random(SECRET))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_long_enough_and_never_the_same() {
        let ((name, secret), (other_name, other_secret)) = (pair(), pair());
        assert_eq!((name.len(), secret.len()), (15, 43));
        assert!(name != other_name && secret != other_secret);
    }
}
