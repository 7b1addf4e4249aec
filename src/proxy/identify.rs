//! Which operation a request stands for: body, key, scope, fingerprint.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http_body_util::BodyExt as _;

use super::problem::{Problem, Slug};
use super::route::{Business, Missing, Orphans, Route};
use crate::ledger::Secrets;
use crate::protocol::fingerprint::{Fingerprints, canonical_digest};
use crate::protocol::id::RecordKey;
use crate::protocol::key::{
    BusinessKey, ContentName, IdempotencyKey, RequestView, Secret, business_key, content_key,
    find_key, record_key,
};
use crate::protocol::record::Identity;
use crate::protocol::reference::{Gap, Slot};
use crate::server::{Body, BodyError};
use crate::upstream::lookup::{Inputs, Known, draw_reference_later};

/// A request whose operation has a name. Shows no values.
pub struct Identified {
    /// Where its record is, or the pointer to it.
    pub key: RecordKey,
    /// How it was recognised.
    pub identity: Identity,
    /// Its caller's key, if it has one.
    pub named: Option<IdempotencyKey>,
    /// Where the pointer of its business key is, if it has one.
    pub business: Option<RecordKey>,
    /// By what the same content is found whose caller left unanswered, for a request with a key on a
    /// route that recognises such.
    pub content: Option<Arc<ContentName>>,
    /// What a duplicate must match.
    pub fingerprints: Fingerprints,
    /// The values that look-ups will need.
    pub inputs: Option<Inputs>,
    /// Where its reference belongs, if it is to get one.
    pub gap: Option<Gap>,
}

impl Identified {
    /// Where its content leads, for a request that may be recognised by it.
    pub fn by_content(&self, index: &Secret) -> Option<RecordKey> {
        match self.identity {
            Identity::Content(content) => Some(content),
            Identity::Key | Identity::Further(_) => self.orphan_at(index),
        }
    }

    /// Where the same content is found whose caller left unanswered.
    pub fn orphan_at(&self, index: &Secret) -> Option<RecordKey> {
        self.content.as_ref().map(|content| content.key(index))
    }
}

/// Why a request has no operation.
#[derive(Debug)]
pub enum Unidentified {
    /// It is refused.
    Refused(Box<Problem>),
    /// It has no key, and the route lets such requests through unguarded.
    Keyless,
}

impl fmt::Debug for Identified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identified").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Reads a body whole.
///
/// # Errors
/// What has been read, and the rest, if it is over the limit; or why it broke off.
pub async fn read_body(mut body: Body, max: usize) -> Result<Bytes, ReadBody> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let data = match frame {
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(error) => return Err(ReadBody::Broken(error)),
        };
        read.extend_from_slice(&data);
        if read.len() > max {
            return Err(ReadBody::TooLarge(read.freeze(), Box::new(body)));
        }
    }
    Ok(read.freeze())
}

/// Why a body was not read whole.
#[derive(Debug)]
pub enum ReadBody {
    /// Over the limit: what has been read, and the rest.
    TooLarge(Bytes, Box<Body>),
    /// It broke off, or took too long.
    Broken(BodyError),
}

/// Names the operation that a request stands for.
///
/// # Errors
/// [`Unidentified`].
pub fn identify(
    route: &Route,
    secrets: &Secrets,
    head: &Parts,
    body: &Bytes,
) -> Result<Identified, Unidentified> {
    let policy = &*route.policy;
    let view = RequestView {
        method: &head.method,
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
        body,
    };
    let found = find_key(&policy.sources, &view).map_err(|invalid| {
        let mut problem = Problem::new(Slug::KeyInvalid);
        problem.detail =
            format!("the idempotency key is not usable: {invalid}; nothing was sent").into();
        Unidentified::Refused(Box::new(problem))
    })?;
    let scope = policy.scope.scope(&route.upstream, &view);
    // Only the place where the key stood is left out: a second value in another one is content.
    let (key, place) = found.unzip();
    let canonical = canonical_digest(&policy.fingerprint, place, &view);
    let fingerprints = Fingerprints::new(&secrets.fingerprints, &canonical);
    let slot = route.slot(&view);
    let inputs = inputs(route, &view, key.as_ref(), slot.as_ref());
    let (at, identity) = match (&key, policy.missing) {
        (Some(key), _) => (record_key(&secrets.index, &scope, key), Identity::Key),
        (None, Missing::Fingerprint { .. }) => {
            let at = content_key(&secrets.index, &scope, &canonical);
            (at, Identity::Content(at))
        }
        (None, Missing::Reject) => {
            return Err(Unidentified::Refused(Box::new(Problem::new(Slug::KeyMissing))));
        }
        (None, Missing::Pass) => return Err(Unidentified::Keyless),
    };
    let gap = match slot {
        Some(Slot::Open(gap)) => Some(gap),
        Some(Slot::Given(_) | Slot::Closed(_)) | None => None,
    };
    let business = business(route, &view, &canonical);
    let business = business.map(|business| business_key(&secrets.index, &scope, &business));
    let by_key = identity == Identity::Key && policy.orphans == Orphans::Match;
    // For those whose retry may come under another key.
    let content = by_key.then(|| Arc::new(ContentName::new(scope, canonical)));
    Ok(Identified { key: at, identity, named: key, business, content, fingerprints, inputs, gap })
}

/// What names the business operation. A request that lacks a part of it has none, and is guarded by
/// its key or content alone.
fn business(route: &Route, view: &RequestView<'_>, content: &[u8; 32]) -> Option<BusinessKey> {
    let Business { fields, .. } = route.policy.business.as_ref()?;
    let captures: Vec<_> = route.path.captures(view.path).collect();
    match BusinessKey::of(fields, view, &captures, content) {
        Ok(business) => Some(business),
        Err(lacking) => {
            tracing::warn!(route = route.name, ?lacking, "this request has no business key");
            None
        }
    }
}

/// Takes the values that the route's look-up names. A request without one of them is sent all the
/// same; if its outcome is lost, a person must settle it.
fn inputs(
    route: &Route,
    view: &RequestView<'_>,
    key: Option<&IdempotencyKey>,
    slot: Option<&Slot>,
) -> Option<Inputs> {
    let lookup = route.policy.lookup.as_ref()?;
    let captures = route.path.captures(view.path).collect();
    let reference = match slot {
        Some(Slot::Given(text)) => Some(text.as_str()),
        // Drawn from the record's key, which a request without a key does not know before the claim.
        Some(Slot::Open(_)) => Some(""),
        Some(Slot::Closed(_)) | None => None,
    };
    match lookup.inputs(view, &Known { key, reference, captures }) {
        Ok(mut inputs) => {
            if let Some(Slot::Open(gap)) = slot {
                draw_reference_later(&mut inputs, gap.length());
            }
            Some(inputs)
        }
        Err(missing) => {
            tracing::warn!(route = route.name, missing, "this request could not be looked up");
            None
        }
    }
}
