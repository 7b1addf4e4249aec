//! Decisions, digests and forms at rest.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use semel::protocol::claim::decide;
use semel::protocol::fingerprint::{FingerprintRules, Fingerprints, canonical_digest};
use semel::protocol::id::{AttemptId, ProcessId, RecordKey};
use semel::protocol::key::{RequestView, Secret};
use semel::protocol::record::{
    Ago, Delivery, Entry, Event, Happening, Identity, Record, SettledBy, Settlement, State, Terms,
};
use semel::protocol::seal::{Binding, Nonce, Seals};

const KEY: RecordKey = RecordKey::new([7; RecordKey::LEN]);
const NONCE: Nonce = [9; 24];

/// The answer that is kept, and how large a typical one is.
const ANSWER: [u8; 400] = [b'a'; 400];

pub(crate) fn bench(criterion: &mut Criterion) {
    fingerprints(criterion);
    let fingerprints = Fingerprints::new(&[Secret::new([1; 32])], &[2; 32]);
    let seals = Seals::new(Secret::new([3; 32]), Vec::new());
    let record = settled(&fingerprints, &seals);
    seal(criterion, &seals, &record);

    let mut group = criterion.benchmark_group("record");
    group.bench_function("decide: unknown key", |b| {
        b.iter(|| decide(black_box(None), black_box(&fingerprints)));
    });
    group.bench_function("decide: replay", |b| {
        b.iter(|| decide(black_box(Some(&record)), black_box(&fingerprints)));
    });
    let entry = Entry::Record(Box::new(record));
    let written = entry.encode();
    group.bench_function("encode", |b| b.iter(|| black_box(&entry).encode()));
    group.bench_function("decode", |b| {
        b.iter(|| Entry::read(black_box(&written), Duration::from_secs(1)));
    });
}

fn fingerprints(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fingerprint");
    let secrets = [Secret::new([1; 32])];
    let rules = FingerprintRules::default();
    for (size, bytes) in [("300 B", 300), ("10 KiB", 10 << 10), ("1 MiB", 1 << 20)] {
        for (kind, media_type) in [("JSON", "application/json"), ("raw", "text/plain")] {
            let body = json(bytes);
            let headers =
                HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))]);
            let request = RequestView {
                method: &Method::POST,
                path: "/v1/payments",
                query: None,
                headers: &headers,
                body: &body,
            };
            group.throughput(Throughput::Bytes(body.len() as u64));
            group.bench_function(format!("{kind}, {size}"), |b| {
                b.iter(|| {
                    let canonical = canonical_digest(&rules, None, black_box(&request));
                    Fingerprints::new(&secrets, &canonical)
                });
            });
        }
    }
}

fn seal(criterion: &mut Criterion, seals: &Seals, record: &Record) {
    let mut group = criterion.benchmark_group("seal");
    let binding = binding(record);
    let sealed = seals.seal(NONCE, binding, &ANSWER);
    group.throughput(Throughput::Bytes(ANSWER.len() as u64));
    group.bench_function("seal, 400 B", |b| {
        b.iter(|| seals.seal(NONCE, binding, black_box(&ANSWER)));
    });
    group.bench_function("open, 400 B", |b| b.iter(|| seals.open(binding, black_box(&sealed))));
}

fn binding(record: &Record) -> Binding<'_> {
    Binding { key: KEY, attempt: record.attempt, fingerprint: &record.fingerprint, part: "answer" }
}

/// A payment of about so many bytes: a list of objects, as long as it takes.
fn json(bytes: usize) -> Bytes {
    const LINE: &str = r#"{"name":"a thing that is bought","amount":4200,"currency":"eur"}"#;
    let lines = vec![LINE; bytes / (LINE.len() + 1)];
    format!(r#"{{"lines":[{}]}}"#, lines.join(",")).into()
}

/// A record as it is at the end of a payment that went well.
fn settled(fingerprints: &Fingerprints, seals: &Seals) -> Record {
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let event = |what| Event { at: Ago::NOW, what };
    let mut record = Record {
        attempt: AttemptId::new([4; AttemptId::LEN]),
        process: ProcessId::new([5; ProcessId::LEN]),
        route: "create-payment".to_owned(),
        fingerprint: fingerprints.newest(),
        identity: Identity::Key,
        key_tag: None,
        business: None,
        terms: Terms {
            lease: Duration::from_secs(15),
            upstream_timeout: Duration::from_secs(90),
            retention: hours(24),
            remember: hours(168),
            window: Duration::ZERO,
            bound: Duration::ZERO,
        },
        inputs: None,
        claimed: Ago::NOW,
        first_claimed: Ago::NOW,
        renewed: Ago::NOW,
        entered: Ago::NOW,
        state: State::InFlight,
        delivery: Delivery::default(),
        timeline: vec![
            event(Happening::Claimed),
            event(Happening::FirstByte),
            event(Happening::Answered { status: 200, request_id: Some("req_0123456789".into()) }),
            event(Happening::Settled(SettledBy::Answer)),
        ],
    };
    let reply = Some(seals.seal(NONCE, binding(&record), &ANSWER));
    record.state = State::Settled(Settlement { by: SettledBy::Answer, status: 200, reply });
    record
}
