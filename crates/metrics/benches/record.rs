//! How fast a page is read and put into normal form: `record FILE` prints the figures, `record --write FILE SERIES` makes such a page.

use std::io::Write as _;
use std::time::Instant;

use metrics::Recorder;

/// A page of so many series, like one of a large cluster: pods, codes, resources, buckets.
fn write(path: &str, count: usize) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    writeln!(out, "# HELP requests_total Requests.\n# TYPE requests_total counter")?;
    let codes = ["200", "201", "404", "409", "500", "<error>"];
    for number in 0..count {
        let (pod, rest) = (number % 97, number / 97);
        writeln!(
            out,
            "requests_total{{code=\"{}\",host=\"10.96.0.1:443\",method=\"GET\",namespace=\"ns-{}\",pod=\"app-{pod}-69c9ccc49f-wvb{:02}\",resource=\"res-{rest}\",verb=\"LIST\"}} {number}",
            codes[number % codes.len()],
            rest % 50,
            22 + number % 77,
        )?;
    }
    out.flush()
}

/// Peak resident memory of this process in MB.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--write", path, count] => write(path, count.parse().expect("a number")).expect("a file"),
        [path] => {
            let began = Instant::now();
            let bytes = std::fs::read(path).expect("a page");
            let size = bytes.len() as f64 / 1e6;
            let text = metrics::text(&bytes).expect("text");
            let reading = Instant::now();
            let mut recorder = Recorder::default();
            recorder.page(text, &|_| true).expect("a page");
            let read = reading.elapsed().as_secs_f64();
            drop(bytes);
            let rendered = recorder.render();
            println!("series {}", rendered.lines().count());
            println!("page_mb {size:.1}");
            println!("read_mb_s {:.0}", size / read);
            println!("all_s {:.2}", began.elapsed().as_secs_f64());
            println!("peak_mb {:.0}", peak());
        }
        _ => println!("nothing 0"),
    }
}
