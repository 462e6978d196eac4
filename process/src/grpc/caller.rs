//! Who calls: what its certificate says it is.

use rustls::pki_types::CertificateDer;
use tonic::{Extensions, Status};
use webpki::EndEntityCert;

/// What a process of the cluster is. Its certificate says so by a URI name (subjectAltName) `urn:ratssaal:<role>`; it may have
/// several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Has participants.
    Bridge,
    /// Places them.
    Allocator,
    /// Orders bridges to drain.
    Operator,
}

impl Role {
    /// The URI name of a certificate for this role.
    #[must_use]
    pub fn uri(self) -> &'static str {
        match self {
            Self::Bridge => "urn:ratssaal:bridge",
            Self::Allocator => "urn:ratssaal:allocator",
            Self::Operator => "urn:ratssaal:operator",
        }
    }
}

/// The other end of an accepted connection, in the extensions of each of its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Without TLS, on this machine: may everything.
    Local,
    /// With a certificate of these roles.
    Certified(Vec<Role>),
}

impl Caller {
    /// What a verified certificate says.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Self {
        let known = [Role::Bridge, Role::Allocator, Role::Operator];
        let Ok(certificate) = EndEntityCert::try_from(certificate) else { return Self::Certified(Vec::new()) };
        let roles = certificate.valid_uri_names().filter_map(|name| known.into_iter().find(|role| role.uri() == name));
        Self::Certified(roles.collect())
    }

    /// Whether it has this role.
    #[must_use]
    pub fn is(&self, role: Role) -> bool {
        match self {
            Self::Local => true,
            Self::Certified(roles) => roles.contains(&role),
        }
    }
}

/// Refuses a request whose caller has none of these roles. Requests within a process have no caller and are refused too.
///
/// # Errors
/// `PERMISSION_DENIED`, saying which name the certificate lacks.
pub fn require(request: &Extensions, roles: &[Role]) -> Result<(), Status> {
    if request.get::<Caller>().is_some_and(|caller| roles.iter().any(|role| caller.is(*role))) {
        return Ok(());
    }
    let names: Vec<&str> = roles.iter().map(|role| role.uri()).collect();
    let names = names.join(" or ");
    Err(Status::permission_denied(format!("the caller's certificate must hold the URI name {names}: issue it one")))
}
