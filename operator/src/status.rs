//! What an installation's status says: a pure function of what was seen and planned.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use ratssaal_crds::v1alpha1::{BridgeState, BridgeStatus, VideoConferenceSpec, VideoConferenceStatus};

use crate::build;
use crate::cluster::View;
use crate::names::Names;
use crate::observe;
use crate::plan::{Attachment, Bridge, Health, Millis, Note, Plan, Trouble};
use crate::problem::{Problem, summary};

/// What was seen.
pub(crate) struct Seen<'a> {
    /// The spec.
    pub(crate) spec: &'a VideoConferenceSpec,
    /// Its generation.
    pub(crate) generation: Option<i64>,
    /// The status so far.
    pub(crate) before: &'a VideoConferenceStatus,
    /// Name and namespace.
    pub(crate) names: &'a Names,
    /// The bridges and their Pods.
    pub(crate) bridges: &'a [(Bridge, Pod)],
    /// What the allocators say.
    pub(crate) view: Option<&'a View>,
    /// What is planned.
    pub(crate) plan: &'a Plan,
    /// What is wrong, notes of the plan included.
    pub(crate) problems: &'a [Problem],
    /// Now.
    pub(crate) now: Timestamp,
}

impl Seen<'_> {
    fn millis(&self) -> Millis {
        Millis::try_from(self.now.as_millisecond()).unwrap_or(0)
    }
}

/// The status to write.
pub(crate) fn status(seen: &Seen<'_>) -> VideoConferenceStatus {
    let mut bridges: Vec<BridgeStatus> =
        seen.bridges.iter().map(|(bridge, pod)| bridge_status(seen, bridge, pod)).collect();
    bridges.sort_by(|a, b| (&a.site, &a.name).cmp(&(&b.site, &b.name)));
    let taking = || seen.bridges.iter().map(|(bridge, _)| bridge).filter(|bridge| bridge.takes_people());
    let number = |count: usize| Some(u32::try_from(count).unwrap_or(u32::MAX));
    VideoConferenceStatus {
        observed_generation: seen.generation,
        conditions: conditions(seen, taking().count()),
        url: Some(build::url(seen.spec)),
        version: version(&bridges),
        replicas: number(taking().count()),
        selector: Some(seen.names.selector("bridge")),
        participants: Some(bridges.iter().map(|bridge| bridge.participants).sum()),
        rooms: Some(bridges.iter().map(|bridge| bridge.rooms).sum()),
        free_seats: Some(taking().map(|bridge| bridge.seats().limit.saturating_sub(bridge.seats().taken)).sum()),
        load_percent: Some(busiest(&bridges)),
        bridges,
    }
}

fn bridge_status(seen: &Seen<'_>, bridge: &Bridge, pod: &Pod) -> BridgeStatus {
    let info = seen.view.and_then(|view| view.info(&bridge.name));
    let report = info.and_then(|info| info.report.as_ref());
    BridgeStatus {
        name: bridge.name.clone(),
        node: bridge.node.clone(),
        site: bridge.site.clone(),
        addresses: observe::advertised(pod, seen.spec),
        state: state(bridge, seen.millis()),
        version: report.map(|report| report.version.clone()).filter(|version| !version.is_empty()),
        participants: bridge.seats().taken,
        rooms: report.and_then(|report| report.load.as_ref()).map_or(0, |load| load.rooms),
        load_percent: info.map_or(0, |info| info.load_permille.div_ceil(10)),
    }
}

fn state(bridge: &Bridge, now: Millis) -> BridgeState {
    match bridge.attachment {
        Attachment::Present { health: Health::Drained, expired: false, .. } => BridgeState::Drained,
        Attachment::Present { expired: true, .. } => BridgeState::Lost,
        Attachment::Absent(_) if bridge.is_lost(now) => BridgeState::Lost,
        _ if bridge.draining.is_some() || bridge.deleting => BridgeState::Draining,
        Attachment::Present { health: Health::Draining, .. } => BridgeState::Draining,
        _ if bridge.takes_people() => BridgeState::Ready,
        _ => match bridge.trouble {
            Some(Trouble::Unschedulable(_)) | None => BridgeState::Starting,
            Some(_) => BridgeState::Failed,
        },
    }
}

