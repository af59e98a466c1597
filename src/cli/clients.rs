//! The flags of `serve` about who asks: `--cookies`, `--rate-limit` and what begins so, `--allow` and `--deny`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use super::value::number;
use crate::config::{ConfigError, CookieSecrets};
use crate::serve::access::{Access, Network};
use crate::serve::limiter::{self, Limits};

/// What `private` stands for: addresses that no victim on the Internet has, and those from which cluster DNS asks.
/// RFC 1122 and RFC 4291 (loopback), RFC 1918, RFC 6598, RFC 3927 and RFC 4291 (link-local), RFC 4193.
const PRIVATE: [&str; 9] = [
    "127.0.0.0/8",
    "::1/128",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "fe80::/10",
    "fc00::/7",
];

#[derive(Args, Debug)]
pub(super) struct ClientArgs {
    /// Answer only clients in this network (10.0.0.0/8, 2001:db8::/32, or one address), and refuse all that are in none;
    /// the most specific network of --allow and --deny decides; repeatable
    #[arg(
        long,
        env = "GLOBALDNS_ALLOW",
        value_name = "NETWORK",
        value_delimiter = ',',
        help_heading = "Clients"
    )]
    allow: Vec<Network>,
    /// Refuse clients in this network, with REFUSED; repeatable
    #[arg(
        long,
        env = "GLOBALDNS_DENY",
        value_name = "NETWORK",
        value_delimiter = ',',
        help_heading = "Clients"
    )]
    deny: Vec<Network>,
    /// Answer DNS cookies (RFC 7873, RFC 9018): off, on
    #[arg(
        long,
        env = "GLOBALDNS_COOKIES",
        value_name = "SWITCH",
        value_enum,
        default_value = "off",
        help_heading = "Clients"
    )]
    cookies: Switch,
    /// Make cookies with the first secret in this file and check them with all: 32 hexadecimal digits a line, the same
    /// for every replica; followed when it changes [default: a random one for this process]
    #[arg(long, env = "GLOBALDNS_COOKIE_SECRET_FILE", value_name = "PATH", help_heading = "Clients")]
    cookie_secret_file: Option<PathBuf>,
    /// Replies over UDP a second for each network of clients, up to 500000; 0 is no limit. Cluster DNS asks for all pods
    /// from a few addresses: where these are not private, name them with --rate-limit-exempt, or names fail under load
    #[arg(
        long, env = "GLOBALDNS_RATE_LIMIT", value_name = "NUMBER", default_value_t = 0,
        value_parser = number::<u32>(0..=limiter::MOST), help_heading = "Clients"
    )]
    rate_limit: u32,
    /// Bits of an IPv4 address that make a network with --rate-limit
    #[arg(
        long, env = "GLOBALDNS_RATE_LIMIT_PREFIX_V4", value_name = "BITS", default_value_t = 24,
        value_parser = number::<u8>(1..=32), help_heading = "Clients"
    )]
    rate_limit_prefix_v4: u8,
    /// Bits of an IPv6 address that make a network with --rate-limit
    #[arg(
        long, env = "GLOBALDNS_RATE_LIMIT_PREFIX_V6", value_name = "BITS", default_value_t = 56,
        value_parser = number::<u8>(1..=128), help_heading = "Clients"
    )]
    rate_limit_prefix_v6: u8,
    /// Every n-th reply over --rate-limit is sent empty with TC, so that a real client asks over TCP, and the others
    /// are not sent; 1 is all of them, 0 none
    #[arg(
        long, env = "GLOBALDNS_RATE_LIMIT_SLIP", value_name = "NUMBER", default_value_t = 1,
        value_parser = number::<u32>(0..=limiter::SLOWEST_SLIP), help_heading = "Clients"
    )]
    rate_limit_slip: u32,
    /// Whom --rate-limit never concerns: a network, private (loopback, link-local, RFC 1918, RFC 6598, RFC 4193) or none;
    /// repeatable. A list of your own stands in the place of the default, so name private in it as well
    #[arg(
        long,
        env = "GLOBALDNS_RATE_LIMIT_EXEMPT",
        value_name = "NETWORK",
        value_delimiter = ',',
        default_value = "private",
        help_heading = "Clients"
    )]
    rate_limit_exempt: Vec<Exempt>,
}

/// What is there or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Switch {
    /// It is not.
    Off,
    /// It is.
    On,
}

/// `--rate-limit-exempt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exempt {
    None,
    Private,
    Network(Network),
}

