//! The control plane, started once, and clients for it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::Either;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, CustomResourceExt as _};
use ratssaal_crds::VideoConference;
use serde_json::json;
use tokio::time::{Instant, sleep};

/// A running control plane.
#[derive(Clone)]
pub struct Cluster {
    folder: PathBuf,
    /// Ends with the last clone, unless somebody else started it.
    own: Option<Arc<tempfile::TempDir>>,
}

fn script(arguments: &[&str]) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kubernetes");
    if !script.exists() {
        return Err("scripts/kubernetes is not there".into());
    }
    let output = Command::new(script).args(arguments).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(text.lines().last().unwrap_or("scripts/kubernetes failed without a word").to_owned())
}

impl Cluster {
    /// Starts it, or finds the one that is there.
    pub fn start() -> Result<Self, String> {
        if let Some(folder) = std::env::var_os("RATSSAAL_TEST_CLUSTER") {
            return Ok(Self { folder: folder.into(), own: None });
        }
        // Short, because sockets are in it.
        let folder = tempfile::Builder::new().prefix("ro-").tempdir_in("/tmp").map_err(|error| error.to_string())?;
        let run = folder.path().join("k");
        script(&["up", &run.to_string_lossy()])?;
        Ok(Self { folder: run, own: Some(Arc::new(folder)) })
    }

    pub fn stop(&self) {
        if self.own.is_some()
            && let Err(error) = script(&["down", &self.folder.to_string_lossy()])
        {
            eprintln!("the cluster does not end: {error}");
        }
    }

    /// Ends or starts the API server.
    pub fn api_server(&self, word: &str) {
        script(&["api-server", &self.folder.to_string_lossy(), word]).unwrap();
    }

    /// What a person does by hand.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = Command::new(self.folder.join("kubectl")).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn kubeconfig_path(&self) -> PathBuf {
        self.folder.join("keys/admin.kubeconfig")
    }

    fn kubeconfig(&self) -> Kubeconfig {
        Kubeconfig::read_from(self.kubeconfig_path()).unwrap()
    }

    /// As the cluster's administrator.
    pub async fn admin(&self) -> Client {
        let config = Config::from_custom_kubeconfig(self.kubeconfig(), &KubeConfigOptions::default()).await.unwrap();
        Client::try_from(config).unwrap()
    }

    /// As somebody (else, with his rights, if he is named); and what is asked of the API server.
    pub async fn recording(&self, user: Option<&str>) -> (Client, Asked) {
        let config = Config::from_custom_kubeconfig(self.kubeconfig(), &KubeConfigOptions::default()).await.unwrap();
        let user = user.map(|user| http::HeaderValue::from_str(user).unwrap());
        let asked = Asked::default();
        let record = asked.clone();
        let layer = tower::layer::layer_fn(move |inner| Recorder { inner, user: user.clone(), asked: record.clone() });
        let client = kube::client::ClientBuilder::try_from(config).unwrap().with_layer(&layer).build();
        (client, asked)
    }

    /// The definition and a namespace of its own for a case.
    pub async fn prepare(&self, case: &str) -> (Client, String) {
        let client = self.admin().await;
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        let params = PatchParams::apply("test").force();
        crds.patch(VideoConference::crd_name(), &params, &Patch::Apply(VideoConference::crd())).await.unwrap();
        let objects: Api<VideoConference> = Api::all(client.clone());
        eventually("the definition is served", 20, async || objects.list(&Default::default()).await.is_ok()).await;
        let namespace = format!("{case}-{}", std::process::id());
        let body = serde_json::from_value::<Namespace>(json!({"metadata": {"name": namespace}})).unwrap();
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &body).await.unwrap();
        (client, namespace)
    }
}

