//! What machines make up: names with random suffixes, hashes, UUIDs, addresses. Functions from one text to its normal form.
//!
//! Suffixes are recognised by their alphabet, which has no vowels and no characters that look alike (`SafeEncodeString` and `String` of
//! k8s.io/apimachinery `pkg/util/rand`). Five such letters may still be a word of people; [`WORDS`] are kept. A generated suffix is
//! one of them once in half a million names.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Letters of generated suffixes.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// What decimal digits become in the hash of a pod template: it is the text of a 32-bit number, each digit replaced.
const HASH_ALPHABET: &[u8] = b"456789bcdf";

/// How many letters `generateName` adds.
const SUFFIX: usize = 5;

/// The longest name with a generated suffix: `generateName` is cut so that name and suffix fit
/// (k8s.io/apiserver `pkg/storage/names`).
const LONGEST: usize = 63;

/// Words of five letters that people use and that have no letter outside [`ALPHABET`].
const WORDS: [&str; 18] = [
    "btrfs", "dhcpd", "grpcs", "html5", "httpd", "https", "lldpd", "mptcp", "mssql", "nfsv4", "pgsql", "psmdb", "smtps", "snmpd",
    "sshfs", "tftpd", "tmpfs", "xhtml",
];

/// Whether all letters are of an alphabet.
fn made_of(text: &str, alphabet: &[u8]) -> bool {
    text.bytes().all(|letter| alphabet.contains(&letter))
}

/// The name before a generated suffix, without the dash.
fn before_suffix(name: &str) -> Option<&str> {
    let (base, suffix) = name.rsplit_once('-')?;
    let is_generated = suffix.len() == SUFFIX && made_of(suffix, ALPHABET) && !base.is_empty();
    (is_generated && !WORDS.contains(&suffix)).then_some(base)
}

/// The name before the hash of a pod template. A 32-bit number has ten digits, rarely fewer: what is shorter than six
/// (one hash in forty thousand) is left alone.
fn before_hash(name: &str) -> Option<&str> {
    let (base, hash) = name.rsplit_once('-')?;
    let is_hash = match hash.len() {
        8..=10 => made_of(hash, ALPHABET),
        6 | 7 => made_of(hash, HASH_ALPHABET),
        _ => false,
    };
    (is_hash && !base.is_empty()).then_some(base)
}

/// The name before the time of a Job that a CronJob made: minutes since 1970, eight digits from 1989 to 2160.
fn before_minutes(name: &str) -> Option<&str> {
    let (base, minutes) = name.rsplit_once('-')?;
    (minutes.len() == 8 && minutes.bytes().all(|digit| digit.is_ascii_digit()) && !base.is_empty()).then_some(base)
}

fn starred(base: &str) -> String {
    format!("{base}-*")
}

/// A pod's name: `web-69c9ccc49f-wvbvz` of a Deployment, `backup-28394825-wvbvz` of a CronJob and `web-wvbvz` of anything else are
/// `web-*`, `backup-*` and `web-*`. A StatefulSet's pods have names that stay.
pub(crate) fn pod(name: &str) -> Option<String> {
    if let Some(base) = before_suffix(name) {
        return Some(starred(before_hash(base).or_else(|| before_minutes(base)).unwrap_or(base)));
    }
    // The name was too long, so no dash is left before its suffix.
    let cut = name.len() == LONGEST && name.is_ascii() && made_of(&name[LONGEST - SUFFIX..], ALPHABET);
    cut.then(|| format!("{}*", &name[..LONGEST - SUFFIX]))
}

/// A name with a generated suffix: of an EndpointSlice, or a migration.
pub(crate) fn suffixed(name: &str) -> Option<String> {
    before_suffix(name).map(starred)
}

/// The name of what owns pods: a Deployment's ReplicaSet, a CronJob's Job.
pub(crate) fn owner(name: &str) -> Option<String> {
    before_hash(name).or_else(|| before_minutes(name)).map(starred)
}

