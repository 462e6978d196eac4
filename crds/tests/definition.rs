//! The printed definition and the file beside the crate are the same, and every field says what it means.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use kube::CustomResourceExt as _;
use ratssaal_crds::VideoConference;
use serde_json::Value;

#[test]
fn the_file_is_what_is_printed() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/videoconference.yaml");
    let printed = ratssaal_crds::yaml().unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(file, &printed).unwrap();
    }
    let kept = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        kept == printed,
        "crds/videoconference.yaml is not what `ratssaal crd` prints; run UPDATE=1 cargo test -p ratssaal-crds"
    );
}

fn schema() -> Value {
    let crd = ratssaal_crds::definition().unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn every_field_is_explained() {
    fn walk(path: &str, schema: &Value, missing: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            // Kubernetes' own types explain themselves.
            if path.contains(".conditions.") {
                continue;
            }
            if field["description"].as_str().is_none_or(|text| text.len() < 8) {
                missing.push(path.clone());
            }
            walk(&path, field, missing);
            walk(&format!("{path}[]"), &field["items"], missing);
        }
    }
    let mut missing = Vec::new();
    walk("spec", &schema()["properties"]["spec"], &mut missing);
    walk("status", &schema()["properties"]["status"], &mut missing);
    assert!(missing.is_empty(), "no description: {missing:?}");
}

#[test]
fn lists_and_texts_in_the_spec_are_bounded() {
    fn walk(path: &str, schema: &Value, unbounded: &mut Vec<String>) {
        if schema["type"] == "array" && schema["maxItems"].is_null() {
            unbounded.push(path.into());
        }
        let text = schema["type"] == "string" && schema["x-kubernetes-int-or-string"].is_null();
        if text && schema["maxLength"].is_null() && schema["pattern"].is_null() && schema["enum"].is_null() {
            unbounded.push(path.into());
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{name}"), field, unbounded);
        }
        if schema["items"].is_object() {
            walk(&format!("{path}[]"), &schema["items"], unbounded);
        }
    }
    let mut unbounded = Vec::new();
    walk("spec", &schema()["properties"]["spec"], &mut unbounded);
    assert!(unbounded.is_empty(), "no bound: {unbounded:?}");
}

#[test]
fn columns_scale_and_short_name() {
    let crd = VideoConference::crd();
    assert_eq!(crd.spec.names.short_names.as_deref(), Some(&["vconf".to_owned()][..]));
    let version = &crd.spec.versions[0];
    let columns = version.additional_printer_columns.as_deref().unwrap();
    let usual: Vec<&str> =
        columns.iter().filter(|column| column.priority.unwrap_or(0) == 0).map(|c| c.name.as_str()).collect();
    assert_eq!(usual, ["URL", "Bridges", "Participants", "Load", "Ready", "Age"]);
    let scale = version.subresources.as_ref().unwrap().scale.as_ref().unwrap();
    assert_eq!(scale.label_selector_path.as_deref(), Some(".status.selector"));
    assert!(version.subresources.as_ref().unwrap().status.is_some());
    let conditions = &schema()["properties"]["status"]["properties"]["conditions"];
    assert_eq!(conditions["x-kubernetes-list-type"], "map");
    assert_eq!(conditions["x-kubernetes-list-map-keys"][0], "type");
}
