//! The payment API: from a request to an answer, in the way that was asked for.
//!
//! `speaks` says what a request means and how the answer reads, `practice` what goes wrong, `ledger`
//! what took effect. Must not know sockets.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tokio::time::sleep;

use super::answer::Answer;
use super::asked::Asked;
use super::charge::{Charge, Order, Seen};
use super::control;
use super::ledger::{Find, Ledger, LedgerError};
use super::modes::{Commit, ModeError, Modes, OnTheWire, Target, Wrongs};
use super::practice::Practice;
use super::request::Request;
use super::speaks::{Call, Language, Made, Page, Refusal, Said};

const BY_REFERENCE: &str = "/by-reference/";
/// What an API says that has lost its wits.
const GARBLED: &[u8] = b"<html><body>Please stand by.</body></html>";

/// The payment API.
pub(super) struct Api {
    pub(super) ledger: Ledger,
    pub(super) practice: Practice,
    pub(super) language: &'static dyn Language,
    answers: AtomicU64,
    /// Paths and keys that are being committed while the API is idempotent.
    under_way: Mutex<HashSet<(String, String)>>,
}

impl Api {
    pub(super) fn new(ledger: Ledger, language: &'static dyn Language) -> Self {
        let (practice, answers, under_way) = Default::default();
        Self { ledger, practice, language, answers, under_way }
    }

    /// Answers a request, having done what it asks for, in the way that was asked for.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave a payment committed.
    pub(super) async fn answer(&self, request: &Request) -> (Answer, OnTheWire) {
        let path = request.uri.path();
        let (said, on_the_wire) = if path.starts_with("/practice/") {
            (control::answer(self, request), OnTheWire::default())
        } else {
            self.practice.count_request(&format!("{} {}", request.method, without_names(path)));
            match Asked::read(request) {
                Ok(asked) => self.api(request, &asked).await,
                Err(why) => self.no(Refusal::Malformed(why)),
            }
        };
        let request_id = self.answers.fetch_add(1, Ordering::Relaxed) + 1;
        let Said { status, headers, body } = said;
        let content_type = self.language.content_type();
        (Answer { status, request_id, content_type, headers, body }, on_the_wire)
    }

    async fn api(&self, request: &Request, asked: &Asked<'_>) -> (Said, OnTheWire) {
        let call = match self.language.call(asked) {
            Ok(Call::Aside(said)) => return (said, OnTheWire::default()),
            Ok(call) => call,
            Err(why) => return self.no(why),
        };
        let target = match &call {
            Call::Commit(_) => Target::Payments,
            Call::One(_) | Call::List(_) | Call::Aside(_) => Target::LookUps,
        };
        let own = match own_modes(request, target) {
            Ok(own) => own,
            Err(why) => return (control::with_modes(&why.to_string()), OnTheWire::default()),
        };
        let own = own.map(|mut own| {
            self.practice.becomes_idempotent(&mut own);
            own
        });
        let own = own.filter(|own| !own.is_empty());
        match call {
            Call::Commit(order) => self.payment(order, own.as_ref()).await,
            Call::One(_) | Call::List(_) | Call::Aside(_) => {
                self.look_up(asked, call, own.as_ref()).await
            }
        }
    }

    fn no(&self, why: Refusal) -> (Said, OnTheWire) {
        (self.language.refused(&why), OnTheWire::default())
    }

