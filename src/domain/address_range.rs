//! Ranges of addresses that may come in.

use std::net::IpAddr;

/// Addresses that begin alike; or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressRange {
    /// Every address.
    All,
    /// Those whose first so many bits are this address's.
    Of(IpAddr, u8),
}

impl AddressRange {
    /// Reads `*`, an address, or an address and the length of the part that counts, such as `203.0.113.0/24`.
    pub fn parse(text: &str) -> Option<AddressRange> {
        if text == "*" {
            return Some(AddressRange::All);
        }
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => longest,
            Some(length) if length.len() <= 3 && length.bytes().all(|digit| digit.is_ascii_digit()) => {
                length.parse().ok().filter(|length| *length <= longest)?
            }
            Some(_) => return None,
        };
        Some(AddressRange::Of(address, length))
    }

    /// Whether an address is one of it.
    pub fn holds(self, address: IpAddr) -> bool {
        let (own, length) = match self {
            AddressRange::All => return true,
            AddressRange::Of(own, length) => (own, u32::from(length)),
        };
        match (own, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(32 - length).unwrap_or_default() == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(128 - length).unwrap_or_default() == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_what_begins_as_it_does() {
        let holds =
            |range: &str, address: &str| AddressRange::parse(range).expect("a range").holds(address.parse().expect("an address"));
        for (range, inside, outside) in [
            ("203.0.113.0/24", "203.0.113.9", "203.0.114.9"),
            ("203.0.113.9", "203.0.113.9", "203.0.113.8"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "11.0.0.1"),
            ("2001:db8::/32", "2001:db8::1", "2001:db9::1"),
            ("0.0.0.0/0", "1.2.3.4", "::1"),
        ] {
            assert!(holds(range, inside), "{range} holds {inside}");
            assert!(!holds(range, outside), "{range} does not hold {outside}");
        }
        assert!(holds("*", "1.2.3.4") && holds("*", "::1"));
        for bad in ["", "host", "10.0.0.0/", "10.0.0.0/33", "::1/129", "10.0.0.0/+8", "10.0.0.0/0008"] {
            assert_eq!(AddressRange::parse(bad), None, "{bad}");
        }
    }
}
