//! The wrongs that can be asked for: their names, and what they add up to for one request. Pure.
//!
//! Must not know sockets or the ledger. Performed by `api` (what is committed and answered) and
//! `answer` (how the answer is put on the socket).

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

/// The longest delay that can be asked for.
const DELAY_MAX_MS: u64 = 600_000;
/// The largest answer that can be asked for.
const LARGE_MAX: u64 = 64 << 20;
/// How long a busy provider takes over what it does not refuse.
const BUSY_DELAY: Duration = Duration::from_millis(250);
/// How much older something can be made, in seconds: ten years.
const AGE_MAX: u64 = 10 * 365 * 24 * 3600;
/// How old that is if nothing is said: a day.
const AGE: u64 = 24 * 3600;
/// How many modes one request, queue entry or spell may name.
const MODES_MAX: usize = 16;

/// Every mode and what it does, for `--help` and for whoever names one that does not exist.
pub(super) const MODES: &[(&str, &str)] = &[
    ("slow=<ms>", "wait after committing, before answering"),
    ("stall=<ms>", "wait before committing"),
    ("drop-before, drop-after", "close the connection unanswered, before or after committing"),
    ("reset-before, reset-after", "the same with a TCP reset"),
    ("500-before, 500-after", "answer 500, not having committed, or having committed"),
    ("503, 503-after", "answer 503, not having committed, or having committed"),
    ("429", "too many requests: not committed, Retry-After: 1"),
    ("402", "declined: not committed, and final"),
    ("declined", "declined and kept as failed, to be found; 202-gets=2, declined: later"),
    ("401", "not authorised: not committed"),
    ("status=<code>, status-after=<code>", "answer any status, uncommitted or committed"),
    ("202[=<ms>]", "commit as \"processing\", which becomes \"succeeded\" after ms (1000)"),
    ("202-gets=<n>", "commit as \"processing\", which becomes \"succeeded\" after n look-ups"),
    ("202-fails[=<ms>]", "commit as \"processing\", which becomes \"failed\" after ms (1000)"),
    ("409-in-progress", "the same key is under way, says the answer; not committed"),
    ("idempotent", "until a reset: a key that came before gets its first answer"),
    ("header=<name>:<value>", "a further header of the answer: header=transient-error:true"),
    ("garbled", "commit; a 200 with something else than JSON"),
    ("old[=<s>]", "commit as if it had been made s seconds (a day) ago"),
    ("absent[=<n>]", "commit, but the next n (1) look-ups that could find it do not"),
    ("truncate", "commit; close after half of the bytes that Content-Length promised"),
    ("truncate-chunked", "commit; close before the last chunk"),
    ("close-delimited", "commit; an answer without a length, ended by closing"),
    ("both-lengths", "commit; Content-Length and Transfer-Encoding in one answer"),
    ("upgrade", "commit; answer 101 Switching Protocols, unasked, and close"),
    ("large=<bytes>", "commit; an answer of at least that size"),
    ("extra[=<ms>]", "commit; a second, unasked answer on the connection, at once or after ms"),
    ("trickle=<ms>", "commit; one byte of the answer every ms"),
    ("busy[=<percent>]", "503 uncommitted for that share of requests (50), the others slow"),
    ("lookup-duplicate", "a list shows everything twice"),
    ("lookup-old[=<s>]", "everything is shown as made s seconds (a day) earlier"),
    ("lookup-page=<n>", "pages of at most n, whatever was asked for"),
    ("lookup-errors", "answer 200 with errors instead of data, as GraphQL does"),
];

/// One thing that is to go wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    Slow(Duration),
    Stall(Duration),
    Silence(Silence, Commit),
    Status(StatusCode, Commit),
    Accepted(Settling),
    AcceptedFailing(Settling),
    Declined,
    InProgress,
    Idempotent,
    Header(HeaderName, HeaderValue),
    Garbled,
    Old(Duration),
    Absent(u32),
    Framing(Framing),
    Large(usize),
    Extra(Duration),
    Trickle(Duration),
    Busy(u64),
    Duplicate,
    Page(usize),
    Errors,
}

/// Whether a payment is put into the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Commit {
    #[default]
    Yes,
    No,
}

