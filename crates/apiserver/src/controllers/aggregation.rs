//! ClusterRoles that aggregate others: their rules are those of the others (`clusterrole-aggregation-controller`).

use kubeapi::object;
use serde_json::{Value, json};

use crate::client::{Client, Gr};
use crate::rbac;

const ROLES: Gr = Gr::of("rbac.authorization.k8s.io", "clusterroles");

pub(crate) async fn run(client: Client) {
    loop {
        let Ok(mut watcher) = client.watch(ROLES) else { return };
        while watcher.next().await.is_ok() {
            let roles = client.list(ROLES, "");
            for role in roles.iter().filter(|role| role["aggregationRule"].is_object()) {
                let mut rules: Vec<&Value> = Vec::new();
                for rule in rbac::aggregated(role, &roles).flat_map(|other| other["rules"].as_array().into_iter().flatten()) {
                    if !rules.contains(&rule) {
                        rules.push(rule);
                    }
                }
                if json!(rules) != role["rules"] && !(rules.is_empty() && role["rules"].is_null()) {
                    let _ = client.merge(ROLES, "", object::name(role), "", &json!({"rules": rules}));
                }
            }
        }
    }
}
