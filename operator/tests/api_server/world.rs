//! What machines would say: nodes that are ready, Pods that start, bridges that attach to a real allocator, take people and
//! drain.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::reflector::store;
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Client, CustomResourceExt as _, ResourceExt as _};
use prometheus_client::registry::Registry;
use ratssaal_allocator::{Config, Service, embedded, store::MemoryStore};
use ratssaal_crds::VideoConference;
use ratssaal_operator::{Metrics, Operator, OperatorConfig};
use ratssaal_process::grpc::{Identity, Listener};
use ratssaal_proto::allocator::v1::allocator_client::AllocatorClient;
use ratssaal_proto::allocator::v1::bridge_order::Order;
use ratssaal_proto::allocator::v1::{BridgeReport, BridgeState, Load};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::cluster::Cluster;

/// What a simulated bridge does.
#[derive(Clone, Debug, Default)]
pub struct Bridge {
    pub people: u32,
    pub draining: bool,
    /// Whether its people can leave when it drains.
    pub stuck: bool,
}

/// The machines of one case.
pub struct World {
    pub client: Client,
    pub namespace: String,
    /// By Pod.
    pub bridges: Arc<Mutex<HashMap<String, Bridge>>>,
    /// Images that do not start.
    pub broken: Arc<Mutex<Vec<String>>>,
    nodes: Arc<Mutex<Vec<String>>>,
    /// Nodes whose kubelets are gone.
    silent: Arc<Mutex<Vec<String>>>,
    /// Whether allocators' Pods reach Redis, without which they are not ready.
    pub redis_answers: Arc<AtomicBool>,
    /// Where the allocator listens, once it does.
    pub allocator: Arc<Mutex<Option<u16>>>,
    tasks: Vec<AbortHandle>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// A port that is free now.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl World {
    pub fn new(client: Client, namespace: String) -> Self {
        let mut world = Self {
            client,
            namespace,
            bridges: Arc::default(),
            broken: Arc::default(),
            nodes: Arc::default(),
            silent: Arc::default(),
            redis_answers: Arc::new(AtomicBool::new(true)),
            allocator: Arc::default(),
            tasks: Vec::new(),
        };
        let kubelet = Kubelet {
            client: world.client.clone(),
            namespace: world.namespace.clone(),
            bridges: Arc::clone(&world.bridges),
            broken: Arc::clone(&world.broken),
            nodes: Arc::clone(&world.nodes),
            silent: Arc::clone(&world.silent),
            redis_answers: Arc::clone(&world.redis_answers),
        };
        world.tasks.push(tokio::spawn(kubelet.run()).abort_handle());
        world
    }

    /// What makes a node this case's.
    pub fn selector(&self) -> Value {
        json!({ "case": self.namespace })
    }

    pub fn node_name(&self, number: u32) -> String {
        format!("{}-{number}", self.namespace)
    }

    /// A machine joins.
    pub async fn add_node(&self, number: u32) {
        let name = self.node_name(number);
        let node: Node = serde_json::from_value(json!({
            "metadata": { "name": name, "labels": { "case": self.namespace, "kubernetes.io/hostname": name } },
        }))
        .unwrap();
        let nodes: Api<Node> = Api::all(self.client.clone());
        nodes.create(&PostParams::default(), &node).await.unwrap();
        ready(&nodes, &name).await.unwrap();
        self.nodes.lock().unwrap().push(name);
    }

