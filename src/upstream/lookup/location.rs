//! Where an accepted operation says it can be asked about, if that is a place of the upstream's.
//!
//! A `Location` is the provider's word, and a provider can be wrong or lied to: only the upstream's
//! own origin is believed, and only path and query are taken of it.

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use super::asking::check_path;
use crate::upstream::settings::UpstreamUrl;

/// The longest `Location` that is followed, in bytes.
const LOCATION_BYTES_MAX: usize = 2048;

/// The path and query that this `Location` names below the upstream's base.
///
/// # Errors
/// Why it is not followed; never with a part of it.
pub fn within(url: &UpstreamUrl, location: &[u8]) -> Result<String, String> {
    let refused = |why: &str| format!("its Location is not followed: {why}");
    if location.len() > LOCATION_BYTES_MAX {
        return Err(refused("it is too long"));
    }
    // Visible ASCII only, as in every URI.
    let text = std::str::from_utf8(location).ok().filter(|text| {
        HeaderValue::from_str(text).is_ok() && text.bytes().all(|byte| byte.is_ascii_graphic())
    });
    let text = text.ok_or_else(|| refused("it is no URL"))?;
    let text = text.split_once('#').map_or(text, |(text, _fragment)| text);
    let target = if text.starts_with('/') && !text.starts_with("//") {
        text.parse::<PathAndQuery>().map_err(|_| refused("it is no URL"))?
    } else {
        let uri: Uri = text.parse().map_err(|_| refused("it is no URL"))?;
        if uri.scheme().is_none() {
            return Err(refused("it is relative, or names a host without a scheme"));
        }
        if !is_same_origin(url, &uri) {
            return Err(refused("it leads to another origin"));
        }
        uri.path_and_query().cloned().ok_or_else(|| refused("it is no URL"))?
    };
    let below = target.as_str().strip_prefix(url.base()).filter(|below| below.starts_with('/'));
    let below = below.ok_or_else(|| refused("it is outside the upstream's base path"))?;
    let (path, _) = below.split_once('?').unwrap_or((below, ""));
    check_path(path).map_err(|why| refused(&why))?;
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    if decoded.split(['/', '\\']).any(|segment| segment == "." || segment == "..") {
        return Err(refused("path: a segment is . or .."));
    }
    Ok(below.to_owned())
}

fn is_same_origin(url: &UpstreamUrl, uri: &Uri) -> bool {
    let scheme = if url.is_encrypted() { Scheme::HTTPS } else { Scheme::HTTP };
    let Some(authority) = uri.authority() else { return false };
    let port = match authority.port_u16() {
        Some(port) => Some(port),
        None if authority.as_str().len() > authority.host().len() => None,
        None if url.is_encrypted() => Some(443),
        None => Some(80),
    };
    let host = authority.host().trim_matches(['[', ']']);
    uri.scheme() == Some(&scheme)
        && !authority.as_str().contains('@')
        && host.eq_ignore_ascii_case(url.host())
        && port == Some(url.port())
}
