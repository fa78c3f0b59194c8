//! Who a connection is, and what an ACL lets it do.
//!
//! Owns the authentication schemes that need no exchange (world, auth, digest, ip, super, ensemble), the
//! fix-up of the lists that clients send, and the permission check. It knows no connection and no znode:
//! identities and lists are arguments. Schemes without a provider here (sasl, x509) are unknown: they
//! neither authenticate nor stand in an ACL.

pub mod ip;
pub mod verdicts;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core::net::IpAddr;
use farrier_proto::limits::JUTE_EXTRA_SIZE;
use farrier_proto::{Acl, ErrorCode, RawAcl, perms};
use sha1::Digest as _;
use std::borrow::Cow;
use subtle::ConstantTimeEq as _;

const DIGEST: &str = "digest";
const ENSEMBLE: &str = "ensemble";
const IP: &str = "ip";
const SUPER: &str = "super";

/// Bytes of a stored entry without its two texts.
pub(crate) const ENTRY_MIN: usize = 12;
/// Bytes that scheme `auth` may grow to in one list: a small request must not become a transaction that
/// peers cannot read.
pub(crate) const EXPANDED_MAX: usize = JUTE_EXTRA_SIZE / 2;

/// Most entries of a list that a client may store, once scheme `auth` is replaced: any check of a permission may have to look at
/// all of them. Lists that are stored already may be longer.
pub const ENTRIES_MAX: usize = 1000;

/// Something that a connection has proved to be.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// Authentication scheme.
    pub scheme: Box<str>,
    /// Identity within the scheme; for digest `user:<base64 of the hash>`.
    pub id: Box<str>,
}

impl Identity {
    /// An identity from its two parts.
    #[must_use]
    pub fn new(scheme: &str, id: impl Into<Box<str>>) -> Self {
        Self { scheme: scheme.into(), id: id.into() }
    }

    /// The identity that passes every ACL.
    #[must_use]
    pub fn superuser() -> Self {
        Self::new(SUPER, "")
    }

    /// Whether it passes every ACL.
    #[must_use]
    pub fn is_super(&self) -> bool {
        &*self.scheme == SUPER
    }
}

/// Hash of the digest scheme (`zookeeper.DigestAuthenticationProvider.digestAlg`). All servers and every
/// tool that makes ACL ids must agree on it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum DigestAlgorithm {
    /// SHA-1, the default everywhere.
    #[default]
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// SHA3-256.
    Sha3_256,
}

impl DigestAlgorithm {
    /// The algorithm by its name in Java (`SHA1`, `SHA-256`, …; case does not matter), or `None` for one
    /// that is not supported.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "SHA1" | "SHA-1" | "SHA" => Some(Self::Sha1),
            "SHA-256" | "SHA256" => Some(Self::Sha256),
            "SHA-512" | "SHA512" => Some(Self::Sha512),
            "SHA3-256" => Some(Self::Sha3_256),
            _ => None,
        }
    }

    /// The digest identity of `user:password`: `user:<base64 of the hash of the whole text>`. Without a
    /// colon the whole text is the user, as in Java.
    #[must_use]
    pub fn digest(self, user_password: &str) -> String {
        let bytes = user_password.as_bytes();
        let hash = match self {
            Self::Sha1 => STANDARD.encode(sha1::Sha1::digest(bytes)),
            Self::Sha256 => STANDARD.encode(sha2::Sha256::digest(bytes)),
            Self::Sha512 => STANDARD.encode(sha2::Sha512::digest(bytes)),
            Self::Sha3_256 => STANDARD.encode(sha3::Sha3_256::digest(bytes)),
        };
        format!("{}:{hash}", user_of(user_password))
    }
}

fn user_of(id: &str) -> &str {
    id.split_once(':').map_or(id, |(user, _)| user)
}

/// Which schemes are on and how they are checked.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// `zookeeper.skipACL`: every permission is granted. Lists are validated all the same.
    pub skip_acl: bool,
    /// Whether scheme digest exists (`zookeeper.DigestAuthenticationProvider.enabled`).
    pub digest_enabled: bool,
    /// Hash of scheme digest.
    pub digest_algorithm: DigestAlgorithm,
    /// The digest identity whose holder becomes super: `super:<base64>`.
    pub super_digest: Option<String>,
    /// `zookeeper.ensembleAuthName` split at commas and trimmed. `None` when the provider is not
    /// registered; with an empty list it lets everybody pass.
    pub ensemble_names: Option<Vec<String>>,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            skip_acl: false,
            digest_enabled: true,
            digest_algorithm: DigestAlgorithm::default(),
            super_digest: None,
            ensemble_names: None,
        }
    }
}