    pub async fn cordon(&self, number: u32, cordoned: bool) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let patch = json!({ "spec": { "unschedulable": cordoned } });
        nodes.patch(&self.node_name(number), &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// A node's kubelet says no more, or again that all is well. That it is silent Kubernetes would say by itself after 40 s.
    pub async fn set_silent(&self, name: &str, silent: bool) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        if silent {
            self.silent.lock().unwrap().push(name.to_owned());
            let condition =
                json!({ "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "" });
            let patch = Patch::Strategic(json!({ "status": { "conditions": [condition] } }));
            nodes.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
        } else {
            self.silent.lock().unwrap().retain(|other| other != name);
            ready(&nodes, name).await.unwrap();
        }
    }

    pub async fn remove_nodes(&self) {
        let names = std::mem::take(&mut *self.nodes.lock().unwrap());
        let nodes: Api<Node> = Api::all(self.client.clone());
        for name in names {
            let _ = nodes.delete(&name, &DeleteParams::default()).await;
        }
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates an installation on this case's nodes.
    pub async fn install(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut object = json!({
            "apiVersion": "ratssaal.io/v1alpha1", "kind": "VideoConference",
            "metadata": { "name": name },
            "spec": { "hostname": "localhost.localdomain", "sites": [{ "name": "a", "nodeSelector": self.selector() }] },
        });
        change(&mut object["spec"]);
        // As people write it: without nulls for what is left out.
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let resource = VideoConference::api_resource();
        let objects: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        objects.create(&PostParams::default(), &object).await.unwrap();
    }

    pub async fn change(&self, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.api::<VideoConference>().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// The status so far, and a condition of it.
    pub async fn condition(&self, name: &str, kind: &str) -> (String, String, String) {
        let object = self.api::<VideoConference>().get(name).await.unwrap();
        let found = object.status.unwrap_or_default().conditions.into_iter().find(|condition| condition.type_ == kind);
        found.map(|condition| (condition.status, condition.reason, condition.message)).unwrap_or_default()
    }

    /// Bridges' Pods that are not being deleted.
    pub async fn pods(&self) -> Vec<Pod> {
        let bridges = ListParams::default().labels("app.kubernetes.io/component=bridge");
        let pods = self.api::<Pod>().list(&bridges).await.unwrap().items;
        pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect()
    }

    /// Starts a real allocator with the certificate that the operator made, when it has made it.
    pub async fn start_allocator(&mut self, name: &str, port: u16) {
        let secrets: Api<Secret> = self.api();
        let secret = format!("{name}-allocator-tls");
        super::cluster::eventually("the allocators' certificate", 30, async || {
            secrets.get_opt(&secret).await.unwrap().is_some()
        })
        .await;
        let data = secrets.get(&secret).await.unwrap().data.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = |key: &str| {
            let path = folder.path().join(key);
            std::fs::write(&path, &data[key].0).unwrap();
            Some(path)
        };
        let identity = Identity { ca: file("ca.crt"), certificate: file("tls.crt"), key: file("tls.key") };
        let credentials = identity.load(&ratssaal_process::metrics::Metrics::new()).unwrap();
        let listener = Listener::bind(([127, 0, 0, 1], port).into(), &credentials).await.unwrap();
        let service = Service::in_memory(Config::default(), &mut Registry::default()).unwrap();
        let stop = CancellationToken::new();
        let incoming = listener.incoming(stop.clone());
        let (serving, ended) = (service.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let _keep = folder;
            ratssaal_allocator::serve(&serving, incoming, ended).await
        });
        self.tasks.push(task.abort_handle());
        self.tasks.push(tokio::spawn(service.clone().run(stop)).abort_handle());
        self.tasks.push(tokio::spawn(attach_all(service, Arc::clone(&self.bridges))).abort_handle());
        *self.allocator.lock().unwrap() = Some(port);
    }
}

/// An operator in this process.
pub struct Running {
    task: JoinHandle<()>,
    pub registry: Registry,
}

impl Running {
    pub fn start(client: Client, namespace: &str, identity: &str, allocator_port: u16) -> Self {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let config = OperatorConfig {
            image: Some("registry.example/ratssaal:1".into()),
            namespaces: namespace.into(),
            namespace: namespace.into(),
            identity: identity.into(),
            allocator: format!("127.0.0.1:{allocator_port}"),
            ..OperatorConfig::default()
        };
        let operator = Operator::new(client, config, metrics);
        let task = tokio::spawn(async move {
            if let Err(error) = operator.run(CancellationToken::new()).await {
                eprintln!("operator: {error}");
            }
        });
        Self { task, registry }
    }

    /// Like `kill -9`: nothing is given back.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// A figure of its metrics.
    pub fn figure(&self, name: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        total(&text, name)
    }
}

/// What metrics of this name say in all.
pub fn total(metrics: &str, name: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    // Of nothing the sum is -0, which would be printed so.
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() + 0.0
}

/// The operator as the process that it is. It ends with its owner.
pub struct Program(Child);

impl Program {
    /// Starts it with its metrics on this port, and with what `more` says in its environment.
    pub fn start(program: &Path, cluster: &Cluster, namespace: &str, http: u16, more: &[(&str, &str)]) -> Self {
        let process = Command::new(program)
            .arg("operator")
            .env("KUBECONFIG", cluster.kubeconfig_path())
            .env("RATSSAAL_HTTP__BIND", format!("127.0.0.1:{http}"))
            .env("RATSSAAL_OPERATOR__IMAGE", "registry.example/ratssaal:1")
            .env("RATSSAAL_OPERATOR__NAMESPACE", namespace)
            .env("RATSSAAL_OPERATOR__NAMESPACES", namespace)
            .env("RATSSAAL_OPERATOR__ALLOCATOR", format!("127.0.0.1:{}", free_port()))
            .envs(more.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(process)
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn ready(nodes: &Api<Node>, name: &str) -> kube::Result<Node> {
    let now = Timestamp::now().to_string();
    // Large enough for a bridge of each of two hundred installations.
    let resources = json!({ "cpu": "128", "memory": "512Gi", "pods": "1000" });
    let status = json!({ "status": {
        "capacity": resources, "allocatable": resources,
        "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }],
        "conditions": [{ "type": "Ready", "status": "True", "reason": "Test", "message": "", "lastHeartbeatTime": now }],
    } });
    nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await
}

struct Kubelet {
    client: Client,
    namespace: String,
    bridges: Arc<Mutex<HashMap<String, Bridge>>>,
    broken: Arc<Mutex<Vec<String>>>,
    nodes: Arc<Mutex<Vec<String>>>,
    silent: Arc<Mutex<Vec<String>>>,
    redis_answers: Arc<AtomicBool>,
}

impl Kubelet {
    async fn run(self) {
        tokio::join!(self.report(), self.tend_all());
    }

    /// Nodes that have not reported for 40 s are taken for lost.
    async fn report(&self) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        loop {
            let names = self.nodes.lock().unwrap().clone();
            for name in names.into_iter().filter(|name| !self.is_silent(name)) {
                let _ = ready(&nodes, &name).await;
            }
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    }

    async fn tend_all(&self) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        // Listing all of a thousand Pods again and again would be most of what an API server does in a case.
        let (known, writer) = store();
        let watch = reflector(writer, watcher(pods.clone(), watcher::Config::default()).default_backoff());
        let _watching = AbortOnDropHandle::new(tokio::spawn(watch.for_each(async |_| ())));
        loop {
            for pod in known.state() {
                self.tend(&pods, &pod).await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn is_silent(&self, node: &str) -> bool {
        self.silent.lock().unwrap().iter().any(|other| other == node)
    }

    async fn tend(&self, pods: &Api<Pod>, pod: &Pod) {
        let name = pod.name_any();
        if pod.spec.as_ref().unwrap().node_name.as_ref().is_some_and(|node| self.is_silent(node)) {
            return;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            self.bridges.lock().unwrap().remove(&name);
            let _ =
                pods.delete(&name, &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }).await;
            return;
        }
        let spec = pod.spec.as_ref().unwrap();
        let bound = spec.node_name.is_some();
        let image = spec.containers[0].image.clone().unwrap_or_default();
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let broken = self.broken.lock().unwrap().contains(&image);
        let part = pod.labels().get("app.kubernetes.io/component").map(String::as_str);
        let serves = part != Some("allocator") || self.redis_answers.load(Ordering::Relaxed);
        if !bound || (phase == Some("Running") && is_ready(pod) == serves) || (broken && waits(pod)) {
            return;
        }
        let container = &spec.containers[0].name;
        let status = if broken {
            json!({ "phase": "Pending", "containerStatuses": [container_status(container, &image, false)] })
        } else {
            json!({
                "phase": "Running", "podIP": "10.1.2.3", "hostIP": "192.0.2.1", "hostIPs": [{"ip": "192.0.2.1"}],
                "conditions": [{ "type": "Ready", "status": if serves { "True" } else { "False" } }],
                "containerStatuses": [container_status(container, &image, true)],
            })
        };
        let patch = Patch::Strategic(json!({ "status": status }));
        if pods.patch_status(&name, &PatchParams::default(), &patch).await.is_ok() && !broken && part == Some("bridge")
        {
            self.bridges.lock().unwrap().entry(name).or_default();
        }
    }
}

/// The controller manager takes it back when a node has been silent.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn waits(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.container_statuses.is_some())
}

fn container_status(name: &str, image: &str, ready: bool) -> Value {
    let state = if ready {
        json!({ "running": { "startedAt": Timestamp::now().to_string() } })
    } else {
        json!({ "waiting": { "reason": "ErrImageNeverPull", "message": "no such image" } })
    };
    json!({ "name": name, "image": image, "imageID": "", "ready": ready, "started": ready, "restartCount": 0, "state": state })
}

/// Attaches every bridge that runs.
async fn attach_all(service: Service<MemoryStore>, bridges: Arc<Mutex<HashMap<String, Bridge>>>) {
    let mut attached: BTreeMap<String, JoinHandle<()>> = BTreeMap::new();
    loop {
        let names: Vec<String> = bridges.lock().unwrap().keys().cloned().collect();
        attached.retain(|name, task| names.contains(name) && !task.is_finished());
        for name in names {
            let (service, bridges) = (service.clone(), Arc::clone(&bridges));
            attached.entry(name.clone()).or_insert_with(|| tokio::spawn(attach(service, bridges, name)));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn attach(service: Service<MemoryStore>, bridges: Arc<Mutex<HashMap<String, Bridge>>>, name: String) {
    let mut client = AllocatorClient::new(embedded(&service));
    let (reports, stream) = mpsc::channel(4);
    let report = |sequence: u64, state: BridgeState, people: u32| BridgeReport {
        bridge: name.clone(),
        incarnation: name.clone(),
        sequence,
        state: state.into(),
        site: "a".into(),
        version: "1.0.0".into(),
        load: Some(Load { seats: people, seat_limit: 100, rooms: u32::from(people > 0), ..Load::default() }),
        ..BridgeReport::default()
    };
    reports.send(report(1, BridgeState::Ready, 0)).await.unwrap();
    let Ok(orders) = client.attach(ReceiverStream::new(stream)).await else { return };
    let mut orders = orders.into_inner();
    let mut tick = tokio::time::interval(Duration::from_millis(300));
    for sequence in 2_u64.. {
        tokio::select! {
            order = orders.message() => {
                let mut bridges = bridges.lock().unwrap();
                let Some(bridge) = bridges.get_mut(&name) else { return };
                match order {
                    Ok(Some(order)) => match order.order {
                        Some(Order::Drain(_)) => bridge.draining = true,
                        Some(Order::Undrain(_)) => bridge.draining = false,
                        _ => {}
                    },
                    _ => return,
                }
            }
            _ = tick.tick() => {}
        }
        let (state, people) = {
            let mut bridges = bridges.lock().unwrap();
            let Some(bridge) = bridges.get_mut(&name) else { break };
            if bridge.draining && !bridge.stuck {
                bridge.people = bridge.people.saturating_sub(2);
            }
            match (bridge.draining, bridge.people) {
                (true, 0) => (BridgeState::Drained, 0),
                (true, people) => (BridgeState::Draining, people),
                (false, people) => (BridgeState::Ready, people),
            }
        };
        if reports.send(report(sequence, state, people)).await.is_err() {
            return;
        }
    }
    let _ = reports.send(report(u64::MAX, BridgeState::Gone, 0)).await;
}