/// How a connection ends without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    Drop,
    Reset,
}

/// What lets a charge that is processing succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settling {
    After(Duration),
    LookUps(u32),
}

/// How an answer is delimited on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Framing {
    #[default]
    Whole,
    Truncated,
    TruncatedChunked,
    CloseDelimited,
    BothLengths,
    Upgrade,
}

/// Which requests a mode is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Payments,
    LookUps,
}

/// A mode that does not exist, or makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModeError {
    /// No mode of that name.
    #[error("no such mode: {0}")]
    Unknown(String),
    /// A mode of that name wants another value.
    #[error("mode {0} needs a value in range, or none")]
    Value(String),
    /// A list names payments and look-ups, or nothing at all.
    #[error("name one to {MODES_MAX} modes, all for payments or all for look-ups (lookup-…)")]
    Mixed,
}

/// Modes for one kind of request, as they were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Modes {
    pub(super) target: Target,
    modes: Vec<Mode>,
}

impl Modes {
    /// Reads `mode[=value], …`; the prefix `lookup-` makes them modes of look-ups.
    pub(super) fn parse(list: &str) -> Result<Self, ModeError> {
        let mut target = None;
        let mut modes = Vec::new();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let (its, mode) = match name.strip_prefix("lookup-") {
                Some(bare) => (Target::LookUps, Mode::parse(bare)?),
                None => (Target::Payments, Mode::parse(name)?),
            };
            if *target.get_or_insert(its) != its || modes.len() == MODES_MAX {
                return Err(ModeError::Mixed);
            }
            if mode.only_for().is_some_and(|only| only != its) {
                return Err(ModeError::Unknown(name.to_owned()));
            }
            modes.push(mode);
        }
        Ok(Self { target: target.ok_or(ModeError::Mixed)?, modes })
    }

    /// Reads the modes that a payment, or a look-up, names for itself; there the prefix `lookup-`
    /// may be left out.
    pub(super) fn parse_for(list: &str, target: Target) -> Result<Self, ModeError> {
        let modes = Self::parse(list)?;
        match (modes.target, target) {
            (Target::LookUps, Target::Payments) => Err(ModeError::Mixed),
            (Target::Payments, Target::Payments) | (_, Target::LookUps) => {
                Ok(Self { target, ..modes })
            }
        }
    }

    /// Takes `idempotent` out, which is not for one request; says whether it was there.
    pub(super) fn take_idempotent(&mut self) -> bool {
        let before = self.modes.len();
        self.modes.retain(|mode| *mode != Mode::Idempotent);
        self.modes.len() < before
    }

    /// Whether nothing goes wrong.
    pub(super) const fn is_empty(&self) -> bool {
        self.modes.is_empty()
    }

    /// What the modes add up to; where two say different things, the later one counts. `turn`
    /// numbers the requests, and spreads the refusals of a busy provider evenly.
    pub(super) fn wrongs(&self, turn: u64) -> Wrongs {
        self.modes.iter().fold(Wrongs::default(), |wrongs, mode| wrongs.and(mode, turn))
    }
}

impl Mode {
    /// Which requests it makes sense for, if not for all.
    const fn only_for(&self) -> Option<Target> {
        match self {
            Self::Accepted(_)
            | Self::AcceptedFailing(_)
            | Self::Declined
            | Self::InProgress
            | Self::Idempotent => Some(Target::Payments),
            Self::Duplicate | Self::Page(_) | Self::Errors => Some(Target::LookUps),
            Self::Slow(_)
            | Self::Stall(_)
            | Self::Silence(..)
            | Self::Status(..)
            | Self::Header(..)
            | Self::Garbled
            | Self::Old(_)
            | Self::Absent(_)
            | Self::Framing(_)
            | Self::Large(_)
            | Self::Extra(_)
            | Self::Trickle(_)
            | Self::Busy(_) => None,
        }
    }

