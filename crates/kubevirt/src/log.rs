//! Log lines in KubeVirt's form, one JSON object a line, keys in order; and in klog's.

use cluster::LogWriter;
use jiff::Timestamp;
use serde_json::Value;

/// Writes lines for one component.
#[derive(Clone)]
pub(crate) struct Log {
    component: String,
    writer: LogWriter,
}

impl Log {
    pub(crate) fn new(component: &str, writer: LogWriter) -> Self {
        Self { component: component.to_owned(), writer }
    }

    pub(crate) fn line(&self, level: &str, pos: &str, message: &str) {
        let text = |value: &str| Value::from(value).to_string();
        // Go's JSON encoder escapes what is special to HTML; the blog's lines show it.
        let escape = |text: String| text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
        self.writer.line(&format!(
            "{{\"component\":{},\"level\":\"{level}\",\"msg\":{},\"pos\":{},\"timestamp\":\"{}\"}}",
            text(&self.component),
            escape(text(message)),
            text(pos),
            Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ"),
        ));
    }

    pub(crate) fn info(&self, pos: &str, message: &str) {
        self.line("info", pos, message);
    }

    /// An error of a library that logs through klog, which KubeVirt leaves as it is: severity, month and day, time, the process, the place.
    pub(crate) fn klog_error(&self, pos: &str, message: &str) {
        self.writer.line(&klog_error(Timestamp::now(), pos, message));
    }

    pub(crate) fn error(&self, pos: &str, message: &str) {
        self.line("error", pos, message);
    }
}

/// A line of klog (`klog.go` `formatHeader`): a container's program is process 1.
fn klog_error(now: Timestamp, pos: &str, message: &str) -> String {
    format!("E{} {:>7} {pos}] {message}", now.strftime("%m%d %H:%M:%S.%6f"), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn klog_has_a_header_of_fixed_width() {
        let now = "2026-11-30T18:18:20.203727Z".parse().unwrap();
        assert_eq!(
            klog_error(now, "reflector.go:205", "\"Failed to watch\""),
            "E1130 18:18:20.203727       1 reflector.go:205] \"Failed to watch\""
        );
    }
}
