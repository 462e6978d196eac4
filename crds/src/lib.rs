//! The Kubernetes resource `VideoConference` (`ratssaal.io/v1alpha1`): one object is one installation for a city or a county.
//!
//! The types' documentation is what `kubectl explain videoconference` prints. [`yaml`] is the definition that clusters are
//! given; `crds/videoconference.yaml` holds the same text, which a test compares.
#![forbid(unsafe_code)]

pub mod v1alpha1;

use kube::CustomResourceExt as _;

pub use v1alpha1::VideoConference;

/// Why the definition cannot be printed: a mistake in this crate.
#[derive(Debug, thiserror::Error)]
#[error("the definition of VideoConference cannot be written as YAML: {0}; please report this")]
pub struct Unprintable(String);

/// The definition. (Kubernetes knows no formats of unsigned numbers and warns of them; their ranges say the same.)
///
/// # Errors
/// When the schema is none, which is a mistake in this crate.
pub fn definition() -> Result<serde_json::Value, Unprintable> {
    let mut crd = serde_json::to_value(VideoConference::crd()).map_err(|error| Unprintable(error.to_string()))?;
    without_unsigned(&mut crd);
    with_quantities(&mut crd);
    Ok(crd)
}

/// What Kubernetes reads as a quantity, as its own tools write it into schemas.
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// The generated schema of a quantity takes every text, and the fault would show when objects made of it are refused.
fn with_quantities(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            if map.get("x-kubernetes-int-or-string").is_some_and(|flag| flag == true) {
                map.insert("pattern".into(), QUANTITY.into());
            }
            map.values_mut().for_each(with_quantities);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(with_quantities),
        _ => {}
    }
}

fn without_unsigned(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            let unsigned = |format: &serde_json::Value| format.as_str().is_some_and(|name| name.starts_with("uint"));
            if map.get("format").is_some_and(unsigned) {
                map.remove("format");
            }
            map.values_mut().for_each(without_unsigned);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(without_unsigned),
        _ => {}
    }
}

/// The definition as YAML, ready for `kubectl apply --server-side`.
///
/// # Errors
/// When the schema cannot be written as YAML, which is a mistake in this crate.
pub fn yaml() -> Result<String, Unprintable> {
    serde_saphyr::to_string(&definition()?).map_err(|error| Unprintable(error.to_string()))
}