    fn parse(text: &str) -> Result<Self, ModeError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let wrong = || ModeError::Value(text.to_owned());
        let number = |default: Option<u64>, max: u64| match value {
            Some(value) => value.parse().ok().filter(|number| *number <= max).ok_or_else(wrong),
            None => default.ok_or_else(wrong),
        };
        let delay = |default| number(default, DELAY_MAX_MS).map(Duration::from_millis);
        let few = |default| u32::try_from(number(default, u64::MAX)?).map_err(|_| wrong());
        let large = || usize::try_from(number(None, LARGE_MAX)?).map_err(|_| wrong());
        Ok(match name {
            "slow" => Self::Slow(delay(None)?),
            "stall" => Self::Stall(delay(None)?),
            "202" => Self::Accepted(Settling::After(delay(Some(1000))?)),
            "202-gets" => Self::Accepted(Settling::LookUps(few(None)?)),
            "202-fails" => Self::AcceptedFailing(Settling::After(delay(Some(1000))?)),
            "old" => Self::Old(Duration::from_secs(number(Some(AGE), AGE_MAX)?)),
            "header" => Self::header(value).ok_or_else(wrong)?,
            "page" => Self::Page(few(None)? as usize),
            "absent" => Self::Absent(few(Some(1))?),
            "large" => Self::Large(large()?),
            "extra" => Self::Extra(delay(Some(0))?),
            "trickle" => Self::Trickle(delay(None)?),
            "busy" => Self::Busy(number(Some(50), 100)?),
            "status" => Self::status(few(None)?, Commit::No, text)?,
            "status-after" => Self::status(few(None)?, Commit::Yes, text)?,
            _ if value.is_some() => return Err(Self::not_understood(text, name)),
            _ => Self::plain(name).ok_or_else(|| ModeError::Unknown(text.to_owned()))?,
        })
    }

    fn header(text: Option<&str>) -> Option<Self> {
        let (name, value) = text?.split_once(':')?;
        Some(Self::Header(name.trim().parse().ok()?, value.trim().parse().ok()?))
    }

    fn plain(name: &str) -> Option<Self> {
        let status =
            |code, commit| StatusCode::from_u16(code).ok().map(|c| Self::Status(c, commit));
        match name {
            "drop" | "drop-before" => Some(Self::Silence(Silence::Drop, Commit::No)),
            "drop-after" => Some(Self::Silence(Silence::Drop, Commit::Yes)),
            "reset" | "reset-before" => Some(Self::Silence(Silence::Reset, Commit::No)),
            "reset-after" => Some(Self::Silence(Silence::Reset, Commit::Yes)),
            "500" | "500-before" => status(500, Commit::No),
            "500-after" => status(500, Commit::Yes),
            "503" | "503-before" => status(503, Commit::No),
            "503-after" => status(503, Commit::Yes),
            "429" => status(429, Commit::No),
            "402" => status(402, Commit::No),
            "401" => status(401, Commit::No),
            "declined" => Some(Self::Declined),
            "409-in-progress" => Some(Self::InProgress),
            "idempotent" => Some(Self::Idempotent),
            "garbled" => Some(Self::Garbled),
            "duplicate" => Some(Self::Duplicate),
            "errors" => Some(Self::Errors),
            "truncate" => Some(Self::Framing(Framing::Truncated)),
            "truncate-chunked" => Some(Self::Framing(Framing::TruncatedChunked)),
            "close-delimited" => Some(Self::Framing(Framing::CloseDelimited)),
            "both-lengths" => Some(Self::Framing(Framing::BothLengths)),
            "upgrade" => Some(Self::Framing(Framing::Upgrade)),
            _ => None,
        }
    }

    fn status(code: u32, commit: Commit, text: &str) -> Result<Self, ModeError> {
        u16::try_from(code)
            .ok()
            .filter(|code| (200..=599).contains(code))
            .and_then(|code| StatusCode::from_u16(code).ok())
            .map(|code| Self::Status(code, commit))
            .ok_or_else(|| ModeError::Value(text.to_owned()))
    }

    fn not_understood(text: &str, name: &str) -> ModeError {
        match Self::plain(name) {
            Some(_) => ModeError::Value(text.to_owned()),
            None => ModeError::Unknown(text.to_owned()),
        }
    }
}

