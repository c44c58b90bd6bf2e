//! Addresses of pods: 127.N.1.1 to 127.N.199.254, one after the other.
//!
//! An address that was given back is used again last, as by a real cluster's allocator: Prometheus learns of a new pod only
//! after some seconds, and would scrape it under the old one's name.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Mutex;

/// Hands out pod addresses and takes them back.
pub(crate) struct PodAddresses {
    base: [u8; 2],
    /// Addresses in use, and the last one that was handed out.
    state: Mutex<(BTreeSet<u16>, u16)>,
}

impl PodAddresses {
    pub(crate) fn new(base: [u8; 2]) -> Self {
        Self { base, state: Mutex::new((BTreeSet::new(), 255)) }
    }

    /// The next free address, if there is one.
    pub(crate) fn take(&self) -> Option<Ipv4Addr> {
        let mut state = self.state.lock().expect("no panic while held");
        let (taken, last) = &mut *state;
        let (after, before) = ((*last + 1)..200 * 256, 256..=*last);
        let free = after.chain(before).find(|number| !matches!(number & 0xff, 0 | 255) && !taken.contains(number))?;
        taken.insert(free);
        *last = free;
        let [high, low] = free.to_be_bytes();
        Some(Ipv4Addr::new(self.base[0], self.base[1], high, low))
    }

    pub(crate) fn give_back(&self, address: Ipv4Addr) {
        let [.., high, low] = address.octets();
        self.state.lock().expect("no panic while held").0.remove(&u16::from_be_bytes([high, low]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_again_last() {
        let addresses = PodAddresses::new([127, 9]);
        let first = addresses.take().unwrap();
        assert_eq!(first, Ipv4Addr::new(127, 9, 1, 1));
        assert_eq!(addresses.take(), Some(Ipv4Addr::new(127, 9, 1, 2)));
        addresses.give_back(first);
        assert_eq!(addresses.take(), Some(Ipv4Addr::new(127, 9, 1, 3)));
        for _ in 3..199 * 254 {
            addresses.take().unwrap();
        }
        assert_eq!((addresses.take(), addresses.take()), (Some(first), None));
    }
}
