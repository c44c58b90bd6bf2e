//! The controllers without which an API server is not one: namespaces, ServiceAccounts, garbage collection, aggregated
//! ClusterRoles, whether aggregated APIs are available, and certificates.

mod aggregation;
mod garbage;
mod namespace;
mod service_account;
mod signer;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use wire::pki::CertificateAuthority;

use crate::client::{Client, Gr};

/// Starts them all; they end when `stop` is cancelled.
pub(crate) fn run(client: Client, authority: Arc<CertificateAuthority>, stop: CancellationToken) {
    let start = |work: futures_util::future::BoxFuture<'static, ()>| {
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::select! { () = stop.cancelled() => {}, () = work => {} }
        });
    };
    start(Box::pin(namespace::run(client.clone())));
    start(Box::pin(service_account::run(client.clone(), authority.certificate_pem())));
    start(Box::pin(garbage::run(client.clone())));
    start(Box::pin(aggregation::run(client.as_manager("clusterrole-aggregation-controller"))));
    start(Box::pin(signer::run(client.as_manager("kube-controller-manager"), authority)));
    start(Box::pin(crate::aggregate::run(client.as_manager("kube-aggregator"))));
}

/// Calls `each` with every present and changed object of a resource, for ever.
async fn follow(client: &Client, gr: Gr, mut each: impl FnMut(&crate::WatchEvent)) {
    loop {
        let Ok(mut watcher) = client.watch(gr) else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        // The log moved past us: look at everything again.
        while let Ok(events) = watcher.next().await {
            events.iter().for_each(&mut each);
        }
    }
}