/// All that goes wrong with one request; by default nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wrongs {
    pub(super) stall: Duration,
    pub(super) commit: Commit,
    pub(super) settling: Option<Settling>,
    pub(super) absent: u32,
    pub(super) slow: Duration,
    pub(super) status: Option<StatusCode>,
    pub(super) fails: bool,
    pub(super) in_progress: bool,
    pub(super) garbled: bool,
    pub(super) old: Duration,
    pub(super) twice: bool,
    pub(super) page: Option<usize>,
    pub(super) errors: bool,
    pub(super) on_the_wire: OnTheWire,
}

/// The part of [`Wrongs`] that concerns how the answer is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct OnTheWire {
    pub(super) silence: Option<Silence>,
    pub(super) framing: Framing,
    pub(super) large: usize,
    pub(super) extra: Option<Duration>,
    pub(super) trickle: Duration,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Wrongs {
    fn and(mut self, mode: &Mode, turn: u64) -> Self {
        match mode {
            Mode::Slow(delay) => self.slow = *delay,
            Mode::Stall(delay) => self.stall = *delay,
            Mode::Silence(silence, commit) => {
                (self.on_the_wire.silence, self.commit) = (Some(*silence), *commit);
            }
            Mode::Status(status, commit) => (self.status, self.commit) = (Some(*status), *commit),
            Mode::Accepted(settling) => self.settling = Some(*settling),
            Mode::AcceptedFailing(settling) => {
                (self.settling, self.fails) = (Some(*settling), true);
            }
            Mode::Declined => self.fails = true,
            Mode::InProgress => (self.in_progress, self.commit) = (true, Commit::No),
            Mode::Idempotent => {}
            Mode::Header(name, value) => {
                self.on_the_wire.headers.push((name.clone(), value.clone()));
            }
            Mode::Garbled => self.garbled = true,
            Mode::Old(age) => self.old = *age,
            Mode::Duplicate => self.twice = true,
            Mode::Page(size) => self.page = Some(*size),
            Mode::Errors => self.errors = true,
            Mode::Absent(look_ups) => self.absent = *look_ups,
            Mode::Framing(framing) => self.on_the_wire.framing = *framing,
            Mode::Large(bytes) => self.on_the_wire.large = *bytes,
            Mode::Extra(delay) => self.on_the_wire.extra = Some(*delay),
            Mode::Trickle(pace) => self.on_the_wire.trickle = *pace,
            // Over a hundred turns in a row, exactly `percent` refusals, well mixed.
            Mode::Busy(percent) if (turn % 100) * 37 % 100 < *percent => {
                (self.status, self.commit) = (Some(StatusCode::SERVICE_UNAVAILABLE), Commit::No);
            }
            Mode::Busy(_) => self.slow = BUSY_DELAY,
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_of_the_list_is_understood_and_has_a_meaning() {
        for (names, _) in MODES {
            for name in names.split(", ") {
                let bare = name.split(['[', '=']).next().unwrap();
                let text = if name.contains('=') { format!("{bare}=200") } else { bare.to_owned() };
                let text = text.replace("busy=200", "busy=20").replace("header=200", "header=a:b");

                let mut modes = Modes::parse(&text).unwrap();

                let sticks = modes.take_idempotent();
                assert_ne!(modes.wrongs(0) == Wrongs::default(), !sticks, "{text} does nothing");
            }
        }
    }

    #[test]
    fn what_is_not_a_mode_is_refused() {
        for text in ["", " , ", "explode", "429=3", "slow", "slow=x", "slow=600001", "busy=101"] {
            assert!(Modes::parse(text).is_err(), "{text:?} was taken");
        }
        for text in ["duplicate", "lookup-202", "lookup-idempotent", "header=a", "header=a b:c"] {
            assert!(Modes::parse(text).is_err(), "{text:?} was taken");
        }
        for text in ["status=600", "large=99999999999", "429, lookup-429", "lookup-", "202-gets"] {
            assert!(Modes::parse(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_busy_provider_refuses_the_share_that_was_asked_for() {
        let busy = Modes::parse("busy=30").unwrap();

        let refused = (0..1000).filter(|turn| busy.wrongs(*turn).status.is_some()).count();

        assert_eq!(refused, 300);
    }
}
