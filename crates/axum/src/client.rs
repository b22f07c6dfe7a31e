//! Where a request comes from: the address of the connection, or what a trusted proxy says of it.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::ConnectInfo,
    http::{HeaderMap, HeaderName, header, request::Parts},
};
use ipnet::IpNet;

use crate::SetupError;

/// The header in which the proxies in front of the application say where a request came from. One of the two: a header that no
/// proxy writes is the client's to invent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For: client, proxy`.
    #[default]
    XForwardedFor,
    /// `Forwarded: for=client;proto=https` (RFC 7239).
    Forwarded,
}

/// The proxies whose word is taken. Default: none, and every forwarding header is disregarded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    header: ForwardedHeader,
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// More text than any browser's name has; what is longer is cut.
const LONGEST_USER_AGENT: usize = 512;

impl TrustedProxies {
    /// Trusts the proxies of these addresses and networks: `10.0.0.0/8`, `::1`. Only who can never be a client belongs here.
    ///
    /// # Errors
    /// [`SetupError::Proxy`] with the first one that is neither.
    pub fn new<'a>(networks: impl IntoIterator<Item = &'a str>) -> Result<Self, SetupError> {
        let parse = |text: &str| {
            let address = || text.parse::<IpAddr>().map(IpNet::from);
            text.parse().or_else(|_| address()).map_err(|_| SetupError::Proxy { given: text.to_owned() })
        };
        let networks = networks.into_iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { networks, header: ForwardedHeader::default() })
    }

    /// Reads the client's address from this header.
    #[must_use]
    pub fn header(mut self, header: ForwardedHeader) -> Self {
        self.header = header;
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Whether the other end of the connection is a trusted proxy.
    pub(crate) fn trusts_peer(&self, parts: &Parts) -> bool {
        peer(parts).is_some_and(|peer| self.trusts(peer))
    }

    /// The client's address: the last hop that no trusted proxy is. Each proxy adds whom it was called by, so that everything to
    /// the left of an untrusted hop may be invented.
    pub(crate) fn client(&self, parts: &Parts) -> Option<IpAddr> {
        let mut client = peer(parts)?;
        for hop in self.hops(&parts.headers).into_iter().rev() {
            if !self.trusts(client) {
                break;
            }
            // What cannot be read leads nowhere: the proxy that wrote it is as far as is known.
            let Some(hop) = hop else { break };
            client = hop;
        }
        Some(client)
    }

    /// The hops as the header has them, the client's own claim first.
    fn hops(&self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        let (name, read): (_, fn(&str) -> Option<IpAddr>) = match self.header {
            ForwardedHeader::XForwardedFor => (&X_FORWARDED_FOR, address),
            ForwardedHeader::Forwarded => (&header::FORWARDED, forwarded_for),
        };
        let lines = headers.get_all(name).iter();
        lines.flat_map(|line| line.to_str().unwrap_or("?").split(',').map(|hop| read(hop.trim()))).collect()
    }
}

/// The other end of the connection. Known where the application was served with `into_make_service_with_connect_info`.
fn peer(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip().to_canonical())
}

/// The client's name for itself, as the log keeps it.
pub(crate) fn user_agent(headers: &HeaderMap) -> Option<String> {
    let text = String::from_utf8_lossy(headers.get(header::USER_AGENT)?.as_bytes());
    let plain = text.chars().filter(|character| !character.is_control()).take(LONGEST_USER_AGENT);
    Some(plain.collect::<String>()).filter(|text| !text.is_empty())
}

/// One `for=` of RFC 7239, section 6: an address, in quotes where it has colons, with or without a port.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let named = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"').to_owned())
    };
    address(&element.split(';').find_map(named)?)
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text).parse().ok();
    let address = text.parse::<SocketAddr>().map(|address| address.ip()).ok().or_else(bare);
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;
    use axum::http::Request;

    fn parts(peer: &str, name: &str, lines: &[&str]) -> Parts {
        let mut request = Request::builder();
        for line in lines {
            request = request.header(name, *line);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        parts.extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 4711)));
        parts
    }

    fn client(proxies: &TrustedProxies, peer: &str, name: &str, lines: &[&str]) -> String {
        proxies.client(&parts(peer, name, lines)).unwrap().to_string()
    }

    #[test]
    fn without_trusted_proxies_every_header_is_the_clients_invention() {
        let none = TrustedProxies::default();
        assert_eq!(client(&none, "192.0.2.9", "x-forwarded-for", &["203.0.113.1"]), "192.0.2.9");
        assert_eq!(client(&none, "::ffff:192.0.2.9", "forwarded", &["for=203.0.113.1"]), "192.0.2.9");
        let elsewhere = TrustedProxies::new(["10.0.0.0/8"]).unwrap();
        assert_eq!(client(&elsewhere, "192.0.2.9", "x-forwarded-for", &["203.0.113.1"]), "192.0.2.9");
        assert!(none.client(&Request::new(()).into_parts().0).is_none(), "no connection is known");
    }

    #[test]
    fn the_last_hop_outside_the_proxies_is_the_client() {
        let proxies = TrustedProxies::new(["10.0.0.0/8", "::1"]).unwrap();
        let read = |lines: &[&str]| client(&proxies, "10.0.0.1", "x-forwarded-for", lines);
        assert_eq!(read(&["203.0.113.1"]), "203.0.113.1");
        assert_eq!(read(&["198.51.100.7, 203.0.113.1, 10.0.0.2"]), "203.0.113.1", "the first is invented");
        assert_eq!(read(&["198.51.100.7", "203.0.113.1"]), "203.0.113.1", "two lines are one list");
        assert_eq!(read(&["198.51.100.7, nonsense, 10.0.0.2"]), "10.0.0.2", "what cannot be read leads nowhere");
        assert_eq!(read(&["[2001:db8::1]:443"]), "2001:db8::1");
        assert_eq!(read(&[]), "10.0.0.1");
        assert_eq!(client(&proxies, "::1", "forwarded", &["for=203.0.113.1"]), "::1", "the other header is not read");
    }

    #[test]
    fn the_standard_header_is_read_where_it_is_the_one() {
        let proxies = TrustedProxies::new(["10.0.0.1"]).unwrap().header(ForwardedHeader::Forwarded);
        let read = |line: &str| client(&proxies, "10.0.0.1", "forwarded", &[line]);
        assert_eq!(read("for=192.0.2.43;proto=http;by=203.0.113.43"), "192.0.2.43");
        assert_eq!(read(r#"proto=https;For="[2001:db8:cafe::17]:4711""#), "2001:db8:cafe::17");
        assert_eq!(read("for=198.51.100.1, for=192.0.2.43:80"), "192.0.2.43");
        for unknown in ["for=unknown", "for=_hidden", "by=10.0.0.1", ""] {
            assert_eq!(read(unknown), "10.0.0.1", "{unknown}");
        }
    }

    #[test]
    fn a_proxy_that_is_no_network_is_named() {
        let error = TrustedProxies::new(["10.0.0.0/8", "proxy.internal"]).unwrap_err();
        assert_eq!(error, SetupError::Proxy { given: "proxy.internal".to_owned() });
    }

    #[test]
    fn a_user_agent_is_cut_and_plain() {
        let mut headers = HeaderMap::new();
        assert_eq!(user_agent(&headers), None);
        let long = format!("a\t{}", "b".repeat(9_000));
        headers.insert(header::USER_AGENT, long.parse().unwrap());
        let kept = user_agent(&headers).unwrap();
        assert!(kept.starts_with("abb") && kept.len() == LONGEST_USER_AGENT, "{}", kept.len());
    }
}