fn version(bridges: &[BridgeStatus]) -> Option<String> {
    let mut versions: Vec<&str> = bridges.iter().filter_map(|bridge| bridge.version.as_deref()).collect();
    versions.sort_unstable();
    versions.dedup();
    (!versions.is_empty()).then(|| versions.join(" → "))
}

/// Average load of the site where it is highest, of bridges that take people.
fn busiest(bridges: &[BridgeStatus]) -> u32 {
    let loads = |site: &str| {
        let ready = bridges.iter().filter(|bridge| bridge.site == site && bridge.state == BridgeState::Ready);
        let loads: Vec<u32> = ready.map(|bridge| bridge.load_percent).collect();
        let number = u32::try_from(loads.len()).unwrap_or(u32::MAX).max(1);
        loads.iter().sum::<u32>() / number
    };
    bridges.iter().map(|bridge| loads(&bridge.site)).max().unwrap_or(0)
}

fn conditions(seen: &Seen<'_>, taking: usize) -> Vec<Condition> {
    let fatal = seen.problems.iter().find(|problem| problem.fatal);
    let ready = match (taking, fatal, seen.view) {
        (1.., None, _) => ("True", "Serving", format!("{taking} bridges take participants")),
        (_, Some(problem), _) => ("False", problem.reason, problem.text.clone()),
        (0, None, None) => {
            ("False", "AllocatorUnreachable", "no allocator answers yet: see the allocators' and Redis' Pods".into())
        }
        (0, None, Some(_)) => match seen.problems.first() {
            Some(problem) => ("False", problem.reason, problem.text.clone()),
            None => ("False", "Starting", "no bridge takes participants yet".into()),
        },
    };
    let progressing = if seen.spec.paused {
        ("False", "Paused", "spec.paused is true: nothing is changed until it is false".to_owned())
    } else if seen.plan.progressing {
        ("True", "Changing", progress(seen))
    } else if fatal.is_some() {
        ("False", "Stopped", "nothing more can be done until what Degraded says is mended".to_owned())
    } else {
        ("False", "Settled", "everything is as the spec says".to_owned())
    };
    let degraded = match seen.problems.iter().min_by_key(|problem| problem.rank()) {
        Some(problem) => ("True", problem.reason, summary(seen.problems)),
        None => ("False", "AsExpected", String::new()),
    };
    [("Ready", ready), ("Progressing", progressing), ("Degraded", degraded)]
        .into_iter()
        .map(|(kind, (status, reason, message))| condition(seen, kind, status, reason, message))
        .collect()
}

/// How many bridges are on their way.
fn progress(seen: &Seen<'_>) -> String {
    let count = |wanted: &[BridgeState]| {
        seen.bridges.iter().filter(|(bridge, _)| wanted.contains(&state(bridge, seen.millis()))).count()
    };
    let starting = count(&[BridgeState::Starting, BridgeState::Failed]);
    let leaving = count(&[BridgeState::Draining, BridgeState::Drained]);
    let moves = |note: &Note| matches!(note, Note::RedisNodeLost { stays: None, .. });
    let redis = if seen.plan.notes.iter().any(moves) { ", Redis moves to another node" } else { "" };
    format!("{starting} bridges starting, {leaving} leaving{redis}")
}

/// A condition keeps the time of its last change.
fn condition(seen: &Seen<'_>, kind: &str, status: &str, reason: &str, message: String) -> Condition {
    let before = seen.before.conditions.iter().find(|condition| condition.type_ == kind && condition.status == status);
    Condition {
        type_: kind.into(),
        status: status.into(),
        reason: reason.into(),
        message,
        observed_generation: seen.generation,
        last_transition_time: before.map_or_else(|| Time(seen.now), |before| before.last_transition_time.clone()),
    }
}