impl FromStr for Exempt {
    type Err = String;

    fn from_str(text: &str) -> Result<Exempt, String> {
        match text {
            "none" => Ok(Exempt::None),
            "private" => Ok(Exempt::Private),
            _ => text.parse().map(Exempt::Network).map_err(|error| format!("{error}, private or none")),
        }
    }
}

/// What the flags say.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) cookies: Option<CookieSecrets>,
    pub(super) rate_limit: Option<Limits>,
    pub(super) access: Option<Access>,
}

impl ClientArgs {
    pub(super) fn config(self) -> Result<Clients, ConfigError> {
        let cookies = match (self.cookies, self.cookie_secret_file) {
            (Switch::Off, None) => None,
            (Switch::Off, Some(path)) => {
                return Err(ConfigError(format!(
                    "--cookie-secret-file {} is of no use while --cookies is off; add --cookies on, or leave the file out",
                    path.display()
                )));
            }
            (Switch::On, None) => Some(CookieSecrets::Random),
            (Switch::On, Some(path)) => Some(CookieSecrets::File(path)),
        };
        let access = Access::new(&self.allow, &self.deny);
        if access.as_ref().is_some_and(Access::is_empty) {
            return Err(ConfigError(
                "--allow and --deny leave no address that may ask, and nobody would be answered; allow a network that is \
                 not denied, or take one out of --deny"
                    .to_owned(),
            ));
        }
        for network in self.allow.iter().filter(|network| self.deny.contains(network)) {
            tracing::warn!(%network, "--allow and --deny name the same network; it is denied");
        }
        let exempt = exempt(&self.rate_limit_exempt)?;
        let rate_limit = (self.rate_limit > 0).then_some(Limits {
            rate: self.rate_limit,
            prefix_v4: self.rate_limit_prefix_v4,
            prefix_v6: self.rate_limit_prefix_v6,
            slip: self.rate_limit_slip,
            exempt,
        });
        if rate_limit.is_some() && !self.rate_limit_exempt.contains(&Exempt::Private) {
            tracing::warn!(
                "--rate-limit concerns private addresses, too; cluster DNS asks for all pods from a few addresses, and \
                 has to be in --rate-limit-exempt"
            );
        }
        Ok(Clients { cookies, rate_limit, access })
    }
}

fn exempt(listed: &[Exempt]) -> Result<Access, ConfigError> {
    if listed.contains(&Exempt::None) && listed.iter().any(|exempt| *exempt != Exempt::None) {
        return Err(ConfigError(
            "--rate-limit-exempt none cannot stand beside a network; name one or the other".to_owned(),
        ));
    }
    let mut networks = Vec::new();
    for exempt in listed {
        match exempt {
            Exempt::None => {}
            Exempt::Private => {
                networks.extend(PRIVATE.iter().filter_map(|text| text.parse::<Network>().ok()))
            }
            Exempt::Network(network) => networks.push(*network),
        }
    }
    Ok(Access::only(&networks))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [D20]
    #[test]
    fn private_is_where_cluster_dns_asks_from_and_none_is_nobody() {
        let exempt = |texts: &[&str]| {
            let listed: Vec<Exempt> = texts.iter().map(|text| text.parse().expect(text)).collect();
            exempt(&listed)
        };
        let cases = [
            ("127.0.0.1", true),
            ("::1", true),
            ("10.244.1.7", true),
            ("172.31.255.255", true),
            ("192.168.1.1", true),
            ("100.127.0.1", true),
            ("169.254.20.10", true),
            ("fe80::1", true),
            ("fd00:10:244::5", true),
            ("172.32.0.0", false),
            ("100.128.0.0", false),
            ("203.0.113.1", false),
            ("2001:db8::1", false),
        ];
        let (private, none) = (exempt(&["private"]).expect("a list"), exempt(&["none"]).expect("a list"));
        let more = exempt(&["private", "203.0.113.0/24"]).expect("a list");
        for (address, expected) in cases {
            let address = address.parse().expect(address);
            assert_eq!(private.allows(address), expected, "{address}");
            assert!(!none.allows(address), "{address}");
        }
        assert!(
            more.allows("203.0.113.1".parse().expect("valid"))
                && !more.allows("203.0.112.1".parse().expect("valid"))
        );
        assert!(exempt(&["none", "private"]).is_err());
        assert!("10.0.0.1/8".parse::<Exempt>().expect_err("host bits").contains("write 10.0.0.0/8"));
    }
}
