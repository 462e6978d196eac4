//! A definition of `VideoConference` in the cluster that is older than this operator: which fields of the status it does not
//! know, so that they are left out and told, instead of no status being written at all.

use serde_json::Value;

use crate::problem::Problem;

/// Whether the API server refused an object because of fields that the definition does not know.
pub(crate) fn is_about_unknown_fields(message: &str) -> bool {
    message.contains("field not declared in schema")
}

/// The fields of `wish` that are not in `kept`, which is what the API server would keep of it: `loadPercent`,
/// `bridges[].version`.
pub(crate) fn unknown(wish: &Value, kept: &Value) -> Vec<String> {
    let mut fields = Vec::new();
    compare("", wish, kept, &mut fields);
    fields.sort();
    fields.dedup();
    fields
}

fn compare(path: &str, wish: &Value, kept: &Value, fields: &mut Vec<String>) {
    match (wish, kept) {
        (Value::Object(wish), Value::Object(kept)) => {
            for (name, value) in wish {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match kept.get(name) {
                    Some(kept) => compare(&path, value, kept, fields),
                    None => fields.push(path),
                }
            }
        }
        (Value::Array(wish), Value::Array(kept)) => {
            let path = format!("{path}[]");
            wish.iter().zip(kept).for_each(|(wish, kept)| compare(&path, wish, kept, fields));
        }
        _ => {}
    }
}

/// The same without these fields.
pub(crate) fn without(mut value: Value, fields: &[String]) -> Value {
    fields.iter().for_each(|field| remove(&mut value, field));
    value
}

fn remove(value: &mut Value, path: &str) {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let Value::Object(map) = value else { return };
    match (first.strip_suffix("[]"), rest) {
        (Some(list), Some(rest)) => {
            let items = map.get_mut(list).and_then(Value::as_array_mut);
            items.into_iter().flatten().for_each(|item| remove(item, rest));
        }
        (None, Some(rest)) => {
            if let Some(inner) = map.get_mut(first) {
                remove(inner, rest);
            }
        }
        (_, None) => drop(map.remove(first)),
    }
}

/// What to tell. (Which fields they are is in the log: more become known as bridges come.)
pub(crate) fn outdated() -> Problem {
    let text = "the cluster's definition of VideoConference is older than this operator: what it does not know is left out of the \
                status, and settings that are new are not taken; helm upgrade ratssaal-crds charts/ratssaal-crds --namespace \
                ratssaal-system";
    Problem::new("DefinitionOutdated", false, text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_kept_is_found_and_left_out() {
        let wish = json!({
            "url": "u", "loadPercent": 0, "deep": { "a": 1, "b": 2 },
            "bridges": [{ "name": "x", "version": "1" }, { "name": "y", "version": "2", "load": 3 }],
            "conditions": [{ "type": "Ready" }],
        });
        let kept = json!({
            "url": "u", "deep": { "a": 1 }, "bridges": [{ "name": "x" }, { "name": "y" }],
            "conditions": [{ "type": "Ready" }], "other": 1,
        });
        let fields = unknown(&wish, &kept);
        assert_eq!(fields, ["bridges[].load", "bridges[].version", "deep.b", "loadPercent"]);
        let rest = without(wish.clone(), &fields);
        let expected = json!({
            "url": "u", "deep": { "a": 1 }, "bridges": [{ "name": "x" }, { "name": "y" }],
            "conditions": [{ "type": "Ready" }],
        });
        assert_eq!(rest, expected);
        assert!(unknown(&rest, &kept).is_empty() && unknown(&wish, &wish).is_empty());
        assert_eq!(without(expected.clone(), &fields), expected, "what is not there cannot be removed");
    }
}