/// How many bytes of the text's beginning are hexadecimal digits, at most `most`.
fn hex(text: &[u8], most: usize) -> usize {
    text.iter().take(most).take_while(|letter| letter.is_ascii_hexdigit()).count()
}

/// Whether a whole text is so many hexadecimal digits.
pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && hex(text.as_bytes(), digits) == digits
}

/// The bytes of a UUID at the beginning of a text; cgroups write it with `_`.
fn uuid_at(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut separator = None;
    for (index, digits) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if index > 0 {
            let found = *text.get(at)?;
            if !matches!(found, b'-' | b'_') || *separator.get_or_insert(found) != found {
                return None;
            }
            at += 1;
        }
        if hex(text.get(at..)?, digits) != digits {
            return None;
        }
        at += digits;
    }
    Some(at)
}

/// Replaces runs that `run` finds at the beginning of a rest, where no letter or digit stands before or after them.
fn replace_runs(text: &str, run: impl Fn(&[u8]) -> Option<usize>, placeholder: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut out, mut kept, mut at) = (None::<String>, 0, 0);
    while at < bytes.len() {
        let is_start = at == 0 || !bytes[at - 1].is_ascii_alphanumeric() || text[..at].ends_with("pod");
        let found = if is_start { run(&bytes[at..]) } else { None };
        match found.filter(|length| bytes.get(at + length).is_none_or(|after| !after.is_ascii_alphanumeric())) {
            Some(length) => {
                let out = out.get_or_insert_default();
                out.push_str(&text[kept..at]);
                out.push_str(placeholder);
                at += length;
                kept = at;
            }
            None => at += 1,
        }
    }
    out.map(|out| out + &text[kept..])
}

/// Every UUID in a text is `[uuid]`.
pub(crate) fn uuids(text: &str) -> Option<String> {
    if text.len() < 36 || !text.is_ascii() {
        return None;
    }
    replace_runs(text, uuid_at, "[uuid]")
}

/// Every identifier of a container in a text is `[id]`: 64 hexadecimal digits.
pub(crate) fn container_ids(text: &str) -> Option<String> {
    if text.len() < 64 || !text.is_ascii() {
        return None;
    }
    let run = |rest: &[u8]| (hex(rest, 65) == 64).then_some(64);
    replace_runs(text, run, "[id]")
}

/// What stands for an address, and what follows it: the port, the length of a prefix.
fn split_address(text: &str) -> Option<&str> {
    if text.parse::<IpAddr>().is_ok() {
        return Some("");
    }
    if text.parse::<SocketAddr>().is_ok() {
        return text.rfind(':').map(|at| &text[at..]);
    }
    if let Some((address, bits)) = text.split_once('/')
        && address.parse::<IpAddr>().is_ok()
        && bits.parse::<u8>().is_ok_and(|bits| bits <= 128)
    {
        return Some(&text[address.len()..]);
    }
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    inner.parse::<Ipv6Addr>().is_ok().then_some("")
}

/// An address of IPv4 or IPv6, with its port or prefix or without: `10.0.0.1:8443` and `[fd00::1]:8443` are `[address]:8443`.
pub(crate) fn address(text: &str) -> Option<String> {
    // Looked at before anything is parsed: most values are no addresses.
    let first = *text.as_bytes().first()?;
    if !(first.is_ascii_hexdigit() || matches!(first, b'[' | b':')) || !text.contains(['.', ':']) {
        return None;
    }
    split_address(text).map(|rest| format!("[address]{rest}"))
}

/// The address after a scheme: of `https://10.96.0.1:443/api`, the parts `https`, `10.96.0.1:443` and `/api`.
pub(crate) fn url(text: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    address(authority).map(|_| (scheme, authority, path))
}

