//! URLs in one form, so that one page has one; hosts; registered domains.

use std::fmt::Write as _;

use url::Url;

/// Query parameters that say where a visitor came from and never what the page is. Those that end in `*` are prefixes.
pub const TRACKING: &[&str] = &[
    "utm_*",
    "fbclid",
    "gclid",
    "gclsrc",
    "dclid",
    "gbraid",
    "wbraid",
    "msclkid",
    "yclid",
    "twclid",
    "igshid",
    "mc_cid",
    "mc_eid",
    "_ga",
    "_gl",
    "_hsenc",
    "_hsmi",
    "mkt_tok",
    "vero_id",
    "oly_enc_id",
    "oly_anon_id",
    "wickedid",
    "ref_src",
    "ref_url",
    "spm",
    "scm",
    "phpsessid",
    "jsessionid",
    "aspsessionid*",
    "sessionid",
];

/// What an URL says of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The URL in one form: what two captures of one page share.
    pub normal: String,
    /// The host, in lower case and punycode; nothing if the URL has none.
    pub host: String,
}

impl Address {
    /// Of an URL as a crawl has it. What is no URL is its own normal form and has no host.
    ///
    /// Scheme and host in lower case, no default port, no dot at the host's end, no fragment, dot segments resolved, octets
    /// that need no escape unescaped and other escapes in upper case, no parameters of [`TRACKING`]; the order of the others
    /// is kept, because for many servers it matters.
    pub fn of(url: &str) -> Self {
        let raw = bare(url);
        let parsed = Url::parse(raw).or_else(|error| match error {
            url::ParseError::RelativeUrlWithoutBase => Url::parse(&format!("http://{raw}")),
            other => Err(other),
        });
        let Some(mut parsed) = parsed.ok().filter(Url::has_host) else {
            return Self { normal: raw.to_owned(), host: String::new() };
        };
        parsed.set_fragment(None);
        if let Some(host) = parsed.host_str().and_then(|host| host.strip_suffix('.')).map(str::to_owned) {
            let _ = parsed.set_host(Some(&host)); // a host that can't be without its dot keeps it
        }
        let path = without_session(&unescaped(parsed.path()));
        parsed.set_path(&path);
        let query = parsed.query().map(|query| {
            let kept: Vec<&str> =
                query.split('&').filter(|part| !part.is_empty() && !is_tracking(part)).collect();
            unescaped(&kept.join("&"))
        });
        parsed.set_query(query.as_deref().filter(|query| !query.is_empty()));
        let host = parsed.host_str().unwrap_or_default().to_owned();
        Self { normal: parsed.into(), host }
    }

    /// The registered domain of the host: `x.ac.uk` of `www.x.ac.uk`, `a.github.io` of itself; the host itself where the
    /// public suffix list knows none.
    pub fn domain(&self) -> &str {
        domain(&self.host)
    }

    /// 128 bits that stand for the URL in exchanges.
    pub fn key(&self) -> u128 {
        xxhash_rust::xxh3::xxh3_128(self.normal.as_bytes())
    }
}

/// The registered domain of a host in lower case; see [`Address::domain`].
pub fn domain(host: &str) -> &str {
    let is_number = host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok();
    if is_number { host } else { psl::domain_str(host).unwrap_or(host) }
}

/// An URL without blanks around it, and without the angle brackets that wget writes around it.
pub fn bare(url: &str) -> &str {
    let url = url.trim();
    url.strip_prefix('<').and_then(|url| url.strip_suffix('>')).unwrap_or(url).trim()
}

fn is_tracking(parameter: &str) -> bool {
    let name = parameter.split('=').next().unwrap_or_default();
    let is = |known: &&str| match known.strip_suffix('*') {
        Some(prefix) => name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix)),
        None => name.eq_ignore_ascii_case(known),
    };
    TRACKING.iter().any(is)
}

/// A path without the session that Java servers put behind a semicolon.
fn without_session(path: &str) -> String {
    const SESSION: &str = ";jsessionid=";
    let Some(at) = path.to_ascii_lowercase().find(SESSION) else { return path.to_owned() };
    let rest = &path[at + SESSION.len()..];
    let end = rest.find(['/', ';']).map_or("", |end| &rest[end..]);
    format!("{}{end}", &path[..at])
}

/// Escapes of unreserved characters (RFC 3986, section 2.3) undone, the others in upper case.
fn unescaped(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let octet = rest.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match octet {
            Some(octet) if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) => {
                out.push(octet as char);
            }
            Some(octet) => {
                let _ = write!(out, "%{octet:02X}"); // a String takes all
            }
            None => {
                out.push('%');
                rest = &rest[at + 1..];
                continue;
            }
        }
        rest = &rest[at + 3..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_page_has_one_url() {
        for (given, wanted) in [
            (
                "http://Example.COM:80/a/./b/../c?x=1&utm_source=feed3&y=2&utm_medium=rss#top",
                "http://example.com/a/c?x=1&y=2",
            ),
            ("https://example.com:443", "https://example.com/"),
            ("https://example.com.:8443/", "https://example.com:8443/"),
            ("<http://example.com/a b>", "http://example.com/a%20b"),
            ("http://example.com/?fbclid=1", "http://example.com/"),
            ("http://example.com/?", "http://example.com/"),
            ("http://example.com/%7euser/%c3%a9%2F?q=%41", "http://example.com/~user/%C3%A9%2F?q=A"),
            ("http://example.com/?b=1&a=2", "http://example.com/?b=1&a=2"),
            ("http://example.com/?UTM_Campaign=x&id=7", "http://example.com/?id=7"),
            ("http://example.com/a;jsessionid=AB12?id=7", "http://example.com/a?id=7"),
            ("http://example.com/?reference=1&utmost=2&%zz", "http://example.com/?reference=1&utmost=2&%zz"),
            ("example.com/a", "http://example.com/a"),
            ("urn:isbn:3", "urn:isbn:3"),
            ("", ""),
        ] {
            assert_eq!(Address::of(given).normal, wanted, "{given}");
            let again = Address::of(wanted);
            assert_eq!(again.normal, wanted, "the normal form is its own");
        }
    }

    #[test]
    fn domains_are_what_one_can_register() {
        for (url, host, domain) in [
            ("http://www.maths.x.ac.uk/a", "www.maths.x.ac.uk", "x.ac.uk"),
            ("http://A.github.io/", "a.github.io", "a.github.io"),
            ("http://b.github.io/", "b.github.io", "b.github.io"),
            ("http://192.0.2.7:8080/", "192.0.2.7", "192.0.2.7"),
            ("http://[2001:db8::1]/", "[2001:db8::1]", "[2001:db8::1]"),
            ("http://localhost/", "localhost", "localhost"),
            ("http://Bücher.example/", "xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("mailto:a@b.c", "", ""),
        ] {
            let address = Address::of(url);
            assert_eq!((&*address.host, address.domain()), (host, domain), "{url}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_a_normal_form_that_is_its_own(text in "\\PC{0,60}", tail in "[a-z%?&=#/.;0-9]{0,40}") {
            for url in [text.clone(), format!("http://e.com/{tail}"), format!("http://e.com/{text}?{tail}")] {
                let once = Address::of(&url);
                proptest::prop_assert_eq!(&Address::of(&once.normal).normal, &once.normal);
                let _ = once.domain();
            }
        }
    }
}