impl AuthConfig {
    /// Handles an auth packet: the identities that the connection gains, possibly none.
    ///
    /// # Errors
    /// [`ErrorCode::AuthFailed`]: to be answered, then the connection closes.
    /// [`ErrorCode::ConnectionLoss`]: the client named another ensemble; the connection closes without
    /// an answer.
    pub fn authenticate(&self, scheme: Option<&str>, data: Option<&[u8]>) -> Result<Vec<Identity>, ErrorCode> {
        match scheme {
            Some(DIGEST) if self.digest_enabled => {
                let text = String::from_utf8_lossy(data.ok_or(ErrorCode::AuthFailed)?);
                let id = self.digest_algorithm.digest(&text);
                let mut gained = Vec::with_capacity(2);
                if self.is_super_digest(&id) {
                    gained.push(Identity::superuser());
                }
                gained.push(Identity::new(DIGEST, id));
                Ok(gained)
            }
            // The connection has its address from the start.
            Some(IP) => Ok(Vec::new()),
            Some(ENSEMBLE) => self.check_ensemble(data),
            _ => Err(ErrorCode::AuthFailed),
        }
    }

    fn is_super_digest(&self, id: &str) -> bool {
        self.super_digest.as_ref().is_some_and(|s| bool::from(s.as_bytes().ct_eq(id.as_bytes())))
    }

    fn check_ensemble(&self, data: Option<&[u8]>) -> Result<Vec<Identity>, ErrorCode> {
        let names = self.ensemble_names.as_ref().ok_or(ErrorCode::AuthFailed)?;
        let data = data.unwrap_or_default();
        if names.is_empty() || data.is_empty() || names.iter().any(|n| n.as_bytes() == data) {
            Ok(Vec::new())
        } else {
            Err(ErrorCode::ConnectionLoss)
        }
    }

    /// The identity that every connection starts with: its peer's address in Java's spelling, IPv6
    /// uncompressed. An IPv4 address inside an IPv6 one counts as IPv4.
    #[must_use]
    pub fn ip_identity(addr: IpAddr) -> Identity {
        Identity::new(IP, ip::java_text(addr))
    }

    /// Whether `ids` may do `perm` (one or more bits of [`perms`], any of which suffices) under `acl`.
    #[must_use]
    pub fn permits(&self, acl: &[Acl<'_>], perm: i32, ids: &[Identity]) -> bool {
        let Some(first) = acl.first() else { return true };
        let grants = |a: &&Acl<'_>| a.perms & perm != 0;
        // Before anything else what nearly all lists are.
        if self.skip_acl || (grants(&first) && first.is_world()) || ids.iter().any(Identity::is_super) {
            return true;
        }
        acl.iter().filter(grants).any(Acl::is_world)
            || ids.iter().any(|id| self.is_among(id, acl.iter().filter(grants)))
    }

    fn is_among<'a>(&self, id: &Identity, mut entries: impl Iterator<Item = &'a Acl<'a>>) -> bool {
        match &*id.scheme {
            DIGEST if self.digest_enabled => entries.any(|a| a.scheme == DIGEST && *a.id == *id.id),
            IP => ip::is_within_any(&id.id, entries.filter(|a| a.scheme == IP).map(|a| &*a.id)),
            _ => false,
        }
    }