/// Whether a text is a MAC address.
pub(crate) fn is_mac(text: &str) -> bool {
    text.len() == 17
        && text.bytes().enumerate().all(|(index, byte)| if index % 3 == 2 { byte == b':' } else { byte.is_ascii_hexdigit() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SUFFIXES: &str = "[bcdfghjklmnpqrstvwxz2456789]{5}";
    const HASHES: &str = "[456789bcdf]{8,10}";
    /// A name as people write them: each part has a vowel.
    const NAMES: &str = "[a-z]{0,4}[aeiou][a-z]{0,3}(-[a-z]{0,4}[aeiou][a-z]{0,3}){0,2}";

    #[test]
    fn names_of_pods() {
        for (name, expected) in [
            ("virt-api-69c9ccc49f-wvbvz", Some("virt-api-*")),
            ("virt-controller-96wh27lfkl-smlph", Some("virt-controller-*")),
            ("web-7d8b9c-x2k4z", Some("web-*")),
            ("virt-handler-qpxjh", Some("virt-handler-*")),
            ("virt-launcher-fedora-b8hhd", Some("virt-launcher-fedora-*")),
            ("backup-28394825-x7k2p", Some("backup-*")),
            ("job-0-x7k2p", Some("job-0-*")),
            ("prometheus-k8s-0", None),
            ("web-0", None),
            ("virt-handler-*", None),
            // Words of people.
            ("proxy-https", None),
            ("db-pgsql", None),
            ("web-https-69c9ccc49f-wvbvz", Some("web-https-*")),
            // A letter that no generated suffix has.
            ("virt-handler-qpxja", None),
            ("qpxjh", None),
            ("-qpxjh", None),
            ("", None),
        ] {
            assert_eq!(pod(name).as_deref(), expected, "{name}");
        }
        let long = format!("virt-launcher-{}qpxjh", "a".repeat(44));
        assert_eq!(pod(&long).unwrap(), format!("virt-launcher-{}*", "a".repeat(44)));
        assert_eq!(pod(&format!("{long}x")), None);
    }

    #[test]
    fn names_of_owners() {
        for (name, expected) in [
            ("virt-api-69c9ccc49f", Some("virt-api-*")),
            ("backup-28394825", Some("backup-*")),
            ("virt-handler", None),
            ("kube-proxy-https", None),
            ("web-2839482", None),
        ] {
            assert_eq!(owner(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("10.0.0.1", Some("[address]")),
            ("10.0.0.1:8443", Some("[address]:8443")),
            ("fd00:10:244::1", Some("[address]")),
            ("[fd00:10:244::1]", Some("[address]")),
            ("[fd00:10:244::1]:8443", Some("[address]:8443")),
            ("::ffff:10.0.0.1", Some("[address]")),
            ("10.244.0.0/24", Some("[address]/24")),
            ("fd00:10:244::/64", Some("[address]/64")),
            ("1.2.3", None),
            ("1.2.3.4.5", None),
            ("300.1.1.1", None),
            ("10.0.0.1:http", None),
            ("10.0.0.0/400", None),
            ("0000:00:02.0", None),
            ("node-1:8443", None),
            ("[address]:8443", None),
            ("12:30", None),
            ("", None),
        ] {
            assert_eq!(address(text).as_deref(), expected, "{text}");
        }
        assert_eq!(url("https://[fd00::1]:443/api?x=1"), Some(("https", "[fd00::1]:443", "/api?x=1")));
        assert_eq!(url("https://10.0.0.1"), Some(("https", "10.0.0.1", "")));
        assert_eq!(url("https://example.com/10.0.0.1"), None);
    }

    #[test]
    fn identifiers_within_texts() {
        let uuid = "0a1b2c3d-0000-4000-8000-0123456789ab";
        let id = "0123456789abcdef".repeat(4);
        for (text, expected) in [
            (uuid.to_owned(), Some("[uuid]")),
            (format!("pvc-{uuid}"), Some("pvc-[uuid]")),
            (format!("/kubepods/burstable/pod{uuid}/x"), Some("/kubepods/burstable/pod[uuid]/x")),
            (format!("kubepods-pod{}.slice", uuid.replace('-', "_")), Some("kubepods-pod[uuid].slice")),
            (format!("{uuid}, {uuid}"), Some("[uuid], [uuid]")),
            (format!("{uuid}0"), None),
            (format!("a{uuid}"), None),
            (uuid.replacen('-', "_", 1), None),
        ] {
            assert_eq!(uuids(&text).as_deref(), expected, "{text}");
        }
        for (text, expected) in [
            (format!("containerd://{id}"), Some("containerd://[id]")),
            (format!("/docker/{id}/init.scope"), Some("/docker/[id]/init.scope")),
            (format!("cri-containerd-{id}.scope"), Some("cri-containerd-[id].scope")),
            (format!("{id}0"), None),
        ] {
            assert_eq!(container_ids(&text).as_deref(), expected, "{text}");
        }
        assert!(is_mac("02:00:00:ab:cd:ef") && !is_mac("02:00:00:ab:cd:eg") && !is_mac("02-00-00-ab-cd-ef"));
    }

    #[test]
    fn words_have_the_letters_of_suffixes() {
        // A word with another letter is never taken for a suffix, so it has no place in the list.
        for word in WORDS {
            assert!(word.len() == SUFFIX && made_of(word, ALPHABET), "{word}");
        }
        assert!(WORDS.is_sorted());
    }

    proptest! {
        #[test]
        fn two_names_of_one_owner_are_alike(
            base in NAMES, hashes in (HASHES, HASHES), suffixes in (SUFFIXES, SUFFIXES), minutes in (10_000_000u32..99_999_999, 10_000_000u32..99_999_999)
        ) {
            prop_assume!(!WORDS.contains(&suffixes.0.as_str()) && !WORDS.contains(&suffixes.1.as_str()));
            let alike = [
                (format!("{base}-{}", suffixes.0), format!("{base}-{}", suffixes.1)),
                (format!("{base}-{}-{}", hashes.0, suffixes.0), format!("{base}-{}-{}", hashes.1, suffixes.1)),
                (format!("{base}-{}-{}", minutes.0, suffixes.0), format!("{base}-{}-{}", minutes.1, suffixes.1)),
            ];
            for (one, other) in alike {
                prop_assert_eq!(pod(&one), Some(starred(&base)));
                prop_assert_eq!(pod(&one), pod(&other));
            }
            prop_assert_eq!(owner(&format!("{base}-{}", hashes.0)), owner(&format!("{base}-{}", hashes.1)));
        }

        #[test]
        fn words_of_people_stay(name in NAMES, ordinal in 0u32..1000) {
            // With a vowel in each part, and with the ordinal of a StatefulSet.
            prop_assert_eq!(pod(&name), None);
            prop_assert_eq!(owner(&name), None);
            prop_assert_eq!(pod(&format!("{name}-{ordinal}")), None);
            prop_assert_eq!(owner(&format!("{name}-{ordinal}")), None);
        }

        #[test]
        fn what_is_normal_stays(text in "(\\PC{0,20}|([a-z0-9]{1,10}-){0,3}[bcdf4-9]{5,10}(-[a-z0-9]{5})?|[0-9a-f:.\\[\\]/]{0,24}|pod[0-9a-f_]{36})") {
            for normal in [pod, suffixed, owner, uuids, container_ids, address] {
                if let Some(once) = normal(&text) {
                    prop_assert_eq!(normal(&once), None, "{}", text);
                }
            }
        }

        #[test]
        fn every_address_is_one(address4: [u8; 4], address6: [u16; 8], port: u16) {
            let four = std::net::Ipv4Addr::from(address4);
            let six = Ipv6Addr::from(address6);
            for text in [four.to_string(), six.to_string(), format!("[{six}]")] {
                prop_assert_eq!(address(&text).unwrap(), "[address]");
            }
            for text in [format!("{four}:{port}"), format!("[{six}]:{port}")] {
                prop_assert_eq!(address(&text).unwrap(), format!("[address]:{port}"));
            }
        }
    }
}
