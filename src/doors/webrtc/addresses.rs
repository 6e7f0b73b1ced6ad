//! At which addresses peers can reach us, as an answer lists them.

use std::net::{IpAddr, SocketAddr};

/// Most addresses in an answer: each costs a peer checks.
const MAX: usize = 8;

/// What is said of addresses in the configuration.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    /// Where the socket is bound.
    pub bound: SocketAddr,
    /// `webrtc.public_addresses`; they are all that is said when there are any.
    pub public: Vec<SocketAddr>,
}

impl Addresses {
    /// The candidates for a client that reached us at `reached`.
    pub(super) fn candidates(&self, reached: IpAddr) -> Vec<SocketAddr> {
        if !self.public.is_empty() {
            return self.public.iter().take(MAX).copied().collect();
        }
        if !self.bound.ip().is_unspecified() {
            return vec![self.bound];
        }
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        listed(self.bound, reached.to_canonical(), interfaces.iter().map(if_addrs::Interface::ip))
    }
}

/// The address that the client reached comes first: it works for that client at least.
fn listed(bound: SocketAddr, reached: IpAddr, interfaces: impl Iterator<Item = IpAddr>) -> Vec<SocketAddr> {
    let mut listed: Vec<IpAddr> = vec![reached];
    for ip in interfaces {
        let link_local = match ip {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        // Loopback is of use to those only who came by it.
        if !ip.is_unspecified() && !link_local && (!ip.is_loopback() || reached.is_loopback()) && !listed.contains(&ip)
        {
            listed.push(ip);
        }
    }
    listed.retain(|ip| ip.is_ipv4() || bound.is_ipv6());
    listed.truncate(MAX);
    listed.into_iter().map(|ip| SocketAddr::new(ip, bound.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bound: &str, reached: &str, interfaces: &[&str], expected: &[&str]) {
        let ip = |text: &&str| text.parse::<IpAddr>().expect("an address");
        let listed = listed(bound.parse().expect("an address"), ip(&reached), interfaces.iter().map(ip));
        assert_eq!(listed.iter().map(SocketAddr::to_string).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_address_that_was_reached_comes_first() {
        let interfaces = ["127.0.0.1", "::1", "192.0.2.7", "198.51.100.9", "169.254.3.4", "fe80::1"];
        check("0.0.0.0:8189", "198.51.100.9", &interfaces, &["198.51.100.9:8189", "192.0.2.7:8189"]);
        check("0.0.0.0:8189", "127.0.0.1", &interfaces, &["127.0.0.1:8189", "192.0.2.7:8189", "198.51.100.9:8189"]);
        check("[::]:9", "192.0.2.7", &interfaces[1..4], &["192.0.2.7:9", "198.51.100.9:9"]);
    }

    #[test]
    fn what_is_configured_is_all_that_is_said() {
        let public = vec!["203.0.113.5:8189".parse().expect("an address")];
        let addresses = Addresses { bound: "0.0.0.0:8189".parse().expect("an address"), public: public.clone() };
        assert_eq!(addresses.candidates("10.0.0.1".parse().expect("an address")), public);
    }
}
