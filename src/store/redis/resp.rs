//! What goes over the connection: commands as they are written, answers as they are read (RESP 2).

use bytes::{Buf as _, BytesMut};

/// How long one text may be: as long as Redis lets any be.
const TEXT_BYTES_MAX: usize = 512 << 20;

/// How many answers one list holds at most, and how deep lists are nested.
const LIST_MAX: usize = 1 << 20;
const DEPTH_MAX: usize = 4;

/// What Redis answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Text(Vec<u8>),
    Number(i64),
    Nothing,
    List(Vec<Self>),
    /// An error; its first word is its code.
    Refused(String),
}

/// What is read is no answer of Redis'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Writes a command.
pub(super) fn write(words: &[&[u8]], to: &mut BytesMut) {
    length(b'*', words.len(), to);
    for word in words {
        length(b'$', word.len(), to);
        to.extend_from_slice(word);
        to.extend_from_slice(b"\r\n");
    }
}

fn length(kind: u8, length: usize, to: &mut BytesMut) {
    // As long as the longest number and what stands around it.
    let mut line = [0; 24];
    let mut at = line.len() - 2;
    line[at..].copy_from_slice(b"\r\n");
    let mut rest = length;
    loop {
        at -= 1;
        line[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    line[at - 1] = kind;
    to.extend_from_slice(&line[at - 1..]);
}

/// Takes one answer off the front. `None`: it has not arrived in full.
///
/// # Errors
/// [`Malformed`]: there is no telling where the next answer begins.
pub(super) fn take(from: &mut BytesMut) -> Result<Option<Reply>, Malformed> {
    // Nothing is kept of an answer before it is there in full.
    let Some(end) = skip(from, 0, DEPTH_MAX)? else { return Ok(None) };
    let reply = read(&mut &from[..end])?;
    from.advance(end);
    Ok(Some(reply))
}

/// Where the answer that begins at `at` ends; `None`: beyond what has arrived.
fn skip(bytes: &[u8], at: usize, depth: usize) -> Result<Option<usize>, Malformed> {
    let Some((kind, line, mut end)) = line(bytes, at)? else { return Ok(None) };
    match kind {
        b'+' | b'-' | b':' => {}
        b'$' => {
            if let Some(length) = bounded(line, TEXT_BYTES_MAX)? {
                end += length + 2;
            }
        }
        b'*' => {
            for _ in 0..bounded(line, LIST_MAX)?.unwrap_or(0) {
                let deeper = depth.checked_sub(1).ok_or(Malformed)?;
                let Some(next) = skip(bytes, end, deeper)? else { return Ok(None) };
                end = next;
            }
        }
        _ => return Err(Malformed),
    }
    Ok((end <= bytes.len()).then_some(end))
}

/// Reads an answer that is there in full, and moves behind it.
fn read(bytes: &mut &[u8]) -> Result<Reply, Malformed> {
    let (kind, line, end) = line(bytes, 0)?.ok_or(Malformed)?;
    *bytes = &bytes[end..];
    Ok(match kind {
        b'+' => Reply::Text(line.to_vec()),
        b'-' => Reply::Refused(String::from_utf8_lossy(line).into_owned()),
        b':' => Reply::Number(number(line)?),
        b'$' => match bounded(line, TEXT_BYTES_MAX)? {
            None => Reply::Nothing,
            Some(length) => {
                let (text, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
                *bytes = rest.strip_prefix(b"\r\n").ok_or(Malformed)?;
                Reply::Text(text.to_vec())
            }
        },
        b'*' => match bounded(line, LIST_MAX)? {
            None => Reply::Nothing,
            Some(length) => {
                Reply::List((0..length).map(|_| read(bytes)).collect::<Result<_, _>>()?)
            }
        },
        _ => return Err(Malformed),
    })
}

type Line<'a> = (u8, &'a [u8], usize);

/// The first byte of a line, the rest of it, and where the next begins.
fn line(bytes: &[u8], at: usize) -> Result<Option<Line<'_>>, Malformed> {
    let Some((&kind, rest)) = bytes.get(at..).and_then(<[u8]>::split_first) else {
        return Ok(None);
    };
    let Some(length) = rest.iter().position(|byte| *byte == b'\r') else { return Ok(None) };
    match rest.get(length + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((kind, &rest[..length], at + length + 3))),
        Some(_) => Err(Malformed),
    }
}

fn number(line: &[u8]) -> Result<i64, Malformed> {
    str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or(Malformed)
}

/// A length; -1 stands for nothing.
fn bounded(line: &[u8], max: usize) -> Result<Option<usize>, Malformed> {
    match number(line)? {
        -1 => Ok(None),
        length => {
            usize::try_from(length).ok().filter(|length| *length <= max).map(Some).ok_or(Malformed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Option<Reply>, Malformed> {
        take(&mut BytesMut::from(bytes))
    }

    #[test]
    fn a_command_is_written_word_by_word() {
        let mut written = BytesMut::new();

        write(&[b"SET", b"", b"0123456789\r\n"], &mut written);

        assert_eq!(&written[..], b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$12\r\n0123456789\r\n\r\n");
    }

    #[test]
    fn answers_are_read_one_by_one_and_only_in_full() {
        let wire = b"*4\r\n$3\r\na\r\n\r\n:-7\r\n$-1\r\n*1\r\n+OK\r\n-NOSCRIPT none\r\n$0\r\n\r\n";
        let first = Reply::List(vec![
            Reply::Text(b"a\r\n".to_vec()),
            Reply::Number(-7),
            Reply::Nothing,
            Reply::List(vec![Reply::Text(b"OK".to_vec())]),
        ]);
        let answers = [first, Reply::Refused("NOSCRIPT none".to_owned()), Reply::Text(Vec::new())];

        for cut in 0..=wire.len() {
            let mut arrived = BytesMut::from(&wire[..cut]);
            let mut read = Vec::new();
            while let Some(reply) = take(&mut arrived).unwrap() {
                read.push(reply);
            }
            assert_eq!(read[..], answers[..read.len()], "cut after {cut}");
            arrived.extend_from_slice(&wire[cut..]);
            while let Some(reply) = take(&mut arrived).unwrap() {
                read.push(reply);
            }
            assert_eq!(read, answers, "cut after {cut}");
        }
    }

    #[test]
    fn what_is_no_answer_is_not_read() {
        for wire in
            ["HTTP/1.1 400\r\n", "$x\r\n", "$-2\r\n", ":1\rx", "$2\r\nabc\r\n", "*9999999\r\n"]
        {
            assert_eq!(all(wire.as_bytes()), Err(Malformed), "{wire}");
        }
        let deep = "*1\r\n".repeat(DEPTH_MAX + 1);
        assert_eq!(all(deep.as_bytes()), Err(Malformed));
    }
}
