//! Exec and attach: the streams of a program in a container.
//!
//! Channels and stream names are those of `k8s.io/apimachinery/pkg/util/remotecommand`; the program's end is told on the error
//! stream as a Status, as version 4 of the protocol wants it. There is no terminal: `tty` joins the outputs and no more.

use std::time::Duration;

use http::{Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kubeapi::{RequestInfo, Status};
use serde_json::{Value, json};
use wire::Body;
use wire::mux::{Pipe, copy_to, websocket};

use super::{Agreement, Carrier, Connect, ExecError, Execution, container_of, negotiate, spdy_session, upgrade_of};

const SPDY: &[&str] = &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
const CHANNELS: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// How long a client may take to open its streams (`remotecommand.DefaultStreamCreationTimeout`).
const STREAMS_DEADLINE: Duration = Duration::from_secs(30);

/// Which streams a client wants.
#[derive(Clone, Copy)]
struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

/// The streams of a client, whatever carries them.
#[derive(Default)]
struct Streams {
    stdin: Option<Pipe>,
    stdout: Option<Pipe>,
    stderr: Option<Pipe>,
    error: Option<Pipe>,
    resize: Option<Pipe>,
}

pub(super) async fn answer(request: Connect<'_>) -> Result<Response<Body>, Status> {
    let wanted = wanted(request.info)?;
    let container = container_of(&request.pod, &request.info.query)?;
    let Agreement { carrier, protocol, response } = negotiate(request.arrived.headers, SPDY, CHANNELS)?;
    let upgrade = upgrade_of(request.arrived.upgrade)?;
    let command: Vec<String> = request.info.query.all("command").map(str::to_owned).collect();
    let started = if request.info.subresource == "attach" {
        request.pods.attach(&request.pod, container).await
    } else {
        request.pods.exec(&request.pod, container, &command).await
    };
    if let Err(error @ ExecError::NoContainer(_)) = &started {
        // The node says so before it upgrades, and not in a Status.
        return Ok(wire::text(StatusCode::NOT_FOUND, error.to_string()));
    }
    tokio::spawn(async move {
        let streams = tokio::time::timeout(STREAMS_DEADLINE, open(upgrade, carrier, &protocol, wanted)).await;
        if let Ok(Some(streams)) = streams {
            run(started, streams).await;
        }
    });
    Ok(response)
}

/// The streams that a query asks for (`pkg/apis/core/validation` `ValidatePodExecOptions`, in the node's words).
fn wanted(info: &RequestInfo) -> Result<Wanted, Status> {
    let query = &info.query;
    // Without a word about it stdout and stderr are on, as the defaults of PodExecOptions are.
    let flag = |name: &str, default: bool| query.get(name).map_or(default, |value| matches!(value, "true" | "1" | ""));
    let tty = flag("tty", false);
    let wanted =
        Wanted { stdin: flag("stdin", false), stdout: flag("stdout", false), stderr: flag("stderr", false) && !tty, tty };
    if !wanted.stdin && !wanted.stdout && !wanted.stderr {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    if info.subresource == "exec" && query.all("command").next().is_none() {
        return Err(Status::bad_request("you must specify at least one command"));
    }
    Ok(wanted)
}

async fn open(upgrade: OnUpgrade, carrier: Carrier, protocol: &str, wanted: Wanted) -> Option<Streams> {
    let mut streams = Streams::default();
    if matches!(carrier, Carrier::Channels) {
        let mut pipes = websocket::channels(TokioIo::new(upgrade.await.ok()?), 5).await.into_iter();
        streams.stdin = pipes.next().filter(|_| wanted.stdin);
        streams.stdout = pipes.next().filter(|_| wanted.stdout);
        streams.stderr = pipes.next().filter(|_| wanted.stderr);
        streams.error = pipes.next();
        streams.resize = pipes.next();
        return Some(streams);
    }
    let mut session = spdy_session(upgrade, &carrier).await.ok()?;
    let resize = wanted.tty && !matches!(protocol, "v2.channel.k8s.io" | "channel.k8s.io");
    let expected = [wanted.stdin, wanted.stdout, wanted.stderr, resize].iter().filter(|wanted| **wanted).count() + 1;
    for _ in 0..expected {
        let (headers, pipe) = session.accept().await?;
        let place = match headers.get("streamtype").map(String::as_str) {
            Some("stdin") => &mut streams.stdin,
            Some("stdout") => &mut streams.stdout,
            Some("stderr") => &mut streams.stderr,
            Some("error") => &mut streams.error,
            Some("resize") => &mut streams.resize,
            _ => return None,
        };
        *place = Some(pipe);
    }
    Some(streams)
}

async fn run(started: Result<Execution, ExecError>, mut streams: Streams) {
    // There is no terminal to be resized: sizes are thrown away, so that they do not hold up what comes after them.
    drop(streams.resize.take());
    let status = match started {
        Ok(execution) => {
            let gone = streams.error.as_mut().map(|pipe| &mut pipe.input);
            let gone = async {
                // The client writes nothing there: the stream ends with the client.
                match gone {
                    Some(input) => while input.recv().await.is_some() {},
                    None => std::future::pending().await,
                }
            };
            let (stdin, stdout, stderr) = (streams.stdin.take(), streams.stdout.take(), streams.stderr.take());
            tokio::select! {
                code = carry(execution, stdin, stdout, stderr) => exit_status(code),
                () = gone => return,
            }
        }
        Err(error) => Status::new(500, format!("Internal error occurred: {error}")).with_reason("InternalError").body(),
    };
    if let Some(error) = streams.error {
        error.output.send(status.to_string()).await;
        error.output.end().await;
    }
}

/// Carries the streams until the program has ended and everything it wrote is on its way; its exit code.
async fn carry(execution: Execution, stdin: Option<Pipe>, stdout: Option<Pipe>, stderr: Option<Pipe>) -> i32 {
    let Execution { stdin: program_stdin, stdout: program_stdout, stderr: program_stderr, exit } = execution;
    let input = async {
        match stdin {
            Some(mut pipe) => copy_to(&mut pipe.input, program_stdin).await,
            // Without a writer the program reads an end at once.
            None => drop(program_stdin),
        }
        std::future::pending::<()>().await;
    };
    let merged = stdout.as_ref().map(|pipe| pipe.output.clone()).filter(|_| stderr.is_none());
    let copy = |pipe: Option<wire::mux::Output>, reader: std::pin::Pin<Box<dyn tokio::io::AsyncRead + Send>>| async move {
        match pipe {
            Some(output) => output.copy_from(reader).await,
            None => {
                let mut reader = reader;
                let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
            }
        }
    };
    let outputs = async {
        tokio::join!(
            copy(stdout.as_ref().map(|pipe| pipe.output.clone()), program_stdout),
            copy(stderr.as_ref().map(|pipe| pipe.output.clone()).or(merged), program_stderr),
            exit,
        )
        .2
    };
    let code = tokio::select! { code = outputs => code, () = input => unreachable!("the input waits for ever") };
    for pipe in [stdout, stderr].into_iter().flatten() {
        pipe.output.end().await;
    }
    code
}

/// What the error stream says of a program's end.
fn exit_status(code: i32) -> Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}
