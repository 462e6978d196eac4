//! `ratssaal crd`: the definition of the Kubernetes resource, for `kubectl apply`.

use std::io::{self, Write};

/// Prints it to standard output.
pub(crate) fn run() -> anyhow::Result<()> {
    io::stdout().write_all(ratssaal_crds::yaml()?.as_bytes())?;
    Ok(())
}
