//! A component's /metrics, as promhttp serves it: all or an error, and no more at a time than the component takes.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use metrics::{Collector, Registry};
use tokio::sync::Semaphore;
use wire::Body;

use crate::defect::{Defect, Defects};
use crate::release::ComponentSpec;

/// What promhttp of client_golang 1.22 says of the format.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
/// The counter of scrapes by their status.
const SCRAPES: &str = "promhttp_metric_handler_requests_total";

pub(crate) struct Page {
    registry: Arc<Registry>,
    collectors: Vec<Arc<dyn Collector>>,
    /// Scrapes at once, if there is a limit.
    places: Option<Semaphore>,
    /// One collection of VMs at a time, as a defect has it.
    collecting: Option<Semaphore>,
    typed: bool,
}

/// Bytes that are handed to the connection at a time: it copies what it is given, and a page of ten thousand VMs has 85 MB.
const CHUNK: usize = 64 * 1024;

/// A body without a length where it is long, as Go's server sends it.
fn body(text: Bytes) -> Body {
    if text.len() <= CHUNK {
        return wire::full(text);
    }
    let starts = (0..text.len()).step_by(CHUNK);
    let chunks = starts.map(move |start| Ok(text.slice(start..(start + CHUNK).min(text.len()))));
    wire::stream(futures_util::stream::iter(chunks))
}

impl Page {
    pub(crate) fn new(
        registry: Arc<Registry>,
        collectors: Vec<Arc<dyn Collector>>,
        spec: &ComponentSpec,
        defects: &Defects,
    ) -> Self {
        Self {
            registry,
            collectors,
            places: spec.max_scrapes.map(Semaphore::new),
            collecting: defects.has(Defect::OneCollection).then(|| Semaphore::new(1)),
            typed: !defects.has(Defect::NoContentType),
        }
    }

    fn counted(&self, code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
        self.registry.add(SCRAPES, &[("code", code.as_str())], 1.0);
        let mut response = Response::new(body(text.into()));
        *response.status_mut() = code;
        response
    }

    pub(crate) async fn answer(&self) -> Response<Body> {
        let place = match self.places.as_ref().map(Semaphore::try_acquire) {
            Some(Err(_)) => {
                let limit = "Limit of concurrent requests reached (3), try again later.\n";
                return self.counted(StatusCode::SERVICE_UNAVAILABLE, limit);
            }
            place => place,
        };
        let turn = self.collecting.as_ref().map(Semaphore::try_acquire);
        let missed = matches!(turn, Some(Err(_)));
        let collectors: Vec<&dyn Collector> =
            self.collectors.iter().filter(|_| !missed).map(|collector| collector.as_ref()).collect();
        if turn.is_some() && !missed {
            // The real one waits for every launcher's socket.
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        let collected = self.registry.collected(&collectors);
        drop((place, turn));
        match collected {
            Ok(page) => {
                let mut response = self.counted(StatusCode::OK, page);
                if self.typed {
                    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(FORMAT));
                }
                response
            }
            Err(twice) => {
                let text = format!("An error has occurred while serving metrics:\n\n{twice}\n");
                self.counted(StatusCode::INTERNAL_SERVER_ERROR, text)
            }
        }
    }
}
