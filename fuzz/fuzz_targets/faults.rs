//! A file of faults, read and armed, and then asked about requests: nothing in either may bring the proxy down.

#![no_main]

use faults::{Client, Engine, read_rules};
use jiff::Timestamp;
use kubeapi::RequestInfo;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &str, Vec<(String, String)>)| {
    let (file, authorization, agent, requests) = input;
    let engine = Engine::default();
    if let Ok(rules) = read_rules("fuzz.yaml", file) {
        let written = serde_json::to_string(&rules).expect("a rule can be written");
        let again: Vec<faults::Rule> = serde_json::from_str(&written).expect("what was written can be read");
        assert_eq!(again, rules);
        let _ = engine.add_all(Timestamp::UNIX_EPOCH, rules);
    }
    let client = Client { user_agent: agent.to_owned(), ..Client::from_authorization(Some(authorization)) };
    for (number, (method, target)) in requests.iter().enumerate() {
        let (path, query) = target.split_once('?').map_or((target.as_str(), None), |(path, query)| (path, Some(query)));
        let decision = engine.decide(Timestamp::UNIX_EPOCH, &client, &RequestInfo::parse(method, path, query), number as u64 + 1);
        let _ = decision.effect().name();
    }
});
