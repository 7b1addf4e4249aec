//! Reads `application/x-www-form-urlencoded`, in bodies and queries, into bytes: what is not UTF-8
//! is kept, not replaced.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// Names and values in their order, decoded; a broken percent sign stands for itself.
pub fn pairs(raw: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    raw.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let mut halves = pair.splitn(2, |&byte| byte == b'=');
        let mut half = || decode(halves.next().unwrap_or_default());
        (half(), half())
    })
}

/// The values of a name.
pub fn values(raw: &[u8], name: &str) -> Vec<Vec<u8>> {
    pairs(raw).filter(|(other, _)| other == name.as_bytes()).map(|(_, value)| value).collect()
}

/// Whether every percent sign is followed by two hexadecimal digits. If not, two texts that differ
/// may be decoded alike.
pub fn is_well_formed(raw: &[u8]) -> bool {
    raw.split(|&byte| byte == b'%')
        .skip(1)
        .all(|after| after.len() >= 2 && after[..2].iter().all(u8::is_ascii_hexdigit))
}

fn decode(raw: &[u8]) -> Vec<u8> {
    let spaced: Cow<'_, [u8]> = if raw.contains(&b'+') {
        raw.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect()
    } else {
        raw.into()
    };
    percent_decode(&spaced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_in_their_order() {
        let pairs: Vec<_> = pairs(b"a=1&&b%5Bx%5D=2+3%2B&a&=v&c=%FF%zz").collect();

        let expected: [(&[u8], &[u8]); 5] =
            [(b"a", b"1"), (b"b[x]", b"2 3+"), (b"a", b""), (b"", b"v"), (b"c", b"\xff%zz")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_vec(), value.to_vec())));
    }

    #[test]
    fn broken_percent_signs_are_noticed() {
        for raw in ["", "a=%41", "a=%fF%00"] {
            assert!(is_well_formed(raw.as_bytes()), "{raw}");
        }
        for raw in ["%", "a=%4", "a=%zz", "%%41"] {
            assert!(!is_well_formed(raw.as_bytes()), "{raw}");
        }
    }
}