/// Whether the difference is one of figures only, which need not be written at once.
pub(crate) fn differs_in_figures_only(a: &VideoConferenceStatus, b: &VideoConferenceStatus) -> bool {
    let plain = |status: &VideoConferenceStatus| {
        let mut status = status.clone();
        (status.participants, status.rooms, status.free_seats, status.load_percent) = (None, None, None, None);
        for bridge in &mut status.bridges {
            (bridge.participants, bridge.rooms, bridge.load_percent) = (0, 0, 0);
        }
        status
    };
    plain(a) == plain(b)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::{Life, Seats};

    fn bridge(name: &str, attachment: Attachment) -> (Bridge, Pod) {
        let bridge = Bridge {
            name: name.into(),
            site: "a".into(),
            life: Life::Ready,
            started: true,
            attachment,
            ..Bridge::default()
        };
        (bridge, Pod::default())
    }

    fn present(health: Health, taken: u32) -> Attachment {
        Attachment::Present { health, seats: Seats { taken, limit: 100 }, expired: false }
    }

    fn look(
        bridges: &[(Bridge, Pod)],
        problems: &[Problem],
        before: &VideoConferenceStatus,
        at: i64,
    ) -> VideoConferenceStatus {
        let spec: VideoConferenceSpec = serde_json::from_value(json!({ "hostname": "k.example" })).unwrap();
        let names = Names { name: "k".into(), namespace: "ns".into() };
        let (plan, view, now) = (Plan::default(), View::default(), Timestamp::from_second(at).unwrap());
        let view = Some(&view);
        status(&Seen {
            spec: &spec,
            generation: Some(1),
            before,
            names: &names,
            bridges,
            view,
            plan: &plan,
            problems,
            now,
        })
    }

    fn told(status: &VideoConferenceStatus) -> Vec<(&str, &str)> {
        status.conditions.iter().map(|condition| (condition.status.as_str(), condition.reason.as_str())).collect()
    }

    #[test]
    fn it_says_who_can_meet_and_what_is_wrong() {
        let none = VideoConferenceStatus::default();
        let empty = look(&[], &[], &none, 1);
        assert_eq!(told(&empty), [("False", "Starting"), ("False", "Settled"), ("False", "AsExpected")]);
        let bridges = [
            bridge("b", present(Health::Ready, 3)),
            bridge("a", present(Health::Drained, 0)),
            bridge("c", Attachment::Absent(1)),
        ];
        let two = look(&bridges, &[], &none, 2);
        assert_eq!(told(&two), [("True", "Serving"), ("False", "Settled"), ("False", "AsExpected")]);
        assert_eq!((two.replicas, two.participants, two.free_seats), (Some(1), Some(3), Some(97)));
        let states: Vec<_> = two.bridges.iter().map(|bridge| (bridge.name.as_str(), bridge.state)).collect();
        assert_eq!(states, [("a", BridgeState::Drained), ("b", BridgeState::Ready), ("c", BridgeState::Starting)]);
        assert_eq!(look(&bridges, &[], &none, 40).bridges[2].state, BridgeState::Lost);
        let problems = [Problem::new("Minor", false, "m"), Problem::new("Grave", true, "g")];
        let wrong = look(&bridges, &problems, &two, 3);
        assert_eq!(told(&wrong), [("False", "Grave"), ("False", "Stopped"), ("True", "Grave")]);
        assert_eq!(wrong.conditions[2].message, "g; m");
    }

    #[test]
    fn a_condition_keeps_its_time_and_figures_alone_can_wait() {
        let bridges = [bridge("a", present(Health::Ready, 3))];
        let first = look(&bridges, &[], &VideoConferenceStatus::default(), 1);
        assert_eq!(look(&bridges, &[], &first, 100), first);
        let more = look(&[bridge("a", present(Health::Ready, 4))], &[], &first, 100);
        assert!(more != first && differs_in_figures_only(&more, &first));
        assert!(!differs_in_figures_only(&look(&[], &[], &first, 100), &first));
    }
}
