//! Services and Endpoints (`internal/store/service.go`, `endpoint.go`).

use apiserver::Gr;
use kubeapi::object;

use super::{Resource, created, gauge, in_namespace, labels};
use crate::page::{items, text};

pub(super) const SERVICES: Resource = Resource {
    name: "services",
    gr: Gr::core("services"),
    go_type: "*v1.Service",
    identity: |service| {
        vec![("namespace", object::namespace(service)), ("service", object::name(service)), ("uid", object::uid(service))]
    },
    families: &[
        gauge("kube_service_created", "When a Service was made, in seconds since 1970.", created),
        gauge("kube_service_info", "Where a Service is reached.", |service, samples| {
            let spec = &service["spec"];
            samples.with(
                &[
                    ("cluster_ip", text(&spec["clusterIP"])),
                    ("external_name", text(&spec["externalName"])),
                    ("load_balancer_ip", text(&spec["loadBalancerIP"])),
                    ("external_traffic_policy", text(&spec["externalTrafficPolicy"])),
                ],
                1.0,
            );
        }),
        gauge("kube_service_labels", "Labels of a Service, as far as --metric-labels-allowlist allows them.", labels),
        gauge("kube_service_spec_type", "The type of a Service.", |service, samples| {
            samples.with(&[("type", text(&service["spec"]["type"]))], 1.0);
        }),
    ],
};

pub(super) const ENDPOINTS: Resource = Resource {
    name: "endpoints",
    gr: Gr::core("endpoints"),
    go_type: "*v1.Endpoints",
    identity: in_namespace!("endpoint"),
    families: &[
        gauge("kube_endpoint_created", "When an Endpoints object was made, in seconds since 1970.", created),
        gauge("kube_endpoint_info", "Endpoints objects that there are.", |_, samples| samples.one(1.0)),
        gauge("kube_endpoint_labels", "Labels of an Endpoints object, as far as --metric-labels-allowlist allows them.", labels),
        gauge("kube_endpoint_address", "Addresses behind a Service, by port.", |endpoints, samples| {
            for subset in items(&endpoints["subsets"]) {
                for port in items(&subset["ports"]) {
                    for (key, ready) in [("addresses", "true"), ("notReadyAddresses", "false")] {
                        for address in items(&subset[key]) {
                            let labels = [
                                ("port_protocol", text(&port["protocol"])),
                                ("port_number", &*port["port"].to_string()),
                                ("port_name", text(&port["name"])),
                                ("ip", text(&address["ip"])),
                                ("ready", ready),
                            ];
                            samples.with(&labels, 1.0);
                        }
                    }
                }
            }
        }),
        gauge("kube_endpoint_ports", "Ports behind a Service.", |endpoints, samples| {
            for port in items(&endpoints["subsets"]).flat_map(|subset| items(&subset["ports"])) {
                let number = port["port"].to_string();
                let labels = [
                    ("port_name", text(&port["name"])),
                    ("port_protocol", text(&port["protocol"])),
                    ("port_number", number.as_str()),
                ];
                samples.with(&labels, 1.0);
            }
        }),
    ],
};
