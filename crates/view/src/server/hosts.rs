//! By which names a server on this machine is asked.
//!
//! A web page whose host name points at this machine (DNS rebinding) names that host in its requests, and a page of another
//! site or port names its origin: both are refused. Names are compared whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, StatusCode, header};

/// The hosts that are this server.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// The host that the server was asked to listen at.
    host: String,
    address: SocketAddr,
}

impl Hosts {
    /// Those of a server that was asked to listen at `host`, and listens at `address`.
    pub fn new(host: String, address: SocketAddr) -> Self {
        Self { host, address }
    }

    /// Why a request with these headers is refused, if it is: for the host that it names, or the page that it comes from.
    pub fn refusal(&self, headers: &HeaderMap) -> Option<(StatusCode, String)> {
        let Some(host) = only(headers, &header::HOST) else {
            return Some((StatusCode::BAD_REQUEST, "a request names one host".to_owned()));
        };
        if !self.is_own(host) {
            let (name, port) = (self.address.ip(), self.address.port());
            let why = format!(
                "this is not the host that the request names; it is {name}, port {port}. To reach it through another \
                 machine, forward the same port: ssh -L {port}:127.0.0.1:{port}"
            );
            return Some((StatusCode::FORBIDDEN, why));
        }
        Self::foreign(headers)
    }

    /// Why a request with these headers is refused, if it is, for the page that it comes from alone: it is not of the host that the
    /// request names.
    fn foreign(headers: &HeaderMap) -> Option<(StatusCode, String)> {
        let own = only(headers, &header::HOST).map(|host| format!("http://{host}"));
        let foreign =
            headers.contains_key(header::ORIGIN) && only(headers, &header::ORIGIN) != own.as_deref();
        foreign.then(|| (StatusCode::FORBIDDEN, "a page of another origin is not answered".to_owned()))
    }

    /// Whether a host, with its port, names this server: by an address, which no DNS answer can forge, as localhost, or by the
    /// host that it was asked to listen at.
    fn is_own(&self, named: &str) -> bool {
        let split = |text: &str| -> Option<(String, String)> {
            let (name, rest) = match text.strip_prefix('[') {
                Some(rest) => rest.split_once(']')?,
                None => text.find(':').map_or((text, ""), |colon| text.split_at(colon)),
            };
            let port = if rest.is_empty() { "80" } else { rest.strip_prefix(':')? };
            Some((name.to_ascii_lowercase(), port.to_owned()))
        };
        let Some((name, port)) = split(named) else { return false };
        if port != self.address.port().to_string() {
            return false;
        }
        let ip = if named.starts_with('[') {
            name.parse::<Ipv6Addr>().map(IpAddr::V6)
        } else {
            name.parse::<Ipv4Addr>().map(IpAddr::V4)
        };
        match ip {
            Ok(ip) => {
                let own = self.address.ip();
                own.is_unspecified() || ip == own || ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST
            }
            Err(_) if named.starts_with('[') => false,
            Err(_) => name == "localhost" || (!name.is_empty() && name.eq_ignore_ascii_case(&self.host)),
        }
    }
}

/// The value of a header that must be there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard_at(host: &str, address: &str) -> Hosts {
        Hosts::new(host.into(), address.parse().expect("an address"))
    }

    #[test]
    fn only_a_name_that_cannot_be_forged_is_a_host() {
        let guard = guard_at("box.example", "192.168.1.2:8383");
        for own in [
            "localhost",
            "LOCALHOST",
            "127.0.0.1",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "192.168.1.2",
            "box.example",
        ] {
            assert!(guard.is_own(&format!("{own}:8383")), "{own}");
            assert!(!guard.is_own(&format!("{own}:8384")) && !guard.is_own(own), "{own}: another port");
        }
        for other in [
            "evil.example",
            "localhost.evil.example",
            "evil-localhost",
            "localhost.",
            "127.0.0.1.evil.example",
            "127.0.0.1.",
            "127.0.0.2",
            "127.1",
            "2130706433",
            "0x7f000001",
            "192.168.1.3",
            "box.example.",
            "box.example.evil",
            "[::2]",
            "[::ffff:127.0.0.1]",
            "[::1",
            "[::1]evil",
            "[localhost]",
            "[127.0.0.1]",
            "::1",
            "user@localhost",
            "localhost:8383@evil.example",
            "",
            " ",
        ] {
            assert!(!guard.is_own(&format!("{other}:8383")), "{other}");
        }
        for odd in [
            "localhost:",
            "localhost:+8383",
            "localhost:08383",
            "localhost:8383:8383",
            "localhost:8383 ",
            ":8383",
        ] {
            assert!(!guard.is_own(odd), "{odd}");
        }
    }

    #[test]
    fn port_80_may_be_left_out() {
        let guard = guard_at("127.0.0.1", "127.0.0.1:80");
        assert!(guard.is_own("localhost") && guard.is_own("[::1]") && guard.is_own("127.0.0.1:80"));
        assert!(!guard.is_own("localhost:8383"));
    }

    #[test]
    fn who_listens_everywhere_is_named_by_any_address() {
        let guard = guard_at("0.0.0.0", "0.0.0.0:8383");
        assert!(
            guard.is_own("10.1.2.3:8383") && guard.is_own("[fe80::1]:8383") && guard.is_own("localhost:8383")
        );
        assert!(!guard.is_own("evil.example:8383") && !guard.is_own("10.1.2.3:80"));
    }
}
