//! Log lines in KubeVirt's form: one JSON object a line, keys in order.

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

    pub(crate) fn error(&self, pos: &str, message: &str) {
        self.line("error", pos, message);
    }
}
