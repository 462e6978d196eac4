//! The rules (CEL) of the definition without a cluster, on the objects that `api_server.rs` gives to a real API server: by the
//! evaluator of kube-rs, with defaults filled in as the API server does.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;

use kube_cel::Validator;
use serde_json::{Value, json};

include!("cases/objects.rs");

fn schema() -> Value {
    ratssaal_crds::definition().unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// What the rules say of an object, or of a change: nothing if it is taken.
fn said(schema: &Value, spec: &Value, before: Option<&Value>) -> String {
    said_of(schema, &object(spec.clone()), before.map(|spec| object(spec.clone())).as_ref())
}

fn said_of(schema: &Value, object: &Value, before: Option<&Value>) -> String {
    let before = before.map(|before| kube_cel::apply_defaults(schema, before));
    let result = Validator::new().validate_with_defaults(schema, object, before.as_ref());
    result.err().map(|errors| errors.to_string()).unwrap_or_default()
}

/// The messages of all rules.
fn messages(schema: &Value, all: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            let rules = map.get("x-kubernetes-validations").and_then(Value::as_array);
            all.extend(rules.into_iter().flatten().map(|rule| rule["message"].as_str().unwrap().to_owned()));
            map.values().for_each(|inner| messages(inner, all));
        }
        Value::Array(list) => list.iter().for_each(|inner| messages(inner, all)),
        _ => {}
    }
}

#[test]
fn right_objects_are_taken() {
    let schema = schema();
    for (name, spec) in good() {
        assert_eq!(said(&schema, &spec, None), "", "{name}");
        assert_eq!(said(&schema, &spec, Some(&spec)), "", "{name}, unchanged");
    }
}

#[test]
fn each_rule_refuses_with_its_message() {
    let schema = schema();
    let mut refused = String::new();
    for (spec, expected) in bad_by_rule() {
        let said = said(&schema, &spec, None);
        assert!(said.contains(expected), "{spec}: {said:?}");
        refused += &said;
    }
    for name in ["1a", "a.b", "a-name-that-is-longer-than-thirty-characters"] {
        let mut object = object(good().remove(0).1);
        object["metadata"]["name"] = json!(name);
        let said = said_of(&schema, &object, None);
        assert!(said.contains("metadata.name must be"), "{name}: {said:?}");
        refused += &said;
    }
    for (before, after, expected) in bad_changes() {
        let said = said(&schema, &after, Some(&before));
        assert!(said.contains(expected), "{before} to {after}: {said:?}");
        refused += &said;
    }
    let mut all = BTreeSet::new();
    messages(&schema, &mut all);
    assert!(all.len() > 10, "{all:?}");
    let untried: Vec<_> = all.iter().filter(|message| !refused.contains(*message)).collect();
    assert!(untried.is_empty(), "no case for: {untried:#?}");
}
