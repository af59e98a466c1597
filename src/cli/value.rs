//! Values of flags, and what is said of one that is none.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::entry;

/// A whole number in a range.
pub(super) fn number<T>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("write a whole number from {} to {}", range.start(), range.end()))
    }
}

/// What a variable of a flag without a value may hold.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// One address.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| match entry::network(text) {
        Some(net) => format!("it is a network; write one address, such as {}", net.addr()),
        None => "write an IP address such as 10.96.0.53 or fd00::35".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [X0]
    #[test]
    fn a_bad_value_is_told_what_to_write() {
        let ttl = number(1..=3600_u32);
        assert_eq!(ttl("3600"), Ok(3600));
        for bad in ["0", "3601", "-1", "abc", "", "4294967296"] {
            assert_eq!(ttl(bad).expect_err(bad), "write a whole number from 1 to 3600");
        }
        assert_eq!((switch("ON"), switch("0")), (Ok(true), Ok(false)));
        assert!(switch("maybe").is_err() && switch("").is_err());
        assert!(address("fd00::35").is_ok());
        assert_eq!(
            address("1.1.1.0/24").expect_err("a network"),
            "it is a network; write one address, such as 1.1.1.0"
        );
        assert!(address("foo").expect_err("a word").contains("such as 10.96.0.53"));
    }
}
