// Every field of the spec wrong in turn, by the schema itself: a wrong type, and values beyond each of its bounds. Included
// where it is used.

/// Every field wrong in turn, and what the API server names.
fn bad_fields() -> Vec<(Value, &'static str)> {
    let host = "konferenz.landkreis.example";
    vec![
        (json!({}), "spec.hostname"),
        (json!({"hostname": "Konferenz.Example"}), "spec.hostname"),
        (json!({"hostname": "localhost"}), "spec.hostname"),
        (json!({"hostname": host, "image": {"tag": "no tag"}}), "spec.image.tag"),
        (json!({"hostname": host, "image": {"digest": "sha256:xyz"}}), "spec.image.digest"),
        (json!({"hostname": host, "image": {"pullPolicy": "Sometimes"}}), "spec.image.pullPolicy"),
        (json!({"hostname": host, "media": {"port": 80}}), "spec.media.port"),
        (json!({"hostname": host, "media": {"workers": 0}}), "spec.media.workers"),
        (json!({"hostname": host, "media": {"exposure": "Magic"}}), "spec.media.exposure"),
        (json!({"hostname": host, "sites": []}), "spec.sites"),
        (json!({"hostname": host, "sites": [{"name": "Weißenburg"}]}), "spec.sites[0].name"),
        (json!({"hostname": host, "sites": [{"name": "a", "bridges": {"max": 0}}]}), "spec.sites[0].bridges.max"),
        (json!({"hostname": host, "rooms": {"maxParticipants": -1}}), "spec.rooms.maxParticipants"),
        (json!({"hostname": host, "rooms": {"emptyTimeoutSeconds": 0}}), "spec.rooms.emptyTimeoutSeconds"),
        (json!({"hostname": host, "drain": {"deadlineSeconds": 1}}), "spec.drain.deadlineSeconds"),
        (json!({"hostname": host, "drain": {"batchSize": 0}}), "spec.drain.batchSize"),
        (json!({"hostname": host, "brand": {"imprint": "javascript:alert(1)"}}), "spec.brand.imprint"),
        (json!({"hostname": host, "brand": {"accent": "blue"}}), "spec.brand.accent"),
        (json!({"hostname": host, "observability": {"otlpEndpoint": "collector"}}), "spec.observability.otlpEndpoint"),
        (json!({"hostname": host, "replicas": -1}), "spec.replicas"),
        (json!({"hostname": host, "unknown": 1}), "unknown"),
    ]
}

/// What is wrong, and where: as the API server writes it.
struct Wrong {
    path: String,
    what: &'static str,
    spec: Value,
}

/// A spec of the least that is needed and this at a path of field names and list places.
fn spec_with(steps: &[String], value: &Value) -> Value {
    let around = steps.iter().rev().fold(value.clone(), |inner, step| match step.as_str() {
        "[0]" => json!([inner]),
        field => json!({ field: inner }),
    });
    let mut spec = json!({"hostname": "konferenz.landkreis.example"});
    for (field, value) in around.as_object().unwrap() {
        spec[field] = value.clone();
    }
    spec
}

/// A value of another type than the schema's; `None` where every type is right.
fn other_type(schema: &Value) -> Option<Value> {
    match schema["type"].as_str() {
        Some("string") => Some(json!(7)),
        Some("integer" | "number" | "boolean" | "object" | "array") => Some(json!("text")),
        _ if schema["x-kubernetes-int-or-string"] == true => Some(json!(true)),
        _ => None,
    }
}

/// Values of the right type beyond the schema's bounds.
fn beyond_bounds(schema: &Value) -> Vec<(&'static str, Value)> {
    let number = |name: &str| schema[name].as_f64().map(|bound| bound as i64);
    let length = |name: &str| schema[name].as_u64().map(|bound| usize::try_from(bound).unwrap());
    let mut all = Vec::new();
    all.extend((schema["x-kubernetes-int-or-string"] == true).then(|| ("no quantity", json!("viel"))));
    all.extend(number("minimum").map(|least| ("too small", json!(least - 1))));
    all.extend(number("maximum").map(|most| ("too great", json!(most + 1))));
    all.extend(length("minLength").filter(|least| *least > 0).map(|_| ("empty", json!(""))));
    all.extend(length("maxLength").map(|most| ("too long", json!("a".repeat(most + 1)))));
    all.extend(schema["pattern"].as_str().map(|_| ("against the pattern", json!(" \t "))));
    all.extend(schema["enum"].as_array().map(|_| ("none of the words", json!("Sometimes"))));
    all.extend(length("minItems").filter(|least| *least > 0).map(|_| ("an empty list", json!([]))));
    if let Some(most) = length("maxItems") {
        let items: Vec<Value> = (0..=most).map(|number| item(&schema["items"], number)).collect();
        all.push(("too many", json!(items)));
    }
    if let Some(most) = length("maxProperties") {
        let entries: serde_json::Map<_, _> = (0..=most).map(|number| (format!("k{number}"), json!("1"))).collect();
        all.push(("too many", Value::Object(entries)));
    }
    all
}

/// One of many: lists of objects are by name.
fn item(schema: &Value, number: usize) -> Value {
    if schema["type"] == "object" { json!({ "name": format!("a{number}") }) } else { json!(format!("192.0.2.{number}")) }
}

/// What is wrong with each field of the schema in turn, itself excepted.
fn wrong_in_turn(schema: &Value) -> Vec<Wrong> {
    fn walk(steps: &mut Vec<String>, schema: &Value, all: &mut Vec<Wrong>) {
        let path = format!("spec.{}", steps.join(".").replace(".[", "["));
        let mut wrong = |what, value: &Value| {
            all.push(Wrong { path: path.clone(), what, spec: spec_with(steps, value) });
        };
        match other_type(schema) {
            Some(value) => wrong("another type", &value),
            None => panic!("{path} takes every type"),
        }
        for (what, value) in beyond_bounds(schema) {
            wrong(what, &value);
        }
        let fields = schema["properties"].as_object().into_iter().flatten();
        let inner = fields.map(|(name, field)| (name.clone(), field));
        let items = schema["items"].is_object().then(|| ("[0]".to_owned(), &schema["items"]));
        let values = &schema["additionalProperties"];
        let entry = values.is_object().then(|| ("key".to_owned(), values));
        for (step, field) in inner.chain(items).chain(entry) {
            steps.push(step);
            walk(steps, field, all);
            steps.pop();
        }
    }
    let mut all = Vec::new();
    for (name, field) in schema["properties"].as_object().unwrap() {
        walk(&mut vec![name.clone()], field, &mut all);
    }
    all
}