    async fn payment(&self, order: Order, own: Option<&Modes>) -> (Said, OnTheWire) {
        self.practice.count_names(order.reference.as_deref(), order.key.as_deref());
        let wrongs = self.practice.wrongs(Target::Payments, own);

        pause(wrongs.stall).await;
        let mut said = match wrongs.commit {
            Commit::Yes => self.commit(order, &wrongs).await,
            Commit::No if wrongs.in_progress => self.language.refused(&Refusal::InProgress),
            Commit::No => self.refused(wrongs.status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE)),
        };
        if wrongs.garbled {
            said = Said { body: GARBLED.to_vec(), ..said };
        }
        pause(wrongs.slow).await;
        (said, wrongs.on_the_wire)
    }

    async fn commit(&self, mut order: Order, wrongs: &Wrongs) -> Said {
        if let Some(number) = order.on {
            match self.ledger.known(number) {
                Some(parent) => order.inherit(&parent.charge.order),
                None => return self.language.refused(&Refusal::NotFound),
            }
        }
        let under_way = self.under_way(&order);
        let made = match &under_way {
            Some(None) => return self.language.refused(&Refusal::InProgress),
            Some(Some(_)) => self.made_before(&order),
            None => None,
        };
        let (charge, replayed) = match made {
            Some(before) if !before.order.asks_for_the_same_as(&order) => {
                return self.language.refused(&Refusal::KeyReused);
            }
            Some(before) => (before, true),
            None => {
                order.absent = wrongs.absent;
                order.aged_ms = u64::try_from(wrongs.old.as_millis()).unwrap_or(u64::MAX);
                order.fails |= wrongs.fails;
                order.settles(wrongs.settling);
                match self.ledger.commit(order).await {
                    Ok(charge) => (charge, false),
                    Err(LedgerError::Full) => return self.refused(StatusCode::SERVICE_UNAVAILABLE),
                    Err(LedgerError::Broken) => {
                        return self.refused(StatusCode::INTERNAL_SERVER_ERROR);
                    }
                }
            }
        };
        drop(under_way);
        match wrongs.status {
            Some(wrong) if !wrong.is_success() => self.refused(wrong),
            Some(other) => Said { status: other, ..self.made(charge, replayed) },
            None => self.made(charge, replayed),
        }
    }

    fn made(&self, charge: Charge, replayed: bool) -> Said {
        let parent = charge.order.on.and_then(|number| self.ledger.known(number));
        let status = charge.first_status();
        let seen = Seen { charge, status, operations: Vec::new() };
        self.language.made(&Made { seen, parent, replayed })
    }

    fn made_before(&self, order: &Order) -> Option<Charge> {
        self.ledger.first_with_key(order.key.as_deref()?, &order.path)
    }

    /// Takes the order's key for itself while the API is idempotent and the order has one; an inner
    /// none says that another has it.
    fn under_way(&self, order: &Order) -> Option<Option<UnderWay<'_>>> {
        let key = order.key.clone().filter(|_| self.practice.is_idempotent())?;
        let name = (order.path.clone(), key);
        let is_new = self.keys().insert(name.clone());
        Some(is_new.then_some(UnderWay { api: self, name }))
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<(String, String)>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look_up(
        &self,
        asked: &Asked<'_>,
        call: Call<'_>,
        own: Option<&Modes>,
    ) -> (Said, OnTheWire) {
        let wrongs = self.practice.wrongs(Target::LookUps, own);
        pause(wrongs.stall + wrongs.slow).await;
        let said = match (wrongs.status, call) {
            (Some(status), _) => self.refused(status),
            (None, _) if wrongs.garbled => Said { body: GARBLED.to_vec(), ..Said::ok(&json!({})) },
            (None, _) if wrongs.errors => {
                Said::ok(&json!({"errors": [{"message": "something went wrong"}], "data": null}))
            }
            (None, Call::One(find)) => self.one(&find, &wrongs),
            (None, Call::List(find)) => self.list(asked, find, &wrongs),
            (None, Call::Aside(said)) => said,
            (None, Call::Commit(_)) => self.refused(StatusCode::METHOD_NOT_ALLOWED),
        };
        (said, wrongs.on_the_wire)
    }

    fn one(&self, find: &Find<'_>, wrongs: &Wrongs) -> Said {
        let found = (wrongs.absent == 0).then(|| self.ledger.look_up(find).seen.pop()).flatten();
        match found {
            Some(mut seen) => {
                age(&mut seen, wrongs.old);
                Said::ok(&self.language.one(&seen))
            }
            None => self.language.refused(&Refusal::NotFound),
        }
    }

    fn list(&self, asked: &Asked<'_>, mut find: Find<'_>, wrongs: &Wrongs) -> Said {
        find.limit = wrongs.page.map_or(find.limit, |page| page.min(find.limit));
        let mut found = self.ledger.look_up(&find);
        if wrongs.absent > 0 {
            found.seen.clear();
            found.more = false;
        }
        for seen in &mut found.seen {
            age(seen, wrongs.old);
        }
        if wrongs.twice {
            found.seen = found.seen.into_iter().flat_map(|seen| [seen.clone(), seen]).collect();
        }
        Said::ok(&self.language.list(&Page { found: &found, find: &find, asked }))
    }

    fn refused(&self, status: StatusCode) -> Said {
        self.language.refused(&Refusal::Status(status))
    }
}

/// A key that is being committed; free again when dropped.
struct UnderWay<'a> {
    api: &'a Api,
    name: (String, String),
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.api.keys().remove(&self.name);
    }
}

/// Shows something older than it is.
fn age(seen: &mut Seen, by: Duration) {
    let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
    seen.charge.created_ms = seen.charge.created_ms.saturating_sub(by);
}

/// The modes that the request names itself, in `X-Practice` or `?practice=`.
fn own_modes(request: &Request, target: Target) -> Result<Option<Modes>, ModeError> {
    let query = request.uri.query().filter(|query| query.contains("practice="));
    let in_query = query.and_then(|query| {
        form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "practice")
    });
    let named = request.header("x-practice");
    let Some(list) = named.or(in_query.as_ref().map(|(_, list)| &**list)) else {
        return Ok(None);
    };
    Modes::parse_for(list, target).map(Some)
}

/// A path to count by, in which ids and references do not count apart.
fn without_names(path: &str) -> Cow<'_, str> {
    if let Some((collection, _)) = path.split_once(BY_REFERENCE) {
        return format!("{collection}{BY_REFERENCE}{{reference}}").into();
    }
    if !path.split('/').any(is_a_name) {
        return path.into();
    }
    let named = |segment| if is_a_name(segment) { "{id}" } else { segment };
    path.split('/').map(named).collect::<Vec<_>>().join("/").into()
}

/// Whether a segment ends like the names of charges: `payment_1`, `tr_0000000001`.
fn is_a_name(segment: &str) -> bool {
    const DIGITS_MIN: usize = 8;
    let rest = segment.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = segment.len() - rest.len();
    digits >= DIGITS_MIN || (digits > 0 && rest.ends_with('_'))
}

async fn pause(delay: Duration) {
    if !delay.is_zero() {
        sleep(delay).await;
    }
}
