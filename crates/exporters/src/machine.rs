//! node-exporter's page: processors, memory, load and network of this machine, out of the texts below `/proc` (proc(5)).
//!
//! Few of its families; names, labels and units are node-exporter's (`collector/{cpu,meminfo,loadavg,netdev,uname,time}_linux.go`).

use metrics::Kind;

use crate::page::{head, sample};

/// Ticks in a second: what the kernel tells user space in (`USER_HZ`), the same on every architecture.
pub(crate) const TICKS: f64 = 100.0;

/// What stands in the files below `/proc`; a file that is not there is an empty text.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// `/proc/stat`.
    pub stat: String,
    /// `/proc/meminfo`.
    pub meminfo: String,
    /// `/proc/loadavg`.
    pub loadavg: String,
    /// `/proc/net/dev`.
    pub net_dev: String,
    /// `/proc/sys/kernel/hostname`.
    pub hostname: String,
    /// `/proc/sys/kernel/osrelease`.
    pub release: String,
    /// `/proc/sys/kernel/version`.
    pub version: String,
}

/// The page, at a time in seconds since 1970.
pub fn page(texts: &Texts, now: f64) -> String {
    let mut out = String::new();
    processors(&mut out, &texts.stat);
    load(&mut out, &texts.loadavg);
    memory(&mut out, &texts.meminfo);
    network(&mut out, &texts.net_dev);
    one(&mut out, "node_time_seconds", Kind::Gauge, "This machine's clock, in seconds since 1970.", now);
    if !texts.release.is_empty() {
        head(&mut out, "node_uname_info", Kind::Gauge, "What uname(2) says.");
        let labels = [
            ("domainname", "(none)"),
            ("machine", std::env::consts::ARCH),
            ("nodename", texts.hostname.trim()),
            ("release", texts.release.trim()),
            ("sysname", "Linux"),
            ("version", texts.version.trim()),
        ];
        sample(&mut out, "node_uname_info", labels.into_iter(), 1.0);
    }
    out
}

fn one(out: &mut String, name: &str, kind: Kind, help: &str, value: f64) {
    head(out, name, kind, help);
    sample(out, name, std::iter::empty(), value);
}

fn processors(out: &mut String, stat: &str) {
    const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
    let rows =
        || stat.lines().filter_map(|line| line.strip_prefix("cpu")).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if rows().next().is_some() {
        head(out, "node_cpu_seconds_total", Kind::Counter, "Seconds that a processor has spent in a mode.");
    }
    for row in rows() {
        let mut words = row.split_whitespace();
        let Some(cpu) = words.next() else { continue };
        for (mode, ticks) in MODES.iter().zip(words) {
            if let Ok(ticks) = ticks.parse::<f64>() {
                sample(out, "node_cpu_seconds_total", [("cpu", cpu), ("mode", *mode)].into_iter(), ticks / TICKS);
            }
        }
    }
    let line = |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().split(' ').next()?.parse::<f64>().ok());
    for (word, name, kind, help) in [
        ("btime ", "node_boot_time_seconds", Kind::Gauge, "When this machine started, in seconds since 1970."),
        ("ctxt ", "node_context_switches_total", Kind::Counter, "How often a processor went over to another task."),
        ("processes ", "node_forks_total", Kind::Counter, "How many processes were begun."),
        ("procs_running ", "node_procs_running", Kind::Gauge, "How many tasks run or could."),
    ] {
        if let Some(value) = line(word) {
            one(out, name, kind, help, value);
        }
    }
}

fn load(out: &mut String, loadavg: &str) {
    let averages = loadavg.split_whitespace().map_while(|word| word.parse::<f64>().ok());
    for ((name, help), value) in
        [("node_load1", "Load over 1 minute."), ("node_load5", "Load over 5 minutes."), ("node_load15", "Load over 15 minutes.")]
            .into_iter()
            .zip(averages)
    {
        one(out, name, Kind::Gauge, help, value);
    }
}

fn memory(out: &mut String, meminfo: &str) {
    for line in meminfo.lines() {
        let Some((field, rest)) = line.split_once(':') else { continue };
        let mut words = rest.split_whitespace();
        let Some(value) = words.next().and_then(|word| word.parse::<f64>().ok()) else { continue };
        // `Active(anon)` is told as Active_anon.
        let field = field.replace('(', "_").replace(')', "");
        let (name, value) = match words.next() {
            Some("kB") => (format!("node_memory_{field}_bytes"), value * 1024.0),
            _ => (format!("node_memory_{field}"), value),
        };
        one(out, &name, Kind::Gauge, &format!("{field} of /proc/meminfo."), value);
    }
}

fn network(out: &mut String, net_dev: &str) {
    // Columns of /proc/net/dev: eight received, eight transmitted.
    for (column, name) in [
        (0, "node_network_receive_bytes_total"),
        (1, "node_network_receive_packets_total"),
        (2, "node_network_receive_errs_total"),
        (3, "node_network_receive_drop_total"),
        (8, "node_network_transmit_bytes_total"),
        (9, "node_network_transmit_packets_total"),
        (10, "node_network_transmit_errs_total"),
        (11, "node_network_transmit_drop_total"),
    ] {
        let mut begun = false;
        for line in net_dev.lines() {
            let Some((device, rest)) = line.split_once(':') else { continue };
            let Some(value) = rest.split_whitespace().nth(column).and_then(|word| word.parse::<f64>().ok()) else { continue };
            if !begun {
                head(out, name, Kind::Counter, "What went over a network device, by /proc/net/dev.");
                begun = true;
            }
            sample(out, name, [("device", device.trim())].into_iter(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_below_proc_become_families() {
        let texts = Texts {
            stat: "cpu  3 0 2 10 0 0 0 0\ncpu0 150 0 100 1000 5 0 1 0 0 0\nctxt 77\nbtime 1767225600\nprocesses 9\nprocs_running 2\n".into(),
            meminfo: "MemTotal:       16 kB\nActive(anon):   4 kB\nHugePages_Total:       3\n".into(),
            loadavg: "0.10 0.20 0.30 1/2 3\n".into(),
            net_dev: "Inter-|   Receive\n face |bytes\n    lo:  1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n".into(),
            hostname: "h\n".into(),
            release: "6.1\n".into(),
            version: "#1\n".into(),
        };
        let text = page(&texts, 5.5);
        metrics::parse(&text).unwrap();
        for line in [
            r#"node_cpu_seconds_total{cpu="0",mode="user"} 1.5"#,
            r#"node_cpu_seconds_total{cpu="0",mode="idle"} 10"#,
            "node_boot_time_seconds 1767225600",
            "node_context_switches_total 77",
            "node_load15 0.3",
            "node_memory_MemTotal_bytes 16384",
            "node_memory_Active_anon_bytes 4096",
            "node_memory_HugePages_Total 3",
            r#"node_network_receive_bytes_total{device="lo"} 1"#,
            r#"node_network_transmit_drop_total{device="lo"} 8"#,
            "node_time_seconds 5.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(text.contains("nodename=\"h\",release=\"6.1\""), "{text}");
    }

    #[test]
    fn a_system_without_proc_has_a_clock() {
        assert_eq!(page(&Texts::default(), 1.0).lines().last(), Some("node_time_seconds 1"));
    }
}