/// Waits until something is so.
pub async fn eventually(what: &str, seconds: u64, mut check: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(seconds);
    while !check().await {
        assert!(Instant::now() < until, "not within {seconds} s: {what}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It is answered.
    Answered,
    /// It does not arrive, and this status is the answer.
    Refused(u16),
    /// It is carried out, and the answer is never heard.
    Unheard,
    /// It does not arrive, and there is no answer.
    Lost,
}

type Decide = Box<dyn FnMut(&str) -> Fate + Send>;

/// What was asked of the API server: `verb group/resource`, and how often; and what becomes of it.
#[derive(Clone, Default)]
pub struct Asked {
    rights: Arc<Mutex<BTreeMap<String, usize>>>,
    decide: Arc<Mutex<Option<Decide>>>,
    unheard: Arc<tokio::sync::Notify>,
}

/// Whether a request of this right writes, but for the Lease.
pub fn is_write(right: &str) -> bool {
    ["create ", "patch ", "update ", "delete "].iter().any(|verb| right.starts_with(verb))
        && !right.ends_with("/leases")
}

impl Asked {
    fn note(&self, right: String) {
        *self.rights.lock().unwrap().entry(right).or_default() += 1;
    }

    pub fn rights(&self) -> BTreeSet<String> {
        self.rights.lock().unwrap().keys().cloned().collect()
    }

    /// Requests that write, but for the Lease.
    pub fn writes(&self) -> BTreeMap<String, usize> {
        let asked = self.rights.lock().unwrap();
        let writes = asked.iter().filter(|(right, _)| is_write(right));
        writes.map(|(right, count)| (right.clone(), *count)).collect()
    }

    /// From now on this decides what becomes of requests; their rights are empty for discovery.
    pub fn decide(&self, by: impl FnMut(&str) -> Fate + Send + 'static) {
        *self.decide.lock().unwrap() = Some(Box::new(by));
    }

    /// Waits until a request whose answer is not heard has been carried out.
    pub async fn unheard(&self) {
        self.unheard.notified().await;
    }

    fn fate(&self, right: &str) -> Fate {
        self.decide.lock().unwrap().as_mut().map_or(Fate::Answered, |decide| decide(right))
    }
}

/// As the API server refuses.
fn refusal(code: u16) -> http::Response<kube::client::Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "message": "refused by the test", "reason": "Test",
    });
    let answer = http::Response::builder().status(code).header("content-type", "application/json");
    answer.body(status.to_string().into_bytes().into()).unwrap()
}

/// Sends requests in somebody's name, notes them, and does to them what is decided.
#[derive(Clone)]
struct Recorder<S> {
    inner: S,
    user: Option<http::HeaderValue>,
    asked: Asked,
}

impl<S, R> tower::Service<http::Request<kube::client::Body>> for Recorder<S>
where
    S: tower::Service<http::Request<kube::client::Body>, Response = http::Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Send + 'static,
{
    type Response = http::Response<Either<R, kube::client::Body>>;
    type Error = S::Error;
    type Future = futures_util::future::BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<kube::client::Body>) -> Self::Future {
        if let Some(user) = &self.user {
            request.headers_mut().insert("impersonate-user", user.clone());
        }
        let right = right(&request);
        let asked = self.asked.clone();
        if let Some(right) = &right {
            asked.note(right.clone());
        }
        let fate = self.asked.fate(right.as_deref().unwrap_or_default());
        match fate {
            Fate::Refused(code) => return Box::pin(async move { Ok(refusal(code).map(Either::Right)) }),
            Fate::Lost => return Box::pin(std::future::pending()),
            Fate::Answered | Fate::Unheard => {}
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            if fate == Fate::Unheard {
                asked.unheard.notify_one();
                return std::future::pending().await;
            }
            // To apply what is not there yet takes the right to create it, too.
            if let Some(("patch", what)) = right.as_deref().and_then(|right| right.split_once(' '))
                && answer.status() == http::StatusCode::CREATED
            {
                asked.note(format!("create {what}"));
            }
            Ok(answer.map(Either::Left))
        })
    }
}

/// The right that a request needs; `None` for discovery.
fn right(request: &http::Request<kube::client::Body>) -> Option<String> {
    let parts: Vec<&str> = request.uri().path().trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", _, rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let (resource, name, sub) = match rest {
        ["namespaces", _, resource] => (*resource, None, None),
        ["namespaces", _, resource, name] => (*resource, Some(*name), None),
        ["namespaces", _, resource, name, sub] => (*resource, Some(*name), Some(*sub)),
        [resource] => (*resource, None, None),
        [resource, name] => (*resource, Some(*name), None),
        _ => return None,
    };
    let watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    let verb = match (request.method().as_str(), name) {
        ("GET", Some(_)) => "get",
        ("GET", None) if watch => "watch",
        ("GET", None) => "list",
        ("POST", _) => "create",
        ("PATCH", _) => "patch",
        ("PUT", _) => "update",
        ("DELETE", _) => "delete",
        _ => return None,
    };
    let resource = sub.map_or_else(|| resource.to_owned(), |sub| format!("{resource}/{sub}"));
    Some(format!("{verb} {group}/{resource}"))
}
