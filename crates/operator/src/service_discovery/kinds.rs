//! The table of kinds.

use serde_json::Value;

use super::How::{Filled, Filters, Given, List, Lower, LowerIfGiven, Pair, Secret, Since, Text};
use super::{Field, has_host, kubernetes, unknown};
use crate::config::{Config, filled};
use crate::scrape::Scope;

/// A check of an entry beyond its credentials; the entry's number is for the message.
type Check = fn(Scope<'_>, &Value, usize) -> Result<(), String>;

/// What is written that no table tells.
type Finish = fn(Scope<'_>, &Value, &mut Config);

/// One kind of discovery.
pub(super) struct Kind {
    /// Its field in ScrapeConfigs.
    pub(super) field: &'static str,
    /// How errors name it.
    pub(super) named: &'static str,
    /// Its key in Prometheus' configuration.
    pub(super) key: &'static str,
    /// The sorts of HTTP settings that are written and checked, in the order in which they are checked; what is `-checked` is only
    /// checked, and what is `-unchecked` is written if other references have made the operator read its Secrets.
    pub(super) http: &'static str,
    pub(super) fields: &'static [Field],
    /// Before this version, ScrapeConfigs are refused with these words. The operator does not look whether they have an entry of the
    /// kind: no ScrapeConfig is for a Prometheus before 2.40.
    pub(super) since: Option<((u32, u32), &'static str)>,
    pub(super) check: Check,
    pub(super) finish: Finish,
}

const REFRESH: Field = ("refreshInterval", "refresh_interval", Given);
const PORT: Field = ("port", "port", Given);
const SERVER: Field = ("server", "server", Text);
const REGION: Field = ("region", "region", Given);
const SEPARATOR: Field = ("tagSeparator", "tag_separator", Given);
const ALL: &str = "basic authorization oauth2 tls proxy redirects";
const NO_BASIC: &str = "authorization oauth2 tls proxy redirects";

fn fine(_: Scope<'_>, _: &Value, _: usize) -> Result<(), String> {
    Ok(())
}

fn nothing(_: Scope<'_>, _: &Value, _: &mut Config) {}

fn needs(scope: Scope<'_>, value: &Value, field: &str, since: (u32, u32, u32)) -> Result<(), String> {
    if unknown(scope, value, since) {
        let (major, minor, patch) = since;
        return Err(format!("field `{field}` is only supported for Prometheus version >= {major}.{minor}.{patch}"));
    }
    Ok(())
}

fn consul(scope: Scope<'_>, from: &Value, _: usize) -> Result<(), String> {
    needs(scope, &from["pathPrefix"], "config.PathPrefix", (2, 45, 0))?;
    needs(scope, &from["namespace"], "config.Namespace", (2, 28, 0))?;
    needs(scope, &from["filter"], "config.Filter", (3, 0, 0))
}

fn dns(_: Scope<'_>, from: &Value, index: usize) -> Result<(), String> {
    match filled(&from["type"]) {
        Some(kind) if kind != "SRV" && from["port"].is_null() => {
            Err(format!("[{index}]: port required for record type {kind:?}"))
        }
        _ => Ok(()),
    }
}

/// Name server and mail records came later than the others.
fn dns_type(scope: Scope<'_>, from: &Value, config: &mut Config) {
    let since = match from["type"].as_str() {
        Some("NS") => (2, 49),
        Some("MX") => (2, 38),
        _ => (0, 0),
    };
    if scope.version.at_least(since.0, since.1) {
        config.set("type", from["type"].clone());
    }
}

fn azure(scope: Scope<'_>, from: &Value, index: usize) -> Result<(), String> {
    let method = from["authenticationMethod"].as_str().unwrap_or_default();
    if method == "SDK" && !scope.version.at_least(2, 52) {
        return Err(format!("[{index}]: SDK authentication is only supported from Prometheus version 2.52.0"));
    }
    if unknown(scope, &from["resourceGroup"], (2, 35, 0)) {
        return Err(format!("[{index}]: ResourceGroup is only supported from Prometheus version >= 2.35.0"));
    }
    if matches!(method, "ManagedIdentity" | "SDK") {
        return Ok(());
    }
    for field in ["tenantID", "clientID"] {
        if filled(&from[field]).is_none() {
            return Err(format!("[{index}]: configuration requires a {field}"));
        }
    }
    if from["clientSecret"].is_object() { Ok(()) } else { Err(format!("[{index}]: configuration requires a clientSecret")) }
}

fn openstack(scope: Scope<'_>, from: &Value, index: usize) -> Result<(), String> {
    let role = from["role"].as_str().unwrap_or_default();
    if role == "LoadBalancer" && !scope.version.at_least(3, 2) {
        return Err(format!("[{index}]: The {role} role is only supported from Prometheus version 3.2.0"));
    }
    Ok(())
}

fn kuma(scope: Scope<'_>, from: &Value, index: usize) -> Result<(), String> {
    if unknown(scope, &from["clientID"], (2, 50, 0)) {
        return Err("field `clientID` in kuma SD configuration is only supported for Prometheus version >= 2.50.0".to_owned());
    }
    let server = from["server"].as_str().unwrap_or_default();
    if has_host(server) { Ok(()) } else { Err(format!("[{index}]: must not be empty and have a scheme: {server}")) }
}

fn puppet(_: Scope<'_>, from: &Value, index: usize) -> Result<(), String> {
    let url = from["url"].as_str().unwrap_or_default();
    let scheme = url.split_once(':').map(|(scheme, _)| scheme).unwrap_or_default();
    if !matches!(scheme, "http" | "https") {
        return Err(format!("[{index}]: URL scheme must be 'http' or 'https'"));
    }
    if has_host(url) { Ok(()) } else { Err(format!("[{index}]: host is missing in URL")) }
}

fn ovh_service(_: Scope<'_>, from: &Value, config: &mut Config) {
    let service = match from["service"].as_str() {
        Some("VPS") => Some("vps"),
        Some("DedicatedServer") => Some("dedicated_server"),
        _ => None,
    };
    config.set("service", service);
}

/// Since 2.41 its client can be told more of HTTP.
fn ec2(scope: Scope<'_>, from: &Value, config: &mut Config) {
    let since = (2, 41);
    config.copy_since(from, &[("followRedirects", "follow_redirects", since), ("enableHTTP2", "enable_http2", since)]);
    if scope.version.at_least(since.0, since.1) {
        scope.credentials().tls(config, &crate::credentials::safe(&from["tlsConfig"]));
    }
}

/// All kinds but that of fixed targets, in the operator's order of checks.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        field: "fileSDConfigs",
        named: "fileSDConfigs",
        key: "file_sd_configs",
        http: "",
        fields: &[("files", "files", List), REFRESH],
        since: None,
        check: fine,
        finish: nothing,
    },
    Kind {
        field: "httpSDConfigs",
        named: "httpSDConfigs",
        key: "http_sd_configs",
        http: ALL,
        fields: &[("url", "url", Text), REFRESH],
        since: Some(((2, 28), "HTTP SD configuration")),
        check: fine,
        finish: nothing,
    },
    Kind {
        field: "kubernetesSDConfigs",
        named: "kubernetesSDConfigs",
        key: "kubernetes_sd_configs",
        http: ALL,
        fields: &[("apiServer", "api_server", Given), ("role", "role", Lower)],
        since: None,
        check: kubernetes::check,
        finish: kubernetes::finish,
    },
    Kind {
        field: "consulSDConfigs",
        named: "consulSDConfigs",
        key: "consul_sd_configs",
        http: "basic authorization oauth2-unchecked tls proxy redirects",
        fields: &[
            SERVER,
            ("pathPrefix", "path_prefix", Given),
            ("tokenRef", "token", Secret),
            ("datacenter", "datacenter", Given),
            ("namespace", "namespace", Given),
            ("partition", "partition", Given),
            ("scheme", "scheme", LowerIfGiven),
            ("services", "services", Filled),
            ("tags", "tags", Filled),
            SEPARATOR,
            ("nodeMeta", "node_meta", Filled),
            ("filter", "filter", Given),
            ("allowStale", "allow_stale", Given),
            REFRESH,
        ],
        since: None,
        check: consul,
        finish: nothing,
    },
    Kind {
        field: "dnsSDConfigs",
        named: "dnsSDConfigs",
        key: "dns_sd_configs",
        http: "",
        fields: &[("names", "names", List), REFRESH, PORT],
        since: None,
        check: dns,
        finish: dns_type,
    },
    Kind {
        field: "ec2SDConfigs",
        named: "ec2SDConfigs",
        key: "ec2_sd_configs",
        http: "tls-checked proxy",
        fields: &[
            REGION,
            ("accessKey", "access_key", Pair("secretKey")),
            ("secretKey", "secret_key", Pair("accessKey")),
            ("roleARN", "role_arn", Given),
            REFRESH,
            PORT,
            ("filters", "filters", Filters),
        ],
        since: None,
        check: fine,
        finish: ec2,
    },
    Kind {
        field: "azureSDConfigs",
        named: "azureSDConfigs",
        key: "azure_sd_configs",
        http: "oauth2-checked",
        fields: &[
            ("environment", "environment", Given),
            ("authenticationMethod", "authentication_method", Given),
            ("subscriptionID", "subscription_id", Filled),
            ("tenantID", "tenant_id", Given),
            ("clientID", "client_id", Given),
            ("clientSecret", "client_secret", Secret),
            ("resourceGroup", "resource_group", Given),
            REFRESH,
            PORT,
        ],
        since: None,
        check: azure,
        finish: nothing,
    },
    Kind {
        field: "gceSDConfigs",
        named: "gceSDConfigs",
        key: "gce_sd_configs",
        http: "",
        fields: &[("project", "project", Text), ("zone", "zone", Text), ("filter", "filter", Given), REFRESH, PORT, SEPARATOR],
        since: None,
        check: fine,
        finish: nothing,
    },
    Kind {
        field: "openstackSDConfigs",
        named: "openstackSDConfigs",
        key: "openstack_sd_configs",
        http: "tls",
        fields: &[
            ("role", "role", Lower),
            ("region", "region", Text),
            ("identityEndpoint", "identity_endpoint", Given),
            ("username", "username", Given),
            ("userid", "userid", Given),
            ("password", "password", Secret),
            ("domainName", "domain_name", Given),
            ("domainID", "domain_id", Given),
            ("projectName", "project_name", Given),
            ("projectID", "project_id", Given),
            ("applicationCredentialName", "application_credential_name", Given),
            ("applicationCredentialId", "application_credential_id", Given),
            ("applicationCredentialSecret", "application_credential_secret", Secret),
            ("allTenants", "all_tenants", Given),
            REFRESH,
            PORT,
            ("availability", "availability", Given),
        ],
        since: None,
        check: openstack,
        finish: nothing,
    },
    Kind {
        field: "digitalOceanSDConfigs",
        named: "digitalOceanSDConfigs",
        key: "digitalocean_sd_configs",
        http: NO_BASIC,
        fields: &[PORT, REFRESH],
        since: Some(((2, 20), "service discovery for Digital Ocean")),
        check: fine,
        finish: nothing,
    },
    Kind {
        field: "kumaSDConfigs",
        named: "kumaSDConfigs",
        key: "kuma_sd_configs",
        http: ALL,
        fields: &[SERVER, REFRESH, ("fetchTimeout", "fetch_timeout", Given), ("clientID", "client_id", Given)],
        since: None,
        check: kuma,
        finish: nothing,
    },
    Kind {
        field: "eurekaSDConfigs",
        named: "eurekaSDConfigs",
        key: "eureka_sd_configs",
        http: ALL,
        fields: &[REFRESH, ("server", "server", Filled)],
        since: None,
        check: fine,
        finish: nothing,
    },
    Kind {
        field: "dockerSDConfigs",
        named: "dockerSDConfigs",
        key: "docker_sd_configs",
        http: ALL,
        fields: &[
            ("filters", "filters", Filters),
            ("host", "host", Text),
            PORT,
            ("hostNetworkingHost", "host_networking_host", Given),
            ("matchFirstNetwork", "match_first_network", Since(2, 54, 1)),
            REFRESH,
        ],
        since: None,
        check: fine,
        finish: nothing,
    },
    Kind {
        field: "linodeSDConfigs",
        named: "linodeSDConfigs",
        key: "linode_sd_configs",
        http: NO_BASIC,
        fields: &[PORT, REGION, SEPARATOR, REFRESH],
        since: Some(((2, 28), "linode SD configuration")),
        check: fine,
        finish: nothing,
    },
    Kind {
        field: "hetznerSDConfigs",
        named: "hetznerSDConfigs",
        key: "hetzner_sd_configs",
        http: ALL,
        fields: &[("role", "role", Lower), PORT, REFRESH],
        since: None,
        check: fine,
        finish: |scope, from, config| {
            if scope.version.at_least(3, 5) {
                config.copy_filled(from, &[("labelSelector", "label_selector")]);
            }
        },
    },
    Kind {
        field: "nomadSDConfigs",
        named: "nomadSDConfigs",
        key: "nomad_sd_configs",
        http: ALL,
        fields: &[SERVER, ("allowStale", "allow_stale", Given), ("namespace", "namespace", Given), REFRESH, REGION, SEPARATOR],
        since: None,
        check: fine,
        finish: nothing,
    },
    Kind {
        field: "dockerSwarmSDConfigs",
        named: "dockerswarmSDConfigs",
        key: "dockerswarm_sd_configs",
        http: ALL,
        fields: &[("filters", "filters", Filters), ("host", "host", Text), ("role", "role", Lower), PORT, REFRESH],
        since: Some(((2, 20), "dockerswarm SD configuration")),
        check: fine,
        finish: nothing,
    },
    Kind {
        field: "puppetDBSDConfigs",
        named: "puppetDBSDConfigs",
        key: "puppetdb_sd_configs",
        http: ALL,
        fields: &[
            ("url", "url", Text),
            ("query", "query", Text),
            ("includeParameters", "include_parameters", Given),
            PORT,
            REFRESH,
        ],
        since: Some(((2, 31), "puppetDB SD configuration")),
        check: puppet,
        finish: nothing,
    },
    Kind {
        field: "lightSailSDConfigs",
        named: "lightSailSDConfigs",
        key: "lightsail_sd_configs",
        http: ALL,
        fields: &[
            REGION,
            ("endpoint", "endpoint", Given),
            PORT,
            REFRESH,
            ("accessKey", "access_key", Pair("secretKey")),
            ("secretKey", "secret_key", Pair("accessKey")),
            ("roleARN", "role_arn", Given),
        ],
        since: Some(((2, 27), "lightSail SD configuration")),
        check: fine,
        finish: nothing,
    },
    Kind {
        field: "ovhcloudSDConfigs",
        named: "OVHCloudSDConfigs",
        key: "ovhcloud_sd_configs",
        http: "",
        fields: &[
            ("applicationKey", "application_key", Text),
            ("applicationSecret", "application_secret", Secret),
            ("consumerKey", "consumer_key", Secret),
            ("endpoint", "endpoint", Given),
            REFRESH,
        ],
        since: Some(((2, 40), "OVHCloud SD configuration")),
        check: fine,
        finish: ovh_service,
    },
    Kind {
        field: "scalewaySDConfigs",
        named: "ScalewaySDConfigs",
        key: "scaleway_sd_configs",
        http: "proxy tls redirects",
        fields: &[
            ("accessKey", "access_key", Text),
            ("secretKey", "secret_key", Secret),
            ("projectID", "project_id", Text),
            ("role", "role", Lower),
            PORT,
            ("apiURL", "api_url", Given),
            ("zone", "zone", Given),
            ("nameFilter", "name_filter", Given),
            ("tagsFilter", "tags_filter", Filled),
            REFRESH,
        ],
        since: Some(((2, 26), "ScaleWay SD configuration")),
        check: fine,
        finish: nothing,
    },
    Kind {
        field: "ionosSDConfigs",
        named: "IonosSDConfigs",
        key: "ionos_sd_configs",
        http: "authorization proxy tls oauth2-checked redirects",
        fields: &[("datacenterID", "datacenter_id", Text), PORT, REFRESH],
        since: Some(((2, 36), "IONOS SD configuration")),
        check: fine,
        finish: nothing,
    },
];
