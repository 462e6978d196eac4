//! What is wrong with the configuration, in one sentence that names key, source and remedy.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::sources::Layer;

/// A mistake in the configuration. Ends the process with status 64.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}; give a readable file with --config", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is too large to be configuration.
    #[error("the configuration file {path} is larger than 1 MiB; give the right file with --config", path = .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not TOML or YAML.
    #[error("the configuration file {path} is not valid: {problem}; correct it there", path = .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what, without the file's text.
        problem: String,
    },
    /// A variable with our prefix names no key.
    #[error("the environment variable {name} names no setting; write RATSSAAL_SECTION__KEY, e.g. RATSSAAL_HTTP__BIND")]
    Variable {
        /// The variable.
        name: String,
    },
    /// A key nobody knows.
    #[error("unknown setting {key} in {origin}; {remedy}")]
    Unknown {
        /// The whole key, e.g. `http.bnd`.
        key: String,
        /// Where it was given.
        origin: String,
        /// What is known there.
        remedy: String,
    },
    /// A value that does not fit its key.
    #[error("{key} in {origin}: {problem}")]
    Value {
        /// The whole key.
        key: String,
        /// Where it was given.
        origin: String,
        /// What is wrong with the value.
        problem: String,
    },
}

/// The error of a file that does not parse. The parsers show the line in question, which may hold a secret: keep where
/// and what only.
pub(super) fn syntax(path: &Path, error: &config::ConfigError) -> ConfigError {
    let text = match error {
        config::ConfigError::FileParse { cause, .. } => cause.to_string(),
        other => other.to_string(),
    };
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains('|')).collect();
    ConfigError::Syntax { path: path.to_owned(), problem: lines.join(", ") }
}

/// Turns serde's complaint into ours: finds the key's path and the heaviest source that sets it.
pub(super) fn explain(error: config::ConfigError, layers: &[Layer], secrets: Option<&str>) -> ConfigError {
    let (mut key, problem) = unwrap(error);
    let (unknown, remedy) = match unknown_field(&problem) {
        Some((field, known)) => {
            key = if key.is_empty() { field.to_owned() } else { format!("{key}.{field}") };
            (true, remedy(field, known))
        }
        None => (false, String::new()),
    };
    let path: Vec<&str> = match key.split_once('.') {
        Some((section, rest)) => vec![section, rest],
        None => vec![&key],
    };
    // A list element is `advertise[1]`; its source sets `advertise`.
    let path: Vec<&str> = path.iter().map(|segment| segment.split('[').next().unwrap_or(segment)).collect();
    let origin = layers.iter().rev().find(|layer| layer.sets(&path));
    let origin = origin.map_or_else(|| "the defaults".to_owned(), |layer| layer.origin.to_string());
    if unknown {
        return ConfigError::Unknown { key, origin, remedy };
    }
    let secret = path.len() > 1 && secrets == Some(path[0]);
    let problem = if secret { "is not a usable secret; write it as text in quotes".into() } else { problem };
    ConfigError::Value { key, origin, problem }
}

/// The key's path as far as it is known, and the message without it.
fn unwrap(error: config::ConfigError) -> (String, String) {
    use config::ConfigError as E;
    match error {
        E::Type { unexpected, expected, key, .. } => {
            (key.unwrap_or_default(), format!("{unexpected} given, but {expected} needed"))
        }
        E::At { error, key, .. } => (key.unwrap_or_default(), unwrap(*error).1),
        other => (String::new(), other.to_string()),
    }
}

/// Field and alternatives from serde's "unknown field `x`, expected one of `a`, `b`".
fn unknown_field(problem: &str) -> Option<(&str, Vec<&str>)> {
    let rest = problem.strip_prefix("unknown field `")?;
    let (field, rest) = rest.split_once('`')?;
    Some((field, rest.split('`').skip(1).step_by(2).collect()))
}

fn remedy(field: &str, known: Vec<&str>) -> String {
    match known.iter().map(|name| (distance(field, name), name)).min() {
        Some((edits, name)) if edits <= 2 => format!("did you mean {name}?"),
        Some(_) => format!("known here are {}", known.join(", ")),
        None => "remove it".into(),
    }
}

/// Edits (insert, remove, replace one character) between two short names.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replace = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
