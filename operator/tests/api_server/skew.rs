//! Versions that do not fit each other: a definition older than the operator, objects older than the definition.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Client, CustomResourceExt as _, ResourceExt as _};
use ratssaal_crds::VideoConference;
use serde_json::{Value, json};

use crate::cluster::{Cluster, eventually};
use crate::life::is_ready;
use crate::told::{told, touch};
use crate::world::{Running, World, free_port};

const NAME: &str = "konferenz";

/// What the release before might have brought: without some fields of the status, one of the spec, and one rule.
fn older() -> Value {
    let mut definition = json!(VideoConference::crd());
    let properties = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let mut remove = |place: &str, name: &str| {
        let there = properties.pointer_mut(place).and_then(Value::as_object_mut).unwrap();
        assert!(there.remove(name).is_some(), "{place}/{name}");
    };
    remove("/status/properties", "loadPercent");
    remove("/status/properties", "freeSeats");
    remove("/status/properties/bridges/items/properties", "version");
    remove("/spec/properties/brand/properties", "accent");
    remove("/spec/properties/image", "x-kubernetes-validations");
    definition
}

async fn define(client: &Client, definition: &Value) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let params = PatchParams::apply("test").force();
    definitions.patch(VideoConference::crd_name(), &params, &Patch::Apply(definition)).await.unwrap();
}

/// Whether the API server keeps the newest field of the spec.
async fn knows_accent(world: &World) -> bool {
    let spec = json!({ "hostname": "a.example", "brand": { "accent": "#00589c" } });
    let probe = DynamicObject::new("probe", &VideoConference::api_resource()).data(json!({ "spec": spec }));
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let kept = objects(world).create(&params, &probe).await;
    kept.is_ok_and(|kept| kept.data["spec"]["brand"]["accent"].is_string())
}

fn objects(world: &World) -> Api<DynamicObject> {
    Api::namespaced_with(world.client.clone(), &world.namespace, &VideoConference::api_resource())
}

async fn spec(world: &World) -> Value {
    objects(world).get(NAME).await.unwrap().data["spec"].clone()
}

pub async fn a_definition_older_than_the_operator_is_told_and_an_older_object_goes_on(cluster: Cluster) {
    let (client, namespace) = cluster.prepare("skew").await;
    let mut world = World::new(client.clone(), namespace.clone());
    define(&client, &older()).await;
    eventually("the older definition is in force", 30, async || !knows_accent(&world).await).await;
    world.add_node(1).await;
    // The definition of today would refuse this.
    let digest = format!("sha256:{}", "a".repeat(64));
    world.install(NAME, |spec| spec["image"] = json!({ "tag": "1", "digest": digest })).await;
    let as_given = spec(&world).await;
    let port = free_port();
    let (operators, asked) = cluster.recording(None).await;
    let operator = Running::start(operators, &namespace, "one", port);
    world.start_allocator(NAME, port).await;
    is_ready(&world, 1).await;

    let note = told(&world, NAME, "Degraded", "DefinitionOutdated").await;
    assert!(note.contains("helm upgrade ratssaal-crds charts/ratssaal-crds"), "{note}");
    // What the definition knows is there, and the object is as it was given.
    let status = objects(&world).get(NAME).await.unwrap().data["status"].clone();
    assert_eq!((&status["replicas"], &status["bridges"][0]["state"]), (&json!(1), &json!("Ready")), "{status}");
    assert_eq!(spec(&world).await, as_given);
    eventually("it settles", 60, async || world.condition(NAME, "Progressing").await.0 == "False").await;

    // It does not go round in circles: in some seconds of looks it may try once whether the definition is newer.
    let looks = || operator.figure("operator_reconcile_seconds_count");
    let (before, first) = (asked.writes(), looks());
    for _ in 0..20 {
        let seen = looks();
        touch(&world, NAME).await;
        eventually("it has looked", 20, async || looks() > seen).await;
    }
    assert!(looks() >= first + 20.0);
    let after = asked.writes();
    let more: Vec<_> = after.iter().map(|(right, count)| (right, count - before.get(right).unwrap_or(&0))).collect();
    let sum: usize = more.iter().map(|(_, count)| count).sum();
    assert!(sum <= 4, "{more:?}");

    // The new definition comes, and nothing else changes: neither the object that it would refuse as a new one, nor its bridge.
    let bridge = world.pods().await[0].name_any();
    define(&client, &json!(VideoConference::crd())).await;
    eventually("today's definition is in force", 30, async || knows_accent(&world).await).await;
    eventually("the whole status is there, and nothing is told any more", 120, async || {
        let status = objects(&world).get(NAME).await.unwrap().data["status"].clone();
        let told = world.condition(NAME, "Degraded").await.1;
        status["loadPercent"].is_number() && status["bridges"][0]["version"].is_string() && told != "DefinitionOutdated"
    })
    .await;
    is_ready(&world, 1).await;
    assert_eq!(spec(&world).await, as_given);
    assert_eq!(world.pods().await[0].name_any(), bridge);
    let image = world.pods().await[0].spec.as_ref().unwrap().containers[0].image.clone();
    assert_eq!(image, Some(format!("registry.example/ratssaal@{digest}")));
    operator.kill().await;
    world.remove_nodes().await;
}
