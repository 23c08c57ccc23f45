//! Which hosts may be asked, for servers that ask on behalf of strangers.
//!
//! Hosts that were named may be anywhere. All others, to which a registry redirects, which it names as its token
//! service, or which a layer names as its home, must have public addresses. What counts is the address at the moment
//! of connecting: names are resolved here, and nothing else is connected to.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::reference::RegistryHost;

/// Which hosts may be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// All.
    #[default]
    Anywhere,
    /// These, and whatever they lead to that has a public address.
    Public(BTreeSet<RegistryHost>),
}

/// A host that was not named and has no public address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` has no public address and was not allowed")]
pub struct NotPublic(pub(super) String);

impl NotPublic {
    pub(in super::super) fn hint() -> String {
        "if it may be asked, allow it by its name with `--allow-registry`".to_owned()
    }
}

/// How a host is found.
pub(super) enum Way {
    /// As the system does.
    Usual,
    /// Only if it is public, and by no proxy, which would look for itself.
    Checked,
}

impl Reach {
    /// How `host` may be found.
    pub(super) fn way_to(&self, host: &RegistryHost) -> Result<Way, NotPublic> {
        match self {
            Self::Public(named) if !named.contains(host) => {
                // An address is connected to without being looked up.
                match host.name().parse::<IpAddr>() {
                    Ok(address) if !is_public(address) => Err(NotPublic(host.to_string())),
                    _ => Ok(Way::Checked),
                }
            }
            Self::Anywhere | Self::Public(_) => Ok(Way::Usual),
        }
    }
}

/// Looks names up, and gives their public addresses only.
pub(super) struct PublicOnly;

impl PublicOnly {
    pub(super) fn shared() -> Arc<Self> {
        Arc::new(Self)
    }
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|found| is_public(found.ip())).collect();
            if public.is_empty() {
                return Err(NotPublic(name.as_str().to_owned()).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Whether an address belongs to somebody on the Internet (IANA's special-purpose address registries).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let is_special = match first {
        0 | 10 | 127 | 224.. => true,
        100 => (64..128).contains(&second),
        169 => second == 254,
        172 => (16..32).contains(&second),
        192 => {
            second == 168 || second == 0 && matches!(third, 0 | 2) || second == 88 && third == 99
        }
        198 => matches!((second, third), (18 | 19, _) | (51, 100)),
        203 => (second, third) == (0, 113),
        _ => false,
    };
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let [first, second, .., high, low] = address.segments();
    // RFC 6052: the IPv4 address behind a translator.
    if address.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    // Of all others only 2000::/3 is given out, and not all of that: 2001::/23 are protocols, 2002::/16 is 6to4.
    let is_special = match first {
        0x2001 => second < 0x200 || second == 0xdb8,
        0x2002 => true,
        0x3fff => second < 0x1000,
        _ => false,
    };
    first & 0xe000 == 0x2000 && !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for (address, expected) in [
            ("1.1.1.1", true),
            ("104.18.121.25", true),
            ("100.63.0.1", true),
            ("172.32.0.1", true),
            ("192.0.1.1", true),
            ("2606:4700::6810:85e5", true),
            ("2001:4860:4860::8888", true),
            ("64:ff9b::101:101", true),
            ("::ffff:1.1.1.1", true),
            ("0.0.0.0", false),
            ("10.0.0.1", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.0.0.8", false),
            ("192.0.2.1", false),
            ("192.88.99.1", false),
            ("192.168.1.1", false),
            ("198.19.0.1", false),
            ("198.51.100.1", false),
            ("203.0.113.1", false),
            ("224.0.0.1", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::7f00:1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:169.254.169.254", false),
            ("64:ff9b::a00:1", false),
            ("64:ff9b:1::101:101", false),
            ("100::1", false),
            ("2001::1", false),
            ("2001:db8::1", false),
            ("2002:7f00:1::", false),
            ("3fff::1", false),
            ("fc00::1", false),
            ("fd12::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            let found = is_public(address.parse().expect("an address"));
            assert_eq!(found, expected, "{address}");
        }
    }

    #[test]
    fn hosts_that_were_named_may_be_anywhere_and_others_not() {
        let host = |text: &str| text.parse::<RegistryHost>().expect("a host");
        let reach = Reach::Public(BTreeSet::from([host("127.0.0.1:5000"), host("docker.io")]));
        for (name, expected) in [
            ("127.0.0.1:5000", Some("usual")),
            ("registry-1.docker.io", Some("usual")),
            ("127.0.0.1:6000", None),
            ("127.0.0.1", None),
            ("[::1]:5000", None),
            ("[::ffff:10.0.0.1]", None),
            ("1.1.1.1", Some("checked")),
            ("localhost:5000", Some("checked")),
            ("cdn.example", Some("checked")),
        ] {
            let found = match reach.way_to(&host(name)) {
                Ok(Way::Usual) => Some("usual"),
                Ok(Way::Checked) => Some("checked"),
                Err(NotPublic(_)) => None,
            };
            assert_eq!(found, expected, "{name}");
            assert!(matches!(Reach::Anywhere.way_to(&host(name)), Ok(Way::Usual)), "{name}");
        }
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_not_resolved() {
        let error = PublicOnly.resolve("localhost".parse().expect("a name")).await;
        let error = error.err().expect("refused");
        assert!(error.is::<NotPublic>(), "{error}");
    }
}
