//! The world as the plan sees it: plain values, no Kubernetes types.

use std::collections::BTreeMap;

/// Milliseconds since the Unix epoch, or a duration in milliseconds.
pub type Millis = u64;

/// Which half of the installation's ports a bridge uses: its successor on the same node uses the other one.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Slot {
    /// The first half.
    #[default]
    A,
    /// The second half.
    B,
}

impl Slot {
    /// The other half.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// One installation at one moment.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Now, on the operator's clock, which also wrote what is compared with it.
    pub now: Millis,
    /// Nothing is to be changed.
    pub paused: bool,
    /// In the order of the spec: a node belongs to the first that it fits.
    pub sites: Vec<Site>,
    /// Bridges wanted at least in all scaled sites together.
    pub floor: u32,
    /// How long a drain may take.
    pub drain_deadline: Millis,
    /// All nodes.
    pub nodes: Vec<Node>,
    /// All bridges' Pods.
    pub bridges: Vec<Bridge>,
    /// The managed Redis' Pod, if there is one on a node.
    pub redis: Option<Redis>,
}

/// The managed Redis' Pod.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Redis {
    /// Its name.
    pub pod: String,
    /// The node that it is on.
    pub node: String,
    /// Since when that node has not reported; `None` while it does.
    pub silent_since: Option<Millis>,
    /// An allocator on a node that reports is ready, which it is only while Redis answers it.
    pub reached: bool,
    /// Its data is on a volume, which only one Pod may use.
    pub has_volume: bool,
}

/// A site as wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// Labels its nodes have.
    pub selector: BTreeMap<String, String>,
    /// Taints its bridges put up with: key, value and effect, where `None` fits all.
    pub tolerations: Vec<Tolerated>,
    /// One per node, or scaled.
    pub count: Count,
    /// Seats per bridge, if given.
    pub seats: Option<u32>,
    /// What its bridges should be made from; anything else is outdated.
    pub revision: String,
    /// Since when it has had more seats than needed.
    pub calm_since: Option<Millis>,
}

/// A toleration: key, value, effect.
pub type Tolerated = (Option<String>, Option<String>, Option<String>);

/// How many bridges a site has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Count {
    /// One on every node.
    #[default]
    PerNode,
    /// By free seats.
    Scaled {
        /// At least.
        min: u32,
        /// At most.
        max: u32,
        /// Seats to keep free; `None`: half of what a bridge seats.
        buffer: Option<u32>,
    },
}

/// A taint.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints, but for those of cordoning and of a lost kubelet.
    pub taints: Vec<Taint>,
    /// Cordoned, or about to be deleted: nothing new, and what is there leaves.
    pub cordoned: bool,
    /// Its kubelet reports.
    pub ready: bool,
    /// Addresses told to browsers that are written into a bridge when it is made; a change makes it outdated. Empty if they
    /// are found when it starts.
    pub addresses: Vec<String>,
    /// The spec wants an address that this node does not have.
    pub lacks_address: bool,
}

/// How a bridge's Pod is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Life {
    /// Not started yet.
    #[default]
    Pending,
    /// Runs, but is not ready.
    Running,
    /// Runs and is ready.
    Ready,
    /// Ended for good (evicted, rejected by its node).
    Over,
}

/// Why a bridge does not start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// The image cannot be fetched.
    Image(String),
    /// It ends again and again.
    Crash(String),
    /// Something it needs is not there, e.g. a Secret.
    Config(String),
    /// No node takes it.
    Unschedulable(String),
    /// Its ports are taken on the node.
    Port(String),
    /// It runs, but does not become ready in time.
    Slow,
}

/// What an allocator says of a bridge.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Attachment {
    /// No allocator answers.
    #[default]
    Unknown,
    /// It is not in the cluster, since then.
    Absent(Millis),
    /// It is, and reports; or has fallen silent (`expired`).
    Present {
        /// What it says of itself.
        health: Health,
        /// Its seats.
        seats: Seats,
        /// Silent for too long.
        expired: bool,
    },
}

