//! Speed and memory of the API server alone, measured from outside with `wrk` over TLS.

use std::path::Path;

use anyhow::Result;

use super::server::{Server, client, has, wrk};

const COLLECTION: &str = "/api/v1/namespaces/default/configmaps";

fn start(program: &Path) -> Result<Server> {
    Server::start(program, &["apiserver", "--listen", "127.0.0.1:0"])
}

/// Rows of the page: what, measured, wanted; `None` where a tool is missing, which is said in one line.
pub(super) fn run(root: &Path, times: u16) -> Result<Option<Vec<(String, String, String)>>> {
    if !has("wrk", "wrk") {
        return Ok(None);
    }
    let program = root.join("target/release/lab");
    let script = root.join("target/bench-post.lua");
    std::fs::write(
        &script,
        "local n = 0\nlocal threads = 0\nfunction setup(thread) thread:set('id', threads); threads = threads + 1 end\n\
         function request()\n  n = n + 1\n  local name = string.format('c-%d-%d', id, n)\n\
         \x20 return wrk.format('POST', nil, nil, '{\"metadata\":{\"name\":\"' .. name .. '\"},\"data\":{\"a\":\"b\"}}')\nend\n",
    )?;
    let mut rounds = Vec::new();
    let mut loads = Vec::new();
    for _ in 0..times {
        let load = {
            let server = start(&program)?;
            client("apiserver", "load", &[&server.field("url")?, &server.field("token")?])?
        };
        println!(
            "events within {:.1} ms (99 of 100), a list of {:.0} MB in {:.1} ms, GET {:.0} and then {:.0} µs",
            load["watch_p99_ms"], load["list_mb"], load["list_ms"], load["get_few_us"], load["get_many_us"]
        );
        loads.push(load);
    }
    for round in 0..=times {
        let server = start(&program)?;
        let fresh = server.memory()?;
        let (url, token) = (server.field("url")?, server.field("token")?);
        let posts = wrk(16, 4, &format!("{url}{COLLECTION}"), &token, Some(&script))?;
        let per_object = (server.memory()? - fresh) / posts.all;
        let gets = wrk(16, 4, &format!("{url}{COLLECTION}/c-0-100"), &token, None)?.rate;
        let posts = posts.rate;
        println!(
            "ready {:.0} ms, {:.1} MB fresh, {gets:.0} GET/s, {posts:.0} POST/s, {per_object:.2} KB an object",
            server.ready * 1e3,
            fresh / 1024.0
        );
        if round > 0 {
            rounds.push([server.ready * 1e3, fresh / 1024.0, gets, posts, per_object]);
        }
    }
    let of = |index: usize| super::median(rounds.iter().map(|round| round[index]).collect());
    let load_of = |name: &str| super::median(loads.iter().map(|load| load[name]).collect());
    let row = |what: &str, value: String, wanted: &str| (what.to_owned(), value, wanted.to_owned());
    Ok(Some(vec![
        row("ready, from the start of the process", format!("{:.0} ms", of(0)), "at most 30 ms"),
        row("resident memory, fresh", format!("{:.1} MB", of(1)), "at most 32 MB"),
        row("GET of one object, 16 connections, TLS", format!("{:.0}/s", of(2)), "at least 35,000/s"),
        row("POST of ConfigMaps, 16 connections, TLS", format!("{:.0}/s", of(3)), "at least 19,000/s"),
        row("memory of a small object", format!("{:.2} KB", of(4)), "at most 2 KB"),
        row(
            "event until 1,000 watchers have it, each with a connection: 99 of 100 (median)",
            format!("{:.1} ms ({:.1} ms)", load_of("watch_p99_ms"), load_of("watch_p50_ms")),
            "at most 50 ms",
        ),
        row(
            "list of 10,000 pods, to the last byte",
            format!("{:.1} ms ({:.0} MB)", load_of("list_ms"), load_of("list_mb")),
            "at most 60 ms",
        ),
        row(
            "GET, median, with 10 objects of the kind, and with 100,000",
            format!("{:.0} µs, {:.0} µs", load_of("get_few_us"), load_of("get_many_us")),
            "no change",
        ),
    ]))
}
