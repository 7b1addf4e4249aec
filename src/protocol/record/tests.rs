//! Claims about records: what they survive, how they age, how long their timeline gets.

use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::protocol::key::{Secret, SecretId};
use crate::protocol::seal::{Binding, Seals};

fn ago() -> impl Strategy<Value = Ago> {
    prop_oneof![any::<u64>().prop_map(Ago), (0..100_000_000u64).prop_map(Ago)]
}

fn duration() -> impl Strategy<Value = Duration> {
    (0..u64::MAX, 0..1_000_000_000u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

fn fingerprint() -> impl Strategy<Value = Fingerprint> {
    let parts = (any::<[u8; 4]>(), any::<[u8; 32]>());
    parts.prop_map(|(id, digest)| Fingerprint { secret: SecretId::new(id), digest })
}

fn sealed() -> impl Strategy<Value = Sealed> {
    let parts = (any::<Vec<u8>>(), any::<[u8; 24]>(), fingerprint());
    parts.prop_map(|(text, nonce, fingerprint)| {
        let (key, attempt) = (RecordKey::new([1; 16]), AttemptId::new([2; 16]));
        let binding = Binding { key, attempt, fingerprint: &fingerprint, part: "reply" };
        Seals::new(Secret::new([3; 32]), vec![]).seal(nonce, binding, &text)
    })
}

fn delivery() -> impl Strategy<Value = Delivery> {
    let parts = (option::of(ago()), option::of(ago()), option::of(ago()));
    parts.prop_map(|(left, answered, completed)| Delivery { left, answered, completed })
}

fn doubt() -> impl Strategy<Value = Doubt> {
    prop_oneof![
        any::<u16>().prop_map(|status| Doubt::Unknown(UnknownReason::Status(status))),
        select(vec![
            Doubt::Unknown(UnknownReason::Truncated),
            Doubt::OwnerSilent,
            Doubt::Drained,
            Doubt::TrackLost,
        ]),
    ]
}

fn release() -> impl Strategy<Value = Release> {
    select(vec![
        Release::NotSent,
        Release::TakenBack,
        Release::NotApplied,
        Release::Operator,
        Release::Absent,
    ])
}

fn settled_by() -> impl Strategy<Value = SettledBy> {
    select(vec![SettledBy::Answer, SettledBy::LookUp, SettledBy::Operator])
}

fn state() -> impl Strategy<Value = State> {
    let settlement = (settled_by(), any::<u16>(), option::of(sealed()));
    prop_oneof![
        Just(State::InFlight),
        (option::of(sealed()), any::<u32>(), any::<u32>(), option::of(duration())).prop_map(
            |(reply, looked, absent, after)| State::Accepted { reply, looked, absent, after }
        ),
        (doubt(), option::of(ago()), any::<u32>(), any::<u32>()).prop_map(
            |(why, closed, looked, absent)| State::InDoubt { why, closed, looked, absent }
        ),
        settlement.prop_map(|(by, status, reply)| State::Settled(Settlement { by, status, reply })),
        (release(), option::of(sealed())).prop_map(|(why, reply)| State::Released { why, reply }),
    ]
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        select(vec![
            Happening::Claimed,
            Happening::FirstByte,
            Happening::Accepted,
            Happening::Resent,
        ]),
        (any::<u16>(), any::<Option<String>>())
            .prop_map(|(status, request_id)| Happening::Answered { status, request_id }),
        doubt().prop_map(Happening::Doubted),
        select(vec![Looked::Final, Looked::Absent, Looked::Failed]).prop_map(Happening::LookedUp),
        settled_by().prop_map(Happening::Settled),
        release().prop_map(Happening::Released),
        any::<(String, String)>()
            .prop_map(|(action, reason)| Happening::Operator { action, reason }),
        select(vec![Recognised::BusinessKey, Recognised::Orphan]).prop_map(Happening::Joined),
        any::<u32>().prop_map(Happening::Elided),
    ]
}

fn terms() -> impl Strategy<Value = Terms> {
    let parts = (duration(), duration(), duration(), duration(), duration());
    parts.prop_map(|(lease, upstream_timeout, retention, remember, window)| Terms {
        lease,
        upstream_timeout,
        retention,
        remember,
        window,
        bound: window,
    })
}

fn record() -> impl Strategy<Value = Record> {
    let event = (ago(), happening()).prop_map(|(at, what)| Event { at, what });
    let identity = prop_oneof![
        Just(Identity::Key),
        any::<[u8; 16]>().prop_map(|key| Identity::Content(RecordKey::new(key))),
    ];
    let tag = option::of(any::<[u8; 8]>().prop_map(KeyTag::new));
    let known_by = (identity, tag);
    let who = (any::<[u8; 16]>(), any::<[u8; 8]>(), any::<String>(), fingerprint(), known_by);
    let timeline = prop::collection::vec(event, 0..6);
    let what = (terms(), option::of(sealed()), state(), delivery(), timeline);
    let when = (ago(), ago(), ago(), ago());
    (who, what, when).prop_map(|(who, what, (claimed, first_claimed, renewed, entered))| {
        let (attempt, process, route, fingerprint, (identity, key_tag)) = who;
        let (terms, inputs, state, delivery, timeline) = what;
        let (attempt, process) = (AttemptId::new(attempt), ProcessId::new(process));
        Record {
            attempt,
            process,
            route,
            fingerprint,
            identity,
            key_tag,
            business: match identity {
                Identity::Key => None,
                Identity::Content(at) | Identity::Further(at) => Some(at),
            },
            terms,
            inputs,
            claimed,
            first_claimed,
            renewed,
            entered,
            state,
            delivery,
            timeline,
        }
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    let pointer = (any::<[u8; 16]>(), ago(), duration());
    prop_oneof![
        record().prop_map(|record| Entry::Record(Box::new(record))),
        pointer.prop_map(|(to, written, remember)| {
            let kind = PointerKind::Business;
            Entry::Pointer(Pointer { to: RecordKey::new(to), written, remember, kind })
        }),
    ]
}

/// Every age in an entry.
fn ages(entry: &mut Entry) -> Vec<&mut Ago> {
    let record = match entry {
        Entry::Pointer(pointer) => return vec![&mut pointer.written],
        Entry::Record(record) => record,
    };
    let mut ages = vec![
        &mut record.claimed,
        &mut record.first_claimed,
        &mut record.renewed,
        &mut record.entered,
    ];
    ages.extend(record.timeline.iter_mut().map(|event| &mut event.at));
    match &mut record.state {
        State::InDoubt { closed, .. } => ages.extend(closed),
        State::InFlight | State::Accepted { .. } | State::Settled(_) | State::Released { .. } => {}
    }
    let Delivery { left, answered, completed } = &mut record.delivery;
    ages.extend([left, answered, completed].into_iter().flatten());
    ages
}

/// A reply as serde would write it if it were not told otherwise.
#[derive(Serialize)]
struct Plain<'a> {
    status: u16,
    headers: &'a [(String, Vec<u8>)],
    body: &'a [u8],
}

proptest! {
    #[test]
    fn a_record_in_place_encodes_like_its_entry(record in record()) {
        prop_assert_eq!(record.encode(), Entry::Record(Box::new(record)).encode());
    }

    #[test]
    fn a_reply_in_whole_pieces_has_the_form_that_it_always_had(
        status in any::<u16>(),
        headers in proptest::collection::vec((".*", any::<Vec<u8>>()), 0..4),
        body in any::<Vec<u8>>(),
    ) {
        let plain = Plain { status, headers: &headers, body: &body };
        let plain = postcard::to_stdvec(&plain).unwrap();
        let reply = Reply { status, headers, body: body.into() };

        prop_assert_eq!(postcard::to_stdvec(&reply).unwrap(), &plain[..]);
        prop_assert_eq!(postcard::from_bytes::<Reply>(&plain).unwrap(), reply);
    }

    #[test]
    fn an_entry_survives_its_bytes(entry in entry()) {
        prop_assert_eq!(Entry::read(&entry.encode(), Duration::ZERO), Ok(entry));
    }

    #[test]
    fn reading_adds_the_age_to_every_age_and_changes_nothing_else(entry in entry(), by in 0..u64::MAX) {
        let mut entry = entry;
        let mut read = Entry::read(&entry.encode(), Duration::from_millis(by)).unwrap();

        let (mut before, mut after) = (ages(&mut entry), ages(&mut read));
        prop_assert_eq!(before.len(), after.len());
        for (before, after) in before.iter_mut().zip(&mut after) {
            prop_assert_eq!(before.0.saturating_add(by), after.0);
            **before = Ago::NOW;
            **after = Ago::NOW;
        }
        prop_assert_eq!(entry, read);
    }

    #[test]
    fn what_was_cut_or_grew_is_unreadable(entry in entry(), at: Index, more: u8) {
        let bytes = entry.encode();
        let cut = Entry::read(&bytes[..at.index(bytes.len())], Duration::ZERO);
        prop_assert_eq!(cut, Err(Unreadable::Damaged));

        let grown = [&bytes[..], &[more]].concat();
        prop_assert_eq!(Entry::read(&grown, Duration::ZERO), Err(Unreadable::Damaged));
    }

    #[test]
    fn a_flipped_bit_is_never_overlooked(entry in entry(), at: Index, bit in 0..8u8) {
        let mut bytes = entry.encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let read = Entry::read(&bytes, Duration::ZERO);
        prop_assert_ne!(&read, &Ok(entry));
        if at == 0 {
            prop_assert_eq!(read, Err(Unreadable::Version(bytes[0])));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes: Vec<u8>, age in duration()) {
        let _ = Entry::read(&bytes, age);
        if let Some(version) = bytes.first_mut() {
            *version = WIRE_VERSION;
        }
        let _ = Entry::read(&bytes, age);
    }

    #[test]
    fn a_timeline_keeps_its_first_and_newest_entries_and_counts_the_rest(
        record in record(),
        notes in 0..3 * TIMELINE_MAX,
    ) {
        let mut record = record;
        record.timeline.clear();
        for note in 0..notes {
            record.note(Happening::Answered { status: note as u16, request_id: None });
        }

        let status = |event: &Event| {
            let Happening::Answered { status, .. } = event.what else { panic!("{event:?}") };
            usize::from(status)
        };
        let timeline = &record.timeline;
        if notes <= TIMELINE_MAX {
            prop_assert!(timeline.iter().map(status).eq(0..notes));
        } else {
            prop_assert_eq!(timeline.len(), TIMELINE_MAX);
            prop_assert_eq!(status(&timeline[0]), 0);
            let elided = notes - (TIMELINE_MAX - 1);
            prop_assert_eq!(&timeline[1].what, &Happening::Elided(elided as u32));
            prop_assert!(timeline[2..].iter().map(status).eq(elided + 1..notes));
        }
    }
}

#[test]
fn a_delivery_counts_only_if_it_came_after_the_last_caller_that_left() {
    let ago = |seconds| Some(Ago::new(Duration::from_secs(seconds)));
    let delivered = Delivery { left: None, answered: ago(9), completed: ago(5) };

    assert_eq!(delivered.done(), Some(Duration::from_secs(5)));
    assert_eq!(Delivery { left: ago(10), ..delivered }.done(), Some(Duration::from_secs(5)));
    assert_eq!(Delivery { left: ago(9), ..delivered }.done(), None);
    assert_eq!(Delivery { left: ago(8), ..delivered }.done(), None);
    assert_eq!(Delivery { left: ago(8), ..Delivery::default() }.done(), None);
    let merged = Delivery { left: ago(8), ..Delivery::default() }.merge(delivered);
    assert_eq!(merged, Delivery { left: ago(8), ..delivered });
}