/// What a bridge says of itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Health {
    /// Takes participants.
    #[default]
    Ready,
    /// Takes nobody new.
    Draining,
    /// Draining, and empty.
    Drained,
}

/// A bridge's seats.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seats {
    /// Taken or promised.
    pub taken: u32,
    /// At most.
    pub limit: u32,
}

/// Since when and why a bridge is drained.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Draining {
    /// Since.
    pub since: Millis,
    /// Because of.
    pub why: Why,
}

/// Why a bridge leaves. The order is that of urgency.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Why {
    /// Its machine is being taken out of service.
    Cordon,
    /// It is not wanted there any more.
    Surplus,
    /// Another one of the wanted revision has taken its place.
    Outdated,
    /// There are more seats than needed.
    Shrink,
}

impl Why {
    /// As written into a Pod's annotation and an Event.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cordon => "Cordon",
            Self::Surplus => "Surplus",
            Self::Outdated => "Outdated",
            Self::Shrink => "Shrink",
        }
    }

    /// Reads what [`Why::name`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Cordon, Self::Surplus, Self::Outdated, Self::Shrink].into_iter().find(|why| why.name() == text)
    }
}

/// One bridge.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bridge {
    /// Its Pod's name, which is its name in the cluster.
    pub name: String,
    /// The site it was made for.
    pub site: String,
    /// The node it was made for, or that it runs on.
    pub node: Option<String>,
    /// Which ports it uses.
    pub slot: Slot,
    /// What it was made from.
    pub revision: String,
    /// When its Pod was made.
    pub created: Millis,
    /// Its Pod is being deleted.
    pub deleting: bool,
    /// How its Pod is.
    pub life: Life,
    /// Its Pod has been ready at least once, so there may be people on it.
    pub started: bool,
    /// Why it does not start.
    pub trouble: Option<Trouble>,
    /// Whether evictions are refused.
    pub protected: bool,
    /// Whether it is being drained.
    pub draining: Option<Draining>,
    /// What an allocator says of it.
    pub attachment: Attachment,
}

impl Bridge {
    /// Seats, as far as known.
    pub fn seats(&self) -> Seats {
        match self.attachment {
            Attachment::Present { seats, .. } => seats,
            _ => Seats::default(),
        }
    }

    /// Whether it takes participants now.
    pub fn takes_people(&self) -> bool {
        !self.deleting
            && self.draining.is_none()
            && self.life == Life::Ready
            && matches!(self.attachment, Attachment::Present { health: Health::Ready, expired: false, .. })
    }

    /// Whether its machine, its network or its process is gone for longer than a loss of Redis' data takes to mend.
    pub fn is_lost(&self, now: Millis) -> bool {
        let gone = |since: Millis| now.saturating_sub(since) >= super::ABSENCE;
        self.started && matches!(self.attachment, Attachment::Absent(since) if gone(since))
    }

    /// Whether certainly nobody is on it: it never came up, or it has been away for longer than anybody waits.
    pub fn is_surely_empty(&self, now: Millis) -> bool {
        match self.attachment {
            Attachment::Unknown => !self.started && self.life == Life::Pending,
            Attachment::Absent(since) => !self.started || now.saturating_sub(since) >= super::ABSENCE,
            Attachment::Present { health, seats, expired } => !expired && health == Health::Drained && seats.taken == 0,
        }
    }
}

/// One step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Make a bridge.
    Create {
        /// At this site.
        site: String,
        /// On this node; else the scheduler chooses.
        node: Option<String>,
        /// With these ports.
        slot: Slot,
    },
    /// Note in its Pod that it leaves, and order it to move its people.
    Drain {
        /// Which.
        bridge: String,
        /// Why.
        why: Why,
        /// How long it may take, from now.
        within: Millis,
    },
    /// Take that back.
    Undrain {
        /// Which.
        bridge: String,
    },
    /// Delete its Pod, evictions being allowed first.
    Delete {
        /// Which.
        bridge: String,
    },
    /// Take the managed Redis' Pod off the books at once, so that Kubernetes makes it on another node.
    MoveRedis {
        /// Its Pod.
        pod: String,
        /// The node that does not report.
        node: String,
    },
}
