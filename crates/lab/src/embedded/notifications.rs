//! Who is notified in a lab: a webhook that writes down what Alertmanager sends.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use faults::{bears_token, control_refusal};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use scenario::Notification;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// Where Alertmanager sends, beside its own port.
const PORT: u16 = 9095;
/// The largest message that is read.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// How many notifications are kept.
const KEEP: usize = 10_000;

/// What was received, oldest first.
#[derive(Default)]
pub struct Notifications(Mutex<VecDeque<Notification>>);

impl Notifications {
    /// All that are kept.
    pub fn list(&self) -> Vec<Notification> {
        self.0.lock().expect("no panic while held").iter().cloned().collect()
    }

    /// Writes down a message of Alertmanager's webhook, version 4: one notification for each alert in it.
    fn receive(&self, message: &Value) {
        let now = jiff::Timestamp::now();
        let mut kept = self.0.lock().expect("no panic while held");
        for alert in message["alerts"].as_array().into_iter().flatten() {
            let map = |key: &str| serde_json::from_value(alert[key].clone()).unwrap_or_default();
            kept.push_back(Notification {
                at: now,
                receiver: message["receiver"].as_str().unwrap_or_default().to_owned(),
                status: alert["status"].as_str().unwrap_or_default().to_owned(),
                labels: map("labels"),
                annotations: map("annotations"),
            });
            if kept.len() > KEEP {
                kept.pop_front();
            }
        }
    }

    /// Listens for messages that bear the token; the URL to send them to.
    ///
    /// # Errors
    /// When no port is free.
    pub(crate) fn listen(self: &Arc<Self>, address: std::net::Ipv4Addr, token: &str, stop: CancellationToken) -> Result<String> {
        let bind = |port: u16| wire::bind(SocketAddr::from((address, port)));
        let listener = bind(PORT).or_else(|_| bind(0)).context("cannot listen for notifications")?;
        let url = format!("http://{}/notifications", listener.local_addr()?);
        let (own, token) = (self.clone(), token.to_owned());
        let handler = move |request: Request<Incoming>| {
            let (own, allowed) = (own.clone(), bears_token(&request, &token));
            async move {
                if !allowed {
                    return Ok(control_refusal(StatusCode::UNAUTHORIZED, "the lab's token is needed"));
                }
                let body = wire::collect(wire::incoming(request.into_body()), MAX_MESSAGE).await;
                match body.ok().and_then(|body| serde_json::from_slice::<Value>(&body).ok()) {
                    Some(message) => {
                        own.receive(&message);
                        Ok(wire::text(StatusCode::OK, "noted\n".to_owned().into_bytes()))
                    }
                    None => Ok(control_refusal(StatusCode::BAD_REQUEST, "this is no message of Alertmanager's webhook")),
                }
            }
        };
        tokio::spawn(wire::serve(listener, None, Arc::new(handler), Arc::new(()), stop));
        Ok(url)
    }
}
