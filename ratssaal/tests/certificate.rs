//! `ratssaal certificate`: an authority of its own, certificates with roles, nothing overwritten by mistake.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::os::unix::fs::PermissionsExt;

use common::run;

#[test]
fn an_authority_and_its_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca");
    let ca = path.to_str().unwrap();
    let (status, out, error) =
        run(&["certificate", ca, "eins", "--role", "bridge", "--host", "192.0.2.1", "--host", "eins"]);
    assert_eq!(status, Some(0), "{error}");
    assert!(out.starts_with("[cluster]\nca = ") && out.contains("eins.key"), "{out}");
    let first = std::fs::read_to_string(path.join("ca.pem")).unwrap();
    for key in ["ca.key", "eins.key"] {
        let mode = std::fs::metadata(path.join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key} is for its owner only");
    }
    let (status, ..) = run(&["certificate", ca, "zwei", "--role", "bridge", "--role", "operator"]);
    assert_eq!(status, Some(0));
    assert_eq!(std::fs::read_to_string(path.join("ca.pem")).unwrap(), first, "one authority for all");
    let (status, ..) = run(&["certificate", ca, "zwei", "--role", "allocator"]);
    assert_eq!(status, Some(0), "a certificate can be renewed");
}

#[test]
fn what_cannot_work_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().to_str().unwrap();
    let cases: [(&[&str], &str); 5] = [
        (&["certificate", ca, "eins"], "--role"),
        (&["certificate", ca, "eins", "--role", "king"], "operator"),
        (&["certificate", ca, "../eins", "--role", "bridge"], "cannot be a certificate's name"),
        (&["certificate", ca, "ca", "--role", "bridge"], "cannot be a certificate's name"),
        (&["certificate", ca, "eins", "--role", "bridge", "--days", "0"], "--days"),
    ];
    for (args, expected) in cases {
        let (status, _, error) = run(args);
        assert!(status == Some(64) && error.contains(expected), "{args:?}: {status:?} {error}");
    }
    std::fs::write(folder.path().join("ca.pem"), "x").unwrap();
    let (status, _, error) = run(&["certificate", ca, "eins", "--role", "bridge"]);
    assert!(status == Some(1) && error.contains("ca.key"), "{status:?} {error}");
}
