//! Configuration: a TOML or YAML file, overridden by environment variables, overridden by flags.
//!
//! `http.bind` is `bind` under `[http]` in a file, `RATSSAAL_HTTP__BIND` in the environment (two underscores between
//! section and key) and whatever flag the program maps to it. Every mistake is one sentence that names the key and
//! where it came from, and never shows a secret.

mod error;
mod sources;

use std::path::{Path, PathBuf};

use config::{File, FileFormat, Map, Source, Value, ValueKind};
use serde::de::DeserializeOwned;

pub use error::ConfigError;
use sources::{Layer, Origin, PREFIX};

/// With the value `warn` this variable lets the environment hold settings that nobody knows.
const UNKNOWN: (&str, &str) = ("RATSSAAL_UNKNOWN_SETTINGS", "warn");
/// Files larger than this are not configuration.
const MAX_FILE: u64 = 1 << 20;

/// Where the configuration comes from, lightest first: file, environment, flags.
#[derive(Debug, Default)]
pub struct Sources {
    file: Option<PathBuf>,
    environment: Vec<(String, String)>,
    flags: Vec<(String, String, String)>,
    secrets: Option<&'static str>,
}

impl Sources {
    /// No source yet: [`load`](Self::load) gives the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads this file: YAML if it ends in `.yaml` or `.yml`, else TOML.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Takes the variables of our prefix from these, usually [`std::env::vars`]. `RATSSAAL_LOG` means `log.level`.
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment.extend(variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX)));
        self
    }

    /// Adds what a command-line flag says: its name as typed (`--bind`), the key it sets (`http.bind`), the value.
    pub fn flag(mut self, name: impl Into<String>, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.flags.push((name.into(), key.into(), value.into()));
        self
    }

    /// Names the section whose keys are free names and whose values are secrets: names keep their case in the
    /// environment, values never appear in errors.
    pub fn secrets(mut self, section: &'static str) -> Self {
        self.secrets = Some(section);
        self
    }

    /// Reads all sources into `T`, whose `Default` (with `#[serde(default)]`) holds what nobody sets and whose
    /// `#[serde(deny_unknown_fields)]` finds misspelt keys.
    ///
    /// # Errors
    /// One sentence that names the key, its source and what to do.
    pub fn load<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        merged(&self.layers()?, self.secrets)
    }

    /// As [`load`](Self::load), but with `RATSSAAL_UNKNOWN_SETTINGS=warn` in the environment, its settings that nobody knows are
    /// left out and returned: whoever starts this program may be newer than the program.
    ///
    /// # Errors
    /// As of `load`.
    pub fn load_known<T: DeserializeOwned>(&self) -> Result<(T, Vec<ConfigError>), ConfigError> {
        let may_be_newer = self.environment.iter().any(|(name, value)| (name.as_str(), value.as_str()) == UNKNOWN);
        let (mut layers, mut left_out) = (self.layers()?, Vec::new());
        loop {
            let error = match merged(&layers, self.secrets) {
                Ok(values) => return Ok((values, left_out)),
                Err(error) => error,
            };
            let given = match &error {
                ConfigError::Unknown { origin, .. } if may_be_newer => layers.iter().position(|layer| {
                    matches!(layer.origin, Origin::Variable(_)) && layer.origin.to_string() == *origin
                }),
                _ => None,
            };
            match given {
                Some(unknown) => drop(layers.remove(unknown)),
                None => return Err(error),
            }
            left_out.push(error);
        }
    }

    fn layers(&self) -> Result<Vec<Layer>, ConfigError> {
        let mut layers = Vec::new();
        if let Some(path) = &self.file {
            layers.push(Layer { origin: Origin::File(path.clone()), values: read(path)? });
        }
        for (name, value) in &self.environment {
            layers.extend(Layer::variable(name, value, self.secrets)?);
        }
        for (name, key, value) in &self.flags {
            layers.push(Layer::flag(name, key, value));
        }
        Ok(layers)
    }
}

fn merged<T: DeserializeOwned>(layers: &[Layer], secrets: Option<&str>) -> Result<T, ConfigError> {
    let mut merged = Value::new(None, ValueKind::Table(Map::new()));
    for layer in layers {
        merge(&mut merged, layer.values.clone());
    }
    merged.try_deserialize().map_err(|error| error::explain(error, layers, secrets))
}

/// Puts `over` onto `base`: tables key by key, everything else as a whole.
fn merge(base: &mut Value, over: Value) {
    match (&mut base.kind, over.kind) {
        (ValueKind::Table(base), ValueKind::Table(over)) => {
            for (key, value) in over {
                match base.get_mut(&key) {
                    Some(slot) => merge(slot, value),
                    None => drop(base.insert(key, value)),
                }
            }
        }
        (base, over) => *base = over,
    }
}

fn read(path: &Path) -> Result<Value, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let format = if yaml { FileFormat::Yaml } else { FileFormat::Toml };
    let table = File::from_str(&text, format).collect().map_err(|error| error::syntax(path, &error))?;
    Ok(Value::new(None, ValueKind::Table(table)))
}

#[cfg(test)]
mod tests;
