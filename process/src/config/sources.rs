//! One source of configuration values and its name for people.

use std::{fmt, path::PathBuf};

use config::{Map, Value, ValueKind};

use super::ConfigError;

pub(super) const PREFIX: &str = "RATSSAAL_";

/// Values from one place.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) origin: Origin,
    pub(super) values: Value,
}

/// A place that values come from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    File(PathBuf),
    Variable(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Variable(name) => write!(f, "the environment variable {name}"),
            Self::Flag(name) => write!(f, "the flag {name}"),
        }
    }
}

impl Layer {
    pub(super) fn flag(name: &str, key: &str, value: &str) -> Self {
        let path: Vec<String> = match key.split_once('.') {
            Some((section, key)) => vec![section.into(), key.into()],
            None => vec![key.into()],
        };
        Self { origin: Origin::Flag(name.into()), values: nest(&path, value) }
    }

    /// What an environment variable sets. Variables without the two underscores are not ours (Kubernetes adds
    /// `RATSSAAL_SERVICE_HOST` and the like for a service of that name), except `RATSSAAL_LOG`.
    pub(super) fn variable(name: &str, value: &str, secrets: Option<&str>) -> Result<Option<Self>, ConfigError> {
        let Some(rest) = name.strip_prefix(PREFIX) else { return Ok(None) };
        let path = match rest.split_once("__") {
            Some((section, key)) if !section.is_empty() && !key.is_empty() => {
                let section = section.to_lowercase();
                let key = if Some(section.as_str()) == secrets { key.to_owned() } else { key.to_lowercase() };
                vec![section, key]
            }
            Some(_) => return Err(ConfigError::Variable { name: name.into() }),
            None if rest == "LOG" => vec!["log".into(), "level".into()],
            None => return Ok(None),
        };
        Ok(Some(Self { origin: Origin::Variable(name.into()), values: nest(&path, value) }))
    }

    /// Whether this source sets the key at `path`.
    pub(super) fn sets(&self, path: &[&str]) -> bool {
        let mut value = &self.values;
        for segment in path {
            match &value.kind {
                ValueKind::Table(table) => match table.get(*segment) {
                    Some(inner) => value = inner,
                    None => return false,
                },
                // The path leads into a list or a string that this source gives as a whole.
                _ => return true,
            }
        }
        true
    }
}

fn nest(path: &[String], value: &str) -> Value {
    path.iter().rev().fold(Value::from(value), |inner, segment| {
        Value::new(None, ValueKind::Table(Map::from_iter([(segment.clone(), inner)])))
    })
}
