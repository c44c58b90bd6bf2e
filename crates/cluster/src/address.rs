//! Addresses of pods: 127.N.1.1 to 127.N.199.254, the lowest free one first.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Mutex;

/// Hands out pod addresses and takes them back.
pub(crate) struct PodAddresses {
    base: [u8; 2],
    taken: Mutex<BTreeSet<u16>>,
}

impl PodAddresses {
    pub(crate) fn new(base: [u8; 2]) -> Self {
        Self { base, taken: Mutex::default() }
    }

    /// The next free address, if there is one.
    pub(crate) fn take(&self) -> Option<Ipv4Addr> {
        let mut taken = self.taken.lock().expect("no panic while held");
        let free = (256..200 * 256u16).find(|number| !matches!(number & 0xff, 0 | 255) && !taken.contains(number))?;
        taken.insert(free);
        let [high, low] = free.to_be_bytes();
        Some(Ipv4Addr::new(self.base[0], self.base[1], high, low))
    }

    pub(crate) fn give_back(&self, address: Ipv4Addr) {
        let [.., high, low] = address.octets();
        self.taken.lock().expect("no panic while held").remove(&u16::from_be_bytes([high, low]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_address_is_next() {
        let addresses = PodAddresses::new([127, 9]);
        let first = addresses.take().unwrap();
        assert_eq!(first, Ipv4Addr::new(127, 9, 1, 1));
        assert_eq!(addresses.take(), Some(Ipv4Addr::new(127, 9, 1, 2)));
        addresses.give_back(first);
        assert_eq!(addresses.take(), Some(first));
    }
}