    /// Turns the list of a request into the list to store: duplicates removed, every entry checked,
    /// scheme `auth` replaced by the caller's authenticated identities. Permission bits stay verbatim.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidAcl`] for an empty or null list, for an entry that is not valid, for a list
    /// that scheme `auth` would make too large to log, and for one of more than [`ENTRIES_MAX`];
    /// [`ErrorCode::MarshallingError`] where the id's text is null but needed. The first bad entry decides.
    pub fn fix_up(&self, raw: Option<&[RawAcl<'_>]>, ids: &[Identity]) -> Result<Vec<Acl<'static>>, ErrorCode> {
        let raw = raw.unwrap_or_default();
        if let [only] = raw
            && only.scheme.as_deref() == Some("world")
            && only.id.as_deref() == Some("anyone")
        {
            return Ok(vec![Acl::world(only.perms)]);
        }
        if raw.is_empty() {
            return Err(ErrorCode::InvalidAcl);
        }
        let mut out = Vec::with_capacity(raw.len());
        let mut expanded = 0;
        for a in Distinct::of(raw) {
            let scheme = a.scheme.as_deref().ok_or(ErrorCode::InvalidAcl)?;
            if scheme == "auth" {
                let before = out.len();
                let owned = ids.iter().filter(|i| self.is_authenticated(i));
                out.extend(owned.map(|i| entry(a.perms, &i.scheme, &i.id)));
                expanded += out[before..].iter().map(|a| ENTRY_MIN + a.scheme.len() + a.id.len()).sum::<usize>();
                if out.len() == before || out.len() > ENTRIES_MAX || expanded > EXPANDED_MAX {
                    return Err(ErrorCode::InvalidAcl);
                }
                continue;
            }
            if !self.is_acl_scheme(scheme) || out.len() >= ENTRIES_MAX {
                return Err(ErrorCode::InvalidAcl);
            }
            let id = a.id.as_deref().ok_or(ErrorCode::MarshallingError)?;
            if !self.is_valid_id(scheme, id) {
                return Err(ErrorCode::InvalidAcl);
            }
            out.push(if scheme == "world" { Acl::world(a.perms) } else { entry(a.perms, scheme, id) });
        }
        Ok(out)
    }

    /// Whether an ACL's scheme `auth` stands for this identity. Addresses and super do not count.
    fn is_authenticated(&self, id: &Identity) -> bool {
        &*id.scheme == DIGEST && self.digest_enabled
    }

    fn is_acl_scheme(&self, scheme: &str) -> bool {
        matches!(scheme, "world" | IP) || (scheme == DIGEST && self.digest_enabled)
    }

    fn is_valid_id(&self, scheme: &str, id: &str) -> bool {
        match scheme {
            "world" => id == "anyone",
            DIGEST => is_valid_digest(id),
            IP => ip::is_valid(id),
            _ => false,
        }
    }

    /// What whoAmI answers: scheme and user of each identity, never a credential.
    #[must_use]
    pub fn who_am_i(ids: &[Identity]) -> Vec<(&str, &str)> {
        let user = |i: &'_ Identity| -> usize {
            match &*i.scheme {
                DIGEST => user_of(&i.id).len(),
                SUPER => 0,
                _ => i.id.len(),
            }
        };
        ids.iter().map(|i| (&*i.scheme, &i.id[..user(i)])).collect()
    }

    /// The list as getACL shows it to `ids`: who lacks ADMIN does not see the hashes.
    #[must_use]
    pub fn shown<'a>(&self, acl: &'a [Acl<'a>], ids: &[Identity]) -> Cow<'a, [Acl<'a>]> {
        if self.permits(acl, perms::ADMIN, ids) || acl.iter().all(|a| a.scheme != DIGEST) {
            return Cow::Borrowed(acl);
        }
        Cow::Owned(acl.iter().map(masked).collect())
    }
}

fn masked<'a>(a: &'a Acl<'a>) -> Acl<'a> {
    let id = match a.id.split_once(':') {
        Some((user, _)) if a.scheme == DIGEST => Cow::Owned(format!("{user}:x")),
        _ => Cow::Borrowed(&*a.id),
    };
    Acl { perms: a.perms, scheme: Cow::Borrowed(&*a.scheme), id }
}

fn entry(perms: i32, scheme: &str, id: &str) -> Acl<'static> {
    let scheme = match scheme {
        DIGEST => Cow::Borrowed(DIGEST),
        IP => Cow::Borrowed(IP),
        other => Cow::Owned(other.to_owned()),
    };
    Acl { perms, scheme, id: Cow::Owned(id.to_owned()) }
}

/// Java's `split(":")` must give two parts; it drops empty parts at the end.
fn is_valid_digest(id: &str) -> bool {
    id.trim_end_matches(':').split(':').count() == 2
}

/// The entries of a list without exact repetitions, in order.
///
/// A request of a megabyte holds tens of thousands of entries, so long lists are not compared pairwise.
struct Distinct;

impl Distinct {
    const PAIRWISE_MAX: usize = 16;

    fn of<'r, 'a>(raw: &'r [RawAcl<'a>]) -> Vec<&'r RawAcl<'a>> {
        if raw.len() > Self::PAIRWISE_MAX {
            let key = |a: &&'r RawAcl<'a>| (a.perms, a.scheme.as_deref(), a.id.as_deref());
            let mut seen = std::collections::BTreeSet::new();
            return raw.iter().filter(|a| seen.insert(key(a))).collect();
        }
        raw.iter().enumerate().filter(|(i, a)| !raw[..*i].contains(a)).map(|(_, a)| a).collect()
    }
}

#[cfg(test)]
mod tests;
