//! The host that a request is for, in one form.

use axum::http::{HeaderName, Uri, header, request::Parts};

use crate::ResolveError;

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// RFC 1035, section 2.3.4.
const LONGEST_NAME: usize = 253;

/// A host without its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// A domain name in lower case, with internationalised labels in their ASCII form and without a dot at the end.
    Name(String),
    /// An address, which names no tenant.
    Address,
}

impl Host {
    /// The host of a request. `forwarded`: the other end is a proxy that is trusted to say it.
    pub(super) fn of(parts: &Parts, forwarded: bool) -> Result<Option<Self>, ResolveError> {
        if forwarded && let Some(host) = only(parts, &X_FORWARDED_HOST, "X-Forwarded-Host header")? {
            return parse(host, "X-Forwarded-Host header").map(Some);
        }
        let from_header = match only(parts, &header::HOST, "Host header")? {
            Some(host) => Some(parse(host, "Host header")?),
            None => None,
        };
        let from_uri = match parts.uri.authority() {
            Some(authority) => Some(parse(authority.as_str(), "authority")?),
            None => None,
        };
        match (from_uri, from_header) {
            // Whoever stands in front may have looked at the other one.
            (Some(uri), Some(header)) if uri != header => {
                Err(malformed("Host header", "it differs from the authority"))
            }
            (uri, header) => Ok(uri.or(header)),
        }
    }
}

/// The one value of a header. Two are refused: who stands in front may have looked at the other one.
pub(super) fn only<'p>(
    parts: &'p Parts,
    name: &HeaderName,
    part: &'static str,
) -> Result<Option<&'p str>, ResolveError> {
    let mut values = parts.headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| malformed(part, "it is not plain text")),
        (Some(_), Some(_)) => Err(malformed(part, "it is there more than once")),
    }
}

fn parse(text: &str, part: &'static str) -> Result<Host, ResolveError> {
    // A library that reads URLs decodes `%61`, which no server in front does.
    if text.is_empty() || text.contains(['%', '@', '/', ',', '?', '#', '\\']) || text.contains(char::is_whitespace) {
        return Err(malformed(part, "it is no host"));
    }
    let host = match text.rsplit_once(':') {
        _ if text.ends_with(']') => text,
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) => return Err(malformed(part, "its port is no number")),
        None => text,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    match url::Host::parse(host) {
        Ok(url::Host::Domain(name)) if name.len() <= LONGEST_NAME && !name.ends_with('.') => Ok(Host::Name(name)),
        Ok(url::Host::Domain(_)) | Err(_) => Err(malformed(part, "it is no host")),
        Ok(url::Host::Ipv4(_) | url::Host::Ipv6(_)) => Ok(Host::Address),
    }
}

/// A domain name that the application gave, in the form of [`Host::Name`].
pub(super) fn domain(text: &str) -> Option<String> {
    match parse(text, "domain") {
        Ok(Host::Name(name)) if !text.contains(':') => Some(name),
        _ => None,
    }
}

fn malformed(part: &'static str, reason: &'static str) -> ResolveError {
    ResolveError::Malformed { part, reason }
}

/// The path that the client sent, also within a nested router, which sees a part of it.
pub(super) fn original_uri(parts: &Parts) -> &Uri {
    parts.extensions.get::<axum::extract::OriginalUri>().map_or(&parts.uri, |original| &original.0)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;
    use axum::http::Request;

    fn name(text: &str) -> Option<Host> {
        parse(text, "Host header").ok()
    }

    #[test]
    fn a_host_has_one_form() {
        let acme = Some(Host::Name("acme.example.com".to_owned()));
        for text in [
            "acme.example.com",
            "ACME.Example.COM",
            "acme.example.com.",
            "acme.example.com:8080",
            "acme.example.com.:80",
            "acme.example.com:",
        ] {
            assert_eq!(name(text), acme, "{text}");
        }
        assert_eq!(name("MÜNCHEN.example"), Some(Host::Name("xn--mnchen-3ya.example".to_owned())));
        assert_eq!(name("xn--Mnchen-3ya.example"), Some(Host::Name("xn--mnchen-3ya.example".to_owned())));
        for address in ["192.0.2.1", "192.0.2.1:80", "[2001:db8::1]", "[2001:db8::1]:80", "0x7f.1"] {
            assert_eq!(name(address), Some(Host::Address), "{address}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = format!("{}.example", "a.".repeat(130));
        for text in [
            "",
            ".",
            "..",
            "acme.example.com..",
            "%61cme.example.com",
            "user@acme.example.com",
            "acme.example.com/x",
            "acme.example.com, globex.example.com",
            "acme example",
            "acme:http",
            "acme:80:80",
            "2001:db8::1",
            "[::1",
            "acme.example.com\\",
            "a<b",
            "xn--a",
            long.as_str(),
        ] {
            assert_eq!(name(text), None, "{text}");
        }
    }

    #[test]
    fn two_hosts_are_refused() {
        let of = |request: axum::http::request::Builder| Host::of(&request.body(()).unwrap().into_parts().0, false);
        let uri = "http://acme.example.com/x";
        assert!(of(Request::get(uri).header("host", "globex.example.com")).is_err());
        assert!(of(Request::get("/").header("host", "a.example").header("host", "a.example")).is_err());
        assert_eq!(of(Request::get(uri).header("host", "ACME.example.com:80")).unwrap(), name("acme.example.com"));
        assert_eq!(of(Request::get(uri)).unwrap(), name("acme.example.com"), "as HTTP/2 says it");
        assert_eq!(of(Request::get("/")).unwrap(), None);
    }

    #[test]
    fn a_forwarded_host_counts_only_from_a_trusted_proxy() {
        let request = Request::get("/").header("host", "acme.example").header("x-forwarded-host", "globex.example");
        let parts = request.body(()).unwrap().into_parts().0;
        assert_eq!(Host::of(&parts, false).unwrap(), name("acme.example"));
        assert_eq!(Host::of(&parts, true).unwrap(), name("globex.example"));
    }
}
